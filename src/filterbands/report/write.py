"""write_report: results on disk to one page."""

from collections.abc import Sequence
from pathlib import Path

from ..disk import check_output, write_whole
from .gather import gather
from .page import render

LARGEST = 3_000_000
"""Bytes that a page may have."""


def write_report(
    sources: Sequence[str | Path], out: str | Path, *, title: str = "Filters and robustness"
) -> Path:
    """Write one HTML page about runs and their results, and return its path.

    The page is complete in itself: it loads nothing, from the network or the disk, and runs no script. It
    is written whole or not at all. It is made of what lies on disk; no network is run.

    Args:
        sources: Run folders and databases of results, in any mixture. The networks are shown in this
            order, and compared with the first one of the recipe `standard`, else with the first.
        out: The file to write; its folder must exist.
        title: The heading.

    Raises:
        FileNotFoundError: A source that does not exist.
        ValueError: A source that is neither, a place that cannot be written, or a page of over 3 MB.

    >>> write_report([], "report.html")
    Traceback (most recent call last):
    ValueError: a report needs at least one Run folder or database of results, got none
    """
    file = check_output(out)
    page = render(gather(sources, title=title)).encode()
    if len(page) > LARGEST:
        raise ValueError(
            f"the report of {len(sources)} sources would have {len(page) / 1e6:.1f} MB, at most "
            f"{LARGEST / 1e6:.0f} are written; name fewer sources"
        )
    write_whole(file, lambda temporary: temporary.write_bytes(page))
    return file
