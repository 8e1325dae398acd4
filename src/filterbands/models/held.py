"""What held layers compute their weights from: the arithmetic of the `control` room's parametrizations.

It stands here so that a state dict that was saved while layers were held loads like any other.
"""

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from ..types import Filters

# Keeps roots and quotients of a filter of zeros finite; far below the square of any living weight.
TINY = 1e-30

# Numbers that the copies of projectors may hold.
_COPIES = 2**24
_ORIGINAL = "parametrizations.weight.original"


def bake_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict in which every layer that was held when it was saved is a plain one.

    Held layers are folded into their `weight`, as `bake` does for a network; all else is passed on, in order.

    Raises:
        ValueError: A layer carries a parametrization of another kind, or one whose tensors are not whole.

    >>> import filterbands as fb
    >>> state = fb.modulate(torch.nn.Conv2d(3, 8, 3)).state_dict()
    >>> list(bake_weights(state))
    ['bias', 'weight']
    """
    plain: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(_ORIGINAL):
            prefix = name.removesuffix(_ORIGINAL)
            plain[f"{prefix}weight"] = _folded(prefix, state)
        elif not re.search(r"(^|\.)parametrizations\.weight\.\d+\.", name):
            plain[name] = tensor
    return plain


def held_weights(state: Mapping[str, Tensor]) -> list[str]:
    """Return the names that the weights of held layers have once `bake_weights` has folded them."""
    return [f"{name.removesuffix(_ORIGINAL)}weight" for name in state if name.endswith(_ORIGINAL)]


def projected(weight: Filters, projectors: Float[Tensor, "2 n n"], is_low: Int64[Tensor, " f"]) -> Filters:
    """Return filters projected onto the low span where `is_low` is 1, else onto the high span."""
    with torch.autocast(weight.device.type, enabled=False):
        low, high = projectors.to(weight.device, working(weight.dtype))
        kernels = weight.to(low.dtype).flatten(2)
        inside = torch.where(is_low[:, None, None] > 0, kernels @ low, kernels @ high)
        return laid_out_as(weight, inside.reshape(weight.shape))


def blurred(weight: Filters, kernel: Float[Tensor, "3 3"]) -> Float[Tensor, "f c khh kww"]:
    """Return kernels convolved with a blur, wider and higher by 2."""
    with torch.autocast(weight.device.type, enabled=False):
        each = weight.flatten(0, 1)[:, None]
        wide = F.conv2d(each, kernel.to(weight)[None, None], padding=2)
    return laid_out_as(weight, wide.reshape(*weight.shape[:2], *wide.shape[2:]))


def low_and_high(weight: Filters, projector: Float[Tensor, "n n"]) -> tuple[Filters, Filters]:
    """Return the low and the high part of filters, which add up to them."""
    with torch.autocast(weight.device.type, enabled=False):
        full = weight.to(working(weight.dtype))
        low = (full.flatten(2) @ projector.to(full)).reshape(full.shape)
        return low, full - low


def proportion_parts(weight: Filters, projector: Float[Tensor, "n n"]) -> Float[Tensor, "f 2 c kh kw"]:
    """Return the low and the high part of each filter, each scaled to the whole filter's norm."""
    low, high = low_and_high(weight, projector)
    low_energy, high_energy = (energy_of(part) + TINY for part in (low, high))
    whole = low_energy + high_energy
    scales = ((whole / energy).sqrt()[:, None, None, None] for energy in (low_energy, high_energy))
    return torch.stack([scale * part for scale, part in zip(scales, (low, high), strict=True)], dim=1)


def proportion_gains(theta: Float[Tensor, "*n f"]) -> Float[Tensor, "*n f 2"]:
    """Return sqrt(a) and sqrt(1 - a) for a = sigmoid(theta), with finite gradients at both ends."""
    return torch.stack([(F.logsigmoid(sign * theta) / 2).exp() for sign in (1, -1)], dim=-1)


def of_proportion(
    weight: Filters, projector: Float[Tensor, "n n"], theta: Float[Tensor, "*n f"]
) -> Float[Tensor, "*n f c kh kw"]:
    """Return filters of two bands at this theta."""
    parts = proportion_parts(weight, projector)
    low, high = proportion_gains(theta)[..., None, None, None].unbind(-4)
    return low * parts[:, 0] + high * parts[:, 1]


def band_parts(weight: Filters, projectors: Float[Tensor, "bands n n"]) -> Float[Tensor, "f bands c kh kw"]:
    """Return the part of each filter in each band."""
    with torch.autocast(weight.device.type, enabled=False):
        full = weight.to(working(weight.dtype)).flatten(2)
        projectors = projectors.to(full)
        if len(full) * projectors.numel() <= _COPIES:
            return (full[:, None] @ projectors).reshape(len(full), -1, *weight.shape[1:])
        # A product per filter copies every projector for it: gigabytes for the patches of a transformer.
        return (full.flatten(0, 1) @ projectors).reshape(-1, *weight.shape).transpose(0, 1)


def band_gains(
    parts: Float[Tensor, "f bands c kh kw"], theta: Float[Tensor, "*n f bands"]
) -> Float[Tensor, "*n f bands"]:
    """Return the factors of the parts that change powers by exp(theta) and keep each filter's energy."""
    energy = parts.flatten(2).square().sum(dim=2)
    # Only ratios count; the largest is 1, so that nothing overflows.
    power = (theta - theta.amax(dim=-1, keepdim=True)).exp()
    whole, new = energy.sum(dim=-1, keepdim=True), (power * energy).sum(dim=-1, keepdim=True)
    gains: Tensor = (power * (whole + TINY) / (new + TINY)).sqrt()
    return gains


def of_bands(
    weight: Filters, projectors: Float[Tensor, "bands n n"], theta: Float[Tensor, "*n f bands"]
) -> Float[Tensor, "*n f c kh kw"]:
    """Return filters of many bands at this theta."""
    parts = band_parts(weight, projectors)
    return torch.einsum("...fb,fbckl->...fckl", band_gains(parts, theta), parts)


def energy_of(filters: Float[Tensor, "f ..."]) -> Float[Tensor, " f"]:
    """Return the energy of each filter."""
    return filters.flatten(1).square().sum(dim=1)


def working(dtype: torch.dtype) -> torch.dtype:
    """Return the precision that weights of a type are computed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def laid_out_as(weight: Filters, changed: Float[Tensor, "f c khh kww"]) -> Float[Tensor, "f c khh kww"]:
    """Return changed filters in the weight's dtype and memory layout.

    A convolution of plain images takes its output's layout from the weight: one that lost the channels-last
    layout here would cost a whole network of it a tenth of its speed.
    """
    last = weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    return changed.to(weight.dtype, memory_format=layout)


@torch.no_grad()
def _folded(prefix: str, state: Mapping[str, Tensor]) -> Tensor:
    """Return the weight that the layer of this prefix computed from what it held."""
    inner = f"{prefix}parametrizations.weight."
    own: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        found = re.fullmatch(r"(\d+)\.(.+)", name.removeprefix(inner)) if name.startswith(inner) else None
        if found:
            own.setdefault(int(found[1]), {})[found[2]] = tensor
    weight = state[f"{inner}original"]
    try:
        # A part without tensors, which the numbers skip, is not of this package.
        for number in range(max(own, default=0) + 1):
            weight = _step(weight, own[number])
    except (RuntimeError, KeyError):
        kept = ", ".join(sorted({name for tensors in own.values() for name in tensors})) or "without tensors"
        raise ValueError(
            f"bake cannot fold {prefix.rstrip('.') or 'the layer'}: its parametrization ({kept}) is not of "
            "set_share, modulate or a control; bake it where it was made"
        ) from None
    return weight


def _step(weight: Tensor, own: Mapping[str, Tensor]) -> Tensor:
    """Return what the part that has these tensors makes of a weight; KeyError where there is no such part."""
    count = len(weight)
    if "is_low" in own:
        return projected(weight, own["projectors"], own["is_low"].reshape(count))
    if "projector" in own:
        return laid_out_as(weight, of_proportion(weight, own["projector"], own["theta"].reshape(count)))
    if "projectors" in own:
        projectors = own["projectors"]
        theta = own["theta"].reshape(count, len(projectors))
        return laid_out_as(weight, of_bands(weight, projectors, theta))
    return blurred(weight, own["kernel"])
