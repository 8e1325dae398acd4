"""Scores: what a network's per-image answers add up to; pure statistics."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..corruptions import CORRUPTIONS
from .store import Bits

BENCHMARK_15 = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
"""The kinds whose mean is the published benchmark's average."""
EXTRA_4 = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The kinds that the wider average has besides."""
SEVERITIES = (1, 2, 3, 4, 5)
RESAMPLES = 1000
"""Bootstrap resamples of an interval."""

SMALLEST_STRATUM = 10
"""Images that every class needs for the resampling to be stratified by class."""
_PRIME = np.uint64(0x100000001B3)

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One cell's answers: which images it saw, and which of them the network named."""

    positions: np.ndarray[Any, np.dtype[np.int64]]
    """Positions of the images in the data set."""
    bits: Bits
    """Whether each was right."""

    @property
    def accuracy(self) -> float:
        """Share of right answers, in [0, 1]."""
        return float(self.bits.mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An accuracy with the interval that bootstrapping its images gives."""

    accuracy: float
    """In [0, 1]."""
    ci95: tuple[float, float]
    """95 % interval over images, stratified by class where every class has at least 10."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"accuracy": self.accuracy, "ci95": list(self.ci95)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a network scores on a data set, clean and corrupted.

    An average is over kinds x severities with equal weight; one over other kinds than the benchmark's never
    has the benchmark's name.
    """

    name: str
    """The network's name."""
    model: str
    """Its fingerprint."""
    data: str
    """The data set's name."""
    split: str
    """Its split."""
    pixels: str = ""
    """Fingerprint of the clean images."""
    labels: np.ndarray[Any, np.dtype[np.int64]]
    """The images' classes."""
    seed: int
    """Seed of the corruptions."""
    parameters: str
    """Table of constants; empty where corrupted images were read from files."""
    precision: str
    """What the network ran in."""
    cells: Mapping[tuple[str, int], Answers]
    """The answers by kind and severity; clean ones are ("clean", 0)."""

    @property
    def clean(self) -> float:
        """Accuracy on clean images, in [0, 1]."""
        return self.cells["clean", 0].accuracy

    @property
    def kinds(self) -> dict[str, list[float | None]]:
        """Accuracy by kind, a list of five severities; None where a cell is not there."""
        there = {kind for kind, _ in self.cells if kind != "clean"}
        ordered = [kind for kind in CORRUPTIONS if kind in there]
        table: dict[str, list[float | None]] = {}
        for kind in ordered + sorted(there - set(ordered)):
            found = [self.cells.get((kind, severity)) for severity in SEVERITIES]
            table[kind] = [None if answers is None else answers.accuracy for answers in found]
        return table

    @property
    def severities(self) -> tuple[int, ...]:
        """The severities at hand."""
        return tuple(sorted({severity for kind, severity in self.cells if kind != "clean"}))

    def clean_estimate(self) -> Estimate:
        """Return the clean accuracy with its interval."""
        return _estimate([self.cells["clean", 0]], self.labels)

    def average(self, kinds: Iterable[str], severities: Sequence[int] = SEVERITIES) -> Estimate | None:
        """Return the mean accuracy over kinds x severities, None unless every cell is there."""
        wanted = [self.cells.get((kind, severity)) for kind in kinds for severity in severities]
        found = [answers for answers in wanted if answers is not None]
        return _estimate(found, self.labels) if found and len(found) == len(wanted) else None

    def average_15(self) -> Estimate | None:
        """Return the average over the benchmark's 15 kinds at five severities, None unless all are there."""
        return self.average(BENCHMARK_15)

    def average_19(self) -> Estimate | None:
        """Return the average over all 19 kinds at five severities, None unless all are there."""
        return self.average(BENCHMARK_15 + EXTRA_4)

    def average_at_hand(self) -> Estimate | None:
        """Return the average over the kinds and severities that are there, None unless they make a table."""
        return self.average(self.kinds, self.severities) if self.kinds else None

    def mean_corruption_error(self) -> float | None:
        """Return the mean error over the benchmark's 15 kinds, unnormalised; None unless all are there."""
        average = self.average_15()
        return None if average is None else 1 - average.accuracy

    def families(self) -> dict[str, dict[str, Any]]:
        """Return the average of each family of kinds at hand, with the kinds it is over."""
        found: dict[str, dict[str, Any]] = {}
        for family in ("noise", "blur", "weather", "digital"):
            kinds = [k for k in self.kinds if k in CORRUPTIONS and CORRUPTIONS[k].family == family]
            estimate = self.average(kinds, self.severities) if kinds else None
            if estimate is not None:
                found[family] = {**estimate.to_json(), "kinds": kinds}
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain values, under the keys of `filterbands evaluate --json`."""
        averages = {"average_15": self.average_15(), "average_19": self.average_19()}
        at_hand = self.average_at_hand()
        return {
            "name": self.name,
            "model": self.model,
            "data": self.data,
            "split": self.split,
            "clean": self.clean_estimate().to_json(),
            **{name: None if value is None else value.to_json() for name, value in averages.items()},
            "mean_corruption_error": self.mean_corruption_error(),
            "average_at_hand": None
            if at_hand is None
            else {**at_hand.to_json(), "kinds": list(self.kinds), "severities": list(self.severities)},
            "families": self.families(),
            "kinds": self.kinds,
            "images": len(self.labels),
            "seed": self.seed,
            "parameters": self.parameters,
            "precision": self.precision,
        }

    def __str__(self) -> str:
        clean = self.clean_estimate()
        lines = [f"{self.name} on {self.data} ({self.split}, {len(self.labels):,} images)", ""]
        lines.append(_line("clean", clean))
        for title, estimate in (
            ("average over the 15 benchmark kinds", self.average_15()),
            ("average over all 19 kinds", self.average_19()),
        ):
            if estimate is not None:
                lines.append(_line(title, estimate))
        at_hand = self.average_at_hand()
        if at_hand is not None and self.average_19() is None:
            lines.append(_line(f"average over the {len(self.kinds)} kinds at hand", at_hand))
        for family, values in self.families().items():
            lines.append(f"  {family:<38}{100 * values['accuracy']:6.2f} %  ({len(values['kinds'])} kinds)")
        if self.kinds:
            lines += [
                "",
                f"{'accuracy, %, at severity':<26}" + "".join(f"{s:>7}" for s in SEVERITIES) + "   mean",
            ]
        for kind, row in self.kinds.items():
            present = [value for value in row if value is not None]
            texts = "".join(f"{'-':>7}" if value is None else f"{100 * value:7.1f}" for value in row)
            lines.append(f"{kind:<26}{texts}{100 * sum(present) / len(present):7.1f}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much more accurate one run is than another on the same images."""

    difference: float
    """First minus second, in [-1, 1]."""
    ci95: tuple[float, float]
    """95 % interval of it over images, paired, stratified as an estimate's."""


def compare(first: Scores, second: Scores, kinds: Iterable[str] = ("clean",)) -> Difference:
    """Return the paired difference of two runs' averages over kinds, at the severities both have.

    Raises:
        ValueError: Not the same images, or cells that one of them lacks.
    """
    same = (first.data, first.split, first.pixels) == (second.data, second.split, second.pixels)
    if not same or not np.array_equal(first.labels, second.labels):
        raise ValueError(f"{first.name} and {second.name} were not evaluated on the same images")
    names = list(kinds)
    severities = sorted(set(first.severities) & set(second.severities))
    wanted = [(k, s) for k in names for s in ([0] if k == "clean" else severities)]
    for scores in (first, second):
        lacking = [f"{kind} {severity}" for kind, severity in wanted if (kind, severity) not in scores.cells]
        if lacking or not wanted:
            raise ValueError(f"{scores.name} has no results of {', '.join(lacking[:3]) or 'these kinds'}")
    for kind, severity in wanted:
        one, two = (scores.cells[kind, severity].positions for scores in (first, second))
        if not np.array_equal(one, two):
            raise ValueError(
                f"{first.name} and {second.name} saw different images at {kind} {severity}: one of them was "
                "spread over severities, the other was not; evaluate both alike"
            )
    mine, weights, strata = _per_image([first.cells[cell] for cell in wanted], first.labels)
    theirs, _, _ = _per_image([second.cells[cell] for cell in wanted], first.labels)
    low, high = bootstrap(mine - theirs, weights, strata)
    return Difference(difference=float(((mine - theirs) * weights).sum()), ci95=(low, high))


def bootstrap(
    values: Floats, weights: Floats, strata: np.ndarray[Any, np.dtype[np.int64]], *, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile interval of a weighted sum when items are drawn anew within each stratum.

    Args:
        values: One an item.
        weights: One an item.
        strata: Number of each item's stratum.
        seed: Of the resampling.

    Source: Efron, Tibshirani 1993, "An introduction to the bootstrap", section 13.3.

    >>> bootstrap(np.ones(10), np.full(10, 0.1), np.zeros(10, dtype=np.int64))
    (1.0, 1.0)
    """
    generator = np.random.default_rng(seed)
    sums = np.zeros(RESAMPLES)
    shares = values * weights
    # Opposite values have exactly opposite intervals: the draws are those of the ones that begin above 0.
    sign = float(np.sign(shares[np.flatnonzero(shares)[:1]]).sum()) or 1.0
    shares = sign * shares
    order = np.argsort(strata, kind="stable")
    borders = np.flatnonzero(np.diff(strata[order])) + 1
    for inside in np.split(shares[order], borders):
        found, counts = np.unique(inside, return_counts=True)
        if 5 * len(found) < len(inside):
            # Items of equal share are interchangeable, so it is enough to draw how often each share comes.
            sums += generator.multinomial(len(inside), counts / len(inside), size=RESAMPLES) @ found
        else:
            sums += inside[generator.integers(0, len(inside), (RESAMPLES, len(inside)))].sum(axis=1)
    low, high = np.percentile(sign * sums, [2.5, 97.5])
    return round(float(low), 12), round(float(high), 12)


def _estimate(cells: Sequence[Answers], labels: np.ndarray[Any, np.dtype[np.int64]]) -> Estimate:
    values, weights, strata = _per_image(cells, labels)
    low, high = bootstrap(values, weights, strata)
    accuracy = float(np.mean([answers.accuracy for answers in cells]))
    return Estimate(accuracy=accuracy, ci95=(low, high))


def _per_image(
    cells: Sequence[Answers], labels: np.ndarray[Any, np.dtype[np.int64]]
) -> tuple[Floats, Floats, np.ndarray[Any, np.dtype[np.int64]]]:
    """Return each image's mean answer, its weight in the average of the cells, and its stratum.

    Images that the same cells saw (all of them, or those of one severity when images are spread over
    severities) form a group; a stratum is a class within a group, or the whole group where a class would
    have too few images: resampled, a stratum of n varies too little by (n - 1) / n, one of 1 not at all.
    """
    right, weights = np.zeros(len(labels)), np.zeros(len(labels))
    for size in sorted({len(answers.positions) for answers in cells}):
        # Whole numbers until here, so that images with as many right answers have equal values.
        hits, times = np.zeros(len(labels), dtype=np.int64), np.zeros(len(labels), dtype=np.int64)
        for answers in cells:
            if len(answers.positions) == size:
                hits[answers.positions] += answers.bits
                times[answers.positions] += 1
        right += hits / (size * len(cells))
        weights += times / (size * len(cells))
    trace = np.zeros(len(labels), dtype=np.uint64)
    for number, answers in enumerate(cells):
        # The products wrap around; what counts is that the same cells leave the same trace.
        trace[answers.positions] = trace[answers.positions] * _PRIME + np.uint64(number + 1)
    seen = weights > 0
    group = np.unique(trace[seen], return_inverse=True)[1].astype(np.int64)
    strata = group * (int(labels.max(initial=0)) + 1) + labels[seen]
    if np.unique(strata, return_counts=True)[1].min() < SMALLEST_STRATUM:
        strata = group
    return right[seen] / weights[seen], weights[seen], strata


def _line(title: str, estimate: Estimate) -> str:
    low, high = (100 * value for value in estimate.ci95)
    return f"{title:<40}{100 * estimate.accuracy:6.2f} %  (95 % interval {low:.2f} to {high:.2f})"
