"""RandConv: images through random convolutions."""

import torch
import torch.nn.functional as F

from ... import rng
from ...types import FloatImages, Keys

SIZES = (1, 3, 5, 7)
ORIGINAL = 0.5
CONSISTENCY = 10.0
# Images are random-filtered in about the units of a normalized image: from gray, a standard deviation as 1.
_MEAN, _STD = 0.47, 0.25


def randconv_view(images: FloatImages, *, key: Keys) -> FloatImages:
    """Return each image, with chance 1/2 mixed with itself after a random convolution over all channels.

    The kernel's size is 1, 3, 5 or 7, its taps are normal of variance 1 / (channels * size^2)
    (He's initialization with gain 1), the mixture's share uniform on [0, 1].

    Args:
        images: NCHW in [0, 1].
        key: One per image.

    Deviations: every image has a filter of its own, where the paper has one per batch; images are clamped to
    [0, 1]; one gray mean and deviation stand for a data set's own.

    Source: Xu et al. 2021, arXiv:2007.13003, section 3 (RC_mix over kernels of 1 to 7 pixels, the original
    with chance 1/2) and its public code. The method takes three views, with the consistency loss of equation
    3 and its factor of 10.

    >>> randconv_view(torch.rand(2, 3, 8, 8), key=rng.keys(0, "doc", index=torch.arange(2))).shape
    torch.Size([2, 3, 8, 8])
    """
    channels, height, width = images.shape[1:]
    coins = rng.uniform(key, (2,), stream=0)
    size = rng.integers(key, 0, len(SIZES), (), stream=1)
    out = images.clone()
    for number, side in enumerate(SIZES):
        chosen = torch.nonzero((size == number) & (coins[:, 0] >= ORIGINAL)).squeeze(1)
        if len(chosen) == 0:
            continue
        taps = rng.normal(key[chosen], (channels, channels, side, side), stream=2)
        taps = taps / (channels * side**2) ** 0.5
        units = (images[chosen] - _MEAN) / _STD
        flat = units.reshape(1, -1, height, width)
        mixed = F.conv2d(flat, taps.flatten(0, 1), padding=side // 2, groups=len(chosen))
        share = coins[chosen, 1][:, None, None, None]
        units = share * mixed.reshape(units.shape) + (1 - share) * units
        out[chosen] = (units * _STD + _MEAN).clamp(0, 1)
    return out
