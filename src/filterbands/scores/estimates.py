"""An accuracy over cells, with its interval over the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .answers import Answers
from .statistics import Floats, Integers, binomial_interval, bootstrap

SMALLEST_STRATUM = 10
"""Number of images that each class needs for resampling stratified by class."""
_PRIME = np.uint64(0x100000001B3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An accuracy with its bootstrap interval over images."""

    accuracy: float
    """In [0, 1]."""
    ci95: tuple[float, float]
    """95 % confidence interval over images: bootstrap, stratified by class if each has at least 10 images;
    the exact binomial one where all resamples agree."""

    def to_json(self, **more: Any) -> dict[str, Any]:
        """Return plain values, with more of them behind."""
        return {"accuracy": self.accuracy, "ci95": list(self.ci95), **more}


def estimate_of(cells: Sequence[Answers], labels: Integers) -> Estimate:
    """Return the mean accuracy of cells, and its interval over images."""
    accuracy = float(np.mean([answers.accuracy for answers in cells]))
    right, weights, strata = per_image(cells, labels)
    low, high = bootstrap(right, weights, strata)
    if low == high:
        low, high = binomial_interval(accuracy * len(right), len(right))
    return Estimate(accuracy=accuracy, ci95=(low, high))


def per_image(cells: Sequence[Answers], labels: Integers) -> tuple[Floats, Floats, Integers]:
    """Return the mean answer of each image, its weight in the average of the cells, and its stratum.

    Images that are in the same cells form a group: all images, or those of one severity if images are spread
    over severities. A stratum is a class within a group, or the whole group if a class has too few images.
    Resampling a stratum of n images gives a variance that is too small by the factor (n - 1) / n.
    """
    right, weights = np.zeros(len(labels)), np.zeros(len(labels))
    for size in sorted({len(answers.positions) for answers in cells}):
        # Whole numbers up to this point, so that images with equally many correct answers have equal values.
        hits, times = np.zeros(len(labels), dtype=np.int64), np.zeros(len(labels), dtype=np.int64)
        for answers in cells:
            if len(answers.positions) == size:
                hits[answers.positions] += answers.bits
                times[answers.positions] += 1
        right += hits / (size * len(cells))
        weights += times / (size * len(cells))
    trace = np.zeros(len(labels), dtype=np.uint64)
    for number, answers in enumerate(cells):
        # The products wrap around; it only matters that the same cells leave the same trace.
        trace[answers.positions] = trace[answers.positions] * _PRIME + np.uint64(number + 1)
    seen = weights > 0
    group = np.unique(trace[seen], return_inverse=True)[1].astype(np.int64)
    strata = group * (int(labels.max(initial=0)) + 1) + labels[seen]
    if np.unique(strata, return_counts=True)[1].min() < SMALLEST_STRATUM:
        strata = group
    return right[seen] / weights[seen], weights[seen], strata
