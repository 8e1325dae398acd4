"""Results for other programs: tables of cells as CSV, JSON or Parquet, and the entry of a leaderboard."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..disk import check_output, write_whole
from ..scores import Scores
from .store import Store


def export_cells(db: str | Path, path: str | Path) -> int:
    """Write every cell of a database without its bits, a row a cell; return how many.

    Args:
        db: The database.
        path: A file that ends in `.csv`, `.json` or `.parquet`.

    Raises:
        FileNotFoundError: No such database.
        ValueError: Another ending, a place that cannot be written, or Parquet without the package pyarrow.
    """
    file = check_output(path)
    if file.suffix not in _WRITERS:
        raise ValueError(f"results are exported as {', '.join(_WRITERS)}, got {file.name}")
    with Store(db, readonly=True) as store:
        rows = store.rows()
    write = _WRITERS[file.suffix]
    if file.suffix == ".parquet":
        _parquet()
    write_whole(file, lambda temporary: write(temporary, rows))
    return len(rows)


def leaderboard_entry(scores: Scores, *, architecture: str = "") -> dict[str, Any]:
    """Return what a corruption leaderboard asks of a network, as in RobustBench's model_info files.

    Percent as texts of two decimals, as there; what only the authors know is empty.

    Args:
        scores: All 15 kinds of the benchmark at five severities.
        architecture: Its name.

    Raises:
        ValueError: Not all 75 cells of the benchmark are there.

    Source: Croce et al. 2021, arXiv:2010.09670; the keys of robustbench/model_info/cifar10/corruptions.
    """
    average, wider = scores.average_15(), scores.average_19()
    if average is None:
        raise ValueError(
            f"{scores.name} on {scores.data} lacks cells of the benchmark's 15 kinds at five severities; "
            "a leaderboard's entry needs all 75"
        )
    notes = []
    if scores.overlap:
        notes.append(f"Trained on what resembles {', '.join(scores.overlap)} of the benchmark.")
    if scores.folder == "":
        notes.append(f"Corrupted images made by filterbands, seed {scores.seed}, not the published files.")
    if len(scores.labels) != 10000:
        notes.append(f"On {len(scores.labels):,} images.")
    low, high = average.ci95
    notes.append(f"95 % interval over images {100 * low:.2f} to {100 * high:.2f}.")
    if wider is not None:
        notes.append(f"Over 19 kinds {100 * wider.accuracy:.2f}.")
    return {
        "link": "",
        "name": scores.name,
        "authors": "",
        "additional_data": None,
        "number_forward_passes": 1,
        "dataset": scores.data,
        "venue": "",
        "architecture": architecture,
        "eps": None,
        "clean_acc": f"{100 * scores.clean:.2f}",
        "reported": "",
        "corruptions_acc": f"{100 * average.accuracy:.2f}",
        "footnote": " ".join(notes),
    }


def write_leaderboard_entry(scores: Scores, path: str | Path, *, architecture: str = "") -> None:
    """Write `leaderboard_entry` as JSON.

    Raises:
        ValueError: As `leaderboard_entry`, or a place that cannot be written.
    """
    text = json.dumps(leaderboard_entry(scores, architecture=architecture), indent=2) + "\n"
    write_whole(check_output(path), lambda temporary: temporary.write_text(text))


def _write_csv(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with file.open("w", newline="") as stream:
        if rows:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def _write_json(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    file.write_text(json.dumps(rows, indent=1))


def _write_parquet(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    parquet, table = _parquet()
    parquet.write_table(table.from_pylist(list(rows)), file)


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ValueError(
            "Parquet needs the package pyarrow; install filterbands[parquet], or export as .csv or .json"
        ) from None
    return pyarrow.parquet, pyarrow.Table


_WRITERS: Mapping[str, Callable[[Path, Sequence[Mapping[str, Any]]], None]] = MappingProxyType(
    {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}
)
