"""Scores: averages of per-image answers, with intervals, comparisons and published rows."""

from .answers import GIVEN, Answers, read_labels
from .compare import (
    Difference,
    KindDifference,
    OverSeeds,
    Verdict,
    choose_baseline,
    compare,
    compare_kinds,
    gate,
    over_seeds,
)
from .published import PUBLISHED, Place, Published, place_among_published
from .scores import BENCHMARK_15, EXTRA_4, FAMILIES, SEVERITIES, Estimate, Scores, overlapping_kinds
from .statistics import (
    RESAMPLES,
    Bits,
    Integers,
    binomial_interval,
    bootstrap,
    calibration_error,
    holm,
    mcnemar,
    student_interval,
    student_quantile,
)

__all__ = [
    "BENCHMARK_15",
    "EXTRA_4",
    "FAMILIES",
    "GIVEN",
    "PUBLISHED",
    "RESAMPLES",
    "SEVERITIES",
    "Answers",
    "Bits",
    "Difference",
    "Estimate",
    "Integers",
    "KindDifference",
    "OverSeeds",
    "Place",
    "Published",
    "Scores",
    "Verdict",
    "binomial_interval",
    "bootstrap",
    "calibration_error",
    "choose_baseline",
    "compare",
    "compare_kinds",
    "gate",
    "holm",
    "mcnemar",
    "over_seeds",
    "overlapping_kinds",
    "place_among_published",
    "read_labels",
    "student_interval",
    "student_quantile",
]
