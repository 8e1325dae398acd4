"""Gaussian noise on half of the images."""

import torch
from torch import nn

from ... import rng
from ...types import FloatImages, Keys, Labels
from .protocol import Partners, Step
from .standard import standard

SIGMA = 0.1


def gaussian(
    model: nn.Module,
    images: FloatImages,
    labels: Labels,
    *,
    key: Keys,
    smoothing: float,
    partners: Partners,
) -> Step:
    """Return the cross entropy with white noise of standard deviation 0.1 on each image with chance 1/2.

    Independent for every pixel and channel, added in [0, 1] and clamped to it.

    Source: Rusak et al. 2020, arXiv:2001.06057, section 3.1 (one sigma, half of the images); sigma and
    the share are those of Kireev et al. 2021, arXiv:2103.02325, for CIFAR-10. Here each image has a coin of
    its own.
    """
    chosen = torch.nonzero(rng.uniform(key, (), stream=0) < 0.5).squeeze(1)
    noisy = images.clone()
    noise = rng.normal(key[chosen], tuple(images.shape[1:]), stream=1).to(images.dtype)
    noisy[chosen] = (images[chosen] + SIGMA * noise).clamp(0, 1)
    return standard(model, noisy, labels, key=key, smoothing=smoothing, partners=partners)
