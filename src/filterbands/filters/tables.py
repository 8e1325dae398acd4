"""Figures as tables: aligned text, HTML for notebooks, pandas frames, and files."""

import html
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from torch import Tensor

Row = Mapping[str, Any]
"""A layer's figures by name, as `LayerSpectrum.to_row` gives them."""

_COLUMNS = (
    "layer",
    "shape",
    "dead",
    "low share",
    "by chance",
    "low energy",
    "mean low energy",
    "response",
    "centroid",
    "leak at 0",
    "aliased",
    "note",
)
_LEFT_ALIGNED = ("layer", "shape", "note")


def listed(values: Tensor | None) -> list[float] | None:
    """Return a tensor's numbers as a list; None for none."""
    return None if values is None else [float(value) for value in values]


def text_table(layers: Sequence[Row]) -> str:
    """Return the layers as lines of aligned columns.

    A column in which nobody has anything to say is left out, and a note that all share stands below.
    """
    kept, rows, shared = _cells(layers)
    widths = [max(len(row[column]) for row in [_COLUMNS, *rows]) for column in range(len(_COLUMNS))]
    lines = []
    for row in [_COLUMNS, *rows]:
        cells = [
            row[column].ljust(widths[column])
            if _COLUMNS[column] in _LEFT_ALIGNED
            else row[column].rjust(widths[column])
            for column in kept
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, *([shared] if shared else [])])


def html_table(layers: Sequence[Row]) -> str:
    """Return the same as a table of HTML; every text is escaped."""
    kept, rows, shared = _cells(layers)
    head = "".join(f"<th>{html.escape(_COLUMNS[column])}</th>" for column in kept)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(row[column])}</td>" for column in kept) + "</tr>" for row in rows
    )
    below = f"<p>{html.escape(shared)}</p>" if shared else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


def html_rows(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Return some columns of rows as a table of HTML; numbers with three digits, every text escaped."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    cells = [
        [figure(value) if isinstance(value, float) or value is None else str(value) for value in values]
        for values in ([row.get(column) for column in columns] for row in rows)
    ]
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in cells
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def frame(rows: Sequence[Row]) -> Any:
    """Return rows as a pandas frame.

    Raises:
        ValueError: pandas is not installed.
    """
    try:
        pandas = import_module("pandas")
    except ImportError:
        raise ValueError(
            "a frame needs the package pandas; install filterbands[pandas], or use to_json()"
        ) from None
    return pandas.DataFrame(list(rows))


def _cells(layers: Sequence[Row]) -> tuple[list[int], list[tuple[str, ...]], str]:
    """Return the columns that say something, the rows of all columns, and the note that all share."""
    notes = {layer["note"] for layer in layers}
    shared: str = notes.pop() if len(notes) == 1 else ""
    rows = [_row(layer, note="" if shared else layer["note"]) for layer in layers]
    kept = [column for column in range(len(_COLUMNS)) if any(row[column] not in ("", "-") for row in rows)]
    return kept, rows, shared


def _row(layer: Row, *, note: str) -> tuple[str, ...]:
    low, high = layer["low_share_chance_low"], layer["low_share_chance_high"]
    return (
        layer["layer"],
        layer["shape"],
        str(layer["dead"]),
        figure(layer["low_share"]),
        "-" if low is None else f"{low:.2f} to {high:.2f}",
        figure(layer["low_energy"]),
        figure(layer["mean_low_energy"]),
        figure(layer["response_low_energy"]),
        figure(layer["centroid"]),
        figure(layer["zero_leak"]),
        figure(layer["aliased_energy"]),
        note,
    )


def figure(value: float | None) -> str:
    """Return a number with three digits; a dash for none."""
    return "-" if value is None else f"{value:.3f}"
