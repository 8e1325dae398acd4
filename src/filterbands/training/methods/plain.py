"""Images as they are, and with Gaussian noise on half of them."""

import torch

from ... import rng
from ...types import FloatImages, Keys
from .protocol import Views

SIGMA = 0.1


def standard(images: FloatImages, *, key: Keys) -> Views:
    """Return the images as they are."""
    del key
    return images


def gaussian(images: FloatImages, *, key: Keys) -> Views:
    """Return each image, with chance 1/2 with white noise of standard deviation 0.1.

    The noise is independent for every pixel and channel; the sum is clamped to [0, 1].

    Source: Rusak et al. 2020, arXiv:2001.06057, section 3.1 (one sigma, half of the images); sigma and
    the share are those of Kireev et al. 2021, arXiv:2103.02325, for CIFAR-10. Deviation: each image has a
    coin of its own.
    """
    chosen = torch.nonzero(rng.uniform(key, (), stream=0) < 0.5).squeeze(1)
    noisy = images.clone()
    noise = rng.normal(key[chosen], tuple(images.shape[1:]), stream=1).to(images.dtype)
    noisy[chosen] = (images[chosen] + SIGMA * noise).clamp(0, 1)
    return noisy


def repeated(images: FloatImages, *, count: int, key: Keys) -> Views:
    """Return the images several times: what stands in front of the network perturbs all but the first."""
    del key
    return torch.cat([images] * count)
