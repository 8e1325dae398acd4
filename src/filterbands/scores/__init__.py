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
    of_name,
    over_seeds,
)
from .conditions import PRESENT_ONLY, check_alike, conditions, images_per_cell, key_of, shared_cells
from .doubts import guessing
from .estimates import Estimate, estimate_of
from .published import PUBLISHED, Place, Published, place_among_published
from .scores import BENCHMARK_15, EXTRA_4, FAMILIES, SEVERITIES, Scores, overlapping_kinds
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
    "PRESENT_ONLY",
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
    "check_alike",
    "choose_baseline",
    "compare",
    "compare_kinds",
    "conditions",
    "estimate_of",
    "gate",
    "guessing",
    "holm",
    "images_per_cell",
    "key_of",
    "mcnemar",
    "of_name",
    "over_seeds",
    "overlapping_kinds",
    "place_among_published",
    "read_labels",
    "shared_cells",
    "student_interval",
    "student_quantile",
]
