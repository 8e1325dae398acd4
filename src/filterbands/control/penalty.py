"""The soft alternative to `set_share`: a penalty that draws a layer towards a mean low energy."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..filters import EQUAL_AREA, filters_low_energy, live_filters
from ..models import check_applies_weight, weight_of
from .proportion import check_has_numbers, check_options


def attract_share(
    *modules: nn.Module, target: float, strength: float = 1.0, cutoff: float = EQUAL_AREA
) -> Float[Tensor, ""]:
    """Return `strength * (mean low energy - target)^2`, summed over layers; add it to the loss.

    Differentiable. The mean is over a layer's live filters, unweighted: a mean weighted by energy could be
    bought by inflating the norms of low filters, which a batch norm then cancels.

    Args:
        modules: Convolutions, or networks, of which every `torch.nn.Conv2d` larger than 1x1 counts.
        target: The mean low energy to approach, in [0, 1]; white filters have `line(cutoff)`.
        strength: Weight of the penalty, at least 0.
        cutoff: Radius between low and high, in (0, 1/2] cycles per pixel.

    Raises:
        ValueError: No such layer, one without real numbers for weights, or an option outside of its range.

    >>> layer = nn.Conv2d(3, 8, 3)
    >>> attract_share(layer, target=0.8).backward()
    >>> bool(layer.weight.grad.abs().sum() > 0)
    True
    """
    check_options("attract_share", "a share in [0, 1]", highest=1, target=target)
    check_options("attract_share", "a number of at least 0", strength=strength)
    layers = dict.fromkeys(
        layer
        for module in modules
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d) and math.prod(layer.kernel_size) > 1
    )
    if not layers:
        raise ValueError("attract_share needs a torch.nn.Conv2d larger than 1x1, or a network that holds one")
    distances = []
    for layer in layers:
        weight = weight_of(layer)
        check_has_numbers("attract_share", weight)
        check_applies_weight("attract_share", layer)
        shares = filters_low_energy(weight[live_filters(weight)], cutoff, dilation=tuple(layer.dilation))
        distances.append((shares.mean() - target).square())
    penalty: Tensor = strength * torch.stack(distances).sum()
    return penalty
