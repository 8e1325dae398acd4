"""Image operations, for a batch in which every image has its own, on any device: the nine of AugMix.

Bytes in and out, as PIL computes them. Four of the nine are a table of 256 values per channel, five a linear
map of the image's coordinates, so that a batch is two gathers whatever is drawn in it. `map_values`,
`sources` and the samplers take any strength.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from ... import rng
from ...types import Images, Keys

OPERATIONS = (
    *("autocontrast", "equalize", "posterize", "solarize"),
    *("rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
)
"""By number: the first four change values, the other five move pixels."""

SEVERITY = 3.0
_TABLES = 4


def operate(images: Images, *, key: Keys, active: Tensor | None = None) -> Images:
    """Return each image after one operation drawn for it at AugMix's severity 3.

    Strength is uniform on [0.1, 3] tenths of the operation's range: 4 bits less of 4 for `posterize`, 256
    for the threshold of `solarize`, 30 degrees, a shear of 0.3, a third of the side for a shift, the first
    two and rotations and shifts in whole numbers; moves go either way. Pixels from outside are black.

    Args:
        images: NCHW bytes; left as they are.
        key: One per image.
        active: Which images are operated on, as booleans; None for all.

    Source: Hendrycks et al. 2020, arXiv:1912.02781, section 3 and appendix C, and its public code for the
    ranges. The operations are those that no benchmark kind is made of.
    """
    number = rng.integers(key, 0, len(OPERATIONS), (), stream=0)
    drawn = rng.uniform(key, (2,), stream=1)
    level = 0.1 + (SEVERITY - 0.1) * drawn[:, 0]
    sign = torch.where(drawn[:, 1] > 0.5, -1.0, 1.0)
    if active is None:
        active = torch.ones_like(number, dtype=torch.bool)
    out = images.clone()
    chosen = torch.nonzero(active & (number < _TABLES)).squeeze(1)
    out[chosen] = change_values(images[chosen], number[chosen], level[chosen])
    chosen = torch.nonzero(active & (number >= _TABLES)).squeeze(1)
    out[chosen] = move_pixels(images[chosen], number[chosen], level[chosen], sign[chosen])
    return out


def change_values(images: Images, number: Int64[Tensor, " b"], level: Float[Tensor, " b"]) -> Images:
    """Return the images after their own of the first four `OPERATIONS`, at levels in tenths of the range."""
    # 4 bits, less those taken away.
    return map_values(
        images, number, bits=4 - (level * 4 / 10).long(), threshold=256 - (level * 256 / 10).long()
    )


def map_values(
    images: Images, number: Int64[Tensor, " b"], *, bits: Int64[Tensor, " b"], threshold: Int64[Tensor, " b"]
) -> Images:
    """Return the images after their own of the first four `OPERATIONS`.

    `posterize` keeps so many upper bits, `solarize` inverts values from its threshold on.
    """
    count, channels, height, width = images.shape
    flat = images.reshape(count * channels, height * width).long()
    values = torch.arange(256, device=images.device)
    histogram = torch.zeros(count * channels, 256, dtype=torch.int64, device=images.device)
    histogram.scatter_add_(1, flat, torch.ones_like(flat))
    tables = torch.where(
        number.repeat_interleave(channels)[:, None] == 0, _contrast(histogram), _equal(histogram)
    ).reshape(count, channels, 256)
    posterized = values & (-1 << (8 - bits))[:, None]
    solarized = torch.where(values < threshold[:, None], values, 255 - values)
    fixed = torch.where(number[:, None] == 2, posterized, solarized)
    tables = torch.where(number[:, None, None] < 2, tables, fixed[:, None])
    changed = tables.reshape(count * channels, 256).gather(1, flat)
    return changed.to(torch.uint8).reshape(images.shape)


def move_pixels(
    images: Images, number: Int64[Tensor, " b"], level: Float[Tensor, " b"], sign: Float[Tensor, " b"]
) -> Images:
    """Return the images after their own of the last five `OPERATIONS`, bilinear, black from outside.

    Levels are in tenths of the range; a sign of 1 or -1 gives the direction.
    """
    height, width = images.shape[2:]
    # As written for square images; here each axis has its own side.
    x, y, inside = sources(
        number,
        height,
        width,
        angle=sign * (level * 30 / 10).trunc() * (math.pi / 180),
        shear=sign * level * 0.3 / 10,
        shift=[sign * (level * (side / 3) / 10).trunc() for side in (width, height)],
    )
    moved = sample_bilinear(images.float(), x - 0.5, y - 0.5)
    return (moved * inside[:, None]).to(torch.uint8)


def sources(
    number: Int64[Tensor, " b"],
    height: int,
    width: int,
    *,
    angle: Float[Tensor, " b"],
    shear: Float[Tensor, " b"],
    shift: Sequence[Float[Tensor, " b"]],
) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b h w"], Bool[Tensor, "b h w"]]:
    """Return where each pixel comes from under an image's own of the last five `OPERATIONS`.

    Columns and rows count from the corner of the first pixel; the third tells what is inside the image.

    Args:
        number: The operation of each image, counted as in `OPERATIONS`.
        height: Of the images, in pixels.
        width: The same.
        angle: Of `rotate`, in radians, counterclockwise.
        shear: Of `shear_x` and `shear_y`, pixels per pixel.
        shift: Of `translate_x` and of `translate_y`, in pixels.
    """
    zero = torch.zeros_like(shear)
    angle = torch.where(number == 4, angle, zero)
    right = torch.where(number == 7, shift[0], zero)
    down = torch.where(number == 8, shift[1], zero)
    across = torch.where(number == 5, shear, -angle.sin())
    along = torch.where(number == 6, shear, angle.sin())
    # PIL turns about the middle, and counts from the corner of the first pixel.
    turn_x, turn_y = (torch.where(number == 4, zero + side / 2, zero) for side in (width, height))
    column = torch.arange(width, device=number.device) + 0.5 - turn_x[:, None, None]
    row = (torch.arange(height, device=number.device) + 0.5)[:, None] - turn_y[:, None, None]
    cosine = angle.cos()[:, None, None]
    x = cosine * column + across[:, None, None] * row + (turn_x + right)[:, None, None]
    y = along[:, None, None] * column + cosine * row + (turn_y + down)[:, None, None]
    return x, y, (x >= 0) & (x < width) & (y >= 0) & (y < height)


def sample_nearest(
    images: Images, x: Float[Tensor, "b h w"], y: Float[Tensor, "b h w"]
) -> UInt8[Tensor, "b c h w"]:
    """Return the pixels in which columns x and rows y lie, 0 being the corner of the first pixel.

    Points outside are brought to the border.
    """
    channels, height, width = images.shape[1:]
    column, row = x.floor().long().clamp(0, width - 1), y.floor().long().clamp(0, height - 1)
    place = (row * width + column).flatten(1)[:, None].expand(-1, channels, -1)
    return images.flatten(2).gather(2, place).reshape(images.shape)


def sample_bilinear(
    images: Float[Tensor, "b c h w"], x: Float[Tensor, "b h w"], y: Float[Tensor, "b h w"]
) -> Float[Tensor, "b c h w"]:
    """Return the images' values at columns x and rows y, 0 being the middle of the first pixel.

    Points outside are brought to the border.
    """
    channels, height, width = images.shape[1:]
    left, top = x.floor(), y.floor()
    part_x, part_y = (x - left)[:, None], (y - top)[:, None]
    columns = [(left + step).clamp(0, width - 1).long() for step in (0, 1)]
    rows = [(top + step).clamp(0, height - 1).long() * width for step in (0, 1)]
    flat = images.flatten(2)

    def at(row: int, column: int) -> Tensor:
        place = (rows[row] + columns[column]).flatten(1)[:, None].expand(-1, channels, -1)
        value: Tensor = flat.gather(2, place).reshape(images.shape)
        return value

    upper = at(0, 0) + part_x * (at(0, 1) - at(0, 0))
    lower = at(1, 0) + part_x * (at(1, 1) - at(1, 0))
    sampled: Tensor = upper + part_y * (lower - upper)
    return sampled


def to_bytes(images: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b c h w"]:
    """Return images in [0, 1] as bytes, rounded."""
    return (images * 255).round_().clamp_(0, 255).to(torch.uint8)


def _contrast(histogram: Int64[Tensor, "n 256"]) -> Int64[Tensor, "n 256"]:
    """Return the tables that stretch the occurring values over 0..255."""
    values = torch.arange(256, device=histogram.device)
    occurs = histogram > 0
    low = torch.where(occurs, values, 256).amin(dim=1, keepdim=True)
    high = torch.where(occurs, values, -1).amax(dim=1, keepdim=True)
    # A division of tensors: torch makes `255 / tensor` a reciprocal and a product, a last bit apart from PIL.
    scale = torch.tensor(255.0, dtype=torch.float64, device=values.device).div((high - low).clamp(min=1))
    stretched = (values * scale - low * scale).trunc().long().clamp(0, 255)
    return torch.where(high > low, stretched, values)


def _equal(histogram: Int64[Tensor, "n 256"]) -> Int64[Tensor, "n 256"]:
    """Return the tables that make all values equally frequent, in PIL's integer arithmetic."""
    values = torch.arange(256, device=histogram.device)
    last = torch.where(histogram > 0, values, -1).amax(dim=1, keepdim=True)
    step = (histogram.sum(dim=1, keepdim=True) - histogram.gather(1, last)).div(255, rounding_mode="floor")
    before = histogram.cumsum(dim=1) - histogram
    safe = step.clamp(min=1)
    table = (before + safe // 2).div(safe, rounding_mode="floor").clamp(max=255)
    return torch.where(step > 0, table, values)
