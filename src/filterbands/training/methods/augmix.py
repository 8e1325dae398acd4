"""AugMix: chains of image operations, mixed."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ... import rng
from ...types import FloatImages, Keys
from .operations import operate, to_bytes
from .protocol import View, Views

WIDTH, DEPTH = 3, 3


def augmix_view(images: FloatImages, *, key: Keys) -> FloatImages:
    """Return each image mixed with 3 chains of 1 to 3 operations on it.

    The chains' weights are uniform on the simplex, the mixture's share uniform on [0, 1].

    Args:
        images: NCHW in [0, 1]; operations see them as bytes.
        key: One per image.

    Source: Hendrycks et al. 2020, arXiv:1912.02781, section 3 and algorithm 1. Cropped and flipped images are
    mixed, as in the public code. The method `augmix` is "AugMix without JSD" of table 1.

    >>> augmix_view(torch.rand(2, 3, 8, 8), key=rng.keys(0, "doc", index=torch.arange(2))).shape
    torch.Size([2, 3, 8, 8])
    """
    chains = run_chains(to_bytes(images), operate, key=key)
    return mix(images, chains.to(images.dtype) / 255, key=key)


def several(view: View, images: FloatImages, *, count: int, key: Keys) -> Views:
    """Return so many views of the images, one batch after the other, each with keys of its own."""
    return view(torch.cat([images] * count), key=rng.bits(key, count, stream=7).T.flatten())


def with_clean(view: View, images: FloatImages, *, key: Keys) -> Views:
    """Return the clean images and two views of them."""
    return torch.cat([images, several(view, images, count=2, key=key)])


def run_chains(images: Tensor, step: Callable[..., Tensor], *, key: Keys) -> Tensor:
    """Return what 3 chains of 1 to 3 steps make of each image, one batch per chain.

    `step` is called with the images of all chains, a key per image, and `active`, whose chains go on.
    """
    keys = rng.bits(key, WIDTH * DEPTH, stream=2)
    depths = rng.integers(key, 1, DEPTH + 1, (WIDTH,), stream=3).T.flatten()
    # All chains of all images at once: one call per step, whatever the width.
    chains = images.repeat(WIDTH, 1, 1, 1)
    with torch.autocast(images.device.type, enabled=False):
        for place in range(DEPTH):
            chains = step(chains, key=keys[:, place::DEPTH].T.flatten(), active=depths > place)
    return chains


def mix(images: FloatImages, chains: Views, *, key: Keys) -> FloatImages:
    """Return the images mixed with their chains, which stand one batch after the other."""
    weights, share = mixture(key)
    mixed = images * (1 - share)
    for weight, chain in zip(weights, chains.chunk(WIDTH), strict=True):
        mixed += (share * weight) * chain
    return mixed.clamp_(0, 1)


def mixture(key: Keys) -> tuple[Float[Tensor, "chains b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
    """Return the weights of three chains, which sum to 1, and the share of all three in the mixture."""
    # Normalized exponentials are uniform on the simplex; no uniform is 1, so that no logarithm is of 0.
    exponential = -torch.log1p(-rng.uniform(key, (WIDTH,), stream=4)) + 1e-12
    weights = exponential / exponential.sum(dim=1, keepdim=True)
    share = rng.uniform(key, (), stream=5)
    return weights.T[..., None, None, None], share[:, None, None, None]
