"""Predictions that another program made, read into scores: every form they come in, and every mistake."""

import logging
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from filterbands.scores import Answers, Scores, binomial_interval, compare, gate
from filterbands.scores.scores import SEVERITIES

LABELS = np.arange(20) % 4
CLEAN = ("clean", 0)
FOG = np.where(np.arange(20) < 5, 0, LABELS)


def _given(value: Any = FOG, **options: Any) -> Scores:
    return Scores.from_predictions(LABELS, {CLEAN: LABELS, ("fog", 3): value}, **{"name": "mine", **options})


@pytest.mark.parametrize(
    "form",
    [
        list,
        lambda wrong: wrong.astype(np.uint8),
        lambda wrong: wrong.astype(np.float32),
        lambda wrong: torch.tensor(wrong, dtype=torch.int16),
        lambda wrong: [torch.tensor(one) for one in wrong.tolist()],
        lambda wrong: torch.nn.functional.one_hot(torch.tensor(wrong)).double(),
        lambda wrong: torch.nn.functional.one_hot(torch.tensor(wrong)).to(torch.bfloat16).requires_grad_(),
        lambda wrong: (np.arange(20)[::-1], wrong[::-1]),
        lambda wrong: (torch.arange(20), torch.tensor(wrong)),
    ],
)
def test_the_same_predictions_give_the_same_scores_in_every_form(form: Any) -> None:
    plain, other = _given(), _given(form(FOG))
    assert other.cells["fog", 3].predictions.tolist() == FOG.tolist()
    assert replace(other, cells={}) == replace(plain, cells={}, labels=other.labels)
    assert other.kinds["fog"][2] == (20 - np.count_nonzero(LABELS[:5])) / 20
    assert other.flips()["fog"][2] == np.count_nonzero(LABELS[:5]) / 20
    assert compare(plain, other, ("clean", "fog")).difference == 0


def test_a_part_of_the_images_may_have_predictions_in_any_order() -> None:
    positions = np.array([17, 2, 5])
    found = _given((positions, FOG[positions]))
    assert found.cells["fog", 3].positions.tolist() == [2, 5, 17]
    assert found.cells["fog", 3].predictions.tolist() == FOG[[2, 5, 17]].tolist()
    with pytest.raises(ValueError, match="mine and mine saw different images at fog 3"):
        compare(found, _given(), ("fog",))


def test_logits_and_probabilities_give_the_same_calibration_error() -> None:
    logits = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    one = _given(logits).calibration_errors()
    two = _given(logits.softmax(dim=1).half()).calibration_errors()
    assert one["fog"][2] == pytest.approx(two["fog"][2], abs=2e-3)
    assert "clean" not in one
    endless = _given(logits.index_fill(0, torch.tensor([3]), float("inf")))
    assert endless.calibration_errors() == {}


def test_logits_with_nan_mark_their_cell_as_failed_and_the_gate_sees_it() -> None:
    logits = torch.zeros(20, 4)
    logits[3, 1] = float("nan")
    found = _given(logits)
    assert found.failed == {("fog", 3): "the network gives NaN for 1 of 20 images"}
    assert not gate(found, _given(), max_drop=1).holds
    assert _given("the disk was full").failed == {("fog", 3): "the disk was full"}
    with pytest.raises(ValueError, match="on clean images the network gives NaN for 1 of 20 images"):
        Scores.from_predictions(LABELS, {CLEAN: logits}, name="mine")


def test_other_predictions_another_name_and_another_failure_are_other_networks() -> None:
    swapped = {CLEAN: LABELS, ("fog", 4): FOG}
    others = [
        _given(),
        _given(LABELS),
        _given(name="yours"),
        _given("failed"),
        _given((np.arange(19), FOG[:19])),
        Scores.from_predictions(LABELS, swapped, name="mine"),
    ]
    assert len({one.model for one in others}) == len(others)
    assert _given().model == _given().model
    assert _given(data="other").pixels != _given().pixels
    with pytest.raises(ValueError, match="not evaluated on the same images"):
        compare(_given(data="other"), _given())


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (FOG[:19], "fog 3 has 19 predictions for 20 images; give one per label"),
        ([], "fog 3 has 0 predictions for 20 images"),
        (([], []), "positions of fog 3|fog 3 has 0 predictions"),
        (([0, 0], [1, 1]), "several predictions of one image"),
        (([0, 20], [1, 1]), "positions of fog 3 needs numbers from 0 to 19, got 20"),
        (([0, 1], [1, 1, 1]), "fog 3 has 3 predictions for 2 images"),
        (FOG - 1, "fog 3 needs numbers of at least 0, got -1 at position 0"),
        (FOG + 0.5, "fog 3 needs whole numbers, got 0.5"),
        (np.where(FOG == 1, np.nan, FOG), "fog 3 needs whole numbers, got nan at position"),
        (FOG == LABELS, "fog 3 needs class numbers .* got bool"),
        (FOG[:, None].repeat(5, axis=1), r"fog 3 has integers of shape \(20, 5\)"),
        (np.zeros((20, 1)), "fog 3 has logits of 1 classes, expected at least 4"),
        (np.zeros((20, 3)), "fog 3 has logits of 3 classes, expected at least 4; the largest label is 3"),
        (np.zeros((20, 4, 2)), "as one array, got"),
        ([[1, 2], [3]], "fog 3 needs class numbers .* as one array, got list"),
        (["cat"] * 20, "fog 3 needs class numbers"),
        (None, "fog 3 needs class numbers"),
    ],
)
def test_predictions_that_do_not_fit_are_refused_in_one_line(value: Any, line: str) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        _given(value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "options", "line"),
    [
        ({("fog", 3): FOG}, {}, r'lacks \("clean", 0\)'),
        ([FOG], {}, "predictions needs a dict such as"),
        ({CLEAN: (np.arange(19), FOG[:19])}, {}, "clean needs a prediction of every image, got 19 of 20"),
        ({CLEAN: FOG, "fog_3": FOG}, {}, r"keys \(kind, severity\)"),
        ({CLEAN: FOG, ("fog", 6): FOG}, {}, "the severity of fog needs to be from 1 to 5, got 6"),
        ({CLEAN: FOG, ("fog", 2.0): FOG}, {}, "the severity of fog needs a whole number, got 2.0"),
        ({("clean", 1): FOG}, {}, "the severity of clean needs to be 0, got 1"),
        ({CLEAN: FOG}, {"classes": 3}, "labels needs numbers from 0 to 2, got 3"),
        ({CLEAN: FOG + 1}, {"classes": 4}, "clean needs numbers from 0 to 3, got 4"),
        ({CLEAN: np.zeros((20, 5))}, {"classes": 4}, "logits of 5 classes, expected 4"),
        (
            {CLEAN: FOG},
            {"parameters": "cifer"},
            "parameters needs cifar or imagenet, or nothing, got 'cifer'",
        ),
        ({CLEAN: FOG}, {"seed": True}, "seed needs a whole number"),
        ({CLEAN: FOG}, {"overlap": ("fogs",)}, "overlap needs kinds or families"),
    ],
)
def test_other_mistakes_have_their_line_too(given: Any, options: Any, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Scores.from_predictions(LABELS, given, **{"name": "mine", **options})
    with pytest.raises(ValueError, match="labels needs the class of at least one image"):
        Scores.from_predictions([], {CLEAN: []}, name="mine")


def test_a_kind_that_is_nearly_a_known_one_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    given = {CLEAN: FOG, ("gaussian-noise", 1): FOG, ("my own", 1): FOG}
    with caplog.at_level(logging.WARNING):
        found = Scores.from_predictions(LABELS, given, name="mine")
    assert list(found.kinds) == ["gaussian-noise", "my own"]
    (message,) = caplog.messages
    assert "unknown kind 'gaussian-noise' (did you mean gaussian_noise?)" in message


def test_rows_and_frames_have_one_row_per_kind_and_severity() -> None:
    given = {CLEAN: LABELS, ("own", 1): FOG, **{("fog", s): FOG for s in SEVERITIES[1:]}, ("fog", 1): "NaN"}
    scores = Scores.from_predictions(LABELS, given, name="mine")
    rows = scores.to_rows()
    assert [(row["kind"], row["severity"], row["family"]) for row in rows] == [
        ("clean", 0, ""),
        *(("fog", severity, "weather") for severity in SEVERITIES),
        ("own", 1, ""),
    ]
    low, high = binomial_interval(len(LABELS), len(LABELS))
    assert rows[0] | {"accuracy": 1.0, "flips": 0.0, "low": low, "high": high} == rows[0]
    assert (rows[1]["accuracy"], rows[1]["images"], rows[1]["failed"]) == (None, None, "NaN")
    fog = scores.cells["fog", 3]
    assert isinstance(fog, Answers)
    assert (rows[3]["correct"], rows[3]["accuracy"]) == (int(fog.bits.sum()), fog.accuracy)
    assert (rows[3]["low"], rows[3]["high"]) == scores.average(["fog"], [3]).ci95
    pytest.importorskip("pandas")
    frame = scores.to_frame()
    assert frame.query("kind == 'fog' and severity == 3")["accuracy"].item() == fog.accuracy


def test_a_missing_pandas_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ValueError, match=r"needs the package pandas; install filterbands\[pandas\]"):
        _given().to_frame()
