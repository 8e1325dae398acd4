"""The writer of every page: templates that escape what they show, and files written whole."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..disk import write_whole
from ..version import __version__
from . import style, text
from .accuracy import mean_at_hand
from .pictures import scale_picture

LARGEST = 3_000_000
"""Bytes that a page may have."""


def render(template: str, **values: Any) -> str:
    """Return a page, or another file of `templates`, with these values in it."""
    page = _environment().get_template(template).render(values)
    # Templates are indented for those who read them. No text of a user holds a line break: see `cleaned`.
    return re.sub(r" *\n[ \n]*", "\n", page)


def write_page(file: Path, page: str, *, of: str) -> Path:
    """Write a page whole or not at all, and return its path; `of` is what the page is, for the error.

    Raises:
        ValueError: The page has more than 3 MB.
    """
    content = page.encode()
    if len(content) > LARGEST:
        raise ValueError(
            f"the {of} would have {len(content) / 1e6:.1f} MB, at most {LARGEST / 1e6:.0f} MB are written; "
            "name fewer sources"
        )
    write_whole(file, lambda temporary: temporary.write_bytes(content))
    return file


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else text.cleaned(str(value)),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    for write in (
        *(mean_at_hand, text.closers, text.hundredths, text.interval, text.listed, text.number),
        *(text.percent, text.points, text.spaced, text.span, text.with_interval),
    ):
        environment.filters[write.__name__] = write
    environment.globals |= {
        "version": __version__,
        "run_colors": style.RUN_COLORS,
        "drawn_colors": (style.INK, style.MUTED, style.GRID, *style.RUN_COLORS),
        "heat_colors": [style.heat_colors(anchors) for anchors in style.HEAT],
        "scale_picture": scale_picture,
    }
    return environment
