"""Noise: gaussian_noise, shot_noise, impulse_noise, speckle_noise.

Every kind draws, then calculates; the two are apart so that recorded draws give the recorded result.

Source: Hendrycks, Dietterich 2019, arXiv:1903.12261, with the semantics of its CIFAR-10-C generator.
"""

import torch
from jaxtyping import Bool
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


def impulse_noise(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
    """Return images with a share of all values, each channel by itself, set to black or white evenly.

    Args:
        images: Bytes.
        parameters: Share of the values that is replaced.
        key: One an image.
    """
    (share,) = parameters
    count = images[0].numel()
    half = bits(key, (count + 1) // 2).view(torch.int32)[:, :count].reshape(images.shape)
    # The top 31 bits say whether, the last one says with what.
    replaced = (half >> 1) < round((share - 0.5) * 2**31)
    return replace_values(images, replaced, salt=(half & 1).to(torch.bool))


def add_noise(images: Images, noise: FloatImages) -> Images:
    """Return images plus noise, calculated in the noise's precision."""
    return to_bytes(to_unit(images, noise.dtype).add_(noise))


def replace_values(
    images: Images, replaced: Bool[Tensor, "b c h w"], *, salt: Bool[Tensor, "b c h w"]
) -> Images:
    """Return images with the replaced values 255 where `salt`, else 0."""
    return torch.where(replaced, salt.to(torch.uint8).mul_(255), images)
