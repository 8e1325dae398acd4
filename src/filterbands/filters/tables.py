"""Figures as tables: aligned text, HTML for notebooks, and plain values."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

Columns = Mapping[str, Sequence[str]]
"""The cells of a table, by the heading of their column."""


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: a tensor or tuple as a list, a dataclass by its fields."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


def shown(value: float | tuple[float, float] | None, form: str = ".3f") -> str:
    """Return a number or an interval as text; a dash for None."""
    if value is None:
        return "-"
    return f"{value[0]:{form}} to {value[1]:{form}}" if isinstance(value, tuple) else f"{value:{form}}"


def text_table(columns: Columns, *, left: Sequence[str] = ()) -> str:
    """Return the columns as aligned text, those named by `left` aligned to the left."""
    aligned = []
    for heading, cells in columns.items():
        width = max(len(cell) for cell in (heading, *cells))
        align = str.ljust if heading in left else str.rjust
        aligned.append([align(cell, width) for cell in (heading, *cells)])
    return "\n".join("  ".join(row).rstrip() for row in zip(*aligned, strict=True))


def html_table(columns: Columns) -> str:
    """Return the columns as a table of HTML; every text is escaped."""

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(row(cells, "td") for cells in zip(*columns.values(), strict=True))
    return f"<table><thead>{row(tuple(columns), 'th')}</thead><tbody>{body}</tbody></table>"
