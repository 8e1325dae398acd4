"""The types that all rooms share, and the check of what their names alone cannot say."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

Images = UInt8[Tensor, "b c h w"]
"""Stored and corrupted images: NCHW bytes."""

FloatImages = Float[Tensor, "b c h w"]
"""Images at the input of a network or inside a corruption: NCHW floats in [0, 1]."""

Labels = Int64[Tensor, " b"]
"""Class numbers, from 0."""

Keys = Int64[Tensor, " b"]
"""Random keys, one per image; see `rng`."""

Filters = Float[Tensor, "f c kh kw"]
"""The weight of a convolution: filters, channels, height, width."""

Taps = Float[Tensor, "n n"]
"""A quadratic form over the taps of a kernel, row-major."""

Progress = Callable[[int, int, str], None]
"""A function that is called during long work: units done, units in total, and a text to show."""


def check_range_of_images(verb: str, images: Tensor, remedy: str) -> None:
    """Raise ValueError for images outside of [0, 1], which clamping would cut; compiled code asserts it."""
    if images.numel() == 0:
        return
    needs = f"{verb} needs images in [0, 1]"
    low, high = images.detach().aminmax()
    if torch.compiler.is_compiling():
        # Reading the two numbers would break the graph.
        torch._assert_async((low >= 0) & (high <= 1), f"{needs}; {remedy}")
    elif not (low >= 0 and high <= 1):
        raise ValueError(f"{needs}, got values from {float(low):.4g} to {float(high):.4g}; {remedy}")
