"""PRIME: maximum-entropy primitives in three domains, mixed."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import rng
from ...types import FloatImages, Keys
from .augmix import mix, run_chains
from .operations import sample_bilinear

# The strongest of each primitive; strengths are uniform below.
FILTER_SIGMA = 4.0
COLOR_CUT, COLOR_TEMPERATURE = 100, 0.01
WARP_CUTS = (2, 100)


def prime_view(images: FloatImages, *, key: Keys, primitives: tuple[int, ...] = (0, 1, 2)) -> FloatImages:
    """Return each image mixed with 3 chains of 1 to 3 primitives on it.

    Every image and place of a chain draws its primitive and strength. The public code draws the strength of
    a primitive, and the whole of the spatial one, once per batch.

    Args:
        images: NCHW in [0, 1].
        key: One per image.
        primitives: Which to draw from: 0 random filters, 1 colors, 2 displacements.

    The method `prime_spectral` draws from the random filters alone, to compare random filtering with this
    library's.

    Source: Modas et al. 2022, arXiv:2112.13547, algorithm 1, section 3 and appendix (CIFAR: with the
    consistency loss), constants of its public configuration for CIFAR-10.

    >>> prime_view(torch.rand(2, 3, 8, 8), key=rng.keys(0, "doc", index=torch.arange(2))).shape
    torch.Size([2, 3, 8, 8])
    """

    def step(chains: Tensor, *, key: Keys, active: Tensor) -> Tensor:
        drawn = rng.integers(key, 0, len(primitives), (), stream=0)
        for number, primitive in enumerate(primitives):
            chosen = torch.nonzero(active & (drawn == number)).squeeze(1)
            if len(chosen):
                chains[chosen] = _FUNCTIONS[primitive](chains[chosen], key=key[chosen])
        return chains

    return mix(images, run_chains(images, step, key=key), key=key)


def filtered(images: FloatImages, *, key: Keys) -> FloatImages:
    """Return images filtered by their own random 3x3 kernel, the same for all channels, clamped.

    The kernel is the identity plus white noise of standard deviation uniform on [0, 4]. The identity's one
    is in the middle; the public code has it in the corner, a shift by one pixel.

    Source: Modas et al. 2022, arXiv:2112.13547, section 3, "Spectral domain".
    """
    count, channels, height, width = images.shape
    sigma = FILTER_SIGMA * rng.uniform(key, (), stream=1)
    kernels = sigma[:, None, None] * rng.normal(key, (3, 3), stream=2)
    kernels[:, 1, 1] += 1
    # Images side by side as channels, each a group of its own.
    side_by_side = F.pad(images.transpose(0, 1), (1, 1, 1, 1))
    filtered_images = F.conv2d(side_by_side, kernels[:, None].to(images.dtype), groups=count)
    return filtered_images.transpose(0, 1).reshape(count, channels, height, width).clamp(0, 1)


def recolored(images: FloatImages, *, key: Keys) -> FloatImages:
    """Return images whose values v become v + sum_k b_k sin(k pi v), clamped, per channel.

    k runs to a cut uniform on 1..100, b_k are normal with a variance uniform on [0, 0.01].

    Source: Modas et al. 2022, arXiv:2112.13547, section 3, "Color domain".
    """
    channels = images.shape[1]
    cut = 1 + rng.integers(key, 0, COLOR_CUT, (), stream=1)
    variance = COLOR_TEMPERATURE * rng.uniform(key, (), stream=2)
    order = torch.arange(1, COLOR_CUT + 1, device=images.device)
    strength = variance.sqrt()[:, None] * (order <= cut[:, None])
    factors = rng.normal(key, (channels, COLOR_CUT), stream=3) * strength[:, None]
    # One curve of 256 values per channel, straight between them: its shortest wave has 2.5 of them a bend
    # at the highest order, and bytes have no more.
    levels = torch.linspace(0, 1, 256, device=images.device)
    waves = torch.sin(order[:, None] * math.pi * levels)
    curves = (levels + (factors[..., None] * waves).sum(dim=2)).clamp(0, 1)
    place = images.flatten(2) * 255
    below = place.floor().clamp(0, 254).long()
    part = place - below
    curved = curves.gather(2, below) * (1 - part) + curves.gather(2, below + 1) * part
    return curved.reshape(images.shape)


def displaced(images: FloatImages, *, key: Keys) -> FloatImages:
    """Return images moved along a smooth random field that tears nothing.

    Either component of the field is sum over i^2 + j^2 < (cut + 1/2)^2 of c_ij sin(i pi x) sin(j pi y), c_ij
    normal with standard deviation sqrt(T / (i^2 + j^2)), in units of the side. T lies between a displacement
    of half a pixel and the largest without overhangs, the cut between 2 and a limit uniform on 3..100, both
    by the arcsine law, Beta(1/2, 1/2), as in the public code. What lies above the side's own frequencies is
    left out, since pixels cannot show it.

    Source: Petrini et al. 2021, arXiv:2105.02468, appendix C, the family of Modas et al. 2022,
    arXiv:2112.13547, section 3, "Spatial domain".
    """
    count = len(images)
    height, width = images.shape[2:]
    least, most = WARP_CUTS
    limit = rng.integers(key, least + 1, most + 1, (), stream=1)
    # Arcsine law, Beta(1/2, 1/2), the law of sin^2 of a uniform angle.
    share, heat = torch.sin(math.pi / 2 * rng.uniform(key, (2,), stream=2)).square().unbind(1)
    cut = (least + share * (limit + 1 - least)).floor().clamp(max=most)
    logarithm = cut.log()
    coldest = 1 / (math.pi * width**2 * logarithm)
    hottest = torch.maximum(coldest, 4 / (math.pi**3 * cut.square() * logarithm))
    temperature = coldest + heat * (hottest - coldest)
    modes = min(most, max(height, width))
    field = rng.normal(key, (2, modes, modes), stream=3)
    order = torch.arange(1, modes + 1, device=images.device)
    radius = torch.hypot(order[:, None].float(), order.float())
    inside = radius < cut[:, None, None] + 0.5
    field = field * (temperature.sqrt()[:, None, None] * inside / radius)[:, None]
    across, down = (
        torch.sin(math.pi * torch.linspace(0, 1, side, device=images.device)[:, None] * order)
        for side in (width, height)
    )
    moves = torch.einsum("bfij,xi,yj->bfyx", field, across, down)
    x = torch.arange(width, device=images.device) - moves[:, 0] * width
    y = torch.arange(height, device=images.device)[:, None] - moves[:, 1] * height
    return sample_bilinear(images, x.clamp(0, width - 1), y.clamp(0, height - 1)).reshape(
        count, -1, height, width
    )


_FUNCTIONS = (filtered, recolored, displaced)
