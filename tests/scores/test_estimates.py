"""Intervals where cells have different images: how often they hold the truth, and that they have a width."""

from collections.abc import Sequence

import numpy as np
import pytest

from filterbands.scores import Answers, Integers, Scores, compare

KINDS = ("fog", "snow", "contrast")


def pair(
    draw: np.random.Generator, images: int, places: dict[tuple[str, int], Integers]
) -> tuple[Scores, Scores]:
    """Return two networks that are equally good; an image is easy or hard for both, in all its cells."""
    labels, easy = draw.integers(0, 2, images), draw.random(images)

    def answers(positions: Integers, severity: int) -> Answers:
        right = draw.random(len(positions)) < easy[positions] * (1.1 - 0.15 * severity)
        return Answers(positions=positions, bits=right)

    def scores(name: str) -> Scores:
        cells = {(kind, s): answers(positions, s) for (kind, s), positions in places.items()}
        facts = {"name": name, "model": name, "data": "d", "split": "test", "seed": 0, "parameters": "cifar"}
        cells["clean", 0] = answers(np.arange(images), 0)
        return Scores(**facts, precision="float32", labels=labels, cells=cells)

    return scores("one"), scores("other")


def parts(
    draw: np.random.Generator, images: int, each: int, kinds: Sequence[str]
) -> dict[tuple[str, int], Integers]:
    """Return a random part of the images for each cell."""
    cells = [(kind, severity) for kind in kinds for severity in range(1, 6)]
    return {cell: np.sort(draw.choice(images, each, replace=False)) for cell in cells}


def spread(images: int, kinds: Sequence[str]) -> dict[tuple[str, int], Integers]:
    """Return a fifth of the images for each severity."""
    return {(kind, s): np.arange(s - 1, images, 5) for kind in kinds for s in range(1, 6)}


@pytest.mark.parametrize(
    ("images", "each", "kinds"),
    [(200, 100, KINDS), (200, 100, KINDS[:1]), (200, 10, KINDS[:1]), (40, None, KINDS[:1])],
)
def test_intervals_of_cells_with_different_images_hold_the_truth(
    images: int, each: int | None, kinds: Sequence[str]
) -> None:
    draw = np.random.default_rng(3)
    every = spread(images, kinds)
    places = [every if each is None else parts(draw, images, each, kinds) for _ in range(150)]
    truth = np.mean([0.5 * (1.1 - 0.15 * severity) for severity in range(1, 6)])
    paired = alone = 0
    for place in places:
        one, other = pair(draw, images, place)
        low, high = compare(one, other, kinds).ci95
        assert low < high
        paired += low <= 0 <= high
        average = one.average(kinds)
        assert average is not None
        alone += average.ci95[0] <= truth <= average.ci95[1]
    # Of 150 intervals of 95 %, fewer than 130 hold the truth twice in 100,000 tries.
    assert paired >= 130
    assert alone >= 130


def test_one_image_per_cell_leaves_a_width() -> None:
    labels = np.arange(5) % 2
    given = {("fog", s + 1): (np.array([s]), labels[[s]]) for s in range(5)}
    wrong = {**given, ("fog", 3): (np.array([2]), 1 - labels[[2]])}
    one, other = (
        Scores.from_predictions(labels, {("clean", 0): labels, **cells}, name=name)
        for name, cells in (("one", given), ("other", wrong))
    )
    found = compare(other, one, ("fog",))
    assert found.difference == pytest.approx(-0.2)
    assert (found.ci95[0] <= -0.6, found.ci95[1]) == (True, 0)
    average = other.average(("fog",))
    assert average is not None
    assert average.ci95[0] < 0.8 < average.ci95[1]


def test_a_gain_that_differs_by_class_alone_has_a_width() -> None:
    labels = np.repeat([0, 1], 10)
    one = Scores.from_predictions(labels, {("clean", 0): labels}, name="one")
    zeros = Scores.from_predictions(labels, {("clean", 0): np.zeros(20, dtype=int)}, name="zeros")
    found = compare(one, zeros)
    # Within a class all gain alike; as many as Clopper and Pearson allow may gain otherwise.
    assert (found.difference, found.ci95) == (
        0.5,
        pytest.approx((0.8316 / 2 - 0.1684, 0.8316 / 2 + 0.1684), abs=1e-3),
    )
