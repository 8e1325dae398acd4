"""What filters let through of given images: the share within the cutoff of a response, not of a kernel.

A filter's low energy is what it lets through of white input. For the input that a layer sees, the same share
is `w^T B_S w / w^T A_S w`: A_S is the covariance of the input's patches, B_S that of its patches after an
ideal, circular low-pass. The mean of each channel over the data set is removed. Patches lie whole within the
input, so that no padding is mistaken for an image.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..datasets import ImageSet, tensors_in
from ..engine import batches_of
from ..fourier import filter_images, radius_grid
from ..models import evaluating, plainly, run_on
from ..types import Filters, FloatImages, Taps
from .bands import EQUAL_AREA, check_cutoff, cutoff_of
from .integrals import Sides
from .layers import Layer
from .moments import PatchSums, as_floats

# Larger than any value of a normalized image, and smaller than most bytes.
_NORMALIZED = 16.0


def patch_covariances(
    images: FloatImages,
    *,
    size: tuple[int, int],
    cutoff: float = EQUAL_AREA,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
) -> tuple[Taps, Taps]:
    """Return the covariance of the patches that a kernel sees, and that after a low-pass at the cutoff.

    Both are float64 and of side channels * kh * kw, channels first, as a flattened filter is.

    Args:
        images: NCHW, in any unit.
        size: Sides of the kernel.
        cutoff: Radius in (0, 1/2], cycles per pixel.
        stride: Pixels between patches.
        dilation: Pixels between taps.

    Raises:
        ValueError: No patch fits into the images, or a cutoff outside of its range.

    >>> whole, low = patch_covariances(torch.rand(8, 3, 16, 16), size=(3, 3))
    >>> whole.shape, bool(low.trace() < whole.trace())
    (torch.Size([27, 27]), True)
    """
    check_cutoff(cutoff)
    if not _fits(images.shape[2:], size, dilation):
        raise ValueError(f"no patch of {size} with dilation {dilation} fits into {tuple(images.shape[2:])}")
    layer = nn.Conv2d(images.shape[1], 1, size, stride, dilation=dilation, device="meta")
    whole, low = PatchSums(layer), PatchSums(layer)
    for part in batches_of(images):
        whole.add(part.double())
        low.add(low_passed(part.double(), cutoff))
    # The mean of each channel over all pixels, as what a patch of a constant image holds.
    means = images.double().mean(dim=(0, 2, 3)).repeat_interleave(size[0] * size[1])
    return whole.about(means)[0], low.about(means)[0]


def response_low_energy(weight: Filters, whole: Taps, low: Taps) -> Float[Tensor, " f"]:
    """Return the share within the cutoff of what each filter lets through; differentiable.

    Args:
        weight: Filters, channels, height, width.
        whole: Covariance of the patches, of side channels * kh * kw, as `patch_covariances` returns it.
        low: That of the low-passed patches.

    Raises:
        ValueError: Matrices of another size than the filters.

    >>> whole, low = patch_covariances(torch.rand(8, 3, 16, 16), size=(3, 3))
    >>> response_low_energy(torch.ones(4, 3, 3, 3), whole, low).shape
    torch.Size([4])
    """
    flat = weight.flatten(1)
    if whole.shape != low.shape or whole.shape[0] != flat.shape[1]:
        raise ValueError(
            f"response_low_energy needs two square matrices of side {flat.shape[1]}, got "
            f"{tuple(whole.shape)} and {tuple(low.shape)}"
        )
    through, below = (((flat @ form.to(flat)) * flat).sum(dim=1) for form in (whole, low))
    share: Tensor = below / through
    return share


def low_passed(images: FloatImages, cutoff: float) -> FloatImages:
    """Return images without their frequencies beyond the cutoff, circular, the mean kept."""
    radius = radius_grid(*images.shape[2:], half=True).to(images.device)
    # Float32 radii: one that is on the cutoff but for rounding is within it.
    gain = (radius <= cutoff + 1e-6).to(images.dtype)
    return filter_images(images, gain[None, None])


def response_of_network(
    model: nn.Module, layers: Sequence[Layer], data: ImageSet | Tensor, cutoff: float
) -> dict[str, Float[Tensor, " f"]]:
    """Return the response low energy of each planar convolution's filters, by the layer's name.

    The network is run once on the images, in evaluation mode. Layers that never run are left out, and those
    whose input is less than twice their kernel on a side: of the few patches there, the low-passed input can
    give more energy than the input itself.
    """
    images = images_of(data)
    wanted = {layer.name: layer for layer in layers if _is_planar(layer)}
    tallies: dict[str, _Tally] = {}
    plain = plainly(path for path, _ in model.named_modules())
    with ExitStack() as hooks, evaluating(model), torch.no_grad():
        for path, module in model.named_modules():
            name = plain(path) or "weight"
            if name in wanted:
                tallies[name] = _Tally(wanted[name], cutoff_of(cutoff, 2))
                catch = partial(
                    lambda tally, _, inputs, named: tally.add(inputs[0] if inputs else named["input"]),
                    tallies[name],
                )
                hooks.enter_context(module.register_forward_pre_hook(catch, with_kwargs=True))
        for part in batches_of(images):
            run_on(model, as_floats(part))
    return {name: tally.share() for name, tally in tallies.items() if tally.positions}


def response_of_tensors(
    _: Mapping[str, Tensor], layers: Sequence[Layer], data: ImageSet | Tensor, cutoff: float
) -> dict[str, Float[Tensor, " f"]]:
    """Return the response low energy of those layers that read as many channels as an image has.

    They are taken to see the images in [0, 1], every patch of them.
    """
    images = images_of(data)
    readers = [layer for layer in layers if _is_planar(layer) and layer.weight.shape[1] == images.shape[1]]
    tallies = {layer.name: _Tally(layer, cutoff_of(cutoff, 2)) for layer in readers}
    for part in batches_of(images):
        for tally in tallies.values():
            tally.add(as_floats(part))
    return {name: tally.share() for name, tally in tallies.items() if tally.positions}


def images_of(data: ImageSet | Tensor | Iterable[Any] | Dataset[Any]) -> Tensor:
    """Return the images, bytes or floats, NCHW; raise ValueError for none, or another shape or type."""
    if isinstance(data, ImageSet):
        images = data.images
    else:
        images = (
            data if isinstance(data, Tensor) else torch.cat([*tensors_in("data", data)] or [torch.empty(0)])
        )
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"data needs at least one image, NCHW, got shape {tuple(images.shape)}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"data needs bytes or floats in [0, 1], got {images.dtype}")
    if images.dtype != torch.uint8 and float(images.abs().max()) > _NORMALIZED:
        raise ValueError(
            "data needs bytes, or floats in [0, 1] or as the network takes them, got floats up to "
            f"{float(images.abs().max()):.4g}; divide bytes by 255"
        )
    return images


def _is_planar(layer: Layer) -> bool:
    return layer.measured and len(layer.size) == 2 and not layer.transposed and layer.size != (1, 1)


def _fits(image: Sequence[int], size: Sequence[int], dilation: Sides) -> bool:
    return all(side > step * (taps - 1) for side, taps, step in zip(image, size, dilation, strict=True))


@dataclass(slots=True, eq=False)
class _Tally:
    """Sums over patches of one layer's responses, to its input and to its low-passed input.

    Running the layer's filters costs less than the covariance of its patches, and gives the same.
    """

    layer: Layer
    cutoff: float
    positions: int = 0
    pixels: int = 0
    # About which everything is summed: the first batch's means, so that no large numbers cancel.
    origin: Tensor | None = None
    means: Tensor | float = 0.0
    sums: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, inputs: Float[Tensor, "*b c h w"]) -> None:
        layer = self.layer
        # A convolution takes a single image without an axis for it.
        inputs = inputs if inputs.ndim == 4 else inputs[None]
        # The transform of torch knows no shorter numbers.
        inputs = inputs if inputs.dtype == torch.float64 else inputs.float()
        if not _fits(inputs.shape[2:], [2 * side for side in layer.size], layer.dilation):
            return
        if self.origin is None:
            self.origin = inputs.mean(dim=(0, 2, 3)).reshape(1, -1, 1, 1)
        weight = layer.weight.to(inputs)
        centered = inputs - self.origin
        steps, spread = layer.stride or 1, layer.dilation
        answers = [
            F.conv2d(seen, weight, stride=steps, dilation=spread, groups=layer.groups)
            for seen in (centered, low_passed(centered, self.cutoff))
        ]
        self.sums += torch.stack([_total(answer) for answer in answers])
        self.squares += torch.stack([_total(answer.square_()) for answer in answers])
        self.means += _total(centered)
        self.positions += answers[0][:, 0].numel()
        self.pixels += inputs[:, 0].numel()

    def share(self) -> Float[Tensor, " f"]:
        """Return each filter's share of the energy of its response, the channels' means removed."""
        groups, (filters, channels) = self.layer.groups, self.layer.weight.shape[:2]
        per_filter = self.layer.weight.double().sum(dim=(2, 3)).reshape(groups, filters // groups, channels)
        means = torch.as_tensor(self.means / self.pixels).reshape(groups, channels)
        constant = torch.einsum("gfc,gc->gf", per_filter, means).flatten()
        # Of y - m, with m the response to the means: the sum of y^2 - 2 m y + m^2.
        energy = self.squares - 2 * constant * self.sums + self.positions * constant.square()
        whole, low = torch.as_tensor(energy).clamp_min(0)
        share: Tensor = torch.where(whole > 0, low / whole, torch.nan)
        return share


def _total(answer: Float[Tensor, "b f h w"]) -> Float[Tensor, " f"]:
    return answer.sum(dim=(0, 2, 3)).double().cpu()
