"""Moments of the patches that a convolution sees: one accumulating core, and what noise adds to them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from .. import rng
from ..datasets import ImageSet, load_data, tensors_in
from ..engine import batches_of
from ..models import Convolution, convolved_input, evaluating, run_on
from ..types import FloatImages

# Numbers that one unfolded batch may hold.
_UNFOLDED = 2**23
# Patches for every input of a filter, below which a covariance is mostly chance.
_PATCHES_AN_INPUT = 10
# Standard deviation of the noise that is sent through what stands in front of the layer, and how close to a
# pointwise linear map its image must be to be taken for one.
_PROBE = 0.01
_POINTWISE = 1e-2


class PatchSums:
    """Running sums, in float64, of the patches that a layer's kernels cover and of their products.

    Args:
        layer: A planar convolution; only its geometry counts, so that it may be on the meta device.
    """

    def __init__(self, layer: _ConvNd) -> None:
        self.layer = layer
        self.inputs = layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
        self.count = 0
        self._origin = self._first = self._second = torch.zeros(())

    def add(self, seen: Float[Tensor, "b c h w"]) -> None:
        """Add every patch of a batch of the layer's inputs."""
        for part in _patches(self.layer, seen):
            if self.count == 0:
                # Products of numbers far from 0 would lose the digits that a covariance lives on.
                self._origin = part.mean(dim=2)
                self._first = torch.zeros_like(self._origin, dtype=torch.float64)
                self._second = self._first[:, :, None] * self._first[:, None, :]
            shifted = part - self._origin[:, :, None]
            self._first += shifted.double().sum(dim=2)
            self._second += (shifted @ shifted.mT).double()
            self.count += part.shape[2]

    def moments(self) -> tuple[Float[Tensor, "g d"], Float[Tensor, "g d d"]]:
        """Return mean and covariance of the patches, a row per group, channels first."""
        mean = self._first / self.count
        covariance = self._second / self.count - mean[:, :, None] * mean[:, None, :]
        return mean + self._origin.double(), (covariance + covariance.mT) / 2

    def about(self, point: Float[Tensor, "*g d"] | float) -> Float[Tensor, "g d d"]:
        """Return the mean product of (patch - point) with itself."""
        mean, covariance = self.moments()
        away = mean - point
        moment: Tensor = covariance + away[:, :, None] * away[:, None, :]
        return moment

    def check(self, verb: str, name: str) -> None:
        """Raise ValueError where the patches are too few for a covariance."""
        needed = _PATCHES_AN_INPUT * self.inputs
        if self.count < needed:
            raise ValueError(
                f"{verb} needs at least {needed:,} patches of {name}, whose filters have {self.inputs} "
                f"inputs, got {self.count:,}; give more images"
            )


@dataclass(frozen=True, slots=True, eq=False)
class PatchStatistics:
    """Moments of a layer's input patches in float64: per group, d inputs per filter, channels first."""

    mean: Float[Tensor, "g d"]
    covariance: Float[Tensor, "g d d"]
    noise: Float[Tensor, "g d d"]
    """Covariance that white noise of standard deviation 1 at the network's input adds."""


class _Enough(Exception):  # noqa: N818  # no error: what stands behind the layer need not run
    pass


def as_floats(images: Tensor) -> FloatImages:
    """Return images as floats; bytes are divided by 255."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def image_batches(verb: str, data: Any) -> Iterator[FloatImages]:
    """Yield float images in [0, 1], some 100 at a time, from anything that holds images.

    A text names the `train` split of a data set, as `load_data` does.

    Raises:
        ValueError: Not images, none, or out of range.
    """
    if isinstance(data, str | os.PathLike):
        data = load_data(str(data), split="train")
    if isinstance(data, ImageSet):
        data = data.images
    if isinstance(data, Tensor) and data.ndim > 0:
        data = batches_of(data)
    found = False
    for images in tensors_in(verb, data):
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise ValueError(f"{verb} needs bytes or floats in [0, 1], got {images.dtype}")
        images = as_floats(images)
        if len(images) == 0:
            continue
        low, high = (float(bound) for bound in images.aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"{verb} needs images in [0, 1], got values from {low:.4g} to {high:.4g}")
        found = True
        yield images
    if not found:
        raise ValueError(f"{verb} needs images, got none")


def patch_statistics(
    verb: str, model: nn.Module, first: Convolution, batches: Iterable[FloatImages]
) -> PatchStatistics:
    """Return the moments of the patches that a layer of the network sees of all these images.

    Raises:
        ValueError: Too few patches for a covariance.
    """
    layer = first.layer
    sums = noise = PatchSums(layer)
    known: Tensor | None = None
    for number, images in enumerate(batches):
        given = _given(model, layer, images)
        seen, geometry = convolved_input(verb, layer, given)
        seen = seen.float()
        if number == 0:
            sums, noise = PatchSums(geometry), PatchSums(geometry)
            known = _noise_of_colors(verb, model, layer, images, given)
        sums.add(seen)
        if known is None:
            probe = _PROBE * _white(images, number)
            moved, _ = convolved_input(verb, layer, _given(model, layer, images + probe))
            noise.add((moved.float() - seen) / _PROBE)
    sums.check(verb, "the layer itself" if layer is model else first.name)
    mean, covariance = sums.moments()
    return PatchStatistics(mean, covariance, noise.moments()[1] if known is None else known)


@torch.no_grad()
def _given(model: nn.Module, layer: _ConvNd, images: FloatImages) -> Float[Tensor, "b d i j"]:
    """Return what the network hands to the layer."""
    given: list[Tensor] = []

    def stop(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        given.append(inputs[0] if inputs else named["input"])
        raise _Enough

    with layer.register_forward_pre_hook(stop, with_kwargs=True), evaluating(model), suppress(_Enough):
        run_on(model, images)
    return given[0]


def padded(layer: _ConvNd, seen: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c hh ww"]:
    """Return what a layer's kernels run over: its input with the layer's own padding."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(seen, layer._reversed_padding_repeated_twice, mode=mode)


def unfold(layer: _ConvNd, seen: Float[Tensor, "b c hh ww"]) -> Float[Tensor, "b n p"]:
    """Return the layer's input patches as columns, channels first, of an input that is padded.

    What `torch.nn.functional.unfold` gives, which is slow on a CPU.
    """
    starts, spans = [], []
    for side, taps, step, apart in zip(
        seen.shape[2:], layer.kernel_size, layer.stride, layer.dilation, strict=True
    ):
        starts.append([tap * apart for tap in range(taps)])
        spans.append((side - apart * (taps - 1) - 1) // step * step + 1)
    tapped = [
        seen[:, :, i : i + spans[0] : layer.stride[0], j : j + spans[1] : layer.stride[1]]
        for i in starts[0]
        for j in starts[1]
    ]
    return torch.stack(tapped, dim=2).flatten(3).flatten(1, 2)


def _patches(layer: _ConvNd, seen: Float[Tensor, "b c i j"]) -> Iterator[Float[Tensor, "g n p"]]:
    whole = padded(layer, seen)
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    each = whole[0].numel() * taps // (layer.stride[0] * layer.stride[1]) + 1
    for part in torch.split(whole, max(1, _UNFOLDED // each)):
        columns = unfold(layer, part)
        grouped = columns.reshape(len(part), layer.groups, -1, columns.shape[2])
        yield grouped.permute(1, 2, 0, 3).flatten(2)


def _white(images: FloatImages, number: int) -> FloatImages:
    index = torch.arange(len(images)) + number * 2**20
    return rng.normal(rng.keys(0, "patches", index=index), tuple(images.shape[1:])).to(images.device)


def _noise_of_colors(
    verb: str, model: nn.Module, layer: _ConvNd, images: FloatImages, given: Float[Tensor, "b d i j"]
) -> Float[Tensor, "g n n"] | None:
    """Return the covariance of white noise in the layer's patches, in closed form; None without one.

    The form needs a network that maps each pixel's color independently in front of the layer, and a layer
    that pads what it is given in a way that is known. Noise is then correlated between channels, and between
    taps that hold the same pixel; pixels of zero padding carry none.
    """
    few = images[:8]
    probe = _PROBE * _white(few, 0)
    noisy = _given(model, layer, few + probe)
    ways = _padding_and_geometry(verb, layer, noisy)
    if noisy.shape[2:] != few.shape[2:] or ways is None:
        return None
    moved = (noisy.float() - given[:8].float()).double()
    pixels = probe.to(moved.device).double().movedim(1, 3).flatten(0, 2)
    images_of = moved.movedim(1, 3).flatten(0, 2)
    colors = torch.linalg.lstsq(pixels, images_of).solution
    rest = (images_of - pixels @ colors).norm()
    if float(rest) > _POINTWISE * float(images_of.norm()):
        return None
    pads, geometry = ways
    share = _same_pixel(pads, geometry, few.shape[2:]).to(colors)
    width = geometry.in_channels // geometry.groups
    blocks = [part.T @ part for part in colors.split(width, dim=1)]
    return torch.stack([torch.kron(block, share) for block in blocks])


def _same_pixel(pads: _ConvNd, geometry: _ConvNd, sides: Sequence[int]) -> Float[Tensor, "taps taps"]:
    """Return the share of patches in which two taps hold the same pixel, in the diagonal any pixel at all.

    Padding that repeats pixels, as reflection does, brings one pixel under several taps of a border's patch.
    """
    # From 1, as a pixel of zero padding has 0.
    numbers = torch.arange(1, sides[0] * sides[1] + 1, dtype=torch.float64).reshape(1, 1, *sides)
    (columns,) = unfold(geometry, padded(pads, numbers))
    if pads.padding_mode == "zeros":
        inside: Tensor = (columns > 0).double().mean(dim=1)
        return inside.diag()
    # Tap by tap, as the comparisons of all at once may not fit into memory.
    return torch.stack([(columns == tap).double().mean(dim=1) for tap in columns])


def _padding_and_geometry(
    verb: str, layer: _ConvNd, given: Float[Tensor, "b c h w"]
) -> tuple[_ConvNd, _ConvNd] | None:
    """Return a layer that pads as this one does, and one of the geometry that it runs its kernels with.

    Both are the layer itself unless it has a forward of its own; None where that pads in a way of its own.
    """
    seen, geometry = convolved_input(verb, layer, given)
    whole = padded(geometry, seen.float())
    for pads in (layer, geometry):
        if torch.equal(whole, padded(pads, given.float())):
            return pads, geometry
    return None
