"""The proportion of a filter, learned and perturbed for every image: `modulate`.

What is perturbed is how a filter's energy is divided among its bands, and never its sum.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..filters import EQUAL_AREA, energy_matrix, padded, unfold
from ..models import held
from ..types import Filters
from .division import climbing
from .proportion import (
    NOTHING,
    Held,
    Share,
    check_options,
    check_plain_forward,
    checked_layer,
    checked_spans,
    hold,
)

_Layer = TypeVar("_Layer", bound=nn.Module)

# Eigenvalues closer than this are one: horizontal and vertical edges have the same energy.
_TIED = 1e-6
# The least part of a budget that a strength begins with; one of 0 could never be learned.
_LEAST_PART = 1e-3


def modulate(
    layer: _Layer,
    *,
    shared: float = 2.0,
    independent: float = 1.0,
    clean: float = 0.25,
    bands: str = "two",
    budget: float | None = None,
) -> _Layer:
    """Return the layer with its filters' proportions learned, and perturbed for every image in training.

    The layer is changed in place, and is unchanged in value at first. With two bands, its filters become
    `|v| (sqrt(a) l + sqrt(1 - a) h)`. `l` and `h` are the unit low and high parts of `v`, the parameter that
    was the weight; `a = sigmoid(theta)`, one per filter, is a parameter of its own. Give it its own learning
    rate and no weight decay (see `proportion_parameters`), and make the optimizer afterwards. Low is spanned
    by the eigenfilters on or above the line at the equal-area cutoff, high by the rest. In training, image i
    sees `sigmoid(theta + shared * e_i + independent * e_if)` in place of `a`, with standard normal e.

    With `bands="eigen"`, the parts are the eigenfilters themselves, those of equal energy tied (7 bands at
    3x3). The power of a filter in band b is multiplied by `exp(theta_fb)`, and in training by
    `exp(theta_fb + shared * e_ib + independent * e_ifb)`; the filter is then given back its energy. A layer
    that `set_share` holds can be modulated so, within each filter's span; with two bands it is refused, since
    a filter held in one span has no proportion.

    The energy of every filter stays. In evaluation, and for clean images, the layer is the plain one. Draws
    come from torch's default generator. The weight is a torch parametrization, and a forward hook replaces
    the output. Both survive `copy.deepcopy` and `state_dict`; plain weights load too; `bake` removes both.

    Strengths learned by plain descent go to 0, where the loss is lowest. With a `budget`, its division is
    learned by ascent: the squares of all strengths (shared and independent, of every band) add up to
    `budget^2` times the number of bands (1 for two bands), and their gradient is reversed. `shared` and
    `independent` are then only where the division starts.

    Args:
        layer: A plain `torch.nn.Conv2d`, of any kernel larger than 1x1, stride and groups, undilated.
        shared: Standard deviation of the perturbation of theta that all filters of an image share, >= 0.
            Theta is the logarithm of a ratio of energies, in nepers of power.
        independent: Standard deviation of each filter's own perturbation.
        clean: Chance of each image to stay unperturbed, in [0, 1].
        bands: `two` or `eigen`.
        budget: Root of the mean over bands of shared^2 + independent^2, above 0, to be divided by ascent;
            None keeps the strengths as given.

    Raises:
        ValueError: Not such a layer, one that is parametrized already, an option outside of its range, or
            (two bands) a filter that lies wholly in one part.

    Source: our own reading of the "learnable modulation of frequency proportion with perturbation in power
    spectrum" of Jia, Bao, Ma 2020, arXiv:1911.12044, abstract; the paper's text gives no definition. The
    reversed gradient is that of Ganin, Lempitsky 2015, arXiv:1409.7495, equation 4.

    >>> layer = nn.Conv2d(3, 8, 3)
    >>> before = layer.weight.detach().clone()
    >>> torch.allclose(modulate(layer).weight, before, atol=1e-6)
    True
    """
    if bands not in ("two", "eigen"):
        raise ValueError(f"modulate: bands needs 'two' or 'eigen', got {bands!r}")
    check_options("modulate", "a number of at least 0", shared=shared, independent=independent)
    check_options("modulate", "a fraction in [0, 1]", highest=1, clean=clean)
    if budget is not None and not 0 < budget < math.inf:
        raise ValueError(
            f"modulate: budget needs a number above 0, got {budget}; leave it out to keep the strengths "
            "fixed, or switch the perturbation off with clean=1"
        )
    if budget is not None and shared == independent == 0:
        raise ValueError(
            "modulate: a budget needs a division to start from; make shared or independent positive"
        )
    conv = checked_layer("modulate", layer, held=Share)
    check_plain_forward("modulate", conv)
    steps: Any = getattr(conv, "parametrizations", None)
    share = None if steps is None else steps.weight[0]
    part: Modulated
    if bands == "two":
        if share is not None:
            raise ValueError(
                "modulate: each filter of this layer is held in one span by set_share, and has no proportion "
                'to perturb; use bands="eigen", which stays within the span'
            )
        low_span, _ = checked_spans("modulate", conv, cutoff=EQUAL_AREA, guard=0.0, zero_mean=False)
        spread = Spread(1, shared, independent, clean, budget)
        part = Proportion(low_span.T @ low_span, conv.out_channels, spread)
    else:
        projectors = _eigenbands(conv, share)
        spread = Spread(len(projectors), shared, independent, clean, budget)
        part = Bands(projectors, conv.out_channels, spread)
    hold(conv, part)
    part.handles.append(conv.register_forward_hook(_perturb, with_kwargs=True))
    return layer


def proportion_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield what `modulate` learns besides the weights, of every layer in the model that it changed.

    That is theta, and with a budget also its division.

    >>> [theta.shape for theta in proportion_parameters(modulate(nn.Conv2d(3, 8, 3)))]
    [torch.Size([8])]
    """
    for module in model.modules():
        if isinstance(module, Modulated):
            yield module.theta
            if module.spread.division is not None:
                yield module.spread.division


class Spread(nn.Module):
    """How strongly thetas are perturbed, band by band: as given, or a budget's division that is learned."""

    division: nn.Parameter | None

    def __init__(
        self, bands: int, shared: float, independent: float, clean: float, budget: float | None
    ) -> None:
        super().__init__()
        self.bands = bands
        self.shared = shared
        self.independent = independent
        self.clean = clean
        self.budget = budget
        squares = torch.tensor([shared, independent]).square()
        start = (squares / squares.sum().clamp_min(held.TINY)).clamp_min(_LEAST_PART).log()
        self.division = None if budget is None else nn.Parameter(start[:, None].repeat(1, bands))

    @property
    def is_off(self) -> bool:
        """Whether nothing is perturbed."""
        return self.clean == 1 or (self.budget is None and self.shared == self.independent == 0)

    def strengths(self) -> Float[Tensor, "2 bands"]:
        """Return the shared and the independent strength of every band."""
        if self.division is None or self.budget is None:
            return torch.tensor([self.shared, self.independent])[:, None].repeat(1, self.bands)
        parts = self.division.flatten().softmax(dim=0).reshape(self.division.shape)
        strengths: Tensor = self.budget * (self.bands * parts).sqrt()
        return strengths

    def offsets(self, count: int, theta: Float[Tensor, "f bands"]) -> Float[Tensor, "{count} f bands"]:
        """Return what is added to theta for each of `count` images."""
        device, dtype = theta.device, theta.dtype
        strengths = self.strengths().to(device, dtype)
        shared, independent = climbing(strengths)
        offset = shared * torch.randn(count, 1, self.bands, device=device, dtype=dtype)
        offset = offset + independent * torch.randn(count, *theta.shape, device=device, dtype=dtype)
        stays = torch.rand(count, 1, 1, device=device) < self.clean
        moved: Tensor = offset.masked_fill(stays, 0)
        return moved

    def extra_repr(self) -> str:
        """Return the strengths as they are."""
        shared, independent = self.strengths().detach()
        texts = (", ".join(f"{float(value):.3g}" for value in row) for row in (shared, independent))
        return "shared=({}), independent=({}), clean={}, budget={}".format(*texts, self.clean, self.budget)


class Modulated(Held):
    """Writes filters as gains on their parts, and gives each image gains of its own in training; abstract."""

    def __init__(self, theta: Tensor, spread: Spread) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)
        self.spread = spread

    @abstractmethod
    def _start(self, weight: Filters, *, is_new: bool) -> Tensor:
        """Return the theta that makes the layer equal this weight; refuse a new weight that has none."""

    @abstractmethod
    def _parts(self, weight: Filters) -> Float[Tensor, "f bands c kh kw"]:
        """Return the parts of each filter, in the precision that weights are computed in."""

    @abstractmethod
    def _filters(self, weight: Filters, theta: Tensor) -> Float[Tensor, "*n f c kh kw"]:
        """Return the filters at this theta: their parts times gains."""

    @abstractmethod
    def _gains(self, parts: Float[Tensor, "f bands c kh kw"], theta: Tensor) -> Float[Tensor, "*n f bands"]:
        """Return the factors of the parts that keep every filter's energy."""

    def forward(self, weight: Filters) -> Filters:
        """Return the filters at the present theta."""
        return held.laid_out_as(weight, self._filters(weight, self.theta))

    def right_inverse(self, weight: Filters) -> Filters:
        """Return the weight itself, and take theta from it."""
        with torch.no_grad():
            self.theta.copy_(self._start(weight, is_new=True))
        return weight

    def taken(self, weight: Filters) -> tuple[Filters, dict[str, Tensor]]:
        """Return the weight itself, and the state with its theta."""
        own = {name: tensor.detach() for name, tensor in self.state_dict().items()}
        return weight, {**own, "theta": self._start(weight, is_new=False).detach()}

    def perturbed(self, count: int) -> Float[Tensor, "{count} f ..."]:
        """Return theta as each of `count` images sees it."""
        offsets = self.spread.offsets(count, self.theta.reshape(len(self.theta), -1))
        moved: Tensor = self.theta + offsets.reshape(count, *self.theta.shape)
        return moved

    def respond(
        self,
        layer: nn.Conv2d,
        weight: Filters,
        images: Float[Tensor, "b i h w"],
        output: Float[Tensor, "b f y x"],
    ) -> Float[Tensor, "b f y x"]:
        """Return what the layer answers to each image with filters of its own; `output` is the plain answer.

        By whichever costs less: the image's patches times its own filters, or a mix of one answer per band.
        """
        theta = self.perturbed(len(images))
        if _has_small_patches(layer, output, self.spread.bands):
            return _respond_each(layer, self._filters(weight, theta), images, output)
        parts = self._parts(weight)
        # A filter's bands lie side by side, so that groups stay whole.
        kernels = parts.flatten(0, 1).to(weight.dtype)
        answers = layer._conv_forward(images, kernels, None).unflatten(1, parts.shape[:2])
        mixed = torch.einsum("nfb,nfbhw->nfhw", self._gains(parts, theta).to(answers.dtype), answers)
        if layer.bias is not None:
            mixed = mixed + layer.bias.to(mixed.dtype)[:, None, None]
        return mixed.to(output.dtype)


class Proportion(Modulated):
    """Writes filters as a mix of their low and high parts, by a learned angle."""

    projector: Tensor

    def __init__(self, projector: Float[Tensor, "n n"], filters: int, spread: Spread) -> None:
        super().__init__(torch.zeros(filters), spread)
        self.register_buffer("projector", projector.float())

    def _start(self, weight: Filters, *, is_new: bool) -> Float[Tensor, " f"]:
        low, high = (held.energy_of(part) for part in held.low_and_high(weight, self.projector))
        whole = low + high
        for name, energy in (("low", low), ("high", high)):
            lost = (whole > 0) & (energy <= NOTHING**2 * whole)
            if is_new and lost.any():
                raise ValueError(
                    f"modulate: filter {int(lost.nonzero()[0])} has nothing in the {name} part, so that "
                    "there is no proportion to perturb"
                )
        logit = low.clamp_min(held.TINY).log() - high.clamp_min(held.TINY).log()
        return logit.masked_fill(whole == 0, 0)

    def _parts(self, weight: Filters) -> Float[Tensor, "f 2 c kh kw"]:
        return held.proportion_parts(weight, self.projector)

    def _filters(self, weight: Filters, theta: Float[Tensor, "*n f"]) -> Float[Tensor, "*n f c kh kw"]:
        return held.of_proportion(weight, self.projector, theta)

    def _gains(
        self, parts: Float[Tensor, "f 2 c kh kw"], theta: Float[Tensor, "*n f"]
    ) -> Float[Tensor, "*n f 2"]:
        del parts
        return held.proportion_gains(theta)


class Bands(Modulated):
    """Scales the power of filters in each band, and gives them back their energy."""

    projectors: Tensor

    def __init__(self, projectors: Float[Tensor, "bands n n"], filters: int, spread: Spread) -> None:
        super().__init__(torch.zeros(filters, len(projectors)), spread)
        self.register_buffer("projectors", projectors.float())

    def _start(self, weight: Filters, *, is_new: bool) -> Float[Tensor, "f bands"]:
        del weight, is_new
        return torch.zeros_like(self.theta)

    def _parts(self, weight: Filters) -> Float[Tensor, "f bands c kh kw"]:
        return held.band_parts(weight, self.projectors)

    def _filters(self, weight: Filters, theta: Float[Tensor, "*n f bands"]) -> Float[Tensor, "*n f c kh kw"]:
        return held.of_bands(weight, self.projectors, theta)

    def _gains(
        self, parts: Float[Tensor, "f bands c kh kw"], theta: Float[Tensor, "*n f bands"]
    ) -> Float[Tensor, "*n f bands"]:
        return held.band_gains(parts, theta)


def _has_small_patches(layer: nn.Conv2d, output: Float[Tensor, "b f y x"], bands: int) -> bool:
    """Return whether a filter has no more inputs than the output has pixels, for every two bands."""
    inputs = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
    return 2 * inputs <= max(2, bands) * output.shape[2] * output.shape[3]


def _respond_each(
    layer: nn.Conv2d,
    filters: Float[Tensor, "b f c kh kw"],
    images: Float[Tensor, "b i h w"],
    output: Float[Tensor, "b f y x"],
) -> Float[Tensor, "b f y x"]:
    """Return each image's patches times its own filters, with the channels last."""
    count, groups = len(images), layer.groups
    columns = unfold(layer, padded(layer, images.to(output.dtype)))
    patches = columns.reshape(count, groups, -1, columns.shape[2]).transpose(2, 3)
    kernels = filters.to(output.dtype).reshape(count, groups, layer.out_channels // groups, -1)
    # Of one group: pixels by filters, which is the memory order of an image with its channels last.
    answers = (patches @ kernels.transpose(2, 3)).transpose(1, 2).flatten(2)
    if layer.bias is not None:
        answers = answers + layer.bias.to(answers.dtype)
    return answers.transpose(1, 2).reshape(output.shape)


def _perturb(
    layer: nn.Conv2d, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor
) -> Tensor | None:
    """Let each image see perturbed filters; a forward hook, idle in evaluation."""
    # torch's `remove_parametrizations` leaves the hook behind.
    if not layer.training or not parametrize.is_parametrized(layer) or not output.numel():
        return None
    steps: Any = layer.parametrizations
    *before, part = steps.weight
    if part.spread.is_off:
        return None
    images: Tensor = args[0] if args else kwargs["input"]
    weight = steps.weight.original
    for other in before:
        weight = other(weight)
    is_single = images.ndim == 3
    batch, answers = (images[None], output[None]) if is_single else (images, output)
    perturbed: Tensor = part.respond(layer, weight, batch, answers)
    return perturbed[0] if is_single else perturbed


def _eigenbands(conv: nn.Conv2d, share: Any) -> Float[Tensor, "bands n n"]:
    """Return projectors onto the eigenfilters, tied ones together, of the whole space or of both spans."""
    cutoff = EQUAL_AREA if share is None else share.cutoff
    matrix = energy_matrix(*conv.kernel_size, cutoff=cutoff)
    whole = torch.eye(len(matrix), dtype=matrix.dtype)
    bands: list[Tensor] = []
    for space in [whole] if share is None else share.projectors.cpu().double():
        # Outside of the space the eigenvalue is -1, which no energy is.
        values, vectors = torch.linalg.eigh(space @ matrix @ space - (whole - space))
        values, rows = values.flip(0), vectors.T.flip(0)[values.flip(0) > -0.5]
        starts = [0, *((-values[: len(rows)].diff() >= _TIED).nonzero()[:, 0] + 1).tolist(), len(rows)]
        bands += [rows[start:end].T @ rows[start:end] for start, end in pairwise(starts)]
    if len(bands) < 2:
        raise ValueError(f"modulate: a kernel of {conv.kernel_size} has one band alone, and no proportion")
    return torch.stack(bands)
