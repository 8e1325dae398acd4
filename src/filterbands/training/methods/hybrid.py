"""HybridAugment: low frequencies of one image, high frequencies of another."""

import torch
from torch import Tensor

from ... import rng
from ...types import FloatImages, Keys
from .apr import PAIRED, blurred, paired_view, recombined, single, wrapped_bytes
from .operations import to_bytes
from .protocol import Views


def hybridaugment(images: FloatImages, others: FloatImages, *, key: Keys) -> Views:
    """Return single hybrids and the same with other images' high frequencies.

    The paper's HA_PS. Deviations: the mean of two losses, where the code has their sum (twice the learning
    rate); a coin for every image, not for the batch; images clamped to [0, 1], where the code's cast to
    bytes wraps around; the other images' high frequencies are those before their own single form.

    Source: Yucel, Cinbis, Duygulu 2023, arXiv:2307.11823, section 3.2, with the blur (3 taps, 0.5), the
    chances (0.6 paired, 0.5 single) and the order of operations of its public code.
    """
    view = single_hybrid(images, key=key)
    return torch.cat([view, paired_hybrid(view, others, key=key)])


def hybridaugment_pp(
    images: FloatImages, others: FloatImages, amplitudes: FloatImages, *, key: Keys, as_code: bool = False
) -> Views:
    """Return HybridAugment's views with the low frequencies' amplitudes recombined, HA++_PS.

    Deviations as in `hybridaugment`. `hybridaugment_pp_code` transforms over the channels too, casts to bytes
    that wrap around, does not clip the paired form and sums the losses of the two views. It keeps a coin for
    every image, where the public code throws one for the batch.

    Source: Yucel, Cinbis, Duygulu 2023, arXiv:2307.11823, section 3.3, and its public code.
    `hybridaugment_pp_code`: github.com/MKYucel/hybrid_augment at 71ea041, `core/train.py` and
    `datasets/APR.py`.
    """
    view = single_hybrid(images, key=key, recombine=True, as_code=as_code)
    mixed = paired_hybrid(view, others, key=key, amplitudes=amplitudes, as_code=as_code)
    return torch.cat([view, mixed])


def paired_hybrid(
    images: FloatImages,
    others: FloatImages,
    *,
    key: Keys,
    amplitudes: FloatImages | None = None,
    as_code: bool = False,
) -> FloatImages:
    """Return each image, with chance 0.6 with the high frequencies of its other.

    Args:
        images: NCHW in [0, 1].
        others: One per image.
        key: One per image.
        amplitudes: Images whose low frequencies give amplitudes to those that stay, with chance 0.6; None
            leaves them.
        as_code: As the public code has it.
    """
    low = blurred(images)
    if amplitudes is not None:
        low = paired_view(low, blurred(amplitudes), key=key, across_channels=as_code, clip=not as_code)
    mixed = low + (others - blurred(others))
    if not as_code:
        mixed = mixed.clamp(0, 1)
    chosen = rng.uniform(key, (), stream=24) < PAIRED
    return torch.where(chosen[:, None, None, None], mixed, images)


def single_hybrid(
    images: FloatImages, *, key: Keys, recombine: bool = False, as_code: bool = False
) -> FloatImages:
    """Return each image after one operation and, with chance 1/2, made a hybrid with a second.

    Args:
        images: NCHW in [0, 1].
        key: One per image.
        recombine: Put APR-S on the low frequencies, as HybridAugment++ does.
        as_code: As the public code has it.
    """

    def mix(one: Tensor, two: Tensor, key: Keys) -> Tensor:
        below, above = one / 255, two / 255
        low = blurred(below)
        if recombine:
            # PIL's conversion cuts where `to_bytes` rounds: a third of a gray level on average.
            low = recombined(to_bytes(low), key=rng.bits(key, 1, stream=23)[:, 0], as_code=as_code)
        mixed = low + (above - blurred(above))
        return wrapped_bytes(mixed * 255) if as_code else mixed.clamp(0, 1)

    return single(to_bytes(images), mix, key=key)
