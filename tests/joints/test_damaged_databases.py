"""A damaged or hostile database gives no other figure than the undamaged one, in one line where none."""

import io
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from filterbands.cli import main
from filterbands.datasets import load_data
from filterbands.evaluation import Store, load_scores
from filterbands.evaluation.schema import MIGRATIONS, plain_tables
from filterbands.models import load_model
from filterbands.probes import corruption_spectra, read_added, read_probed

Told = Callable[..., tuple[Any, str]]


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images, weights and a database that has rows of every table."""
    folder = tmp_path_factory.mktemp("stock")
    rng, db = np.random.default_rng(0), str(folder / "r.db")
    np.savez(
        folder / "d.npz", images=rng.integers(0, 256, (12, 3, 8, 8), np.uint8), labels=np.arange(12) % 10
    )
    torch.manual_seed(0)
    torch.save(load_model(arch="fastnet").state_dict(), folder / "net.pt")
    model = [str(folder / "net.pt"), "--arch", "fastnet", "--data", f"npz:{folder / 'd.npz'}", "--db", db]
    evaluate = ["evaluate", *model, "--kinds", "contrast,fog", "--severities", "1", "--logits"]
    assert main(evaluate) == 0
    assert main(["probe", *model, "--only", "heatmap", "--radius", "0.2"]) == 0
    assert main(["probe", *model, "--only", "passes"]) == 0
    data = load_data(f"npz:{folder / 'd.npz'}")
    corruption_spectra(data, kinds=["fog"], severities=[1], db=db)
    copy = ["--out", str(folder / "copy"), "--kinds", "contrast", "--severities", "1", "--workers", "1"]
    assert main(["corrupt", f"npz:{folder / 'd.npz'}", *copy]) == 0
    assert main(["evaluate", *model, "--corrupted", str(folder / "copy")]) == 0
    with closing(sqlite3.connect(db)) as connection:
        counts = [connection.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in TABLES]
    assert min(counts) > 0
    return folder


TABLES = ("models", "data", "cells", "logits", "folders", "probes", "names")


@pytest.fixture
def db(stock: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(stock / "r.db", tmp_path / "r.db"))


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Told:
    """Run a command line that succeeds; return its JSON and what it says."""

    def run(*words: object) -> tuple[Any, str]:
        caplog.clear()
        assert main([*map(str, words), "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out), caplog.text

    return run


def change(db: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        assert connection.execute(statement, values).rowcount, statement


def test_a_flipped_digit_of_a_finished_probe_is_named_and_not_shown(
    db: Path, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    whole = read_probed(db)
    assert len(whole) == 2
    flipped = "CAST(replace(CAST(content AS TEXT), '\"clean_error\": 0', '\"clean_error\": 0.0') AS BLOB)"
    change(db, f"UPDATE probes SET content = {flipped} WHERE CAST(content AS TEXT) GLOB '*\"clean_error\"*'")
    assert [type(one.found).__name__ for one in read_probed(db)] == ["PassCurves"]
    assert "the finished probe" in caplog.text
    _, said = told("report", db, "--out", db.with_suffix(".html"))
    assert said.count("is damaged and left out; probe writes it anew") == 1
    assert "Fourier heat map" not in db.with_suffix(".html").read_text()


ODD = (
    *(b"{}", "text", 10**10, 0.5, b"[1]", b"[" * 100_000),
    *(b'{"probe": ["a"]}', b'{"probe": "heatmap"}', b"\xff"),
)


@pytest.mark.parametrize("odd", ODD)
def test_a_record_of_a_probe_that_is_something_else_is_left_out(
    odd: object, db: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for checksum in ("checksum", "''"):
        caplog.clear()
        record = "WHERE probe GLOB 'result of *'"
        change(db, f"UPDATE probes SET content = ?, checksum = {checksum} {record}", odd)
        assert (read_probed(db), read_added(db)) == ([], [])
        assert caplog.text.count("is damaged and left out; probe writes it anew") == 3


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("found", "clean_error"), "0.5"),
        (("found", "clean_error"), 1.5),
        (("found", "size"), [10**9, 10**9]),
        (("found", "size"), [8]),
        (("found", "error"), [[0.5, "a"]]),
        (("found", "norm"), float("nan")),
        (("found", "images"), 10**30),
        (("found", "step"), True),
        (("found", "curves"), {"low_ideal": [0.5]}),
        (("found", "reached"), {"x": None}),
        (("found", "radii"), []),
        (("model",), 3),
        (("data",), None),
        (("keys",), [["fog", 1, 3]]),
        (("keys",), 3),
        (("images",), "12"),
    ],
)
def test_every_entry_of_a_record_has_its_type_and_range(
    path: tuple[str, ...], value: object, db: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of rows of before schema 3, which have no checksum."""
    with closing(sqlite3.connect(db)) as connection:
        rows = connection.execute("SELECT key, content FROM probes WHERE probe GLOB 'result of *'").fetchall()
    changed = 0
    for key, content in rows:
        document = json.loads(content)
        inner = document
        for name in path[:-1]:
            inner = inner.get(name, {})
        if path[-1] in inner:
            inner[path[-1]] = value
            new = json.dumps(document).encode()
            change(db, "UPDATE probes SET content = ?, checksum = '' WHERE key = ?", new, key)
            changed += 1
    assert len(read_probed(db)) + len(read_added(db)) == 3 - changed
    assert caplog.text.count("is damaged and left out") == changed > 0


def test_a_damaged_part_of_a_probe_is_computed_anew(stock: Path, db: Path, told: Told) -> None:
    """Without a checksum a short part would be filled up with answers that are right."""
    model = ("probe", stock / "net.pt", "--arch", "fastnet", "--data", f"npz:{stock / 'd.npz'}", "--db", db)
    before, _ = told(*model, "--only", "passes")
    short = io.BytesIO()
    np.savez(short, wrong=np.zeros(1, np.uint8))
    for odd in (b"", short.getvalue()):
        change(db, "UPDATE probes SET content = ?, checksum = '' WHERE probe NOT GLOB 'result of *'", odd)
        after, _ = told(*model, "--only", "passes")
        assert after == before


@pytest.mark.parametrize(
    "statement",
    ["UPDATE cells SET data = 'x' WHERE kind = 'fog'", "UPDATE cells SET data = X'00' WHERE kind = 'fog'"],
)
def test_a_cell_without_its_data_set_is_named_and_computed_anew(
    statement: str, stock: Path, db: Path, told: Told
) -> None:
    before, _ = told("results", db)
    change(db, statement)
    after, said = told("results", db)
    assert "fog 1 of net.pt is left out, since its row in the database is damaged" in said
    assert [entry["kinds"] for entry in after["results"]] == [
        {"contrast": entry["kinds"]["contrast"]} for entry in before["results"]
    ]
    assert told("results", db, "--export", db.with_suffix(".json"))[0]["exported"] == 4
    data = f"npz:{stock / 'd.npz'}"
    evaluate = ("evaluate", stock / "net.pt", "--arch", "fastnet", "--data", data, "--db", db)
    _, said = told(*evaluate, "--kinds", "contrast,fog", "--severities", "1", "--logits")
    assert "fog 1 was computed anew" in said
    assert told("results", db)[0] == before


VALUES = (None, -1, 2**62, "text", b"", 1e308)


@pytest.mark.parametrize("table", TABLES)
def test_no_damaged_column_changes_a_figure_or_ends_unforeseen(
    table: str, stock: Path, tmp_path: Path
) -> None:
    whole, db = stock / "r.db", tmp_path / "r.db"

    def figures(file: Path) -> set[tuple[Any, ...]]:
        """Return every figure that can be read; where nothing can, one line says so."""
        found: set[tuple[Any, ...]] = set()
        with suppress(ValueError):
            for scores in load_scores(file):
                cells = scores.cells.items()
                found |= {(*place, one.accuracy, one.calibration_error) for place, one in cells}
        with suppress(ValueError), Store(file, readonly=True) as store:
            found |= {(json.dumps(row), row["correct"]) for row in store.rows() if not row["failed"]}
        with suppress(ValueError):
            probed = (*read_probed(file), *read_added(file))
            found |= {(json.dumps(one.found.to_json()),) for one in probed}
        return {one for one in found if len(one) != 2} | {one[1:] for one in found if len(one) == 2}

    before = figures(whole)
    with closing(sqlite3.connect(whole)) as connection:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    for number, column in enumerate(columns):
        for value in (b"\0", VALUES[number % len(VALUES)]):
            shutil.copy(whole, db)
            with suppress(sqlite3.IntegrityError):
                change(db, f"UPDATE {table} SET {column} = ?", value)
            assert figures(db) <= before, (column, value)


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"
HOSTILE = {
    "a view of cells": f"DROP TABLE cells; CREATE VIEW cells AS {ENDLESS} i AS key FROM n",
    "a view of names": f"DROP TABLE names; CREATE VIEW names AS {ENDLESS} 'm' AS model, i AS name FROM n",
    "a quoted view": f'DROP TABLE names; CREATE VIEW "NAMES" AS {ENDLESS} 1 AS model, i AS name FROM n',
    "a computed column": "ALTER TABLE cells ADD COLUMN big BLOB AS (zeroblob(1000000000))",
    "a default": "DROP TABLE folders; CREATE TABLE folders (folder, cell, x DEFAULT (zeroblob(1000000000)))",
    "a check": "DROP TABLE folders; CREATE TABLE folders (folder, cell CHECK (length(hex(zeroblob(9))) > 1))",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON models BEGIN UPDATE cells SET correct = 0; END",
    "an index": "CREATE INDEX big ON cells (hex(zeroblob(1000)))",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_database_that_would_run_something_is_refused(
    what: str, db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(db)) as connection:
        connection.executescript(HOSTILE[what])
    for verb, *more in (["results"], ["results", "--delete", "net.pt"], ["report", "--out", "r.html"]):
        assert main([verb, str(db), *more]) == 2
        line = capsys.readouterr().err
        assert f"{db} is refused: " in line
        assert "is no plain table and could run anything" in line


def test_what_a_user_adds_to_a_database_beside_the_results_may_stay(db: Path, told: Told) -> None:
    before, _ = told("results", db)
    with closing(sqlite3.connect(db)) as connection:
        connection.executescript(
            "CREATE VIEW best AS SELECT * FROM cells ORDER BY correct; ANALYZE;"
            "CREATE TABLE notes (text DEFAULT (1 + 1)); CREATE INDEX by_text ON notes (text); VACUUM"
        )
    assert told("results", db)[0] == before


@pytest.mark.parametrize("count", range(1, len(MIGRATIONS) + 1))
def test_the_tables_of_every_version_are_plain(count: int) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        for script in MIGRATIONS[:count]:
            connection.executescript(script)
        names = plain_tables(connection.execute("SELECT name, sql FROM sqlite_master"), "r.db")
    assert {"models", "data", "cells"} <= names


def test_a_name_that_is_no_text_is_left_out(db: Path, told: Told) -> None:
    change(db, "UPDATE names SET name = X'00'")
    found, said = told("results", db)
    assert "a name of the network" in said
    with Store(db, readonly=True) as store:
        ((model, _),) = store.overlaps().items()
    assert {entry["name"] for entry in found["results"]} == {model[:12]}


def test_what_is_left_of_a_cell_that_was_taken_out_is_no_part_of_the_new_one(
    stock: Path, db: Path, told: Told
) -> None:
    before, _ = told("results", db)
    change(db, "DELETE FROM cells")
    assert told("results", db)[0] == {"results": []}
    data = f"npz:{stock / 'd.npz'}"
    evaluate = ("evaluate", stock / "net.pt", "--arch", "fastnet", "--data", data, "--db", db)
    after, _ = told(*evaluate, "--kinds", "contrast,fog", "--severities", "1")
    assert after["clean"] == before["results"][0]["clean"]
    assert after["kinds"] == before["results"][0]["kinds"]


def test_names_of_columns_in_another_case_are_the_same(db: Path, told: Told) -> None:
    before, _ = told("results", db)
    for column in ("data.fingerprint", "cells.kind", "logits.classes"):
        table, name = column.split(".")
        change(db, f"ALTER TABLE {table} RENAME COLUMN {name} TO other")
        change(db, f"ALTER TABLE {table} RENAME COLUMN other TO {name.title()}")
    assert told("results", db)[0] == before
    assert told("results", db, "--export", db.with_suffix(".json"))[0]["exported"] == 4
