"""What the kinds share: bytes to floats and back as the original does it, borders, and correlation."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from ..types import FloatImages, Images

Border = Literal["replicate", "reflect", "reflect-101"]
"""How an image goes on beyond its border: aaa|abc, cba|abc or dcb|abc."""


def to_unit(images: Images, dtype: torch.dtype = torch.float64) -> FloatImages:
    """Return images as floats in [0, 1]."""
    return images.to(dtype).div_(255)


def to_bytes(images: FloatImages) -> Images:
    """Return images cut to [0, 1] as bytes, the fraction dropped as in the original; changes its argument."""
    return images.clamp_(0, 1).mul_(255).to(torch.uint8)


def border_index(size: int, margin: int, border: Border) -> list[int]:
    """Return where each position of a line of `size` with `margin` more at either end takes its value.

    >>> border_index(3, 2, "reflect-101")
    [2, 1, 0, 1, 2, 1, 0]
    """
    positions = range(-margin, size + margin)
    if border == "replicate":
        return [min(max(position, 0), size - 1) for position in positions]
    # The reflected line repeats; its second half is the first one backwards, without the ends for 101.
    period, last = (2 * size, -1) if border == "reflect" else (2 * size - 2, 0)
    return [min(position % period, (last - position) % period) for position in positions]


def extend(images: Tensor, margin: int, border: Border) -> Tensor:
    """Return images (b, c, h, w) of any type with `margin` more pixels on every side."""
    for axis in (2, 3):
        index = border_index(images.shape[axis], margin, border)
        images = images.index_select(axis, torch.tensor(index, device=images.device))
    return images


def pick(images: Shaped[Tensor, "b c n"], place: Int[Tensor, "b m"]) -> Shaped[Tensor, "b c m"]:
    """Return each image's values at its own places, the same in every channel."""
    b, c, n = images.shape
    # One flat look-up by 32-bit positions takes a quarter of the time of `gather`.
    start = torch.arange(0, b * c * n, n, dtype=torch.int32, device=images.device).reshape(b, c, 1)
    index = place.to(torch.int32)[:, None] + start
    return images.reshape(-1).index_select(0, index.flatten()).reshape(b, c, -1)


def correlate(images: Images, kernel: Sequence[Sequence[float]], *, border: Border) -> FloatImages:
    """Return the correlation of bytes with an odd square kernel in float64, on the scale of the bytes.

    Pixels of equal weight are added as integers before they are weighted, so that what is rounded is
    rounded once a weight; the result does not depend on the batch.
    """
    b, c, h, w = images.shape
    margin = len(kernel) // 2
    places: dict[float, list[int]] = {}
    for row, weights in enumerate(kernel):
        for column, weight in enumerate(weights):
            if weight != 0:
                places.setdefault(weight, []).append(row * (w + 2 * margin) + column)
    # One long line: a shift in both axes is one offset, and rows wrap only into the margin, cut off below.
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
    """Return images under a sampled Gaussian of standard deviation `sigma` pixels, rows mixed first.

    Additions come in SciPy's order, from the outermost pair to the innermost, each product rounded: what
    is flat stays flat, or falls by a level, exactly where it does in the original.

    Args:
        images: Floats; sums are made in float64 and rounded to the images' type after each axis.
        sigma: Above 0.
        border: How the images go on.
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
        # One long line of which every image, or every row, is a piece with `radius` more at either end.
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


@lru_cache(maxsize=16)
def smoothing_matrix(
    size: int, sigma: float, *, border: Border, truncate: float = 4
) -> Float[Tensor, "{size} {size}"]:
    """Return the matrix by which `smooth` acts on a line, to the last bit but one."""
    radius = int(truncate * sigma + 0.5)
    matrix = np.zeros((size, size))
    source = np.array(border_index(size, radius, border))
    for step, weight in enumerate(gaussian_taps(sigma, radius)):
        np.add.at(matrix, (np.arange(size), source[step : step + size]), weight)
    return torch.from_numpy(matrix)


@lru_cache(maxsize=64)
def gaussian_taps(sigma: float, radius: int) -> tuple[float, ...]:
    """Return the 2 * radius + 1 weights of a sampled Gaussian, of sum 1."""
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    return tuple((weights / weights.sum()).tolist())
