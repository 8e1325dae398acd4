"""Where a database of results lies: how SQLite opens it, and the locks of those who work on its cells."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from ..disk import check_input, check_output
from ..platforms import NoLocksError, check_lock, database_address, lock, open_lock, unlock

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Claims:
    """The cells that this process works on: locks of bytes of a file beside the database.

    They are the operating system's, and end with the process, however that ends. A database in memory, whose
    path is None, has no other process.
    """

    path: Path | None
    handle: int | None = None
    """Of the file, once a cell was claimed."""
    works: bool = True
    """Whether there are locks here."""

    def take(self, key: str) -> bool:
        """Return whether this process may work on a cell, which it then has until `release`."""
        if self.path is None or not self.works:
            return True
        if self.handle is None:
            self.handle = open_lock(_lock_of(self.path))
        try:
            return lock(self.handle, byte=_byte(key))
        except NoLocksError as error:
            self.works = False
            _LOG.warning(
                "%s cannot be locked (%s); let one process alone write there", self.path, error.strerror
            )
            return True

    def release(self, key: str) -> None:
        """Let others claim a cell again."""
        if self.handle is not None:
            unlock(self.handle, byte=_byte(key))

    def close(self) -> None:
        """Release all cells."""
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None


def _byte(key: str) -> int:
    return int(key[:12], 16)


def _lock_of(path: Path) -> Path:
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
        check_lock(_lock_of(path))
        return f"{address}?mode=rwc"
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    if all(os.access(place, os.W_OK) for place in (path, path.resolve().parent)):
        # SQLite makes files beside the database even to read it. A connection that may write takes them
        # away again when it closes, and `query_only` keeps it from writing anything else.
        return f"{address}?mode=rw"
    # Nothing can be made here; without a journal there is also nobody to wait for.
    journal, shared = (Path(f"{path.resolve()}{end}") for end in ("-wal", "-shm"))
    if not journal.exists() or not journal.stat().st_size:
        return f"{address}?immutable=1"
    if not shared.exists():
        raise ValueError(
            f"{path} cannot be read where nothing can be written, since {journal.name} holds results too; "
            "copy both to a folder that can be written, and read the copy"
        )
    return f"{address}?mode=ro"
