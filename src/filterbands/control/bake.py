"""`bake`: held layers made plain again, in a network or in its checkpoint."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .controls import Blur
from .modulation import Bands, Proportion, Spread
from .proportion import Held, Share

_Model = TypeVar("_Model", bound=nn.Module)

_ORIGINAL = "parametrizations.weight.original"


def bake(model: _Model) -> _Model:
    """Fold what `set_share`, `modulate` and controls hold into plain layers, in place; return the model.

    Every such layer in the model, or the layer itself, has afterwards the class, the parameters and the speed
    it had before, with the present weights. Outputs in evaluation and `Parameter` objects stay the same, and
    copies made with `copy.deepcopy` are not affected. A `SpectralNoise` stays where it is.

    Raises:
        ValueError: The model is in training mode, where a modulated layer is another for each image; or a
            layer carries further parametrizations, which cannot be folded. Nothing is changed then.

    >>> import filterbands as fb
    >>> layer = bake(fb.set_share(nn.Conv2d(3, 8, 3), low=1.0).eval())
    >>> type(layer).__name__, list(layer.state_dict())
    ('Conv2d', ['weight', 'bias'])
    """
    if model.training:
        raise ValueError(
            "bake needs a network in evaluation mode, got one in training; call model.eval(), and "
            "recalibrate its batch norms first where images or filters were perturbed"
        )
    found = []
    for name, module in model.named_modules():
        tensors = getattr(module, "parametrizations", {}) if parametrize.is_parametrized(module) else {}
        parts = [part for steps in tensors.values() for part in steps]
        if not any(isinstance(part, Held) for part in parts):
            continue
        names = ", ".join(type(part).__name__ for part in parts if not isinstance(part, Held))
        if names:
            raise ValueError(
                f"bake cannot fold {name or 'the layer'}: it carries other parametrizations as well "
                f"({names}); remove them first"
            )
        found.append(module)
    for module in found:
        _fold(module)
    return model


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


def _fold(layer: nn.Module) -> None:
    """Put the present weight in place of its parametrization.

    torch's `remove_parametrizations` would do, but for copies: it deletes the property `weight` from a class
    that `copy.deepcopy` lets the copies share, which breaks all others.
    """
    steps: Any = layer.parametrizations
    original = steps.weight.original
    with torch.no_grad():
        # Assigned, not copied: a blurred layer's plain weight is wider than what was learned.
        current: Any = layer.weight
        original.data = current.clone()
    original.grad = None
    for part in steps.weight:
        for handle in part.handles:
            handle.remove()
    bias, plain = layer._parameters["bias"], parametrize.type_before_parametrizations(layer)
    del layer.parametrizations, layer.bias
    layer.__class__ = plain
    # In this order, so that parameters and state come in the order they had.
    layer.register_parameter("weight", original)
    layer.register_parameter("bias", bias)
