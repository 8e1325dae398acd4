"""Scores: what a network's per-image answers add up to; pure functions."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..corruptions import CORRUPTIONS, PARAMETERS, kinds_of
from .statistics import Bits, Floats, Integers, bootstrap

BENCHMARK_15 = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
"""The kinds whose mean is the published benchmark's average."""
EXTRA_4 = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The kinds that the wider average has besides."""
SEVERITIES = (1, 2, 3, 4, 5)
NOISES = BENCHMARK_15[:3]
"""Those of the 15 that add noise: the ones that training with noise resembles."""
FAMILIES = ("noise", "blur", "weather", "digital")
"""The benchmark's groups of kinds."""

SMALLEST_STRATUM = 10
"""Images that every class needs for the resampling to be stratified by class."""
_PRIME = np.uint64(0x100000001B3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One cell's answers: which images it saw, and which of them the network named."""

    positions: Integers
    """Positions of the images in the data set."""
    bits: Bits
    """Whether each was right."""
    predictions: Integers | None = None
    """The class named for each; None in results of older versions."""
    calibration_error: float | None = None
    """In [0, 1]; where logits were kept."""

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
    labels: Integers
    """The images' classes."""
    seed: int
    """Seed of the corruptions."""
    parameters: str
    """Table of constants; empty where corrupted images were read from files."""
    precision: str
    """What the network ran in."""
    cells: Mapping[tuple[str, int], Answers]
    """The answers by kind and severity; clean ones are ("clean", 0)."""
    failed: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """Cells without an answer, and why."""
    overlap: tuple[str, ...] = ()
    """Kinds, or families of kinds, that what the network was trained on resembles."""
    folder: str = ""
    """Where corrupted images were read from; empty where they were made here, or where nobody noted it."""

    @property
    def clean(self) -> float:
        """Accuracy on clean images, in [0, 1]."""
        return self.cells["clean", 0].accuracy

    @property
    def kinds(self) -> dict[str, list[float | None]]:
        """Accuracy by kind, a list of five severities; None where a cell is not there."""
        there = {kind for kind, _ in (*self.cells, *self.failed) if kind != "clean"}
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

    def average_ex_noise(self) -> Estimate | None:
        """Return the average over the benchmark's 12 kinds that are no noise; None unless all are there."""
        return self.average(kind for kind in BENCHMARK_15 if kind not in NOISES)

    def average_ex_overlap(self) -> Estimate | None:
        """Return the average over those of the 15 that the training resembles nothing of.

        None unless there is an overlap, something is left beside it, and all of that is there.
        """
        return self.average(self._kinds_ex_overlap()) if self.overlap else None

    def average_cbar(self) -> Estimate | None:
        """Return the average over C-bar's ten kinds at five severities, None unless all are there.

        They are in no other average.
        """
        tables = (self.parameters,) if self.parameters else tuple(PARAMETERS)
        found = (self.average(kinds_of("cbar", parameters=table)) for table in tables)
        return next((estimate for estimate in found if estimate is not None), None)

    def average_at_hand(self) -> Estimate | None:
        """Return the average over `kinds_at_hand` and their severities, None unless they make a table."""
        return self.average(self.kinds_at_hand, self.severities) if self.kinds_at_hand else None

    @property
    def kinds_at_hand(self) -> tuple[str, ...]:
        """The kinds that are there; those of C-bar only where there are no others."""
        others = tuple(kind for kind in self.kinds if not _is_cbar(kind))
        return others or tuple(self.kinds)

    def mean_corruption_error(self, reference: "Scores | None" = None) -> float | None:
        """Return the mean error over the benchmark's 15 kinds; None unless all are there.

        Args:
            reference: Divide each kind's error by this network's, as is usual for ImageNet-C; None divides by
                nothing, as is usual for CIFAR-10-C.

        Source: Hendrycks, Dietterich 2019, arXiv:1903.12261, section 4, CE and mCE.
        """
        own, theirs = self._errors(), reference._errors() if reference else np.ones(len(BENCHMARK_15))
        return None if own is None or theirs is None else _mean_ratio(own, theirs)

    def relative_mean_corruption_error(self, reference: "Scores") -> float | None:
        """Return how much corruption adds to the error, relative to what it adds to another network's.

        Mean over the benchmark's 15 kinds; None unless both have all, or where corruption adds nothing to the
        reference's error under some kind.

        Source: Hendrycks, Dietterich 2019, arXiv:1903.12261, section 4, relative CE.
        """
        own, theirs = self._errors(), reference._errors()
        if own is None or theirs is None:
            return None
        return _mean_ratio(own - (1 - self.clean), theirs - (1 - reference.clean))

    def flips(self) -> dict[str, list[float | None]] | None:
        """Return by kind and severity the share of images that get another class than their clean copy.

        None where the predictions of the clean images were not kept.
        """
        clean = self.cells["clean", 0].predictions
        if clean is None:
            return None
        table: dict[str, list[float | None]] = {}
        for kind in self.kinds:
            row = [self.cells.get((kind, severity)) for severity in SEVERITIES]
            table[kind] = [
                None
                if answers is None or answers.predictions is None
                else float((answers.predictions != clean[answers.positions]).mean())
                for answers in row
            ]
        return table

    def calibration_errors(self) -> dict[str, list[float | None]]:
        """Return the expected calibration error by kind and severity, `clean` a list of one, where kept."""
        names = {"clean": (0,), **dict.fromkeys(self.kinds, SEVERITIES)}
        table = {
            kind: [
                None if (answers := self.cells.get((kind, severity))) is None else answers.calibration_error
                for severity in severities
            ]
            for kind, severities in names.items()
        }
        return {kind: row for kind, row in table.items() if any(value is not None for value in row)}

    def _errors(self) -> Floats | None:
        """Return each of the 15 kinds' mean error; None unless all are there."""
        averages = [self.mean_of(kind) for kind in BENCHMARK_15]
        present = [value for value in averages if value is not None]
        return 1 - np.array(present) if len(present) == len(averages) else None

    def mean_of(self, kind: str) -> float | None:
        """Return a kind's mean accuracy over five severities, None unless all are there."""
        found = [self.cells.get((kind, severity)) for severity in SEVERITIES]
        accuracies = [answers.accuracy for answers in found if answers is not None]
        return float(np.mean(accuracies)) if len(accuracies) == len(SEVERITIES) else None

    def _kinds_ex_overlap(self) -> list[str]:
        resembled = overlapping_kinds(self.overlap)
        return [kind for kind in BENCHMARK_15 if kind not in resembled]

    def families(self) -> dict[str, dict[str, Any]]:
        """Return the average of each family of kinds at hand, with the kinds it is over."""
        found: dict[str, dict[str, Any]] = {}
        for family in FAMILIES:
            kinds = [k for k in self.kinds if k in CORRUPTIONS and CORRUPTIONS[k].family == family]
            estimate = self.average(kinds, self.severities) if kinds else None
            if estimate is not None:
                found[family] = {**estimate.to_json(), "kinds": kinds}
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain values, under the keys of `filterbands evaluate --json`."""
        averages = {
            "average_15": self.average_15(),
            "average_19": self.average_19(),
            "average_ex_noise": self.average_ex_noise(),
            "average_cbar": self.average_cbar(),
        }
        at_hand, beside = self.average_at_hand(), self.average_ex_overlap()
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
            else {
                **at_hand.to_json(),
                "kinds": list(self.kinds_at_hand),
                "severities": list(self.severities),
            },
            "average_ex_overlap": None
            if beside is None
            else {**beside.to_json(), "kinds": self._kinds_ex_overlap(), "overlap": list(self.overlap)},
            "families": self.families(),
            "kinds": self.kinds,
            "flips": self.flips(),
            "calibration_error": self.calibration_errors() or None,
            "failed": [
                {"kind": kind, "severity": severity, "reason": reason}
                for (kind, severity), reason in self.failed.items()
            ],
            "images": len(self.labels),
            "seed": self.seed,
            "parameters": self.parameters,
            "folder": self.folder,
            "precision": self.precision,
        }

    def __str__(self) -> str:
        clean = self.clean_estimate()
        lines = [f"{self.name} on {self.data} ({self.split}, {len(self.labels):,} images)", ""]
        lines.append(_line("clean", clean))
        for title, estimate in (
            ("average over the 15 benchmark kinds", self.average_15()),
            ("average over all 19 kinds", self.average_19()),
            ("average over the 12 that are no noise", self.average_ex_noise()),
            (f"average without {', '.join(self.overlap)}", self.average_ex_overlap()),
            ("average over C-bar's 10 kinds", self.average_cbar()),
        ):
            if estimate is not None:
                lines.append(_line(title, estimate))
        if self.overlap:
            lines.append(f"  (its training resembles {', '.join(self.overlap)})")
        at_hand = self.average_at_hand()
        if at_hand is not None and self.average_19() is None and self.average_cbar() is None:
            lines.append(_line(f"average over the {len(self.kinds_at_hand)} kinds at hand", at_hand))
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
            mean = f"{100 * sum(present) / len(present):7.1f}" if present else f"{'-':>7}"
            lines.append(f"{kind:<26}{texts}{mean}")
        for (kind, severity), reason in self.failed.items():
            lines.append(f"failed: {kind} {severity}: {reason}")
        return "\n".join(lines)


def overlapping_kinds(overlap: Iterable[str]) -> frozenset[str]:
    """Return the kinds that names of kinds and of families stand for.

    Raises:
        ValueError: A name that is neither.

    >>> sorted(overlapping_kinds(["noise", "contrast"]))[:2]
    ['contrast', 'gaussian_noise']
    """
    kinds: set[str] = set()
    for name in overlap:
        if name in FAMILIES:
            kinds |= {kind for kind, entry in CORRUPTIONS.items() if entry.family == name}
        elif name in CORRUPTIONS:
            kinds.add(name)
        else:
            close = difflib.get_close_matches(name, (*FAMILIES, *CORRUPTIONS), n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(f"overlap needs kinds or families ({', '.join(FAMILIES)}), got {name!r}{hint}")
    return frozenset(kinds)


def _is_cbar(kind: str) -> bool:
    return kind in CORRUPTIONS and CORRUPTIONS[kind].suite == "cbar"


def _mean_ratio(own: Floats, theirs: Floats) -> float | None:
    return float((own / theirs).mean()) if (theirs > 0).all() else None


def _estimate(cells: Sequence[Answers], labels: Integers) -> Estimate:
    values, weights, strata = per_image(cells, labels)
    low, high = bootstrap(values, weights, strata)
    accuracy = float(np.mean([answers.accuracy for answers in cells]))
    return Estimate(accuracy=accuracy, ci95=(low, high))


def per_image(cells: Sequence[Answers], labels: Integers) -> tuple[Floats, Floats, Integers]:
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
