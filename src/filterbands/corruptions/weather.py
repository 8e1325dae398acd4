"""Weather: snow, frost, fog.

Source: Hendrycks, Dietterich 2019, arXiv:1903.12261, with the semantics of its CIFAR-10-C generator.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..rng import integers, normal, uniform
from ..types import FloatImages, Images, Keys
from .blur import smear, zoom_taps
from .pixels import Constants, cut, pick, to_bytes, to_unit
from .textures import find_textures, load_textures

Field = Float[Tensor, "b _ _"]
"""One channel of numbers per image."""


def snow(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return whitened images under flakes that streak downwards at an angle of up to 45 degrees.

    The parameters are seven numbers: mean and standard deviation of the layer of flakes, its enlargement, the
    threshold of a flake, radius and standard deviation of the streaks, and the weight of the image in its
    mixture with a whitened copy.
    """
    mean, deviation = parameters[:2]
    layer = normal(key, (1, *images.shape[2:]), stream=0).to(torch.float64).mul_(deviation).add_(mean)
    degrees = uniform(key, (), stream=1).to(torch.float64).mul_(90).sub_(135)
    return cover_with_snow(images, layer, degrees, parameters)


def frost(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images mixed with a random part of one of five pictures of frost.

    The parameters are the weight of the image, the weight of the frost, and the scale of the pictures.

    Raises:
        FileNotFoundError: The pictures are not available.
    """
    image_weight, frost_weight, scale = parameters
    h, w = images.shape[2:]
    pixels, shapes = (table.to(images.device) for table in load_textures(find_textures(), scale, h, w))
    # 2^30 equally likely numbers are scaled to each range, with a bias below 2^-20.
    drawn = integers(key, 0, 1 << 30, (3,))
    file = drawn[:, 0] * len(shapes) >> 30
    start, height, width = shapes[file].unbind(1)
    row, column = drawn[:, 1] * (height - h) >> 30, drawn[:, 2] * (width - w) >> 30
    place = (start + row * width + column)[:, None, None]
    place = place + torch.arange(h, device=images.device)[:, None] * width[:, None, None]
    place = place + torch.arange(w, device=images.device)
    ice = pick(pixels[None], place.reshape(1, -1)).reshape(3, len(images), h, w).transpose(0, 1)
    return mix_with_frost(images, ice, image_weight=image_weight, frost_weight=frost_weight)


def fog(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images behind a plasma fractal, darkened so that the maximum stays.

    The side of the fractal is the next power of two. The parameters are the strength of the fog and the
    factor by which the amplitude of the fractal falls per octave.
    """
    strength, decay = parameters
    side = 1 << (max(images.shape[2:]) - 1).bit_length()
    draws = uniform(key, (side * side - 1,)).to(torch.float64).mul_(2).sub_(1)
    fields: list[Tensor] = []
    amplitude, step, used = 100.0, side, 0
    while step >= 2:
        cells = side // step
        octave = draws[:, used : used + 3 * cells * cells].reshape(-1, 3, cells, cells) * amplitude
        fields.extend(octave.unbind(1))
        used, step, amplitude = used + 3 * cells * cells, step // 2, amplitude / decay
    return cover_with_fog(images, plasma(fields, decay=decay), strength=strength)


def plasma(fields: Sequence[Field], *, decay: float) -> Float[Tensor, "b side side"]:
    """Return a plasma fractal in [0, 1] on a periodic square, by the diamond-square algorithm.

    Args:
        fields: Three per octave, from coarse to fine: the noise of the centers of the cells, of the
            horizontal midpoints and of the vertical midpoints, uniform on (-amplitude, amplitude).
        decay: The amplitude starts at 100 and is divided by this number per octave. It multiplies the noise
            once more, as in the original, so that the noise is proportional to its square.
    """
    octaves = len(fields) // 3
    side = 1 << octaves
    grid = torch.zeros(len(fields[0]), side, side, dtype=fields[0].dtype, device=fields[0].device)
    amplitude, step = 100.0, side
    for octave in range(octaves):
        center, across, down = (field * amplitude for field in fields[3 * octave : 3 * octave + 3])
        half = step // 2
        corners = grid[:, ::step, ::step]
        rows = corners + corners.roll(-1, 1)
        centers = (rows + rows.roll(-1, 2)).div_(4).add_(center)
        beside = (centers + centers.roll(1, 1)) + (corners + corners.roll(-1, 2))
        above = (centers + centers.roll(1, 2)) + rows
        grid[:, half::step, half::step] = centers
        grid[:, ::step, half::step] = beside.div_(4).add_(across)
        grid[:, half::step, ::step] = above.div_(4).add_(down)
        step, amplitude = half, amplitude / decay
    grid -= grid.amin((1, 2), keepdim=True)
    return grid.div_(grid.amax((1, 2), keepdim=True))


def cover_with_fog(images: Images, fog_map: Field, *, strength: float) -> Images:
    """Return images plus `strength` times the upper left of the map, scaled so that the maximum stays."""
    unit = to_unit(images, fog_map.dtype)
    largest = unit.amax((1, 2, 3), keepdim=True)
    h, w = images.shape[2:]
    unit.add_(fog_map[:, None, :h, :w] * strength)
    return to_bytes(unit.mul_(largest).div_(largest + strength))


def cover_with_snow(
    images: Images,
    layer: Float[Tensor, "b 1 h w"],
    degrees: Float[Tensor, " b"],
    parameters: Constants,
) -> Images:
    """Return images under a layer of snow.

    Args:
        images: Bytes.
        layer: Normal noise that has its mean and standard deviation.
        degrees: The direction from which the streaks come; 90 is below.
        parameters: As for `snow`.
    """
    _, _, zoom, threshold, radius, sigma, share = parameters
    for axis in (2, 3):
        layer = _stretch(layer, axis, zoom)
    flakes = to_bytes(torch.where(layer < threshold, 0.0, layer))
    streaks = to_unit(smear(flakes, degrees, radius=radius, sigma=sigma))
    unit = to_unit(images, torch.float32)
    red, green, blue = unit.unbind(1)
    gray = (red * 0.299).add_(green * 0.587).add_(blue * 0.114)
    white = torch.maximum(unit, gray.mul_(1.5).add_(0.5)[:, None])
    whitened = unit.mul_(share).add_(white.mul_(1 - share)).to(torch.float64)
    return to_bytes(whitened.add_(streaks).add_(streaks.flip(2, 3)))


def mix_with_frost(images: Images, ice: Images, *, image_weight: float, frost_weight: float) -> Images:
    """Return the weighted sum of images and ice as bytes; the weights may sum to more than 1."""
    return cut((images.to(torch.float64) * image_weight).add_(ice.to(torch.float64).mul_(frost_weight)))


def _stretch(layer: FloatImages, axis: int, factor: float) -> FloatImages:
    """Return a layer that is enlarged about its middle along one axis."""
    upper, lower, share = (list(column) for column in zip(*zoom_taps(layer.shape[axis], factor), strict=True))
    shape = [-1, 1] if axis == 2 else [-1]
    weight = torch.tensor(share, dtype=layer.dtype, device=layer.device).reshape(shape)
    first, second = (
        layer.index_select(axis, torch.tensor(index, device=layer.device)) for index in (upper, lower)
    )
    return first.mul_(1 - weight).add_(second.mul_(weight))
