"""Weather: fog.

Every kind draws, then calculates; the two are apart so that recorded draws give the recorded result.

Source: Hendrycks, Dietterich 2019, arXiv:1903.12261, with the semantics of its CIFAR-10-C generator.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..rng import uniform
from ..types import Images, Keys
from .pixels import to_bytes, to_unit

Field = Float[Tensor, "b _ _"]
"""One channel of numbers an image."""


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
