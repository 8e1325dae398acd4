"""The proportion of a filter: held (`set_share`), learned and perturbed (`modulate`), and folded (`bake`).

Every filter can be written as `|w| (sqrt(a) l + sqrt(1 - a) h)` with unit filters `l` and `h` of a low and a
high part of filter space. The energy matrix leaves both parts invariant, so that its low-frequency energy is
`a rho(l) + (1 - a) rho(h)`: the proportion `a` is all there is to set. `set_share` fixes it at 1 or 0 for
each filter, `modulate` learns it.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .. import rng
from ..types import Filters
from .bands import EQUAL_AREA, filters_low_energy, spans

_Layer = TypeVar("_Layer", bound=nn.Module)
_Model = TypeVar("_Model", bound=nn.Module)

# A filter with less of its norm than this in a part has no direction there, only rounding.
_NOTHING = 1e-4
# Keeps roots and quotients of a filter of zeros finite; far below the square of any living weight.
_TINY = 1e-30


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

    The layer is changed in place and stays so at every step of training, whatever the optimizer does: each
    kernel is projected onto its filter's span (see `spans`) whenever the weight is read, in float32 also
    under autocast. Filters keep the norms they have when this is called. The `Parameter` object stays the
    same (it moves to `layer.parametrizations.weight.original`), so that an optimizer made before works as
    one made after. `bake` leaves a plain layer.

    Stride, groups and padding do not matter to a filter's spectrum. Dilated layers are refused: the
    spectrum of spread taps repeats within the frequency square, and hardly any of their filters is low or
    high (3x3 with dilation 2: shares from 0.30 to 0.73).

    Args:
        layer: A `torch.nn.Conv2d` of any kernel for which both spans exist.
        low: Share of low filters in [0, 1]; `round(low * filters)` are low.
        cutoff: Radius between low and high, in (0, 1/2] cycles per pixel.
        zero_mean: High filters also sum to 0, in every channel.
        guard: Distance of both spans from the line, in [0, 1): low filters have at least `line + guard` of
            their energy within the cutoff, high ones at most `line - guard`.
        seed: Of the choice which filters are low. None chooses those that are lowest at present, for
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
    conv = _checked("set_share", layer)
    if not 0 <= low <= 1:
        raise ValueError(f"set_share: low needs a share in [0, 1], got {low}")
    kh, kw = conv.kernel_size
    low_span, high_span = spans(kh, kw, cutoff=cutoff, guard=guard, zero_mean=zero_mean)
    for name, span in (("low", low_span), ("high", high_span)):
        if len(span) == 0:
            raise ValueError(
                f"set_share: a {kh}x{kw} kernel has no {name} filters at cutoff {cutoff:.4g} with "
                f"guard {guard} and zero_mean={zero_mean}; use a larger kernel, another cutoff or a "
                "smaller guard"
            )
    weight = conv.weight
    count = round(low * conv.out_channels)
    if seed is None:
        order = filters_low_energy(weight.detach(), cutoff).argsort(descending=True, stable=True)
    else:
        index = torch.arange(conv.out_channels, device=weight.device)
        order = rng.bits(rng.keys(seed, "set_share", index=index), 1)[:, 0].argsort()
    is_low = torch.zeros(conv.out_channels, dtype=torch.bool, device=weight.device)
    is_low[order[:count]] = True
    projectors = torch.stack([low_span.T @ low_span, high_span.T @ high_span])
    _parametrize(conv, _Share(projectors, is_low))
    return layer


def modulate(
    layer: _Layer,
    *,
    shared: float = 2.0,
    independent: float = 1.0,
    clean: float = 0.25,
    bands: str = "two",
) -> _Layer:
    """Return the layer with its filters' proportions learned, and perturbed for every image in training.

    The layer is changed in place. Its filters become `|v| (sqrt(a) l + sqrt(1 - a) h)`: `l` and `h` are
    the unit low and high parts of `v`, the parameter that was the weight; `a = sigmoid(theta)`, one a filter,
    is a parameter of its own (see `proportion_parameters`: give it its own learning rate and no weight
    decay, and make the optimizer afterwards). Low is spanned by the eigenfilters on or above the line at the
    equal-area cutoff, high by the rest, so that any layer can be written so and is unchanged at first.

    In training image i sees `sigmoid(theta + shared * e_i + independent * e_if)` in place of `a`, with
    standard normal e, and the energy of every filter stays. In evaluation, and for clean images, the layer
    is the plain one. Draws come from torch's default generator.

    Mechanism: the weight is a torch parametrization, and a forward hook mixes the layer's output with that of
    the quadrature filters `|v| (sqrt(1 - a) l - sqrt(a) h)`: another proportion is a turn of the filter
    towards those, by an angle an image, so that two convolutions serve the whole batch. Both survive
    `copy.deepcopy` and `state_dict`; `bake` removes both.

    Learning `a` without perturbing it is only another way to write the same functions.

    Args:
        layer: A plain `torch.nn.Conv2d`, of any kernel larger than 1x1, stride and groups, undilated.
        shared: Standard deviation of the perturbation of theta that all filters of an image share, >= 0.
        independent: That of each filter's own.
        clean: Chance of each image to stay unperturbed, in [0, 1].
        bands: `two`. (More bands are not implemented.)

    Raises:
        ValueError: Not such a layer, one that is parametrized already, an option outside of its range, or a
            filter that lies wholly in one part.

    Source: our own reading of the "learnable modulation of frequency proportion with perturbation in power
    spectrum" of Jia, Bao, Ma 2020, arXiv:1911.12044, abstract; the paper's text gives no definition.

    >>> layer = nn.Conv2d(3, 8, 3)
    >>> before = layer.weight.detach().clone()
    >>> torch.allclose(modulate(layer).weight, before, atol=1e-6)
    True
    """
    conv = _checked("modulate", layer)
    if type(conv).forward is not nn.Conv2d.forward:
        kind = type(conv).__name__
        raise ValueError(f"modulate needs a plain torch.nn.Conv2d, got a {kind} with its own forward")
    for name, value in (("shared", shared), ("independent", independent)):
        if not 0 <= value < math.inf:
            raise ValueError(f"modulate: {name} needs a number of at least 0, got {value}")
    if not 0 <= clean <= 1:
        raise ValueError(f"modulate: clean needs a fraction in [0, 1], got {clean}")
    if bands != "two":
        raise ValueError(f"modulate: bands needs 'two', got {bands!r}; more bands are not implemented")
    low_span, high_span = spans(*conv.kernel_size, cutoff=EQUAL_AREA, guard=0.0, zero_mean=False)
    if not len(low_span) or not len(high_span):
        raise ValueError(f"modulate: a {_size(conv)} kernel does not have both low and high filters")
    proportion = _Proportion(low_span.T @ low_span, conv.out_channels, shared, independent, clean)
    _parametrize(conv, proportion)
    proportion.hook = conv.register_forward_hook(_perturb, with_kwargs=True)
    return layer


def proportion_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the logit of the proportions, `theta`, of every layer in the model that `modulate` changed.

    >>> [theta.shape for theta in proportion_parameters(modulate(nn.Conv2d(3, 8, 3)))]
    [torch.Size([8])]
    """
    for module in model.modules():
        if isinstance(module, _Proportion):
            yield module.theta


def bake(model: _Model) -> _Model:
    """Fold what `set_share` and `modulate` hold into plain layers, in place, and return the model.

    The inverse of both, and the only one: every such layer in the model, or the layer itself, has afterwards
    the class, the parameters and the speed it had before, with the present weights; outputs in evaluation are
    the same. The `Parameter` object of a weight stays the same. A model without such layers is unchanged.
    Copies made with `copy.deepcopy` are not affected. A `SpectralNoise` stays where it is: it holds no
    weights and does nothing in evaluation.

    Raises:
        ValueError: A layer carries further parametrizations, which cannot be folded. Nothing is changed then.

    >>> layer = bake(set_share(nn.Conv2d(3, 8, 3), low=1.0))
    >>> type(layer).__name__, list(layer.state_dict())
    ('Conv2d', ['weight', 'bias'])
    """
    found = []
    for name, module in model.named_modules():
        tensors = getattr(module, "parametrizations", {}) if parametrize.is_parametrized(module) else {}
        parts = [part for steps in tensors.values() for part in steps]
        if not any(isinstance(part, _OURS) for part in parts):
            continue
        if len(parts) > 1:
            names = ", ".join(type(part).__name__ for part in parts if not isinstance(part, _OURS))
            raise ValueError(
                f"bake cannot fold {name or 'the layer'}: it carries other parametrizations beside "
                f"({names}); remove them first"
            )
        found.append(module)
    for module in found:
        _fold(module)
    return model


class _Share(nn.Module):
    """Projects each filter's kernels onto the low or the high span."""

    projectors: Tensor
    is_low: Tensor

    def __init__(self, projectors: Float[Tensor, "2 n n"], is_low: Bool[Tensor, " f"]) -> None:
        super().__init__()
        self.register_buffer("projectors", projectors.to(is_low.device, torch.float32))
        self.register_buffer("is_low", is_low)

    def forward(self, weight: Filters) -> Filters:
        """Return the weight's projection."""
        with torch.autocast(weight.device.type, enabled=False):
            low, high = self.projectors.to(_working(weight.dtype))
            kernels = weight.to(low.dtype).flatten(2)
            inside = torch.where(self.is_low[:, None, None], kernels @ low, kernels @ high)
            return inside.reshape(weight.shape).to(weight.dtype)

    def right_inverse(self, weight: Filters) -> Filters:
        """Return filters of the spans with the norms of the weight's, the nearest in direction."""
        inside = self(weight)
        before = torch.linalg.vector_norm(weight, dim=(1, 2, 3), keepdim=True)
        after = torch.linalg.vector_norm(inside, dim=(1, 2, 3), keepdim=True)
        lost = (after <= _NOTHING * before) & (before > 0)
        if lost.any():
            number = int(lost.flatten().nonzero()[0])
            part = "low" if self.is_low[number] else "high"
            raise ValueError(
                f"set_share: filter {number} has nothing in the {part} span that it shall keep to; "
                "choose the filters by what they are (seed=None), or another seed"
            )
        rescaled: Tensor = inside * (before / after.clamp_min(_TINY))
        return rescaled


class _Proportion(nn.Module):
    """Writes filters as a mix of their low and high parts, by a learned angle."""

    projector: Tensor
    hook: Any = None

    def __init__(
        self, projector: Float[Tensor, "n n"], filters: int, shared: float, independent: float, clean: float
    ) -> None:
        super().__init__()
        self.register_buffer("projector", projector.float())
        self.theta = nn.Parameter(torch.zeros(filters))
        self.shared = shared
        self.independent = independent
        self.clean = clean

    def forward(self, weight: Filters) -> Filters:
        """Return the filters with their present proportions."""
        low, high = self._parts(weight)
        cosine, sine = _angle(self.theta)
        return (_each(cosine) * low + _each(sine) * high).to(weight.dtype)

    def right_inverse(self, weight: Filters) -> Filters:
        """Return the weight itself, and take the proportions from it."""
        low, high = (part.flatten(1).square().sum(dim=1) for part in self._split(weight))
        whole = low + high
        for name, energy in (("low", low), ("high", high)):
            lost = (whole > 0) & (energy <= _NOTHING**2 * whole)
            if lost.any():
                raise ValueError(
                    f"modulate: filter {int(lost.nonzero()[0])} has nothing in the {name} part, so that "
                    "there is no proportion to perturb"
                )
        logit = low.clamp_min(_TINY).log() - high.clamp_min(_TINY).log()
        with torch.no_grad():
            self.theta.copy_(logit.masked_fill(whole == 0, 0))
        return weight

    def quadrature(self, weight: Filters) -> Filters:
        """Return the filters of the same energy, orthogonal to the present ones, between low and high."""
        low, high = self._parts(weight)
        cosine, sine = _angle(self.theta)
        return (_each(sine) * low - _each(cosine) * high).to(weight.dtype)

    def perturbed(self, count: int) -> Float[Tensor, "{count} f"]:
        """Return theta as each of `count` images sees it."""
        device, dtype = self.theta.device, self.theta.dtype
        offset = self.shared * torch.randn(count, 1, device=device, dtype=dtype)
        offset = offset + self.independent * torch.randn(count, len(self.theta), device=device, dtype=dtype)
        stays = torch.rand(count, 1, device=device) < self.clean
        moved: Tensor = self.theta + offset.masked_fill(stays, 0)
        return moved

    def _split(self, weight: Filters) -> tuple[Filters, Filters]:
        with torch.autocast(weight.device.type, enabled=False):
            full = weight.to(_working(weight.dtype))
            low = (full.flatten(2) @ self.projector.to(full.dtype)).reshape(full.shape)
            return low, full - low

    def _parts(self, weight: Filters) -> tuple[Filters, Filters]:
        """Return the filters' low and high parts, each scaled to the whole filter's norm."""
        low, high = self._split(weight)
        low_energy, high_energy = (part.flatten(1).square().sum(dim=1) + _TINY for part in (low, high))
        energy = low_energy + high_energy
        return _each((energy / low_energy).sqrt()) * low, _each((energy / high_energy).sqrt()) * high


_OURS = (_Share, _Proportion)


def _perturb(
    layer: nn.Conv2d, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor
) -> Tensor | None:
    """Turn every filter by an angle of its own for each image; a forward hook, idle in evaluation."""
    steps: Any = layer.parametrizations
    proportion: _Proportion = steps.weight[0]
    if not layer.training or proportion.clean == 1 or proportion.shared == proportion.independent == 0:
        return None
    images: Tensor = args[0] if args else kwargs["input"]
    beside = layer._conv_forward(images, proportion.quadrature(steps.weight.original), None)
    cosine, sine = _angle(proportion.theta)
    new_cosine, new_sine = _angle(proportion.perturbed(len(images) if images.ndim == 4 else 1))
    # Cosine and sine of the difference of the angles, which is within a quarter of a turn.
    along = (cosine * new_cosine + sine * new_sine).to(output.dtype)
    across = (sine * new_cosine - cosine * new_sine).to(output.dtype)
    if images.ndim == 3:
        along, across = along[0], across[0]
    # torch.addcmul takes three times as long in bfloat16 with the channels last.
    mixed: Tensor = output * along[..., None, None] + beside * across[..., None, None]
    if layer.bias is not None:
        mixed = mixed + ((1 - along) * layer.bias.to(output.dtype))[..., None, None]
    return mixed


def _angle(theta: Float[Tensor, "*b f"]) -> tuple[Float[Tensor, "*b f"], Float[Tensor, "*b f"]]:
    """Return sqrt(a) and sqrt(1 - a) for a = sigmoid(theta), with finite gradients at both ends."""
    return (F.logsigmoid(theta) / 2).exp(), (F.logsigmoid(-theta) / 2).exp()


def _each(factor: Float[Tensor, " f"]) -> Float[Tensor, "f 1 1 1"]:
    return factor[:, None, None, None]


def _working(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _size(conv: nn.Conv2d) -> str:
    return "x".join(str(side) for side in conv.kernel_size)


def _checked(verb: str, layer: nn.Module) -> nn.Conv2d:
    """Return the layer if its filters can be held by a parametrization."""
    if not isinstance(layer, nn.Conv2d):
        kind = type(layer).__name__
        raise ValueError(f"{verb} needs a torch.nn.Conv2d, got {kind}; pass the layer itself, as model.conv1")
    if parametrize.is_parametrized(layer):
        raise ValueError(f"{verb} needs a plain layer, this one is parametrized already; bake it first")
    weight = layer._parameters.get("weight")
    if weight is None or isinstance(weight, nn.parameter.UninitializedParameter) or weight.is_complex():
        raise ValueError(f"{verb} needs a layer whose weight is an initialised real parameter of its own")
    if math.prod(layer.kernel_size) == 1:
        raise ValueError(f"{verb} needs a kernel larger than 1x1, which has no spatial spectrum")
    if max(layer.dilation) > 1:
        raise ValueError(
            f"{verb} needs a layer without dilation, got {tuple(layer.dilation)}: the spectrum of spread "
            "taps repeats within the frequency square, so that hardly any filter is low or high"
        )
    return layer


def _parametrize(conv: nn.Conv2d, part: nn.Module) -> None:
    part.to(conv.weight.device)
    part.train(conv.training)
    with torch.no_grad():
        parametrize.register_parametrization(conv, "weight", part)


def _fold(layer: nn.Module) -> None:
    """Put the present weight in place of its parametrization.

    torch's `remove_parametrizations` would do, but for copies: it deletes the property `weight` from a class
    that `copy.deepcopy` lets the copies share, which breaks all others.
    """
    steps: Any = layer.parametrizations
    part, original = steps.weight[0], steps.weight.original
    with torch.no_grad():
        original.copy_(layer.weight)
    original.grad = None
    if isinstance(part, _Proportion):
        part.hook.remove()
    bias, plain = layer._parameters["bias"], parametrize.type_before_parametrizations(layer)
    del layer.parametrizations, layer.bias
    layer.__class__ = plain
    # In this order, so that parameters and state come in the order they had.
    layer.register_parameter("weight", original)
    layer.register_parameter("bias", bias)
