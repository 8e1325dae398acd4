"""C-bar's shapes drawn over images: checkerboard_cutout, inverse_sparkles, lines, sparkles.

All levels are on the scale of bytes, and results are rounded down.

Source: Mintun, Kirillov, Xie 2021, arXiv:2102.11273, with the semantics of its CIFAR-10-C-bar generator.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ..rng import integers, normal, uniform
from ..types import Images, Keys
from .pixels import Constants, cut, rows_and_columns

_GRAY = 128
# A star has 50 to 199 rays.
_FEWEST_RAYS, _MOST_RAYS = 50, 199
# A cell of the checkerboard is at least a tenth of the image, and its grid is four images wide.
_CELLS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Stars:
    """The stars that are drawn on each image."""

    centers: Float[Tensor, "b stars 2"]
    """Rows and columns, as shares of the sides."""
    counts: Int64[Tensor, "b stars"]
    """Numbers of rays."""
    spread: Float[Tensor, "b stars rays"]
    """Standard normals that give the lengths of the rays; each star uses as many as it has rays."""

    def lengths(self, mean: float) -> Float[Tensor, "b stars rays"]:
        """Return the lengths of the rays for a mean length, in the same unit."""
        return (self.spread.to(torch.float64) * 0.25 + 1).mul_(mean)

    def weight(
        self, images: Images, star: int, lengths: Float[Tensor, "b stars rays"], *, exponent: float
    ) -> Float[Tensor, "b 1 h w"]:
        """Return the weight of one star at each pixel, in [0, 1]."""
        h, w = images.shape[2:]
        y, x = self.centers[:, star, :, None, None].unbind(1)
        rows, columns = rows_and_columns(images)
        down, right = rows - y * h, columns - x * w
        squared = (down * down + right * right).flatten(1)
        rays, length = self.counts[:, star, None], lengths[:, star]
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
        return weight.reshape(len(images), 1, h, w)


def checkerboard_cutout(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images in which some cells of one color of a rotated checkerboard are gray.

    The parameter is the share of those cells.
    """
    board = uniform(key, (2,), stream=0).to(torch.float64)
    board = board * board.new_tensor([2 * math.pi, 0.15]) + board.new_tensor([0, 0.1])
    grid = uniform(key, (_CELLS, _CELLS), stream=1)
    return cut_cells(images, board, grid, share=parameters[0])


def inverse_sparkles(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images that are white except for a star around a point near the middle.

    The parameter is the exponent by which the star fades with the square of the distance.
    """
    centers = uniform(key, (1, 2), stream=0).to(torch.float64).mul_(0.5).add_(0.25)
    return bleach(images, _stars(key, centers), exponent=parameters[0])


def sparkles(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images with five white stars.

    The parameter is the length of their rays, as a share of the shorter side.
    """
    centers = uniform(key, (5, 2), stream=0).to(torch.float64)
    return add_stars(images, _stars(key, centers), radius=parameters[0])


def lines(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images crossed by gray lines of roughly one direction.

    The parameter is the number of lines per pixel of the shorter side.
    """
    count = max(1, math.floor(parameters[0] * min(images.shape[2:])))
    mean, spread = uniform(key, (2,), stream=0).to(torch.float64).unbind(1)
    places = uniform(key, (count, 3), stream=1).to(torch.float64)
    return draw_lines(images, mean * (2 * math.pi), spread * 0.9 + 0.1, places)


def cut_cells(
    images: Images, board: Float[Tensor, "b 2"], grid: Float[Tensor, "b n n"], *, share: float
) -> Images:
    """Return images with cells cut out.

    Args:
        images: Bytes.
        board: Per image the angle of the board around the upper left pixel, in radians, and the side of a
            cell as a share of the shorter side of the image. A cell has at least one pixel.
        grid: Uniform numbers; a cell is cut where its number is below `share`.
        share: Share of the cells of one color.
    """
    h, w = images.shape[2:]
    turn, side = board[:, :, None, None].unbind(1)
    cell = (side * min(h, w)).clamp_(min=1)
    rows, columns = rows_and_columns(images)
    u = (turn.cos() * rows + turn.sin() * columns) / cell
    v = (-turn.sin() * rows + turn.cos() * columns) / cell
    colored = (u.floor() - v.floor()).remainder_(2) == 0
    # Colors follow the floor, numbers the truncation: the cells on both sides of an axis share a number.
    used = (4 * min(h, w) / cell).to(torch.int64)
    i, j = (place.to(torch.int64).remainder_(used) for place in (u, v))
    number = grid.flatten(1).gather(1, i.mul_(grid.shape[2]).add_(j).flatten(1)).reshape(u.shape)
    return images.masked_fill((colored & (number < share))[:, None], _GRAY)


def bleach(images: Images, stars: Stars, *, exponent: float) -> Images:
    """Return images mixed with white, where the first star keeps the image; `exponent` is of its fading."""
    lengths = stars.lengths(0.25 * min(images.shape[2:]))
    weight = stars.weight(images, 0, lengths, exponent=exponent)
    return cut(images.to(torch.float64).sub_(255).mul_(weight).add_(255))


def add_stars(images: Images, stars: Stars, *, radius: float) -> Images:
    """Return images with white stars, added in turn; values are rounded to float32 between two stars.

    `radius` is the mean length of the rays, as a share of the shorter side; no ray is shorter than a pixel.
    """
    lengths = stars.lengths(radius * min(images.shape[2:])).clamp_(min=1)
    value = images.to(torch.float64)
    for star in range(stars.centers.shape[1]):
        value = value.to(torch.float32).to(torch.float64)
        value.add_(torch.sub(255, value).mul_(stars.weight(images, star, lengths, exponent=1)))
    return cut(value)


def draw_lines(
    images: Images, mean: Float[Tensor, " b"], spread: Float[Tensor, " b"], places: Float[Tensor, "b lines 3"]
) -> Images:
    """Return images with lines drawn in turn, each result rounded down to bytes.

    Args:
        images: Bytes.
        mean: Mean angle, in radians; 0 is along the columns.
        spread: Width of the range of angles, as a share of a turn.
        places: Row and column as shares of the sides, and position in the range of angles, in [0, 1].
    """
    h, w = images.shape[2:]
    angle = mean[:, None] + 2 * math.pi * spread[:, None] * (places[:, :, 2] - 0.5)
    row, column, reach = h * places[:, :, 0], w * places[:, :, 1], max(h, w)
    y0, y1 = ((row + sign * reach * angle.cos()).to(torch.int64) for sign in (-1, 1))
    x0, x1 = ((column + sign * reach * angle.sin()).to(torch.int64) for sign in (-1, 1))
    rows, columns = (place.to(torch.int64) for place in rows_and_columns(images))
    value = images.to(torch.float64)
    for line in range(places.shape[1]):
        top, left, bottom, right = (end[:, line, None, None] for end in (y0, x0, y1, x1))
        down, along = bottom - top, right - left
        length = (down * down + along * along).to(torch.float64).sqrt_().clamp_(min=1)
        distance = ((columns - left) * down - (rows - top) * along).abs_() / length
        inside = (rows >= torch.minimum(top, bottom)) & (rows <= torch.maximum(top, bottom))
        inside = inside & (columns >= torch.minimum(left, right)) & (columns <= torch.maximum(left, right))
        weight = ((1 - distance).clamp_(min=0) * inside)[:, None]
        value = value.mul_(1 - weight).add_(weight * _GRAY).floor_()
    return value.to(torch.uint8)


def _stars(key: Keys, centers: Float[Tensor, "b stars 2"]) -> Stars:
    """Return stars around these centers, with a drawn number of rays and normals for the largest number."""
    stars = centers.shape[1]
    counts = integers(key, _FEWEST_RAYS, _MOST_RAYS + 1, (stars,), stream=1)
    return Stars(centers=centers, counts=counts, spread=normal(key, (stars, _MOST_RAYS), stream=2))
