"""Files and folders: written whole or not at all, checked before the work, tables in three formats."""

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

Row = Mapping[str, Any]
"""A row of a table: its values by column."""


def write_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors, whole or not at all, with what the file says of itself."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_whole(path, lambda file: save_file(plain, file, metadata=dict(metadata)))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in its place in one step."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        # mkstemp makes the file private; results are as readable as any other file.
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Return the folder of fetched data, `${XDG_CACHE_HOME:-~/.cache}/filterbands`; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "filterbands"


def check_output(path: str | Path) -> Path:
    """Return the path of a file to be written, after checking that it can be.

    Raises:
        ValueError: Its folder does not exist, it is a folder itself, or it cannot be written.
    """
    file = Path(path)
    parent = file.parent
    if not parent.is_dir():
        raise ValueError(f"cannot write {file}: there is no folder {parent}; create it first")
    if file.is_dir():
        raise ValueError(f"cannot write {file}: it is a folder; name a file")
    if not os.access(file if file.exists() else parent, os.W_OK):
        raise ValueError(f"cannot write {file}: no permission")
    return file


def make_folder(path: str | Path) -> Path:
    """Return an output folder, created if need be, after checking that files can be written in it.

    Raises:
        ValueError: It cannot be created or written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"cannot write into the folder {folder}: {error.strerror}") from None
    return folder


def write_table(rows: Sequence[Row], path: str | Path) -> Path:
    """Write rows to a file, whole or not at all: `.csv`, `.json` (a list) or `.parquet` by its ending.

    Raises:
        ValueError: Another ending, a place that cannot be written, or Parquet without the package pyarrow.
    """
    file = check_table(path)
    write = _WRITERS[file.suffix.lower()]
    write_whole(file, lambda temporary: write(rows, temporary))
    return file


def check_table(path: str | Path) -> Path:
    """Return the path of a table to be written, after checking that it can be.

    Raises:
        ValueError: As for `write_table`.
    """
    file = check_output(path)
    ending = file.suffix.lower()
    if ending not in _WRITERS:
        raise ValueError(f"a table needs a name that ends in {', '.join(_WRITERS)}, got {file.name}")
    if ending == ".parquet":
        _pyarrow()
    return file


def _csv(rows: Sequence[Row], file: Path) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(
        buffer, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    file.write_text(buffer.getvalue(), encoding="utf-8")


def _json(rows: Sequence[Row], file: Path) -> None:
    file.write_text(json.dumps(list(rows), indent=1) + "\n", encoding="utf-8")


def _parquet(rows: Sequence[Row], file: Path) -> None:
    arrow, parquet = _pyarrow()
    keys = list(dict.fromkeys(key for row in rows for key in row))
    parquet.write_table(arrow.table({key: [row.get(key) for row in rows] for key in keys}), file)


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError(
            "a Parquet table needs the package pyarrow; install it, or write .csv or .json"
        ) from None


_WRITERS: Mapping[str, Callable[[Sequence[Row], Path], None]] = {
    ".csv": _csv,
    ".json": _json,
    ".parquet": _parquet,
}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
