"""`bake`: held layers of a network made plain again; for those of a checkpoint see `bake_weights`."""

from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils import parametrize

from ..models import owners
from .proportion import Held

_Model = TypeVar("_Model", bound=nn.Module)


def bake(model: _Model) -> _Model:
    """Fold what `set_share`, `modulate` and controls hold into plain layers, in place; return the model.

    Every such layer in the model, or the layer itself, has afterwards the class, the parameters and the speed
    it had before, with the present weights. Outputs in evaluation and `Parameter` objects stay the same, and
    copies made with `copy.deepcopy` are not affected. A `SpectralNoise` stays where it is.

    Raises:
        ValueError: The model is in training mode, where a modulated layer is another for each image; a layer
            carries further parametrizations, which cannot be folded; or it shares its `Parameter` with
            another module of the model, which would change with it. Nothing is changed then.

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
        if "bias" not in module._parameters:
            raise ValueError(
                f"bake cannot fold {name or 'the layer'}: its bias is set by a hook, as of pruning; "
                "remove that first"
            )
        steps: Any = module.parametrizations
        shared = owners(model, steps.weight.original)
        if len(shared) > 1:
            raise ValueError(
                f"bake cannot fold {name}: {' and '.join(shared)} share their numbers, and folding one "
                "would change the others; give each module a Parameter of its own first"
            )
        found.append(module)
    for module in found:
        _fold(module)
    return model


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
