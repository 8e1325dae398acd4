"""Averages and intervals against their definitions, written out slowly."""

import json
import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from filterbands.corruptions import CORRUPTIONS, kinds_of
from filterbands.scores import BENCHMARK_15, EXTRA_4, Scores, bootstrap, compare, gate
from filterbands.scores.scores import SEVERITIES, Answers
from filterbands.scores.statistics import RESAMPLES

ALL_19 = BENCHMARK_15 + EXTRA_4
CONTRACT = {"clean", "average_15", "average_19", "kinds", "images", "seed"}


def _scores(
    kinds: Iterable[str] = ALL_19,
    *,
    severities: Iterable[int] = SEVERITIES,
    images: int = 200,
    classes: int = 4,
    spread: bool = False,
    seed: int = 0,
    name: str = "net",
) -> Scores:
    """Return made-up answers: image i is easy or hard, and each cell draws anew."""
    draw = np.random.default_rng(seed)
    easy = draw.uniform(0.2, 1, images)
    cells = {("clean", 0): Answers(positions=np.arange(images), bits=draw.uniform(size=images) < easy)}
    for kind in kinds:
        for severity in severities:
            positions = np.arange(severity - 1, images, 5) if spread else np.arange(images)
            chance = easy[positions] * (1 - severity / 10)
            bits = draw.uniform(size=len(positions)) < chance
            cells[kind, severity] = Answers(positions=positions, bits=bits)
    return Scores(
        name=name,
        model="m",
        data="made-up",
        split="test",
        labels=np.arange(images) % classes,
        seed=3,
        parameters="cifar",
        precision="float32",
        cells=cells,
    )


def _mean(scores: Scores, kinds: Iterable[str], severities: Iterable[int] = SEVERITIES) -> float:
    accuracies = []
    for kind in kinds:
        for severity in severities:
            bits = scores.cells[kind, severity].bits.tolist()
            accuracies.append(sum(bits) / len(bits))
    return sum(accuracies) / len(accuracies)


def _without(scores: Scores, *cells: tuple[str, int]) -> Scores:
    return replace(scores, cells={cell: found for cell, found in scores.cells.items() if cell not in cells})


# Averages


def test_the_named_kinds_are_the_tables() -> None:
    assert list(BENCHMARK_15) == [name for name, kind in CORRUPTIONS.items() if kind.benchmark]
    assert tuple(ALL_19) == kinds_of("c")


@pytest.mark.parametrize("spread", [False, True])
def test_an_average_is_the_mean_of_its_cells_each_with_equal_weight(spread: bool) -> None:
    scores = _scores(spread=spread, images=203)
    fifteen, nineteen = scores.average_15(), scores.average_19()
    assert fifteen is not None
    assert nineteen is not None
    assert fifteen.accuracy == pytest.approx(_mean(scores, BENCHMARK_15), abs=1e-12)
    assert nineteen.accuracy == pytest.approx(_mean(scores, ALL_19), abs=1e-12)
    assert scores.mean_corruption_error() == pytest.approx(1 - _mean(scores, BENCHMARK_15), abs=1e-12)
    noises = ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"]
    assert scores.families()["noise"]["kinds"] == noises
    assert scores.families()["noise"]["accuracy"] == pytest.approx(_mean(scores, noises), abs=1e-12)
    for values in scores.families().values():
        low, high = values["ci95"]
        assert low < values["accuracy"] < high


@pytest.mark.parametrize("kind", ALL_19)
def test_one_missing_cell_leaves_the_average_that_needs_it_without_a_value(kind: str) -> None:
    scores = _without(_scores(images=20), (kind, 4))
    assert scores.average_19() is None
    assert (scores.average_15() is None) == (kind in BENCHMARK_15)
    assert scores.kinds[kind][3] is None
    assert scores.kinds[kind][2] == scores.cells[kind, 3].accuracy
    # Kinds of unlike severities make no table, and so no average.
    assert scores.average_at_hand() is None
    document = scores.to_json()
    assert document["average_19"] is None
    assert (document["average_15"] is None) == (kind in BENCHMARK_15)
    assert (document["mean_corruption_error"] is None) == (kind in BENCHMARK_15)


def test_an_average_over_fewer_kinds_or_severities_has_a_name_of_its_own() -> None:
    scores = _scores(("fog", "contrast"), severities=(2, 4))
    document = scores.to_json()
    assert document["average_15"] is None
    assert document["average_19"] is None
    at_hand = document["average_at_hand"]
    assert at_hand["kinds"] == ["fog", "contrast"]
    assert at_hand["severities"] == [2, 4]
    assert at_hand["accuracy"] == pytest.approx(_mean(scores, ("fog", "contrast"), (2, 4)), abs=1e-12)
    assert set(document["families"]) == {"weather", "digital"}


def test_a_severity_at_which_every_cell_failed_leaves_the_averages_without_a_value() -> None:
    whole = _scores(("fog", "contrast"), severities=(1, 5))
    lost = {("fog", 5): "NaN", ("contrast", 5): "NaN"}
    broken = replace(_without(whole, *lost), failed=lost)
    assert broken.severities == (1, 5)
    document = broken.to_json()
    assert (document["average_at_hand"], document["families"]) == (None, {})
    assert "at hand" not in str(broken)
    with pytest.raises(ValueError, match="net has no results of fog 5"):
        compare(broken, whole, ("fog",))
    alone = replace(_without(whole, *whole.cells), cells={("clean", 0): whole.cells["clean", 0]})
    alone = replace(alone, failed=dict.fromkeys((cell for cell in whole.cells if cell[1]), "NaN"))
    assert not gate(alone, whole, max_drop=1).holds


def test_the_text_names_the_severities_of_an_average_over_some_of_them() -> None:
    assert "  (severities 1, 5 alone)\n" in str(_scores(("fog", "snow"), severities=(1, 5)))
    assert "  (severity 3 alone)\n" in str(_scores(("fog",), severities=(3,)))
    assert "alone" not in str(_scores(("fog",)))


def test_kinds_at_hand_have_averages_without_noise_and_without_overlap() -> None:
    kinds = ("gaussian_noise", "fog", "contrast")
    scores = replace(_scores(kinds), overlap=("contrast",))
    document = scores.to_json()
    for name, left in (("ex_noise", ["fog", "contrast"]), ("ex_overlap", ["gaussian_noise", "fog"])):
        found = document[f"average_at_hand_{name}"]
        assert found["kinds"] == left
        assert found["accuracy"] == pytest.approx(_mean(scores, left), abs=1e-12)
    text = str(scores)
    assert "  2 of them without noise" in text
    assert "  2 of them without overlap" in text
    assert _scores(("fog", "contrast")).to_json()["average_at_hand_ex_noise"] is None


def test_kinds_unknown_to_the_table_come_last_and_count_at_hand_alone() -> None:
    scores = _scores(("zebra", *BENCHMARK_15, "aaa"))
    assert list(scores.kinds) == [*BENCHMARK_15, "aaa", "zebra"]
    fifteen, at_hand = scores.average_15(), scores.average_at_hand()
    assert fifteen is not None
    assert at_hand is not None
    assert fifteen.accuracy == pytest.approx(_mean(scores, BENCHMARK_15), abs=1e-12)
    assert at_hand.accuracy == pytest.approx(_mean(scores, scores.kinds), abs=1e-12)


# Documents and text


@pytest.mark.parametrize("kinds", [(), ("fog",), BENCHMARK_15, ALL_19])
@pytest.mark.parametrize("severities", [(1, 3), SEVERITIES])
def test_the_document_has_the_contracts_keys_and_plain_finite_values(
    kinds: tuple[str, ...], severities: tuple[int, ...]
) -> None:
    document = _scores(kinds, severities=severities, images=40).to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert set(document) >= CONTRACT
    ours = {
        "name",
        "model",
        "data",
        "split",
        "parameters",
        "precision",
        "folder",
        "flips",
        "failed",
        "warnings",
        "other_names",
    }
    averages = {
        "average_at_hand",
        "average_at_hand_ex_noise",
        "average_at_hand_ex_overlap",
        "average_ex_noise",
        "average_ex_overlap",
        "average_cbar",
        "families",
    }
    assert set(document) - CONTRACT == ours | averages | {"mean_corruption_error", "calibration_error"}
    assert document["images"] == 40
    assert document["seed"] == 3
    assert list(document["kinds"]) == list(kinds)
    for row in document["kinds"].values():
        assert [value is not None for value in row] == [severity in severities for severity in SEVERITIES]
    for name in ("clean", "average_15", "average_19"):
        if document[name] is not None:
            low, high = document[name]["ci95"]
            assert 0 <= low <= document[name]["accuracy"] <= high <= 1


def test_the_text_says_what_an_average_is_over() -> None:
    clean = str(_scores(()))
    assert clean.startswith("net on made-up (test, 200 images)")
    assert "average" not in clean
    assert "severity" not in clean

    some = str(_scores(("fog", "snow"), severities=(1, 5)))
    assert "average over the 2 kinds at hand" in some
    assert "benchmark" not in some
    (row,) = [line for line in some.splitlines() if line.startswith("fog")]
    assert row.split()[2:5] == ["-", "-", "-"]

    every = str(_scores())
    assert "average over the 15 benchmark kinds" in every
    assert "average over all 19 kinds" in every
    assert "at hand" not in every
    assert all(any(line.startswith(kind) for line in every.splitlines()) for kind in ALL_19)
    for text in (clean, some, every):
        assert max(map(len, text.splitlines())) <= 100
        assert "nan" not in text


# Intervals


def _slow_interval(
    scores: Scores, wanted: list[tuple[str, int]], other: Scores | None = None
) -> tuple[float, float]:
    """Draw images anew within each class of each group that the same cells saw, and average the kinds."""
    images = range(len(scores.labels))
    seen = {i: tuple(c for c in wanted if i in scores.cells[c].positions) for i in images}
    strata: dict[tuple[object, int], list[int]] = {}
    for i in images:
        if seen[i]:
            strata.setdefault((seen[i], int(scores.labels[i])), []).append(i)
    right: dict[int, dict[tuple[str, int], float]] = {i: {} for i in images}
    for sign, run in ((1, scores), (-1, other)):
        for cell in wanted if run is not None else ():
            answers = run.cells[cell]
            for i, bit in zip(answers.positions.tolist(), answers.bits.tolist(), strict=True):
                right[i][cell] = right[i].get(cell, 0) + sign * bit
    of = [kind for kind, _ in wanted]
    part = {kind: len(set(of)) * of.count(kind) for kind in of}
    draw = np.random.default_rng(77)
    averages = []
    for _ in range(RESAMPLES):
        total = 0.0
        for members in strata.values():
            for i in draw.choice(members, len(members)).tolist():
                total += sum(right[i][c] / len(scores.cells[c].bits) / part[c[0]] for c in seen[i])
        averages.append(total)
    low, high = np.percentile(averages, [2.5, 97.5])
    return float(low), float(high)


@pytest.mark.parametrize("spread", [False, True])
def test_an_interval_is_that_of_a_slow_bootstrap(spread: bool) -> None:
    scores = _scores(("fog", "snow"), images=120 if spread else 60, classes=2, spread=spread)
    estimate = scores.average(("fog", "snow"))
    assert estimate is not None
    slow = _slow_interval(scores, [(kind, s) for kind in ("fog", "snow") for s in SEVERITIES])
    # Two bootstraps of 1,000 resamples: an end of either has a standard error of about 4 % of the width.
    assert estimate.ci95 == pytest.approx(slow, abs=0.15 * (slow[1] - slow[0]))


@pytest.mark.parametrize("spread", [False, True])
def test_a_comparison_is_a_slow_paired_bootstrap_and_antisymmetric(spread: bool) -> None:
    one = _scores(("fog",), images=100, classes=2, spread=spread)
    two = _scores(("fog",), images=100, classes=2, spread=spread, seed=5)
    for kinds in (("clean",), ("fog",), ("clean", "fog")):
        found, opposite = compare(one, two, kinds), compare(two, one, kinds)
        places = {k: (0,) if k == "clean" else SEVERITIES for k in kinds}
        cells = [(k, s) for k, levels in places.items() for s in levels]
        of_kinds = [_mean(one, [k], levels) - _mean(two, [k], levels) for k, levels in places.items()]
        assert found.difference == pytest.approx(sum(of_kinds) / len(kinds), abs=1e-12)
        assert opposite.difference == pytest.approx(-found.difference, abs=1e-12)
        assert opposite.ci95 == pytest.approx((-found.ci95[1], -found.ci95[0]), abs=1e-12)
        slow = _slow_interval(one, cells, two)
        assert found.ci95 == pytest.approx(slow, abs=0.15 * (slow[1] - slow[0]))


def test_clean_images_and_a_kind_named_twice_weigh_as_one_kind_each() -> None:
    one = _scores(("fog",), images=100)
    wrong = replace(one.cells["clean", 0], bits=np.zeros(100, dtype=bool))
    other = replace(one, cells={**one.cells, ("clean", 0): wrong})
    assert compare(one, other, ("clean", "fog", "fog")).difference == pytest.approx(one.clean / 2, abs=1e-12)
    gained = compare(one, other, ("fog",))
    assert (gained.difference, gained.ci95) == (0, (0, 0))


def test_a_run_differs_from_itself_by_nothing() -> None:
    scores = _scores()
    same = compare(scores, replace(scores, name="again"), ALL_19)
    assert (same.difference, same.ci95) == (0.0, (0.0, 0.0))


def test_a_pair_tells_more_than_two_runs_apart() -> None:
    one = _scores(("fog",), images=400)
    bits = one.cells["fog", 3].bits.copy()
    bits[np.flatnonzero(bits)[:8]] = False
    worse = replace(one, cells={**one.cells, ("fog", 3): Answers(positions=np.arange(400), bits=bits)})
    found = compare(one, worse, ("fog",))
    apart = one.average(("fog",))
    assert apart is not None
    assert 0 < found.ci95[0] < found.difference == pytest.approx(8 / 400 / 5, abs=1e-12)
    assert found.ci95[1] - found.ci95[0] < 0.2 * (apart.ci95[1] - apart.ci95[0])


def test_a_comparison_needs_the_same_images_and_cells() -> None:
    one = _scores(("fog",))
    with pytest.raises(ValueError, match="net and other were not evaluated on the same images"):
        compare(one, _scores(("fog",), images=100, name="other"))
    with pytest.raises(ValueError, match="not evaluated on the same images"):
        compare(one, replace(one, pixels="others"))
    with pytest.raises(ValueError, match="net has no results of snow 1, snow 2, snow 3"):
        compare(one, one, ("snow",))
    with pytest.raises(ValueError, match="has no results of"):
        compare(_scores(()), one, ("fog",))
    with pytest.raises(ValueError, match="saw different images at fog 1"):
        compare(one, _scores(("fog",), spread=True), ("fog",))


@pytest.mark.parametrize("spread", [False, True])
def test_an_interval_covers_the_truth_about_as_often_as_it_says(spread: bool) -> None:
    chance = np.array([0.95, 0.8, 0.6, 0.3])
    draw = np.random.default_rng(11)
    trials, images, covered = 200, 200, 0
    for _ in range(trials):
        labels = np.arange(images) % 4
        # Answers of an image are not independent: what one kind breaks, the other is likely to break.
        level = draw.uniform(size=images)
        cells = {}
        for kind in ("fog", "snow"):
            for severity in SEVERITIES:
                positions = np.arange(severity - 1, images, 5) if spread else np.arange(images)
                own = np.where(draw.uniform(size=images) < 0.5, level, draw.uniform(size=images))
                bits = (own < chance[labels])[positions]
                cells[kind, severity] = Answers(positions=positions, bits=bits)
        scores = replace(_scores((), images=images), labels=labels, cells=cells)
        estimate = scores.average(("fog", "snow"))
        assert estimate is not None
        covered += estimate.ci95[0] <= chance.mean() <= estimate.ci95[1]
    assert 0.88 <= covered / trials <= 0.99


@pytest.mark.parametrize(
    ("images", "classes", "spread"), [(100, 100, False), (150, 10, True), (60, 30, False)]
)
def test_few_images_a_class_do_not_make_an_interval_narrow(images: int, classes: int, spread: bool) -> None:
    """A class with one image is no sample to draw from: without care the width would be 0, or too small."""
    widths, averages = [], []
    for seed in range(40):
        scores = _scores(("fog",), images=images, classes=classes, spread=spread, seed=seed)
        estimate = scores.average(("fog",))
        assert estimate is not None
        widths.append(estimate.ci95[1] - estimate.ci95[0])
        averages.append(estimate.accuracy)
    needed = 2 * 1.96 * float(np.std(averages, ddof=1))
    # A standard deviation from 40 draws is known to 11 %.
    assert float(np.mean(widths)) > 0.75 * needed


def test_a_bootstrap_has_the_width_of_the_normal_approximation_and_depends_on_its_seed_alone() -> None:
    values = (np.random.default_rng(0).uniform(size=2000) < 0.7).astype(float)
    weights, strata = np.full(2000, 1 / 2000), np.zeros(2000, dtype=np.int64)
    low, high = bootstrap(values, weights, strata)
    share = values.mean()
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(share * (1 - share) / 2000), rel=0.1)
    assert (low, high) == bootstrap(values, weights, strata)
    assert (low, high) != bootstrap(values, weights, strata, seed=1)


def test_items_of_many_values_and_of_few_are_drawn_alike() -> None:
    """Few values are drawn by their counts, many one by one; both are the same distribution."""
    draw = np.random.default_rng(0)
    few = draw.integers(0, 4, 400) / 4
    many = few + draw.uniform(-1e-9, 1e-9, 400)
    weights, strata = np.full(400, 1 / 400), np.arange(400) % 4
    slow, fast = bootstrap(many, weights, strata), bootstrap(few, weights, strata)
    assert fast == pytest.approx(slow, abs=0.15 * (slow[1] - slow[0]))
