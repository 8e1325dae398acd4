"""An accuracy over cells, with its interval over the images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .answers import Answers
from .statistics import Floats, Integers, binomial_interval, bootstrap

SMALLEST_STRATUM = 10
"""Number of images that each class needs for resampling stratified by class."""
# Images that a cell needs for its own mean to stand for what its answers deviate from.
_RELIABLE = 30
_PRIME = np.uint64(0x100000001B3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An accuracy with its bootstrap interval over images."""

    accuracy: float
    """In [0, 1]."""
    ci95: tuple[float, float]
    """95 % confidence interval over images: bootstrap, stratified by class if each has at least 10 images in
    the same cells; the exact binomial one where all resamples agree."""

    def to_json(self, **more: Any) -> dict[str, Any]:
        """Return plain values, with more of them behind."""
        return {"accuracy": self.accuracy, "ci95": list(self.ci95), **more}

    def line(self, title: str) -> str:
        """Return it in percent, behind a title, for people."""
        low, high = (100 * value for value in self.ci95)
        return f"{title:<40}{100 * self.accuracy:6.2f} %  (95 % interval {low:.2f} to {high:.2f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class PerImage:
    """Answers to each image that some cells have, and how images are drawn anew."""

    right: Floats
    """Mean answer of each image."""
    weights: Floats
    """Its weight in the average of the cells; all add up to 1."""
    strata: Integers
    """Number of the stratum within which it is drawn."""
    expected: Floats
    """Mean answer of the image's cells, from which its own deviates; 0 where each drawn sample has as many
    images in each cell as there are."""

    def __sub__(self, other: "PerImage") -> "PerImage":
        """Return the gains over other answers to the same images."""
        right, expected = self.right - other.right, self.expected - other.expected
        return replace(self, right=right, expected=expected)

    @property
    def mean(self) -> float:
        """The average of the cells."""
        return float((self.right * self.weights).sum())

    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the average; both ends are equal where all samples agree."""
        mean = float((self.expected * self.weights).sum())
        low, high = bootstrap(self.right - self.expected, self.weights, self.strata)
        return round(mean + low, 12), round(mean + high, 12)


def estimate_of(cells: Sequence[Answers], labels: Integers) -> Estimate:
    """Return the mean accuracy of cells, and its interval over images."""
    accuracy = float(np.mean([answers.accuracy for answers in cells]))
    answers = per_image(cells, labels)
    low, high = answers.interval()
    if low == high:
        low, high = binomial_interval(accuracy * len(answers.right), len(answers.right))
    return Estimate(accuracy=accuracy, ci95=(max(low, 0.0), min(high, 1.0)))


def per_image(cells: Sequence[Answers], labels: Integers, parts: Sequence[int] | None = None) -> PerImage:
    """Return the answers to each image that one of the cells has, and how images are drawn anew.

    A cell of part n has the weight 1 / n in the average; by default all have the same.

    Images that are in the same cells form a group: all images, or those of one severity if images are spread
    over severities. A stratum is a class within a group, or the whole group if a class has too few images.
    Resampling a stratum of n images gives a variance that is too small by the factor (n - 1) / n.

    If one of several groups is too small, as where each cell has images of its own choice, all images are one
    stratum. How many of them a cell has is random then, so that the mean of a cell is a ratio of two sums.
    The ratio is linearized: an image counts by how far its answers are from the means of its cells. Where a
    cell has fewer than 30 images, the mean of all cells stands for these, which gives a wider interval where
    the cells differ.

    Source: Efron, Tibshirani 1993, "An introduction to the bootstrap", section 21.3, the infinitesimal
        jackknife's linear form of a statistic.
    """
    right, weights, expected = (np.zeros(len(labels)) for _ in range(3))
    parts = [len(cells)] * len(cells) if parts is None else parts
    alike = [(len(answers.positions), part) for answers, part in zip(cells, parts, strict=True)]
    for size, part in sorted(set(alike)):
        # Whole numbers up to this point, so that images with equally many correct answers have equal values.
        hits, times = np.zeros(len(labels), dtype=np.int64), np.zeros(len(labels), dtype=np.int64)
        for answers, of in zip(cells, alike, strict=True):
            if of == (size, part):
                hits[answers.positions] += answers.bits
                times[answers.positions] += 1
                expected[answers.positions] += answers.accuracy / (size * part)
        right += hits / (size * part)
        weights += times / (size * part)
    trace = np.zeros(len(labels), dtype=np.uint64)
    for number, answers in enumerate(cells):
        # The products wrap around; it only matters that the same cells leave the same trace.
        trace[answers.positions] = trace[answers.positions] * _PRIME + np.uint64(number + 1)
    seen = weights > 0
    group = np.unique(trace[seen], return_inverse=True)[1].astype(np.int64)
    right, weights, expected = right[seen] / weights[seen], weights[seen], expected[seen] / weights[seen]
    smallest = int(np.bincount(group).min())
    if group.any() and smallest < SMALLEST_STRATUM:
        if min(len(answers.positions) for answers in cells) < _RELIABLE:
            expected = np.full(len(right), (right * weights).sum())
        return PerImage(right=right, weights=weights, strata=np.zeros_like(group), expected=expected)
    strata = group * (int(labels.max(initial=0)) + 1) + labels[seen]
    if np.unique(strata, return_counts=True)[1].min() < SMALLEST_STRATUM:
        strata = group
    return PerImage(right=right, weights=weights, strata=strata, expected=np.zeros(len(right)))
