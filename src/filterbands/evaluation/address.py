"""Where a database of results lies: how SQLite opens it, and the file of its locks."""

import os
from pathlib import Path

from ..disk import check_input, check_output
from ..platforms import check_lock, database_address


def lock_of(path: Path) -> Path:
    """Return the file whose bytes are locked by those who work on a cell."""
    return path.with_name(f"{path.name}.lock")


def address_of(path: Path, *, readonly: bool) -> str:
    """Return the URI that opens a database.

    Raises:
        FileNotFoundError: There is no such file to read.
        ValueError: A folder, a pipe or a device, or a place that cannot be written.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a database of results")
    if path.exists():
        check_input(path)
    # What is in the file is left to SQLite to find out: closing another handle of it would end the locks
    # that this process holds on it by other connections.
    address = database_address(path.resolve())
    if not readonly:
        check_output(path)
        check_lock(lock_of(path))
        return f"{address}?mode=rwc"
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    if all(os.access(place, os.W_OK) for place in (path, path.resolve().parent)):
        # SQLite makes files beside the database even to read it. A connection that may write takes them
        # away again when it closes, and `query_only` keeps it from writing anything else.
        return f"{address}?mode=rw"
    # Nothing can be made here; without a journal there is also nobody to wait for.
    return f"{address}?mode=ro" if Path(f"{path.resolve()}-wal").exists() else f"{address}?immutable=1"
