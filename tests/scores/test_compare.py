"""Pairs of runs kind by kind, a gate against a baseline, runs over seeds, the relative errors."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from filterbands.corruptions import CORRUPTIONS, expand_kinds, kinds_of
from filterbands.scores import (
    BENCHMARK_15,
    EXTRA_4,
    Scores,
    choose_baseline,
    compare,
    compare_kinds,
    gate,
    over_seeds,
    overlapping_kinds,
)
from filterbands.scores.scores import SEVERITIES, Answers

CBAR = kinds_of("cbar")


def _scores(
    kinds: Iterable[str] = BENCHMARK_15,
    *,
    level: float = 0.7,
    seed: int = 0,
    images: int = 300,
    name: str = "net",
) -> Scores:
    draw = np.random.default_rng(seed)
    easy = np.random.default_rng(99).uniform(size=images)
    cells = {}
    for kind, severity in [("clean", 0), *((kind, s) for kind in kinds for s in SEVERITIES)]:
        bits = np.where(draw.uniform(size=images) < 0.7, easy, draw.uniform(size=images)) < level
        cells[kind, severity] = Answers(positions=np.arange(images), bits=bits)
    return Scores(
        name=name,
        model=f"{name} {seed}",
        data="made-up",
        split="test",
        labels=np.arange(images) % 3,
        seed=0,
        parameters="cifar",
        precision="float32",
        cells=cells,
    )


def test_each_kind_is_tested_and_corrected_for_their_number() -> None:
    one, two = _scores(), _scores(seed=1, level=0.6)
    found = {entry.kind: entry for entry in compare_kinds(one, two)}
    assert set(found) == {"clean", *BENCHMARK_15}
    alone = one.cells["clean", 0].bits.astype(int) - two.cells["clean", 0].bits.astype(int)
    only, other = int((alone > 0).sum()), int((alone < 0).sum())
    assert found["clean"].p == pytest.approx(binomtest(only, only + other, 0.5).pvalue, rel=1e-9)
    assert found["clean"].difference == pytest.approx(one.clean - two.clean)
    assert all(entry.p <= entry.p_holm <= min(1, 16 * entry.p + 1e-12) for entry in found.values())
    same = compare_kinds(one, one)
    assert all((entry.difference, entry.p, entry.p_holm) == (0, 1, 1) for entry in same)


def test_the_gate_holds_for_itself_and_says_where_it_does_not() -> None:
    base, worse = _scores(name="base"), _scores(seed=1, level=0.6)
    assert gate(base, base, max_drop=0).holds
    assert gate(base, worse, max_drop=0).holds
    verdict = gate(worse, base, max_drop=0.01)
    assert not verdict.holds
    assert "fog" in verdict.worse
    assert "does not hold" in str(verdict)
    assert verdict.to_json()["kinds"]["fog"]["difference"] < -0.01
    assert gate(worse, base, max_drop=0.3).holds
    failed = gate(replace(base, failed={("frost", 5): "NaN"}), base, max_drop=0.3)
    assert (failed.holds, failed.failed) == (False, ("frost 5",))
    with pytest.raises(ValueError, match="max_drop needs a share from 0 to 1, got 2"):
        gate(base, base, max_drop=2)


def test_a_drop_within_its_interval_holds() -> None:
    base = _scores(name="base", images=60)
    slightly = _scores(seed=3, level=0.69, images=60)
    verdict = gate(slightly, base, max_drop=0.0)
    assert verdict.corrupted is not None
    assert verdict.holds == (verdict.corrupted.ci95[1] >= 0 and verdict.clean.ci95[1] >= 0)


def test_a_baseline_is_one_network_seen_in_the_same_way() -> None:
    run, base = _scores(), _scores(seed=1, name="base")
    assert choose_baseline([run, base], "base", run) is base
    with pytest.raises(ValueError, match="no results of 'other'"):
        choose_baseline([run, base], "other", run)
    with pytest.raises(ValueError, match="base was not evaluated as net was"):
        choose_baseline([replace(base, seed=4)], "base", run)
    with pytest.raises(ValueError, match="2 networks are named base"):
        choose_baseline([base, replace(base, model="second")], "base", run)
    other = replace(base, precision="bfloat16")
    assert choose_baseline([other, base], "base", run) is base
    clean = replace(run, cells={("clean", 0): run.cells["clean", 0]})
    assert choose_baseline([base], "base", clean) is base
    # One that came under the same name is no baseline of itself, unless there is no other.
    same = replace(run, name="base")
    assert choose_baseline([same, base], "base", same) is base
    assert choose_baseline([same, other], "base", same) is other
    assert choose_baseline([same, replace(base, seed=4)], "base", same) is same


FOLDER = replace(_scores(("fog",)), parameters="", seed=None, folder="/a")


@pytest.mark.parametrize(
    ("one", "other", "line"),
    [
        (_scores(("fog",)), {"seed": 4}, "saw other corrupted images: seed 0 against 4"),
        (_scores(("fog",)), {"parameters": "imagenet"}, "constants cifar against imagenet"),
        (_scores(("fog",)), {"parameters": "", "folder": "/a"}, "those of base were read from files"),
        (FOLDER, {"folder": "/b"}, "saw other corrupted images: folder /a against /b"),
        (
            _scores(("fog",)),
            {"precision": "float32, present only"},
            r"base chose .* \(--present-only\), net among",
        ),
    ],
)
def test_corrupted_images_of_other_conditions_are_compared_by_nothing(
    one: Scores, other: dict[str, object], line: str
) -> None:
    base = replace(one, name="base", model="base", **other)  # type: ignore[arg-type]
    attempts: list[Callable[[], object]] = [
        lambda: compare(one, base, ("fog",)),
        lambda: compare_kinds(one, base),
        lambda: gate(one, base, max_drop=1),
        lambda: over_seeds([one, base]),
        lambda: choose_baseline([base], "base", one),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError, match=line):
            attempt()
    if "precision" not in other:
        # Clean images are the same ones.
        assert compare(one, base).difference == 0


def test_a_folder_that_is_not_known_may_be_the_other_one_and_the_gate_says_so() -> None:
    given, other_seed = replace(FOLDER, name="given", model="g", folder=""), replace(FOLDER, seed=7)
    assert compare(FOLDER, given, ("fog",)).difference == 0
    [caution] = gate(FOLDER, given, max_drop=0).caution
    assert "folder of the corrupted images is known of one of them alone" in caution
    # Copies have the seed of their record, which old databases do not know.
    assert gate(FOLDER, other_seed, max_drop=0).caution == ()
    assert choose_baseline([given, replace(FOLDER, name="given", model="g")], "given", FOLDER).folder == "/a"


def test_clean_images_alone_do_not_decide_where_the_run_has_others() -> None:
    run, base = _scores(("fog",)), _scores(("contrast",), name="base")
    with pytest.raises(
        ValueError, match="base has none of the corrupted cells of net, and clean images alone"
    ):
        gate(run, base, max_drop=1)
    with pytest.raises(ValueError, match="not evaluated as net was: base has none of the corrupted cells"):
        choose_baseline([base], "base", run)
    both = _scores(("fog", "contrast"))
    assert gate(both, base, max_drop=1).caution == ("base lacks 5 of 10 corrupted cells (fog)",)
    clean = replace(run, cells={("clean", 0): run.cells["clean", 0]})
    assert gate(clean, base, max_drop=1).caution == ()


def test_another_precision_is_compared_and_said() -> None:
    run, base = _scores(("fog",)), replace(_scores(("fog",), name="base"), precision="bfloat16")
    assert compare(run, base, ("fog",)).difference == 0
    verdict = gate(run, choose_baseline([base], "base", run), max_drop=0)
    assert verdict.to_json()["caution"] == ["the precision is float32, that of base is bfloat16"]
    assert "not fully comparable: the precision is float32, that of base is bfloat16" in str(verdict)


def test_over_seeds_tells_mean_deviation_and_number() -> None:
    runs = [_scores(seed=seed) for seed in range(3)]
    found = over_seeds(runs)
    values = [run.clean for run in runs]
    assert found["clean"].mean == pytest.approx(np.mean(values))
    assert found["clean"].deviation == pytest.approx(np.std(values, ddof=1))
    assert found["clean"].runs == 3
    assert set(found) == {"clean", "average_15", "average_ex_noise"}
    assert np.isnan(over_seeds(runs[:1])["clean"].deviation)
    with pytest.raises(ValueError, match="at least one run"):
        over_seeds([])
    with pytest.raises(ValueError, match="not evaluated on the same images"):
        over_seeds([runs[0], _scores(images=60)])


def test_over_seeds_refuses_what_is_no_other_seed_in_any_order() -> None:
    given, one, other = (replace(FOLDER, model=at, name=at or "given", folder=at) for at in ("", "/a", "/b"))
    for runs in permutations((given, one, other)):
        with pytest.raises(ValueError, match="saw other corrupted images: folder /"):
            over_seeds(runs)
    assert over_seeds([given, one])["clean"].runs == 2
    with pytest.raises(ValueError, match="needs each network once, given and again have the same weights"):
        over_seeds([given, replace(given, name="again")])
    coarse = replace(one, precision="bfloat16, compiled")
    with pytest.raises(ValueError, match="one precision, got float32 of given and bfloat16, compiled of /a"):
        over_seeds([given, coarse])


def test_errors_relative_to_a_reference_are_the_papers() -> None:
    run, reference = _scores(seed=1, level=0.5), _scores()
    own = {kind: np.mean([1 - run.cells[kind, s].accuracy for s in SEVERITIES]) for kind in BENCHMARK_15}
    theirs = {k: np.mean([1 - reference.cells[k, s].accuracy for s in SEVERITIES]) for k in BENCHMARK_15}
    assert run.mean_corruption_error() == pytest.approx(np.mean(list(own.values())))
    expected = np.mean([own[kind] / theirs[kind] for kind in BENCHMARK_15])
    assert run.mean_corruption_error(reference) == pytest.approx(expected)
    assert reference.mean_corruption_error(reference) == pytest.approx(1)
    harder = _scores(level=0.5)
    harder = replace(harder, cells={**harder.cells, ("clean", 0): _scores(level=0.95).cells["clean", 0]})
    relative = np.mean(
        [
            (own[kind] - (1 - run.clean))
            / (np.mean([1 - harder.cells[kind, s].accuracy for s in SEVERITIES]) - (1 - harder.clean))
            for kind in BENCHMARK_15
        ]
    )
    assert run.relative_mean_corruption_error(harder) == pytest.approx(relative)
    assert _scores(("fog",)).mean_corruption_error(reference) is None


def test_averages_without_noise_and_without_what_the_training_resembles() -> None:
    scores = replace(_scores(BENCHMARK_15 + EXTRA_4), overlap=("noise", "contrast"))
    kinds = [kind for kind in BENCHMARK_15 if "noise" not in kind]
    mean = np.mean([scores.cells[kind, s].accuracy for kind in kinds for s in SEVERITIES])
    found = scores.average_ex_noise()
    assert found is not None
    assert found.accuracy == pytest.approx(mean)
    document = scores.to_json()["average_ex_overlap"]
    assert document["kinds"] == [kind for kind in kinds if kind != "contrast"]
    assert "average without noise, contrast" in str(scores)
    assert _scores().to_json()["average_ex_overlap"] is None
    assert overlapping_kinds(["noise"]) >= {"gaussian_noise", "speckle_noise"}
    with pytest.raises(ValueError, match=r"got 'nose' \(did you mean noise\?\)"):
        overlapping_kinds(["nose"])


@pytest.mark.skipif(not CBAR, reason="the table has no kinds of C-bar")
def test_c_bar_stands_by_itself_and_in_no_other_average() -> None:
    both = _scores((*BENCHMARK_15, *EXTRA_4, *CBAR))
    without = replace(both, cells={c: a for c, a in both.cells.items() if c[0] not in CBAR})
    for name in ("average_15", "average_19", "average_at_hand", "average_ex_noise", "families"):
        assert both.to_json()[name] == without.to_json()[name]
    assert without.average_cbar() is None
    found = both.average_cbar()
    assert found is not None
    mean = np.mean([both.cells[kind, s].accuracy for kind in CBAR for s in SEVERITIES])
    assert found.accuracy == pytest.approx(mean)
    some = replace(
        both, cells={c: a for c, a in both.cells.items() if c[0] in ("clean", "fog", "snow", *CBAR)}
    )
    assert "average over the 2 kinds at hand" in str(some)
    assert "average over C-bar's 10 kinds" in str(some)
    alone = replace(both, cells={c: a for c, a in both.cells.items() if c[0] in ("clean", *CBAR)})
    assert "at hand" not in str(alone)
    at_hand = alone.average_at_hand()
    assert at_hand is not None
    assert at_hand.accuracy == pytest.approx(mean)
    assert alone.average_15() is None
    assert not set(CBAR) & set(kinds_of("c"))
    assert all(CORRUPTIONS[kind].suite == "cbar" for kind in CBAR)


def test_one_image_that_got_worse_does_not_fail_a_gate_beyond_doubt() -> None:
    right, wrong = _scores((), images=1, level=2.0), _scores((), images=1, level=-1.0)
    found = compare(wrong, right)
    assert found.difference == -1
    # Clopper and Pearson: the least share that one success of one trial allows is 0.025.
    assert found.ci95 == pytest.approx((-1, -0.025 + 0.975))
    assert gate(wrong, right, max_drop=0).holds
    many = compare(_scores((), level=-1.0), _scores((), level=2.0))
    assert -1 <= many.ci95[0] <= many.ci95[1] < -0.97
    assert compare(right, right).ci95 == (0, 0)


def test_the_average_without_overlap_is_over_the_same_kinds_for_all_seeds() -> None:
    labels = [0, 1, 1, 0]
    right = {("clean", 0): labels, **{(kind, level): labels for kind in BENCHMARK_15 for level in SEVERITIES}}
    one = Scores.from_predictions(labels, right, name="one", overlap=("noise",))
    other = replace(one, name="other", model="other", overlap=("noise", "blur"))
    assert "average_ex_overlap" in over_seeds(
        [one, replace(one, model="same", overlap=tuple(overlapping_kinds(["noise"])))]
    )
    assert "average_ex_overlap" not in over_seeds([one, other])
    assert "average_15" in over_seeds([one, other])


def test_the_same_pixels_under_another_name_are_the_same_images() -> None:
    given = {("clean", 0): [0, 1, 0], ("fog", 3): [0, 1, 1]}
    one = Scores.from_predictions([0, 1, 1], given, name="one")
    renamed = replace(one, data="npz:moved.npz", split="test")
    assert compare(one, renamed, ["fog"]).difference == 0
    with pytest.raises(ValueError, match="were not evaluated on the same images"):
        compare(one, replace(one, pixels="others"), ["fog"])


def test_errors_relative_to_a_network_on_other_images_are_refused() -> None:
    labels = [0, 1, 1, 0]
    right = {("clean", 0): labels, **{(kind, level): labels for kind in BENCHMARK_15 for level in SEVERITIES}}
    one = Scores.from_predictions(labels, right, name="one")
    other = Scores.from_predictions(labels, right, name="other", data="others")
    assert one.mean_corruption_error() == 0
    for figure in (one.mean_corruption_error, one.relative_mean_corruption_error):
        with pytest.raises(ValueError, match="one and other were not evaluated on the same images"):
            figure(other)


def test_the_gate_fails_by_corrupted_images_alone() -> None:
    base = _scores(("fog",), name="base")
    wrong = {
        cell: replace(one, bits=one.bits & False) if cell[1] else one for cell, one in base.cells.items()
    }
    verdict = gate(replace(base, name="net", model="net", cells=wrong), base, max_drop=0.01)
    assert (verdict.clean.difference, verdict.holds) == (0, False)
    fog = base.average(("fog",))
    assert verdict.corrupted is not None
    assert fog is not None
    assert verdict.corrupted.difference == pytest.approx(-fog.accuracy)


@pytest.mark.parametrize(
    "take",
    [
        lambda scores: compare(scores, scores, "fog"),
        lambda scores: scores.average("fog"),
        lambda _: expand_kinds("fog"),
    ],
)
def test_one_text_is_no_list_of_kinds(take: Callable[[Scores], Any]) -> None:
    with pytest.raises(ValueError, match="kinds needs a tuple of names, got the text 'fog'"):
        take(_scores(["fog"]))
