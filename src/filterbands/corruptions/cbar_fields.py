"""C-bar's fields: blue_noise_sample, brownish_noise, and four of ImageNet-C-bar alone.

The four are perlin_noise, plasma_noise, cocentric_sine_waves and single_frequency_greyscale. Every kind
draws, then calculates; the two are apart so that recorded draws give the recorded result. All work is on
the scale of the bytes, and fractions are dropped.

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

Phases = Float[Tensor, "b fields h half"]
"""Phases of the left half of a spectrum, frequency zero in its middle, in radians."""

_PERLIN_TABLE = 256


def blue_noise_sample(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images with black pixels, spread out evenly.

    Args:
        images: Bytes.
        parameters: Where blue noise, in standard deviations, is below it, a pixel turns black.
        key: One an image.
    """
    (threshold,) = parameters
    return keep_pixels(images, _phases(images, key, 1), threshold=threshold)


def brownish_noise(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images plus noise of low frequencies, independent for every channel.

    Args:
        images: Bytes.
        parameters: Standard deviation in levels, each channel's random shift not counted.
        key: One an image.
    """
    (strength,) = parameters
    return add_clouds(images, _phases(images, key, 3), strength=strength)


def plasma_noise(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images darkened, with the coloured patterns of iterated sines added.

    Args:
        images: Bytes.
        parameters: Strength in levels.
        key: One an image.
    """
    (strength,) = parameters
    drawn = uniform(key, (3,), stream=0).to(torch.float64)
    iterations = integers(key, 4, 7, (), stream=1)
    time, sharpness, scale = drawn[:, 0] * (6 * math.pi), drawn[:, 1] * 0.5 + 0.5, drawn[:, 2] * 0.125 + 0.075
    return add_plasma(images, time, iterations, sharpness, scale, strength=strength)


def perlin_noise(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images brightened by five octaves of Perlin's noise.

    Args:
        images: Bytes.
        parameters: Weight of the noise in its mixture with the image.
        key: One an image.
    """
    (weight,) = parameters
    gradients = integers(key, 0, 512, (2 * _PERLIN_TABLE + 2, 2), stream=0)
    swaps = integers(key, 0, _PERLIN_TABLE, (_PERLIN_TABLE,), stream=1)
    return cover_with_turbulence(images, gradients, swaps, weight=weight)


def cocentric_sine_waves(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images plus wavy rings about a point, grey, with the profile of a saw.

    Args:
        images: Bytes.
        parameters: Strength in levels.
        key: One an image.
    """
    (strength,) = parameters
    drawn = uniform(key, (5,)).to(torch.float64)
    waves, reach = drawn[:, 2] * 10, min(images.shape[2:]) / 10
    # The width of the rings is what they are counted by: never 0.
    return add_rings(
        images, drawn[:, :2], waves, drawn[:, 3] * reach, (1 - drawn[:, 4]) * reach, strength=strength
    )


def single_frequency_greyscale(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images plus one plane wave, grey.

    Args:
        images: Bytes.
        parameters: Amplitude in levels.
        key: One an image.
    """
    (strength,) = parameters
    drawn = uniform(key, (4,)).to(torch.float64)
    first = (drawn[:, 0] * 2 - 1) * math.pi
    second = (drawn[:, 1] * 2 - 1) * first.abs()
    swapped = drawn[:, 2] < 0.5
    across, down = torch.where(swapped, second, first), torch.where(swapped, first, second)
    return add_wave(images, across, down, drawn[:, 3] * (2 * math.pi), strength=strength)


def keep_pixels(images: Images, phases: Phases, *, threshold: float) -> Images:
    """Return images that are black where blue noise is not above the threshold, in all channels alike."""
    noise = _coloured_noise(phases, images.shape[3], "blue")
    return images * (noise > threshold)


def add_clouds(images: Images, phases: Phases, *, strength: float) -> Images:
    """Return images plus brown noise of `strength` levels, one field a channel."""
    noise = _coloured_noise(phases, images.shape[3], "brown")
    return noise.mul_(strength).add_(images).clamp_(0, 255).to(torch.uint8)


def add_plasma(
    images: Images,
    time: Float[Tensor, " b"],
    iterations: Int64[Tensor, " b"],
    sharpness: Float[Tensor, " b"],
    scale: Float[Tensor, " b"],
    *,
    strength: float,
) -> Images:
    """Return images mixed with coloured plasma.

    Args:
        images: Bytes.
        time: Moment of the moving pattern, in radians.
        iterations: How often the coordinates are bent.
        sharpness: The larger, the less the waves shrink from one iteration to the next.
        scale: Length of the pattern's unit, as a share of the shorter side.
        strength: Levels; the image keeps 1 - strength / 255 of its own.
    """
    time, unit = time[:, None, None], (scale * min(images.shape[2:]))[:, None, None]
    y, x = (place / unit for place in _places(images))
    y, x = y.expand(-1, -1, x.shape[2]).contiguous(), x.expand(-1, y.shape[1], -1).contiguous()
    shrink = 2.25 - sharpness[:, None, None]
    stretch, slow, weak = 1.0, 1.0, torch.ones_like(shrink)
    for done in range(int(iterations.max())):
        first = (stretch * y + time / slow).cos_().div_(weak)
        second = (stretch * x + time / slow).sin_().div_(weak)
        active = (done < iterations)[:, None, None]
        x = torch.where(active, x + first - 0.3 * second, x)
        y = torch.where(active, y + second + 0.3 * first, y)
        stretch, slow, weak = stretch * 1.93, slow * 1.15, weak * shrink
    colours = ((x - time).sin_(), ((x + y + time.sin()) / 2).sin_(), (y + time).sin_())
    mixed = torch.stack(colours, 1).mul_(strength).add_(images.to(torch.float64) * (1 - strength / 255))
    return mixed.clamp_(0, 255).to(torch.uint8)


def cover_with_turbulence(
    images: Images, gradients: Int64[Tensor, "b 514 2"], swaps: Int64[Tensor, "b 256"], *, weight: float
) -> Images:
    """Return images mixed with the sum of the absolute values of five octaves of gradient noise.

    The noise has a period of 32 pixels at the first octave, whatever the size. The original divides by
    zero for a gradient without direction, in about 0.2 % of the images; here that one has no slope.

    Args:
        images: Bytes.
        gradients: Directions before they are centred and brought to length 1, each from 0 to 511.
        swaps: With which entry each entry of the table of permutations is exchanged, from the last one on.
        weight: Of the noise.

    Source: Perlin 1985, "An image synthesizer" (SIGGRAPH), with the tables of its sample program.
    """
    slope = (gradients - 256).to(torch.float64) / 256
    slope = slope.div_(slope.norm(dim=2, keepdim=True).clamp_(min=1e-300))
    table = _shuffled(swaps)
    # Tables go on with their own start, for so long that the first two entries come a third time.
    for numbers in (slope, table):
        numbers[:, _PERLIN_TABLE : 2 * _PERLIN_TABLE] = numbers[:, :_PERLIN_TABLE]
        numbers[:, 2 * _PERLIN_TABLE :] = numbers[:, :2]
    h, w = images.shape[2:]
    total = torch.zeros(len(images), h, w, dtype=torch.float64, device=images.device)
    rows, columns = (place[0].flatten() / 32 for place in _places(images))
    for octave in range(5):
        frequency = 2.0**octave
        total.add_(_gradient_noise(rows * frequency, columns * frequency, slope, table).abs_() / frequency)
    brightness = total.mul_(0.5).add_(0.5).clamp_(0, 1).mul_(255 * weight)
    # The image's share is in float32, as in the original.
    kept = images.to(torch.float32).mul_(1 - weight).to(torch.float64)
    return kept.add_(brightness[:, None]).clamp_(0, 255).to(torch.uint8)


def add_rings(
    images: Images,
    centre: Float[Tensor, "b 2"],
    waves: Float[Tensor, " b"],
    amplitude: Float[Tensor, " b"],
    width: Float[Tensor, " b"],
    *,
    strength: float,
) -> Images:
    """Return images plus rings.

    Args:
        images: Bytes.
        centre: Column and row, as shares of the sides.
        waves: Waves of a ring a turn; the ring has a step where they are no whole number.
        amplitude: Of the waves, in pixels.
        width: Of a ring, in pixels, above 0.
        strength: Levels between the darkest and the brightest.
    """
    rows, columns = _places(images)
    h, w = images.shape[2:]
    across = columns - (centre[:, 0] * w)[:, None, None]
    down = rows - (centre[:, 1] * h)[:, None, None]
    waves, amplitude, width = (number[:, None, None] for number in (waves, amplitude, width))
    bent = (across * across + down * down).sqrt_()
    bent.add_(torch.atan2(across, down).mul_(waves).sin_().mul_(amplitude))
    saw = bent.remainder_(width).div_(width).sub_(0.5).mul_(strength)
    return saw[:, None].add(images).clamp_(0, 255).to(torch.uint8)


def add_wave(
    images: Images,
    across: Float[Tensor, " b"],
    down: Float[Tensor, " b"],
    phase: Float[Tensor, " b"],
    *,
    strength: float,
) -> Images:
    """Return images plus a plane wave of `strength` levels; frequencies in radians a pixel."""
    rows, columns = _places(images)
    across, down, phase = (number[:, None, None] for number in (across, down, phase))
    wave = (columns * across + rows * down + phase).sin_().mul_(strength)
    return wave[:, None].add(images).clamp_(0, 255).to(torch.uint8)


def _phases(images: Images, key: Keys, fields: int) -> Phases:
    h, w = images.shape[2:]
    return uniform(key, (fields, h, (w + 1) // 2)).to(torch.float64).mul_(2 * math.pi)


def _coloured_noise(phases: Phases, width: int, colour: str) -> Float[Tensor, "b fields h w"]:
    """Return noise whose spectrum has the drawn phases, over its standard deviation about its own mean.

    The right half of the spectrum has the phases of the left half read backwards in both axes: the partner
    of frequency k is -k - 1 and not -k, and its phase is equal, not opposite. The noise is the real part of
    what this gives. Its spectrum is the colour's, but it is stronger about some pixels than about others,
    and brown noise has a random mean, which the standard deviation leaves out.
    """
    h = phases.shape[2]
    place, opposite, amplitude = (
        table.to(phases.device) for table in _half_plane(h, width, phases.shape[3], colour)
    )
    flat = phases.flatten(2)
    spectrum = []
    # The real part's spectrum is the mean of a frequency's coefficient and its mirror's conjugate.
    for part, sign in ((flat.cos(), 1), (flat.sin(), -1)):
        both = part.index_select(2, place).add_(part.index_select(2, opposite), alpha=sign)
        spectrum.append(both.mul_(amplitude))
    shape = (*phases.shape[:3], width // 2 + 1)
    noise = from_half_spectrum(torch.complex(*spectrum).reshape(shape), width=width)
    deviation: Tensor = noise.std((2, 3), correction=0, keepdim=True)
    return noise.div_(deviation)


@lru_cache(maxsize=16)
def _half_plane(
    height: int, width: int, half: int, colour: str
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"], Float[Tensor, " n"]]:
    """Return where each frequency of a half spectrum and its mirror have their phase, and its amplitude."""
    rows = torch.arange(height)[:, None].expand(-1, width)
    columns = torch.arange(width)[None].expand(height, -1)
    mirrored = columns >= half
    number = torch.where(
        mirrored, (height - 1 - rows) * half + width - 1 - columns, rows * half + columns
    ).roll((-(height // 2), -(width // 2)), (0, 1))
    # Frequencies in cycles per shorter side, so that no direction is preferred.
    side = min(height, width)
    down = (rows - height // 2).to(torch.float64) * side / height
    across = (columns - width // 2).to(torch.float64) * side / width
    squared = (down.square() + across.square()).roll((-(height // 2), -(width // 2)), (0, 1))
    amplitude = squared.sqrt() if colour == "blue" else 1 / (1 + squared)
    kept = width // 2 + 1
    opposite = number.flip(0, 1).roll((1, 1), (0, 1))
    return number[:, :kept].flatten(), opposite[:, :kept].flatten(), amplitude[:, :kept].flatten()


def _shuffled(swaps: Int64[Tensor, "b 256"]) -> Int64[Tensor, "b 514"]:
    """Return 0 to 255 after the exchanges, with room for 258 more."""
    images = torch.arange(len(swaps), device=swaps.device)
    table = torch.arange(2 * _PERLIN_TABLE + 2, device=swaps.device).repeat(len(swaps), 1)
    for step in range(_PERLIN_TABLE):
        entry, other = _PERLIN_TABLE - 1 - step, swaps[:, step]
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
    # Along the first coordinate, the row, before the second.
    upper = corners[0] + ease_down * (corners[2] - corners[0])
    other = corners[1] + ease_down * (corners[3] - corners[1])
    return (upper + ease_across * (other - upper)).mul_(1.5)


def _places(images: Images) -> tuple[Float[Tensor, "1 h 1"], Float[Tensor, "1 1 w"]]:
    """Return rows and columns."""
    h, w = images.shape[2:]
    rows = torch.arange(h, dtype=torch.float64, device=images.device)[None, :, None]
    return rows, torch.arange(w, dtype=torch.float64, device=images.device)[None, None]
