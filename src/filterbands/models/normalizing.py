"""The only place that applies mean and standard deviation, so that a network takes images in [0, 1].

The architectures of this package are `Normalizing`. `load_model` adds a hook to any other network
(`normalizing`). `scaled` puts a `Scale` in front of a network from Python code or an ONNX file.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ..engine import settle_kernels
from ..types import FloatImages

CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2470, 0.2435, 0.2616)

Numbers = Sequence[float] | None
"""One number per channel, or one for all; None where the user gave none."""


class Normalizing(nn.Module):
    """A network that takes NCHW floats in [0, 1] and normalizes them with its own `mean` and `std`.

    Both are buffers outside of the state dict, so that public checkpoints load without changes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", _channels(CIFAR_MEAN), persistent=False)
        self.register_buffer("std", _channels(CIFAR_STD), persistent=False)

    def normalize(self, images: FloatImages) -> FloatImages:
        """Return (images - mean) / std, channel by channel."""
        return _scale(images, self.mean, self.std)


class Scale(Normalizing):
    """A layer that returns (images - mean) / std, both parts of its state dict; see `scaled`."""

    def __init__(self, mean: Numbers, std: Numbers) -> None:
        check_mean_std(mean, std)
        super().__init__()
        for name, values in zip(("mean", "std"), _both(mean, std), strict=True):
            self.register_buffer(name, _channels(values))

    def forward(self, images: FloatImages) -> FloatImages:
        """Return (images - mean) / std."""
        return self.normalize(images)


def scaled(model: nn.Module, mean: Numbers, std: Numbers) -> nn.Module:
    """Return a network that takes images in [0, 1], with a `Scale` in front of the given one.

    Args:
        model: A network that expects normalized images; it is not changed.
        mean: One number per channel, or one for all; None for 0. Without mean and std, the network itself is
            returned.
        std: As many numbers; None for 1.

    Raises:
        ValueError: There are not 3 numbers or 1, a standard deviation is not above 0, or the network already
            normalizes its images, so that mean and std would be applied twice.

    >>> scaled(nn.Identity(), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))(torch.zeros(1, 3, 1, 1)).flatten()
    tensor([-2., -2., -2.])
    """
    if mean is None and std is None:
        return model
    _refuse_twice(model)
    return nn.Sequential(Scale(mean, std).to(place_of(model, torch.zeros(()))), model)


def normalizing(model: nn.Module, mean: Numbers, std: Numbers) -> nn.Module:
    """Return a network, changed in place so that it takes images in [0, 1] and normalizes them.

    Modules and parameters keep their names; the numbers are buffers outside of the state dict. The given
    numbers replace those that the network has. Without numbers, the network is not changed.

    Raises:
        ValueError: As for `scaled`, but the network itself may be one that normalizes.
    """
    check_mean_std(mean, std)
    if mean is None and std is None:
        return model
    if _normalizes(model):
        for name, values in zip(_names(model), (mean, std), strict=True):
            if values is not None:
                setattr(model, name, _channels(values).to(model.get_buffer(name)))
        return model
    _refuse_twice(model)
    for name, values in zip(("input_mean", "input_std"), _both(mean, std), strict=True):
        numbers = _channels(values).to(place_of(model, torch.zeros(())))
        model.register_buffer(name, numbers, persistent=False)
    model.register_forward_pre_hook(_normalize_input)
    return model


def input_std(model: nn.Module) -> tuple[float, ...] | None:
    """Return what a network divides each channel by, or all of them; None where it is not known."""
    found = next(filter(_normalizes, model.modules()), None)
    return None if found is None else tuple(_buffers(found)[1].flatten().tolist())


def mean_and_std(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return what a network subtracts and divides by; None where nothing does, or its state dict has both."""
    found = next(filter(_normalizes, model.modules()), None)
    if found is None or isinstance(found, Scale):
        return None
    mean, std = (tuple(buffer.flatten().tolist()) for buffer in _buffers(found))
    return mean, std


def check_mean_std(mean: Numbers, std: Numbers) -> None:
    """Raise ValueError unless each of the two is None or 3 finite numbers or 1, those of `std` above 0."""
    for name, values, low, rule in (
        ("mean", mean, -torch.inf, "that are finite"),
        ("std", std, 0.0, "above 0"),
    ):
        if values is None:
            continue
        given = tuple(values) if isinstance(values, Iterable) else values
        count = len(given) if isinstance(given, tuple) else 0
        if count not in (1, 3) or not all(low < one < torch.inf for one in given):
            raise ValueError(
                f"{name} needs 3 numbers {rule} (red, green, blue), or 1 for all channels, got {given}"
            )
    if mean is not None and std is not None and len(mean) != len(std):
        raise ValueError(f"mean and std need equally many numbers, got {len(mean)} and {len(std)}")


def place_of(model: nn.Module, otherwise: Tensor) -> Tensor:
    """Return a tensor of the device and precision of a network; the other one where it has no numbers."""
    tensors = chain(model.parameters(), model.buffers())
    return next((tensor for tensor in tensors if tensor.is_floating_point()), otherwise)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and restore the mode of each module afterwards."""
    settle_kernels()
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, was_training in modes.items():
            module.training = was_training


def _normalizes(module: nn.Module) -> bool:
    hooked = _normalize_input in module._forward_pre_hooks.values()
    return hooked or isinstance(module, Normalizing)


def _refuse_twice(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if _normalizes(module):
            where = f"its module {name}" if name else type(module).__name__
            raise ValueError(
                f"mean and std would be applied twice: the network normalizes its images already ({where}); "
                "give them once, to load_model or here"
            )


def _both(mean: Numbers, std: Numbers) -> tuple[Sequence[float], Sequence[float]]:
    """Return both, as many numbers as one of them has."""
    count = len(mean or std or (0,))
    return (0,) * count if mean is None else mean, (1,) * count if std is None else std


def _names(module: nn.Module) -> tuple[str, str]:
    return ("mean", "std") if isinstance(module, Normalizing) else ("input_mean", "input_std")


def _buffers(module: nn.Module) -> tuple[Tensor, Tensor]:
    mean, std = map(module.get_buffer, _names(module))
    return mean, std


def _normalize_input(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return (_scale(arguments[0], *_buffers(module)), *arguments[1:])


def _scale(images: FloatImages, mean: Tensor, std: Tensor) -> FloatImages:
    # Gray images would otherwise become as many channels as there are numbers.
    if images.ndim == 4 and images.shape[1] == 1 < mean.shape[1]:
        raise ValueError(
            f"the network takes images of {mean.shape[1]} channels, got gray ones of shape "
            f"{tuple(images.shape)}; repeat their channel, as npz:FILE does with arrays of shape (n, h, w)"
        )
    found: Tensor = (images - mean) / std
    return found


def _channels(values: Sequence[float]) -> Tensor:
    return torch.tensor([float(value) for value in values]).reshape(1, -1, 1, 1)
