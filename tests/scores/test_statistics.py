"""Tests, corrections and calibration against third-party references and definitions written out."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest, t, ttest_1samp

from filterbands.scores import (
    bootstrap,
    calibration_error,
    holm,
    mcnemar,
    student_interval,
    student_quantile,
)
from filterbands.scores.statistics import BINS, RESAMPLES


@pytest.mark.parametrize(
    ("only_first", "only_second"), [(5, 1), (0, 3), (1, 0), (30, 30), (200, 150), (700, 900), (5000, 4800)]
)
def test_with_one_cell_an_image_the_test_is_mcnemars_exact_one(only_first: int, only_second: int) -> None:
    pairs = np.r_[np.ones(only_first), -np.ones(only_second), np.zeros(9)].astype(np.int64)
    expected = binomtest(only_first, only_first + only_second, 0.5).pvalue
    assert mcnemar(pairs) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(-pairs) == mcnemar(pairs)


def test_with_one_cell_an_image_the_test_is_statsmodels() -> None:
    table = pytest.importorskip("statsmodels.stats.contingency_tables")
    found = table.mcnemar([[50, 21], [9, 30]], exact=True).pvalue
    pairs = np.r_[np.ones(21), -np.ones(9)].astype(np.int64)
    assert mcnemar(pairs) == pytest.approx(found, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_with_several_cells_an_image_every_sign_is_a_fair_coin(seed: int) -> None:
    differences = np.random.default_rng(seed).integers(-5, 6, 11)
    sizes = np.abs(differences)
    sums = [abs(int(np.dot(signs, sizes))) for signs in itertools.product((-1, 1), repeat=11)]
    expected = np.mean([value >= abs(int(differences.sum())) for value in sums])
    assert mcnemar(differences) == pytest.approx(float(expected), rel=1e-9)


def test_answers_to_one_image_are_not_taken_as_independent() -> None:
    """Five like answers to each image are no more evidence than one: the pooled table would say so."""
    once = np.r_[np.ones(12), -np.ones(5)].astype(np.int64)
    assert mcnemar(5 * once) == pytest.approx(mcnemar(once), rel=1e-9)
    assert mcnemar(once) > 10 * binomtest(60, 85, 0.5).pvalue


def test_the_test_rejects_as_often_as_it_says_where_nothing_differs() -> None:
    draw = np.random.default_rng(3)
    level = draw.uniform(size=(2000, 300, 1))
    one, two = (draw.uniform(size=(2000, 300, 5)) < level for _ in range(2))
    differences = one.sum(axis=2, dtype=np.int64) - two.sum(axis=2, dtype=np.int64)
    rejected = np.mean([mcnemar(row) < 0.05 for row in differences])
    # Its standard error is 0.5 points.
    assert 0.035 < rejected < 0.065


@pytest.mark.parametrize("freedom", [1, 2, 9, 10, 50])
def test_students_quantile_is_exact_at_any_number_of_seeds(freedom: int) -> None:
    for probability in (0.8, 0.975):
        assert student_quantile(probability, freedom) == pytest.approx(t.ppf(probability, freedom), rel=1e-12)
    # Of a table of 1908: 12.706 with one degree of freedom, 2.228 with ten.
    golden = {1: 12.706, 10: 2.228}
    if freedom in golden:
        assert student_quantile(0.975, freedom) == pytest.approx(golden[freedom], abs=5e-4)


@pytest.mark.parametrize("count", [2, 3, 12])
def test_students_interval_is_that_of_a_one_sample_test(count: int) -> None:
    values = np.random.default_rng(count).normal(size=count).tolist()
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert student_interval(values) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_what_is_very_unlikely_is_told_as_1e_30_and_nothing_as_1() -> None:
    assert mcnemar(np.ones(500, dtype=np.int64)) == 1e-30
    assert mcnemar(np.zeros(5, dtype=np.int64)) == 1
    assert mcnemar(np.array([1, -1])) == 1


def test_holm_is_statsmodels_and_its_own_definition() -> None:
    values = np.random.default_rng(0).uniform(size=19).tolist()
    values[3] = values[7] = 0.001
    found = holm(values)
    for alpha in (0.01, 0.05, 0.3):
        # Step down from the smallest: reject while p <= alpha / (number left), stop at the first that is not.
        rejected: set[int] = set()
        for left, place in enumerate(sorted(range(19), key=lambda place: values[place])):
            if values[place] > alpha / (19 - left):
                break
            rejected.add(place)
        assert {place for place in range(19) if found[place] <= alpha} == rejected
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    assert found == pytest.approx(multitest.multipletests(values, method="holm")[1].tolist(), abs=1e-12)
    assert holm([]) == []


def test_the_calibration_error_is_its_definition() -> None:
    draw = np.random.default_rng(1)
    logits = 3 * draw.normal(size=(400, 5))
    # Right in seven of ten: too sure where it is sure, and not sure enough elsewhere. If all bins erred to
    # one side, any number of bins would give the same.
    labels = np.where(draw.uniform(size=400) < 0.7, logits.argmax(axis=1), draw.integers(0, 5, 400))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == labels
    total = 0.0
    for b in range(15):
        inside = (confidence >= b / 15) & (confidence < (b + 1) / 15)
        if inside.any():
            total += inside.sum() / 400 * abs(confidence[inside].mean() - right[inside].mean())
    assert calibration_error(logits, labels) == pytest.approx(total, abs=1e-9)
    assert calibration_error(logits + 7, labels) == pytest.approx(total, abs=1e-9)
    # Powers of large logits are larger than any float.
    assert calibration_error(logits + 1e4, labels) == pytest.approx(total, abs=1e-9)


def _coverage(trials: int, *, spread: bool) -> float:
    """Return how often the interval of a mean over 1,000 images of 10 classes and 5 cells holds the truth."""
    draw = np.random.default_rng(7)
    images, cells = 1000, 5
    labels = np.arange(images) % 10
    chance = np.linspace(0.3, 0.98, 10)[labels]
    covered = 0
    for _ in range(trials):
        # Hard images are hard in every cell.
        level = draw.uniform(size=images)
        own = np.where(draw.uniform(size=(cells, images)) < 0.5, level, draw.uniform(size=(cells, images)))
        right = own < chance
        if spread:
            group = np.arange(images) % cells
            values, strata = right[group, np.arange(images)].astype(float), 10 * group + labels
        else:
            values, strata = right.mean(axis=0), labels
        low, high = bootstrap(values, np.full(images, 1 / images), strata.astype(np.int64), seed=int(covered))
        covered += low <= chance.mean() <= high
    return covered / trials


@pytest.mark.slow
@pytest.mark.parametrize("spread", [False, True])
def test_intervals_cover_the_truth_in_95_percent_of_2000_trials(spread: bool) -> None:
    assert abs(_coverage(2000, spread=spread) - 0.95) <= 0.015


def test_intervals_cover_the_truth_in_about_95_percent_of_some_trials() -> None:
    # The standard error of 200 trials is 1.5 points.
    assert abs(_coverage(200, spread=False) - 0.95) <= 0.045


def test_the_numbers_of_resamples_and_of_bins_are_those_of_the_docs() -> None:
    assert (RESAMPLES, BINS) == (1000, 15)
