"""The writer of every page: templates that escape what they show, and files written whole."""

import base64
import re
from functools import cache
from hashlib import sha256
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
    return _dense(_environment().get_template(template).render(values))


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


def _dense(page: str) -> str:
    """Return a page without indentation, which is for those who read templates.

    No text of a user holds a line break: see `cleaned`.
    """
    return re.sub(r" *\n[ \n]*", "\n", page)


def _script_hash() -> str:
    """Return the name of the one script that a page may run, as the policy of the page takes it."""
    # As it stands in the page, which `render` makes dense as a whole.
    script = _dense(_environment().get_template("explore.js").render())
    return f"sha256-{base64.b64encode(sha256(script.encode()).digest()).decode('ascii')}"


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
        "script_hash": _script_hash,
    }
    return environment
