"""Blurs: defocus_blur, glass_blur, motion_blur, zoom_blur, gaussian_blur.

Source: Hendrycks, Dietterich 2019, arXiv:1903.12261, with the semantics of its CIFAR-10-C generator.
"""

import itertools
import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from ..rng import integers, uniform
from ..types import Images, Keys
from .pixels import (
    Constants,
    border_index,
    correlate,
    divided,
    exponential,
    extend,
    pick,
    smooth,
    to_bytes,
    to_unit,
)

# Pixels of an image up to which the sum of `zoom_blur` is a matrix: faster, at a kilobyte a pixel.
_LARGEST_MATRIX = 1 << 16


def defocus_blur(images: Images, parameters: Constants, *, key: Keys) -> Images:  # noqa: ARG001
    """Return images seen through a disk that is softened by a small Gaussian.

    The parameters are the radius of the disk and the standard deviation of the Gaussian, in pixels.
    """
    return to_bytes(divided(correlate(images, disk(*parameters), border="reflect-101"), 255))


def glass_blur(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images that are blurred, whose pixels are copied from nearby, and that are blurred again.

    The parameters are the standard deviation of the blur, the largest distance, and the number of passes.
    """
    sigma, reach, passes = parameters[0], int(parameters[1]), int(parameters[2])
    h, w = images.shape[2:]
    places = max(h - 2 * reach, 0) * max(w - 2 * reach, 0)
    shifts = integers(key, -reach, reach, (passes, places, 2))
    return through_glass(images, shifts, sigma=sigma, reach=reach)


def motion_blur(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images smeared to one side, at an angle that is uniform on (-45, 45) degrees.

    The parameters are the radius and the standard deviation, in pixels.
    """
    radius, sigma = parameters
    degrees = uniform(key, ()).to(torch.float64).mul_(90).sub_(45)
    return smear(images, degrees, radius=radius, sigma=sigma)


def zoom_blur(images: Images, parameters: Constants, *, key: Keys) -> Images:  # noqa: ARG001
    """Return the mean of images and their enlargements.

    The parameters are the first factor, the end and the step of the enlargements.
    """
    b, c, h, w = images.shape
    factors = tuple(float(factor) for factor in np.arange(*parameters))
    plane = images.reshape(b * c, h * w).to(torch.float64)
    # Weights are multiples of 2^-40, so that each sum is exact in any order.
    if h * w <= _LARGEST_MATRIX:
        total = torch.sparse.mm(_zoom_sum(h, w, factors).to(images.device), plane.T.contiguous()).T
    else:
        total = plane.clone()
        for place, weight in itertools.chain.from_iterable(_zoom_corners(h, w, one) for one in factors):
            source, share = (torch.from_numpy(numbers).to(images.device) for numbers in (place, weight))
            total.addcmul_(plane.index_select(1, source), share)
    level = divided(total, len(factors) + 1)
    whole = level.round()
    # Where the mean is a whole level, the float32 sum of the original decides between it and the level below.
    exact = (level - whole).abs_() < 1e-5
    flat = _flat_zoom_sum(len(factors)).to(images.device)
    result = torch.where(exact, flat[whole.to(torch.int64)], level.to(torch.uint8))
    return result.reshape(b, c, h, w).contiguous()


def gaussian_blur(images: Images, parameters: Constants, *, key: Keys) -> Images:  # noqa: ARG001
    """Return images filtered by a Gaussian.

    The parameter is the standard deviation in pixels.
    """
    return to_bytes(smooth(to_unit(images), parameters[0], border="replicate"))


def through_glass(
    images: Images, shifts: Int64[Tensor, "b passes places 2"], *, sigma: float, reach: int
) -> Images:
    """Return images blurred, shuffled and blurred again.

    Args:
        images: Bytes.
        shifts: For each pass and pixel, the distance (to the right, down) to the source of its copy. Pixels
            are visited from the lower right to the upper left, `reach` pixels from the borders.
        sigma: Standard deviation of the blur.
        reach: Largest distance to the left or up; one less to the right or down.
    """
    b, c, h, w = images.shape
    blurred = to_bytes(smooth(to_unit(images), sigma, border="replicate")).reshape(b, c, h * w)
    rows = torch.arange(h - reach, reach, -1, device=images.device)
    columns = torch.arange(w - reach, reach, -1, device=images.device)
    place = (rows[:, None] * w + columns).flatten()
    identity = torch.arange(h * w, device=images.device)
    for shift in shifts.unbind(1):
        source = identity.repeat(b, 1)
        source[:, place] = place + shift[..., 1] * w + shift[..., 0]
        if reach > 1:
            source = _follow(source, place)
        blurred = pick(blurred, source)
    return to_bytes(smooth(to_unit(blurred.reshape(b, c, h, w)), sigma, border="replicate"))


def smear(images: Images, degrees: Float[Tensor, " b"], *, radius: float, sigma: float) -> Images:
    """Return images filtered by half a Gaussian along a direction, as ImageMagick's motion blur does.

    The direction points to the right at 0 and down at 90 degrees. Pixels are read at whole offsets, without
    interpolation. Sums are rounded to 16 bits and truncated to 8, as in ImageMagick 6.

    Args:
        images: Bytes, of any number of channels.
        degrees: One direction per image.
        radius: Half the number of weights, minus a half.
        sigma: Standard deviation in pixels.
    """
    b, c, h, w = images.shape
    count = 2 * math.ceil(radius) + 1
    weights = exponential(-(np.arange(count) ** 2) / (2 * sigma * sigma))
    weights /= weights.sum()
    radians = degrees.to(torch.float64) * (math.pi / 180)
    steps = torch.arange(count, device=images.device)
    right = (steps * radians.cos()[:, None] - 0.5).ceil_().to(torch.int64)
    down = (steps * radians.sin()[:, None] - 0.5).ceil_().to(torch.int64)
    margin = count - 1
    wide = extend(images, margin, "replicate").to(torch.float64)
    width = w + 2 * margin
    # 32-bit positions in one line of all channels of all images take half the time of `gather`.
    plane = (
        torch.arange(b * c, dtype=torch.int32, device=images.device).reshape(b, c, 1, 1) * wide[0, 0].numel()
    )
    rows = torch.arange(margin, margin + h, dtype=torch.int32, device=images.device)[:, None] * width
    columns = torch.arange(margin, margin + w, dtype=torch.int32, device=images.device)
    place = plane + (rows + columns)
    offset = (down * width + right).to(torch.int32)
    line = wide.flatten()
    total = torch.zeros(b * c * h * w, dtype=torch.float64, device=images.device)
    for step in range(count):
        index = (place + offset[:, step, None, None, None]).flatten()
        total.add_(line.index_select(0, index).mul_(257 * weights[step]))
    quantum = total.add_(0.5).floor_()
    return divided(quantum, 257).to(torch.uint8).reshape(b, c, h, w)


@lru_cache(maxsize=32)
def disk(radius: float, sigma: float) -> tuple[tuple[float, ...], ...]:
    """Return the kernel of `defocus_blur`, calculated in the float32 steps of the original.

    The disk is on a grid of 17 x 17 pixels (2 * radius + 1 above radius 8). It is blurred with 3 x 3 (5 x 5)
    weights, border reflect-101. A disk that touches the frame has a sum of up to 1.013 and brightens.
    """
    reach, margin = (8, 1) if radius <= 8 else (int(radius), 2)
    steps = np.arange(-reach, reach + 1)
    kernel = (steps[:, None] ** 2 + steps[None] ** 2 <= radius**2).astype(np.float32)
    kernel /= kernel.sum()
    taps = exponential(-(np.arange(-margin, margin + 1.0) ** 2) / (2 * sigma * sigma)).astype(np.float32)
    taps = (taps * (1 / taps.sum(dtype=np.float64))).astype(np.float32)
    index = np.array(border_index(len(steps), margin, "reflect-101"))
    for _ in range(2):
        kernel = kernel.T[index]
        middle = taps[margin] * kernel[margin:-margin]
        for step in range(1, margin + 1):
            pair = kernel[margin - step : len(index) - margin - step] + kernel[margin + step :][: len(steps)]
            middle = middle + taps[margin + step] * pair
        kernel = middle
    used = max(np.abs(steps[np.any(kernel != 0, axis=axis)]).max() for axis in (0, 1))
    kernel = kernel[reach - used : reach + used + 1, reach - used : reach + used + 1]
    return tuple(tuple(float(value) for value in row) for row in kernel)


def zoom_taps(size: int, factor: float) -> list[tuple[int, int, float]]:
    """Return two sources and the second's weight for each position of a line enlarged about its middle.

    The middle ceil(size / factor) pixels are stretched corner to corner, and the middle of the result is
    kept. Odd remainders shift both windows by half a pixel towards the first pixel.
    """
    window = math.ceil(size / factor)
    start = (size - window) // 2
    length = round(window * factor)
    scale = (window - 1) / (length - 1)
    taps = []
    for position in range((length - size) // 2, (length - size) // 2 + size):
        place = min(position * scale, window - 1.0)
        first = min(int(place), max(window - 2, 0))
        taps.append((start + first, start + min(first + 1, window - 1), place - first))
    return taps


def _zoom_corners(h: int, w: int, factor: float) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Return four sources of each pixel of an enlarged image, with weights in multiples of 2^-40."""
    upper, lower, down = (np.array(column)[:, None] for column in zip(*zoom_taps(h, factor), strict=True))
    left, right, across = (np.array(column)[None] for column in zip(*zoom_taps(w, factor), strict=True))
    corners = []
    rest = np.ones((h, w))
    for row, column, weight in (
        (lower, right, down * across),
        (lower, left, down * (1 - across)),
        (upper, right, (1 - down) * across),
    ):
        rounded = np.rint(weight * 2.0**40) / 2.0**40
        rest = rest - rounded
        corners.append(((row * w + column).ravel(), rounded.ravel()))
    return [*corners, ((upper * w + left).ravel(), rest.ravel())]


@lru_cache(maxsize=8)
def _zoom_sum(h: int, w: int, factors: tuple[float, ...]) -> Float[Tensor, "n n"]:
    """Return the sparse matrix of the sum of an image and its enlargements."""
    pixels = np.arange(h * w)
    places, weights = [np.stack([pixels, pixels])], [np.ones(h * w)]
    for place, weight in itertools.chain.from_iterable(_zoom_corners(h, w, one) for one in factors):
        places.append(np.stack([pixels, place]))
        weights.append(weight)
    return torch.sparse_coo_tensor(
        torch.from_numpy(np.concatenate(places, axis=1)),
        torch.from_numpy(np.concatenate(weights)),
        (h * w, h * w),
        check_invariants=True,
    ).coalesce()


@lru_cache(maxsize=8)
def _flat_zoom_sum(count: int) -> Tensor:
    """Return the result of each level in a flat area: the mean of count + 1 copies, added in float32."""
    unit = (np.arange(256) / 255).astype(np.float32)
    total = np.zeros_like(unit)
    for _ in range(count):
        total += unit
    return torch.from_numpy(((unit + total) / np.float32(count + 1) * np.float32(255)).astype(np.uint8))


def _follow(source: Int64[Tensor, "b n"], place: Int64[Tensor, " m"]) -> Int64[Tensor, "b n"]:
    """Return the position of each pixel's value before the pass, given its source during the pass.

    A pixel that was visited earlier has the value of its own source; later pixels still have their own value.
    """
    pixels = torch.arange(source.shape[1], device=source.device)
    visited = torch.zeros(source.shape[1], dtype=torch.bool, device=source.device)
    visited[place] = True
    # Visits run from the last pixel to the first, so "earlier" means "a larger position".
    moved = visited[source] & (source > pixels)
    while bool(moved.any()):
        after = source.gather(1, source)
        # Each jump along a chain of moved pixels halves the rest of the chain.
        source, moved = torch.where(moved, after, source), moved & moved.gather(1, source)
    return source
