"""Scores: averages over the per-image answers of a network; pure functions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, SupportsIndex

import numpy as np

from ..checks import as_names, hint, seed_number, whole_number
from ..corruptions import CORRUPTIONS, PARAMETERS, kinds_of
from ..disk import as_frame
from .answers import Answers, fingerprint_of, read_answers, read_labels
from .doubts import doubts
from .estimates import Estimate, estimate_of
from .statistics import Floats, Integers

BENCHMARK_15 = tuple(kind for kind, entry in CORRUPTIONS.items() if entry.benchmark)
"""The kinds of the published benchmark's average."""
EXTRA_4 = kinds_of("c")[15:]
"""The kinds that the average over 19 kinds adds."""
SEVERITIES = (1, 2, 3, 4, 5)
FAMILIES = ("noise", "blur", "weather", "digital")
"""The benchmark's groups of kinds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The scores of a network on a data set, clean and corrupted.

    An average gives all kinds and severities equal weight. Only an average over the benchmark's kinds has the
    benchmark's name.
    """

    name: str
    """Name of the network."""
    model: str
    """Fingerprint of the network."""
    data: str
    """Name of the data set."""
    split: str
    """Split of the data set."""
    pixels: str = ""
    """Fingerprint of the clean images."""
    labels: Integers
    """Class of each image."""
    seed: int | None
    """Seed of the corruptions; of copies on disk the one that their record names, None if it names none."""
    parameters: str
    """Table of constants; empty if corrupted images were read from files."""
    precision: str
    """Precision of the network."""
    cells: Mapping[tuple[str, int], Answers]
    """The answers by kind and severity; those on clean images are at ("clean", 0)."""
    failed: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """Cells without answers, with the reasons."""
    overlap: tuple[str, ...] = ()
    """Kinds, or families of kinds, that the training data resemble."""
    folder: str = ""
    """Folder of the corrupted images, or the sha256 of files of a folder that is not known; empty if they
    were made here, or if nothing is known of them."""
    other_names: tuple[str, ...] = ()
    """Other names that networks of these weights were evaluated under."""

    @classmethod
    def from_predictions(
        cls,
        labels: Any,
        predictions: Any,
        *,
        name: str,
        classes: SupportsIndex | None = None,
        data: str = "given",
        parameters: str = "cifar",
        seed: SupportsIndex | None = None,
        precision: str = "float32",
        overlap: tuple[str, ...] = (),
    ) -> "Scores":
        """Return the scores of predictions that another program made.

        They can be compared with scores of the same labels and the same `data`. For a comparison with results
        of `evaluate`, see `evaluation.score_predictions`.

        Args:
            labels: Class of each image, from 0.
            predictions: By kind and severity, such as `("fog", 3)`; `("clean", 0)` is required. A value has
                the predicted class of each image, in the order of the labels, or its logits or probabilities
                (images, classes), which also give a calibration error. A tuple (positions, predictions) is
                for a part of the images. A cell fails if its logits contain NaN. A text says why a cell has
                no predictions.
            name: Name of the network; with the predictions it makes the network's fingerprint.
            classes: Number of classes; None for any.
            data: Name of the data set.
            parameters: Table of constants of the corruptions: cifar, imagenet, or empty if the images were
                read from files, such as those of CIFAR-10-C.
            seed: Seed of the corruptions, 0 by default. Of images that were read from files it is that of
                these copies; None or 0 if it is not known.
            precision: Precision of the network.
            overlap: Kinds, or families of kinds, that the training data resemble.

        Raises:
            ValueError: Labels or predictions that do not fit; the line says which.

        >>> given = {("clean", 0): [0, 1, 1, 0], ("fog", 3): [0, 1, 0, 0]}
        >>> Scores.from_predictions([0, 1, 1, 1], given, name="mine").kinds["fog"][2]
        0.5
        """
        if parameters and parameters not in PARAMETERS:
            raise ValueError(f"parameters needs {' or '.join(PARAMETERS)}, or nothing, got {parameters!r}")
        overlapping_kinds(overlap)
        drawn = seed_number(0 if seed is None else seed)
        count = None if classes is None else whole_number("classes", classes)
        truth = read_labels(labels, count)
        cells, failed = read_answers(predictions, truth, count)
        made = [part for at, one in sorted(cells.items()) for part in (at, one.positions, one.predictions)]
        return cls(
            name=name,
            model=fingerprint_of(name, truth, sorted(failed.items()), *made),
            data=data,
            split="given",
            pixels=fingerprint_of(data, truth),
            labels=truth,
            seed=drawn if parameters else drawn or None,
            parameters=parameters,
            precision=precision,
            cells=cells,
            failed=failed,
            overlap=tuple(overlap),
        )

    @property
    def clean(self) -> float:
        """Accuracy on clean images, in [0, 1]."""
        return self.cells["clean", 0].accuracy

    @property
    def kinds(self) -> dict[str, list[float | None]]:
        """Accuracy by kind, one list of five severities each; None where a cell is missing."""
        there = {kind for kind, severity in (*self.cells, *self.failed) if severity}
        ordered = [kind for kind in CORRUPTIONS if kind in there]
        return {kind: self._row(kind, _ACCURACY) for kind in ordered + sorted(there - set(ordered))}

    @property
    def severities(self) -> tuple[int, ...]:
        """The severities that were evaluated, with those at which every cell failed."""
        return tuple(sorted({severity for _, severity in (*self.cells, *self.failed) if severity}))

    @property
    def levels(self) -> str:
        """The severities in words."""
        found = ", ".join(map(str, self.severities))
        return f"severit{'y' if len(self.severities) == 1 else 'ies'} {found}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons to doubt these scores: one class alone, guessing, or another order of classes."""
        clean = self.cells["clean", 0]
        return doubts(self.labels, clean.predictions, clean.bits, self.clean_estimate().ci95[0])

    def clean_estimate(self) -> Estimate:
        """Return the clean accuracy with its interval."""
        return estimate_of([self.cells["clean", 0]], self.labels)

    def average(self, kinds: Iterable[str], severities: Sequence[int] = SEVERITIES) -> Estimate | None:
        """Return the mean accuracy over kinds and severities, None unless all cells are present."""
        kinds = as_names("kinds", kinds)
        wanted = [self.cells.get((kind, severity)) for kind in kinds for severity in severities]
        found = [answers for answers in wanted if answers is not None]
        return estimate_of(found, self.labels) if found and len(found) == len(wanted) else None

    def average_15(self) -> Estimate | None:
        """Return the average over the benchmark's 15 kinds, None unless all five severities are present."""
        return self.average(BENCHMARK_15)

    def average_19(self) -> Estimate | None:
        """Return the average over all 19 kinds, None unless all five severities are present."""
        return self.average(BENCHMARK_15 + EXTRA_4)

    def average_ex_noise(self) -> Estimate | None:
        """Return the average over the benchmark's 12 non-noise kinds, None unless all are present."""
        return self.average(kind for kind in BENCHMARK_15 if CORRUPTIONS[kind].family != "noise")

    def average_ex_overlap(self) -> Estimate | None:
        """Return the average over those of the 15 kinds that the training data do not resemble.

        None if there is no overlap, if no kind remains, or if a cell of the remaining kinds is missing.
        """
        return self.average(self._kinds_ex_overlap()) if self.overlap else None

    def average_cbar(self) -> Estimate | None:
        """Return the average over C-bar's ten kinds at five severities, None unless all are present.

        No other average includes them.
        """
        tables = (self.parameters,) if self.parameters else tuple(PARAMETERS)
        found = (self.average(kinds_of("cbar", parameters=table)) for table in tables)
        return next((estimate for estimate in found if estimate is not None), None)

    def average_at_hand(self) -> Estimate | None:
        """Return the average over `kinds_at_hand` and `severities`, None unless all cells are present."""
        return self.average(self.kinds_at_hand, self.severities) if self.kinds_at_hand else None

    @property
    def kinds_at_hand(self) -> tuple[str, ...]:
        """The kinds that were evaluated; those of C-bar only if there are no others."""
        cbar = {kind for kind, entry in CORRUPTIONS.items() if entry.suite == "cbar"}
        return tuple(kind for kind in self.kinds if kind not in cbar) or tuple(self.kinds)

    def _at_hand_without(self) -> dict[str, tuple[tuple[str, ...], Estimate | None]]:
        """Return kinds and average of those at hand without noise and without overlap, where these differ."""
        dropped = {
            "ex_noise": {kind for kind, entry in CORRUPTIONS.items() if entry.family == "noise"},
            "ex_overlap": overlapping_kinds(self.overlap),
        }
        found = {}
        for name, kinds in dropped.items():
            left = tuple(kind for kind in self.kinds_at_hand if kind not in kinds)
            differs = 0 < len(left) < len(self.kinds_at_hand)
            found[name] = (left, self.average(left, self.severities) if differs else None)
        return found

    def mean_corruption_error(self, reference: "Scores | None" = None) -> float | None:
        """Return the mean error over the benchmark's 15 kinds, None unless all are present.

        Args:
            reference: Divide the error of each kind by that of this network, as is usual for ImageNet-C; None
                does not divide, as is usual for CIFAR-10-C.

        Raises:
            ValueError: The reference was evaluated on other images, clean or corrupted, as `compare` says.

        Source: Hendrycks, Dietterich 2019, arXiv:1903.12261, section 4, CE and mCE.
        """
        if reference:
            self._check_alike(reference)
        return _mean_ratio(self._errors(), reference._errors() if reference else np.ones(len(BENCHMARK_15)))

    def relative_mean_corruption_error(self, reference: "Scores") -> float | None:
        """Return the error that corruption adds, relative to the error that it adds to another network.

        The mean is over the benchmark's 15 kinds. None if a kind is missing in one of the two, or if a kind
        adds no error to the reference.

        Raises:
            ValueError: As for `mean_corruption_error`.

        Source: Hendrycks, Dietterich 2019, arXiv:1903.12261, section 4, relative CE.
        """
        self._check_alike(reference)
        return _mean_ratio(self._errors(added=True), reference._errors(added=True))

    def flips(self) -> dict[str, list[float | None]] | None:
        """Return by kind and severity the share of images whose class differs from the clean copy's.

        None if the predictions of the clean images were not kept.
        """
        if self.cells["clean", 0].predictions is None:
            return None
        return {kind: self._row(kind, self._flipped) for kind in self.kinds}

    def calibration_errors(self) -> dict[str, list[float | None]]:
        """Return the expected calibration errors that were kept, by kind and severity; `clean` has one."""
        places = {"clean": (0,), **dict.fromkeys(self.kinds, SEVERITIES)}
        table = {kind: self._row(kind, attrgetter("calibration_error"), at) for kind, at in places.items()}
        return {kind: row for kind, row in table.items() if any(value is not None for value in row)}

    def _flipped(self, answers: Answers) -> float | None:
        """Return the share of images whose class differs from the clean copy's; None where one is unknown."""
        clean, named = self.cells["clean", 0].predictions, answers.predictions
        if clean is None or named is None:
            return None
        return float((named != clean[answers.positions]).mean())

    def _row(
        self, kind: str, value: Callable[[Answers], float | None], severities: Sequence[int] = SEVERITIES
    ) -> list[float | None]:
        """Return a value of each cell of a kind; None where the cell is missing."""
        found = (self.cells.get((kind, severity)) for severity in severities)
        return [None if answers is None else value(answers) for answers in found]

    def _check_alike(self, reference: "Scores") -> None:
        """Raise ValueError where the reference saw other images of the 15 kinds."""
        # The conditions of two scores are defined on scores.
        from .conditions import check_alike

        check_alike(self, reference, [cell for cell in self.cells if cell[0] in BENCHMARK_15])

    def _errors(self, *, added: bool = False) -> Floats | None:
        """Return the mean error of each of the 15 kinds, or what corruption adds to the clean error."""
        table = np.array([self._row(kind, _ACCURACY) for kind in BENCHMARK_15], dtype=np.float64)
        without = 1 - self.clean if added else 0.0
        return None if np.isnan(table).any() else 1 - table.mean(axis=1) - without

    def _kinds_ex_overlap(self) -> list[str]:
        resembled = overlapping_kinds(self.overlap)
        return [kind for kind in BENCHMARK_15 if kind not in resembled]

    def families(self) -> dict[str, dict[str, Any]]:
        """Return the average of each family over its kinds, with these kinds; none where a cell failed."""
        found: dict[str, dict[str, Any]] = {}
        for family in FAMILIES:
            kinds = [k for k in self.kinds if k in CORRUPTIONS and CORRUPTIONS[k].family == family]
            estimate = self.average(kinds, self.severities) if kinds else None
            if estimate is not None:
                found[family] = estimate.to_json(kinds=kinds)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain values, under the keys of `filterbands evaluate --json`."""
        more = {"average_ex_overlap": {"kinds": self._kinds_ex_overlap(), "overlap": list(self.overlap)}}
        averages = {name: (average(self), more.get(name, {})) for name, (average, _) in AVERAGES.items()}
        at_hand, there = self.average_at_hand(), [list(self.kinds_at_hand), list(self.severities)]
        return {
            **{name: getattr(self, name) for name in ("name", "model", "data", "split")},
            "other_names": list(self.other_names),
            "clean": self.clean_estimate().to_json(),
            "warnings": list(self.warnings),
            **{name: found and found.to_json(**also) for name, (found, also) in averages.items()},
            "mean_corruption_error": self.mean_corruption_error(),
            "average_at_hand": at_hand and at_hand.to_json(kinds=there[0], severities=there[1]),
            **{
                f"average_at_hand_{name}": found and found.to_json(kinds=list(kinds), severities=there[1])
                for name, (kinds, found) in self._at_hand_without().items()
            },
            "families": self.families(),
            "kinds": self.kinds,
            "flips": self.flips(),
            "calibration_error": self.calibration_errors() or None,
            "failed": [
                {"kind": kind, "severity": severity, "reason": reason}
                for (kind, severity), reason in self.failed.items()
            ],
            "images": len(self.labels),
            **{name: getattr(self, name) for name in ("seed", "parameters", "folder", "precision")},
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one row of plain values per kind and severity, the clean images first.

        `low` and `high` are the 95 % interval of `accuracy` over images. A failed cell has its reason in
        `failed`, and None in place of numbers.
        """
        order = [("clean", 0), *((kind, severity) for kind in self.kinds for severity in SEVERITIES)]
        return [self._cell_row(*place) for place in order if place in self.cells or place in self.failed]

    def _cell_row(self, kind: str, severity: int) -> dict[str, Any]:
        answers = self.cells.get((kind, severity))
        found = None if answers is None else estimate_of([answers], self.labels)
        low, high = (None, None) if found is None else found.ci95
        return {
            **{name: getattr(self, name) for name in ("name", "data", "split")},
            "kind": kind,
            "family": CORRUPTIONS[kind].family if kind in CORRUPTIONS else "",
            "severity": severity,
            "images": answers and len(answers.bits),
            "correct": answers and int(answers.bits.sum()),
            "accuracy": answers and answers.accuracy,
            "low": low,
            "high": high,
            "flips": answers and self._flipped(answers),
            "calibration_error": answers and answers.calibration_error,
            "failed": self.failed.get((kind, severity), ""),
        }

    def to_frame(self) -> Any:
        """Return `to_rows` as a pandas frame, which needs the package pandas."""
        return as_frame(self.to_rows())

    def __str__(self) -> str:
        lines = [f"{self.name} on {self.data} ({self.split}, {len(self.labels):,} images)", ""]
        lines.append(self.clean_estimate().line("clean"))
        lines += [f"  warning: {warning}" for warning in self.warnings]
        found = {name: estimate for name, (average, _) in AVERAGES.items() if (estimate := average(self))}
        for name, estimate in found.items():
            lines.append(estimate.line(AVERAGES[name][1].format(", ".join(self.overlap))))
        if self.overlap:
            lines.append(f"  (the training data resemble {', '.join(self.overlap)})")
        at_hand = self.average_at_hand()
        if at_hand is not None and at_hand not in found.values():
            count = len(self.kinds_at_hand)
            said = f"average over the {count} kinds at hand" if count > 1 else "the one kind at hand"
            lines.append(at_hand.line(said))
            if self.severities != SEVERITIES:
                lines.append(f"  ({self.levels} alone)")
            titles = {"ex_noise": "{} of them without noise", "ex_overlap": "{} of them without overlap"}
            for name, (kinds, estimate) in self._at_hand_without().items():
                if estimate is not None and f"average_{name}" not in found:
                    lines.append(estimate.line(f"  {titles[name].format(len(kinds))}"))
        for family, values in self.families().items():
            count = len(values["kinds"])
            share = f"{100 * values['accuracy']:6.2f} %  ({count} {'kind' if count == 1 else 'kinds'})"
            lines.append(f"  {family:<38}{share}")
        wide = max(26, *(len(kind) + 1 for kind in self.kinds)) if self.kinds else 0
        if self.kinds:
            head = f"{'accuracy, %, at severity':<{wide}}"
            lines += ["", f"{head}{''.join(f'{s:>7}' for s in SEVERITIES)}   mean"]
        for kind, row in self.kinds.items():
            present = [value for value in row if value is not None]
            texts = "".join(f"{'-':>7}" if value is None else f"{100 * value:7.1f}" for value in row)
            mean = f"{100 * sum(present) / len(present):7.1f}" if present else f"{'-':>7}"
            lines.append(f"{kind:<{wide}}{texts}{mean}")
        for (kind, severity), reason in self.failed.items():
            lines.append(f"failed: {kind} {severity}: {reason}")
        return "\n".join(lines)


AVERAGES: Mapping[str, tuple[Callable[[Scores], Estimate | None], str]] = {
    "average_15": (Scores.average_15, "average over the 15 benchmark kinds"),
    "average_19": (Scores.average_19, "average over all 19 kinds"),
    "average_ex_noise": (Scores.average_ex_noise, "average over the 12 non-noise kinds"),
    "average_ex_overlap": (Scores.average_ex_overlap, "average without {}"),
    "average_cbar": (Scores.average_cbar, "average over C-bar's 10 kinds"),
}
"""The averages over fixed kinds by their JSON key: method and title, in which {} is the overlap."""


def overlapping_kinds(overlap: Iterable[str]) -> frozenset[str]:
    """Return the kinds that names of kinds and of families stand for.

    Raises:
        ValueError: A name is neither a kind nor a family.

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
            near = hint(name, (*FAMILIES, *CORRUPTIONS))
            raise ValueError(f"overlap needs kinds or families ({', '.join(FAMILIES)}), got {name!r}{near}")
    return frozenset(kinds)


_ACCURACY: Callable[[Answers], float] = attrgetter("accuracy")


def _mean_ratio(own: Floats | None, theirs: Floats | None) -> float | None:
    if own is None or theirs is None or not (theirs > 0).all():
        return None
    return float((own / theirs).mean())
