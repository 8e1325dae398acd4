"""The database: what makes a row, who may write it, and what it refuses."""

import multiprocessing
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import fields, replace
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import numpy as np
import pytest

from filterbands.evaluation import Store
from filterbands.evaluation.rows import Cell, Outcome, Stored
from filterbands.evaluation.schema import SCHEMA

# The children use SQLite and numpy alone, which a copy of this process can; a fresh one would load torch.
FORKS = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

CELL = Cell(model="m", data="d", kind="fog", severity=1, parameters="cifar", version=1)
BITS = np.array([True, False, True, True, False, False, True, False, True, True, True])


def _fill(store: Store, *cells: Cell) -> None:
    store.add_model("m", "net")
    labels = np.arange(11, dtype=np.int64)
    store.add_data(Stored(fingerprint="d", name="set", split="test", labels=labels, classes=("a",)))
    for cell in cells:
        store.put(cell, Outcome(bits=BITS, seconds=0.5))


@pytest.mark.parametrize("name", [field.name for field in fields(Cell)])
def test_every_ingredient_of_a_key_makes_another_key(name: str) -> None:
    value = getattr(CELL, name)
    other = replace(CELL, **{name: value + 1 if isinstance(value, int) else value + "x"})
    assert other.key != CELL.key
    assert replace(other, **{name: value}).key == CELL.key


def test_bits_come_back_as_they_were_put_and_the_first_ones_stay(tmp_path: Path) -> None:
    with Store(tmp_path / "r.db") as store:
        _fill(store, CELL)
        store.put(CELL, Outcome(bits=~BITS, seconds=1.0))
    with Store(tmp_path / "r.db", readonly=True) as store:
        ((cell, outcome),) = store.cells()
        assert cell == CELL
        assert outcome.bits.tolist() == BITS.tolist()
        assert store.has(CELL.key)
        assert list(store.cells(kind="snow")) == []
        with pytest.raises(ValueError, match="cells have no color"):
            list(store.cells(color="red"))


def test_a_cell_of_an_unknown_network_is_refused() -> None:
    with Store(None) as store, pytest.raises(ValueError, match="of this network were deleted meanwhile; run"):
        store.put(CELL, Outcome(bits=BITS, seconds=0.0))


def test_deleting_a_network_takes_its_cells_and_no_other(tmp_path: Path) -> None:
    with Store(tmp_path / "r.db") as store:
        _fill(store, CELL, replace(CELL, severity=2))
        store.add_model("other", "second")
        store.put(replace(CELL, model="other"), Outcome(bits=BITS, seconds=0.0))
        with pytest.raises(ValueError, match="no results of 'third'; there are results of net, second"):
            store.delete("third")
        assert store.delete("net") == 2
        assert [cell.model for cell, _ in store.cells()] == ["other"]
        assert store.delete("second") == 1
        assert store.names() == {}


def _put_and_die(path: str) -> None:
    store = Store(path)
    _fill(store, CELL)
    os.kill(os.getpid(), signal.SIGKILL)


@FORKS
def test_the_file_alone_holds_the_results_of_a_process_that_was_killed(tmp_path: Path) -> None:
    file, alone = tmp_path / "r.db", tmp_path / "alone.db"
    child = multiprocessing.get_context("fork").Process(target=_put_and_die, args=(str(file),))
    child.start()
    child.join()
    assert (tmp_path / "r.db-wal").stat().st_size == 0
    shutil.copy(file, alone)
    with Store(tmp_path / "other.db") as store:
        _fill(store, replace(CELL, seed=1))
    shutil.copy(tmp_path / "other.db", file)
    for copy, seed in ((alone, 0), (file, 1)):
        with Store(copy) as store:
            assert [cell.seed for cell, _ in store.cells()] == [seed]


def test_who_reads_a_database_keeps_nobody_from_writing(tmp_path: Path) -> None:
    with Store(tmp_path / "r.db") as store, closing(sqlite3.connect(tmp_path / "r.db")) as reader:
        _fill(store, CELL)
        found = reader.execute("SELECT key FROM cells, (SELECT 1 UNION ALL SELECT 2)")
        assert found.fetchone() == (CELL.key,)
        started = time.monotonic()
        store.put(replace(CELL, seed=1), Outcome(bits=BITS, seconds=0.0))
        assert time.monotonic() - started < 20
        assert found.fetchone() == (CELL.key,)
        assert [cell.seed for cell, _ in store.cells()] == [0, 1]
        assert store._execute("PRAGMA busy_timeout")[0][0] == 60000


@pytest.mark.parametrize("data", ["d", "other"])
def test_deleting_a_network_leaves_the_data_of_a_process_that_has_no_cell_yet(
    data: str, tmp_path: Path
) -> None:
    labels = np.arange(11, dtype=np.int64)
    with Store(tmp_path / "r.db") as store, Store(tmp_path / "r.db") as other:
        _fill(other, CELL)
        store.add_model("second", "second")
        store.add_data(Stored(fingerprint=data, name="set", split="test", labels=labels, classes=("a",)))
        assert other.delete("net") == 1
        store.put(replace(CELL, model="second", data=data), Outcome(bits=BITS, seconds=0.0))
        assert [cell.data for cell, _ in other.cells()] == [data]
        assert other.delete("second") == 1
        assert other._execute("SELECT * FROM data") == []
        with pytest.raises(ValueError, match="were deleted meanwhile; run the same command again"):
            store.put(replace(CELL, model="second", data=data), Outcome(bits=BITS, seconds=0.0))


@pytest.mark.parametrize("length", [1, 7, 8, 9, 64, 1001])
def test_bits_of_any_length_survive_the_packing(length: int) -> None:
    bits = np.random.default_rng(length).uniform(size=length) < 0.5
    with Store(None) as store:
        _fill(store)
        labels = np.zeros(length, dtype=np.int64)
        store.add_data(Stored(fingerprint="n", name="set", split="test", labels=labels, classes=("a",)))
        store.put(replace(CELL, data="n"), Outcome(bits=bits, seconds=0.0))
        ((_, found),) = store.cells()
    assert found.bits.tolist() == bits.tolist()


def test_reading_leaves_no_file_behind_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "r.db"
    with Store(file) as store:
        _fill(store, CELL)
    before, files = file.read_bytes(), sorted(tmp_path.iterdir())
    with Store(file, readonly=True) as store:
        assert len(list(store.cells())) == 1
        with pytest.raises(ValueError, match="cannot be used: attempt to write a readonly database"):
            store.add_model("other", "second")
        with pytest.raises(ValueError, match="cannot be used"):
            store.delete("net")
    assert sorted(tmp_path.iterdir()) == files
    assert file.read_bytes() == before


def test_a_folder_that_cannot_be_written_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "r.db"
    with Store(file) as store:
        _fill(store, CELL)
    monkeypatch.setattr("os.access", lambda *_: False)
    files = sorted(tmp_path.iterdir())
    with Store(file, readonly=True) as store:
        assert len(list(store.cells())) == 1
        assert sorted(tmp_path.iterdir()) == files
    with pytest.raises(ValueError, match="no permission"):
        Store(file)


@pytest.mark.parametrize("there", ["journal", "empty journal", "both"])
def test_a_journal_that_cannot_be_read_where_it_lies_is_told(
    there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, copy = tmp_path / "r.db", tmp_path / "copy"
    copy.mkdir()
    with Store(file) as store:
        _fill(store, CELL)
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE models SET overlap = '[\"blur\"]'")
        for end in ("", "-wal", *(["-shm"] if there == "both" else [])):
            shutil.copy(f"{file}{end}", copy)
    if there == "empty journal":
        (copy / "r.db-wal").write_bytes(b"")
    monkeypatch.setattr("os.access", lambda *_: False)
    if there == "journal":
        with pytest.raises(ValueError, match=r"r\.db-wal holds results too; copy both to a folder"):
            Store(copy / "r.db", readonly=True)
    else:
        with Store(copy / "r.db", readonly=True) as store:
            assert len(list(store.cells())) == 1


def test_names_that_are_no_text_are_told(tmp_path: Path) -> None:
    with Store(tmp_path / "r.db") as store:
        _fill(store, CELL)
        for write in (
            lambda: store.add_model("m", "n\udcff"),
            lambda: store.add_folder("/\udcff", [CELL]),
            lambda: store.put(replace(CELL, kind="\udcff"), Outcome(bits=BITS, seconds=0.0)),
        ):
            with pytest.raises(ValueError, match=r"r\.db holds needs to be text in UTF-8, got '.*\\udcff'"):
                write()
        assert store.names() == {"m": ("net",)}


def test_a_truncated_database_is_told_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "r.db"
    with Store(file) as store:
        _fill(store, *(replace(CELL, seed=seed) for seed in range(40)))
    file.write_bytes(file.read_bytes()[: 3 * 4096])
    line = "not a database of results, or not a whole one: database disk image is malformed"
    with pytest.raises(ValueError, match=line), Store(file, readonly=True) as store:
        list(store.cells())


_READ = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(*connection.execute("SELECT COUNT(*) FROM cells"))
connection.close()
"""


def test_opening_a_database_twice_keeps_the_locks_of_the_first(tmp_path: Path) -> None:
    """Closing any handle of a file ends the process's locks on it; without them others delete the journal."""
    file = tmp_path / "r.db"

    def count() -> str:
        return subprocess.run(
            [sys.executable, "-c", _READ, str(file)], check=True, capture_output=True, text=True
        ).stdout.strip()

    with Store(file) as store:
        _fill(store, CELL)
        Store(file).close()
        Store(file, readonly=True).close()
        assert count() == "(1,)"
        store.put(replace(CELL, seed=1), Outcome(bits=BITS, seconds=0.0))
        assert count() == "(2,)"


def test_the_database_is_in_wal_mode_and_says_its_schema(tmp_path: Path) -> None:
    Store(tmp_path / "r.db").close()
    connection = sqlite3.connect(tmp_path / "r.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
    connection.close()


def _foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.commit()
    connection.close()


def _newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda path: path.write_text("no database at all, but text"), "not a database of results"),
        (lambda path: path.write_bytes(b"SQLite format 3\x00" + b"\x01" * 200), "not a database of results"),
        (lambda path: path.mkdir(), "is a folder"),
        (_foreign, "another program's database"),
        (_newer, "newer version"),
    ],
)
def test_another_file_is_refused_in_one_line_and_left_as_it_is(
    make: object, line: str, readonly: bool, tmp_path: Path
) -> None:
    file = tmp_path / "r.db"
    make(file)  # type: ignore[operator]
    before = file.read_bytes() if file.is_file() else b""
    with pytest.raises(ValueError, match=line) as caught:
        Store(file, readonly=readonly)
    assert "\n" not in str(caught.value)
    assert (file.read_bytes() if file.is_file() else b"") == before


def test_reading_needs_a_database_and_writing_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*r\.db"):
        Store(tmp_path / "r.db", readonly=True)
    with pytest.raises(ValueError, match="there is no folder"):
        Store(tmp_path / "none" / "r.db")
    (tmp_path / "empty.db").touch()
    with pytest.raises(ValueError, match="is empty"):
        Store(tmp_path / "empty.db", readonly=True)
    Store(tmp_path / "empty.db").close()


def _write_all(path: str, start: Barrier) -> None:
    start.wait()
    for number in range(20):
        with Store(path) as store:
            _fill(store, replace(CELL, seed=number))


@FORKS
def test_two_processes_that_make_and_fill_one_database_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2, timeout=300)
    other = context.Process(target=_write_all, args=(str(tmp_path / "r.db"), start))
    other.start()
    _write_all(str(tmp_path / "r.db"), start)
    other.join(60)
    assert other.exitcode == 0
    with Store(tmp_path / "r.db", readonly=True) as store:
        assert sorted(cell.seed for cell, _ in store.cells()) == list(range(20))
    connection = sqlite3.connect(tmp_path / "r.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def _hold(path: str, ready: Event) -> None:
    with Store(path) as store:
        assert store.claim(CELL.key)
        ready.set()
        multiprocessing.Event().wait()


@FORKS
def test_a_claim_keeps_others_out_and_dies_with_its_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path / "r.db"), ready))
    holder.start()
    assert ready.wait(60)
    with Store(tmp_path / "r.db") as store:
        assert not store.claim(CELL.key)
        assert store.claim(replace(CELL, severity=2).key)
        holder.kill()
        holder.join(60)
        assert store.claim(CELL.key)


# The tables as versions 1 to 4 of the schema wrote them: files with these are on people's disks.
VERSION_1 = """
CREATE TABLE models (
  fingerprint TEXT PRIMARY KEY,
  name TEXT NOT NULL
);
CREATE TABLE data (
  fingerprint TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  split TEXT NOT NULL,
  images INTEGER NOT NULL,
  labels BLOB NOT NULL,
  classes TEXT NOT NULL
);
CREATE TABLE cells (
  key TEXT PRIMARY KEY,
  model TEXT NOT NULL REFERENCES models ON DELETE CASCADE,
  data TEXT NOT NULL REFERENCES data,
  kind TEXT NOT NULL,
  severity INTEGER NOT NULL,
  parameters TEXT NOT NULL,
  version INTEGER NOT NULL,
  seed INTEGER NOT NULL,
  source TEXT NOT NULL,
  precision TEXT NOT NULL,
  first INTEGER NOT NULL,
  step INTEGER NOT NULL,
  images INTEGER NOT NULL,
  correct INTEGER NOT NULL,
  bits BLOB NOT NULL,
  seconds REAL NOT NULL,
  created TEXT NOT NULL,
  filterbands TEXT NOT NULL
);
CREATE INDEX cells_of_a_model ON cells (model, data);
"""
VERSION_2 = """
ALTER TABLE models ADD COLUMN overlap TEXT NOT NULL DEFAULT '[]';
ALTER TABLE cells ADD COLUMN predictions BLOB;
ALTER TABLE cells ADD COLUMN failed TEXT NOT NULL DEFAULT '';
CREATE TABLE logits (
  cell TEXT PRIMARY KEY REFERENCES cells ON DELETE CASCADE,
  classes INTEGER NOT NULL,
  numbers BLOB NOT NULL,
  calibration_error REAL NOT NULL
);
CREATE TABLE folders (
  folder TEXT NOT NULL,
  cell TEXT NOT NULL REFERENCES cells ON DELETE CASCADE,
  PRIMARY KEY (folder, cell)
);
CREATE TABLE IF NOT EXISTS probes (
  key TEXT PRIMARY KEY,
  probe TEXT NOT NULL,
  content BLOB NOT NULL,
  created TEXT NOT NULL,
  filterbands TEXT NOT NULL
);
"""


VERSION_3 = """
CREATE TABLE names (
  model TEXT NOT NULL REFERENCES models ON DELETE CASCADE,
  name TEXT NOT NULL,
  PRIMARY KEY (model, name)
);
INSERT INTO names SELECT fingerprint, name FROM models ORDER BY rowid;
ALTER TABLE cells ADD COLUMN checksum TEXT NOT NULL DEFAULT '';
ALTER TABLE data ADD COLUMN checksum TEXT NOT NULL DEFAULT '';
ALTER TABLE logits ADD COLUMN checksum TEXT NOT NULL DEFAULT '';
ALTER TABLE probes ADD COLUMN checksum TEXT NOT NULL DEFAULT '';
"""


VERSION_4 = "ALTER TABLE folders ADD COLUMN seed INTEGER;"


def _of_version_1(file: Path) -> None:
    """Write a database as the first version did: one cell, no columns for what came later."""
    connection = sqlite3.connect(file)
    connection.executescript(VERSION_1 + "PRAGMA user_version = 1;")
    connection.execute("INSERT INTO models VALUES ('m', 'net')")
    connection.execute("INSERT INTO data VALUES ('d', 'set', 'test', 11, ?, '[\"a\"]')", (bytes(88),))
    values = (CELL.key, "m", "d", "fog", 1, "cifar", 1, 0, "", "float32", 0, 1, 11, 7)
    packed = np.packbits(BITS).tobytes()
    connection.execute(
        f"INSERT INTO cells VALUES ({', '.join('?' * 18)})", (*values, packed, 0.5, "2026-01-01", "0.1")
    )
    connection.commit()
    connection.close()


@pytest.mark.parametrize("readonly", [True, False])
def test_a_database_of_an_older_version_is_brought_up_to_date_with_its_rows(
    readonly: bool, tmp_path: Path
) -> None:
    file = tmp_path / "r.db"
    _of_version_1(file)
    with Store(file, readonly=readonly) as store:
        ((cell, outcome),) = store.cells()
        assert (cell, outcome.bits.tolist()) == (CELL, BITS.tolist())
        assert (outcome.predictions, outcome.failed, store.overlaps()) == (None, "", {"m": ()})
        assert store.has(CELL.key)
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
    connection.close()


def test_a_database_of_schema_2_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "r.db"
    _of_version_1(file)
    connection = sqlite3.connect(file)
    connection.executescript(VERSION_2 + "PRAGMA user_version = 2;")
    # All labels are 0.
    named, logits = (~BITS).astype("<u1"), np.arange(22, dtype="<f2").reshape(11, 2)
    connection.execute("UPDATE models SET overlap = '[\"noise\"]'")
    connection.execute("UPDATE cells SET predictions = ?", (named.tobytes(),))
    connection.execute("INSERT INTO logits VALUES (?, 2, ?, 0.25)", (CELL.key, logits.tobytes()))
    connection.execute("INSERT INTO folders VALUES ('/copies', ?)", (CELL.key,))
    connection.execute("INSERT INTO probes VALUES ('k', 'heatmap', ?, '2026-01-01', '0.1')", (b"content",))
    connection.commit()
    connection.close()
    with Store(file, readonly=True) as store:
        ((cell, outcome),) = store.cells(kind="fog")
        assert (cell, outcome.bits.tolist(), outcome.seconds) == (CELL, BITS.tolist(), 0.5)
        assert outcome.predictions is not None
        assert outcome.predictions.tolist() == (~BITS).astype(int).tolist()
        assert outcome.calibration_error == 0.25
        kept = store.logits(CELL.key)
        assert kept is not None
        assert kept.tolist() == logits.tolist()
        assert (store.overlaps(), store.folders()) == ({"m": ("noise",)}, {CELL.key: {"/copies": None}})
        assert store.probed("k") == b"content"
        [row] = store.rows()
        assert (row["name"], row["data"], row["correct"], row["key"]) == ("net", "set", 7, CELL.key)
        assert store.names() == {"m": ("net",)}


def test_the_tables_of_a_new_database_are_those_of_schema_4(tmp_path: Path) -> None:
    def columns(file: Path) -> dict[str, list[object]]:
        connection = sqlite3.connect(file)
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        found = {name: list(connection.execute(f"PRAGMA table_info({name})")) for name in tables}
        connection.close()
        return found

    Store(tmp_path / "new.db").close()
    connection = sqlite3.connect(tmp_path / "old.db")
    connection.executescript(VERSION_1 + VERSION_2 + VERSION_3 + VERSION_4)
    connection.close()
    assert columns(tmp_path / "new.db") == columns(tmp_path / "old.db")


def test_an_older_database_that_cannot_be_changed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _of_version_1(tmp_path / "r.db")
    monkeypatch.setattr("filterbands.evaluation.address.os.access", lambda *_: False)
    with pytest.raises(ValueError, match=r"an older version \(schema 1, here 4\) and cannot be changed"):
        Store(tmp_path / "r.db", readonly=True)


def test_a_database_of_schema_3_is_read_where_it_cannot_be_changed_and_brought_up_to_date_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "r.db"
    _of_version_1(file)
    connection = sqlite3.connect(file)
    connection.executescript(VERSION_2 + VERSION_3 + "PRAGMA user_version = 3;")
    connection.execute("INSERT INTO folders VALUES ('/copies', ?)", (CELL.key,))
    connection.commit()
    connection.close()
    before = file.read_bytes()
    with monkeypatch.context() as fixed:
        fixed.setattr("filterbands.evaluation.address.os.access", lambda *_: False)
        with Store(file, readonly=True) as store:
            assert store.folders() == {CELL.key: {"/copies": None}}
    assert file.read_bytes() == before
    with Store(file) as store:
        assert store.has(CELL.key)
        store.add_folder("/copies", [CELL], seed=7)
        assert store.folders() == {CELL.key: {"/copies": 7}}


def test_a_network_keeps_every_name_and_its_results_until_the_last_one_is_deleted(tmp_path: Path) -> None:
    with Store(tmp_path / "r.db") as store:
        _fill(store, CELL)
        for name in ("candidate", "net", "candidate"):
            store.add_model("m", name)
        assert store.names() == {"m": ("net", "candidate")}
        assert store.delete("net") == 0
        assert (store.names(), store.has(CELL.key)) == ({"m": ("candidate",)}, True)
        assert store.rows()[0]["name"] == "candidate"
        assert store.delete("candidate") == 1
        assert (store.names(), store.has(CELL.key)) == ({}, False)


NAMED = np.where(BITS, np.arange(11), 12)
SUM = "UPDATE cells SET checksum = '';"
DAMAGE = {
    "UPDATE cells SET bits = X'00'": "1 bytes of bits for 11 images",
    "UPDATE cells SET bits = X'B2FF'": "12 bits are set, 7 were counted",
    "UPDATE cells SET bits = X'72E0'": "its checksum is another",
    "UPDATE cells SET bits = 'B2'": "bits is no bytes",
    "UPDATE cells SET correct = 11": "7 bits are set, 11 were counted",
    "UPDATE cells SET images = 9": "7 bits are set|bits for 9 images|were counted",
    "UPDATE cells SET images = 'many'": "images is no int",
    "UPDATE cells SET images = 12": "it is of 12 images, and the data set has 11",
    "UPDATE cells SET severity = 4": "its key is of another cell",
    "UPDATE cells SET failed = 'NaN'": "bytes of bits for 0 images",
    "UPDATE cells SET predictions = X'0102'": "the predictions are not one per image",
    "UPDATE cells SET predictions = NULL": "its checksum is another",
    "UPDATE logits SET calibration_error = 0.125": "its checksum is another",
    "UPDATE logits SET calibration_error = 9e999": "the logits are not those of the images",
    "UPDATE logits SET numbers = X'00'": "the logits are not those of the images",
    f"{SUM} UPDATE cells SET bits = X'72E0'": "its bits do not agree with its predictions",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_row_is_not_believed_and_is_written_anew(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, logits = tmp_path / "r.db", np.ones((11, 2), dtype=np.float16)
    whole = Outcome(bits=BITS, seconds=0.5, predictions=NAMED, logits=logits, calibration_error=0.25)
    with Store(file) as store:
        _fill(store)
        store.put(CELL, whole)
    connection = sqlite3.connect(file)
    connection.executescript(damage)
    connection.close()
    with Store(file) as store:
        ((_, outcome),) = store.cells()
        assert outcome.is_damaged
        assert outcome.bits.size == 0
        assert re.search(DAMAGE[damage], outcome.failed)
        [row] = store.rows()
        assert (row["correct"], row["failed"]) == (0, outcome.failed)
        assert not store.has(CELL.key)
        store.put(CELL, whole)
        assert "fog 1 was computed anew, since its row in the database is damaged" in caplog.text
        ((cell, outcome),) = store.cells()
        assert (cell, outcome.bits.tolist(), outcome.failed) == (CELL, BITS.tolist(), "")
        assert store.has(CELL.key, logits=True)


def test_damage_to_logits_labels_and_parts_of_probes_is_found_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, logits = tmp_path / "r.db", np.ones((11, 2), dtype=np.float16)
    with Store(file) as store:
        _fill(store)
        store.put(CELL, Outcome(bits=BITS, seconds=0.5, logits=logits, calibration_error=0.25))
        store.put_probed("k", "heatmap", b"content")
    connection = sqlite3.connect(file)
    connection.execute("UPDATE logits SET numbers = ?", (bytes(44),))
    connection.execute("UPDATE data SET labels = ?", (bytes(88),))
    connection.execute("UPDATE probes SET content = X'00'")
    connection.commit()
    connection.close()
    with Store(file) as store:
        assert store.logits(CELL.key) is None
        assert store.probed("k") is None
        assert "a part of the probe heatmap is damaged" in caplog.text
        store.put_probed("k", "heatmap", b"content")
        assert store.probed("k") == b"content"
        with pytest.raises(ValueError, match="the row of the data set set is damaged"):
            list(store.cells())
        _fill(store)
        assert "the row of the data set set was damaged; it is written anew" in caplog.text
        assert (store.has(CELL.key), store.has(CELL.key, logits=True)) == (True, False)
        store.put(CELL, Outcome(bits=BITS, seconds=0.5, logits=logits, calibration_error=0.25))
        assert store.has(CELL.key, logits=True)


def test_a_cell_takes_the_calibration_error_that_comes_later_and_keeps_its_folders(tmp_path: Path) -> None:
    bare = Outcome(bits=BITS, seconds=0.5, predictions=NAMED)
    told = replace(bare, calibration_error=0.25)
    logits = np.ones((11, 2), dtype=np.float16)
    with Store(tmp_path / "r.db") as store:
        _fill(store)
        for outcome, error in ((bare, None), (told, 0.25), (bare, 0.25)):
            store.put(CELL, outcome)
            store.add_folder("/copies", [CELL], seed=7)
            ((_, found),) = store.cells()
            assert (found.failed, found.calibration_error) == ("", error)
        store.put(CELL, replace(told, logits=logits))
        ((_, found),) = store.cells()
        assert (found.failed, found.calibration_error) == ("", 0.25)
        assert store.has(CELL.key, logits=True)
        assert store.folders() == {CELL.key: {"/copies": 7}}


@pytest.mark.parametrize("replaced", [False, True])
def test_results_are_not_written_to_a_file_that_is_gone(replaced: bool, tmp_path: Path) -> None:
    file = tmp_path / "r.db"
    with Store(file) as store:
        _fill(store, CELL)
        file.unlink()
        if replaced:
            file.write_bytes(b"")
        with pytest.raises(ValueError, match=r"r\.db was deleted or replaced while results were written"):
            store.put(replace(CELL, severity=2), Outcome(bits=BITS, seconds=0.5))


@pytest.mark.parametrize("odd", ["1.0e+308", "{", '{"a": 1}', "[1]", b"\x00", 3.5, "[" * 100_000])
def test_a_damaged_list_of_what_training_resembles_is_refused_by_name(odd: object, tmp_path: Path) -> None:
    file = tmp_path / "r.db"
    with Store(file) as store:
        store.add_model("m", "net", overlap=("blur",))
        assert store.overlaps() == {"m": ("blur",)}
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE models SET overlap = ?", (odd,))
    with (
        Store(file) as store,
        pytest.raises(ValueError, match=r"r\.db: what the network m resembles .* is"),
    ):
        store.overlaps()


@pytest.mark.parametrize("version", [-1, -4, -(2**31)])
def test_a_version_that_no_database_has_is_refused(version: int, tmp_path: Path) -> None:
    with Store(tmp_path / "r.db"):
        pass
    with closing(sqlite3.connect(tmp_path / "r.db")) as connection, connection:
        connection.execute(f"PRAGMA user_version = {version}")
    for readonly in (True, False):
        with pytest.raises(ValueError, match=rf"r\.db is damaged: its version is {version}"):
            Store(tmp_path / "r.db", readonly=readonly)
