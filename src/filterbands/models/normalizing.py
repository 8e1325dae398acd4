"""The one place that applies mean and standard deviation, so that a network takes images in [0, 1].

Our own architectures are `Normalizing`. `load_model` gives any other network a hook (`normalizing`). `scaled`
puts a `Scale` in front of a network that Python code or an ONNX file brings.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..engine import settle_kernels
from ..types import FloatImages

CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2470, 0.2435, 0.2616)

Numbers = Sequence[float] | None
"""One number per channel; None where the user gave none."""


class Normalizing(nn.Module):
    """A network that takes NCHW floats in [0, 1] and scales them with its own `mean` and `std`.

    The two are buffers that are not part of the state dict, so that public checkpoints load as they are.
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


class Scale(nn.Module):
    """A layer that returns (images - mean) / std; see `scaled`."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Numbers, std: Numbers) -> None:
        super().__init__()
        check_mean_std(mean, std)
        self.register_buffer("mean", _channels((0, 0, 0) if mean is None else mean))
        self.register_buffer("std", _channels((1, 1, 1) if std is None else std))

    def forward(self, images: FloatImages) -> FloatImages:
        """Return (images - mean) / std."""
        return _scale(images, self.mean, self.std)


def scaled(model: nn.Module, mean: Numbers, std: Numbers) -> nn.Module:
    """Return a network that takes images in [0, 1], with a `Scale` in front of the given one.

    Args:
        model: Takes images from which `mean` is subtracted and which are divided by `std`. Not changed.
        mean: One number per channel; None for 0. Without mean and std the network itself comes back.
        std: One number per channel; None for 1.

    Raises:
        ValueError: Not 3 numbers, a standard deviation that is not above 0, or a network that normalizes
            its images already, so that mean and std would be applied twice.

    >>> scaled(nn.Identity(), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))(torch.zeros(1, 3, 1, 1)).flatten()
    tensor([-2., -2., -2.])
    """
    if mean is None and std is None:
        return model
    _refuse_twice(model)
    return nn.Sequential(Scale(mean, std), model)


def normalizing(model: nn.Module, mean: Numbers, std: Numbers) -> nn.Module:
    """Return any network, changed in place so that it takes images in [0, 1] and scales them as it expects.

    Modules and parameters keep their names; the numbers are buffers outside of the state dict. A network that
    has numbers already gets the given ones instead. Without any numbers the network is left as it is.

    Raises:
        ValueError: As for `scaled`; only a module inside of the network counts as one that normalizes.
    """
    check_mean_std(mean, std)
    if mean is None and std is None:
        return model
    if not _normalizes(model):
        _refuse_twice(model)
        for name, neutral in (("mean", 0), ("std", 1)):
            model.register_buffer(f"input_{name}", _channels((neutral,) * 3), persistent=False)
        model.register_forward_pre_hook(_normalize_input)
    for buffer, values in zip(_buffers(model), (mean, std), strict=True):
        if values is not None:
            buffer.copy_(_channels(values))
    return model


def input_std(model: nn.Module) -> tuple[float, ...] | None:
    """Return what a network divides each channel of images in [0, 1] by; None where that is not known."""
    found = next(filter(_normalizes, model.modules()), None)
    return None if found is None else tuple(_buffers(found)[1].flatten().tolist())


def check_mean_std(mean: Numbers, std: Numbers) -> None:
    """Raise ValueError unless each of the two is None or 3 finite numbers, those of `std` above 0."""
    for name, values, low, rule in (
        ("mean", mean, -torch.inf, "that are finite"),
        ("std", std, 0.0, "above 0"),
    ):
        if values is not None and not (len(values) == 3 and all(low < one < torch.inf for one in values)):
            raise ValueError(f"{name} needs 3 numbers {rule} (red, green, blue), got {tuple(values)}")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and afterwards each of its modules into the mode it was in."""
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
    return hooked or isinstance(module, Normalizing | Scale)


def _refuse_twice(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if _normalizes(module):
            where = f"its module {name}" if name else type(module).__name__
            raise ValueError(
                f"mean and std would be applied twice: the network normalizes its images already ({where}); "
                "give them once, to load_model or here"
            )


def _buffers(module: nn.Module) -> tuple[Tensor, Tensor]:
    prefix = "" if isinstance(module, Normalizing | Scale) else "input_"
    return module.get_buffer(f"{prefix}mean"), module.get_buffer(f"{prefix}std")


def _normalize_input(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return (_scale(arguments[0], *_buffers(module)), *arguments[1:])


def _scale(images: FloatImages, mean: Tensor, std: Tensor) -> FloatImages:
    found: Tensor = (images - mean) / std
    return found


def _channels(values: Sequence[float]) -> Tensor:
    return torch.tensor([float(value) for value in values]).reshape(1, -1, 1, 1)
