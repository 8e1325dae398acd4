"""Noise: gaussian_noise, shot_noise, impulse_noise, speckle_noise.

Every kind draws, then calculates; the two are apart so that recorded draws give the recorded result.

Source: Hendrycks, Dietterich 2019, arXiv:1903.12261, with the semantics of its CIFAR-10-C generator.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Int32, UInt8
from torch import Tensor

from ..rng import bits, normal
from ..types import FloatImages, Images, Keys
from .pixels import to_bytes, to_unit


def gaussian_noise(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images plus normal noise, independent for every pixel and channel.

    Args:
        images: Bytes.
        parameters: Standard deviation, in units of the full range.
        key: One an image.
    """
    (sigma,) = parameters
    return add_noise(images, normal(key, tuple(images.shape[1:])).mul_(sigma))


def shot_noise(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images counted photon by photon: Poisson counts of mean proportional to the value.

    Args:
        images: Bytes.
        parameters: Photons that make full range.
        key: One an image.
    """
    (photons,) = parameters
    threshold, outcome = (table.to(images.device) for table in photon_table(photons))
    columns = len(threshold) // 256
    half = _half_words(images, key)
    place = (half & (columns - 1)).add_(images.to(torch.int32).mul_(columns)).flatten()
    kept = (half >> columns.bit_length() - 1).flatten() < threshold.index_select(0, place)
    # The second half of `outcome` holds what a column gives when it is not kept.
    return outcome.index_select(0, place.add_((~kept).to(torch.int32).mul_(len(threshold)))).reshape(
        images.shape
    )


def impulse_noise(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images with a share of all values, each channel by itself, set to black or white evenly.

    Args:
        images: Bytes.
        parameters: Share of the values that is replaced.
        key: One an image.
    """
    (share,) = parameters
    half = _half_words(images, key)
    # The top 31 bits say whether, the last one says with what.
    replaced = (half >> 1) < round((share - 0.5) * 2**31)
    return replace_values(images, replaced, salt=(half & 1).to(torch.bool))


def speckle_noise(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images plus normal noise in proportion to each value.

    Args:
        images: Bytes.
        parameters: Standard deviation at full range, in units of the full range.
        key: One an image.
    """
    (sigma,) = parameters
    return add_noise_in_proportion(images, normal(key, tuple(images.shape[1:])).mul_(sigma))


def add_noise(images: Images, noise: FloatImages) -> Images:
    """Return images plus noise, calculated in the noise's precision."""
    return to_bytes(to_unit(images, noise.dtype).add_(noise))


def replace_values(
    images: Images, replaced: Bool[Tensor, "b c h w"], *, salt: Bool[Tensor, "b c h w"]
) -> Images:
    """Return images with the replaced values 255 where `salt`, else 0."""
    return torch.where(replaced, salt.to(torch.uint8).mul_(255), images)


def add_noise_in_proportion(images: Images, noise: FloatImages) -> Images:
    """Return images plus each value times its noise, calculated in the noise's precision."""
    unit = to_unit(images, noise.dtype)
    return to_bytes(torch.addcmul(unit, unit, noise))


def expose(counts: Tensor, *, photons: float) -> UInt8[Tensor, "..."]:
    """Return the byte that each photon count gives when `photons` make full range."""
    return (counts.to(torch.float64) / photons).clamp_(0, 1).mul_(255).to(torch.uint8)


@lru_cache(maxsize=16)
def photon_table(photons: float) -> tuple[Int32[Tensor, " n"], UInt8[Tensor, " 2*n"]]:
    """Return Walker's alias table of the Poisson law of each byte, with what each entry gives.

    Each byte has the same power of two of columns, each a count. A uniform number picks a column, its
    remaining bits, as a signed integer, are below the column's threshold or call its alias. Probabilities
    are right to 2^-32; counts further than 8 standard deviations (and 12 photons) from the mean are left out.

    Source: Walker 1977, "An efficient method for generating discrete random variables with general
    distributions" (ACM TOMS 3).
    """
    mean = np.arange(256) / 255 * photons
    reach = 8 * np.sqrt(mean) + 12
    first = np.maximum(np.floor(mean - reach), 0).astype(np.int64)
    columns = 1 << int(np.max(mean + reach - first)).bit_length()
    counts = first[:, None] + np.arange(columns)
    log_factorial = torch.lgamma(torch.from_numpy(counts).double() + 1).numpy()
    log_mean = np.log(np.maximum(mean, 1e-300))[:, None]
    weight = np.exp(counts * log_mean - mean[:, None] - log_factorial)
    weight *= columns / weight.sum(1, keepdims=True)
    kept, alias = np.ones_like(weight), counts.copy()
    rows = np.arange(256)
    # Each step fills up the emptiest open column from the fullest, in all 256 rows at once.
    low_weight, high_weight = weight.copy(), weight
    for _ in range(columns - 1):
        low, high = low_weight.argmin(1), high_weight.argmax(1)
        kept[rows, low] = weight[rows, low]
        alias[rows, low] = counts[rows, high]
        rest = weight[rows, high] - (1 - weight[rows, low])
        low_weight[rows, high] = high_weight[rows, high] = rest
        low_weight[rows, low], high_weight[rows, low] = np.inf, -np.inf
    share_bits = 32 - (columns.bit_length() - 1)
    threshold = np.rint(kept.clip(0, 1) * 2.0**share_bits) - 2.0 ** (share_bits - 1)
    both = torch.from_numpy(np.concatenate([counts.ravel(), alias.ravel()]))
    return torch.from_numpy(threshold.astype(np.int32).ravel()), expose(both, photons=photons)


def _half_words(images: Images, key: Keys) -> Int32[Tensor, "b c h w"]:
    """Return 32 random bits a value."""
    count = math.prod(images.shape[1:])
    return bits(key, (count + 1) // 2).view(torch.int32)[:, :count].reshape(images.shape)
