"""C-bar's fields: blue_noise_sample, brownish_noise, and four of ImageNet-C-bar alone.

The four are perlin_noise, plasma_noise, cocentric_sine_waves and single_frequency_greyscale. All levels are
on the scale of bytes, and results are rounded down.

Source: Mintun, Kirillov, Xie 2021, arXiv:2102.11273, with the semantics of its generators.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ..fourier import from_half_spectrum
from ..rng import integers, uniform
from ..types import Images, Keys
from .pixels import Constants, cut, rows_and_columns

Phases = Float[Tensor, "b fields h half"]
"""Phases of the left half of a spectrum whose frequency zero is in the middle, in radians."""

_PERLIN_TABLE = 256


def blue_noise_sample(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images with evenly scattered black pixels.

    The parameter is a threshold in standard deviations. A pixel turns black where blue noise is below it.
    """
    return keep_pixels(images, _phases(images, key, 1), threshold=parameters[0])


def brownish_noise(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images plus noise of low frequencies, independent per channel.

    The parameter is the standard deviation in levels, without the random shift of each channel.
    """
    return add_clouds(images, _phases(images, key, 3), strength=parameters[0])


def plasma_noise(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return darkened images plus the colored patterns of iterated sines.

    The parameter is the strength in levels.
    """
    drawn = uniform(key, (3,), stream=0).to(torch.float64)
    motion = drawn * drawn.new_tensor([6 * math.pi, 0.5, 0.125]) + drawn.new_tensor([0, 0.5, 0.075])
    return add_plasma(images, motion, integers(key, 4, 7, (), stream=1), strength=parameters[0])


def perlin_noise(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images brightened by five octaves of Perlin noise.

    The parameter is the weight of the noise in its mixture with the image.
    """
    gradients = integers(key, 0, 512, (2 * _PERLIN_TABLE + 2, 2), stream=0)
    swaps = integers(key, 0, _PERLIN_TABLE, (_PERLIN_TABLE,), stream=1)
    return cover_with_turbulence(images, gradients, swaps, weight=parameters[0])


def cocentric_sine_waves(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images plus gray wavy rings around a point, with a sawtooth profile.

    The parameter is the strength in levels.
    """
    drawn, reach = uniform(key, (5,)).to(torch.float64), min(images.shape[2:]) / 10
    # 1 - u is never 0, and neither may be the width of a ring, by which distances are divided.
    rings = torch.stack([drawn[:, 2] * 10, drawn[:, 3] * reach, (1 - drawn[:, 4]) * reach], 1)
    return add_rings(images, drawn[:, :2], rings, strength=parameters[0])


def single_frequency_greyscale(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images plus one gray plane wave.

    The parameter is the amplitude in levels.
    """
    drawn = uniform(key, (4,)).to(torch.float64)
    first = (drawn[:, 0] * 2 - 1) * math.pi
    second = (drawn[:, 1] * 2 - 1) * first.abs()
    swapped = drawn[:, 2] < 0.5
    across, down = torch.where(swapped, second, first), torch.where(swapped, first, second)
    return add_wave(
        images, torch.stack([across, down, drawn[:, 3] * (2 * math.pi)], 1), strength=parameters[0]
    )


def keep_pixels(images: Images, phases: Phases, *, threshold: float) -> Images:
    """Return images that are black where blue noise is not above the threshold, equally in all channels."""
    return images * (_colored_noise(phases, images.shape[3], "blue") > threshold)


def add_clouds(images: Images, phases: Phases, *, strength: float) -> Images:
    """Return images plus brown noise of `strength` levels, one field per channel."""
    return cut(_colored_noise(phases, images.shape[3], "brown").mul_(strength).add_(images))


def add_plasma(
    images: Images, motion: Float[Tensor, "b 3"], iterations: Int64[Tensor, " b"], *, strength: float
) -> Images:
    """Return images mixed with colored plasma.

    Args:
        images: Bytes.
        motion: Per image the phase of the moving pattern in radians, its sharpness, and its scale. A larger
            sharpness makes the waves shrink less per iteration. The scale is a share of the shorter side.
        iterations: How often the coordinates are bent.
        strength: Levels; the image is weighted by 1 - strength / 255.
    """
    time, sharpness, scale = motion[:, :, None, None].unbind(1)
    y, x = (place / (scale * min(images.shape[2:])) for place in rows_and_columns(images))
    y, x = y.expand(-1, -1, x.shape[2]).contiguous(), x.expand(-1, y.shape[1], -1).contiguous()
    shrink = 2.25 - sharpness
    stretch, slow, weak = 1.0, 1.0, torch.ones_like(shrink)
    for done in range(int(iterations.max())):
        first = (stretch * y + time / slow).cos_().div_(weak)
        second = (stretch * x + time / slow).sin_().div_(weak)
        active = (done < iterations)[:, None, None]
        x = torch.where(active, x + first - 0.3 * second, x)
        y = torch.where(active, y + second + 0.3 * first, y)
        stretch, slow, weak = stretch * 1.93, slow * 1.15, weak * shrink
    colors = ((x - time).sin_(), ((x + y + time.sin()) / 2).sin_(), (y + time).sin_())
    return cut(torch.stack(colors, 1).mul_(strength).add_(images.to(torch.float64) * (1 - strength / 255)))


def cover_with_turbulence(
    images: Images, gradients: Int64[Tensor, "b 514 2"], swaps: Int64[Tensor, "b 256"], *, weight: float
) -> Images:
    """Return images mixed with the sum of the absolute values of five octaves of gradient noise.

    The first octave has a period of 32 pixels at any image size. The original divides by zero for a gradient
    without direction, in about 0.2 % of the images; here that gradient is zero.

    Args:
        images: Bytes.
        gradients: Directions before they are centered and scaled to length 1, each from 0 to 511.
        swaps: For each entry of the permutation table, last entry first, the entry that it is exchanged with.
        weight: Weight of the noise.

    Source: Perlin 1985, "An image synthesizer" (SIGGRAPH), with the tables of its sample program.
    """
    slope = (gradients - 256).to(torch.float64) / 256
    slope = slope.div_(slope.norm(dim=2, keepdim=True).clamp_(min=1e-300))
    table = _shuffled(swaps)
    # Both tables are repeated from their start, up to the first two entries of a third copy.
    for numbers in (slope, table):
        numbers[:, _PERLIN_TABLE : 2 * _PERLIN_TABLE] = numbers[:, :_PERLIN_TABLE]
        numbers[:, 2 * _PERLIN_TABLE :] = numbers[:, :2]
    total = torch.zeros(len(images), *images.shape[2:], dtype=torch.float64, device=images.device)
    rows, columns = (place.flatten() / 32 for place in rows_and_columns(images))
    for octave in range(5):
        frequency = 2.0**octave
        total.add_(_gradient_noise(rows * frequency, columns * frequency, slope, table).abs_() / frequency)
    brightness = total.mul_(0.5).add_(0.5).clamp_(0, 1).mul_(255 * weight)
    # The share of the image is in float32, as in the original.
    return cut(images.to(torch.float32).mul_(1 - weight).to(torch.float64).add_(brightness[:, None]))


def add_rings(
    images: Images, center: Float[Tensor, "b 2"], rings: Float[Tensor, "b 3"], *, strength: float
) -> Images:
    """Return images plus rings.

    Args:
        images: Bytes.
        center: Column and row, as shares of the sides.
        rings: Per image the waves per turn of a ring, their amplitude, and the width of a ring above 0, both
            in pixels. A ring has a step where the waves are not a whole number.
        strength: Levels between the darkest and the brightest.
    """
    rows, columns = rows_and_columns(images)
    h, w = images.shape[2:]
    x, y = center[:, :, None, None].unbind(1)
    waves, amplitude, width = rings[:, :, None, None].unbind(1)
    across, down = columns - x * w, rows - y * h
    bent = (across * across + down * down).sqrt_()
    bent.add_(torch.atan2(across, down).mul_(waves).sin_().mul_(amplitude))
    saw = bent.remainder_(width).div_(width).sub_(0.5).mul_(strength)
    return cut(saw[:, None].add(images))


def add_wave(images: Images, wave: Float[Tensor, "b 3"], *, strength: float) -> Images:
    """Return images plus a plane wave of `strength` levels.

    Args:
        images: Bytes.
        wave: Per image the frequency along columns and along rows in radians per pixel, and the phase.
        strength: Amplitude in levels.
    """
    rows, columns = rows_and_columns(images)
    across, down, phase = wave[:, :, None, None].unbind(1)
    return cut((columns * across + rows * down + phase).sin_().mul_(strength)[:, None].add(images))


def _phases(images: Images, key: Keys, fields: int) -> Phases:
    h, w = images.shape[2:]
    return uniform(key, (fields, h, (w + 1) // 2)).to(torch.float64).mul_(2 * math.pi)


def _colored_noise(phases: Phases, width: int, color: str) -> Float[Tensor, "b fields h w"]:
    """Return noise whose spectrum has the drawn phases, divided by its standard deviation.

    The right half of the spectrum has the phases of the left half, reversed in both axes. The partner of
    frequency k is therefore -k - 1 instead of -k, and its phase is equal instead of opposite. The noise is
    the real part of the inverse transform. Its mean spectrum is that of the color, but its variance differs
    between pixels. Brown noise has a random mean, which the standard deviation does not count.
    """
    h = phases.shape[2]
    place, opposite, amplitude = (
        table.to(phases.device) for table in _half_plane(h, width, phases.shape[3], color)
    )
    flat = phases.flatten(2)
    spectrum = []
    # The spectrum of the real part is the mean of a coefficient and the conjugate of its mirror.
    for part, sign in ((flat.cos(), 1), (flat.sin(), -1)):
        both = part.index_select(2, place).add_(part.index_select(2, opposite), alpha=sign)
        spectrum.append(both.mul_(amplitude))
    shape = (*phases.shape[:3], width // 2 + 1)
    noise = from_half_spectrum(torch.complex(*spectrum).reshape(shape), width=width)
    deviation: Tensor = noise.std((2, 3), correction=0, keepdim=True)
    return noise.div_(deviation)


@lru_cache(maxsize=16)
def _half_plane(
    height: int, width: int, half: int, color: str
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"], Float[Tensor, " n"]]:
    """Return for each frequency the positions of its phase and its mirror's phase, and its amplitude."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    mirrored = (height - 1 - rows) * half + width - 1 - columns
    to_corner = (-(height // 2), -(width // 2))
    number = torch.where(columns >= half, mirrored, rows * half + columns).roll(to_corner, (0, 1))
    # Frequencies in cycles per shorter side, so that no direction is preferred.
    side = min(height, width)
    down = (rows - height // 2).to(torch.float64) * side / height
    across = (columns - width // 2).to(torch.float64) * side / width
    squared = (down.square() + across.square()).roll(to_corner, (0, 1))
    amplitude = squared.sqrt() if color == "blue" else 1 / (1 + squared)
    kept = width // 2 + 1
    opposite = number.flip(0, 1).roll((1, 1), (0, 1))
    return number[:, :kept].flatten(), opposite[:, :kept].flatten(), amplitude[:, :kept].flatten()


def _shuffled(swaps: Int64[Tensor, "b 256"]) -> Int64[Tensor, "b 514"]:
    """Return the permutation of 0 to 255 that the exchanges make, with room for 258 more entries."""
    images = torch.arange(len(swaps), device=swaps.device)
    table = torch.arange(2 * _PERLIN_TABLE + 2, device=swaps.device).repeat(len(swaps), 1)
    for entry, other in zip(reversed(range(_PERLIN_TABLE)), swaps.unbind(1), strict=True):
        held = table[:, entry].clone()
        table[:, entry] = table[images, other]
        table[images, other] = held
    return table


def _gradient_noise(
    rows: Float[Tensor, " h"],
    columns: Float[Tensor, " w"],
    slope: Float[Tensor, "b 514 2"],
    table: Int64[Tensor, "b 514"],
) -> Float[Tensor, "b h w"]:
    top, left = rows.to(torch.int64), columns.to(torch.int64)
    down, across = (rows - top)[:, None], columns - left
    ease_down, ease_across = (share * share * (3 - 2 * share) for share in (down, across))
    corners = []
    for below in (0, 1):
        first = table[:, (top + below) % _PERLIN_TABLE]
        for beside in (0, 1):
            cell = first[:, :, None] + (left + beside) % _PERLIN_TABLE
            entry = table.gather(1, cell.flatten(1))
            steep = slope.gather(1, entry[:, :, None].expand(-1, -1, 2)).reshape(*cell.shape, 2)
            corners.append(steep[..., 0] * (down - below) + steep[..., 1] * (across - beside))
    # Rows are interpolated before columns.
    upper = corners[0] + ease_down * (corners[2] - corners[0])
    other = corners[1] + ease_down * (corners[3] - corners[1])
    return (upper + ease_across * (other - upper)).mul_(1.5)
