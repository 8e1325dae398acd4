"""Convolutions of classes with a forward of their own: what they convolve, and with which weight."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from .layers import weight_of
from .normalizing import evaluating

# Of torch.conv2d, in their order.
_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def has_own_forward(layer: nn.Module) -> bool:
    """Return whether the class of a planar convolution computes its answer in a way of its own."""
    return type(layer).forward is not nn.Conv2d.forward


def check_applies_weight(verb: str, layer: _ConvNd) -> None:
    """Raise ValueError for a planar convolution that does not apply the weight it stores."""
    if has_own_forward(layer):
        sides = (step * (taps - 1) + 1 for taps, step in zip(layer.kernel_size, layer.dilation, strict=True))
        convolved_input(verb, layer, weight_of(layer).new_zeros(1, layer.in_channels, *sides))


def convolved_input(
    verb: str, layer: _ConvNd, given: Float[Tensor, "b c h w"]
) -> tuple[Float[Tensor, "b c hh ww"], _ConvNd]:
    """Return what a planar convolution runs its kernels over, and a layer of the geometry it runs them with.

    A plain layer takes what it is given, and is that layer. A class with a forward of its own may pad its
    input first, as `Conv2dSame` of timm and every forward that calls `super().forward` with a padding mode
    do. The padding that is left, the stride, the dilation and the groups are then those of torch's own
    convolution, in a layer on the meta device, and not those that the layer was made with.

    Args:
        verb: The name of the caller, for the error.
        layer: The convolution; it is not changed.
        given: Its input.

    Raises:
        ValueError: The layer does not apply the weight it stores: it may compute other kernels from it, as
            weight standardization does.

    >>> seen, geometry = convolved_input("shrink", nn.Conv2d(3, 8, 5), torch.zeros(2, 3, 9, 9))
    >>> seen.shape, geometry.kernel_size
    (torch.Size([2, 3, 9, 9]), (5, 5))
    """
    if not has_own_forward(layer):
        return given, layer
    seen = _Convolving()
    with torch.no_grad(), evaluating(layer), seen:
        layer.forward(given)
    if len(seen.calls) != 1 or not torch.equal(seen.calls[0]["weight"], weight_of(layer)):
        kind = type(layer).__name__
        raise ValueError(
            f"{verb} needs a layer that applies the weight it stores, {kind} computes another one from it "
            "in its forward; take a network of plain torch.nn.Conv2d"
        )
    (call,) = seen.calls
    filters, inputs, *size = call["weight"].shape
    geometry = {name: call[name] for name in ("stride", "padding", "dilation", "groups") if name in call}
    inputs *= geometry.get("groups", 1)
    return call["input"], nn.Conv2d(inputs, filters, tuple(size), **geometry, device="meta")


class _Convolving(TorchFunctionMode):
    """Keeps the arguments of every planar convolution that torch computes, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[dict[str, Any]] = []

    def __torch_function__(
        self, function: Any, _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.conv2d:
            self.calls.append(dict(zip(_ARGUMENTS, args, strict=False)) | (kwargs or {}))
        return function(*args, **(kwargs or {}))
