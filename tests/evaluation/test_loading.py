"""Which rows of a database make a set."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from filterbands.evaluation import Store, load_scores
from filterbands.evaluation.rows import Cell, Outcome, Stored

CLEAN = Cell(model="m", data="d", kind="clean", severity=0)


def _read(kind: str, source: str, severity: int = 1) -> Cell:
    return replace(CLEAN, kind=kind, severity=severity, source=source)


def _put(db: Path, *cells: Cell, folder: str = "") -> None:
    with Store(db) as store:
        store.add_model("m", "net")
        labels = np.arange(6, dtype=np.int64) % 2
        store.add_data(Stored(fingerprint="d", name="set", split="test", labels=labels, classes=("a", "b")))
        for cell in (CLEAN, *cells):
            store.put(cell, Outcome(bits=np.arange(6) % 2 == 0, seconds=0.1))
        if folder:
            store.add_folder(folder, cells)


def _sets(db: Path) -> list[tuple[str, tuple[str, ...]]]:
    return [(scores.folder, tuple(scores.kinds)) for scores in load_scores(db)]


def test_two_folders_with_other_kinds_are_two_sets(tmp_path: Path) -> None:
    db = tmp_path / "r.db"
    _put(db, _read("fog", "1"), _read("snow", "2"), folder="/a")
    _put(db, _read("contrast", "3"), folder="/b")
    assert _sets(db) == [("/a", ("snow", "fog")), ("/b", ("contrast",))]


def test_a_folder_that_got_another_file_has_the_new_one_alone(tmp_path: Path) -> None:
    db = tmp_path / "r.db"
    _put(db, _read("fog", "1"), _read("snow", "2"), folder="/a")
    _put(db, _read("fog", "9"), folder="/a")
    found = dict(_sets(db))
    assert set(found["/a"]) == {"fog", "snow"}
    (of_a,) = [scores for scores in load_scores(db) if scores.folder == "/a"]
    assert len(of_a.cells) == 3
    with Store(db) as store:
        new = {cell.source for cell, _ in store.cells() if cell.key in store.folders()}
    assert new == {"2", "9"}


def test_a_copy_of_a_folder_is_no_second_set(tmp_path: Path) -> None:
    db = tmp_path / "r.db"
    cells = [_read("fog", "1"), _read("snow", "2")]
    _put(db, *cells, folder="/a")
    _put(db, *cells, folder="/moved")
    _put(db, cells[0], folder="/part")
    assert _sets(db) == [("/moved", ("snow", "fog"))]
    for wanted in ("/a", "/part"):
        assert {scores.folder for scores in load_scores(db, folder=wanted)} == {"/moved", wanted}


def test_rows_that_know_no_folder_are_one_set_unless_there_are_two_files_of_a_kind(tmp_path: Path) -> None:
    _put(tmp_path / "one.db", _read("fog", "1"), _read("snow", "2"))
    [(folder, kinds)] = _sets(tmp_path / "one.db")
    assert (folder.startswith("files of sha256 "), kinds) == (True, ("snow", "fog"))
    _put(tmp_path / "two.db", _read("fog", "1"), _read("snow", "2"), _read("fog", "3"))
    # They are told apart, so that no network on one file is compared with another one on the other.
    assert len({folder for folder, _ in _sets(tmp_path / "two.db")}) == 3


def test_the_seed_of_copies_is_that_of_their_record_while_it_is_one_seed(tmp_path: Path) -> None:
    db = tmp_path / "r.db"
    cells = [_read("fog", "1"), _read("snow", "2")]
    _put(db, *cells, folder="/a")
    assert [scores.seed for scores in load_scores(db)] == [None]
    for seeds, known in ((7, 7), 7), ((7, 8), None):
        with Store(db) as store:
            for cell, seed in zip(cells, seeds, strict=True):
                store.add_folder("/a", [cell], seed=seed)
        assert [scores.seed for scores in load_scores(db)] == [known]


def test_failed_cells_are_told_and_a_network_that_failed_on_clean_images_is_none(tmp_path: Path) -> None:
    nothing = np.zeros(0, dtype=np.bool_)
    made = replace(CLEAN, kind="fog", severity=3, parameters="cifar", version=1)
    with Store(tmp_path / "r.db") as store:
        _put(tmp_path / "r.db")
        store.put(made, Outcome(bits=nothing, seconds=0.1, failed="NaN"), images=6)
    (scores,) = load_scores(tmp_path / "r.db")
    assert scores.failed == {("fog", 3): "NaN"}
    assert (scores.severities, scores.average_at_hand()) == ((3,), None)
    with Store(tmp_path / "r.db") as store:
        assert not store.has(made.key)
        store.put(made, Outcome(bits=np.ones(6, dtype=np.bool_), seconds=0.1))
        assert store.has(made.key)
        assert not store.has(made.key, logits=True)
    assert load_scores(tmp_path / "r.db")[0].failed == {}


@pytest.mark.parametrize("classes", [3, 300, 70000])
def test_predictions_come_back_whatever_the_number_of_classes(classes: int, tmp_path: Path) -> None:
    named = np.random.default_rng(0).integers(0, classes, 6)
    named[0] = classes - 1
    _put(tmp_path / "r.db")
    cell = replace(CLEAN, kind="fog", severity=1)
    with Store(tmp_path / "r.db") as store:
        store.put(cell, Outcome(bits=named == 0, seconds=0.0, predictions=named))
        found = dict(store.cells(kind="fog"))[cell].predictions
    assert found is not None
    assert found.tolist() == named.tolist()


def test_results_of_a_network_whose_row_is_gone_go_by_its_fingerprint(tmp_path: Path) -> None:
    db = tmp_path / "r.db"
    _put(db, _read("fog", "1"), folder="/a")
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("DELETE FROM models")
        connection.commit()
    (found,) = load_scores(db)
    assert (found.name, found.overlap) == ("m", ())
