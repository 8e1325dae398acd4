"""Noise: gaussian_noise, shot_noise, impulse_noise, speckle_noise.

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
from .pixels import Constants, to_bytes, to_unit


def gaussian_noise(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images plus normal noise, independent per pixel and channel.

    The parameter is the standard deviation, in units of the full range.
    """
    (sigma,) = parameters
    return add_noise(images, normal(key, tuple(images.shape[1:])).mul_(sigma))


def shot_noise(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images as photon counts: Poisson numbers whose mean is proportional to the value.

    The parameter is the number of photons of the full range.
    """
    (photons,) = parameters
    threshold, outcome = (table.to(images.device) for table in photon_table(photons))
    columns = len(threshold) // 256
    half = _half_words(images, key)
    place = (half & (columns - 1)).add_(images.to(torch.int32).mul_(columns)).flatten()
    kept = (half >> columns.bit_length() - 1).flatten() < threshold.index_select(0, place)
    # The second half of `outcome` holds the results of the aliases.
    return outcome.index_select(0, place.add_((~kept).to(torch.int32).mul_(len(threshold)))).reshape(
        images.shape
    )


def impulse_noise(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images in which a share of all values is black or white with equal probability.

    The parameter is the share of values that are replaced, independently per channel.
    """
    (share,) = parameters
    half = _half_words(images, key)
    # The top 31 bits decide whether a value is replaced, and the last bit decides between black and white.
    replaced = (half >> 1) < round((share - 0.5) * 2**31)
    return replace_values(images, replaced, salt=(half & 1).to(torch.bool))


def speckle_noise(images: Images, parameters: Constants, *, key: Keys) -> Images:
    """Return images plus normal noise in proportion to each value.

    The parameter is the standard deviation at full range, in units of the full range.
    """
    (sigma,) = parameters
    return add_noise_in_proportion(images, normal(key, tuple(images.shape[1:])).mul_(sigma))


def add_noise(images: Images, noise: FloatImages) -> Images:
    """Return images plus noise, calculated in the precision of the noise."""
    return to_bytes(to_unit(images, noise.dtype).add_(noise))


def replace_values(
    images: Images, replaced: Bool[Tensor, "b c h w"], *, salt: Bool[Tensor, "b c h w"]
) -> Images:
    """Return images whose replaced values are 255 where `salt` is true, else 0."""
    return torch.where(replaced, salt.to(torch.uint8).mul_(255), images)


def add_noise_in_proportion(images: Images, noise: FloatImages) -> Images:
    """Return images plus each value times its noise, calculated in the precision of the noise."""
    unit = to_unit(images, noise.dtype)
    return to_bytes(torch.addcmul(unit, unit, noise))


def expose(counts: Tensor, *, photons: float) -> UInt8[Tensor, "..."]:
    """Return the byte of each photon count, where `photons` is the count of the full range."""
    return (counts.to(torch.float64) / photons).clamp_(0, 1).mul_(255).to(torch.uint8)


@lru_cache(maxsize=16)
def photon_table(photons: float) -> tuple[Int32[Tensor, " n"], UInt8[Tensor, " 2*n"]]:
    """Return Walker's alias table of the Poisson law of each byte, with the result of each entry.

    Each byte has the same number of columns, a power of two; each column is a count. A uniform number picks a
    column. Its alias is used unless the remaining bits, as a signed integer, are below its threshold.
    Probabilities are correct to 2^-32. Counts further than 8 standard deviations (and 12 photons) from the
    mean are left out.

    Source: Walker 1977, "An efficient method for generating discrete random variables with general
    distributions" (ACM TOMS 3).
    """
    mean = np.arange(256) / 255 * photons
    reach = 8 * np.sqrt(mean) + 12
    first = np.maximum(np.floor(mean - reach), 0).astype(np.int64)
    columns = 1 << int(np.max(mean + reach - first)).bit_length()
    counts = first[:, None] + np.arange(columns)
    log_factorial = torch.lgamma(torch.from_numpy(counts).double() + 1).numpy()
    log_mean = np.array([math.log(max(value, 1e-300)) for value in mean])[:, None]
    exponent = counts * log_mean - mean[:, None] - log_factorial
    weight = np.array([math.exp(value) for value in exponent.ravel()]).reshape(exponent.shape)
    weight *= columns / weight.sum(1, keepdims=True)
    # Neighbors of a whole mean have equal weights, of which the last bit of a logarithm would choose one.
    weight = np.rint(weight * 2.0**34) / 2.0**34
    kept, alias = np.ones_like(weight), counts.copy()
    rows = np.arange(256)
    # Each step fills the emptiest open column from the fullest, in all 256 rows at once.
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
    """Return 32 random bits per value."""
    count = math.prod(images.shape[1:])
    return bits(key, (count + 1) // 2).view(torch.int32)[:, :count].reshape(images.shape)
