"""Comparisons: two runs on the same images, a run against a baseline that must hold, runs over seeds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from ..checks import as_names
from .conditions import check_alike, shared_cells, unlike
from .estimates import per_image
from .scores import AVERAGES, Scores, overlapping_kinds
from .statistics import Integers, binomial_interval, holm, mcnemar


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much more accurate one run is than another on the same images."""

    difference: float
    """First minus second, in [-1, 1]."""
    ci95: tuple[float, float]
    """95 % interval of the difference over images, paired, stratified as an estimate's; where all images of a
    stratum gain alike, that of images of which the exact binomial interval's share may gain otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindDifference:
    """A difference in one kind, and how surprising it is."""

    kind: str
    """The kind, or `clean`."""
    difference: float
    """First minus second, in [-1, 1], at the severities both have."""
    ci95: tuple[float, float]
    """95 % interval of it, for this kind alone."""
    p: float
    """McNemar's exact test, its form for several answers per image; see `statistics.mcnemar`."""
    p_holm: float
    """The same, adjusted for all kinds compared (Holm)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a run holds against a baseline."""

    baseline: str
    """Its name."""
    max_drop: float
    """The drop that is allowed, a share."""
    holds: bool
    """Whether neither drop is certain to be larger, and no cell failed."""
    clean: Difference
    """Run minus baseline on clean images."""
    corrupted: Difference | None
    """Run minus baseline over the cells that both have; None without corrupted cells."""
    kinds: tuple[KindDifference, ...]
    """Kind by kind."""
    worse: tuple[str, ...]
    """Kinds, `clean` among them, that dropped by more than is allowed beyond their intervals."""
    failed: tuple[str, ...]
    """Cells of the run that failed."""
    reference: dict[str, float | None]
    """Mean corruption error relative to the baseline, and the relative one."""
    caution: tuple[str, ...] = ()
    """Differences that limit the comparison, such as another precision."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.baseline,
            "max_drop": self.max_drop,
            "holds": self.holds,
            "clean": _plain(self.clean),
            "corrupted": None if self.corrupted is None else _plain(self.corrupted),
            "kinds": {one.kind: {**_plain(one), "p": one.p, "p_holm": one.p_holm} for one in self.kinds},
            "worse": list(self.worse),
            "failed": list(self.failed),
            "caution": list(self.caution),
            **self.reference,
        }

    def __str__(self) -> str:
        lines = [f"against {self.baseline}, a drop of {100 * self.max_drop:g} points allowed:"]
        rows: list[tuple[str, Difference | KindDifference | None, str]]
        rows = [("  clean", self.clean, ""), ("  corrupted", self.corrupted, "")]
        for entry in self.kinds:
            if entry.kind in self.worse and entry.kind != "clean":
                rows.append((f"    {entry.kind}", entry, f", p {entry.p_holm:.2g} after Holm"))
        for title, found, more in rows:
            if found is not None:
                low, high = (100 * end for end in found.ci95)
                interval = f"(95 % interval {low:+.2f} to {high:+.2f}{more})"
                lines.append(f"{title:<40}{100 * found.difference:+6.2f} points {interval}")
        if self.failed:
            lines.append(f"  failed cells: {', '.join(self.failed)}")
        lines += [f"  not fully comparable: {caution}" for caution in self.caution]
        lines.append("  holds" if self.holds else "  does not hold")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverSeeds:
    """A figure of several runs that differ in their seed alone."""

    mean: float
    """Their mean."""
    deviation: float
    """Their standard deviation (n - 1); NaN for one run."""
    runs: int
    """How many there are."""


def compare(first: Scores, second: Scores, kinds: Iterable[str] = ("clean",)) -> Difference:
    """Return the paired difference of two runs' averages over kinds, at the severities both have.

    All kinds have the same weight, `clean` among them. Two precisions may be compared.

    Args:
        first: Whose gain it is.
        second: The scores that are subtracted.
        kinds: Kinds whose mean is compared. By default clean images alone: name kinds for a difference under
            corruption, such as `BENCHMARK_15` of `filterbands.scores`.

    Raises:
        ValueError: Not the same images: other clean ones, or corrupted ones of another seed, other constants,
            another folder, or spread over severities; answers among other classes (`present_only`); or cells
            that one of them lacks.
    """
    severities = sorted(set(first.severities) & set(second.severities))
    wanted = {kind: [0] if kind == "clean" else severities for kind in as_names("kinds", kinds)}
    cells = [(kind, severity) for kind, levels in wanted.items() for severity in levels]
    return _difference(first, second, cells, [len(wanted) * len(wanted[kind]) for kind, _ in cells])


def compare_kinds(first: Scores, second: Scores) -> tuple[KindDifference, ...]:
    """Return the paired difference in each kind with McNemar's test, corrected for their number.

    Raises:
        ValueError: As `compare`, but for cells that one of them lacks, which are left out.
    """
    kinds: dict[str, list[tuple[str, int]]] = {}
    cells = shared_cells(first, second)
    check_alike(first, second, cells)
    for cell in cells:
        kinds.setdefault(cell[0], []).append(cell)
    found = [
        (kind, _difference(first, second, cells), mcnemar(_signs(first, second, cells)))
        for kind, cells in kinds.items()
    ]
    adjusted = holm([p for _, _, p in found])
    return tuple(
        KindDifference(kind=kind, difference=difference.difference, ci95=difference.ci95, p=p, p_holm=p_holm)
        for (kind, difference, p), p_holm in zip(found, adjusted, strict=True)
    )


def gate(scores: Scores, baseline: Scores, *, max_drop: float) -> Verdict:
    """Return whether a run is not certainly worse than a baseline by more than a drop that is allowed.

    What counts is the clean accuracy, and the average over the corrupted cells that both have: it does not
    hold where the whole 95 % interval of either paired difference lies below -max_drop. Kinds that alone
    dropped by so much are named. `caution` says what limits the comparison.

    Raises:
        ValueError: A drop outside [0, 1], no corrupted cell that both have where the run has some, or other
            images than the baseline's, as `compare` says.
    """
    if not 0 <= max_drop <= 1:
        raise ValueError(f"max_drop needs a share from 0 to 1, got {max_drop}")
    check_alike(scores, baseline, shared_cells(scores, baseline))
    if lonely := _no_shared(scores, baseline):
        raise ValueError(f"{lonely}, and clean images alone do not decide; evaluate both on the same kinds")
    shared = [cell for cell in shared_cells(scores, baseline) if cell[0] != "clean"]
    clean = compare(scores, baseline)
    corrupted = _difference(scores, baseline, shared) if shared else None
    kinds = compare_kinds(scores, baseline)
    beyond = [found.ci95[1] < -max_drop for found in (clean, corrupted) if found is not None]
    failed = tuple(f"{kind} {severity}" for kind, severity in scores.failed)
    return Verdict(
        baseline=baseline.name,
        max_drop=max_drop,
        holds=not any(beyond) and not failed,
        clean=clean,
        corrupted=corrupted,
        kinds=kinds,
        worse=tuple(entry.kind for entry in kinds if entry.ci95[1] < -max_drop),
        failed=failed,
        reference={
            "mean_corruption_error": scores.mean_corruption_error(baseline),
            "relative_mean_corruption_error": scores.relative_mean_corruption_error(baseline),
        },
        caution=_cautions(scores, baseline),
    )


def choose_baseline(known: Iterable[Scores], name: str, like: Scores) -> Scores:
    """Return the scores of the network of this name that were made under the conditions of others.

    A network that has several names is found by each. The network of `like` is left
    out where another one of this name fits.

    Raises:
        ValueError: No such network, several of them, or none evaluated on the same images in the same way.
    """
    named = of_name(known, name)
    if not named:
        raise ValueError(f"there are no results of {name!r} to compare with; evaluate it first")
    reasons = [
        unlike(like, scores, shared_cells(like, scores)) or _no_shared(like, scores) for scores in named
    ]
    alike = [scores for scores, reason in zip(named, reasons, strict=True) if not reason]
    if not alike:
        raise ValueError(
            f"{name} was not evaluated as {like.name} was: {'; '.join(dict.fromkeys(reasons))}; "
            "evaluate both with the same options"
        )
    # One that came under the baseline's name is compared with itself only where there is no other.
    alike = [scores for scores in alike if scores.model != like.model] or alike
    alike = [scores for scores in alike if scores.precision == like.precision] or alike
    alike = [scores for scores in alike if scores.folder == like.folder] or alike
    if (count := len({scores.model for scores in alike})) > 1:
        raise ValueError(
            f"{count} networks are named {name}; evaluate the one that is meant again under a name of its "
            f"own (--name) and compare with that; `results DB --delete {name}` would delete all of them"
        )
    return alike[0]


def of_name(known: Iterable[Scores], name: str) -> list[Scores]:
    """Return the scores of the networks that have this name, be it one of several, each shown under it."""
    found = []
    for scores in known:
        if scores.name == name:
            found.append(scores)
        elif name in scores.other_names:
            others = (scores.name, *(one for one in scores.other_names if one != name))
            found.append(replace(scores, name=name, other_names=others))
    return found


def _no_shared(scores: Scores, baseline: Scores) -> str:
    """Return that a run has corrupted cells and a baseline none of them; else an empty text."""
    corrupted = any(severity for _, severity in scores.cells)
    if not corrupted or any(severity for _, severity in shared_cells(scores, baseline)):
        return ""
    return f"{baseline.name} has none of the corrupted cells of {scores.name}"


def _cautions(scores: Scores, baseline: Scores) -> tuple[str, ...]:
    """Return what limits the comparison of a run with a baseline."""
    found = []
    if scores.precision != baseline.precision:
        found.append(f"the precision is {scores.precision}, that of {baseline.name} is {baseline.precision}")
    lacking = [cell for cell in scores.cells if cell not in baseline.cells]
    if lacking:
        kinds = ", ".join(dict.fromkeys(kind for kind, _ in lacking))
        found.append(
            f"{baseline.name} lacks {len(lacking)} of {len(scores.cells) - 1} corrupted cells ({kinds})"
        )
    read = any(severity for _, severity in scores.cells) and not scores.parameters
    if read and scores.folder != baseline.folder:
        found.append("the folder of the corrupted images is known of one of them alone")
    return tuple(found)


def over_seeds(runs: Sequence[Scores]) -> dict[str, OverSeeds]:
    """Return mean, standard deviation and number of runs' clean accuracy and averages.

    An average is there where every run has it: `clean`, `average_15`, `average_19`, `average_ex_noise`,
    `average_ex_overlap` (where their trainings resemble the same kinds), `average_cbar`.

    Raises:
        ValueError: No runs, two runs on different images, clean or corrupted, as `compare` says, two
            precisions, or one network twice.
    """
    if not runs:
        raise ValueError("over_seeds needs at least one run, got none")
    # Each with each: two folders may both be taken for one that is not known.
    for one, other in combinations(runs, 2):
        check_alike(one, other, shared_cells(one, other))
        if one.precision != other.precision:
            raise ValueError(
                f"over_seeds needs runs of one precision, got {one.precision} of {one.name} and "
                f"{other.precision} of {other.name}"
            )
        if one.model == other.model:
            raise ValueError(
                f"over_seeds needs each network once, {one.name} and {other.name} have the same weights"
            )
    figures = {"clean": Scores.clean_estimate, **{name: average for name, (average, _) in AVERAGES.items()}}
    if len({frozenset(overlapping_kinds(run.overlap)) for run in runs}) > 1:
        # It would be a mean over different kinds.
        del figures["average_ex_overlap"]
    table = {}
    for name, figure in figures.items():
        values = [found.accuracy for run in runs if (found := figure(run)) is not None]
        if len(values) == len(runs):
            deviation = float(np.std(values, ddof=1)) if len(runs) > 1 else float("nan")
            table[name] = OverSeeds(mean=float(np.mean(values)), deviation=deviation, runs=len(runs))
    return table


def _difference(
    first: Scores, second: Scores, wanted: Sequence[tuple[str, int]], parts: Sequence[int] | None = None
) -> Difference:
    """Return the paired difference over cells of these parts, as `per_image` takes them."""
    check_alike(first, second, wanted)
    for scores in (first, second):
        lacking = [f"{kind} {severity}" for kind, severity in wanted if (kind, severity) not in scores.cells]
        if lacking or not wanted:
            raise ValueError(f"{scores.name} has no results of {', '.join(lacking[:3]) or 'these kinds'}")
    mine, theirs = (
        per_image([run.cells[at] for at in wanted], first.labels, parts) for run in (first, second)
    )
    gain = mine - theirs
    difference = round(gain.mean, 12)
    low, high = gain.interval()
    if low == high and gain.right.any():
        # All images of a stratum gain alike, and so do all resamples; other images need not.
        share, _ = binomial_interval(len(gain.right), len(gain.right))
        low, high = (round(share * difference + end * (1 - share), 12) for end in (-1, 1))
    # Rounding must not put the difference outside of its interval.
    return Difference(
        difference=difference, ci95=(max(min(low, difference), -1.0), min(max(high, difference), 1.0))
    )


def _signs(first: Scores, second: Scores, cells: Sequence[tuple[str, int]]) -> Integers:
    """Return for each image how many cells the first alone got right less how many the second alone."""
    total = np.zeros(len(first.labels), dtype=np.int64)
    for cell in cells:
        one, two = first.cells[cell], second.cells[cell]
        total[one.positions] += one.bits.astype(np.int64) - two.bits.astype(np.int64)
    return total


def _plain(found: Difference | KindDifference) -> dict[str, Any]:
    return {"difference": found.difference, "ci95": list(found.ci95)}
