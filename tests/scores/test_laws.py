"""What the docs state of scores and comparisons as a law, for answers of any network on any images."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from filterbands.corruptions import kinds_of
from filterbands.scores import (
    BENCHMARK_15,
    Scores,
    binomial_interval,
    bootstrap,
    calibration_error,
    compare,
    compare_kinds,
    gate,
    holm,
    mcnemar,
    over_seeds,
    student_interval,
)
from filterbands.scores.estimates import per_image

seeds = st.integers(0, 2**31)
KINDS = ("fog", "contrast", "gaussian_noise", "elastic_transform", "jpeg_compression")
p_values = st.lists(st.floats(0, 1), max_size=25)


class Networks(NamedTuple):
    """What several networks on one set of images are made of."""

    images: int
    classes: int
    kinds: list[str]
    severities: set[int]
    spread: bool
    skills: tuple[float, float]
    seed: int

    def scores(self) -> list[Scores]:
        """Return their scores: whole, or each severity on a fifth of the images."""
        generator = np.random.default_rng(self.seed)
        labels = generator.integers(0, self.classes, self.images)
        spread = self.spread and self.images >= 5
        severities = range(1, 6) if spread else sorted(self.severities)
        places = [("clean", 0), *((kind, severity) for kind in self.kinds for severity in severities)]
        found = []
        for number, skill in enumerate(self.skills):
            predictions: dict[tuple[str, int], Any] = {}
            for kind, severity in places:
                right = generator.uniform(size=self.images) < skill
                every = np.arange(self.images)
                positions = every[severity - 1 :: 5] if spread and severity else every
                answers = np.where(right, labels, (labels + 1) % max(2, self.classes))
                predictions[kind, severity] = (positions, answers[positions])
            found.append(Scores.from_predictions(labels, predictions, name=f"net {number}"))
        return found


skills = st.sampled_from([0.0, 0.3, 0.9, 1.0])
networks = st.builds(
    Networks,
    images=st.integers(1, 60),
    classes=st.integers(1, 5),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True),
    severities=st.sets(st.integers(1, 5), min_size=1),
    spread=st.booleans(),
    skills=st.tuples(skills, skills),
    seed=seeds,
)


@given(networks)
@settings(max_examples=30)
def test_every_interval_holds_its_estimate_and_lies_in_0_to_1(made):
    scores = made.scores()[0]
    for found in (scores.clean_estimate(), scores.average_at_hand()):
        assert found is not None
        assert 0 <= found.ci95[0] <= found.accuracy <= found.ci95[1] <= 1
    for row in scores.to_rows():
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
        assert row["accuracy"] == pytest.approx(row["correct"] / row["images"], abs=1e-12)
    for family in scores.families().values():
        assert family["ci95"][0] <= family["accuracy"] <= family["ci95"][1]


@given(networks)
@settings(max_examples=30)
def test_swapping_two_networks_negates_the_difference_and_its_interval_which_holds_it(made):
    first, second = made.scores()
    kinds = (*first.kinds, "clean")
    there, back = compare(first, second, kinds), compare(second, first, kinds)
    assert there.difference == -back.difference
    assert there.ci95 == (-back.ci95[1], -back.ci95[0])
    assert -1 <= there.ci95[0] <= there.difference <= there.ci95[1] <= 1
    alone = [scores.average(("clean",), (0,)) for scores in (first, second)]
    difference = compare(first, second).difference
    assert difference == pytest.approx(alone[0].accuracy - alone[1].accuracy, abs=1e-9)
    for one, other in zip(compare_kinds(first, second), compare_kinds(second, first), strict=True):
        assert (one.kind, one.difference, one.p, one.p_holm) == (
            *(other.kind, -other.difference, other.p, other.p_holm),
        )
        assert one.ci95[0] <= one.difference <= one.ci95[1]
        assert one.p <= one.p_holm <= 1


@given(networks)
@settings(max_examples=10)
def test_a_network_differs_from_itself_by_nothing_and_holds_against_itself(made):
    scores = made.scores()[0]
    found = compare(scores, scores, tuple(scores.kinds))
    assert (found.difference, found.ci95) == (0, (0, 0))
    assert all(entry.p == entry.p_holm == 1 for entry in compare_kinds(scores, scores))
    assert gate(scores, scores, max_drop=0).holds
    assert over_seeds([scores, replace(scores, model="another seed")])["clean"].deviation == 0


@given(networks, st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=20)
def test_a_gate_that_holds_for_a_drop_holds_for_a_larger_one_and_for_no_drop_if_not_worse(made, one, two):
    first, second = made.scores()
    small, large = sorted((one, two))
    assert gate(first, second, max_drop=small).holds <= gate(first, second, max_drop=large).holds
    assert gate(first, second, max_drop=1).holds
    verdict = gate(first, second, max_drop=small)
    drops = [found for found in (verdict.clean, verdict.corrupted) if found is not None]
    assert verdict.holds == all(found.ci95[1] >= -small for found in drops)
    assert set(verdict.worse) == {entry.kind for entry in verdict.kinds if entry.ci95[1] < -small}


@given(networks, seeds)
@settings(max_examples=20)
def test_the_order_of_predictions_with_positions_and_the_form_of_arrays_do_not_matter(made, seed):
    scores = made.scores()[0]
    generator = np.random.default_rng(seed)
    given_: dict[tuple[str, int], Any] = {}
    for place, answers in scores.cells.items():
        order = generator.permutation(len(answers.positions))
        given_[place] = (torch.tensor(answers.positions[order]), answers.predictions[order].tolist())
    again = Scores.from_predictions(
        torch.tensor(scores.labels), dict(reversed(given_.items())), name=scores.name
    )
    assert again.model == scores.model
    assert again.to_json() == scores.to_json()


@given(st.integers(1, 40), st.integers(2, 4), seeds)
@settings(max_examples=10)
def test_the_mean_corruption_error_is_what_the_average_over_15_kinds_lacks_to_1(images, classes, seed):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, images)
    places = [("clean", 0), *((kind, severity) for kind in BENCHMARK_15 for severity in range(1, 6))]
    answers = {place: generator.integers(0, classes, images) for place in places}
    scores = Scores.from_predictions(labels, answers, name="net")
    assert scores.mean_corruption_error() == pytest.approx(1 - scores.average_15().accuracy, abs=1e-12)
    if all(value < 5 for value in map(sum, scores.kinds.values())):
        assert scores.mean_corruption_error(scores) == pytest.approx(1)
    flips = scores.flips()
    fog = answers["fog", 2] != answers["clean", 0]
    assert flips["fog"][1] == pytest.approx(fog.mean(), abs=1e-12)
    del answers["fog", 3]
    fewer = Scores.from_predictions(labels, answers, name="net")
    assert fewer.average_15() is None
    assert fewer.mean_corruption_error() is None


@given(st.integers(1, 400), st.floats(0, 1), st.booleans())
@settings(max_examples=30)
def test_the_binomial_interval_holds_the_share_mirrors_and_narrows(trials, share, whole):
    successes = round(share * trials) if whole else share * trials
    low, high = binomial_interval(successes, trials)
    assert 0 <= low <= successes / trials + 1e-9
    assert successes / trials - 1e-9 <= high <= 1
    assert low < high
    mirrored = binomial_interval(trials - successes, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)
    more = binomial_interval(4 * successes, 4 * trials)
    assert more[1] - more[0] < high - low


@given(st.integers(1, 60), st.integers(1, 6), st.booleans(), seeds, seeds)
@settings(max_examples=30)
def test_a_bootstrap_interval_lies_within_what_resampling_can_give_and_scales(n, strata, few, seed, other):
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 3, n) / 2 if few else generator.normal(size=n)
    weights, groups = np.full(n, 1 / n), generator.integers(0, strata, n)
    low, high = bootstrap(values, weights, groups, seed=other)
    least = sum(values[groups == g].min() * weights[groups == g].sum() for g in set(groups.tolist()))
    most = sum(values[groups == g].max() * weights[groups == g].sum() for g in set(groups.tolist()))
    assert least - 1e-9 <= low <= high <= most + 1e-9
    assert bootstrap(4 * values, weights, groups, seed=other) == pytest.approx((4 * low, 4 * high), abs=1e-9)
    assert bootstrap(-values, weights, groups, seed=other) == (-high, -low)


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=60), st.integers(1, 5), seeds)
@settings(max_examples=30)
def test_the_paired_test_knows_no_side_no_order_no_unit_and_no_ties(differences, unit, seed):
    array = np.array(differences, dtype=np.int64)
    p = mcnemar(array)
    assert 1e-30 <= p <= 1
    assert mcnemar(-array) == p
    assert mcnemar(np.random.default_rng(seed).permutation(array)) == pytest.approx(p, rel=1e-9)
    assert mcnemar(np.r_[array, np.zeros(7, dtype=np.int64)]) == p
    assert mcnemar(unit * array) == pytest.approx(p, rel=1e-9)
    # One more image on the side of the sum is more evidence of it.
    if array.sum() > 0 and (array > 0).all():
        assert mcnemar(np.r_[array, array[:1]]) <= p * (1 + 1e-9)


@given(p_values, seeds)
@settings(max_examples=30)
def test_adjusted_p_values_are_no_smaller_in_the_same_order_and_at_most_bonferronis(values, seed):
    found = holm(values)
    assert all(
        value <= one <= min(1, len(values) * value + 1e-12) for value, one in zip(values, found, strict=True)
    )
    order = np.argsort(values, kind="stable")
    assert all(np.diff(np.array(found)[order]) >= 0)
    moved = np.random.default_rng(seed).permutation(len(values))
    again = holm([values[place] for place in moved])
    assert again == [found[place] for place in moved]


@given(st.integers(1, 50), st.integers(2, 6), st.floats(-50, 50), st.floats(0.1, 30), seeds)
@settings(max_examples=25)
def test_the_calibration_error_is_a_share_free_of_offsets_of_logits_and_of_order(
    n, classes, offset, scale, seed
):
    generator = np.random.default_rng(seed)
    logits, labels = scale * generator.normal(size=(n, classes)), generator.integers(0, classes, n)
    found = calibration_error(logits, labels)
    assert 0 <= found <= 1
    order = generator.permutation(n)
    assert calibration_error(logits[order], labels[order]) == pytest.approx(found, abs=1e-9)
    turn = generator.permutation(classes)
    assert calibration_error(logits[:, turn], np.argsort(turn)[labels]) == pytest.approx(found, abs=1e-9)
    sure = np.full((n, classes), -1e4)
    sure[np.arange(n), labels] = 0
    assert calibration_error(sure, labels) == 0
    assert calibration_error(sure, (labels + 1) % classes) == 1
    shifted = calibration_error(logits + offset, labels)
    assert shifted == pytest.approx(found, abs=1e-6)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12), st.floats(-3, 3))
@settings(max_examples=20)
def test_students_interval_is_centered_on_the_mean_and_moves_with_it(values, shift):
    low, high = student_interval(values)
    assert (low + high) / 2 == pytest.approx(np.mean(values), abs=1e-9)
    assert low <= high
    moved = student_interval([value + shift for value in values])
    assert moved == pytest.approx((low + shift, high + shift), abs=1e-8)


def test_intervals_are_stratified_by_class_if_each_has_at_least_ten_images():
    for count in (9, 10, 11):
        labels = np.repeat([0, 1], count)
        # Right in one class and wrong in the other: drawn within classes, all averages agree.
        scores = Scores.from_predictions(labels, {("clean", 0): np.zeros(2 * count, dtype=int)}, name="net")
        exact = scores.clean_estimate().ci95 == binomial_interval(count, 2 * count)
        assert exact == (count >= 10)


@given(networks)
@settings(max_examples=10)
def test_the_text_says_every_figure_that_the_document_has(made):
    scores = made.scores()[0]
    text, document = str(scores), scores.to_json()
    lines = dict.fromkeys(text.splitlines())
    count = len(scores.kinds)
    at_hand = f"average over the {count} kinds at hand" if count > 1 else "the one kind at hand"
    for title, found in (("clean", document["clean"]), (at_hand, document["average_at_hand"])):
        low, high = (100 * end for end in found["ci95"])
        told = f"{100 * found['accuracy']:6.2f} %  (95 % interval {low:.2f} to {high:.2f})"
        assert f"{title:<40}{told}" in lines
    for family, found in document["families"].items():
        assert any(
            line.startswith(f"  {family} ") and f"{100 * found['accuracy']:.2f} %" in line for line in lines
        )
    for kind, row in document["kinds"].items():
        (line,) = [line for line in lines if line.startswith(f"{kind} ")]
        present = [value for value in row if value is not None]
        figures = ["-" if value is None else f"{100 * value:.1f}" for value in row]
        assert line.split()[1:] == [*figures, f"{100 * np.mean(present):.1f}"]
    for warning in document["warnings"]:
        assert f"  warning: {warning}" in lines
    resembling = str(replace(scores, overlap=("noise", "fog")))
    assert "  (the training data resemble noise, fog)" in resembling.splitlines()
    assert "resemble" not in text


@pytest.mark.parametrize("made_of", ["cifar", "imagenet"])
@pytest.mark.parametrize("parameters", ["cifar", "imagenet", ""])
def test_the_average_of_c_bar_is_over_the_kinds_of_its_own_table_or_of_any_for_files(made_of, parameters):
    labels = np.arange(10) % 2
    kinds = kinds_of("cbar", parameters=made_of)
    places = [("clean", 0), *((kind, severity) for kind in kinds for severity in range(1, 6))]
    answers = {place: np.roll(labels, len(place[0]) % 2) for place in places}
    found = Scores.from_predictions(labels, answers, name="net", parameters=parameters).average_cbar()
    if parameters in (made_of, ""):
        assert found.accuracy == pytest.approx(np.mean([len(kind) % 2 == 0 for kind in kinds]))
    else:
        assert found is None


def test_an_error_relative_to_a_kind_without_errors_has_no_value():
    labels = np.arange(10) % 2
    places = [("clean", 0), *((kind, severity) for kind in BENCHMARK_15 for severity in range(1, 6))]
    wrong = Scores.from_predictions(labels, dict.fromkeys(places, 1 - labels), name="wrong")
    assert wrong.mean_corruption_error(wrong) == 1
    answers = {place: labels if place[0] == "fog" else 1 - labels for place in places}
    assert wrong.mean_corruption_error(Scores.from_predictions(labels, answers, name="other")) is None


@given(networks)
@settings(max_examples=10)
def test_the_weights_of_images_add_up_to_1_and_their_mean_answers_are_shares_that_give_the_average(made):
    scores = made.scores()[0]
    cells = [answers for (_, severity), answers in scores.cells.items() if severity]
    found = per_image(cells, scores.labels)
    right, weights = found.right, found.weights
    assert len(right) == len(weights) == len(found.strata) == len(found.expected)
    assert weights.sum() == pytest.approx(1)
    assert bool(((right >= 0) & (right <= 1 + 1e-12)).all())
    assert (right * weights).sum() == pytest.approx(np.mean([answers.accuracy for answers in cells]))
    # The deviations from what is expected add up to nothing.
    assert (found.expected * weights).sum() in (0, pytest.approx(found.mean))
