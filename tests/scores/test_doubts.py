"""Scores say where an accuracy is not what it seems, and no interval has width zero."""

import numpy as np
import pytest
from scipy.stats import binomtest

from filterbands.scores import Answers, Scores, binomial_interval, guessing

TEN = np.arange(1000) % 10
NUMBERS = np.random.default_rng(0)
# Right three times in four.
GOOD = np.where(NUMBERS.random(1000) < 0.75, TEN, NUMBERS.integers(0, 10, 1000))


def scores(labels: np.ndarray, predictions: np.ndarray) -> Scores:
    clean = Answers(positions=np.arange(len(labels)), bits=predictions == labels, predictions=predictions)
    facts = {"name": "net", "model": "m", "data": "d", "split": "test", "seed": 0, "parameters": "cifar"}
    return Scores(**facts, precision="float32", labels=labels, cells={("clean", 0): clean})


@pytest.mark.parametrize(
    ("labels", "predictions", "said"),
    [
        (np.zeros(20, dtype=np.int64), NUMBERS.integers(0, 10, 20), "all 20 images are of class 0"),
        (TEN, np.full(1000, 3), "the network names class 3 for all 1,000 images"),
        (TEN, NUMBERS.integers(0, 10, 1000), "is not above guessing (10.00 %)"),
        (TEN, (GOOD + 3) % 10, "fit the labels under another order of classes"),
        # Two classes, exchanged.
        (TEN % 2, 1 - TEN % 2, "fit the labels under another order of classes: 100.0 % instead of 0.0 %"),
    ],
)
def test_what_cannot_be_right_gets_a_warning(labels: np.ndarray, predictions: np.ndarray, said: str) -> None:
    found = scores(labels, predictions)
    [warning] = found.warnings
    assert said in warning
    assert found.to_json()["warnings"] == [warning]
    assert f"  warning: {warning}\n" in f"{found}\n"


@pytest.mark.parametrize("count", [40, 200, 1000])
def test_a_network_that_has_learned_gets_none(count: int) -> None:
    assert scores(TEN[:count], GOOD[:count]).warnings == ()
    assert scores(TEN[:count], GOOD[:count]).to_json()["warnings"] == []


@pytest.mark.parametrize(("classes", "each"), [(2, 5), (10, 2), (10, 4), (100, 2), (100, 10)])
def test_guesses_fit_no_other_order_of_classes(classes: int, each: int) -> None:
    labels = np.arange(classes * each) % classes
    for seed in range(100):
        guesses = np.random.default_rng(seed).integers(0, classes, len(labels))
        assert not any("another order" in warning for warning in scores(labels, guesses).warnings)


@pytest.mark.parametrize(("right", "images"), [(0, 20), (20, 20), (7, 20), (1000, 1000), (1, 3)])
def test_the_binomial_interval_is_that_of_clopper_and_pearson(right: int, images: int) -> None:
    expected = binomtest(right, images).proportion_ci(method="exact")
    assert binomial_interval(right, images) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("right", [True, False])
def test_an_accuracy_of_all_or_nothing_has_an_interval(right: bool) -> None:
    labels = np.arange(20) % 4
    low, high = scores(labels, labels if right else (labels + 1) % 4).clean_estimate().ci95
    assert (low, high) == (
        (pytest.approx(0.8316, abs=1e-4), 1) if right else (0, pytest.approx(0.1684, abs=1e-4))
    )


def test_guessing_is_the_share_of_the_largest_class() -> None:
    assert guessing(np.array([2, 2, 2, 0])) == 0.75
    assert guessing(TEN) == 0.1
