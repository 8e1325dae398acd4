"""Checkpoints of held layers, folded without their network."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .controls import Blur
from .modulation import Bands, Proportion, Spread
from .proportion import Held, Share

_ORIGINAL = "parametrizations.weight.original"


def bake_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict in which every layer that was held when it was saved is a plain one.

    What `set_share`, `modulate` and the controls add to a layer's names and tensors is folded into its
    `weight`, as `bake` does for a network; all else is passed on, in order.

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
        for number in sorted(own):
            part = _part(own[number], len(weight))
            part.load_state_dict(own[number])
            weight = part.to(weight.device)(weight)
    except (RuntimeError, KeyError):
        held = ", ".join(sorted({name for tensors in own.values() for name in tensors}))
        raise ValueError(
            f"bake cannot fold {prefix.rstrip('.') or 'the layer'}: its parametrization ({held}) is not of "
            "set_share, modulate or a control; bake it where it was made"
        ) from None
    return weight


def _part(own: Mapping[str, Tensor], filters: int) -> Held:
    """Return the part that has these tensors; KeyError where there is none."""
    spread: dict[str, Any] = {"shared": 1.0, "independent": 1.0, "clean": 0.0}
    budget = 1.0 if "spread.division" in own else None
    if "is_low" in own:
        return Share(own["projectors"], torch.zeros(filters, dtype=torch.int64), verb="bake", cutoff=0.0)
    if "projector" in own:
        return Proportion(own["projector"], filters, Spread(bands=1, budget=budget, **spread))
    if "projectors" in own:
        bands = len(own["projectors"])
        return Bands(own["projectors"], filters, Spread(bands=bands, budget=budget, **spread))
    own["kernel"]
    return Blur(0.1, (0, 0))
