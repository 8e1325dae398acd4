"""Robustness without training: the best linear denoiser of a patch, folded into the first spatial layer.

Of all linear maps of a noisy patch `x + n`, the one that comes closest to `w^T x` on average is
`w^T C (C + N)^-1`: C is the covariance of clean patches, N that of the noise, both as the layer sees them.
It shrinks what the noise drowns and leaves what stands out of it, and folds into the weights.
"""

import copy
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize
from torch.utils.data import Dataset

from ..datasets import ImageSet
from ..engine import batches_of, logits_in
from ..filters import PatchStatistics, image_batches, patch_statistics
from ..models import Named, convolutions, evaluating, first_layer, opened, owners, run_on
from ..types import FloatImages, Images

_Model = TypeVar("_Model", bound=nn.Module)
Data = ImageSet | Images | FloatImages | Iterable[Any] | Dataset[Any] | str
"""Images: a set, bytes, floats in [0, 1], or batches or items of them (also in tuples that begin with them,
or in mappings under `image` or `img`); a text names the `train` split of a data set, as `load_data` does."""

# Levels that `choose_noise` tries, lowest first: the step is the square root of 2.
_LEVELS = tuple(0.005 * 2 ** (step / 2) for step in range(11))
# Directions with less of the largest eigenvalue than this are nothing but rounding.
_RANK = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanCost:
    """What shrinking costs on clean labeled images, from the answers before and after."""

    noise: float
    """Standard deviation of the noise that was allowed for, in units of [0, 1]."""
    images: int
    """Number of images compared."""
    before: float
    """Accuracy of the network as it was, in [0, 1]."""
    after: float
    """Accuracy of the shrunk network."""
    changed: int
    """Images that one of the two gets right and the other wrong."""

    @property
    def drop(self) -> float:
        """Accuracy lost; negative where some was gained."""
        return self.before - self.after

    @property
    def margin(self) -> float:
        """Half-width of the drop's 95 % interval over images, which are the same in both."""
        spread = self.changed / self.images - self.drop**2
        return 1.96 * math.sqrt(max(spread, 0) / self.images)

    def __str__(self) -> str:
        return (
            f"noise {self.noise:.3g}: clean {100 * self.before:.2f} -> {100 * self.after:.2f} % "
            f"({-100 * self.drop:+.2f} ± {100 * self.margin:.2f} points on {self.images:,} images)"
        )


@overload
def shrink(model: _Model, data: Data, *, noise: float = 0.03) -> _Model: ...
@overload
def shrink(model: str | os.PathLike[str], data: Data, *, noise: float = 0.03) -> nn.Module: ...
def shrink(model: Named, data: Data, *, noise: float = 0.03) -> nn.Module:
    """Return the network with the best linear denoiser of a patch folded into its first spatial layer.

    The network is changed in place: the weight W of the first `torch.nn.Conv2d` larger than 1x1, in the order
    of execution, becomes `W C (C + N)^-1`. C is the covariance of its input patches on the images given,
    channels together and padding included. N is what white noise of standard deviation `noise` at the
    network's input adds to them, behind the normalization. The running mean and variance of batch norms that
    read the layer's output are mapped in closed form. The mean response stays: the layer's bias takes up the
    difference, or those batch norms do, if nothing but them reads the output. A layer without bias that has
    no batch norm behind it, or whose output is read by others too (as in a pre-activation ResNet), cannot
    keep its mean response. C is then the uncentered second moment, under which the mean hardly moves. Nothing
    else is touched.

    No label is needed, and a few hundred images do: some 10 patches for every input of a filter. Look at the
    cost in clean accuracy (`clean_cost`), or give it (`choose_noise`).

    Args:
        model: Takes NCHW floats in [0, 1]. On any device. `load_model` loads what a text names.
        data: Clean images like those the network is for: an `ImageSet`, bytes or floats NCHW, an iterable of
            batches as a loader gives, a data set of items, or a text that `load_data` takes, whose `train`
            split is used.
        noise: Standard deviation of white noise to be ready for, in units of [0, 1], above 0.

    Raises:
        ValueError: No such layer, one that is parametrized (bake first), one that shares its weight or bias
            with another module, too few images, images out of range, or a noise that is not a positive
            number.

    Source: the linear estimator of Wiener 1949, "Extrapolation, interpolation, and smoothing of stationary
    time series", for the patches of a convolution; folding it into trained weights is our own.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
    >>> before = model[0].weight.detach().clone()
    >>> bool((shrink(model, torch.rand(32, 3, 16, 16), noise=0.1)[0].weight.norm() < before.norm()))
    True
    """
    if not 0 < noise < math.inf:
        raise ValueError(
            f"shrink: noise needs a standard deviation above 0, in units of [0, 1] images, got {noise}"
        )
    network = opened(model)
    _observe("shrink", network, data).fold(noise)
    return network


def clean_cost(before: nn.Module, after: nn.Module, data: ImageSet, *, noise: float = math.nan) -> CleanCost:
    """Return what the second network loses of the first one's accuracy on labeled clean images.

    Both run in evaluation mode and are left as they were.

    Args:
        before: The network as it was, say a `copy.deepcopy`.
        after: The network as it is.
        data: Images that `shrink` was not given.
        noise: Kept for the record.
    """
    return _compare(_answers(before, data), _answers(after, data), data, noise)


def choose_noise(
    model: Named, data: Data, held_out: ImageSet, *, budget: float
) -> tuple[float, tuple[CleanCost, ...]]:
    """Return the largest noise that `shrink` can allow for within a budget of clean accuracy, and the trials.

    Levels from 0.005 upwards, each the square root of 2 above the last, are tried on the held-out images
    until one costs more than the budget. The network is not changed. The cost on `held_out` is a little too
    good, because the choice is made there: report the cost on other images.

    Args:
        model: As for `shrink`.
        data: As for `shrink`.
        held_out: Labeled clean images that are not among `data`.
        budget: Accuracy that may be lost, in (0, 1); 0.005 is half a point.

    Raises:
        ValueError: As for `shrink`; a budget out of range; or one that even the lowest level exceeds.

    >>> from filterbands import load_data, load_model
    >>> data = load_data("planted", split="validation")
    >>> model, parts = load_model(arch="fastnet"), torch.arange(len(data)).split(300)
    >>> choose_noise(model, data.subset(parts[0]), data.subset(parts[1]), budget=0.9)[0] > 0.1
    True
    """
    if not 0 < budget < 1:
        raise ValueError(f"choose_noise: budget needs a share of accuracy in (0, 1), got {budget}")
    network = opened(model)
    twin = copy.deepcopy(network)
    original = _observe("choose_noise", twin, data)
    before = _answers(network, held_out)
    trials: list[CleanCost] = []
    chosen = 0.0
    for level in _LEVELS:
        original.fold(level)
        trials.append(_compare(before, _answers(twin, held_out), held_out, level))
        if trials[-1].drop > budget:
            break
        chosen = level
    if not chosen:
        raise ValueError(
            f"choose_noise: even noise {_LEVELS[0]} costs {trials[0].drop:.4f} of clean accuracy, more than "
            f"the budget of {budget}; allow for more, or leave the network as it is"
        )
    return chosen, tuple(trials)


@dataclass(frozen=True, slots=True, eq=False)
class _Original:
    """The first layer and what it sees, with the numbers that it had, from which every level starts."""

    layer: _ConvNd
    statistics: PatchStatistics
    weight: Float[Tensor, "g f d"]
    bias: Float[Tensor, " n"] | None
    is_centered: bool
    """Whether a bias, or batch norms that all of the output goes through, take up a change of the mean."""
    moments: tuple[tuple[Tensor, Tensor, Tensor, Tensor], ...]
    """Running mean and variance of each batch norm, and copies of both as they were."""

    @torch.no_grad()
    def fold(self, noise: float) -> None:
        """Write the weights, bias and batch norms that are right for this much noise."""
        layer, seen = self.layer, self.statistics
        signal = seen.covariance
        if not self.is_centered:
            signal = signal + seen.mean[:, :, None] * seen.mean[:, None, :]
        whole = signal + noise**2 * seen.noise
        new = self.weight @ signal @ torch.linalg.pinv(whole, rtol=_RANK, hermitian=True)
        layer.weight.copy_(new.reshape(layer.weight.shape))
        (mean, variance), (new_mean, new_variance) = (self._response(each) for each in (self.weight, new))
        if self.bias is not None and layer.bias is not None:
            mean = mean + self.bias.double()
            layer.bias.copy_(mean - new_mean)
            new_mean = mean
        ratio = torch.where(variance > 0, new_variance / variance.clamp_min(1e-300), 1.0)
        for running_mean, running_var, first_mean, first_var in self.moments:
            running_mean.copy_(new_mean + (first_mean.double() - mean) * ratio.sqrt())
            running_var.copy_(first_var.double() * ratio)

    def _response(self, weight: Float[Tensor, "g f d"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Return mean and variance of what these weights answer to the patches, without bias."""
        mean: Tensor = (weight @ self.statistics.mean[:, :, None]).flatten()
        variance: Tensor = ((weight @ self.statistics.covariance) * weight).sum(dim=2).flatten()
        return mean, variance


def _observe(verb: str, model: nn.Module, data: Data) -> "_Original":
    batches = image_batches(verb, data)
    sample = next(batches)
    first = first_layer(verb, model, sample)
    if parametrize.is_parametrized(first.layer):
        raise ValueError(f"{verb} needs plain weights, {first.name} is parametrized; bake the network first")
    if "weight" not in first.layer._parameters:
        raise ValueError(
            f"{verb} needs plain weights, that of {first.name} is set anew by a hook at every pass; remove "
            "that first, as with torch.nn.utils.prune.remove or remove_weight_norm"
        )
    if first.runs > 1:
        raise ValueError(
            f"{verb} needs a first layer that runs once, {first.name} runs {first.runs} times on one image, "
            "and no weights suit what it sees each time"
        )
    for tensor in (first.layer.weight, first.layer.bias):
        shared = [] if tensor is None else owners(model, tensor)
        if len(shared) > 1:
            raise ValueError(
                f"{verb} needs a first layer with parameters of its own: {' and '.join(shared)} share "
                "their numbers, and shrinking one would change the others; give each module its own first"
            )
    every = convolutions(model, sample) if first.norms else ()
    for name, norm in first.norms.items():
        others = [one.name for one in every if norm in one.norms.values()]
        if len(others) > 1:
            raise ValueError(
                f"{verb} needs batch norms of the first layer's own: {name} reads {' and '.join(others)}; "
                "give each layer its own first"
            )
    layer, seen = first.layer, patch_statistics(verb, model, first, chain([sample], batches))
    moments = tuple(
        (norm.running_mean, norm.running_var, norm.running_mean.clone(), norm.running_var.clone())
        for norm in first.norms.values()
        if norm.running_mean is not None and norm.running_var is not None
    )
    return _Original(
        layer=layer,
        statistics=seen,
        # A copy: without it, a weight in float64 would be the layer's own, which every level overwrites.
        weight=layer.weight.detach()
        .to(torch.float64, copy=True)
        .reshape(len(seen.mean), -1, seen.mean.shape[1]),
        bias=None if layer.bias is None else layer.bias.detach().clone(),
        is_centered=layer.bias is not None or (bool(moments) and not first.has_other_readers),
        moments=moments,
    )


@torch.no_grad()
def _answers(model: nn.Module, data: ImageSet) -> Tensor:
    """Return the class that the network names for each image."""
    with evaluating(model):
        parts = batches_of(data.images)
        logits = (logits_in(run_on(model, part.float() / 255)) for part in parts)
        return torch.cat([found.argmax(dim=1).cpu() for found in logits])


def _compare(before: Tensor, after: Tensor, data: ImageSet, noise: float) -> CleanCost:
    was_right, is_right = before == data.labels, after == data.labels
    return CleanCost(
        noise=noise,
        images=len(data),
        before=float(was_right.double().mean()),
        after=float(is_right.double().mean()),
        changed=int((was_right != is_right).sum()),
    )
