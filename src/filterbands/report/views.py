"""What the page shows, as plain frozen values: all that the rendering reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..filters import LayerSpectrum, ModelSpectrum


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    """A share in [0, 1], or a difference of two in [-1, 1]."""
    low: float | None = None
    """Lower end; None where no interval is known."""
    high: float | None = None
    """Upper end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """Accuracy averaged over kinds of corruption and their severities."""

    label: str
    """What it is an average over, in words that say how many kinds."""
    kinds: tuple[str, ...]
    """The kinds it is over."""
    estimate: Estimate
    """The accuracy."""
    title: str = "Corrupted images"
    """Of its chart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreView:
    """How one network did under one set of conditions."""

    name: str
    """The network's name in the database."""
    conditions: tuple[tuple[str, str], ...]
    """What must be equal for two scores to be compared: (what, value), such as ("images", "2,000")."""
    key: str = ""
    """Only scores that share it, too, are compared: it names the test images and what was measured."""
    clean: Estimate | None
    """Accuracy on clean images."""
    averages: tuple[Average, ...] = ()
    """Averages over the corruptions, the one that matters first."""
    kinds: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """Accuracy of every kind at severities 1 to 5; None where it was not measured."""
    families: Mapping[str, str] = field(default_factory=dict)
    """The group of every kind."""
    overlap: tuple[str, ...] = ()
    """Kinds that the network's training resembles."""
    gains: tuple[Estimate | None, Estimate | None] = (None, None)
    """Paired difference to the first network of the comparison: clean, and of the first average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What the log says of one epoch; None and empty for what it does not say."""

    epoch: int
    """Its number; 0 is before training."""
    loss: float | None = None
    """Mean loss in training."""
    accuracy: float | None = None
    """Accuracy in training."""
    low_share: float | None = None
    """Of the first layer."""
    mean_low_energy: float | None = None
    """Of the first layer."""
    curve: tuple[tuple[float, float], ...] = ()
    """Its cumulative curve: radii and shares of energy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A training: what was run, its log and the filters of its network."""

    facts: Mapping[str, Any]
    """run.json."""
    log: tuple[Epoch, ...] = ()
    """The epochs, 0 first."""
    spectrum: ModelSpectrum | None = None
    """Every convolution of the finished network; None for a run that is not finished."""
    first: str = ""
    """The name of its first layer."""
    weight: Float[Tensor, "f c kh kw"] | None = None
    """The weight of its first layer."""

    @property
    def layer(self) -> LayerSpectrum | None:
        """The spectrum of the first layer, where it has one."""
        if self.spectrum is None or self.first not in self.spectrum:
            return None
        layer = self.spectrum[self.first]
        return None if layer.filters_low_energy is None else layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One network of the report: its training, its scores, or both."""

    name: str
    """As it is shown; no two entries share one."""
    run: RunView | None = None
    """Its training; None for a network known from a database alone."""
    scores: tuple[ScoreView, ...] = ()
    """Its scores, one for every set of conditions it was measured under."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportView:
    """The whole report."""

    title: str
    """Its heading."""
    entries: tuple[Entry, ...]
    """The networks, in the order of the sources; an entry keeps its colour by its position."""
    reference: int = 0
    """Position of the entry that the others are compared with."""
