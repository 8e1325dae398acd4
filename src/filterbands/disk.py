"""Files that are written whole or not at all, checks of paths, locks, tables in three formats and pandas."""

import csv
import errno
import json
import logging
import math
import os
import shutil
import stat
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from numpy.lib import format as npy
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from .platforms import NoLocksError, flush, hold, let_go, replace

Row = Mapping[str, Any]
"""A row of a table: the values by column."""

JSON = 64 << 20
"""Most bytes of a file of JSON."""

DAMAGED = (
    *(ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError),
    *(RuntimeError, KeyError, OverflowError, MemoryError, TypeError, SyntaxError, tokenize.TokenError),
)
"""What reading an archive of arrays raises that is damaged, encrypted or compressed in another way."""

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_LOG = logging.getLogger(__name__)
# Bytes that the contents of an archive may take, and times its own bytes where that is more.
_UNPACKED, _RATIO = 1 << 30, 20
_UNFINISHED = ".unfinished-"
_LOCK = ".lock"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# How a database begins.
_SQLITE = b"SQLite format 3\0"
# Bytes left on a disk that is full, as libraries that give no reason have found it.
_FULL = 1 << 20


def write_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata as a safetensors file, whole or not at all."""
    plain: dict[str, Tensor] = {}
    seen = set()
    for name, tensor in weights.items():
        one = tensor.detach().cpu().contiguous()
        place = one.untyped_storage().data_ptr()
        # A module under two names, or tied weights: safetensors takes each memory once.
        plain[name] = one.clone() if place in seen else one
        seen.add(place)
    write_whole(path, lambda file: save_file(plain, file, metadata=dict(metadata)))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it to `path` in one step.

    Where `path` is a link, the file that it leads to is replaced.

    Raises:
        ValueError: Something else than a file is there, such as a device, or a database.
        OSError: The disk is full, or the file cannot be written; an earlier file is still whole.
    """
    _check_replaceable(path)
    _check_no_database(path)
    target = path.resolve() if path.is_symlink() else path
    try:
        with working_folder(target.parent) as work:
            temporary = work / target.name
            write(temporary)
            # Some libraries make private files, but results must have the usual permissions.
            temporary.chmod(0o666 & ~_umask())
            put_in_place(temporary, target)
    except (OSError, SafetensorError, RuntimeError) as error:
        told = _unwritten(path, error)
        if told is None:
            raise
        raise told from error


def _unwritten(path: Path, error: Exception) -> OSError | None:
    """Return the error of a file that was not written, which names the file; None for other errors."""
    if isinstance(error, OSError):
        number, told = error.errno, error.strerror or str(error)
    elif isinstance(error, SafetensorError) or "file" in str(error) or "unexpected pos" in str(error):
        # These libraries give the text alone.
        number, told = errno.EIO, " ".join(str(error).split())
        if "No space left" in told or shutil.disk_usage(path.parent).free < _FULL:
            number, told = errno.ENOSPC, os.strerror(errno.ENOSPC)
        else:
            told += "; is a quota or a limit of file sizes (ulimit -f) reached?"
    else:
        return None
    more = "; free some space and run it again" if number in _NO_SPACE else ""
    return OSError(number, f"cannot be written: {told}{more}", str(path))


@contextmanager
def working_folder(parent: Path) -> Iterator[Path]:
    """Yield a hidden folder for unfinished files in `parent`, after removing those of killed processes.

    A process holds a lock of the operating system on its folder, which ends with the process.
    """
    for stale in parent.glob(f"{_UNFINISHED}*"):
        with suppress(OSError, ValueError):
            if not stale.is_symlink() and (handle := hold(stale / _LOCK)) is not None:
                _remove(stale, handle)
    while True:
        work = Path(tempfile.mkdtemp(dir=parent, prefix=_UNFINISHED))
        try:
            handle = hold(work / _LOCK)
        except NoLocksError:
            handle = None
            break
        except FileNotFoundError:
            # Another process has taken it for a stale one.
            continue
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        if handle is not None:
            break
    try:
        yield work
    finally:
        _remove(work, handle)


def _remove(work: Path, handle: int | None) -> None:
    # While the lock is held, so that nobody makes a folder that is about to vanish their own.
    shutil.rmtree(work, ignore_errors=True)
    if handle is not None:
        let_go(handle, work / _LOCK)
        # Windows removes no file that is open.
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold the lock of an output folder; the operating system ends it with the process, for any reason.

    Raises:
        ValueError: Another process holds it.
    """
    file = folder / _LOCK
    try:
        handle = hold(file)
    except NoLocksError as error:
        _LOG.warning("%s cannot be locked (%s); let one process alone write there", folder, error.strerror)
        yield
        return
    if handle is None:
        raise ValueError(f"another process is writing into {folder}; wait for it, or name another folder")
    try:
        yield
    finally:
        let_go(handle, file)


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, whole or not at all."""
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8", newline="\n"))


def put_in_place(finished: Path, path: Path) -> None:
    """Move a finished file or folder to `path` in one step; a file is first flushed to the disk."""
    if finished.is_file():
        _check_replaceable(path)
        flush(finished)
    replace(finished, path)


def cache_folder() -> Path:
    """Return the folder of fetched data, `${XDG_CACHE_HOME:-~/.cache}/filterbands`; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # The XDG specification says that relative paths are ignored.
        root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    except RuntimeError:
        raise ValueError("there is no home folder for fetched data; set HOME or XDG_CACHE_HOME") from None
    return root / "filterbands"


def check_output(path: str | Path, *, replaced: bool = False) -> Path:
    """Return the path of an output file, after a check that it can be written.

    Args:
        path: The file.
        replaced: Whether what is there is replaced, and not added to: then it may be no database.

    Raises:
        ValueError: The folder does not exist, something else than a file is there, such as a folder, a device
            or a link to nothing, or the file cannot be written or replaced.
    """
    file = Path(path)
    parent = file.parent
    if not parent.is_dir():
        raise ValueError(f"cannot write {file}: there is no folder {parent}; create it first")
    _check_replaceable(file)
    # What is written goes beside the file that a link leads to.
    parent = file.resolve().parent
    if not all(os.access(place, os.W_OK) for place in (file, parent) if place.exists()):
        raise ValueError(f"cannot write {file}: no permission")
    if replaced:
        _check_no_database(file)
    return file


def make_folder(path: str | Path) -> Path:
    """Return an output folder, created if needed, after a check that files can be written in it.

    Raises:
        ValueError: The folder cannot be created or written, or holds a device, a pipe or a link that leads
            out of it, or has the name of unfinished files.
    """
    folder = Path(path)
    if folder.name.startswith(_UNFINISHED):
        raise ValueError(
            f"{folder} has the name of an unfinished result, which is removed; choose another name"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        found = list(folder.iterdir())
    except OSError as error:
        raise ValueError(f"cannot write into the folder {folder}: {error.strerror}") from None
    for entry in found:
        if not entry.is_dir():
            _check_replaceable(entry)
        if entry.is_symlink() and folder.resolve() not in entry.resolve().parents:
            raise ValueError(
                f"cannot write into the folder {folder}: {entry.name} in it is a link to {entry.resolve()}; "
                "remove the link, or name another folder"
            )
    return folder


def check_input(path: str | Path, *, largest: float = math.inf) -> Path:
    """Return the path of a file that is read, after a check that it is one: a pipe would be waited for.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A folder, a device or a pipe, or more than `largest` bytes.
    """
    file = Path(path)
    try:
        kind = _what(file.stat().st_mode)
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {file}") from None
    if kind:
        raise ValueError(f"{file} is {kind}, not a file")
    if (size := file.stat().st_size) > largest:
        raise ValueError(f"{file} has {readable(size)}, more than the limit of {readable(int(largest))}")
    return file


def _check_replaceable(file: Path) -> None:
    """Raise ValueError where something else is than a file, or a link to a file: it must not be replaced."""
    try:
        kind = _what(file.stat().st_mode)
    except FileNotFoundError:
        kind = "a link to nothing" if file.is_symlink() else ""
    if kind:
        raise ValueError(f"cannot write {file}: it is {kind}; name a file")


def _check_no_database(file: Path) -> None:
    """Raise ValueError where a database is: it must not be replaced by what was read from it."""
    begin = b""
    with suppress(OSError), file.open("rb") as stream:
        begin = stream.read(len(_SQLITE))
    if begin == _SQLITE:
        raise ValueError(f"cannot write {file}: it is a database, which would be lost; name another file")


def _what(mode: int) -> str:
    """Return what is there that is no regular file; nothing for one."""
    if stat.S_ISREG(mode):
        return ""
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((what for is_kind, what in kinds if is_kind(mode)), "a device")


def read_json(path: str | Path, *, largest: int = JSON) -> Any:
    """Return the content of a JSON file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a file, larger than `largest` bytes, or not JSON.
    """
    file = check_input(path, largest=largest)
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{file} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None


def readable(size: int) -> str:
    """Return a number of bytes as people write it.

    >>> readable(3 << 19)
    '1.5 MiB'
    """
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size >= 1024**power:
            return f"{size / 1024**power:,.1f} {unit}"
    return f"{size} bytes"


def check_arrays(archive: zipfile.ZipFile) -> None:
    """Check that the arrays of an `.npz` archive have the bytes that they claim, before memory is taken.

    Raises:
        ValueError: An array claims more or fewer bytes, is of another format, or is compressed in a way that
            NumPy does not write, or all of them would take much more memory than the file has bytes.
    """
    check_unpacked(archive)
    for info in archive.infolist():
        # Nothing shrinks to less than a thousandth by the compression that NumPy writes.
        most = info.compress_size * {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1100}.get(
            info.compress_type, 0
        )
        if info.file_size > most:
            raise ValueError(f"{info.filename} is damaged, or compressed in a way that NumPy does not write")
        if not info.filename.endswith(".npy"):
            continue
        with archive.open(info) as stream:
            version = npy.read_magic(stream)
            if version not in _HEADERS:
                raise ValueError(f"{info.filename} is of array format {version}")
            shape, _, dtype = _HEADERS[version](stream)
            claimed, there = math.prod(shape) * dtype.itemsize, info.file_size - stream.tell()
        if not dtype.hasobject and claimed != there:
            raise ValueError(f"{info.filename} claims {readable(claimed)} and has {readable(there)}")


def check_unpacked(archive: zipfile.ZipFile) -> None:
    """Raise ValueError for an archive that takes much more memory than it has bytes."""
    # Entries may lie on each other, so that their compressed sizes say nothing.
    whole, there = sum(one.file_size for one in archive.infolist()), archive.start_dir
    if whole > max(_UNPACKED, _RATIO * there):
        raise ValueError(
            f"its contents would take {readable(whole)}, more than the limits of {readable(_UNPACKED)} "
            f"and of {_RATIO} times the {readable(there)} of the file"
        )


def write_table(rows: Sequence[Row], path: str | Path, *, columns: Iterable[str] = ()) -> Path:
    """Write rows as `.csv`, `.json` (a list) or `.parquet` by the suffix of the path, whole or not at all.

    Args:
        rows: The rows; other columns than those of `columns` come after these.
        path: The file.
        columns: Columns that a `.csv` or `.parquet` has also where no row has them.

    Raises:
        ValueError: The suffix is another, the file cannot be written, Parquet lacks the package pyarrow, or
            does not take the values.
    """
    file = check_table(path)
    write = _WRITERS[file.suffix.lower()]
    names = list(dict.fromkeys((*columns, *(key for row in rows for key in row))))
    write_whole(file, lambda temporary: write(rows, names, temporary))
    return file


def check_table(path: str | Path) -> Path:
    """Return the path of an output table, after a check that it can be written.

    Raises:
        ValueError: As for `write_table`.
    """
    file = check_output(path, replaced=True)
    ending = file.suffix.lower()
    if ending not in _WRITERS:
        raise ValueError(f"a table needs a name that ends in {', '.join(_WRITERS)}, got {file.name}")
    if ending == ".parquet":
        _pyarrow()
    return file


def as_frame(rows: Sequence[Row]) -> Any:
    """Return rows as a pandas frame; raise ValueError where pandas is not installed."""
    try:
        return import_module("pandas").DataFrame(list(rows))
    except ImportError:
        needed = "a frame needs the package pandas; install filterbands[pandas], or use to_json()"
        raise ValueError(needed) from None


def _csv(rows: Sequence[Row], names: Sequence[str], file: Path) -> None:
    with file.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({column: _plain(value) for column, value in row.items()} for row in rows)


def _plain(value: Any) -> Any:
    """Return a text that no spreadsheet takes for a formula; other values as they are."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def _parquet(rows: Sequence[Row], names: Sequence[str], file: Path) -> None:
    arrow, parquet = _pyarrow()
    try:
        table = arrow.table({name: [row.get(name) for row in rows] for name in names})
    except (arrow.ArrowException, OverflowError, UnicodeEncodeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"Parquet does not take these values: {said}; write .csv or .json") from None
    parquet.write_table(table, file)


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError(
            "a Parquet table needs the package pyarrow; install filterbands[parquet], or write .csv or .json"
        ) from None


_WRITERS: Mapping[str, Callable[[Sequence[Row], Sequence[str], Path], object]] = {
    ".csv": _csv,
    ".json": lambda rows, _, file: file.write_text(
        json.dumps(list(rows), indent=1) + "\n", encoding="utf-8", newline="\n"
    ),
    ".parquet": _parquet,
}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
