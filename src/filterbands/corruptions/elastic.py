"""elastic_transform: a random affine map, then a smooth random displacement, each with its own interpolation.

Both steps follow the libraries that made the published sets. OpenCV 3.4 reads the image at multiples of 1/32
pixel under an affine map. SciPy before 1.6 folds a reflecting border between the outermost pixel and its
mirror image. Newer versions of both differ in 11-17 % of the values (by one or two levels) and in the
outermost pixels.

Source: Hendrycks, Dietterich 2019, arXiv:1903.12261, with the semantics of its CIFAR-10-C generator; the
idea is that of Simard, Steinkraus, Platt 2003, "Best practices for convolutional neural networks".
"""

from functools import lru_cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ..rng import uniform
from ..types import FloatImages, Images, Keys
from .pixels import (
    Constants,
    divided,
    filter_matrix,
    gaussian_taps,
    pick,
    reflect_101,
    rows_and_columns,
    to_bytes,
    to_unit,
)


def elastic_transform(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images deformed by a random affine map and a smooth random displacement.

    The parameters are the largest displacement before smoothing, the standard deviation of the smoothing, and
    the largest jitter of the three points that define the affine map; all in pixels.
    """
    strength, sigma, jitter = parameters
    points = uniform(key, (3, 2), stream=0).mul_(2 * jitter).sub_(jitter)
    fields = None
    if strength > 0:
        fields = uniform(key, (2, *images.shape[2:]), stream=1).to(torch.float64).mul_(2).sub_(1)
    return deform(images, points, fields, strength=strength, sigma=sigma)


def deform(
    images: Images,
    jitter: Float[Tensor, "b 3 2"],
    fields: Float[Tensor, "b 2 h w"] | None,
    *,
    strength: float,
    sigma: float,
) -> Images:
    """Return images moved by an affine map and then by a displacement.

    Args:
        images: Bytes.
        jitter: How far (x, y) the map moves the lower right, upper right and upper left corner of a square.
            The square extends from the middle of the image by a third of its side in each direction.
        fields: Displacements to the right and down, in (-1, 1), not yet smoothed; None for none.
        strength: Factor of the smoothed displacements.
        sigma: Standard deviation of the smoothing, in pixels.
    """
    moved = _move_affinely(to_unit(images, torch.float32), jitter.to(torch.float32))
    if fields is not None:
        down, right = (_smoothing(size, sigma).to(images.device) for size in images.shape[2:])
        displacement: Tensor = (down @ fields @ right.T).mul_(strength).to(torch.float32)
        moved = _displace(moved, displacement)
    return to_bytes(moved)


@lru_cache(maxsize=16)
def _smoothing(size: int, sigma: float) -> Float[Tensor, "{size} {size}"]:
    """Return the matrix that smooths a line, equal to `smooth` up to the last bit but one."""
    return filter_matrix(size, gaussian_taps(sigma, int(3 * sigma + 0.5)), border="reflect")


def _move_affinely(images: FloatImages, jitter: Float[Tensor, "b 3 2"]) -> FloatImages:
    """Return float32 images under the affine map that moves three corners, read at steps of 1/32 pixel."""
    h, w = images.shape[2:]
    side = min(h, w) // 3
    corner = torch.tensor(
        [[w // 2 + side, h // 2 + side], [w // 2 + side, h // 2 - side], [w // 2 - side, h // 2 - side]],
        dtype=torch.float32,
        device=images.device,
    )
    after = (corner + jitter).to(torch.float64)
    # The columns and the translation of the map, (x, y) each; its inverse gives the source of each pixel.
    right, down = (divided(after[:, one] - after[:, one + 1], 2 * side) for one in (1, 0))
    shift = after[:, 0] - right * corner[0, 0] - down * corner[0, 1]
    determinant = right[:, 0] * down[:, 1] - right[:, 1] * down[:, 0]
    scale = torch.where(determinant == 0, 0.0, 1 / determinant)
    xx, xy = down[:, 1] * scale, -down[:, 0] * scale
    yx, yy = -right[:, 1] * scale, right[:, 0] * scale
    x0, y0 = -xx * shift[:, 0] - xy * shift[:, 1], -yx * shift[:, 0] - yy * shift[:, 1]
    rows, columns = rows_and_columns(images)

    def place(across: Tensor, along: Tensor, start: Tensor) -> Int64[Tensor, "b h w"]:
        """Return coordinates in 1/32 pixel, from the 1/1024 to which OpenCV rounds each summand."""
        across, along, start = (number[:, None, None] for number in (across, along, start))
        step = (across * columns * 1024).round_().to(torch.int64)
        first = ((along * rows + start) * 1024).round_().to(torch.int64) + 16
        return (first + step) >> 5

    x, y = place(xx, xy, x0), place(yx, yy, y0)
    share_x, share_y = ((value & 31).to(torch.float32).div_(32)[:, None] for value in (x, y))
    left, top = x >> 5, y >> 5
    rows_of, columns_of = (
        [reflect_101(first + step, size) for step in (0, 1)] for first, size in ((top, h), (left, w))
    )
    return _mix_corners(images, rows_of, columns_of, share_y, share_x)


def _displace(images: FloatImages, displacement: Float[Tensor, "b 2 h w"]) -> FloatImages:
    """Return float32 images read at displaced positions, with float64 weights."""
    h, w = images.shape[2:]
    rows, columns = rows_and_columns(images)
    top, bottom, share_y = _fold(rows + displacement[:, 1].to(torch.float64), h)
    left, right, share_x = _fold(columns + displacement[:, 0].to(torch.float64), w)
    mixed = _mix_corners(
        images.to(torch.float64), [top, bottom], [left, right], share_y[:, None], share_x[:, None]
    )
    return mixed.to(torch.float32)


def _fold(
    place: Float[Tensor, "b h w"], size: int
) -> tuple[Int64[Tensor, "b h w"], Int64[Tensor, "b h w"], Float[Tensor, "b h w"]]:
    """Return the two pixels around a coordinate and the weight of the second, at SciPy's old border.

    Coordinates are folded about half a pixel outside the image. Those within a pixel of the image stay
    outside; the pixel that is missing there comes from a fold about the outermost pixel.
    """
    place = place.remainder(2 * size)
    place = torch.where(place >= size, 2 * size - 1 - place, place)
    first = place.floor()
    share, start = place - first, first.to(torch.int64)
    after = start + 1
    return start.masked_fill(start < 0, 1), after.masked_fill(after == size, size - 2), share


def _mix_corners(
    images: FloatImages,
    rows: list[Int64[Tensor, "b h w"]],
    columns: list[Int64[Tensor, "b h w"]],
    down: Float[Tensor, "b 1 h w"],
    right: Float[Tensor, "b 1 h w"],
) -> FloatImages:
    """Return bilinear mixtures of four pixels each, added from the upper left to the lower right."""
    w = images.shape[3]
    line = images.flatten(2)
    total = torch.zeros_like(images)
    for row, weight_y in zip(rows, (1 - down, down), strict=True):
        for column, weight_x in zip(columns, (1 - right, right), strict=True):
            corner = pick(line, (row * w + column).flatten(1)).reshape(images.shape)
            total.add_(corner.mul_(weight_y * weight_x))
    return total
