"""Files that are written whole or not at all, checks of output paths, tables in three formats and pandas."""

import csv
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
"""A row of a table: the values by column."""


def write_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata as a safetensors file, whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_whole(path, lambda file: save_file(plain, file, metadata=dict(metadata)))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in the folder of `path`, then move it to `path` in one step."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        # mkstemp makes the file private, but results must have the usual permissions.
        temporary.chmod(0o666 & ~_umask())
        put_in_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, whole or not at all."""
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8"))


def put_in_place(finished: Path, path: Path) -> None:
    """Move a finished file or folder to `path` in one step; a file is first flushed to the disk."""
    if finished.is_file():
        with finished.open("rb") as stream:
            os.fsync(stream.fileno())
    finished.replace(path)


def cache_folder() -> Path:
    """Return the folder of fetched data, `${XDG_CACHE_HOME:-~/.cache}/filterbands`; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that relative paths are ignored.
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "filterbands"


def check_output(path: str | Path) -> Path:
    """Return the path of an output file, after a check that it can be written.

    Raises:
        ValueError: The folder does not exist, the path is a folder, or the file cannot be written.
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
    """Return an output folder, created if needed, after a check that files can be written in it.

    Raises:
        ValueError: The folder cannot be created or written.
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
    """Write rows as `.csv`, `.json` (a list) or `.parquet` by the suffix of the path, whole or not at all.

    Raises:
        ValueError: The suffix is another, the file cannot be written, or Parquet lacks the package pyarrow.
    """
    file = check_table(path)
    write = _WRITERS[file.suffix.lower()]
    write_whole(file, lambda temporary: write(rows, temporary))
    return file


def check_table(path: str | Path) -> Path:
    """Return the path of an output table, after a check that it can be written.

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


def as_frame(rows: Sequence[Row]) -> Any:
    """Return rows as a pandas frame; raise ValueError where pandas is not installed."""
    try:
        return import_module("pandas").DataFrame(list(rows))
    except ImportError:
        needed = "a frame needs the package pandas; install filterbands[pandas], or use to_json()"
        raise ValueError(needed) from None


def _csv(rows: Sequence[Row], file: Path) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, _columns(rows), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _parquet(rows: Sequence[Row], file: Path) -> None:
    arrow, parquet = _pyarrow()
    columns = {key: [row.get(key) for row in rows] for key in _columns(rows)}
    parquet.write_table(arrow.table(columns), file)


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError(
            "a Parquet table needs the package pyarrow; install filterbands[parquet], or write .csv or .json"
        ) from None


_WRITERS: Mapping[str, Callable[[Sequence[Row], Path], object]] = {
    ".csv": _csv,
    ".json": lambda rows, file: file.write_text(json.dumps(list(rows), indent=1) + "\n", encoding="utf-8"),
    ".parquet": _parquet,
}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
