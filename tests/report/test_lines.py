"""Lines of studies: each with the network that it is of, whatever other studies call theirs."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from filterbands.evaluation import load_scores, save_scores, score_predictions
from filterbands.report.accuracy import comparisons
from filterbands.report.gather import gather
from filterbands.report.views import Entry
from filterbands.scores import Scores

from .conftest import write_run

LABELS = np.arange(60) % 10


def line(name: str, clean: float, **more: Any) -> dict[str, Any]:
    config = {"recipe": "standard", "arch": "fastnet", "seed": 0, "data": "digits", "epochs": 1}
    return {
        "name": name,
        "data": "digits",
        "images": 60,
        "clean": clean,
        "kinds": {},
        "evaluation": {"split": "test", "precision": "float32"},
        **more,
        "config": config | more.get("config", {}),
    }


def write_study(folder: Path, *lines: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "runs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    return folder


def write_scores(db: Path, correct: int, name: str = "standard-0") -> Path:
    answers = np.where(np.arange(60) < correct, LABELS, (LABELS + 1) % 10)
    save_scores(Scores.from_predictions(LABELS, {("clean", 0): answers}, name=name), db)
    return db


def shown(*sources: Path) -> dict[str, tuple[object, list[float]]]:
    """Return the epochs of the record and the clean accuracies of every network."""
    found: dict[str, tuple[object, list[float]]] = {}
    for entry in gather(sources, title="").entries:
        found[entry.name] = _epochs(entry), [round(score.clean.value, 3) for score in entry.scores]
    return found


def _epochs(entry: Entry) -> object:
    return None if entry.run is None else entry.run.config["epochs"]


def test_a_line_is_of_no_network_of_another_study_that_shares_its_name(tmp_path: Path) -> None:
    db = write_scores(tmp_path / "other.db", 30)
    one = write_study(tmp_path / "one", line("standard-0", 0.9, config={"epochs": 77}))
    assert shown(db, one) == {"standard-0 (given:1c)": (None, [0.5]), "standard-0 (one)": (77, [0.9])}
    two = write_study(tmp_path / "two", line("standard-0", 0.8, config={"epochs": 9}))
    assert sorted(shown(one, two, db).values(), key=str) == [(77, [0.9]), (9, [0.8]), (None, [0.5])]


def test_a_network_of_a_study_without_its_runs_has_the_record_of_its_own_line(tmp_path: Path) -> None:
    places = []
    for name, correct, epochs in (("one", 30, 1), ("two", 51, 9)):
        record = line("standard-0", correct / 60, config={"epochs": epochs})
        places.append(write_study(tmp_path / name, record))
        write_scores(tmp_path / name / "results.db", correct)
    expected = {"standard-0 (one)": (1, [0.5]), "standard-0 (two)": (9, [0.85])}
    assert shown(*places) == shown(*reversed(places)) == expected
    alone = shown(places[0] / "results.db", places[1])
    assert sorted(alone.values(), key=str) == [(9, [0.85]), (None, [0.5])]
    # The same study at two places is one.
    assert shown(places[0], shutil.copytree(places[0], tmp_path / "copy")) == {"standard-0": (1, [0.5])}


@pytest.mark.parametrize("fingerprint", [True, False])
def test_a_database_beside_its_study_is_known_by_its_images_and_figures(
    images: Any, tmp_path: Path, fingerprint: bool
) -> None:
    labels = images.labels.numpy()
    given = {("clean", 0): labels, ("fog", 1): labels}
    score_predictions(images, given, name="standard-0", db=tmp_path / "moved.db")
    [score] = load_scores(tmp_path / "moved.db")
    fog = {"fog": [1.0, None, None, None, None]}
    mark = {"fingerprint": score.pixels} if fingerprint else {}
    study = write_study(tmp_path / "study", line("standard-0", 1.0, kinds=fog, **mark))
    found = shown(study, tmp_path / "moved.db")
    assert len(found) == (1 if fingerprint else 2)
    write_study(study, line("standard-0", 1.0, kinds={"fog": [0.5, *[None] * 4]}, **mark))
    assert len(shown(study, tmp_path / "moved.db")) == 2


def test_figures_that_the_database_lacks_stay(tmp_path: Path) -> None:
    fog = {"fog": [0.25, None, None, None, None]}
    study = write_study(tmp_path / "study", line("standard-0", 0.5, kinds=fog))
    write_scores(study / "results.db", 30)
    report = gather([study], title="")
    assert len(report.entries) == 1
    groups = comparisons(report)
    assert sorted(value.clean.value for group in groups for value in group.rows) == [0.5, 0.5]
    assert [average.estimate.value for group in groups for average in group.averages] == []
    assert [group.rows[0].kinds for group in groups if group.rows[0].kinds] == [{"fog": fog["fog"]}]


def test_results_of_a_run_neither_hide_other_figures_of_its_line_nor_take_those_that_they_deny(
    images: Any, tmp_path: Path
) -> None:
    write_run(tmp_path / "study" / "plain", recipe="standard", seed=0, finished=False)
    labels = images.labels.numpy()
    score_predictions(images, {("clean", 0): labels}, name="plain", db=tmp_path / "r.db")
    [score] = load_scores(tmp_path / "r.db")
    sources = tmp_path / "study", tmp_path / "r.db"
    write_study(sources[0], line("plain", 0.5, fingerprint="f" * 64))
    assert shown(*sources) == {"plain": (3, [1.0, 0.5])}
    write_study(sources[0], line("plain", 1.0, fingerprint=score.pixels))
    assert shown(*sources) == {"plain": (3, [1.0])}
    write_study(sources[0], line("plain", 0.5, fingerprint=score.pixels))
    assert sorted(shown(*sources).values(), key=str) == [(1, [0.5]), (3, [1.0])]
