"""What the pages show, as plain frozen values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxtyping import Float
from markupsafe import Markup
from torch import Tensor

from ..filters import LayerSpectrum, ModelSpectrum
from ..probes import Added, Probing
from ..scores import Scores


class Cell(NamedTuple):
    """A cell of a table, or a name wherever one stands."""

    text: str
    position: int | None = None
    """Position of the network that it names, which gives its color; None for any other text."""
    under: str = ""
    """What stands below it, small."""
    beside: str = ""
    """What follows it in gray."""
    code: bool = False
    """Whether it is a name in a program."""
    value: float | None = None
    """The number that the text rounds, by which columns are compared and sorted."""
    kind: str = ""
    """The kind of corruption that it names."""
    dots: tuple[float, ...] = ()
    """Values of single networks, drawn below it."""
    ends: tuple[float, float] = (0.0, 1.0)
    """Where the line of the dots begins and ends."""


RING = 0.02
"""Width of the rings in which pictures of spectra are summed, cycles per pixel."""

Row = Sequence[Cell | str]
"""The cells of a row of a table."""


class Table(NamedTuple):
    """A table; the first cell of a row is its header, the label is for readers that do not see it."""

    label: str
    head: Row
    rows: Sequence[Row]
    numeric: int = 1
    """Columns from this one on are aligned to the right."""
    closing: Sequence[Row] = ()
    """Rows that stay at the bottom, however the others are sorted."""


class Figure(NamedTuple):
    """A card with a heading, a chart, and a note below it."""

    title: str
    chart: Markup
    note: str = ""


class Picture(NamedTuple):
    """A spectrum or a map over the square of frequencies, frequency zero in the center.

    The label says whose it is, the address holds the picture, and `alt` is for readers that do not see it.
    """

    label: Cell
    address: str
    alt: str
    cutoff: float | None = None
    """Radius of the circle drawn over it; None for no circle."""
    pixels: bool = False
    """Whether its pixels are to be told apart."""
    rings: Mapping[str, str] = MappingProxyType({})
    """What its rings of `RING` cycles per pixel hold, from the center to the corner: `shares` of the power of
    a kind; or mean `errors`, empty where nothing was measured, with `counts` of frequencies, and `reach`, the
    radius up to which all rings were measured."""


class Estimate(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    """A share in [0, 1], or a difference of two in [-1, 1]."""
    low: float | None = None
    """Lower end; None, as the upper one, where no interval is known."""
    high: float | None = None

    @property
    def size(self) -> "Estimate":
        """How large a difference is, whatever its sign."""
        return self if self.value >= 0 else self.turned

    @property
    def turned(self) -> "Estimate":
        """A difference in the other direction."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return Estimate(-self.value, low, high)

    @property
    def cut(self) -> "Estimate":
        """An accuracy with the ends of its interval cut to [0, 1], which Student's interval may leave."""
        if self.low is None or self.high is None:
            return self
        return Estimate(self.value, max(self.low, 0.0), min(self.high, 1.0))

    @property
    def clear(self) -> bool:
        """Whether the interval of a difference excludes 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class Average(NamedTuple):
    """Accuracy averaged over kinds of corruption and their severities."""

    label: str
    """What it is an average over, in words that say how many kinds."""
    kinds: tuple[str, ...]
    estimate: Estimate
    title: str = "Corrupted images"
    """Heading of its chart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreView:
    """How one network did under one set of conditions."""

    name: str
    conditions: tuple[tuple[str, str], ...]
    """What must be equal for two scores to be compared: (what, value), such as ("images", "2,000")."""
    key: str = ""
    """Only scores that share it, too, are compared: it names the test images and what was measured."""
    images: str = ""
    """What tells its test images from others, such as their fingerprint; empty where nothing does."""
    clean: Estimate
    averages: tuple[Average, ...] = ()
    """Averages over the corruptions, the one that matters first."""
    kinds: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """Accuracy of every kind at severities 1 to 5; None where it was not measured."""
    severities: tuple[int, ...] = ()
    families: Mapping[str, str] = field(default_factory=dict)
    """The family of every kind."""
    overlap: tuple[str, ...] = ()
    """Kinds that the network's training resembles."""
    warnings: tuple[str, ...] = ()
    """Reasons to doubt the scores."""
    failed: tuple[tuple[str, str], ...] = ()
    """Cells that failed, such as `fog, severity 3`, and why."""
    source: Scores | None = None
    """The scores that it shows, with the answers per image."""
    gains: tuple[Estimate | None, Estimate | None] = (None, None)
    """Paired difference to the first network of the comparison: clean, and of the first average."""


class Epoch(NamedTuple):
    """What the log says of one epoch, 0 being before training; None and empty for what it does not say.

    Loss and accuracy are means in training; the other figures are of the first layer.
    """

    epoch: int
    loss: float | None = None
    accuracy: float | None = None
    low_share: float | None = None
    mean_low_energy: float | None = None
    curve: tuple[tuple[float, float], ...] = ()
    """The cumulative curve: radii and shares of energy."""
    strengths: Mapping[str, tuple[float, ...]] = MappingProxyType({})
    """What `SpectralNoise(learn=...)` says of itself: `bands`, `gain`, `noise`."""


class FiltersView(NamedTuple):
    """The filters of a network."""

    spectrum: ModelSpectrum
    """Every convolution."""
    first: str = ""
    """The name of its first layer."""
    weight: Float[Tensor, "f c kh kw"] | None = None
    """The weight of its first layer, of two dimensions."""

    @property
    def layer(self) -> LayerSpectrum | None:
        """The spectrum of the first layer, where it has one."""
        if self.first not in self.spectrum:
            return None
        layer = self.spectrum[self.first]
        return None if layer.filters_low_energy is None else layer


class RunView(NamedTuple):
    """The record of a training."""

    facts: Mapping[str, Any]

    @property
    def config(self) -> Mapping[str, Any]:
        """How it was trained."""
        return mapping(self.facts.get("config"))

    @property
    def data(self) -> Mapping[str, Any]:
        """What it was trained on."""
        return mapping(self.facts.get("data"))


class Entry(NamedTuple):
    """One network of the report, and everything that is known of it."""

    position: int
    """Number of its recipe, which gives its color."""
    name: str
    """No two entries share one."""
    run: RunView | None = None
    """Its training; None for a network that was not trained here."""
    filters: FiltersView | None = None
    """Its filters; None where there are no weights."""
    scores: tuple[ScoreView, ...] = ()
    """Its scores, one for every set of conditions it was measured under."""
    log: tuple[Epoch, ...] = ()
    """The epochs of its training, 0 first, or its earlier checkpoints."""
    probed: tuple[Probing, ...] = ()
    """Its finished probes."""
    file: Mapping[str, str] = MappingProxyType({})
    """What is known of the file that it was read from."""

    @property
    def label(self) -> Cell:
        """Its name behind its color."""
        return Cell(self.name, self.position)

    @property
    def spectrum(self) -> ModelSpectrum | None:
        """Its convolutions."""
        return None if self.filters is None else self.filters.spectrum

    @property
    def layer(self) -> LayerSpectrum | None:
        """Its first layer, where that was measured."""
        return None if self.filters is None else self.filters.layer

    @property
    def seed(self) -> object:
        """The seed of its training."""
        return None if self.run is None else self.run.config.get("seed")


# What a training may have been made with, and the entries of a record or a study's line that say it.
_MADE_WITH = {
    "version": ("version",),
    "revision": ("git",),
    "torch": ("torch",),
    "training precision": ("precision", "training_precision"),
    "device": ("device",),
}


class Recipe(NamedTuple):
    """Networks of one recipe, which differ in the seed alone, or one network: a row of every table."""

    position: int
    """Its place among them, which gives its color."""
    name: str
    """No two recipes share one."""
    entries: tuple[Entry, ...]
    """Its networks, in the order of the sources."""
    standard: bool = False
    """Whether it is the standard recipe, with which the others are compared."""

    @property
    def label(self) -> Cell:
        """Its name behind its color, and the number of its seeds."""
        return Cell(self.name, self.position, f"{len(self.entries)} seeds" if len(self.entries) > 1 else "")

    @property
    def unlike(self) -> list[tuple[str, list[str]]]:
        """In what the trainings of its seeds differ, as far as their records say it, and the values."""
        records = [entry.run.facts for entry in self.entries if entry.run is not None]
        found = []
        for what, keys in _MADE_WITH.items():
            said = [next((facts[key] for key in keys if facts.get(key)), None) for facts in records]
            values = list(dict.fromkeys(str(value) for value in said if value is not None))
            if len(values) > 1:
                found.append((what, values))
        return found


class ReportView(NamedTuple):
    """The whole report."""

    title: str
    recipes: tuple[Recipe, ...]
    """In the order of the sources."""
    added: Added | None = None
    """Spectra of what corruptions add to images, where a database has them."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All networks, recipe by recipe."""
        return tuple(entry for recipe in self.recipes for entry in recipe.entries)


def mapping(value: object) -> Mapping[str, Any]:
    """Return what a file says where a mapping belongs; an empty one where it says something else."""
    return value if isinstance(value, Mapping) else {}
