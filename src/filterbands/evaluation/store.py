"""The database of results, and the only SQLite: a row per cell, its key a hash of all it depends on."""

import contextlib
import json
import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from ..version import __version__
from .address import Claims, address_of
from .rows import (
    COLUMNS,
    LOGITS,
    ROW,
    TABLE,
    Cell,
    Integers,
    Outcome,
    Stored,
    by_name,
    check_text,
    checksum,
    is_whole,
    packed,
    packed_data,
    read_data,
    read_overlap,
    read_row,
)
from .schema import MIGRATIONS, OLDEST_READ, SCHEMA, check_version, plain_tables
from .sources import Source

# What a finished probe's row is called, before the fingerprint of its network.
_RECORD = "result of "
_CELLS = (
    f"SELECT {', '.join(field.name for field in fields(Cell))}, {COLUMNS}, {LOGITS} "
    "FROM cells LEFT JOIN logits ON logits.cell = cells.key"
)
_LOG = logging.getLogger(__name__)


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
        self._path = None if path is None else Path(path)
        self._claims = Claims(self._path)
        address = ":memory:" if self._path is None else address_of(self._path, readonly=readonly)
        # Neither the file nor its folder takes what even a reader may have to write.
        self._fixed = "mode=ro" in address or "immutable" in address
        try:
            self._connection = sqlite3.connect(address, uri=True, timeout=60, isolation_level=None)
        except sqlite3.Error as error:
            raise self._explained(error) from None
        self._connection.row_factory = sqlite3.Row
        self._labels: dict[str, Integers | None] = {}
        self._said: set[str] = set()
        self._noted: dict[str, dict[str, Any]] = {}
        self._file = self._identity()
        try:
            self._prepare(readonly=readonly)
            self._file = self._identity()
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
        self._claims.close()

    def has(self, key: str, *, logits: bool = False) -> bool:
        """Return whether a cell is there, whole and not failed, with its logits if they are wanted."""
        found = self._outcome(key)
        return found is not None and not found.failed and (not logits or self.logits(key) is not None)

    def add_model(self, fingerprint: str, name: str, *, overlap: Sequence[str] | None = None) -> None:
        """Note a network and a name of it; one that is there takes the overlap unless that is None."""
        kept = "NOTHING" if overlap is None else "UPDATE SET overlap = excluded.overlap"
        with self._transaction():
            self._execute(
                f"INSERT INTO models VALUES (?, ?, ?) ON CONFLICT (fingerprint) DO {kept}",
                (fingerprint, name, json.dumps(list(overlap or ()))),
            )
            self._execute("INSERT OR IGNORE INTO names VALUES (?, ?)", (fingerprint, name))

    def add_data(self, data: Stored | Source) -> None:
        """Note a data set; one that is there stays as it is, unless its row is damaged."""
        values = self._noted[data.fingerprint] = packed_data(data)
        with self._transaction():
            self._insert("OR IGNORE INTO data", values)
            try:
                self.data(data.fingerprint)
            except ValueError:
                where = self._path, data.name
                _LOG.warning("%s: the row of the data set %s was damaged; it is written anew", *where)
                changed = ", ".join(f"{name} = :{name}" for name in values)
                self._execute(f"UPDATE data SET {changed} WHERE fingerprint = :fingerprint", values)
        self._labels.clear()

    def put(self, cell: Cell, outcome: Outcome, *, images: int | None = None) -> None:
        """Write what a cell gave; one that is there stays, unless it failed, is damaged or lacks more.

        What it may lack are the logits or the calibration error that this one has. `images` is the number of
        images of a cell that failed.

        Raises:
            ValueError: The file cannot be written, or was taken away since it was opened.
        """
        values = packed(cell, outcome, images=images) | {"created": _now(), "filterbands": __version__}
        with self._transaction():
            folders = []
            if (found := self._outcome(cell.key)) is not None:
                if not found.failed and not self._lacks(cell.key, found, outcome):
                    return
                if found.is_damaged:
                    _LOG.warning("%s: %s was computed anew, since %s", self._path, cell, found.failed)
                elif not found.failed:
                    folders = self._execute("SELECT * FROM folders WHERE cell = ?", (cell.key,))
                self._execute("DELETE FROM cells WHERE key = ?", (cell.key,))
            for table in ("logits", "folders"):
                # Of a cell that was taken out by another program, without its parts.
                self._execute(f"DELETE FROM {table} WHERE cell = ?", (cell.key,))
            if noted := self._noted.get(cell.data):
                # Whoever has deleted the last network on these images has deleted them too.
                self._insert("OR IGNORE INTO data", noted)
            self._insert("INTO cells", values)
            if outcome.calibration_error is not None:
                # A row of 0 classes is the error of logits that were not kept.
                kept = np.zeros((0, 0)) if outcome.logits is None else outcome.logits
                numbers = kept.astype("<f2").tobytes()
                error, known = outcome.calibration_error, checksum(cell.key, numbers)
                row = (cell.key, kept.shape[1], numbers, error, known)
                self._execute("INSERT INTO logits VALUES (?, ?, ?, ?, ?)", row)
            for folder in folders:
                self._execute("INSERT INTO folders VALUES (?, ?, ?)", tuple(folder))

    def _lacks(self, key: str, found: Outcome, given: Outcome) -> bool:
        """Return whether a cell that is there lacks the logits or the calibration error that were given."""
        lacks_error = found.calibration_error is None and given.calibration_error is not None
        return lacks_error or (given.logits is not None and self.logits(key) is None)

    def add_folder(
        self, folder: str, cells: Sequence[Cell], *, by_severity: bool = False, seed: int | None = None
    ) -> None:
        """Note that a folder holds these cells' files, and no longer others of the same kinds.

        With `by_severity` the files of each severity, and those of other images, are files of their own.
        `seed` is that of the copy.
        """
        own = " AND severity = :severity AND data = :data" if by_severity else ""
        with self._transaction():
            for cell in cells:
                self._execute(
                    "DELETE FROM folders WHERE folder = :folder AND cell IN "
                    f"(SELECT key FROM cells WHERE kind = :kind AND source != :source{own})",
                    {"folder": folder, **asdict(cell)},
                )
                self._execute(
                    "INSERT INTO folders VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET seed = excluded.seed",
                    (folder, cell.key, seed),
                )

    def folders(self) -> dict[str, dict[str, int | None]]:
        """Return by a cell's key the folders that its file was read from, with the seed of each copy."""
        found: dict[str, dict[str, int | None]] = {}
        seed = "seed" if self._version() > OLDEST_READ else "NULL"
        for folder, key, known in self._execute(f"SELECT folder, cell, {seed} FROM folders ORDER BY rowid"):
            if isinstance(folder, str) and isinstance(key, str):
                found.setdefault(key, {})[folder] = known if isinstance(known, int) else None
            else:
                self._say(f"a folder of the cell {key!s:.12} is damaged and left out")
        return found

    def cells(self, **where: str | int) -> Iterator[tuple[Cell, Outcome]]:
        """Yield cells with these values of their fields and what they gave, oldest first, without logits."""
        names = [field.name for field in fields(Cell)]
        if unknown := ", ".join(set(where) - set(names)):
            raise ValueError(f"cells have no {unknown}; they have {', '.join(names)}")
        condition = " AND ".join(f"{name} = :{name}" for name in where) or "1"
        for _, cell, outcome in self._read(condition, where):
            yield cell, outcome

    def logits(self, key: str) -> np.ndarray[Any, np.dtype[np.float16]] | None:
        """Return a cell's logits (images, classes), less each image's largest; None where none are whole."""
        for classes, numbers, known in self._execute(
            "SELECT classes, numbers, checksum FROM logits WHERE cell = ? AND classes > 0", (key,)
        ):
            is_plain = isinstance(classes, int) and isinstance(numbers, bytes)
            if is_plain and len(numbers) % (2 * classes) == 0 and known in ("", checksum(key, numbers)):
                return np.frombuffer(numbers, "<f2").reshape(-1, classes)
        return None

    def overlaps(self) -> dict[str, tuple[str, ...]]:
        """Return by fingerprint which kinds or families of kinds each network's training resembles.

        Raises:
            ValueError: A row is damaged.
        """
        rows = self._execute("SELECT fingerprint, overlap FROM models WHERE typeof(fingerprint) = 'text'")
        return {fingerprint: read_overlap(fingerprint, overlap, self._path) for fingerprint, overlap in rows}

    def names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each network by fingerprint, in the order they came."""
        return self._texts(
            "SELECT model, names.name FROM names JOIN models ON models.fingerprint = names.model "
            "ORDER BY models.rowid, names.rowid",
            "a name of the network",
        )

    def data(self, fingerprint: str) -> Stored:
        """Return a data set that cells name.

        Raises:
            ValueError: Its row is damaged.
        """
        rows = self._execute("SELECT * FROM data WHERE fingerprint = ?", (fingerprint,))
        if not rows:
            raise ValueError(f"{self._path} holds no data set {fingerprint!s:.12}; evaluate a network on it")
        try:
            return read_data(by_name(rows[0]))
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from None

    def delete(self, name: str) -> int:
        """Delete a name, with the cells of every network that has no other; return how many cells that were.

        Raises:
            ValueError: There is no such network.
        """
        known = sorted({one for names in self.names().values() for one in names})
        if name not in known:
            raise ValueError(f"no results of {name!r}; there are results of {', '.join(known) or 'none'}")
        own = "SELECT fingerprint FROM models WHERE fingerprint NOT IN (SELECT model FROM names)"
        with self._transaction():
            self._execute("DELETE FROM names WHERE name = ?", (name,))
            theirs = f"SELECT ? || fingerprint FROM ({own})"
            self._execute(f"DELETE FROM probes WHERE probe IN ({theirs})", (_RECORD,))
            # Data without cells may be of a process that computes its first one.
            used = self._execute(f"SELECT data, COUNT(*) FROM cells WHERE model IN ({own}) GROUP BY data")
            self._execute(f"DELETE FROM models WHERE fingerprint IN ({own})")
            unused = "fingerprint = :data AND NOT EXISTS (SELECT 1 FROM cells WHERE data = :data)"
            for data, _ in used:
                self._execute(f"DELETE FROM data WHERE {unused}", {"data": data})
        return sum(count for _, count in used)

    def rows(self) -> list[dict[str, Any]]:
        """Return every cell as plain values by column, without its bits; a damaged one as one that failed.

        A value that is damaged and of another type is None.
        """
        damaged = {key: outcome.failed for key, _, outcome in self._read("1", {}) if outcome.is_damaged}
        none = {"correct": 0, "seconds": None, "calibration_error": None}
        return [
            {name: value if type(value) is ROW[name] else None for name, value in by_name(row).items()}
            | ({**none, "failed": damaged[row["key"]]} if row["key"] in damaged else {})
            for row in self._execute(TABLE)
        ]

    def claim(self, key: str) -> bool:
        """Return whether this process may work on a cell, which it then has until `release`; see `Claims`."""
        return self._claims.take(key)

    def release(self, key: str) -> None:
        """Let others claim a cell again."""
        self._claims.release(key)

    def probed(self, key: str) -> bytes | None:
        """Return what `put_probed` kept under a key; None where nothing is, or something damaged, said."""
        for probe, content, known in self._execute(
            "SELECT probe, content, checksum FROM probes WHERE key = ?", (key,)
        ):
            if is_whole(key, content, known):
                return bytes(content)
            _LOG.warning("%s: a part of the probe %s is damaged; it is computed anew", self._path, probe)
        return None

    def put_probed(self, key: str, probe: str, content: bytes) -> None:
        """Keep a finished part of a probe under the sha256 of all that it depends on.

        `probe` says for people which probe it is a part of.
        """
        with self._transaction():
            row = (key, probe, content, _now(), __version__, checksum(key, content))
            self._execute("INSERT OR REPLACE INTO probes VALUES (?, ?, ?, ?, ?, ?)", row)

    def _read(self, condition: str, values: Any) -> Iterator[tuple[str, Cell, Outcome]]:
        """Yield the key, the cell and what it gave of rows that fulfil a condition."""
        for row in self._execute(f"{_CELLS} WHERE {condition} ORDER BY cells.rowid", values):
            yield row["key"], *read_row(by_name(row), self._labels_of(row["data"]))

    def _outcome(self, key: str) -> Outcome | None:
        return next((outcome for _, _, outcome in self._read("key = ?", (key,))), None)

    def _labels_of(self, fingerprint: Any) -> Integers | None:
        """Return the labels of a data set; None of one that is not there."""
        if fingerprint not in self._labels:
            there = self._execute("SELECT 1 FROM data WHERE fingerprint = ?", (fingerprint,))
            self._labels[fingerprint] = self.data(fingerprint).labels if there else None
        return self._labels[fingerprint]

    def _identity(self) -> tuple[int, int] | None:
        """Return which file the database is now; None of one in memory, or of none."""
        found = None
        with contextlib.suppress(FileNotFoundError):
            found = None if self._path is None else self._path.stat()
        return None if found is None else (found.st_dev, found.st_ino)

    def put_record(self, key: str, model: str, content: bytes) -> None:
        """Keep the result of a finished probe of a network, by its fingerprint, once."""
        if self.probed(key) is None:
            self.put_probed(key, f"{_RECORD}{model}", content)

    def records(self, *, of_networks: bool) -> list[tuple[str, bytes]]:
        """Return key and content of what `put_record` kept of networks, or of none; damaged ones are said."""
        probe, found = f"{_RECORD}?*" if of_networks else _RECORD, []
        statement = "SELECT key, content, checksum FROM probes WHERE probe GLOB ? ORDER BY rowid"
        for key, content, known in self._execute(statement, (probe,)):
            if is_whole(key, content, known):
                found.append((key, content))
            else:
                self.say_damaged(key)
        return found

    def say_damaged(self, key: object) -> None:
        """Say that the record of a finished probe holds something else."""
        self._say(f"the finished probe {key!s:.12} is damaged and left out; probe writes it anew")

    def _texts(self, statement: str, what: str) -> dict[str, tuple[str, ...]]:
        """Return the texts of rows (key, text) by key; what is no text is left out, said."""
        found: dict[str, tuple[str, ...]] = {}
        for key, text in self._execute(statement):
            if isinstance(text, str) and isinstance(key, str):
                found[key] = (*found.get(key, ()), text)
            else:
                self._say(f"{what} {key!s:.12} is damaged and left out")
        return found

    def _say(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            _LOG.warning("%s: %s", self._path, what)

    def _prepare(self, *, readonly: bool) -> None:
        self._execute("PRAGMA foreign_keys = ON")
        # On macOS, whose plain flush stops at the disk's own memory; elsewhere without effect.
        self._execute("PRAGMA fullfsync = ON")
        # Tables first: whoever makes the database meanwhile gives it both in one step.
        tables = plain_tables(self._execute("SELECT name, sql FROM sqlite_master"), self._path)
        present = self._version()
        check_version(present, tables, self._path, reads=readonly, fixed=self._fixed)
        if not readonly or (present < SCHEMA and not self._fixed):
            self._switch_to_wal()
        if present < SCHEMA and not self._fixed:
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
        except UnicodeEncodeError as error:
            check_text(f"what {self._path} holds", error.object)
            raise

    def _insert(self, into: str, values: dict[str, Any]) -> None:
        marks = ", ".join(f":{name}" for name in values)
        self._execute(f"INSERT {into} ({', '.join(values)}) VALUES ({marks})", values)

    def _explained(self, error: sqlite3.Error) -> ValueError:
        if "FOREIGN KEY" in str(error):
            return ValueError(
                f"{self._path}: results of this network were deleted meanwhile; run the same command again"
            )
        if "not a database" in str(error) or "malformed" in str(error):
            return ValueError(f"{self._path} is not a database of results, or not a whole one: {error}")
        more = "; is the disk or a quota full, or ulimit -f reached?" if "disk I/O" in str(error) else ""
        return ValueError(f"the database {self._path} cannot be used: {error}{more}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._execute("BEGIN IMMEDIATE")
        try:
            with self._connection:
                yield
        except sqlite3.Error as error:
            raise self._explained(error) from None
        if self._identity() != self._file:
            raise ValueError(
                f"{self._path} was deleted or replaced while results were written to it, and they are lost; "
                "run the same command again"
            )
        with contextlib.suppress(sqlite3.Error), contextlib.ExitStack() as stack:
            # From the journal into the file, which alone holds all of it then, unless others are reading it.
            stack.callback(self._connection.execute, "PRAGMA busy_timeout = 60000")
            for step in ("busy_timeout = 0", "wal_checkpoint(TRUNCATE)"):
                self._connection.execute(f"PRAGMA {step}").fetchall()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
