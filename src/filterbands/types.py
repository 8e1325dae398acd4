"""The types that all rooms share."""

from collections.abc import Callable

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
