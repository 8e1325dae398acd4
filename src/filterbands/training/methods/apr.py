"""Amplitude-phase recombination: an image's phases under other amplitudes.

Each method stands twice: as its paper says, and as its public code does (`_code`), where that changes the
score. The code takes the transform over the color channels too, as if they were a third side of the image;
casts what comes out of the single form to bytes without a clip, so that values beyond black and white wrap
around (a free impulse noise); and sums the losses of two views where ours takes their mean, which doubles
the learning rate. Both forms here: a coin for every image, where the code of the paired forms throws one for
the batch, and single operations on cropped and flipped images, where the code crops afterwards.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import rng
from ...fourier import swap_amplitude
from ...types import FloatImages, Images, Keys
from .operations import operate, to_bytes
from .protocol import Views

PAIRED, SINGLE = 0.6, 0.5


def apr_p(
    images: FloatImages, others: FloatImages, *, key: Keys, across_channels: bool = False, clip: bool = True
) -> Views:
    """Return the images and the same with other images' amplitudes.

    `apr_p_across` takes the transform over the color channels too and changes nothing else. It separates
    one of the changes of `apr_p_code`, which also does not clip, and sums the losses of the two views.

    Source: Chen et al. 2021, arXiv:2108.08487, section 3.3, "APR-P"; its chance of 0.6. `apr_p_code`:
    github.com/iCGY96/APR at b8f1e18, `datasets/APR.py` and the training loop.
    """
    mixed = paired_view(images, others, key=key, across_channels=across_channels, clip=clip)
    return torch.cat([images, mixed])


def apr_sp(images: FloatImages, others: FloatImages, *, key: Keys, as_code: bool = False) -> Views:
    """Return APR-S's images and the same with other images' amplitudes.

    The other images have gone through APR-S too, by draws of the key that they are mixed for. `apr_sp_code`
    is both forms as `apr_s_code` and `apr_p_code` have them, and sums the losses of the two views.

    Source: Chen et al. 2021, arXiv:2108.08487, section 3.3, "APR-SP". `apr_sp_code`: github.com/iCGY96/APR at
    b8f1e18, `datasets/APR.py` and the training loop.
    """
    view = single_view(images, key=key, as_code=as_code)
    others = single_view(others, key=rng.bits(key, 1, stream=25)[:, 0], as_code=as_code)
    mixed = paired_view(view, others, key=key, across_channels=as_code, clip=not as_code)
    return torch.cat([view, mixed])


def paired_view(
    images: FloatImages, others: FloatImages, *, key: Keys, across_channels: bool = False, clip: bool = True
) -> FloatImages:
    """Return each image, with chance 0.6 under the amplitudes of its other.

    Args:
        images: NCHW in [0, 1].
        others: One per image.
        key: One per image.
        across_channels: Transform over the color channels too, as the public code does.
        clip: Keep to [0, 1], which the public code does not.

    >>> image = torch.rand(2, 3, 8, 8)
    >>> paired_view(image, image, key=rng.keys(0, "doc", index=torch.arange(2))).shape
    torch.Size([2, 3, 8, 8])
    """
    swapped = swap_amplitude(images, others, across_channels=across_channels)
    if clip:
        swapped = swapped.clamp(0, 1)
    chosen = rng.uniform(key, (), stream=20) < PAIRED
    return torch.where(chosen[:, None, None, None], swapped, images)


def single_view(images: FloatImages, *, key: Keys, as_code: bool = False) -> FloatImages:
    """Return each image after one of AugMix's operations and, with chance 1/2, recombined with a second.

    The second operation works on the result of the first; one of the two gives the amplitudes, the other
    the phases, by a coin.

    Args:
        images: NCHW in [0, 1].
        key: One per image.
        as_code: As the public code has it: transform over the channels too, bytes that wrap around.

    Source: Chen et al. 2021, arXiv:2108.08487, section 3.3, "APR-S". `apr_s_code`: github.com/iCGY96/APR at
    b8f1e18, `datasets/APR.py`.

    >>> single_view(torch.rand(2, 3, 8, 8), key=rng.keys(0, "doc", index=torch.arange(2))).shape
    torch.Size([2, 3, 8, 8])
    """
    return recombined(to_bytes(images), key=key, as_code=as_code)


def recombined(images: Images, *, key: Keys, as_code: bool) -> FloatImages:
    """Return APR-S of images that are bytes, in [0, 1]."""

    def mix(one: Tensor, two: Tensor, _: Keys) -> Tensor:
        mixed = swap_amplitude(one, two, across_channels=as_code)
        return wrapped_bytes(mixed) if as_code else (mixed / 255).clamp(0, 1)

    return single(images, mix, key=key)


def single(images: Images, mix: Callable[[Tensor, Tensor, Keys], Tensor], *, key: Keys) -> FloatImages:
    """Return each image after one operation and, with chance 1/2, mixed with that after two, in [0, 1].

    `mix` is called with both versions, in [0, 255] and in an order that a coin decides, and their keys.
    """
    first, second, coins = two_views(images, key=key)
    out = first.float() / 255
    chosen = torch.nonzero(coins[:, 0] < SINGLE).squeeze(1)
    flip = (coins[chosen, 1] < 0.5)[:, None, None, None]
    one, two = first[chosen].float(), second[chosen].float()
    out[chosen] = mix(torch.where(flip, one, two), torch.where(flip, two, one), key[chosen])
    return out


def two_views(images: Images, *, key: Keys) -> tuple[Images, Images, Tensor]:
    """Return the images after one operation and after two, and two coins per image."""
    keys = rng.bits(key, 2, stream=21)
    first = operate(images, key=keys[:, 0])
    return first, operate(first, key=keys[:, 1]), rng.uniform(key, (2,), stream=22)


def wrapped_bytes(values: Tensor) -> Tensor:
    """Return what a cast to bytes on an x86 makes of numbers: cut to integers, modulo 256; over 255."""
    bytes_: Tensor = values.trunc().long().bitwise_and(255).float() / 255
    return bytes_


def blurred(images: FloatImages) -> FloatImages:
    """Return images under a Gaussian blur of 3x3 taps and standard deviation 0.5, the border reflected."""
    side = torch.exp(torch.tensor(-0.5 / 0.5**2))
    taps = torch.stack([side, torch.ones(()), side]).to(images.device)
    taps = taps / taps.sum()
    channels = images.shape[1]
    kernel = (taps[:, None] * taps).expand(channels, 1, 3, 3)
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    return F.conv2d(padded, kernel, groups=channels)
