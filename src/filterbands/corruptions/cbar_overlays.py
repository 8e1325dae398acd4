"""C-bar's shapes drawn over images: checkerboard_cutout, inverse_sparkles, lines, sparkles.

Every kind draws, then calculates; the two are apart so that recorded draws give the recorded result. All
work is on the scale of the bytes, and fractions are dropped.

Source: Mintun, Kirillov, Xie 2021, arXiv:2102.11273, with the semantics of its CIFAR-10-C-bar generator.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ..rng import integers, normal, uniform
from ..types import Images, Keys

_GREY = 128
# A star has 50 to 199 rays.
_FEWEST_RAYS, _MOST_RAYS = 50, 199
# A cell of the checkerboard is a tenth of the image or more, and its grid four images wide.
_CELLS = 40


def checkerboard_cutout(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images with some cells of one colour of a turned checkerboard cut out, to grey.

    Args:
        images: Bytes.
        parameters: Share of those cells.
        key: One an image.
    """
    (share,) = parameters
    turn, side = uniform(key, (2,), stream=0).to(torch.float64).unbind(1)
    grid = uniform(key, (_CELLS, _CELLS), stream=1)
    return cut_cells(images, turn * (2 * math.pi), side * 0.15 + 0.1, grid, share=share)


def inverse_sparkles(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images bleached to white but for a star about a point near the middle.

    Args:
        images: Bytes.
        parameters: Exponent by which the star fades with the square of the distance.
        key: One an image.
    """
    (exponent,) = parameters
    centre = uniform(key, (1, 2), stream=0).to(torch.float64).mul_(0.5).add_(0.25)
    return bleach(images, centre, *_rays(key, 1), exponent=exponent)


def sparkles(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images with five white stars.

    Args:
        images: Bytes.
        parameters: Length of their rays, as a share of the shorter side.
        key: One an image.
    """
    (radius,) = parameters
    centres = uniform(key, (5, 2), stream=0).to(torch.float64)
    return add_stars(images, centres, *_rays(key, 5), radius=radius)


def lines(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images crossed by grey lines that run in about one direction.

    Args:
        images: Bytes.
        parameters: Lines per pixel of the shorter side.
        key: One an image.
    """
    (density,) = parameters
    count = max(1, math.floor(density * min(images.shape[2:])))
    mean, spread = uniform(key, (2,), stream=0).to(torch.float64).unbind(1)
    places = uniform(key, (count, 3), stream=1).to(torch.float64)
    return draw_lines(images, mean * (2 * math.pi), spread * 0.9 + 0.1, places)


def cut_cells(
    images: Images,
    turn: Float[Tensor, " b"],
    side: Float[Tensor, " b"],
    grid: Float[Tensor, "b n n"],
    *,
    share: float,
) -> Images:
    """Return images with cells cut out.

    Args:
        images: Bytes.
        turn: Angle of the board about the upper left pixel, in radians.
        side: Side of a cell, as a share of the images' shorter side; at least a pixel is used.
        grid: Uniform numbers; a cell is cut where its number is below `share`.
        share: Share of the cells of one colour.
    """
    h, w = images.shape[2:]
    turn, cell = turn[:, None, None], (side * min(h, w)).clamp_(min=1)[:, None, None]
    rows, columns = _rows(images), _columns(images)
    u = (turn.cos() * rows + turn.sin() * columns) / cell
    v = (-turn.sin() * rows + turn.cos() * columns) / cell
    coloured = (u.floor() - v.floor()).remainder_(2) == 0
    # Colours go by floor, numbers by the whole part: the cells on both sides of an axis share theirs.
    used = (4 * min(h, w) / cell).to(torch.int64)
    i, j = (place.to(torch.int64).remainder_(used) for place in (u, v))
    number = grid.flatten(1).gather(1, i.mul_(grid.shape[2]).add_(j).flatten(1)).reshape(u.shape)
    return images.masked_fill((coloured & (number < share))[:, None], _GREY)


def bleach(
    images: Images,
    centre: Float[Tensor, "b 1 2"],
    count: Int64[Tensor, "b 1"],
    spread: Float[Tensor, "b 1 rays"],
    *,
    exponent: float,
) -> Images:
    """Return images mixed with white by what a star leaves.

    Args:
        images: Bytes.
        centre: Row and column, as shares of the sides.
        count: Rays.
        spread: Standard normals that make their lengths, `count` of them used.
        exponent: Of the star's fading.
    """
    h, w = images.shape[2:]
    length = (spread.to(torch.float64) * 0.25 + 1) * (0.25 * min(h, w))
    weight = _star(images, centre[:, 0], count[:, 0], length[:, 0], exponent)
    white = images.to(torch.float64).sub_(255).mul_(weight[:, None]).add_(255)
    return white.clamp_(0, 255).to(torch.uint8)


def add_stars(
    images: Images,
    centres: Float[Tensor, "b stars 2"],
    counts: Int64[Tensor, "b stars"],
    spread: Float[Tensor, "b stars rays"],
    *,
    radius: float,
) -> Images:
    """Return images with white stars, one after the other; between two, values are rounded to float32.

    Args:
        images: Bytes.
        centres: Rows and columns, as shares of the sides.
        counts: Rays.
        spread: Standard normals that make their lengths.
        radius: Mean length of the rays, as a share of the shorter side; none is below a pixel.
    """
    length = (spread.to(torch.float64) * 0.25 + 1).mul_(radius * min(images.shape[2:])).clamp_(min=1)
    value = images.to(torch.float64)
    for star in range(centres.shape[1]):
        if star > 0:
            value = value.to(torch.float32).to(torch.float64)
        weight = _star(images, centres[:, star], counts[:, star], length[:, star], 1)
        value.add_(torch.sub(255, value).mul_(weight[:, None]))
    return value.clamp_(0, 255).to(torch.uint8)


def draw_lines(
    images: Images, mean: Float[Tensor, " b"], spread: Float[Tensor, " b"], places: Float[Tensor, "b lines 3"]
) -> Images:
    """Return images with lines drawn one after the other, each cut to bytes.

    Args:
        images: Bytes.
        mean: Mean angle, in radians, 0 being along the columns.
        spread: Width of the range of angles, as a share of a turn.
        places: Row and column as shares of the sides, and place in the range of angles, in [0, 1].
    """
    h, w = images.shape[2:]
    angle = mean[:, None] + 2 * math.pi * spread[:, None] * (places[:, :, 2] - 0.5)
    row, column, reach = h * places[:, :, 0], w * places[:, :, 1], max(h, w)
    y0, y1 = ((row + sign * reach * angle.cos()).to(torch.int64) for sign in (-1, 1))
    x0, x1 = ((column + sign * reach * angle.sin()).to(torch.int64) for sign in (-1, 1))
    rows, columns = (grid.to(torch.int64) for grid in (_rows(images), _columns(images)))
    value = images.to(torch.float64)
    for line in range(places.shape[1]):
        top, left, bottom, right = (end[:, line, None, None] for end in (y0, x0, y1, x1))
        down, along = bottom - top, right - left
        length = (down * down + along * along).to(torch.float64).sqrt_().clamp_(min=1)
        distance = ((columns - left) * down - (rows - top) * along).abs_() / length
        inside = (rows >= torch.minimum(top, bottom)) & (rows <= torch.maximum(top, bottom))
        inside = inside & (columns >= torch.minimum(left, right)) & (columns <= torch.maximum(left, right))
        weight = ((1 - distance).clamp_(min=0) * inside)[:, None]
        value = value.mul_(1 - weight).add_(weight * _GREY).floor_()
    return value.to(torch.uint8)


def _rays(key: Keys, stars: int) -> tuple[Int64[Tensor, "b {stars}"], Float[Tensor, "b {stars} rays"]]:
    """Return each star's number of rays, and normals for all it could have."""
    counts = integers(key, _FEWEST_RAYS, _MOST_RAYS + 1, (stars,), stream=1)
    return counts, normal(key, (stars, _MOST_RAYS), stream=2)


def _star(
    images: Images,
    centre: Float[Tensor, "b 2"],
    count: Int64[Tensor, " b"],
    length: Float[Tensor, "b rays"],
    exponent: float,
) -> Float[Tensor, "b h w"]:
    """Return how much of a star is at each pixel, in [0, 1]."""
    h, w = images.shape[2:]
    down = _rows(images) - (centre[:, :1, None] * h)
    right = _columns(images) - (centre[:, 1:, None] * w)
    squared = (down * down + right * right).flatten(1)
    rays = count[:, None]
    turn = torch.atan2(right, down).add_(math.pi).div_(2 * math.pi).flatten(1).mul_(rays)
    first = turn.floor()
    between = turn.sub_(first)
    ray = first.to(torch.int64)
    one, other = length.gather(1, ray.remainder(rays)), length.gather(1, ray.add_(1).remainder_(rays))
    reach = other.sub_(one).mul_(between).add_(one)
    fading = reach.square_().div_(squared.add_(1e-4))
    if exponent != 1:
        fading.pow_(exponent)
    weight = between.sub_(0.5).square_().neg_().add_(1).mul_(fading).clamp_(0, 1)
    return weight.reshape(len(images), h, w)


def _rows(images: Images) -> Float[Tensor, "h 1"]:
    return torch.arange(images.shape[2], dtype=torch.float64, device=images.device)[:, None]


def _columns(images: Images) -> Float[Tensor, " w"]:
    return torch.arange(images.shape[3], dtype=torch.float64, device=images.device)
