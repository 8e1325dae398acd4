"""Results for other programs: tables of cells as CSV, JSON or Parquet, and the entry of a leaderboard."""

import json
from pathlib import Path, PurePath
from typing import Any

from ..disk import check_output, check_table, write_table, write_text
from ..scores import Scores, images_per_cell
from .rows import ROW
from .store import Store


def export_cells(db: str | Path, path: str | Path) -> int:
    """Write the cells of a database without their bits, one row per cell, and return the number of rows.

    Args:
        db: The database.
        path: A file that ends in `.csv`, `.json` or `.parquet`.

    Raises:
        FileNotFoundError: The database does not exist.
        ValueError: The suffix is another, the file cannot be written, or Parquet lacks the package pyarrow.
    """
    check_table(path)
    with Store(db, readonly=True) as store:
        rows = store.rows()
    write_table(rows, path, columns=ROW)
    return len(rows)


def leaderboard_entry(scores: Scores, *, architecture: str = "") -> dict[str, Any]:
    """Return the entry of a network for a corruption leaderboard, as in RobustBench's model_info files.

    Percentages are texts of two decimals, as in those files. Fields that only the authors know are empty.

    Args:
        scores: Scores with all 15 kinds of the benchmark at five severities.
        architecture: The name of the architecture.

    Raises:
        ValueError: One of the 75 cells of the benchmark is missing.

    Source: Croce et al. 2021, arXiv:2010.09670; the keys of robustbench/model_info/cifar10/corruptions.
    """
    average, wider = scores.average_15(), scores.average_19()
    if average is None:
        raise ValueError(
            f"{scores.name} on {scores.data} lacks cells of the benchmark's 15 kinds at five severities; "
            "the entry of a leaderboard needs all 75"
        )
    notes = _notes(scores)
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


def _notes(scores: Scores) -> list[str]:
    """Return what made the figures, where a leaderboard's own may have been made otherwise."""
    notes = []
    if scores.overlap:
        notes.append(f"The training data resemble {', '.join(scores.overlap)} of the benchmark.")
    if scores.parameters:
        notes.append(
            f"Corrupted images made by filterbands, seed {scores.seed}, constants {scores.parameters}, not "
            "the published files."
        )
    elif scores.seed is not None:
        notes.append(f"Corrupted images read from a copy of seed {scores.seed}, not the published files.")
    elif scores.folder:
        # The path says where somebody works.
        notes.append(f"Corrupted images read from {PurePath(scores.folder).name}.")
    if len(scores.labels) != 10000:
        notes.append(f"On {len(scores.labels):,} images.")
    if (each := images_per_cell(scores)) < len(scores.labels):
        notes.append(f"Each corrupted cell on {each:,} of the {len(scores.labels):,} images.")
    if scores.precision != "float32":
        notes.append(f"Precision {scores.precision}.")
    return notes


def write_leaderboard_entry(scores: Scores, path: str | Path, *, architecture: str = "") -> None:
    """Write `leaderboard_entry` as JSON.

    Raises:
        ValueError: As for `leaderboard_entry`, or the file cannot be written.
    """
    text = json.dumps(leaderboard_entry(scores, architecture=architecture), indent=2) + "\n"
    write_text(check_output(path, replaced=True), text)
