"""What every architecture here shares: it takes [0, 1] and normalises by itself."""

import torch
from torch import Tensor, nn

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


def set_normalisation(
    model: Normalising, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> None:
    """Set what the network subtracts and divides by; None keeps what it has.

    Raises:
        ValueError: A number of values other than 3, or a standard deviation that is not positive.
    """
    for name, values in (("mean", mean), ("std", std)):
        if values is None:
            continue
        if len(values) != 3:
            raise ValueError(f"{name} needs 3 numbers (red, green, blue), got {len(values)}: {values}")
        if not all(abs(value) < float("inf") for value in values) or (name == "std" and min(values) <= 0):
            rule = "positive" if name == "std" else "finite"
            raise ValueError(f"{name} needs 3 {rule} numbers, got {values}")
        getattr(model, name).copy_(torch.tensor(values).reshape(1, 3, 1, 1))
