"""Controls: what a result about low and high filters has to be compared with.

`set_random_share` keeps a split of filter space and its dimensions, but not its meaning. `set_blur` keeps how
much noise reaches a layer, but leaves its filters free. `WhiteNoise` keeps perturbation, but gives it no
spectrum. A fixed random layer is any of these with `layer.requires_grad_(False)`. A trained layer's
projection is `set_share(layer, low=1.0, seed=None)`, baked, with the batch norms recalibrated.
"""

import math
from itertools import chain
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .. import rng
from ..filters import EQUAL_AREA, PatchSums, image_batches, spans
from ..models import held
from ..types import Filters, check_range_of_images
from .proportion import (
    Held,
    check_options,
    check_plain_forward,
    checked_layer,
    checked_spans,
    hold,
    hold_share,
    keyed_order,
)
from .shrink import Data

_Layer = TypeVar("_Layer", bound=nn.Module)


def set_random_share(
    layer: _Layer,
    *,
    low: float,
    cutoff: float = EQUAL_AREA,
    zero_mean: bool = True,
    guard: float = 0.1,
    seed: int = 0,
) -> _Layer:
    """Return the layer with its filters held in two random parts of filter space instead of low and high.

    The parts are orthogonal and have the dimensions of the spans that `set_share` holds a layer to with these
    options. `seed` gives their directions, uniformly, and the choice of filters. `low` is the share of
    filters in the part that stands for low. The rest, errors included, is as for `set_share`; `bake` undoes
    it.

    >>> layer = set_random_share(nn.Conv2d(3, 8, 3), low=1.0)
    >>> torch.linalg.matrix_rank(layer.weight.detach().reshape(24, 9), rtol=1e-4).item()
    4
    """
    verb = "set_random_share"
    conv = checked_layer(verb, layer)
    low_span, high_span = checked_spans(verb, conv, cutoff=cutoff, guard=guard, zero_mean=zero_mean)
    count, taps = low_span.shape
    draws = rng.normal(rng.keys(seed, verb, "split", index=torch.arange(taps)), (taps,)).double()
    # Rows of the orthogonal factor of a Gaussian matrix point everywhere alike.
    basis = torch.linalg.qr(draws).Q.T
    parts = basis[:count], basis[count : count + len(high_span)]
    hold_share(conv, parts, low=low, order=keyed_order(seed, verb, conv), verb=verb, cutoff=cutoff)
    return layer


def equal_gain_blur(
    images: Data,
    *,
    kernel_size: tuple[int, int] = (3, 3),
    cutoff: float = EQUAL_AREA,
    guard: float = 0.1,
) -> float:
    """Return the side weight b of the blur behind which white filters see as little noise as low ones do.

    The blur is [b, 1 - 2b, b] in both directions. Noise over signal, as variances of the response, is
    `|h|^2 / h^T C h` for white filters behind a blur h. It is `n / tr(P C)` for filters in the low span of
    dimension n with projector P. C is the images' covariance over the taps, averaged over channels. The b at
    which the two are equal depends on the images.

    Args:
        images: Clean images, as for `shrink`.
        kernel_size: Kernel size of the layer whose low span is meant.
        cutoff: As for `set_share`.
        guard: As for `set_share`.

    Raises:
        ValueError: No such blur: even the box of 3x3 lets more noise through.

    >>> from filterbands import load_data
    >>> 0.05 < equal_gain_blur(load_data("planted").subset(torch.arange(100))) < 0.33
    True
    """
    low_span, _ = spans(*kernel_size, cutoff=cutoff, guard=guard)
    size = (max(3, kernel_size[0]), max(3, kernel_size[1]))
    between = _tap_covariance(images, size)
    target = _noise_ratio(low_span.reshape(-1, *kernel_size), between, size)

    def ratio(side: float) -> float:
        return _noise_ratio(_blur_kernel(side)[None].double(), between, size)

    least, most = ratio(1 / 3), ratio(0.0)
    if not least <= target <= most:
        raise ValueError(
            f"equal_gain_blur: low filters see {target:.3g} of unit noise over signal, and blurs of "
            f"3x3 reach from {least:.3g} to {most:.3g}"
        )
    # Only this search waits for it to load.
    from scipy.optimize import brentq

    return float(brentq(lambda side: ratio(side) - target, 0, 1 / 3))


def set_blur(layer: _Layer, *, side: float) -> _Layer:
    """Return the layer with a fixed blur in front of it, in training and in evaluation.

    The layer is changed in place: its weight becomes the free weight convolved with the blur
    [side, 1 - 2 side, side] in both directions, a kernel wider and higher by 2 with one more pixel of
    padding. The learned `Parameter` stays the same. `bake` leaves a plain layer of the wider kernel.

    Args:
        layer: A `torch.nn.Conv2d` larger than 1x1, undilated, with a padding in numbers.
        side: Weight of the neighbors on each side, in (0, 1/3]; see `equal_gain_blur`.

    Raises:
        ValueError: Not such a layer, or a side out of range.

    >>> layer = set_blur(nn.Conv2d(3, 8, 3, padding=1), side=0.2)
    >>> layer.weight.shape, layer(torch.rand(1, 3, 8, 8)).shape
    (torch.Size([8, 3, 5, 5]), torch.Size([1, 8, 8, 8]))
    """
    conv = checked_layer("set_blur", layer)
    if not 0 < side <= 1 / 3:
        raise ValueError(f"set_blur: side needs a weight above 0 and up to 1/3, got {side}")
    check_plain_forward("set_blur", conv)
    if isinstance(conv.padding, str):
        raise ValueError(f"set_blur needs a layer with a padding in numbers, got {conv.padding!r}")
    hold(conv, Blur(side, conv.kernel_size), reshapes=True)
    conv.kernel_size = (conv.kernel_size[0] + 2, conv.kernel_size[1] + 2)
    conv.padding = (conv.padding[0] + 1, conv.padding[1] + 1)
    conv._reversed_padding_repeated_twice = [pad + 1 for pad in conv._reversed_padding_repeated_twice]
    return layer


class WhiteNoise(nn.Module):
    """Adds Gaussian noise without a spectrum to images in training, and does nothing in evaluation.

    Independent for every pixel and channel, clamped to [0, 1]. Draws come from torch's default generator.

    Args:
        sigma: Standard deviation, in units of [0, 1], above 0.
        clean: Chance of each image to stay as it is, in [0, 1].
        clean_first: Share of every batch, from its beginning, that stays as it is, in [0, 1].

    Raises:
        ValueError: An option out of range, or, at the call, images out of [0, 1].

    >>> images = torch.rand(4, 3, 8, 8)
    >>> bool((WhiteNoise(0.1).eval()(images) == images).all())
    True
    """

    def __init__(self, sigma: float, *, clean: float = 0.5, clean_first: float = 0.0) -> None:
        super().__init__()
        if not 0 < sigma < math.inf:
            raise ValueError(f"WhiteNoise: sigma needs a number above 0, got {sigma}")
        check_options("WhiteNoise", "a fraction in [0, 1]", highest=1, clean=clean, clean_first=clean_first)
        self.sigma = sigma
        self.clean = clean
        self.clean_first = clean_first

    def forward(self, images: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b c h w"]:
        """Return the images, noisy where the module is in training mode; never in place."""
        if not self.training:
            return images
        if images.ndim == 3:
            one: Tensor = self(images[None])[0]
            return one
        check_range_of_images("WhiteNoise", images, "place it before the normalization")
        noisy = (images + self.sigma * torch.randn_like(images)).clamp(0, 1)
        stays = torch.rand(len(images), 1, 1, 1, device=images.device) < self.clean
        stays[: round(self.clean_first * len(images))] = True
        return torch.where(stays, images, noisy)

    def extra_repr(self) -> str:
        """Return the options."""
        return f"{self.sigma}, clean={self.clean}"


class Blur(Held):
    """Convolves each kernel with a fixed blur."""

    kernel: Tensor

    def __init__(self, side: float, free_size: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("kernel", _blur_kernel(side))
        self.free_size = free_size

    def forward(self, weight: Filters) -> Float[Tensor, "f c khh kww"]:
        """Return the wider kernels."""
        return held.blurred(weight, self.kernel)

    def taken(self, weight: Filters) -> tuple[Filters, dict[str, Tensor]]:
        """Return a free weight as it is; refuse wide kernels, which are not all those of a blurred layer."""
        if tuple(weight.shape[2:]) == self.free_size:
            return weight, {"kernel": self.kernel}
        raise ValueError(
            "set_blur: baked weights cannot be taken apart into a blur and a free layer; load them into a "
            f"plain layer of {weight.shape[2]}x{weight.shape[3]} taps"
        )


def _blur_kernel(side: float) -> Float[Tensor, "3 3"]:
    line = torch.tensor([side, 1 - 2 * side, side], dtype=torch.float64)
    return torch.outer(line, line).float()


def _tap_covariance(images: Data, size: tuple[int, int]) -> Float[Tensor, "taps taps"]:
    """Return the covariance of the pixels under a kernel's taps, averaged over channels."""
    batches = image_batches("equal_gain_blur", images)
    sample = next(batches)
    channels = sample.shape[1]
    sums = PatchSums(nn.Conv2d(channels, channels, size, groups=channels, device="meta"))
    for part in chain([sample], batches):
        sums.add(part)
    sums.check("equal_gain_blur", "the images")
    return sums.moments()[1].mean(dim=0).cpu()


def _noise_ratio(
    kernels: Float[Tensor, "n kh kw"], covariance: Float[Tensor, "taps taps"], size: tuple[int, int]
) -> float:
    """Return unit noise over signal in the responses of all these kernels, zeros around them up to `size`."""
    down, right = size[0] - kernels.shape[1], size[1] - kernels.shape[2]
    rows = F.pad(kernels, (right // 2, right - right // 2, down // 2, down - down // 2)).flatten(1)
    return float(rows.square().sum() / ((rows @ covariance) * rows).sum())
