"""The tables of the database of results, and how those of older versions become the present ones."""

import re
from collections.abc import Iterable
from typing import Any

SCHEMA = 4
"""Number of the present schema, kept in the database's `user_version`."""
OLDEST_READ = 3
"""The oldest schema that is read as it is, where the database cannot be changed."""

_TABLES = """
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
# Predictions are of the width that the classes need; a failed cell has a reason and no bits. A cell of a file
# may have been read from several folders, and a folder may come to hold another file.
_SECOND = """
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
)
"""
# A network has any number of names, in the order they came; the column `name` of models is not read any more.
# A checksum is empty in rows of before. The probes of schema 2 were made when the first part was kept.
_THIRD = """
CREATE TABLE names (
  model TEXT NOT NULL REFERENCES models ON DELETE CASCADE,
  name TEXT NOT NULL,
  PRIMARY KEY (model, name)
);
INSERT INTO names SELECT fingerprint, name FROM models ORDER BY rowid;
CREATE TABLE IF NOT EXISTS probes (
  key TEXT PRIMARY KEY,
  probe TEXT NOT NULL,
  content BLOB NOT NULL,
  created TEXT NOT NULL,
  filterbands TEXT NOT NULL
);
ALTER TABLE cells ADD COLUMN checksum TEXT NOT NULL DEFAULT '';
ALTER TABLE data ADD COLUMN checksum TEXT NOT NULL DEFAULT '';
ALTER TABLE logits ADD COLUMN checksum TEXT NOT NULL DEFAULT '';
ALTER TABLE probes ADD COLUMN checksum TEXT NOT NULL DEFAULT ''
"""
# The seed of a copy as its record named it when the file was read; null where no record did.
_FOURTH = "ALTER TABLE folders ADD COLUMN seed INTEGER"
# From schema n to n + 1: MIGRATIONS[n]. The first one makes a database.
MIGRATIONS = (_TABLES, _SECOND, _THIRD, _FOURTH)

_OWN = frozenset(re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", "".join(MIGRATIONS)))
_NAME = r'("[^"]*"|[^\s("]+)'
_TABLE = re.compile(rf"create (virtual )?table {_NAME}")
_VIEW = re.compile(rf"create view {_NAME}")
_INDEX = re.compile(rf"create (?:unique )?index {_NAME} on {_NAME}")
_OWN_INDEX = "create index cells_of_a_model on cells (model, data)"
# What makes a table compute something when it is read or written; the tables above have none of it.
_COMPUTES = re.compile(r"\b(check|generated|collate|as)\b|\bdefault ?\(")


def check_version(present: int, tables: set[str], place: object, *, reads: bool, fixed: bool) -> None:
    """Raise ValueError unless a database is one of results that can be read, or a new one.

    Args:
        present: Its version.
        tables: The names of its tables.
        place: The database, for the error.
        reads: Whether it is only read, and must be there.
        fixed: Whether it cannot be brought up to date.
    """
    if present < 0:
        raise ValueError(f"{place} is damaged: its version is {present}; bring it back, or name another")
    if present > SCHEMA:
        raise ValueError(f"{place} was written by a newer version (schema {present}, here {SCHEMA}); update")
    # Before anything is written: the file may be another program's.
    if (tables or reads) and not (present and {"models", "data", "cells"} <= tables):
        what = "is another program's database" if tables else "is empty"
        raise ValueError(f"{place} is not a database of results: it {what}")
    if fixed and present < OLDEST_READ:
        raise ValueError(
            f"{place} was written by an older version (schema {present}, here {SCHEMA}) and cannot "
            "be changed; copy it to where it can be written, or make it writable, and open it once"
        )


def plain_tables(entries: Iterable[Any], place: object) -> set[str]:
    """Return the names of a database's tables; what others have added to it may stay where it runs nothing.

    Args:
        entries: The name and the statement of every table, view, index and trigger.
        place: The database, for the error.

    Raises:
        ValueError: A view or a computed column stands where one of our tables is expected, or something
            would run when these are read or written.
    """
    tables = set()
    for name, statement in entries:
        text = " ".join(str(statement).lower().split())
        own = False
        if statement is None:
            # The index of a primary key.
            continue
        if found := _TABLE.match(text):
            table = found[2].strip('"')
            own = table in _OWN and bool(found[1] or _COMPUTES.search(text))
            tables.add(table)
        elif found := _VIEW.match(text):
            own = found[1].strip('"') in _OWN
        elif found := _INDEX.match(text):
            own = found[2].strip('"') in _OWN and text != _OWN_INDEX
        if found is None or own:
            raise ValueError(
                f"{place} is refused: {name!s:.60} in it is no plain table and could run anything when "
                "results are read; results are in plain tables alone: take this out, or name another database"
            )
    return tables
