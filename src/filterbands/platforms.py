"""What differs between Linux, macOS and Windows: locks, flushing, replacing and mapping files, addresses."""

import errno
import os
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

IS_WINDOWS = sys.platform == "win32"


def _module(name: str) -> Any:
    """Return a module that one operating system has; None elsewhere."""
    try:
        return import_module(name)
    except ImportError:
        return None


_fcntl, _msvcrt = _module("fcntl"), _module("msvcrt")
_TAKEN = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
# Windows lets no file be replaced that a scanner or an index reads, for a moment.
_MOMENTS = 20


class NoLocksError(OSError):
    """There are no locks here, or not on this file system."""


def open_lock(file: Path) -> int:
    """Return a handle of a lock's file, which is made where it does not exist.

    Raises:
        ValueError: A link or something else than a file is there.
    """
    check_lock(file)
    # Windows has neither of these two.
    careful = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.open(file, os.O_RDWR | os.O_CREAT | careful, 0o666)


def check_lock(file: Path) -> None:
    """Raise ValueError where a link or something else than a file is: what is locked must be our own."""
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise ValueError(f"cannot lock {file}: it is a link, a folder, a device or a pipe; remove it")


def lock(handle: int, *, byte: int | None = None) -> bool:
    """Take the lock of an open file, or of one of its bytes, until it is closed or the process ends.

    Returns:
        False where another process holds it.

    Raises:
        NoLocksError: There are no locks here.
    """
    try:
        if _fcntl is not None and byte is None:
            _fcntl.flock(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        elif _fcntl is not None:
            _fcntl.lockf(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB, 1, byte)
        elif _msvcrt is not None:
            _seek(handle, byte)
            _msvcrt.locking(handle, _msvcrt.LK_NBLCK, 1)
        else:
            raise NoLocksError(errno.ENOTSUP, "this system has no locks of files")
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise NoLocksError(error.errno, error.strerror) from None
    return True


def unlock(handle: int, *, byte: int) -> None:
    """Let others lock a byte again."""
    with suppress(OSError):
        if _fcntl is not None:
            _fcntl.lockf(handle, _fcntl.LOCK_UN, 1, byte)
        elif _msvcrt is not None:
            _seek(handle, byte)
            _msvcrt.locking(handle, _msvcrt.LK_UNLCK, 1)


def _seek(handle: int, byte: int | None) -> None:
    # The C library of Windows takes places of 31 bits. Two bytes that fall together wait for each other.
    os.lseek(handle, (byte or 0) & 0x7FFFFFFF, os.SEEK_SET)


def hold(file: Path) -> int | None:
    """Return a handle that holds the lock of a file, for `let_go`; None where another process holds it.

    Raises:
        NoLocksError: There are no locks here.
        ValueError: A link or something else than a file is there.
    """
    while True:
        handle, is_ours = open_lock(file), False
        try:
            if not lock(handle):
                return None
            # Who has held the lock before removes its file, which POSIX allows while it is open.
            with suppress(FileNotFoundError):
                is_ours = _fcntl is None or os.path.samestat(os.fstat(handle), file.stat())
            if is_ours:
                return handle
        finally:
            if not is_ours:
                os.close(handle)


def let_go(handle: int, file: Path) -> None:
    """End the lock that `hold` took, and remove its file."""
    if _fcntl is not None:
        # First, so that nobody locks a file that is about to vanish.
        with suppress(OSError):
            file.unlink(missing_ok=True)
        os.close(handle)
        return
    os.close(handle)
    # Windows refuses while another process has it open, which then removes it.
    with suppress(OSError):
        file.unlink(missing_ok=True)


def flush(file: Path) -> None:
    """Return when a finished file is on the disk."""
    # Windows flushes what is open for writing alone.
    with file.open("r+b") as stream:
        if hasattr(_fcntl, "F_FULLFSYNC"):
            # On macOS fsync leaves the file in the disk's own memory; some file systems know nothing better.
            with suppress(OSError):
                _fcntl.fcntl(stream.fileno(), _fcntl.F_FULLFSYNC)
                return
        os.fsync(stream.fileno())


def replace(finished: Path, path: Path) -> None:
    """Move a file or folder to its place in one step, in place of a file that is there."""
    for moment in range(_MOMENTS):
        try:
            finished.replace(path)
            return
        except PermissionError:
            if not IS_WINDOWS or moment == _MOMENTS - 1:
                raise
            time.sleep(0.1)


def maps_files() -> bool:
    """Return whether files may stay mapped: Windows lets no mapped file be replaced or removed."""
    return not IS_WINDOWS


def database_address(file: PurePath) -> str:
    r"""Return the URI by which SQLite opens an absolute path, on a share of a network too.

    >>> from pathlib import PureWindowsPath
    >>> database_address(PureWindowsPath(r"\\server\share\a b.db"))
    'file:////server/share/a%20b.db'
    """
    # SQLite knows no other machines, so that `as_uri`, which names one, is refused.
    text = quote(file.as_posix(), safe="/:", errors="surrogateescape")
    return f"file://{'' if text.startswith('/') else '/'}{text}"
