"""Auxiliary Fourier-basis augmentation: a plane wave of its own on each channel of an image."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ... import rng
from ...types import FloatImages, Keys
from .protocol import Views

STRENGTH = 10 / 32
"""Mean over images of a wave's RMS, in units of [0, 1]: a norm of 10 at 32 pixels a side."""
_PHASE = -math.pi / 4


def afa_view(images: FloatImages, *, key: Keys) -> FloatImages:
    """Return each image with a plane wave of its own added to each channel, clamped to [0, 1].

    A wave's frequency is 1, 2 ... or N cycles per N pixels, N being the longer side, all equally likely. Its
    direction is uniform, its phase in the image's middle fixed, its RMS exponential with a mean of 0.3125.
    Frequencies above half a cycle per pixel show as lower ones, as in the paper.

    Args:
        images: NCHW in [0, 1].
        key: One per image.

    Deviations: the method `afa` is what table 1 of the paper calls "w/o aux.", one pass and one cross
    entropy. `afa_two` averages the cross entropies of the clean and of the augmented image, as the paper's
    ACE loss does. There both images share all batch norms, which see them in one batch; in the paper the
    augmented image has batch norms of its own. Pixels are one unit apart, where the public code has them
    N / (N - 1) apart, and directions are continuous, where it has 448. The mean strength is that of its
    example for ImageNet; the code names none for CIFAR, and 5 as the default of its class.

    Source: Vaish, Wang, Strisciuglio 2024, arXiv:2403.01944, section 3; for the phase, the frequencies and
    the strength its public code, github.com/nis-research/afa-augment at 7dcf705.

    >>> afa_view(torch.rand(2, 3, 8, 8), key=rng.keys(0, "doc", index=torch.arange(2))).shape
    torch.Size([2, 3, 8, 8])
    """
    channels, height, width = images.shape[1:]
    longer = max(height, width)
    frequency = rng.integers(key, 1, longer + 1, (channels,), stream=0) / longer
    direction = math.pi * rng.uniform(key, (channels,), stream=1)
    # No uniform is 1, so that no logarithm is of 0.
    strength = -STRENGTH * torch.log1p(-rng.uniform(key, (channels,), stream=2))
    added = plane_waves(frequency, direction, height, width) * strength[..., None, None]
    return (images + added.to(images.dtype)).clamp_(0, 1)


def afa_two(images: FloatImages, *, key: Keys) -> Views:
    """Return the images as they are, and `afa_view` of them."""
    return torch.cat([images, afa_view(images, key=key)])


def plane_waves(
    frequency: Float[Tensor, "b c"], direction: Float[Tensor, "b c"], height: int, width: int
) -> Float[Tensor, "b c {height} {width}"]:
    """Return plane waves of RMS 1.

    Args:
        frequency: Cycles per pixel.
        direction: In radians; 0 lets the wave run along a row.
        height: In pixels.
        width: The same.
    """
    columns, rows = (torch.arange(side, device=frequency.device) - (side - 1) / 2 for side in (width, height))
    turn = 2 * math.pi * frequency[..., None]
    across = turn * direction.cos()[..., None] * columns
    down = turn * direction.sin()[..., None] * rows + _PHASE
    # sin(a + b), of one sine per row and per column instead of one per pixel.
    wave = down.sin()[..., None] * across.cos()[..., None, :]
    wave += down.cos()[..., None] * across.sin()[..., None, :]
    return wave / wave.square().mean(dim=(2, 3), keepdim=True).sqrt()
