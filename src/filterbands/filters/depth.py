"""Beyond the first layer: two layers composed, and the input gradient of the whole network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..datasets import ImageSet, load_data
from ..engine import batches_of, logits_in
from ..fourier import centered, power_spectrum, radius_grid
from ..models import convolutions, evaluating, first_layer, run_on
from ..types import Filters, FloatImages, Labels
from .bands import EQUAL_AREA, check_cutoff
from .figures import LayerSpectrum
from .layers import Layer, checked, layer_of
from .moments import as_floats
from .response import images_of
from .spectrum import RADII, measure
from .tables import plain


def effective_first_layer(
    model: nn.Module, *, first: str | None = None, second: str | None = None, cutoff: float = EQUAL_AREA
) -> LayerSpectrum:
    """Return the spectrum of the first two convolutions composed, in the linear sense.

    The composition is what the second layer's filters see of the image if nothing but the first convolution
    and its batch norm, in evaluation mode, stood before them: activations and pooling are left out. The
    order is that of registration. Strides multiply, so that `aliased_energy` is of both. There is no
    interval of chance: composed white filters are not white.

    Args:
        model: A network; it is left as it is.
        first: Name of the first convolution; by default the first planar one larger than 1x1.
        second: Name of the second; by default the first one registered behind it that reads as many
            channels as the first one gives.
        cutoff: Radius between low and high in (0, 1/2], cycles per pixel of the image.

    Raises:
        ValueError: No such layers, or layers that do not fit together.

    >>> effective_first_layer(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 5))).shape
    (4, 3, 7, 7)
    """
    found = {entry.name: entry for entry in convolutions(model) if isinstance(entry.layer, nn.Conv2d)}
    names = list(found)
    for name in (first, second):
        if name is not None and name not in found:
            raise ValueError(f"no planar convolution {name!r}; there are {', '.join(names) or 'none'}")
    if first is None:
        first = first_layer("effective_first_layer", model).name
    one = found[first].layer
    if second is None:
        behind = names[names.index(first) + 1 :]
        second = next((name for name in behind if found[name].layer.in_channels == one.out_channels), None)
        if second is None:
            raise ValueError(
                f"no convolution behind {first} reads the {one.out_channels} channels that it gives"
            )
    two = found[second].layer
    if two.in_channels != one.out_channels:
        raise ValueError(
            f"{second} reads {two.in_channels} channels, but {first} gives {one.out_channels}: "
            "they do not follow each other"
        )
    scale, norm, note = found[first].scale()
    layers = layer_of(one, first), layer_of(two, second)
    inner, outer = (_dense(layer.weight.double(), layer.groups) for layer in layers)
    if scale is not None:
        inner = inner * scale[:, None, None, None]
    spread = [step * taps for step, taps in zip(one.stride, two.dilation, strict=True)]
    # Tap b of the second kernel looks at stride * dilation * b, where the first one's taps stand around.
    composed = F.conv_transpose2d(outer, inner, stride=spread, dilation=one.dilation)
    name = f"{first} -> {second}"
    left_out = "composed linearly: activations and pooling between them are left out"
    return measure(
        Layer(
            name=name,
            shape=tuple(composed.shape),
            weight=checked(name, composed),
            stride=tuple(int(a) * int(b) for a, b in zip(one.stride, two.stride, strict=True)),
            dilation=(1, 1),
            batch_norm=norm,
            notes=tuple(dict.fromkeys((left_out, note, *layers[0].notes, *layers[1].notes))),
        ),
        cutoff,
        chance=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GradientSpectrum:
    """Which frequencies of an image move a network's loss: the mean power spectrum of the input gradient."""

    images: int
    """Number of images."""
    cutoff: float
    """Radius between low and high, cycles per pixel."""
    power: Float[Tensor, "h w"]
    """Mean over images, summed over channels, frequency zero in the center (at h // 2, w // 2); scaled to a
    mean of 1, which a white gradient has everywhere."""
    low_energy: float
    """Share of all gradients' energy within the cutoff: images of high loss count most."""
    mean_low_energy: float
    """Mean over images of each one's own share; images without any gradient are left out."""
    white_low_energy: float
    """What a white gradient has: the share of the image's frequencies within the cutoff."""
    centroid: float
    """Power-weighted mean radius, cycles per pixel."""
    images_low_energy: Float[Tensor, " n"]
    """Each image's share; NaN without any gradient."""
    radii: Float[Tensor, " r"]
    """Radii of the curve."""
    curve: Float[Tensor, " r"]
    """Share of all gradients' energy within each radius."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values; those of single images are left out."""
        means = ("low_energy", "mean_low_energy", "white_low_energy", "centroid")
        return {key: plain(getattr(self, key)) for key in ("images", "cutoff", *means, "radii", "curve")}

    def __str__(self) -> str:
        return (
            f"input gradient, {self.images} images: {self.low_energy:.3f} of its energy is low "
            f"(mean over images {self.mean_low_energy:.3f}, white {self.white_low_energy:.3f}), "
            f"centroid {self.centroid:.3f}"
        )


def input_gradient_spectrum(
    model: nn.Module, data: ImageSet | str, *, cutoff: float = EQUAL_AREA
) -> GradientSpectrum:
    """Return the mean power spectrum of the gradient of the cross-entropy with respect to the image.

    The network is run in evaluation mode, on the device it is on, and left as it is. The gradient is with
    respect to images in [0, 1]; its spectrum is that of the DFT of the image's size.

    Args:
        model: Takes NCHW in [0, 1] and returns logits.
        data: Images and labels, or a text that `load_data` takes; a thousand suffice for three digits.
        cutoff: Radius between low and high in (0, 1/2], cycles per pixel.

    Raises:
        ValueError: Images that the network cannot take, labels that it has no output for, or gradients that
            are zero throughout.

    >>> from filterbands import load_data, load_model
    >>> few = load_data("planted").subset(torch.arange(20))
    >>> input_gradient_spectrum(load_model(arch="fastnet", classes=len(few.classes)), few).power.shape
    torch.Size([32, 32])
    """
    check_cutoff(cutoff)
    data = load_data(data) if isinstance(data, str) else data
    images = images_of(data)
    total = torch.zeros(images.shape[2:], dtype=torch.float64)
    radius = radius_grid(*images.shape[2:]).double()
    inside = radius <= cutoff + 1e-6
    shares = []

    def answer(part: FloatImages) -> Float[Tensor, "b classes"]:
        logits, largest = logits_in(run_on(model, part)), int(data.labels.max())
        if logits.ndim != 2 or largest >= logits.shape[1]:
            raise ValueError(f"the network's output of shape {tuple(logits.shape)} has no class {largest}")
        return logits

    with evaluating(model):
        for part, labels in zip(batches_of(images), batches_of(data.labels), strict=True):
            power, norms = gradient_power(answer, as_floats(part), labels)
            each = power.double().sum(dim=1).cpu()
            total += (each * norms.double().cpu().square()[:, None, None]).sum(dim=0)
            shares.append((each * inside).sum(dim=(1, 2)) / each.sum(dim=(1, 2)))
    whole = float(total.sum())
    if not whole > 0:
        raise ValueError("the loss does not depend on the images: every gradient is zero")
    share = torch.cat(shares)
    known = share[share.isfinite()]
    curve = torch.stack([total[radius <= step + 1e-6].sum() / whole for step in RADII])
    return GradientSpectrum(
        images=len(images),
        cutoff=cutoff,
        power=centered(total / total.mean()),
        low_energy=float(total[inside].sum()) / whole,
        mean_low_energy=float(known.mean()),
        white_low_energy=float(inside.double().mean()),
        centroid=float((total * radius).sum()) / whole,
        images_low_energy=share,
        radii=torch.tensor(RADII, dtype=torch.float64),
        curve=curve,
    )


def gradient_power(
    answer: Callable[[FloatImages], Float[Tensor, "b classes"]], images: FloatImages, labels: Labels
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, " b"]]:
    """Return the spectra of each image's loss gradient at unit norm, and the gradients' norms.

    The gradient is that of the cross-entropy with respect to the image; without any its spectrum is 0. Unit
    norm keeps the squares of small gradients, which confident answers have, from vanishing.

    Args:
        answer: Returns the logits of images in [0, 1].
        images: Images in [0, 1].
        labels: Their classes.

    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    >>> power, norms = gradient_power(linear, torch.rand(5, 3, 2, 2), torch.zeros(5, dtype=torch.int64))
    >>> torch.allclose(power.sum(dim=(1, 2, 3)), torch.ones(5)), norms.shape
    (True, torch.Size([5]))
    """
    leaf = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = answer(leaf)
        loss = F.cross_entropy(logits, labels.to(logits.device), reduction="sum")
    if not loss.requires_grad:
        raise ValueError(
            "the network's answer has no gradient with respect to the image; look for torch.no_grad, detach "
            "or steps without a gradient in its forward"
        )
    (found,) = torch.autograd.grad(loss, leaf, allow_unused=True)
    gradient = torch.zeros_like(leaf) if found is None else found
    # Squares of small values vanish in float32 where the values do not, so the largest is divided out first.
    largest = gradient.flatten(1).abs().amax(dim=1)
    scaled = gradient / largest.clamp_min(torch.finfo(gradient.dtype).tiny)[:, None, None, None]
    norms = scaled.flatten(1).norm(dim=1)
    unit = scaled / torch.where(norms > 0, norms, 1.0)[:, None, None, None]
    return power_spectrum(unit), largest.double() * norms


def _dense(weight: Filters, groups: int) -> Float[Tensor, "f d kh kw"]:
    """Return the weight of an ungrouped convolution that does the same."""
    diagonal = torch.eye(groups).to(weight)
    whole = torch.einsum("gfckl,gh->gfhckl", weight.reshape(groups, -1, *weight.shape[1:]), diagonal)
    return whole.flatten(2, 3).flatten(0, 1)
