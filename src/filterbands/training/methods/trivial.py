"""TrivialAugment: one operation per image, at a strength drawn over a wide range."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from ... import rng
from ...types import FloatImages, Images, Keys
from . import operations
from .operations import map_values, sample_nearest, sources, to_bytes

ENHANCEMENTS = ("brightness", "color", "contrast", "sharpness")
OPERATIONS = ("identity", *operations.OPERATIONS, *ENHANCEMENTS)
"""By number; those of AugMix keep their order."""

LEVELS = 31
_TOP = LEVELS - 1
# The wide space at the highest level: degrees, pixels per pixel, pixels, distance from factor 1, bits less.
_ANGLE, _SHEAR, _SHIFT, _FACTOR, _BITS = 135, 0.99, 32, 0.99, 6
_VALUES, _MOVES, _ENHANCES = 1, 5, 10


def trivial_view(images: FloatImages, *, key: Keys) -> FloatImages:
    """Return each image after one of 14 operations, at one of 31 levels; all are equally likely.

    The wide space: rotations up to 135 degrees, shears up to 0.99, shifts up to 32 pixels whatever the
    image's size; brightness, color, contrast and sharpness by factors of 0.01 to 1.99; 8 to 2 bits;
    inversion of values from a threshold on, 256 to 0; `autocontrast`, `equalize`, and the image as it is.
    Moved pixels are nearest neighbors, and those from outside are black.

    Args:
        images: NCHW in [0, 1]; operations see them as bytes.
        key: One per image.

    Deviations: as a method it follows crop and flip, which it precedes in the public code, and no square is
    cut out afterwards, which the public code does on CIFAR. Factors lie evenly on both sides of 1, where the
    public code has 31 from 0.01 to 2. Bits are rounded, and angles are not cut to whole degrees. Other
    channels than red, green and blue are as gray as their mean.

    Source: Mueller, Hutter 2021, arXiv:2103.10158, section 3, with the space "wide" as its public code has it
    (github.com/automl/trivialaugment at d913075).

    >>> trivial_view(torch.rand(2, 3, 8, 8), key=rng.keys(0, "doc", index=torch.arange(2))).shape
    torch.Size([2, 3, 8, 8])
    """
    number = rng.integers(key, 0, len(OPERATIONS), (), stream=0)
    level = rng.integers(key, 0, LEVELS, (), stream=1)
    sign = 1 - 2 * rng.integers(key, 0, 2, (), stream=2)
    with torch.autocast(images.device.type, enabled=False):
        changed = transform(to_bytes(images), number, sign * level)
    identity = (number == 0)[:, None, None, None]
    return torch.where(identity, images, changed.to(images.dtype) / 255)


def transform(images: Images, number: Int64[Tensor, " b"], level: Int64[Tensor, " b"]) -> Images:
    """Return the images after their own of `OPERATIONS`, at levels from -30 to 30.

    At level 0 all but `autocontrast` and `equalize`, which have none, leave an image as it is. Operations
    without a direction take the level's size.
    """
    out = images.clone()
    bounds = (_VALUES, _MOVES, _ENHANCES, len(OPERATIONS))
    for change, first, end in zip((_change, _move, _enhance), bounds[:-1], bounds[1:], strict=True):
        chosen = torch.nonzero((number >= first) & (number < end)).squeeze(1)
        out[chosen] = change(images[chosen], number[chosen], level[chosen])
    return out


def _change(images: Images, number: Int64[Tensor, " b"], level: Int64[Tensor, " b"]) -> Images:
    # In whole numbers: a product of floats may fall below the one that it stands for.
    size = level.abs()
    bits, threshold = 8 - (size * _BITS + _TOP // 2) // _TOP, 256 - size * 256 // _TOP
    return map_values(images, number - _VALUES, bits=bits, threshold=threshold)


def _move(images: Images, number: Int64[Tensor, " b"], level: Int64[Tensor, " b"]) -> Images:
    shift = (level * _SHIFT).div(_TOP, rounding_mode="trunc").float()
    x, y, inside = sources(
        number - _VALUES,
        *images.shape[2:],
        angle=level * (math.radians(_ANGLE) / _TOP),
        shear=level * (_SHEAR / _TOP),
        shift=(shift, shift),
    )
    return sample_nearest(images, x, y) * inside[:, None]


def _enhance(images: Images, number: Int64[Tensor, " b"], level: Int64[Tensor, " b"]) -> Images:
    """Return the images moved away from, or towards, their black, gray, even or smooth form."""
    gray = _gray(images)
    even = (gray.double().mean(dim=(1, 2, 3), keepdim=True) + 0.5).floor()
    kind = (number - _ENHANCES)[:, None, None, None]
    plain = torch.where(kind == 1, gray, torch.where(kind == 2, even, 0)).float()
    plain = torch.where(kind == 3, _smooth(images), plain)
    # Rounded once, as PIL does: products are cut to integers.
    factor = (1 + level.double() * (_FACTOR / _TOP)).float()[:, None, None, None]
    return (plain + factor * (images - plain)).clamp_(0, 255).to(torch.uint8)


def _gray(images: Images) -> Int64[Tensor, "b 1 h w"]:
    """Return the luma of red, green and blue in PIL's integer arithmetic; of other channels the mean."""
    values = images.long()
    if images.shape[1] != 3:
        return (values.sum(dim=1, keepdim=True) * 2 + images.shape[1]) // (2 * images.shape[1])
    red, green, blue = (values[:, channel, None] for channel in range(3))
    luma: Tensor = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return luma


def _smooth(images: Images) -> Float[Tensor, "b c h w"]:
    """Return each pixel's mean with its 8 neighbors, itself counted 5 times; the border stays as it is."""
    smooth = images.float()
    if min(images.shape[2:]) > 2:
        around = F.avg_pool2d(smooth, 3, stride=1, divisor_override=1)
        inner = smooth[:, :, 1:-1, 1:-1]
        inner.copy_(((around + 4 * inner) / 13).round())
    return smooth
