"""Weather: snow, frost, fog.

Every kind draws, then calculates; the two are apart so that recorded draws give the recorded result.

Source: Hendrycks, Dietterich 2019, arXiv:1903.12261, with the semantics of its CIFAR-10-C generator.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..rng import integers, normal, uniform
from ..types import FloatImages, Images, Keys
from .blur import smear, zoom_taps
from .pixels import pick, to_bytes, to_unit
from .textures import find_textures, load_textures

Field = Float[Tensor, "b _ _"]
"""One channel of numbers an image."""


def snow(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images whitened, under flakes that streak downwards at an angle of up to 45 degrees.

    Args:
        images: Bytes.
        parameters: Mean and standard deviation of the layer of flakes, how much it is enlarged, the
            threshold below which there is no flake, radius and standard deviation of the streaks, and the
            image's share in its mixture with a whitened copy.
        key: One an image.
    """
    mean, deviation = parameters[:2]
    layer = normal(key, (1, *images.shape[2:]), stream=0).to(torch.float64).mul_(deviation).add_(mean)
    degrees = uniform(key, (), stream=1).to(torch.float64).mul_(90).sub_(135)
    return cover_with_snow(images, layer, degrees, parameters)


def frost(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images mixed with a random part of one of five pictures of frost.

    Args:
        images: Bytes.
        parameters: Weight of the image, weight of the frost, and the scale of the pictures.
        key: One an image.

    Raises:
        FileNotFoundError: The pictures are not at hand.
    """
    image_weight, frost_weight, scale = parameters
    h, w = images.shape[2:]
    pixels, shapes = (table.to(images.device) for table in load_textures(find_textures(), scale, h, w))
    # 2^30 equally likely numbers, brought to each range by a product: a bias below 2^-20.
    drawn = integers(key, 0, 1 << 30, (3,))
    file = drawn[:, 0] * len(shapes) >> 30
    start, height, width = shapes[file].unbind(1)
    row, column = drawn[:, 1] * (height - h) >> 30, drawn[:, 2] * (width - w) >> 30
    place = (start + row * width + column)[:, None, None]
    place = place + torch.arange(h, device=images.device)[:, None] * width[:, None, None]
    place = place + torch.arange(w, device=images.device)
    ice = pick(pixels[None], place.reshape(1, -1)).reshape(3, len(images), h, w).transpose(0, 1)
    return mix_with_frost(images, ice, image_weight=image_weight, frost_weight=frost_weight)


def fog(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images behind a plasma fractal as wide as the next power of two, darkened to keep the maximum.

    Args:
        images: Bytes.
        parameters: Strength of the fog, and the factor by which the fractal's wibble falls an octave.
        key: One an image.
    """
    strength, decay = parameters
    side = 1 << (max(images.shape[2:]) - 1).bit_length()
    draws = uniform(key, (side * side - 1,)).to(torch.float64).mul_(2).sub_(1)
    fields: list[Tensor] = []
    wibble, step, used = 100.0, side, 0
    while step >= 2:
        cells = side // step
        octave = draws[:, used : used + 3 * cells * cells].reshape(-1, 3, cells, cells) * wibble
        fields.extend(octave.unbind(1))
        used, step, wibble = used + 3 * cells * cells, step // 2, wibble / decay
    return cover_with_fog(images, plasma(fields, decay=decay), strength=strength)


def plasma(fields: Sequence[Field], *, decay: float) -> Float[Tensor, "b side side"]:
    """Return a plasma fractal in [0, 1] on a periodic square, by diamond and square.

    Args:
        fields: An octave after the other, from coarse to fine: the noise of the cells' centres, of the
            horizontal and of the vertical midpoints, each uniform on (-wibble, wibble).
        decay: The wibble begins at 100 and is divided by this each octave. It multiplies its noise once
            more, so that the amplitude is its square.
    """
    octaves = len(fields) // 3
    side = 1 << octaves
    grid = torch.zeros(len(fields[0]), side, side, dtype=fields[0].dtype, device=fields[0].device)
    wibble, step = 100.0, side
    for octave in range(octaves):
        centre, across, down = (field * wibble for field in fields[3 * octave : 3 * octave + 3])
        half = step // 2
        corners = grid[:, ::step, ::step]
        rows = corners + corners.roll(-1, 1)
        centres = (rows + rows.roll(-1, 2)).div_(4).add_(centre)
        beside = (centres + centres.roll(1, 1)) + (corners + corners.roll(-1, 2))
        above = (centres + centres.roll(1, 2)) + rows
        grid[:, half::step, half::step] = centres
        grid[:, ::step, half::step] = beside.div_(4).add_(across)
        grid[:, half::step, ::step] = above.div_(4).add_(down)
        step, wibble = half, wibble / decay
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
    parameters: tuple[float, ...],
) -> Images:
    """Return images under a layer of snow.

    Args:
        images: Bytes.
        layer: Normal noise, mean and standard deviation applied.
        degrees: The direction from which the streaks come, 90 being below.
        parameters: As for `snow`.
    """
    _, _, zoom, threshold, radius, sigma, share = parameters
    for axis in (2, 3):
        layer = _stretch(layer, axis, zoom)
    flakes = to_bytes(torch.where(layer < threshold, 0.0, layer))
    streaks = smear(flakes, degrees, radius=radius, sigma=sigma).to(torch.float64).div_(255)
    unit = to_unit(images, torch.float32)
    red, green, blue = unit.unbind(1)
    grey = (red * 0.299).add_(green * 0.587).add_(blue * 0.114)
    white = torch.maximum(unit, grey.mul_(1.5).add_(0.5)[:, None])
    whitened = unit.mul_(share).add_(white.mul_(1 - share)).to(torch.float64)
    return to_bytes(whitened.add_(streaks).add_(streaks.flip(2, 3)))


def mix_with_frost(images: Images, ice: Images, *, image_weight: float, frost_weight: float) -> Images:
    """Return the weighted sum of images and ice, cut to bytes; the weights may sum to more than 1."""
    mixed = (images.to(torch.float64) * image_weight).add_(ice.to(torch.float64).mul_(frost_weight))
    return mixed.clamp_(0, 255).to(torch.uint8)


def _stretch(layer: FloatImages, axis: int, factor: float) -> FloatImages:
    """Return a layer enlarged about its middle along one axis."""
    upper, lower, share = (list(column) for column in zip(*zoom_taps(layer.shape[axis], factor), strict=True))
    shape = [-1, 1] if axis == 2 else [-1]
    weight = torch.tensor(share, dtype=layer.dtype, device=layer.device).reshape(shape)
    first, second = (
        layer.index_select(axis, torch.tensor(index, device=layer.device)) for index in (upper, lower)
    )
    return first.mul_(1 - weight).add_(second.mul_(weight))
