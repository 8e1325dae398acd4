"""What the kinds share: conversion of bytes to floats and back, borders, and linear filters."""

from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, Shaped
from torch import Tensor

from ..types import FloatImages, Images

Border = Literal["replicate", "reflect", "reflect-101"]
"""How an image is extended beyond its border: aaa|abc, cba|abc or dcb|abc."""

Constants = tuple[float, ...]
"""The constants of one kind at one severity, in the order that the docstring of its function states."""

Severities = tuple[Constants, ...]
"""The constants of one kind, one tuple per severity."""


_PADDINGS: Mapping[Border, Literal["edge", "symmetric", "reflect"]] = {
    "replicate": "edge",
    "reflect": "symmetric",
    "reflect-101": "reflect",
}


def to_unit(images: Images, dtype: torch.dtype = torch.float64) -> FloatImages:
    """Return images as floats in [0, 1]."""
    return divided(images.to(dtype), 255)


def divided(values: Float[Tensor, "..."], by: float) -> Float[Tensor, "..."]:
    """Return values divided by a number, in place and rounded alike on every device.

    CUDA multiplies by the reciprocal of a plain number, which would round whole levels down.
    """
    return values.div_(torch.tensor(by, dtype=values.dtype, device=values.device))


def to_bytes(images: FloatImages) -> Images:
    """Return images clamped to [0, 1] as bytes, rounded down as in the original; changes its argument."""
    return images.clamp_(0, 1).mul_(255).to(torch.uint8)


def cut(levels: FloatImages) -> Images:
    """Return levels clamped to [0, 255] as bytes, rounded down; changes its argument."""
    return levels.clamp_(0, 255).to(torch.uint8)


def rows_and_columns(images: Shaped[Tensor, "b c h w"]) -> tuple[Float[Tensor, "h 1"], Float[Tensor, " w"]]:
    """Return the row number and the column number of each pixel, in float64."""
    h, w = (torch.arange(size, dtype=torch.float64, device=images.device) for size in images.shape[2:])
    return h[:, None], w


def border_index(size: int, margin: int, border: Border) -> list[int]:
    """Return the source position of each value of a line of `size` that is extended by `margin` at both ends.

    >>> border_index(3, 2, "reflect-101")
    [2, 1, 0, 1, 2, 1, 0]
    """
    index: list[int] = np.pad(np.arange(size), margin, mode=_PADDINGS[border]).tolist()
    return index


def reflect_101(index: Int64[Tensor, "*n"], size: int) -> Int64[Tensor, "*n"]:
    """Return positions on a line of `size` for positions anywhere, border reflect-101.

    >>> reflect_101(torch.arange(-2, 5), 3).tolist()
    [2, 1, 0, 1, 2, 1, 0]
    """
    period = 2 * size - 2
    index = index.remainder(period)
    return torch.minimum(index, period - index)


def extend(images: Tensor, margin: int, border: Border) -> Tensor:
    """Return images (b, c, h, w) of any type, extended by `margin` pixels on every side."""
    for axis in (2, 3):
        index = border_index(images.shape[axis], margin, border)
        images = images.index_select(axis, torch.tensor(index, device=images.device))
    return images


def pick(images: Shaped[Tensor, "b c n"], place: Int[Tensor, "b m"]) -> Shaped[Tensor, "b c m"]:
    """Return the values of each image at its own positions, which are the same in every channel."""
    b, c, n = images.shape
    # One flat lookup by 32-bit positions takes a quarter of the time of `gather`.
    start = torch.arange(0, b * c * n, n, dtype=torch.int32, device=images.device).reshape(b, c, 1)
    index = place.to(torch.int32)[:, None] + start
    return images.reshape(-1).index_select(0, index.flatten()).reshape(b, c, -1)


def correlate(images: Images, kernel: Sequence[Sequence[float]], *, border: Border) -> FloatImages:
    """Return the correlation of bytes with an odd square kernel in float64, on the scale of the bytes.

    Pixels of equal weight are added as integers before they are weighted. The result is therefore rounded
    once per weight and does not depend on the batch.
    """
    b, c, h, w = images.shape
    margin = len(kernel) // 2
    places: dict[float, list[int]] = {}
    for row, weights in enumerate(kernel):
        for column, weight in enumerate(weights):
            if weight != 0:
                places.setdefault(weight, []).append(row * (w + 2 * margin) + column)
    # In one long line a shift in both axes is one offset. Rows wrap into the margin alone, which is removed.
    line = extend(images, margin, border).flatten().to(torch.int32)
    length = line.numel() - 2 * margin * (w + 2 * margin + 1)
    total = torch.zeros(line.numel(), dtype=torch.float64, device=images.device)
    for weight, offsets in places.items():
        group = line[offsets[0] : offsets[0] + length]
        if len(offsets) > 1:
            group = group + line[offsets[1] : offsets[1] + length]
        for offset in offsets[2:]:
            group.add_(line[offset : offset + length])
        total[:length].add_(group.to(torch.float64).mul_(weight))
    return total.reshape(b, c, h + 2 * margin, w + 2 * margin)[:, :, :h, :w]


def smooth(images: FloatImages, sigma: float, *, border: Border, truncate: float = 4) -> FloatImages:
    """Return images filtered by a sampled Gaussian of standard deviation `sigma` pixels, vertically first.

    Additions follow SciPy's order, from the outermost pair to the innermost, and each product is rounded. A
    flat area then stays flat, or falls by one level, exactly where it does in the original.

    Args:
        images: Floats; sums are made in float64 and rounded to the type of the images after each axis.
        sigma: Above 0.
        border: How the images are extended.
        truncate: The weights end at int(truncate * sigma + 0.5) pixels.
    """
    taps = gaussian_taps(sigma, int(truncate * sigma + 0.5))
    radius = len(taps) // 2
    if radius == 0:
        return images
    for axis in (2, 3):
        size = images.shape[axis]
        index = torch.tensor(border_index(size, radius, border), device=images.device)
        wide = images.index_select(axis, index)
        # One long line, of which every image or every row is a piece, extended by `radius` at both ends.
        stride = wide.shape[3] if axis == 2 else 1
        line = wide.flatten().to(torch.float64)
        length = line.numel() - 2 * radius * stride
        total = torch.empty_like(line)
        middle = torch.mul(line[radius * stride :][:length], taps[radius], out=total[:length])
        for step in range(radius, 0, -1):
            pair = line[(radius - step) * stride :][:length] + line[(radius + step) * stride :][:length]
            middle.add_(pair.mul_(taps[radius + step]))
        images = total.reshape(wide.shape).narrow(axis, 0, size).to(images.dtype)
    return images


def filter_matrix(size: int, taps: Sequence[float], *, border: Border) -> Float[Tensor, "{size} {size}"]:
    """Return the matrix by which an odd number of centered weights act on a line, in float64."""
    matrix = np.zeros((size, size))
    source = np.array(border_index(size, len(taps) // 2, border))
    for step, weight in enumerate(taps):
        np.add.at(matrix, (np.arange(size), source[step : step + size]), weight)
    return torch.from_numpy(matrix)


@lru_cache(maxsize=64)
def gaussian_taps(sigma: float, radius: int) -> tuple[float, ...]:
    """Return the 2 * radius + 1 weights of a sampled Gaussian, whose sum is 1."""
    weights = exponential(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    return tuple((weights / weights.sum()).tolist())


def exponential(values: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return exp of a few values, rounded to the nearest float64.

    What NumPy gives differs in the last bit between its versions and between processors, and a flat area of
    an image may then be one level darker.
    """
    with localcontext() as context:
        context.prec = 40
        return np.array([float(Decimal(float(value)).exp()) for value in values])
