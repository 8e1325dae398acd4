"""Pure statistics: intervals, tests on pairs, correction for several tests, calibration."""

import math
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np

RESAMPLES = 1000
"""Bootstrap resamples of an interval."""
BINS = 15
"""Bins of confidence of the calibration error."""

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bits = np.ndarray[Any, np.dtype[np.bool_]]
"""Per image, whether the network named its class."""
Integers = np.ndarray[Any, np.dtype[np.int64]]

# Beyond so many standard deviations a binomial's share is under the least p-value that is returned.
_FAR, _LEAST = 12.0, 1e-30


def bootstrap(values: Floats, weights: Floats, strata: Integers, *, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of a weighted sum when items are drawn anew within each stratum.

    Args:
        values: One per item.
        weights: One per item.
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


def binomial_interval(successes: float, trials: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share, which has a width even where all trials gave the same.

    Args:
        successes: In [0, trials]; a mean over several answers per trial need not be whole.
        trials: At least 1.

    Source: Clopper, Pearson 1934, Biometrika 26.

    >>> tuple(round(end, 4) for end in binomial_interval(20, 20))
    (0.8316, 1.0)
    """
    from scipy.special import betaincinv

    hits = round(min(max(successes, 0), trials), 9)
    low = float(betaincinv(hits, trials - hits + 1, 0.025)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, trials - hits, 0.975)) if hits < trials else 1.0
    return round(low, 12), round(high, 12)


def student_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t distribution with so many degrees of freedom.

    >>> round(student_quantile(0.975, 4), 3)
    2.776
    """
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def student_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return Student's 95 % interval of the mean of two values or more, such as one per seed.

    >>> tuple(round(end, 3) for end in student_interval([1.0, 2.0, 3.0]))
    (-0.484, 4.484)
    """
    half = student_quantile(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half


def mcnemar(differences: Integers) -> float:
    """Return the exact two-sided p-value of two networks being equally good, from one number per image.

    An image's number is how many of its cells the first network alone got right, less how many the second
    alone. If neither network is better, each sign is a fair coin, whatever the size, and the sum's
    distribution is known: a convolution of binomials. With one cell per image this is McNemar's exact test;
    with several it does not take the answers to one image as independent, which the usual pooled table does.

    Args:
        differences: One per image.

    Returns:
        In [1e-30, 1]: a smaller value is returned as 1e-30.

    Source: McNemar 1947, Psychometrika 12; the sign-flip distribution for more than one answer per image,
        Fisher 1935, "The design of experiments", section 21.

    >>> round(mcnemar(np.array([1, 1, 1, 1, 1, -1, 0])), 5)
    0.21875
    """
    from scipy.special import gammaln

    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    observed = abs(int(differences.sum()))
    if observed == 0:
        return 1.0
    # Entry s - low is the probability of the sum s; only what is not negligible of each binomial is added.
    distribution, low = np.ones(1), 0
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        half = math.ceil(_FAR * math.sqrt(count) / 2)
        first, last = max(0, count // 2 - half), min(count, count // 2 + half + 1)
        heads = np.arange(first, last + 1)
        stretched = np.zeros(2 * size * (last - first) + 1)
        ways = gammaln(count + 1) - gammaln(heads + 1) - gammaln(count - heads + 1)
        stretched[:: 2 * size] = np.exp(ways - count * math.log(2))
        distribution = np.convolve(distribution, stretched)
        low += size * (2 * first - count)
    sums = low + np.arange(len(distribution))
    far: Floats = distribution[np.abs(sums) >= observed]
    return min(1.0, max(_LEAST, float(far.sum())))


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being several.

    Reject those of at most 0.05, and the chance of any false rejection is at most 0.05.

    Source: Holm 1979, Scandinavian Journal of Statistics 6, the step-down procedure.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted


def calibration_error(logits: np.ndarray[Any, np.dtype[Any]], labels: Integers) -> float:
    """Return the expected calibration error: how far confidence is from accuracy, in [0, 1].

    The mean over 15 equal bins of confidence, weighted by their images, of the distance between a bin's mean
    confidence (the largest softmax) and its accuracy.

    Args:
        logits: (images, classes).
        labels: One per image.

    Source: Guo et al. 2017, arXiv:1706.04599, equation 3.

    >>> round(calibration_error(np.array([[9.0, 0.0], [9.0, 0.0]]), np.array([0, 1])), 3)
    0.5
    """
    numbers = np.asarray(logits, dtype=np.float64)
    powers = np.exp(numbers - numbers.max(axis=1, keepdims=True))
    confidence = powers.max(axis=1) / powers.sum(axis=1)
    right = numbers.argmax(axis=1) == labels
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(place, confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))
