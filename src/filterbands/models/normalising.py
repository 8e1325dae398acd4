"""What every architecture here shares: it takes [0, 1] and normalises by itself."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..engine import settle_kernels
from ..types import FloatImages

CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2470, 0.2435, 0.2616)


class Normalising(nn.Module):
    """A network that takes NCHW floats in [0, 1] and scales them with its own `mean` and `std`.

    The two are buffers that are not part of the state dict, so that public checkpoints load as they are.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(CIFAR_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CIFAR_STD).reshape(1, 3, 1, 1), persistent=False)

    def normalise(self, images: FloatImages) -> FloatImages:
        """Return (images - mean) / std, channel by channel."""
        scaled: Tensor = (images - self.mean) / self.std
        return scaled


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


def set_normalisation(
    model: Normalising, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> None:
    """Set what the network subtracts and divides by; None keeps what it has.

    Raises:
        ValueError: A number of values other than 3, or a standard deviation that is not positive.
    """
    for name, values in (("mean", mean), ("std", std)):
        if values is not None:
            _check(name, values)
            getattr(model, name).copy_(torch.tensor(values).reshape(1, 3, 1, 1))


def normalising(model: nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None) -> nn.Module:
    """Return anyone's network, changed in place so that it takes [0, 1] and scales as it expects.

    Its modules and parameters keep their names; the numbers are buffers outside of its state dict. One of our
    own architectures has its own numbers set; without any numbers the network is left alone.

    Raises:
        ValueError: As for `set_normalisation`.
    """
    if isinstance(model, Normalising):
        set_normalisation(model, None if mean is None else tuple(mean), None if std is None else tuple(std))
        return model
    if mean is None and std is None:
        return model
    for name, values, default in (("mean", mean, 0.0), ("std", std, 1.0)):
        given = (default,) * 3 if values is None else tuple(values)
        _check(name, given)
        buffer = torch.tensor(given).reshape(1, 3, 1, 1)
        model.register_buffer(f"input_{name}", buffer, persistent=False)
    model.register_forward_pre_hook(_normalise_input)
    return model


def _normalise_input(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    mean, std = module.get_buffer("input_mean"), module.get_buffer("input_std")
    return ((arguments[0] - mean) / std, *arguments[1:])


def _check(name: str, values: tuple[float, ...]) -> None:
    if len(values) != 3:
        raise ValueError(f"{name} needs 3 numbers (red, green, blue), got {len(values)}: {values}")
    if not all(abs(value) < float("inf") for value in values) or (name == "std" and min(values) <= 0):
        rule = "positive" if name == "std" else "finite"
        raise ValueError(f"{name} needs 3 {rule} numbers, got {values}")
