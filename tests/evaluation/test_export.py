"""Results for other programs, and published results to stand beside."""

import csv
import json
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from filterbands.evaluation import Store, export_cells, leaderboard_entry, write_leaderboard_entry
from filterbands.evaluation.rows import Cell, Outcome, Stored
from filterbands.scores import BENCHMARK_15, EXTRA_4, PUBLISHED, Scores, place_among_published
from filterbands.scores.scores import SEVERITIES, Answers

CELL = Cell(model="m", data="d", kind="fog", severity=1, parameters="cifar", version=1)
BITS = np.array([True, False, True, True, False, False, True, False, True, True, True])


@pytest.fixture
def db(tmp_path: Path) -> Path:
    with Store(tmp_path / "r.db") as store:
        store.add_model("m", "net")
        labels = np.arange(11, dtype=np.int64)
        store.add_data(Stored(fingerprint="d", name="set", split="test", labels=labels, classes=("a",)))
        store.put(CELL, Outcome(bits=BITS, seconds=0.5))
        store.put(replace(CELL, first=2, step=5), Outcome(bits=BITS[:2], seconds=0.5))
    return tmp_path / "r.db"


def _published(share: float, *, data: str = "cifar10", images: int = 200) -> Scores:
    right = np.arange(images) < share * images
    answers = Answers(positions=np.arange(images), bits=right)
    places = [("clean", 0), *((kind, s) for kind in BENCHMARK_15 + EXTRA_4 for s in SEVERITIES)]
    return Scores(
        name="net",
        model="m",
        data=data,
        split="test",
        labels=np.zeros(images, dtype=np.int64),
        seed=0,
        parameters="cifar",
        precision="float32",
        cells=dict.fromkeys(places, answers),
    )


def test_every_format_has_the_same_row_a_cell(db: Path, tmp_path: Path) -> None:
    assert export_cells(db, tmp_path / "r.csv") == export_cells(db, tmp_path / "r.json") == 2
    rows = json.loads((tmp_path / "r.json").read_text())
    assert [(row["name"], row["data"], row["severity"], row["images"], row["correct"]) for row in rows] == [
        ("net", "set", 1, 11, 7),
        ("net", "set", 1, 2, 1),
    ]
    assert (rows[1]["first"], rows[1]["step"], rows[1]["failed"]) == (2, 5, "")
    assert (rows[0]["model_fingerprint"], rows[0]["key"]) == ("m", CELL.key)
    with (tmp_path / "r.csv").open() as stream:
        assert [row["severity"] for row in csv.DictReader(stream)] == ["1", "1"]


def test_parquet_has_the_rows_of_json(db: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    export_cells(db, tmp_path / "r.parquet")
    export_cells(db, tmp_path / "r.json")
    assert parquet.read_table(tmp_path / "r.parquet").to_pylist() == json.loads(
        (tmp_path / "r.json").read_text()
    )


DAMAGE = ("severity = 'abc'", "seed = 1.5", "seconds = 'x'", "created = X'00'", "correct = 'many'")


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_value_is_none_in_every_format(damage: str, db: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute(f"UPDATE cells SET {damage} WHERE rowid = 1")
    for ending in ("parquet", "json", "csv"):
        assert export_cells(db, tmp_path / f"r.{ending}") == 2
    rows = json.loads((tmp_path / "r.json").read_text())
    assert parquet.read_table(tmp_path / "r.parquet").to_pylist() == rows
    column = damage.partition(" ")[0]
    assert rows[0][column] == (0 if column == "correct" else None)
    assert rows[1][column] is not None
    assert bool(rows[0]["failed"]) == (column not in ("seconds", "created"))


def test_an_empty_database_gives_the_columns(db: Path, tmp_path: Path) -> None:
    Store(tmp_path / "empty.db").close()
    header = {}
    for file in (db, tmp_path / "empty.db"):
        export_cells(file, tmp_path / "r.csv")
        header[file.name] = (tmp_path / "r.csv").read_text().splitlines()[0]
    assert header["empty.db"] == header["r.db"]
    assert export_cells(tmp_path / "empty.db", tmp_path / "r.json") == 0
    assert json.loads((tmp_path / "r.json").read_text()) == []


def test_another_ending_and_an_absent_package_are_told(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"ends in \.csv, \.json, \.parquet, got r\.xlsx"):
        export_cells(db, tmp_path / "r.xlsx")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match=r"needs the package pyarrow; install filterbands\[parquet\]"):
        export_cells(db, tmp_path / "r.parquet")
    assert not (tmp_path / "r.parquet").exists()


def test_a_leaderboards_entry_has_its_keys_and_says_what_is_not_comparable(tmp_path: Path) -> None:
    scores = replace(_published(0.845), overlap=("noise",))
    write_leaderboard_entry(scores, tmp_path / "net.json", architecture="ResNet-18")
    entry = json.loads((tmp_path / "net.json").read_text())
    assert set(entry) >= {
        "name",
        "dataset",
        "architecture",
        "clean_acc",
        "corruptions_acc",
        "eps",
        "reported",
    }
    assert (entry["dataset"], entry["clean_acc"], entry["corruptions_acc"]) == ("cifar10", "84.50", "84.50")
    for note in ("noise", "made by filterbands", "200 images", "95 % interval"):
        assert note in entry["footnote"]
    few = replace(scores, cells={("clean", 0): scores.cells["clean", 0]})
    with pytest.raises(ValueError, match="needs all 75"):
        leaderboard_entry(few)


def _spread(scores: Scores) -> Scores:
    cells = {
        (kind, s): answers
        if kind == "clean"
        else Answers(positions=answers.positions[s - 1 :: 5], bits=answers.bits[s - 1 :: 5])
        for (kind, s), answers in scores.cells.items()
    }
    return replace(scores, cells=cells)


@pytest.mark.parametrize(
    ("scores", "note", "caution"),
    [
        (
            _spread(_published(0.5, images=10000)),
            "Each corrupted cell on 2,000 of the 10,000 images.",
            "2,000 of the 10,000 images in a corrupted cell (--spread)",
        ),
        (
            replace(_published(0.5), parameters="imagenet"),
            "seed 0, constants imagenet, not the published files.",
            "the constants are those of imagenet, the benchmark's are cifar",
        ),
        (
            replace(_published(0.5), precision="bfloat16"),
            "Precision bfloat16.",
            "the precision is bfloat16",
        ),
        (
            replace(_published(0.5), parameters="", seed=7, folder="/home/me/copy"),
            "Corrupted images read from a copy of seed 7, not the published files.",
            "the corrupted images are a copy that was made with seed 7, those of published rows are",
        ),
    ],
)
def test_an_entry_and_a_rank_say_how_the_images_were_made(scores: Scores, note: str, caution: str) -> None:
    footnote = leaderboard_entry(scores)["footnote"]
    place = place_among_published(scores)
    assert place is not None
    assert note in footnote
    assert any(caution in one for one in place.caution)
    assert f"not fully comparable: {caution}" in str(place)
    plain = _published(0.5, images=len(scores.labels))
    assert note not in leaderboard_entry(plain)["footnote"]
    assert caution not in str(place_among_published(plain))


def test_the_published_files_need_no_caution_and_name_no_path() -> None:
    scores = replace(_published(0.5, images=10000), parameters="", seed=None, folder="/home/me/CIFAR-10-C")
    place = place_among_published(scores)
    assert place is not None
    assert place.caution == ()
    footnote = leaderboard_entry(scores)["footnote"]
    assert footnote.startswith("Corrupted images read from CIFAR-10-C. 95 % interval")


def test_published_rows_are_shares_with_a_source() -> None:
    assert len({(row.method, row.architecture, row.kinds, row.source) for row in PUBLISHED}) == len(PUBLISHED)
    for row in PUBLISHED:
        assert 0.5 < row.corrupted < 1
        assert row.clean is None or row.corrupted < row.clean < 1
        assert row.kinds in (15, 19)
        assert row.source


def test_a_run_stands_between_the_rows_over_as_many_kinds() -> None:
    place = place_among_published(_published(0.845))
    assert place is not None
    assert all(row.kinds == 15 for row in place.rows)
    assert place.above == sum(row.corrupted < 0.845 for row in place.rows)
    near = [row.corrupted for row in place.nearest()]
    assert near == sorted(near, reverse=True)
    assert near[1] > 0.845 > near[2]
    assert "200 of the 10,000" in str(place)
    assert str(place).splitlines()[3].endswith("this network")
    best, worst = place_among_published(_published(0.99)), place_among_published(_published(0.3))
    assert best is not None
    assert worst is not None
    assert (best.above, worst.above) == (len(best.rows), 0)
    assert "this network" in str(best)
    assert "this network" in str(worst)
    assert place_among_published(_published(0.9, data="planted")) is None
