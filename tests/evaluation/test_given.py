"""Given predictions in a database: what is kept is what was given, and what cannot be kept is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from filterbands.datasets import load_data
from filterbands.evaluation import Store, load_scores, read_predictions, save_scores, score_predictions
from filterbands.scores import Scores, compare_kinds, gate
from filterbands.scores.scores import SEVERITIES

LABELS = np.arange(20) % 4
WRONG = np.where(np.arange(20) < 5, 0, LABELS)
GIVEN: dict[Any, Any] = {("clean", 0): LABELS, ("fog", 3): WRONG, ("own", 1): np.eye(4)[WRONG]}


def _same(one: Scores, other: Scores) -> None:
    assert one.to_json() == other.to_json()
    assert (one.pixels, list(one.cells)) == (other.pixels, list(other.cells))
    assert all(entry.ci95 == (0, 0) for entry in compare_kinds(one, other))


@pytest.mark.parametrize("parameters", ["cifar", "imagenet", ""])
def test_scores_come_back_from_a_database_as_they_were(parameters: str, tmp_path: Path) -> None:
    given = GIVEN | {("snow", 2): "the network gives NaN"}
    options = {"name": "mine", "parameters": parameters, "seed": 7, "overlap": ("noise",)}
    scores = Scores.from_predictions(LABELS, given, **options)
    for _ in range(2):
        save_scores(scores, tmp_path / "r.db")
    (found,) = load_scores(tmp_path / "r.db")
    _same(found, scores)
    assert found.calibration_errors()["own"][0] is not None
    with Store(tmp_path / "r.db", readonly=True) as store:
        keys = [cell.key for cell, _ in store.cells(kind="own")]
        assert store.logits(keys[0]) is None
        assert not store.has(keys[0], logits=True)
        assert store.has(keys[0])


def test_logits_of_the_same_predictions_may_come_later(tmp_path: Path) -> None:
    db, logits = tmp_path / "r.db", {("clean", 0): np.eye(4)[LABELS], ("fog", 3): np.eye(4)[WRONG]}
    classes = {place: one.argmax(axis=1) for place, one in logits.items()}
    for given in (classes, logits, classes):
        scores = Scores.from_predictions(LABELS, given, name="mine")
        save_scores(scores, db)
        (found,) = load_scores(db)
        assert found.kinds["fog"][2] == 0.85
    assert found.calibration_errors()["fog"][2] is not None
    assert (
        found.calibration_errors()
        == Scores.from_predictions(LABELS, logits, name="mine").calibration_errors()
    )


def test_spread_cells_come_back_as_one_set_of_scores(tmp_path: Path) -> None:
    given: dict[Any, Any] = {("clean", 0): LABELS}
    for severity in SEVERITIES:
        places = np.arange(severity - 1, 20, 5)
        given["fog", severity] = (places, WRONG[places])
    given["fog", 2] = "failed"
    scores = Scores.from_predictions(LABELS, given, name="mine")
    save_scores(scores, tmp_path / "r.db")
    (found,) = load_scores(tmp_path / "r.db")
    _same(found, scores)
    given["fog", 1] = ([3, 4, 9], [0, 0, 0])
    apart = Scores.from_predictions(LABELS, given, name="mine")
    with pytest.raises(ValueError, match="mine has fog 1 on images that are not every k-th"):
        save_scores(apart, tmp_path / "other.db")
    assert not (tmp_path / "other.db").exists()


def test_two_networks_share_no_row_and_scores_of_evaluate_are_refused(tmp_path: Path) -> None:
    db = tmp_path / "r.db"
    one = Scores.from_predictions(LABELS, GIVEN, name="one")
    two = Scores.from_predictions(LABELS, GIVEN | {("fog", 3): LABELS}, name="two")
    for scores in (one, two):
        save_scores(scores, db)
    assert {entry.name: entry.kinds["fog"][2] for entry in load_scores(db)} == {"one": 0.85, "two": 1.0}
    assert gate(*reversed(load_scores(db)), max_drop=0).holds
    with pytest.raises(ValueError, match="keeps scores of predictions that were given, not those of net"):
        save_scores(replace(one, name="net", model="0f" * 32), db)


def test_labels_of_other_images_are_refused(tmp_path: Path) -> None:
    data = load_data("planted", limit=20)
    clean = {("clean", 0): data.labels}
    assert score_predictions(data, clean, name="mine", labels=data.labels.tolist()).split == "test"
    with pytest.raises(ValueError, match=r"not those of planted \(test, 20 images\); give the same images"):
        score_predictions(data, clean, name="mine", labels=data.labels.flip(0), db=tmp_path / "r.db")
    with pytest.raises(ValueError, match="clean needs numbers from 0 to"):
        score_predictions(data, {("clean", 0): torch.full((20,), 500)}, name="mine")


def test_a_file_of_predictions_names_kinds_and_severities(tmp_path: Path) -> None:
    file = tmp_path / "p.npz"
    np.savez(file, labels=LABELS, clean=LABELS, gaussian_noise_3=WRONG)
    predictions, labels = read_predictions(file)
    assert list(predictions) == [("clean", 0), ("gaussian_noise", 3)]
    assert np.array_equal(labels, LABELS)
    for name in ("fog", "fog3", "fog_6", "_3", "fog_12"):
        np.savez(file, **{name: LABELS})
        with pytest.raises(ValueError, match=f"labels, clean, and such as fog_3, found '{name}'"):
            read_predictions(file)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_predictions(tmp_path / "none.npz")
    file.write_text("text")
    with pytest.raises(ValueError, match=r"is not an \.npz of plain arrays"):
        read_predictions(file)


def test_predictions_of_the_first_images_come_back(tmp_path: Path) -> None:
    given: dict[Any, Any] = {("clean", 0): LABELS, ("fog", 3): (np.arange(8), LABELS[:8])}
    scores = Scores.from_predictions(LABELS, given, name="mine")
    save_scores(scores, tmp_path / "r.db")
    (found,) = load_scores(tmp_path / "r.db")
    _same(found, scores)
    assert found.kinds["fog"][2] == 1


@pytest.mark.parametrize("images", [1, 5, 7, 9])
def test_spread_cells_of_single_images_come_back(images: int, tmp_path: Path) -> None:
    labels = LABELS[:images]
    given: dict[Any, Any] = {("clean", 0): labels}
    for severity in range(1, min(images, 5) + 1):
        places = np.arange(severity - 1, images, 5)
        given["fog", severity] = (places, labels[places])
    scores = Scores.from_predictions(labels, given, name="mine")
    save_scores(scores, tmp_path / "r.db")
    (found,) = load_scores(tmp_path / "r.db")
    _same(found, scores)


def test_a_seed_that_no_database_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="seed needs a whole number of 64 bits"):
        Scores.from_predictions(LABELS, GIVEN, name="mine", seed=2**63)
