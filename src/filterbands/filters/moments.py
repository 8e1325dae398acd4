"""What the first spatial convolution of a network sees: moments of its patches, and noise in them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .. import rng
from ..datasets import ImageSet
from ..models import evaluating
from ..types import FloatImages

# Images a forward pass; numbers that one unfolded batch may hold.
_BATCH = 100
_UNFOLDED = 2**23
# Patches for every input of a filter, below which a covariance is mostly chance.
_PATCHES_AN_INPUT = 10
# Standard deviation of the noise that is sent through what stands in front of the layer, and how close to a
# pointwise linear map its image must be to be taken for one.
_PROBE = 0.01
_POINTWISE = 1e-2


@dataclass(frozen=True, slots=True, eq=False)
class FirstLayer:
    """The first convolution larger than 1x1 that an image meets, and the batch norms that read its output."""

    name: str
    layer: nn.Conv2d
    norms: tuple[_BatchNorm, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PatchStatistics:
    """Moments of a layer's input patches in float64: one row a group, d inputs a filter, channels first."""

    mean: Float[Tensor, "g d"]
    covariance: Float[Tensor, "g d d"]
    noise: Float[Tensor, "g d d"]
    """Covariance that white noise of standard deviation 1 at the network's input adds."""
    patches: int


class _Enough(Exception):  # noqa: N818  # no error: what stands behind the layer need not run
    """Ends a forward pass once the layer has been reached."""


def image_batches(verb: str, data: Any) -> Iterator[FloatImages]:
    """Yield float images in [0, 1], some 100 at a time, from anything that holds images.

    Raises:
        ValueError: Not images, or out of range.
    """
    if isinstance(data, ImageSet):
        data = data.images
    if isinstance(data, Tensor):
        if data.ndim != 4:
            raise ValueError(f"{verb} needs images NCHW, got a tensor of shape {tuple(data.shape)}")
        data = torch.split(data, _BATCH) if len(data) else ()
    if not isinstance(data, Iterable):
        kind = type(data).__name__
        raise ValueError(f"{verb} needs an ImageSet, a tensor of images or batches of images, got {kind}")
    for batch in data:
        images = batch[0] if isinstance(batch, list | tuple) else batch
        if not isinstance(images, Tensor) or images.ndim != 4:
            shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(f"{verb} needs batches of images NCHW, got {shape}")
        if images.dtype == torch.uint8:
            images = images.float() / 255
        if not images.is_floating_point():
            raise ValueError(f"{verb} needs bytes or floats in [0, 1], got {images.dtype}")
        if len(images) == 0:
            continue
        low, high = (float(bound) for bound in images.aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"{verb} needs images in [0, 1], got values from {low:.4g} to {high:.4g}")
        yield images


def find_first_layer(verb: str, model: nn.Module, images: FloatImages) -> FirstLayer:
    """Return the first spatial convolution that a forward pass of these images meets.

    Raises:
        ValueError: There is none.
    """
    names = {module: name or "the layer itself" for name, module in model.named_modules()}
    called: list[nn.Conv2d] = []
    outputs: list[Tensor] = []
    norms: list[_BatchNorm] = []

    def on_convolution(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(module, nn.Conv2d) and not called and max(module.kernel_size) > 1:
            called.append(module)
            outputs.append(output)

    def on_norm(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, _BatchNorm) and outputs and inputs and inputs[0] is outputs[0]:
            norms.append(module)

    hooks = [
        module.register_forward_hook(on_convolution) for module in names if isinstance(module, nn.Conv2d)
    ]
    hooks += [module.register_forward_pre_hook(on_norm) for module in names]
    try:
        _run(model, images[:2])
    finally:
        for hook in hooks:
            hook.remove()
    if not called:
        raise ValueError(f"{verb} needs a network with a torch.nn.Conv2d larger than 1x1, found none")
    return FirstLayer(names[called[0]], called[0], tuple(norms))


def patch_statistics(
    verb: str, model: nn.Module, first: FirstLayer, batches: Iterable[FloatImages]
) -> PatchStatistics:
    """Return the moments of the patches that the layer sees of all these images.

    Raises:
        ValueError: Too few patches for a covariance.
    """
    layer = first.layer
    inputs = layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
    sums, noise = _Sums.empty(layer.groups, inputs), _Sums.empty(layer.groups, inputs)
    colour: Tensor | None = None
    known: Tensor | None = None
    for number, images in enumerate(batches):
        seen = _seen(model, layer, images)
        sums.add(_patches(layer, seen))
        if number == 0:
            colour = _colour_map(model, layer, images, seen)
            if colour is not None:
                known = _noise_of_colour_map(layer, colour, seen)
        if known is None:
            probe = _PROBE * _white(images, number)
            noise.add(_patches(layer, (_seen(model, layer, images + probe) - seen) / _PROBE))
    if sums.count < _PATCHES_AN_INPUT * inputs:
        raise ValueError(
            f"{verb} needs at least {_PATCHES_AN_INPUT * inputs:,} patches of {first.name}, whose filters "
            f"have {inputs} inputs, got {sums.count:,}; give more images"
        )
    mean, covariance = sums.moments()
    return PatchStatistics(mean, covariance, noise.moments()[1] if known is None else known, sums.count)


@dataclass(slots=True)
class _Sums:
    """Running sums of patches and of their products, about the mean of the first batch."""

    first: Tensor
    second: Tensor
    centre: Tensor
    count: int

    @staticmethod
    def empty(groups: int, inputs: int) -> "_Sums":
        first = torch.zeros(groups, inputs, dtype=torch.float64)
        return _Sums(first, first[:, :, None] * first[:, None, :], first, 0)

    def add(self, parts: Iterable[Float[Tensor, "g d p"]]) -> None:
        for part in parts:
            if self.count == 0:
                # Products of numbers far from 0 would lose the digits that a covariance lives on.
                self.centre = part.mean(dim=2)
                self.first, self.second = self.first.to(part.device), self.second.to(part.device)
            shifted = part - self.centre[:, :, None]
            self.first += shifted.double().sum(dim=2)
            self.second += (shifted @ shifted.mT).double()
            self.count += part.shape[2]

    def moments(self) -> tuple[Tensor, Tensor]:
        mean = self.first / self.count
        covariance = self.second / self.count - mean[:, :, None] * mean[:, None, :]
        return mean + self.centre.double(), (covariance + covariance.mT) / 2


def _seen(model: nn.Module, layer: nn.Conv2d, images: FloatImages) -> Float[Tensor, "b d i j"]:
    """Return what the layer is given for these images."""
    given: list[Tensor] = []

    def stop(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        given.append(inputs[0] if inputs else named["input"])
        raise _Enough

    hook = layer.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        _run(model, images)
    except _Enough:
        pass
    finally:
        hook.remove()
    return given[0].float()


@torch.no_grad()
def _run(model: nn.Module, images: FloatImages) -> None:
    place = next(model.parameters())
    with evaluating(model):
        model(images.to(place.device, place.dtype))


def padded(layer: nn.Conv2d, seen: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c hh ww"]:
    """Return what a layer's kernels run over: its input with the layer's own padding."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(seen, layer._reversed_padding_repeated_twice, mode=mode)


def unfold(layer: nn.Conv2d, seen: Float[Tensor, "b c hh ww"]) -> Float[Tensor, "b n p"]:
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


def _patches(layer: nn.Conv2d, seen: Float[Tensor, "b c i j"]) -> Iterator[Float[Tensor, "g n p"]]:
    """Yield the layer's input patches, as columns, group by group."""
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


def _colour_map(
    model: nn.Module, layer: nn.Conv2d, images: FloatImages, seen: Float[Tensor, "b d i j"]
) -> Float[Tensor, "d c"] | None:
    """Return the matrix D of what stands before the layer, if that maps each pixel's colour by itself."""
    few = images[:8]
    probe = _PROBE * _white(few, 0)
    moved = (_seen(model, layer, few + probe) - seen[:8]).double()
    if moved.shape[2:] != few.shape[2:]:
        return None
    pixels = probe.to(moved.device).double().movedim(1, 3).flatten(0, 2)
    images_of = moved.movedim(1, 3).flatten(0, 2)
    solution = torch.linalg.lstsq(pixels, images_of).solution
    rest = (images_of - pixels @ solution).norm()
    return solution.T if float(rest) <= _POINTWISE * float(images_of.norm()) else None


def _noise_of_colour_map(
    layer: nn.Conv2d, colour: Float[Tensor, "d c"], seen: Float[Tensor, "b d i j"]
) -> Float[Tensor, "g n n"]:
    """Return the covariance of white noise in patches: colours mix, taps do not, padding has none."""
    inside = torch.ones(1, 1, *seen.shape[2:], device=seen.device)
    share = unfold(layer, padded(layer, inside)).mean(dim=2).flatten().double()
    between = (colour @ colour.T).reshape(layer.groups, layer.in_channels // layer.groups, layer.in_channels)
    width = layer.in_channels // layer.groups
    blocks = [row[:, g * width : (g + 1) * width] for g, row in enumerate(between)]
    return torch.stack([torch.kron(block, share.diag()) for block in blocks])
