"""Convolutions of classes with a forward of their own: what they convolve, and with which weight."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from .normalizing import evaluating


def has_own_forward(layer: nn.Module) -> bool:
    """Return whether the class of a planar convolution computes its answer in a way of its own."""
    return type(layer).forward is not nn.Conv2d.forward


def check_applies_weight(verb: str, layer: _ConvNd) -> None:
    """Raise ValueError for a planar convolution that does not apply the weight it stores."""
    if has_own_forward(layer):
        sides = (step * (taps - 1) + 1 for taps, step in zip(layer.kernel_size, layer.dilation, strict=True))
        convolved_input(verb, layer, layer.weight.new_zeros(1, layer.in_channels, *sides))


def convolved_input(verb: str, layer: _ConvNd, given: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c hh ww"]:
    """Return what a planar convolution runs its kernels over, without the padding that torch adds.

    A plain layer takes what it is given. A class with a forward of its own may pad it first, as `Conv2dSame`
    of timm does, or compute other kernels than it stores, as weight standardization does.

    Args:
        verb: The name of the caller, for the error.
        layer: The convolution; it is not changed.
        given: Its input.

    Raises:
        ValueError: The layer does not apply the weight it stores.

    >>> convolved_input("shrink", nn.Conv2d(3, 8, 5), torch.zeros(2, 3, 9, 9)).shape
    torch.Size([2, 3, 9, 9])
    """
    if not has_own_forward(layer):
        return given
    seen = _Convolving()
    with torch.no_grad(), evaluating(layer), seen:
        layer.forward(given)
    if len(seen.calls) != 1 or not torch.equal(seen.calls[0][1], layer.weight):
        kind = type(layer).__name__
        raise ValueError(
            f"{verb} needs a layer that applies the weight it stores, {kind} computes another one from it "
            "in its forward; take a network of plain torch.nn.Conv2d"
        )
    return seen.calls[0][0]


class _Convolving(TorchFunctionMode):
    """Keeps input and weight of every planar convolution that torch computes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(
        self, function: Any, _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = dict(zip(("input", "weight"), args, strict=False)) | (kwargs or {})
        if function is torch.conv2d:
            self.calls.append((named["input"], named["weight"]))
        return function(*args, **(kwargs or {}))
