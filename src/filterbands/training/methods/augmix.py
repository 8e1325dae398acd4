"""AugMix: chains of image operations, mixed."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ... import rng
from ...types import FloatImages, Keys, Labels
from .operations import operate, to_bytes
from .protocol import Partners, Step
from .standard import standard
from .views import consistent_views

WIDTH, DEPTH = 3, 3


def augmix(
    model: nn.Module,
    images: FloatImages,
    labels: Labels,
    *,
    key: Keys,
    smoothing: float,
    partners: Partners,
) -> Step:
    """Return the cross entropy of the mixed images, without the consistency loss.

    Source: Hendrycks et al. 2020, arXiv:1912.02781, section 3 ("AugMix without JSD" of its table 1).
    """
    mixed = augmix_view(images, key=key)
    return standard(model, mixed, labels, key=key, smoothing=smoothing, partners=partners)


def augmix_jsd(
    model: nn.Module,
    images: FloatImages,
    labels: Labels,
    *,
    key: Keys,
    smoothing: float,
    partners: Partners,
) -> Step:
    """Return the clean images' cross entropy and their divergence from two mixed views.

    Source: Hendrycks et al. 2020, arXiv:1912.02781, section 3 and algorithm 1.
    """
    del partners
    keys = rng.bits(key, 2, stream=7)
    first, second = augmix_view(torch.cat([images] * 2), key=keys.T.flatten()).chunk(2)
    return consistent_views(model, images, first, second, labels, smoothing=smoothing)


def augmix_view(images: FloatImages, *, key: Keys) -> FloatImages:
    """Return each image mixed with 3 chains of 1 to 3 operations on it.

    The chains' weights are uniform on the simplex, the mixture's share uniform on [0, 1].

    Args:
        images: NCHW in [0, 1]; operations see them as bytes.
        key: One an image.

    Source: Hendrycks et al. 2020, arXiv:1912.02781, algorithm 1. Cropped and flipped images are mixed, as
    in the public code.

    >>> augmix_view(torch.rand(2, 3, 8, 8), key=rng.keys(0, "doc", index=torch.arange(2))).shape
    torch.Size([2, 3, 8, 8])
    """
    weights, share = mixture(key)
    mixed = images * (1 - share)
    chain_keys = rng.bits(key, WIDTH * DEPTH, stream=2)
    depths = rng.integers(key, 1, DEPTH + 1, (WIDTH,), stream=3)
    # All chains of all images at once: one call an operation of the chain, whatever the width.
    chains = to_bytes(images).repeat(WIDTH, 1, 1, 1)
    for place in range(DEPTH):
        keys = chain_keys[:, place::DEPTH].T.flatten()
        chains = operate(chains, key=keys, active=(depths > place).T.flatten())
    for number, chain in enumerate(chains.chunk(WIDTH)):
        mixed += (share * weights[number]) * (chain.to(images.dtype) / 255)
    return mixed.clamp_(0, 1)


def mixture(key: Keys) -> tuple[Float[Tensor, "chains b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
    """Return the weights of three chains, which sum to 1, and the share of all three in the mixture."""
    # Normalised exponentials are uniform on the simplex; no uniform is 1, so that no logarithm is of 0.
    exponential = -torch.log1p(-rng.uniform(key, (WIDTH,), stream=4)) + 1e-12
    weights = exponential / exponential.sum(dim=1, keepdim=True)
    share = rng.uniform(key, (), stream=5)
    return weights.T[..., None, None, None], share[:, None, None, None]
