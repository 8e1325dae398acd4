"""The proportion of a filter, held: `set_share`, and what holds the weight of a layer.

Every filter is `|w| (sqrt(a) l + sqrt(1 - a) h)`, with unit filters `l` and `h` of a low and a high part of
filter space. The energy matrix does not mix the two parts, so that the filter's low-frequency energy is
`a rho(l) + (1 - a) rho(h)`. `set_share` fixes the proportion `a` at 1 or 0 for each filter; `modulate` learns
it.
"""

import math
from abc import abstractmethod
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .. import rng
from ..filters import EQUAL_AREA, filters_low_energy, spans
from ..models import check_applies_weight, has_own_forward, held, weight_of
from ..types import Filters

_Layer = TypeVar("_Layer", bound=nn.Module)

# A filter with less of its norm than this in a part has no direction there, only rounding.
NOTHING = 1e-4


def set_share(
    layer: _Layer,
    *,
    low: float,
    cutoff: float = EQUAL_AREA,
    zero_mean: bool = True,
    guard: float = 0.1,
    seed: int | None = 0,
) -> _Layer:
    """Return the layer with a share of its filters held in the low span and the rest in the high span.

    The layer is changed in place and stays so at every step of training, whatever the optimizer does. Each
    kernel is projected onto its filter's span (see `spans`) whenever the weight is read, in float32 also
    under autocast. Filters keep the norms they have when this is called. The `Parameter` object stays the
    same (it moves to `layer.parametrizations.weight.original`), so that an optimizer made before works as
    one made after. `bake` leaves a plain layer.

    State dicts of controlled and of plain layers load into it; of plain filters, the lowest become the low
    ones. Dilated layers are refused, because the spectrum of spread taps repeats within the frequency square.

    Args:
        layer: A `torch.nn.Conv2d` of any kernel for which both spans exist.
        low: Share of low filters in [0, 1]; `round(low * filters)` are low, which printing the layer shows.
        cutoff: Radius between low and high, in (0, 1/2] cycles per pixel.
        zero_mean: High filters also sum to 0, in every channel.
        guard: Distance of both spans from the line, in [0, 1): low filters have at least `line + guard` of
            their energy within the cutoff, high ones at most `line - guard`.
        seed: Seed of the choice which filters are low. None chooses those that are lowest at present, for
            trained networks.

    Raises:
        ValueError: Not such a layer, one that is parametrized already, a kernel with an empty span, an
            option outside of its range, or a filter without any energy in its span.

    Source: our own exact form of the share of low-frequency filters of Jia, Bao, Ma 2020,
    arXiv:1911.12044.

    >>> layer = set_share(nn.Conv2d(3, 64, 3), low=0.75)
    >>> int((filters_low_energy(layer.weight) > 0.6).sum())
    48
    """
    verb = "set_share"
    conv = checked_layer(verb, layer)
    parts = checked_spans(verb, conv, cutoff=cutoff, guard=guard, zero_mean=zero_mean)
    if seed is None:
        order = filters_low_energy(conv.weight.detach(), cutoff).argsort(descending=True, stable=True)
    else:
        order = keyed_order(seed, verb, conv)
    hold_share(conv, parts, low=low, order=order, verb=verb, cutoff=cutoff)
    return layer


def checked_spans(
    verb: str, conv: nn.Conv2d, *, cutoff: float, guard: float, zero_mean: bool
) -> tuple[Float[Tensor, "n taps"], Float[Tensor, "m taps"]]:
    """Return the low and the high span of the layer's kernels, and refuse one that is empty."""
    kh, kw = conv.kernel_size
    low_span, high_span = spans(kh, kw, cutoff=cutoff, guard=guard, zero_mean=zero_mean)
    for name, span in (("low", low_span), ("high", high_span)):
        if len(span) == 0:
            raise ValueError(
                f"{verb}: a {kh}x{kw} kernel has no {name} filters at cutoff {cutoff:.4g} with "
                f"guard {guard} and zero_mean={zero_mean}; use a larger kernel, another cutoff or a "
                "smaller guard"
            )
    return low_span, high_span


def keyed_order(seed: int, verb: str, conv: nn.Conv2d) -> Int64[Tensor, " f"]:
    """Return the filters' numbers in an order that the seed gives."""
    index = torch.arange(conv.out_channels, device=conv.weight.device)
    return rng.bits(rng.keys(seed, verb, index=index), 1)[:, 0].argsort()


def hold_share(
    conv: nn.Conv2d,
    parts: tuple[Float[Tensor, "n taps"], Float[Tensor, "m taps"]],
    *,
    low: float,
    order: Int64[Tensor, " f"],
    verb: str,
    cutoff: float,
) -> None:
    """Hold the first `round(low * filters)` filters of an order in the first part, the rest in the second."""
    check_options(verb, "a share in [0, 1]", highest=1, low=low)
    # Whole numbers, since averages of weights are taken of buffers too and torch subtracts no truth values.
    is_low = torch.zeros(conv.out_channels, dtype=torch.int64, device=conv.weight.device)
    is_low[order[: round(low * conv.out_channels)]] = 1
    projectors = torch.stack([part.T @ part for part in parts])
    hold(conv, Share(projectors, is_low, verb=verb, cutoff=cutoff))


class Held(nn.Module):
    """A parametrization that `bake` folds; abstract."""

    handles: list[Any]

    def __init__(self) -> None:
        super().__init__()
        self.handles = []

    @abstractmethod
    def taken(self, weight: Filters) -> tuple[Filters, dict[str, Tensor]]:
        """Return what to hold, and the state to hold it in, for the weight to become this plain one."""


class Share(Held):
    """Projects each filter's kernels onto the low or the high span."""

    projectors: Tensor
    is_low: Tensor

    def __init__(
        self, projectors: Float[Tensor, "2 n n"], is_low: Int64[Tensor, " f"], *, verb: str, cutoff: float
    ) -> None:
        super().__init__()
        self.register_buffer("projectors", projectors.to(is_low.device, torch.float32))
        self.register_buffer("is_low", is_low)
        self.verb = verb
        self.cutoff = cutoff

    def forward(self, weight: Filters) -> Filters:
        """Return the weight's projection."""
        return held.projected(weight, self.projectors, self.is_low)

    def right_inverse(self, weight: Filters) -> Filters:
        """Return filters of the spans with the norms of the weight's, the nearest in direction."""
        return self._nearest(weight, self.is_low)

    def taken(self, weight: Filters) -> tuple[Filters, dict[str, Tensor]]:
        """Return the nearest filters of the spans, the lowest ones of the weight in the low span."""
        with torch.no_grad():
            kernels = weight.to(held.working(weight.dtype)).flatten(2)
            low, high = (held.energy_of(kernels @ projector) for projector in self.projectors.to(kernels))
            order = (low / (low + high + held.TINY)).argsort(descending=True, stable=True)
            is_low = torch.zeros_like(self.is_low, device=weight.device)
            is_low[order[: int(self.is_low.sum())]] = 1
            nearest = self._nearest(weight, is_low)
        return nearest, {"is_low": is_low, "projectors": self.projectors}

    def extra_repr(self) -> str:
        """Return how many filters are low."""
        return f"{int(self.is_low.sum())} of {len(self.is_low)} filters low, cutoff={self.cutoff:.4g}"

    def _nearest(self, weight: Filters, is_low: Int64[Tensor, " f"]) -> Filters:
        # In float16 squares of small weights vanish, and so would the least norm that is divided by.
        full = weight.to(held.working(weight.dtype))
        inside = held.projected(full, self.projectors, is_low)
        before = torch.linalg.vector_norm(full, dim=(1, 2, 3), keepdim=True)
        after = torch.linalg.vector_norm(inside, dim=(1, 2, 3), keepdim=True)
        lost = (after <= NOTHING * before) & (before > 0)
        if lost.any():
            number = int(lost.flatten().nonzero()[0])
            part = "low" if is_low[number] else "high"
            raise ValueError(
                f"{self.verb}: filter {number} has nothing in the {part} span, which would hold it; choose "
                "the filters by what they are (seed=None), or take another seed"
            )
        return held.laid_out_as(weight, inside * (before / after.clamp_min(held.TINY)))


def check_options(verb: str, needed: str, *, highest: float = math.inf, **options: float) -> None:
    """Raise ValueError for an option that is not a finite number from 0 to `highest`."""
    for name, value in options.items():
        if not (0 <= value <= highest and math.isfinite(value)):
            raise ValueError(f"{verb}: {name} needs {needed}, got {value}")


def checked_layer(verb: str, layer: nn.Module, *, held: type[Held] | None = None) -> nn.Conv2d:
    """Return the layer if its filters can be held by a parametrization; `held` may hold it already."""
    if not isinstance(layer, nn.Conv2d):
        kind = type(layer).__name__
        raise ValueError(f"{verb} needs a torch.nn.Conv2d, got {kind}; pass the layer itself, as model.conv1")
    weight = layer._parameters.get("weight")
    if parametrize.is_parametrized(layer):
        steps: Any = layer.parametrizations
        parts = [part for tensor in steps.values() for part in tensor]
        if held is None or [type(part) for part in parts] != [held]:
            raise ValueError(f"{verb} needs a plain layer, this one is parametrized already; bake it first")
        weight = steps.weight.original
    if weight is None:
        raise ValueError(f"{verb} needs a layer whose weight is a parameter of its own")
    check_has_numbers(verb, weight)
    if math.prod(layer.kernel_size) == 1:
        raise ValueError(f"{verb} needs a kernel larger than 1x1, which has no spatial spectrum")
    if max(layer.dilation) > 1:
        raise ValueError(
            f"{verb} needs a layer without dilation, got {tuple(layer.dilation)}: the spectrum of spread "
            "taps repeats within the frequency square, so that hardly any filter is low or high"
        )
    check_applies_weight(verb, layer)
    return layer


def check_has_numbers(verb: str, weight: Tensor) -> None:
    """Raise ValueError for a weight without real numbers."""
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise ValueError(f"{verb} needs a layer that is initialized; run the network once on an image")
    if not weight.is_floating_point():
        raise ValueError(f"{verb} needs a layer with real floating-point weights, got {weight.dtype}")
    if weight.is_meta:
        raise ValueError(
            f"{verb} needs a layer with numbers, got one on the meta device; load its weights first"
        )


def check_plain_forward(verb: str, conv: nn.Conv2d) -> None:
    """Raise ValueError for a layer of a class that computes its answer in a way of its own."""
    if has_own_forward(conv):
        kind = type(conv).__name__
        raise ValueError(f"{verb} needs a plain torch.nn.Conv2d, got a {kind} with its own forward")


def hold(conv: nn.Conv2d, part: Held, *, reshapes: bool = False) -> None:
    """Let the part compute the layer's weight, and the layer load plain weights too.

    Another layer that shares the `Parameter` cannot be seen from here: it is not held, but changes with it,
    and `bake` and `shrink` refuse a network of both.
    """
    part.to(conv.weight.device)
    part.train(conv.training)
    is_first = not parametrize.is_parametrized(conv)
    with torch.no_grad():
        parametrize.register_parametrization(conv, "weight", part, unsafe=reshapes)
    if is_first:
        # torch leaves this method without annotations.
        part.handles.append(conv.register_load_state_dict_pre_hook(_take_plain))  # type: ignore[no-untyped-call]


def _take_plain(layer: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Turn a plain weight in a state dict into what the layer holds; a hook before loading."""
    # torch's `remove_parametrizations` leaves the hook behind.
    if not parametrize.is_parametrized(layer) or (weight := state.pop(f"{prefix}weight", None)) is None:
        return
    steps: Any = layer.parametrizations
    current = weight_of(layer)
    inner = f"{prefix}parametrizations.weight."
    for number, part in reversed(list(enumerate(steps.weight))):
        # One that does not fit is left to torch, which names it.
        if weight.shape in (current.shape, steps.weight.original.shape):
            weight, own = part.taken(weight)
            state.update({f"{inner}{number}.{name}": tensor for name, tensor in own.items()})
    state[f"{inner}original"] = weight
