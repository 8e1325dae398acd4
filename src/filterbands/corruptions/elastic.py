"""elastic_transform: a random affine map, then a smooth random displacement, each with its own interpolation.

Both steps follow the libraries that made the published sets: OpenCV 3.4, whose affine maps read the image
at 1/32 pixel, and SciPy before 1.6, whose reflecting border has a fold of its own between the outermost
pixel and its mirror image. Newer versions of either differ in 11-17 % of the values (by a level or two)
and in the outermost pixels.

Source: Hendrycks, Dietterich 2019, arXiv:1903.12261, with the semantics of its CIFAR-10-C generator; the
idea is of Simard, Steinkraus, Platt 2003, "Best practices for convolutional neural networks".
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ..rng import uniform
from ..types import FloatImages, Images, Keys
from .pixels import pick, smoothing_matrix, to_bytes, to_unit


def elastic_transform(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images under a random affine map and a smooth random displacement.

    Args:
        images: Bytes.
        parameters: Largest displacement before smoothing, its smoothing's standard deviation, and the
            largest jitter of the three points that make the affine map; all in pixels.
        key: One an image.
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
        jitter: How far (x, y) the map moves the lower right, upper right and upper left corner of a square
            about the middle, a third of the image to each side.
        fields: Displacements to the right and down, in (-1, 1), not yet smoothed; None for none.
        strength: What the smoothed displacements are multiplied by.
        sigma: Standard deviation of the smoothing, in pixels.
    """
    moved = _move_affinely(to_unit(images, torch.float32), jitter.to(torch.float32))
    if fields is not None:
        down, right = (
            smoothing_matrix(size, sigma, border="reflect", truncate=3).to(images.device)
            for size in images.shape[2:]
        )
        displacement: Tensor = (down @ fields @ right.T).mul_(strength).to(torch.float32)
        moved = _displace(moved, displacement)
    return to_bytes(moved)


def _move_affinely(images: FloatImages, jitter: Float[Tensor, "b 3 2"]) -> FloatImages:
    """Return float32 images under the affine map that moves three corners, read at 1/32 pixel."""
    h, w = images.shape[2:]
    side = min(h, w) // 3
    corner = torch.tensor(
        [[w // 2 + side, h // 2 + side], [w // 2 + side, h // 2 - side], [w // 2 - side, h // 2 - side]],
        dtype=torch.float32,
        device=images.device,
    )
    after = (corner + jitter).to(torch.float64)
    # The map's columns and translation, (x, y) each; its inverse says where a pixel's value comes from.
    right, down = (after[:, 1] - after[:, 2]) / (2 * side), (after[:, 0] - after[:, 1]) / (2 * side)
    shift = after[:, 0] - right * corner[0, 0] - down * corner[0, 1]
    determinant = right[:, 0] * down[:, 1] - right[:, 1] * down[:, 0]
    scale = torch.where(determinant == 0, 0.0, 1 / determinant)
    xx, xy = down[:, 1] * scale, -down[:, 0] * scale
    yx, yy = -right[:, 1] * scale, right[:, 0] * scale
    x0, y0 = -xx * shift[:, 0] - xy * shift[:, 1], -yx * shift[:, 0] - yy * shift[:, 1]
    columns = torch.arange(w, device=images.device, dtype=torch.float64)
    rows = torch.arange(h, device=images.device, dtype=torch.float64)[None]

    def place(across: Tensor, along: Tensor, start: Tensor) -> Int64[Tensor, "b h w"]:
        """Coordinates in 1/32 pixel, from the 1/1024 to which OpenCV rounds each summand."""
        step = (across[:, None] * columns * 1024).round_().to(torch.int64)
        first = ((along[:, None] * rows + start[:, None]) * 1024).round_().to(torch.int64) + 16
        return (first[:, :, None] + step[:, None]) >> 5

    x, y = place(xx, xy, x0), place(yx, yy, y0)
    share_x, share_y = ((value & 31).to(torch.float32).div_(32)[:, None] for value in (x, y))
    left, top = x >> 5, y >> 5
    rows_of = [_reflect_101(top + step, h) for step in (0, 1)]
    columns_of = [_reflect_101(left + step, w) for step in (0, 1)]
    return _mix_corners(images, rows_of, columns_of, share_y, share_x)


def _displace(images: FloatImages, displacement: Float[Tensor, "b 2 h w"]) -> FloatImages:
    """Return float32 images read at displaced positions, by float64 weights."""
    h, w = images.shape[2:]
    rows = torch.arange(h, device=images.device)[:, None] + displacement[:, 1].to(torch.float64)
    columns = torch.arange(w, device=images.device) + displacement[:, 0].to(torch.float64)
    top, bottom, share_y = _fold(rows, h)
    left, right, share_x = _fold(columns, w)
    mixed = _mix_corners(
        images.to(torch.float64), [top, bottom], [left, right], share_y[:, None], share_x[:, None]
    )
    return mixed.to(torch.float32)


def _fold(
    place: Float[Tensor, "b h w"], size: int
) -> tuple[Int64[Tensor, "b h w"], Int64[Tensor, "b h w"], Float[Tensor, "b h w"]]:
    """Return the two pixels a coordinate lies between and the second's weight, at SciPy's old border.

    Coordinates are folded about half a pixel outside the image, which leaves those within a pixel of it
    outside; the pixel that is missing there is taken from a fold about the outermost pixel.
    """
    place = place.remainder(2 * size)
    place = torch.where(place >= size, 2 * size - 1 - place, place)
    first = place.floor()
    share, start = place - first, first.to(torch.int64)
    after = start + 1
    return start.masked_fill(start < 0, 1), after.masked_fill(after == size, size - 2), share


def _reflect_101(index: Int64[Tensor, "b h w"], size: int) -> Int64[Tensor, "b h w"]:
    period = 2 * size - 2
    index = index.remainder(period)
    return torch.minimum(index, period - index)


def _mix_corners(
    images: FloatImages,
    rows: list[Int64[Tensor, "b h w"]],
    columns: list[Int64[Tensor, "b h w"]],
    down: Float[Tensor, "b 1 h w"],
    right: Float[Tensor, "b 1 h w"],
) -> FloatImages:
    """Return bilinear mixtures of four pixels each, from the upper left to the lower right."""
    w = images.shape[3]
    line = images.flatten(2)
    total = torch.zeros_like(images)
    for row, weight_y in zip(rows, (1 - down, down), strict=True):
        for column, weight_x in zip(columns, (1 - right, right), strict=True):
            corner = pick(line, (row * w + column).flatten(1)).reshape(images.shape)
            total.add_(corner.mul_(weight_y * weight_x))
    return total
