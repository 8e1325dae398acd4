"""C-bar's images read at other places: pinch_and_twirl, ripple, circular_motion_blur,
transverse_chromatic_abberation, and caustic_refraction of ImageNet-C-bar alone.

Source: Mintun, Kirillov, Xie 2021, arXiv:2102.11273, with the semantics of its generators.
"""  # noqa: D205

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from ..rng import bits, uniform
from ..types import FloatImages, Images, Keys
from .pixels import (
    Constants,
    cut,
    divided,
    filter_matrix,
    pick,
    reflect_101,
    rows_and_columns,
    smooth,
    to_bytes,
    to_unit,
)

# Weights of the 21 evenly spaced angles of circular_motion_blur.
_TURN_WEIGHTS = tuple(math.exp(-2 * (number / 10 - 1) ** 2) for number in range(21))
# circular_motion_blur uses a matrix for images of at most this many pixels.
_PIXELS_IN_A_MATRIX = 64 * 64
# Pixels that are blurred at once: on a CPU, what a core's cache holds; on a GPU, enough to keep it busy.
_PLACES_AT_A_TIME = {"cpu": 1 << 12, "other": 1 << 18}


def pinch_and_twirl(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images whose content shrinks towards the middles of 3 x 3 cells and turns around them.

    The parameters are the angle in degrees, in either direction, and the amount of the pinch.
    """
    degrees, amount = parameters
    side, rows, columns = cells(*images.shape[2:])
    signs = (bits(key, rows * columns) >> 63).bitwise_or_(1).reshape(-1, columns, rows)
    return pinch(images, signs, degrees=degrees, amount=amount, side=side)


def ripple(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images whose rows and columns are displaced by waves.

    The parameter is the amplitude, as a share of the shorter side.
    """
    drawn = uniform(key, (2, 2)).to(torch.float64)
    return press(images, drawn[:, 0] * 0.2 + 0.1, drawn[:, 1] * (2 * math.pi), amplitude=parameters[0])


def circular_motion_blur(images: Images, parameters: Constants, *, key: Keys) -> Images:  # noqa: ARG001
    """Return the weighted mean of images turned around their middle, black where the source is outside.

    The parameter is the largest angle in degrees.
    """
    (degrees,) = parameters
    b, c, h, w = images.shape
    # Coefficients of the cubic splines through the images in [0, 1], one row per channel.
    down, across = (_spline_matrix(size).to(images.device) for size in (h, w))
    unit = to_unit(images, torch.float32).to(torch.float64)
    spline = (down @ unit @ across.T).reshape(b * c, h * w)
    result = torch.empty_like(images).reshape(b * c, h * w)
    if h * w > _PIXELS_IN_A_MATRIX:
        unsure = torch.ones_like(result, dtype=torch.bool)
    else:
        level = torch.sparse.mm(_turns(h, w, degrees).to(images.device), spline.T.contiguous()).T
        result.copy_(level.clamp(0, 255))
        # Close to a whole level, the float32 sums of the original decide between it and the level below.
        unsure = (level - level.round()).abs_() < 1e-3
    plane, pixel = unsure.nonzero(as_tuple=True)
    result[plane, pixel] = _turned(spline, plane, pixel, h, w, degrees)
    whole: Tensor = result.reshape(images.shape)
    return whole


def transverse_chromatic_abberation(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images with one channel smoothed and the others enlarged, in a random order.

    The parameter is the relative excess of the most enlarged channel over the size of the image.
    """
    return enlarge_channels(images, bits(key, 3).argsort(1), excess=parameters[0])


def caustic_refraction(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images seen through ripples of water that are lit along one diagonal.

    The parameters are the strength of the lens, as a share of the shorter side, and that of the lighting.
    """
    lens, lighting = parameters
    drawn = uniform(key, (2,)).to(torch.float64)
    return refract(images, drawn[:, 0] * 1.5 + 0.5, drawn[:, 1] * 0.5 + 0.75, lens=lens, lighting=lighting)


def cells(height: int, width: int) -> tuple[int, int, int]:
    """Return the side of the cells of `pinch_and_twirl`, and their numbers along rows and columns.

    >>> cells(32, 32), cells(224, 224)
    ((10, 3, 3), (44, 5, 5))
    """
    across = 3 if min(height, width) < 128 else 5
    side = min(height, width) // across // 2 * 2
    return side, height // side, width // side


def pinch(
    images: Images, signs: Int64[Tensor, "b columns rows"], *, degrees: float, amount: float, side: int
) -> Images:
    """Return images pinched and twirled, in float32.

    Args:
        images: Bytes.
        signs: 1 or -1 for each cell, column after column.
        degrees: Angle by which content turns at the middle of a cell.
        amount: Exponent of the pinch.
        side: Even side of a cell, in pixels.
    """
    h, w = images.shape[2:]
    cell, still, plain, turned = (table.to(images.device) for table in _twirl(h, w, degrees, amount, side))
    sign = signs.flatten(1).index_select(1, cell.flatten()).reshape(-1, 1, h, w)
    shift = torch.where(sign > 0, plain, turned).masked_fill_(still, 0)
    return cut(read(images.to(torch.float32), shift))


def press(
    images: Images, lengths: Float[Tensor, "b 2"], phases: Float[Tensor, "b 2"], *, amplitude: float
) -> Images:
    """Return images whose rows and columns are displaced, each by a wave of its own coordinate.

    Args:
        images: Bytes.
        lengths: Wavelengths along columns and along rows, as shares of the sides.
        phases: Phases of both waves, in radians.
        amplitude: Amplitude of both waves, as a share of the shorter side.
    """
    h, w = images.shape[2:]
    shifts = []
    for axis, line in enumerate(rows_and_columns(images)):
        length, phase = (numbers[:, axis, None, None] for numbers in (lengths * line.numel(), phases))
        wave = (2 * math.pi * line / length + phase).sin_().mul_(amplitude * min(h, w))
        shifts.append(wave.expand(-1, h, w))
    return cut(read(images.to(torch.float64), torch.stack(shifts, 1)))


def enlarge_channels(images: Images, order: Int64[Tensor, "b 3"], *, excess: float) -> Images:
    """Return images whose channels are enlarged about the middle by 1, 1 + excess / 2 and 1 + excess.

    `order` holds the number of each channel's factor, from 0.
    """
    b, _, h, w = images.shape
    result = torch.empty_like(images)
    image = torch.arange(b, device=images.device)
    for number, factor in enumerate((1, 1 + excess / 2, 1 + excess)):
        channel = (order == number).to(torch.uint8).argmax(1)
        # Images are the last axis, so that each step reads and writes long lines.
        plane = images[image, channel].permute(1, 2, 0).to(torch.float64)
        (rows, down), (columns, across) = (_enlargement(size, factor) for size in (h, w))
        total = torch.zeros_like(plane, memory_format=torch.contiguous_format)
        for row, weight in zip(rows.to(images.device), down.to(images.device), strict=True):
            line = plane.index_select(0, row).mul_(weight[:, None, None])
            for column, share in zip(columns.to(images.device), across.to(images.device), strict=True):
                total.add_(line.index_select(1, column).mul_(share[:, None]))
        result[image, channel] = total.add_(0.5).to(torch.uint8).permute(2, 0, 1)
    return result


def refract(
    images: Images, time: Float[Tensor, " b"], size: Float[Tensor, " b"], *, lens: float, lighting: float
) -> Images:
    """Return images displaced by the slope of a caustic pattern, and lit by it.

    Args:
        images: Bytes.
        time: Time of the moving pattern.
        size: Period of the pattern, as a share of the shorter side.
        lens: Strength of the displacement, as a share of the shorter side.
        lighting: Strength of the lighting.
    """
    side = min(images.shape[2:])
    surface = torch.nn.functional.pad(_caustic(images, time, size * side), (1, 1, 1, 1))
    down = surface[:, 2:, 1:-1] - surface[:, :-2, 1:-1]
    across = surface[:, 1:-1, 2:] - surface[:, 1:-1, :-2]
    slope = (down * down + across * across).sqrt_()
    cosine = (slope * slope + 1).rsqrt_()
    angle = cosine.arccos()
    length = (angle - (angle.sin() / 4).asin_()).sin_().mul_(lens * side).div_(slope)
    length.masked_fill_((cosine >= 0.999) | (slope == 0), 0)
    shift = torch.stack([divided((part * length).mul_(1000).round_(), 1000) for part in (down, across)], 1)
    unit = to_unit(images, torch.float32).to(torch.float64)
    return to_bytes(read(unit, shift).add_((down - across).mul_(lighting)[:, None]))


def read(images: FloatImages, shift: Float[Tensor, "b 2 h w"]) -> FloatImages:
    """Return images whose pixels are read elsewhere, columns mixed first; outside of the images all is black.

    Args:
        images: Floats; results have their type.
        shift: Distance in rows and columns from each pixel to its source, the same in all channels.
    """
    b, c, h, w = images.shape
    place = torch.stack([shift[:, axis] + line for axis, line in enumerate(rows_and_columns(images))], 1)
    base = place.floor()
    shares = (place - base).to(images.dtype)
    rests = (1 - (place - base)).to(images.dtype)
    # Two black pixels at both ends, so that places further outside read black alone.
    wide = torch.nn.functional.pad(images, (2, 2, 2, 2)).flatten(2)
    top = base[:, 0].clamp_(-2, h).to(torch.int64).add_(2)
    left = base[:, 1].clamp_(-2, w).to(torch.int64).add_(2)
    corner = (top * (w + 4) + left).flatten(1)
    lines = []
    for below in (0, 1):
        first, second = (
            pick(wide, corner + (below * (w + 4) + beside)).reshape(b, c, h, w) for beside in (0, 1)
        )
        lines.append(first.mul_(rests[:, 1:]).add_(second.mul_(shares[:, 1:])))
    return lines[0].mul_(rests[:, :1]).add_(lines[1].mul_(shares[:, :1]))


@lru_cache(maxsize=16)
def _twirl(h: int, w: int, degrees: float, amount: float, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the cell of each pixel, whether the pixel stays, and its displacements for both signs."""
    rows, columns = torch.arange(h), torch.arange(w)
    block_rows, block_columns = rows // side, columns // side
    count_rows, count_columns = h // side, w // side
    outside = (block_rows >= count_rows)[:, None] | (block_columns >= count_columns)
    cell = block_columns.clamp(max=count_columns - 1) * count_rows
    cell = cell + block_rows.clamp(max=count_rows - 1)[:, None]
    half = side // 2
    dy = (rows % side - half).to(torch.float64)[:, None].expand(h, w)
    dx = (columns % side - half).to(torch.float64).expand(h, w)
    distance = (dy * dy + dx * dx).sqrt()
    still = outside | (distance > half) | (distance == 0)
    share = (distance / half).masked_fill(still, 1)
    stretch = (math.pi * share / 2).sin() ** -amount
    angle = math.radians(degrees) * (1 - share) ** 2
    moves = []
    for sign in (1, -1):
        cosine, sine = (sign * angle).cos(), (sign * angle).sin()
        turned = torch.stack([dy * cosine - dx * sine, dy * sine + dx * cosine])
        moves.append(stretch * turned - torch.stack([dy, dx]))
    return cell, still, moves[0], moves[1]


@lru_cache(maxsize=64)
def _enlargement(size: int, factor: float) -> tuple[Int64[Tensor, "4 n"], Float[Tensor, "4 n"]]:
    """Return four sources and weights for each position of a line that is enlarged about its middle.

    The cubic B-spline does not interpolate, so that it smooths even where nothing is enlarged.
    """
    length = round(size * factor)
    start = (length - size) // 2
    place = torch.arange(start, start + size, dtype=torch.float64) * ((size - 1) / (length - 1))
    pixels, weights = _line_taps(place, size)
    return torch.stack(pixels), torch.stack(weights)


@lru_cache(maxsize=8)
def _spline_matrix(size: int) -> Float[Tensor, "{size} {size}"]:
    """Return the matrix from the values of a line to the coefficients of its cubic spline, mirrored borders.

    Source: Unser 1999, "Splines: a perfect fit for signal and image processing".
    """
    matrix = filter_matrix(size, (1 / 6, 4 / 6, 1 / 6), border="reflect-101")
    # LAPACK's solver of NumPy: torch's inverse differs in the last bits.
    return torch.from_numpy(np.linalg.inv(matrix.numpy()))


def _turned(
    spline: Float[Tensor, "planes n"],
    plane: Int64[Tensor, " m"],
    pixel: Int64[Tensor, " m"],
    h: int,
    w: int,
    degrees: float,
) -> UInt8[Tensor, " m"]:
    """Return bytes at places of the blurred images, rounded to float32 as in the original."""
    result = torch.empty(len(pixel), dtype=torch.uint8, device=spline.device)
    line = spline.flatten()
    at_a_time = _PLACES_AT_A_TIME["cpu" if spline.device.type == "cpu" else "other"]
    for start in range(0, len(pixel), at_a_time):
        part = slice(start, start + at_a_time)
        inside, corners, weights = _taps(pixel[part], h, w, degrees)
        first = plane[part] * (h * w)
        value = torch.zeros_like(weights[0])
        for corner, weight in zip(corners, weights, strict=True):
            value.add_(line.index_select(0, (corner + first).flatten()).reshape(value.shape).mul_(weight))
        total = torch.zeros(value.shape[1], dtype=torch.float32, device=value.device)
        for turned, share in zip(value.mul_(inside).to(torch.float32), _TURN_WEIGHTS, strict=True):
            total.add_(turned.mul_(share))
        result[part] = divided(total, sum(_TURN_WEIGHTS)).clamp_(0, 1).mul_(255).to(torch.uint8)
    return result


@lru_cache(maxsize=8)
def _turns(h: int, w: int, degrees: float) -> Float[Tensor, "n n"]:
    """Return the sparse matrix that turns spline coefficients into blurred levels, without any rounding."""
    pixels = torch.arange(h * w)
    inside, corners, weights = _taps(pixels, h, w, degrees)
    places = [torch.stack([pixels.expand_as(corner)[inside], corner[inside]]) for corner in corners]
    turn = torch.tensor(_TURN_WEIGHTS, dtype=torch.float64)[:, None] * (255 / sum(_TURN_WEIGHTS))
    values = torch.cat([(weight * turn)[inside] for weight in weights])
    size = (h * w, h * w)
    return torch.sparse_coo_tensor(torch.cat(places, 1), values, size, check_invariants=True).coalesce()


def _taps(
    pixel: Int64[Tensor, " m"], h: int, w: int, degrees: float
) -> tuple[Bool[Tensor, "turns m"], list[Tensor], list[Tensor]]:
    """Return for turned images whether a pixel's source is inside, its 16 source pixels, and their weights.

    `pixel` holds positions in the image, row after row. The first angle is -`degrees` and the last `degrees`.
    """
    angle = torch.linspace(-1, 1, len(_TURN_WEIGHTS), dtype=torch.float64, device=pixel.device)[:, None]
    angle = angle.mul_(math.radians(degrees))
    down = (pixel // w).to(torch.float64) - (h - 1) / 2
    across = (pixel % w).to(torch.float64) - (w - 1) / 2
    y = (down * angle.cos()).add_(across * angle.sin()).add_((h - 1) / 2)
    x = (across * angle.cos()).sub_(down * angle.sin()).add_((w - 1) / 2)
    inside = (y >= 0) & (y <= h - 1) & (x >= 0) & (x <= w - 1)
    (rows, row_weights), (columns, column_weights) = (_line_taps(*line) for line in ((y, h), (x, w)))
    corners = [row * w + column for row in rows for column in columns]
    return inside, corners, [one * other for one in row_weights for other in column_weights]


def _line_taps(place: Float[Tensor, "*n"], size: int) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """Return the four pixels of a line around each place, and their weights in the cubic B-spline."""
    base = place.floor()
    pixels = [reflect_101(base.to(torch.int64) + step, size) for step in (-1, 0, 1, 2)]
    share = place - base
    rest = 1 - share
    first = rest * rest * rest / 6
    second = (share * share * (share - 2) * 3 + 4) / 6
    third = (rest * rest * (rest - 2) * 3 + 4) / 6
    return pixels, (first, second, third, 1 - first - second - third)


def _caustic(images: Images, time: Float[Tensor, " b"], size: Float[Tensor, " b"]) -> Float[Tensor, "b h w"]:
    """Return the brightness at the bottom of a pool, in [0, 1], smoothed by a pixel."""
    time, size = time[:, None, None], size[:, None, None]
    start = [(line / size).frac_().mul_(6.28318530718).sub_(250) for line in rows_and_columns(images)]
    y, x = (line.expand(-1, *images.shape[2:]) for line in start)
    bright = torch.ones_like(y, memory_format=torch.contiguous_format)
    for number in range(1, 6):
        moment = time * (1 - 3.5 / number)
        y, x = (
            start[0] + (moment - y).cos() + (moment + x).sin(),
            start[1] + (moment - x).sin() + (moment + y).cos(),
        )
        long, wide = 0.005 * start[0] / (y + moment).sin(), 0.005 * start[1] / (x + moment).cos()
        bright.add_(long.square_().add_(wide.square_()).rsqrt_())
    value = (1.17 - (bright / 5).pow_(1.4)).abs_().pow_(8).clamp_(0, 1)
    return smooth(value[:, None], 1.0, border="reflect")[:, 0]
