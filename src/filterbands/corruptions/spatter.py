"""spatter: drops of water or mud, from OpenCV's edges, distances and histogram in batched integers.

Source: Hendrycks, Dietterich 2019, arXiv:1903.12261, with the semantics of its CIFAR-10-C generator.
Edges: Canny 1986, "A computational approach to edge detection". Distances: Borgefors 1986, "Distance
transformations in digital images", 5 x 5 mask. Both as OpenCV 3.4 calculates them.
"""

from functools import partial

import torch
from jaxtyping import Bool, Float, Int32, UInt8
from torch import Tensor

from ..rng import normal
from ..types import Images, Keys
from .pixels import Constants, extend, smooth, to_bytes, to_unit

Layer = Float[Tensor, "b 1 h w"]
ByteLayer = UInt8[Tensor, "b 1 h w"]

_WATER = (175 / 255, 238 / 255, 238 / 255)
_MUD = (63 / 255, 42 / 255, 20 / 255)
# Steps of the 5 x 5 distance mask in 1/65536 pixel: straight, diagonal, knight's move.
_STRAIGHT, _DIAGONAL, _KNIGHT = 65536, 91750, 143976
_FARTHEST = 20


def spatter(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images under drops of water (kind 0) or mud (kind 1).

    The parameters are six numbers: mean and standard deviation of the layer of noise that makes the drops,
    the standard deviation of its smoothing, the threshold of a drop, the strength of water or the standard
    deviation that softens mud, and the kind.
    """
    mean, deviation = parameters[:2]
    noise = normal(key, (1, *images.shape[2:])).to(torch.float64).mul_(deviation).add_(mean)
    return cover_with_drops(images, noise, parameters)


def cover_with_drops(images: Images, noise: Layer, parameters: Constants) -> Images:
    """Return images under the drops of a layer of normal noise that has its mean and standard deviation."""
    _, _, sigma, threshold, strength, kind = parameters
    layer = smooth(noise, sigma, border="replicate")
    layer = torch.where(layer < threshold, 0.0, layer)
    unit = to_unit(images, torch.float32)
    if kind == 0:
        # Values wrap at 255 instead of being clamped: brighter pixels restart from black, as in the original.
        drops = layer.mul(255).to(torch.int32).bitwise_and_(255).to(torch.uint8)
        mask = drops.to(torch.float32).mul_(relief(drops).to(torch.float32))
        largest = mask.amax((1, 2, 3), keepdim=True)
        mask.div_(torch.where(largest == 0, 1.0, largest)).mul_(strength)
        return to_bytes(unit.add_(mask * unit.new_tensor(_WATER)[:, None, None]))
    mask = smooth((layer > threshold).to(torch.float32), strength, border="replicate")
    mask = torch.where(mask < 0.8, 0.0, mask)
    return to_bytes(unit.mul_(1 - mask).add_(mask * unit.new_tensor(_MUD)[:, None, None]))


def relief(drops: ByteLayer) -> ByteLayer:
    """Return the bright and dark sides of drops, calculated from the distance to their edges."""
    far = distances(edges(drops)).to(torch.float64).div_(_STRAIGHT).clamp_(max=_FARTHEST)
    height = _add_neighbors(far).mul_(1 / 9).to(torch.float32).to(torch.uint8)
    wide = extend(equalize(height).to(torch.int32), 1, "reflect-101")
    shifted = partial(_shifted, wide)
    slope = shifted(1, 1) - shifted(-1, -1)
    slope = slope.mul_(2) + shifted(0, 1) + shifted(1, 0) + shifted(0, 0) - shifted(-1, 0) - shifted(0, -1)
    # A sum of nine bytes over nine never ends in a half, so that adding a half rounds as in the original.
    return _add_neighbors(slope.clamp_(0, 255)).add_(4).floor_divide_(9).to(torch.uint8)


def edges(layer: ByteLayer, *, low: int = 50, high: int = 150) -> Bool[Tensor, "b 1 h w"]:
    """Return Canny's edges: thin ridges of the gradient above `low`, in chains that exceed `high` somewhere.

    Gradients are Sobel's 3 x 3 with a replicated border. Their size is the sum of the absolute values.
    """
    wide = extend(layer.to(torch.int32), 1, "replicate")
    rows = wide[:, :, :-2] + 2 * wide[:, :, 1:-1] + wide[:, :, 2:]
    columns = wide[:, :, :, :-2] + 2 * wide[:, :, :, 1:-1] + wide[:, :, :, 2:]
    right, down = rows[:, :, :, 2:] - rows[:, :, :, :-2], columns[:, :, 2:] - columns[:, :, :-2]
    across, along = right.abs(), down.abs() << 15
    size = right.abs() + down.abs()
    beside = partial(_shifted, torch.nn.functional.pad(size, (1, 1, 1, 1)))
    # Tangents of 22.5 and 67.5 degrees in units of 1/32768; the second is the first plus 2.
    flat = across * 13573
    steep = flat + (across << 16)
    is_horizontal, is_vertical = along < flat, along > steep
    falling = (right ^ down) >= 0
    ridge = torch.where(
        is_horizontal,
        (size > beside(0, -1)) & (size >= beside(0, 1)),
        torch.where(
            is_vertical,
            (size > beside(-1, 0)) & (size >= beside(1, 0)),
            torch.where(
                falling,
                (size > beside(-1, -1)) & (size > beside(1, 1)),
                (size > beside(-1, 1)) & (size > beside(1, -1)),
            ),
        ),
    )
    ridge &= size > low
    found = ridge & (size > high)
    while True:
        grown = torch.nn.functional.max_pool2d(found.to(torch.float32), 3, 1, 1).to(torch.bool) & ridge
        if torch.equal(grown, found):
            return found
        found = grown


def distances(found: Bool[Tensor, "b 1 h w"]) -> Int32[Tensor, "b 1 h w"]:
    """Return the distance to the nearest edge in 1/65536 pixel; a very large number without any edge."""
    b, _, h, w = found.shape
    # Rows are the first axis, so that one row of all images is one block. The margin of two pixels stays far.
    grid = torch.full((h + 4, b, w + 4), 1 << 28, dtype=torch.int32, device=found.device)
    grid[2:-2, :, 2:-2].masked_fill_(found[:, 0].transpose(0, 1), 0)
    ramp = torch.arange(0, w * _STRAIGHT, _STRAIGHT, dtype=torch.int32, device=found.device)
    steps = [(1, 0, _STRAIGHT), (1, -1, _DIAGONAL), (1, 1, _DIAGONAL)]
    steps += [(up, across, _KNIGHT) for up, across in ((1, -2), (1, 2), (2, -1), (2, 1))]
    # The two passes of the mask: downwards, then upwards on the reversed grid.
    for _ in range(2):
        for y in range(2, h + 2):
            row = grid[y, :, 2:-2]
            for up, across, length in steps:
                torch.minimum(row, grid[y - up, :, 2 + across : 2 + across + w] + length, out=row)
            row.copy_((row - ramp).cummin(1).values.add_(ramp))
        grid = grid.flip(0, 2)
    return grid[2:-2, :, 2:-2].transpose(0, 1)[:, None]


def equalize(layer: ByteLayer) -> ByteLayer:
    """Return bytes equalized over 0 to 255 by their histogram, in float32; a constant layer is unchanged."""
    b, _, h, w = layer.shape
    line = layer.flatten(1).to(torch.int64)
    rows = torch.arange(b, device=layer.device)[:, None] * 256
    histogram = torch.bincount((line + rows).flatten(), minlength=256 * b).reshape(b, 256)
    lowest = line.amin(1, keepdim=True)
    first = histogram.gather(1, lowest)
    rest = h * w - first
    below = (histogram.cumsum(1) - first).clamp_(min=0)
    scale = (255 / rest.clamp(min=1).to(torch.float64)).to(torch.float32)
    table = below.to(torch.float32).mul_(scale).round_().clamp_(0, 255).to(torch.uint8)
    table = torch.where(rest == 0, torch.arange(256, device=layer.device).to(torch.uint8), table)
    return table.gather(1, line).reshape(layer.shape)


def _shifted(wide: Tensor, y: int, x: int) -> Tensor:
    """Return the pixels y rows down and x columns to the right, from images with a margin of one pixel."""
    h, w = wide.shape[2:]
    return wide[:, :, 1 + y : h - 1 + y, 1 + x : w - 1 + x]


def _add_neighbors(layer: Tensor) -> Tensor:
    """Return the sum over 3 x 3 pixels, border reflect-101."""
    wide = extend(layer, 1, "reflect-101")
    rows = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
    return rows[:, :, :, :-2] + rows[:, :, :, 1:-1] + rows[:, :, :, 2:]
