"""The database of results, and the only SQLite: a row per cell, its key a hash of all it depends on."""

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ..disk import check_output
from ..scores import Bits
from ..version import __version__
from .schema import MIGRATIONS, PROBES, SCHEMA
from .sources import Source

_Integers = np.ndarray[Any, np.dtype[np.int64]]
# What a finished probe's row is called, before the fingerprint of its network.
_RECORD = "result of "


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One kind at one severity for one network: everything that can change a bit of the answer."""

    model: str
    """Fingerprint of the network: architecture, weights, what it subtracts and divides by."""
    data: str
    """Fingerprint of the clean images: pixels, labels, numbers, class names."""
    kind: str
    """`clean`, or a kind of corruption."""
    severity: int
    """1 to 5; 0 for clean."""
    parameters: str = ""
    """Table of constants; empty where nothing was corrupted here."""
    version: int = 0
    """Version of the corruption's bytes."""
    seed: int = 0
    """Seed of the corruption."""
    source: str = ""
    """sha256 of the file of corrupted images; empty where they were made here."""
    precision: str = "float32"
    """What the network ran in."""
    first: int = 0
    """Position of the first image used."""
    step: int = 1
    """Every how many images one was used."""

    @property
    def key(self) -> str:
        """The sha256 of all of it."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What running a network on a cell's images gave."""

    bits: Bits
    """Whether the network named the class, per image; empty where the cell failed."""
    seconds: float
    """Seconds that the cell took."""
    predictions: _Integers | None = None
    """The class that the network named, per image; None in rows of older versions."""
    logits: np.ndarray[Any, np.dtype[np.float16]] | None = None
    """(images, classes), less each image's largest logit; None unless they were asked for."""
    calibration_error: float | None = None
    """Calibration error of the logits; see `scores.calibration_error`."""
    failed: str = ""
    """Why the cell has no accuracy, such as NaN among its outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A data set as the database knows it."""

    fingerprint: str
    name: str
    split: str
    labels: _Integers
    classes: tuple[str, ...]


class Store:
    """An SQLite database of results, or one in memory; use it as a context manager.

    Several processes may write at once. What is written is there whole, whatever happens to the writer.
    """

    def __init__(self, path: str | Path | None, *, readonly: bool = False) -> None:
        """Open a database, and make it where it does not exist.

        Args:
            path: The file; None keeps everything in memory.
            readonly: Refuse to make or change anything.

        Raises:
            FileNotFoundError: There is no such file to read.
            ValueError: Not a database of results, one of a newer version, or a place that cannot be written.
        """
        self._locks: int | None = None
        self._path = None if path is None else Path(path)
        address = ":memory:" if self._path is None else _address(self._path, readonly=readonly)
        # Neither the file nor its folder takes what even a reader may have to write.
        self._fixed = "mode=ro" in address or "immutable" in address
        try:
            self._connection = sqlite3.connect(address, uri=True, timeout=60, isolation_level=None)
        except sqlite3.Error as error:
            raise self._explained(error) from None
        self._connection.row_factory = sqlite3.Row
        try:
            self._prepare(readonly=readonly)
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; claims end."""
        self._connection.close()
        if self._locks is not None:
            os.close(self._locks)
            self._locks = None

    def has(self, key: str, *, logits: bool = False) -> bool:
        """Return whether a cell is there and did not fail, with its logits if they are wanted."""
        tables = "cells JOIN logits ON logits.cell = cells.key AND classes > 0" if logits else "cells"
        return bool(self._execute(f"SELECT 1 FROM {tables} WHERE key = ? AND failed = ''", (key,)))

    def add_model(self, fingerprint: str, name: str, *, overlap: Sequence[str] | None = None) -> None:
        """Note a network; one that is there takes the new name, and the overlap unless that is None."""
        kept = "" if overlap is None else ", overlap = excluded.overlap"
        self._execute(
            "INSERT INTO models VALUES (?, ?, ?) "
            f"ON CONFLICT (fingerprint) DO UPDATE SET name = excluded.name{kept}",
            (fingerprint, name, json.dumps(list(overlap or ()))),
        )

    def add_data(self, data: Stored | Source) -> None:
        """Note a data set; one that is there stays as it is."""
        labels = np.ascontiguousarray(data.labels, dtype="<i8").tobytes()
        row = (data.fingerprint, data.name, data.split, len(data.labels), labels, json.dumps(data.classes))
        self._execute("INSERT OR IGNORE INTO data VALUES (?, ?, ?, ?, ?, ?)", row)

    def put(self, cell: Cell, outcome: Outcome, *, images: int | None = None) -> None:
        """Write what a cell gave; a cell that is there stays as it is, unless it failed or lacks logits.

        `images` is the number of images of a cell that failed.
        """
        bits, named = outcome.bits, outcome.predictions
        values = asdict(cell)
        values |= {
            "key": cell.key,
            "images": len(bits) if images is None else images,
            "correct": int(bits.sum()),
            "bits": np.packbits(bits).tobytes(),
            "predictions": None if named is None else _narrow(named).tobytes(),
            "failed": outcome.failed,
            "seconds": outcome.seconds,
            "created": _now(),
            "filterbands": __version__,
        }
        marks = ", ".join(f":{name}" for name in values)
        with self._transaction():
            self._execute("DELETE FROM cells WHERE key = ? AND failed != ''", (cell.key,))
            if outcome.logits is not None:
                # The cell may be there without them.
                lacking = "DELETE FROM cells WHERE key = ? AND key NOT IN (SELECT cell FROM logits)"
                self._execute(lacking, (cell.key,))
            self._execute(f"INSERT OR IGNORE INTO cells ({', '.join(values)}) VALUES ({marks})", values)
            if outcome.calibration_error is not None:
                # A row of 0 classes is the error of logits that were not kept.
                numbers = np.zeros((0, 0)) if outcome.logits is None else outcome.logits
                row = (cell.key, numbers.shape[1], numbers.astype("<f2").tobytes(), outcome.calibration_error)
                self._execute("INSERT OR IGNORE INTO logits VALUES (?, ?, ?, ?)", row)

    def add_folder(self, folder: str, cells: Sequence[Cell], *, by_severity: bool = False) -> None:
        """Note that a folder holds these cells' files, and no longer others of the same kinds.

        With `by_severity` the files of each severity, and those of other images, are files of their own.
        """
        own = " AND severity = :severity AND data = :data" if by_severity else ""
        with self._transaction():
            for cell in cells:
                self._execute(
                    "DELETE FROM folders WHERE folder = :folder AND cell IN "
                    f"(SELECT key FROM cells WHERE kind = :kind AND source != :source{own})",
                    {"folder": folder, **asdict(cell)},
                )
                self._execute("INSERT OR IGNORE INTO folders VALUES (?, ?)", (folder, cell.key))

    def folders(self) -> dict[str, list[str]]:
        """Return the folders that each cell's file was read from, by the cell's key."""
        found: dict[str, list[str]] = {}
        for folder, key in self._execute("SELECT folder, cell FROM folders ORDER BY rowid"):
            found.setdefault(key, []).append(folder)
        return found

    def cells(self, **where: str | int) -> Iterator[tuple[Cell, Outcome]]:
        """Yield cells with these values of their fields and what they gave, oldest first, without logits."""
        names = [field.name for field in fields(Cell)]
        if unknown := ", ".join(set(where) - set(names)):
            raise ValueError(f"cells have no {unknown}; they have {', '.join(names)}")
        condition = " AND ".join(f"{name} = :{name}" for name in where) or "1"
        rows = self._execute(
            f"SELECT {', '.join(names)}, images, bits, predictions, failed, seconds, calibration_error "
            f"FROM cells LEFT JOIN logits ON logits.cell = cells.key WHERE {condition} ORDER BY cells.rowid",
            where,
        )
        for *values, images, packed, named, failed, seconds, error in rows:
            count = 0 if failed else images
            bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=count).astype(bool)
            yield (
                Cell(**dict(zip(names, values, strict=True))),
                Outcome(
                    bits=bits,
                    seconds=seconds,
                    predictions=None if named is None else _wide(named, count),
                    calibration_error=error,
                    failed=failed,
                ),
            )

    def logits(self, key: str) -> np.ndarray[Any, np.dtype[np.float16]] | None:
        """Return a cell's logits (images, classes), less each image's largest; None where none were kept."""
        rows = self._execute("SELECT classes, numbers FROM logits WHERE cell = ?", (key,))
        return np.frombuffer(rows[0][1], "<f2").reshape(-1, rows[0][0]) if rows and rows[0][0] else None

    def overlaps(self) -> dict[str, tuple[str, ...]]:
        """Return by fingerprint which kinds or families of kinds each network's training resembles."""
        rows = self._execute("SELECT fingerprint, overlap FROM models")
        return {fingerprint: tuple(json.loads(overlap)) for fingerprint, overlap in rows}

    def models(self) -> dict[str, str]:
        """Return the networks' names by fingerprint, in the order they came."""
        return dict(self._execute("SELECT fingerprint, name FROM models ORDER BY rowid"))

    def data(self, fingerprint: str) -> Stored:
        """Return a data set that cells name."""
        [(name, split, labels, classes)] = self._execute(
            "SELECT name, split, labels, classes FROM data WHERE fingerprint = ?", (fingerprint,)
        )
        return Stored(
            fingerprint=fingerprint,
            name=name,
            split=split,
            labels=np.frombuffer(labels, "<i8"),
            classes=tuple(json.loads(classes)),
        )

    def delete(self, name: str) -> int:
        """Delete every network of this name with its cells; return how many cells that were.

        Raises:
            ValueError: There is no such network.
        """
        if name not in (names := set(self.models().values())):
            known = ", ".join(sorted(names)) or "none"
            raise ValueError(f"no results of {name!r}; there are results of {known}")
        own = "SELECT fingerprint FROM models WHERE name = ?"
        with self._transaction():
            if self._execute("SELECT 1 FROM sqlite_master WHERE name = 'probes'"):
                theirs = f"SELECT ? || fingerprint FROM ({own})"
                self._execute(f"DELETE FROM probes WHERE probe IN ({theirs})", (_RECORD, name))
            [(count,)] = self._execute(f"SELECT COUNT(*) FROM cells WHERE model IN ({own})", (name,))
            self._execute("DELETE FROM models WHERE name = ?", (name,))
            self._execute("DELETE FROM data WHERE fingerprint NOT IN (SELECT data FROM cells)")
        return int(count)

    def rows(self) -> list[dict[str, Any]]:
        """Return every cell as plain values by column, without its bits."""
        rows = self._execute(
            "SELECT models.name AS name, data.name AS data, data.split AS split, kind, severity, "
            "parameters, version, seed, source, precision, first, step, cells.images AS images, correct, "
            "failed, seconds, created, filterbands, calibration_error, model AS model_fingerprint, "
            "cells.data AS data_fingerprint, key FROM cells "
            "JOIN models ON models.fingerprint = cells.model JOIN data ON data.fingerprint = cells.data "
            "LEFT JOIN logits ON logits.cell = cells.key ORDER BY cells.rowid"
        )
        return [dict(row) for row in rows]

    def claim(self, key: str) -> bool:
        """Return whether this process may work on a cell, which it then has until `release`.

        The claim is an operating system's lock on one byte of a file beside the database, and ends with the
        process, however that ends.
        """
        if self._path is None or os.name != "posix":
            return True
        import fcntl

        if self._locks is None:
            self._locks = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(key[:12], 16))
        except OSError:
            return False
        return True

    def release(self, key: str) -> None:
        """Let others claim a cell again."""
        if self._locks is None:
            return
        import fcntl

        fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, int(key[:12], 16))

    def probed(self, key: str) -> bytes | None:
        """Return what `put_probed` kept under a key; None where there is nothing."""
        if not self._execute("SELECT 1 FROM sqlite_master WHERE name = 'probes'"):
            return None
        rows = self._execute("SELECT content FROM probes WHERE key = ?", (key,))
        return bytes(rows[0][0]) if rows else None

    def put_probed(self, key: str, probe: str, content: bytes) -> None:
        """Keep a finished part of a probe under the sha256 of all that it depends on, once.

        `probe` says for people which probe it is a part of.
        """
        with self._transaction():
            self._execute(PROBES)
            row = (key, probe, content, _now(), __version__)
            self._execute("INSERT OR IGNORE INTO probes VALUES (?, ?, ?, ?, ?)", row)

    def put_record(self, key: str, model: str, content: bytes) -> None:
        """Keep the result of a finished probe of a network, by its fingerprint, once."""
        self.put_probed(key, f"{_RECORD}{model}", content)

    def records(self) -> list[bytes]:
        """Return what `put_record` kept, oldest first."""
        if not self._execute("SELECT 1 FROM sqlite_master WHERE name = 'probes'"):
            return []
        rows = self._execute("SELECT content FROM probes WHERE probe GLOB ? ORDER BY rowid", (f"{_RECORD}*",))
        return [bytes(content) for (content,) in rows]

    def _prepare(self, *, readonly: bool) -> None:
        self._execute("PRAGMA foreign_keys = ON")
        # Tables first: whoever makes the database meanwhile gives it tables and version in one step.
        tables = {name for (name,) in self._execute("SELECT name FROM sqlite_master")}
        present = self._version()
        if present > SCHEMA:
            raise ValueError(
                f"{self._path} was written by a newer version (schema {present}, here {SCHEMA}); update"
            )
        # Before anything is written: the file may be another program's.
        if (tables or readonly) and not (present and {"models", "data", "cells"} <= tables):
            what = "is another program's database" if tables else "is empty"
            raise ValueError(f"{self._path} is not a database of results: it {what}")
        if self._fixed and present < SCHEMA:
            raise ValueError(
                f"{self._path} was written by an older version (schema {present}, here {SCHEMA}) and cannot "
                "be changed; copy it to where it can be written, or make it writable, and open it once"
            )
        if not readonly or present < SCHEMA:
            self._switch_to_wal()
        if present < SCHEMA:
            with self._transaction():
                # Another process may have been here in the meantime.
                for number in range(self._version(), SCHEMA):
                    for statement in MIGRATIONS[number].split(";"):
                        self._execute(statement)
                self._execute(f"PRAGMA user_version = {SCHEMA}")
        if readonly:
            self._execute("PRAGMA query_only = ON")

    def _switch_to_wal(self) -> None:
        # Two processes that open a new database at once cannot both switch it; SQLite does not wait here.
        for attempt in range(100):
            try:
                self._execute("PRAGMA journal_mode = WAL")
                return
            except ValueError as error:
                if attempt == 99 or "locked" not in str(error):
                    raise
                time.sleep(0.05)

    def _version(self) -> int:
        [(number,)] = self._execute("PRAGMA user_version")
        return int(number)

    def _execute(self, statement: str, values: Any = ()) -> list[Any]:
        """Run a statement and return its rows; what goes wrong is a ValueError of one line."""
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._explained(error) from None

    def _explained(self, error: sqlite3.Error) -> ValueError:
        if "not a database" in str(error) or "malformed" in str(error):
            return ValueError(f"{self._path} is not a database of results, or not a whole one: {error}")
        return ValueError(f"the database {self._path} cannot be used: {error}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._execute("BEGIN IMMEDIATE")
        try:
            with self._connection:
                yield
        except sqlite3.Error as error:
            raise self._explained(error) from None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _narrow(numbers: _Integers) -> np.ndarray[Any, np.dtype[Any]]:
    """Return class numbers in the narrowest type."""
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))).newbyteorder("<"))


def _wide(packed: bytes, count: int) -> _Integers:
    return np.frombuffer(packed, f"<u{len(packed) // count}" if count else "<u1").astype(np.int64)


def _address(path: Path, *, readonly: bool) -> str:
    """Return the URI that opens a database."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a database of results")
    # What is in the file is left to SQLite to find out: closing another handle of it would end the locks
    # that this process holds on it by other connections.
    address = path.resolve().as_uri()
    if not readonly:
        check_output(path)
        return f"{address}?mode=rwc"
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    if all(os.access(place, os.W_OK) for place in (path, path.resolve().parent)):
        # SQLite makes files beside the database even to read it. A connection that may write takes them
        # away again when it closes, and `query_only` keeps it from writing anything else.
        return f"{address}?mode=rw"
    # Nothing can be made here; without a journal there is also nobody to wait for.
    return f"{address}?mode=ro" if Path(f"{path.resolve()}-wal").exists() else f"{address}?immutable=1"
