"""Pieces of HTML. Every text that comes from a user passes through `shown` or `escaped`, and nothing else."""

import html
import unicodedata
from collections.abc import Iterable, Sequence

from .style import RUN_COLOURS
from .views import Estimate

_SPACE = "\N{NO-BREAK SPACE}"
_MINUS = "\N{MINUS SIGN}"
_NONE = "\N{EN DASH}"


def cleaned(text: str) -> str:
    """Return a text without what no page can hold: control characters, lone surrogates."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(letter) in ("Cc", "Cs", "Cn") else letter
        for letter in text
    )


def escaped(text: object) -> str:
    """Return a text as it may stand between tags or in a quoted attribute."""
    return html.escape(cleaned(str(text)), quote=True)


def shown(text: object) -> str:
    """Return a user's text, kept from turning the direction of what stands around it."""
    return f"<bdi>{escaped(text)}</bdi>"


def chip(position: int, text: object) -> str:
    """Return an entry's name behind a sample of its colour."""
    # A letter and a no-break space, not a box: the sample stays on the line of its name.
    dot = f'<span class="run{position % len(RUN_COLOURS)}" aria-hidden="true">\N{BLACK CIRCLE}</span>{_SPACE}'
    return f'<span class="chip">{dot}{shown(text)}</span>'


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as percent; a dash for none."""
    return _NONE if share is None else f"{100 * share:.{digits}f}{_SPACE}%"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number; a dash for none."""
    return _NONE if value is None else f"{value:.{digits}f}".replace("-", _MINUS)


def signed(difference: float) -> str:
    """Return a difference of shares times 100, with its sign."""
    text = f"{100 * difference:+.1f}".replace("-", _MINUS)
    return "0.0" if text.strip(f"+{_MINUS}") == "0.0" else text


def points(difference: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    return f"{signed(difference)}{_SPACE}points"


def interval(estimate: Estimate) -> str:
    """Return the ends of an interval in percent, or nothing where it is not known."""
    if estimate.low is None or estimate.high is None:
        return ""
    ends = (f"{100 * end:.1f}".replace("-", _MINUS) for end in (estimate.low, estimate.high))
    return f"{_SPACE}to{_SPACE}".join(ends)


def with_interval(estimate: Estimate) -> str:
    """Return an accuracy and, in brackets, its interval."""
    ends = interval(estimate)
    return percent(estimate.value) + (f" ({ends})" if ends else "")


def duration(seconds: float | None) -> str:
    """Return a time in seconds, minutes or hours; a dash for none."""
    if seconds is None:
        return _NONE
    if seconds < 90:
        return f"{seconds:.0f}{_SPACE}s"
    if seconds < 5400:
        return f"{seconds / 60:.1f}{_SPACE}min"
    return f"{seconds / 3600:.1f}{_SPACE}h"


def joined(parts: Sequence[str]) -> str:
    """Return an enumeration: `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, label: str, numeric: int = 1
) -> str:
    """Return a table that scrolls sideways where the page is narrow; the first cell of a row is its header.

    Args:
        head: HTML of the column headers.
        rows: HTML of the cells.
        caption: HTML above it; empty for none.
        label: What it is, for readers that do not see it; plain text.
        numeric: Columns from this one on are aligned to the right.
    """
    kinds = ["" if column < numeric else ' class="n"' for column in range(len(head))]
    header = "".join(f'<th scope="col"{kind}>{cell}</th>' for kind, cell in zip(kinds, head, strict=True))
    body = "".join(
        "<tr>"
        + f'<th scope="row">{row[0]}</th>'
        + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds[1:], row[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    above = f"<caption>{caption}</caption>" if caption else ""
    inside = f"<table>{above}<thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"
    return scroller(inside, label=label)


def scroller(inside: str, *, label: str) -> str:
    """Return something wide in a box that scrolls sideways, by keyboard too."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(label)}">{inside}</div>'


def figure(title: str, body: str, note: str = "") -> str:
    """Return a card with a heading, what it shows, and a note below; all HTML."""
    below = f'<p class="note">{note}</p>' if note else ""
    return f'<figure class="card"><figcaption><h3>{title}</h3></figcaption>{body}{below}</figure>'


def section(anchor: str, title: str, lead: str, body: str) -> str:
    """Return a section of the page with its heading and a sentence on what it answers; all HTML."""
    return (
        f'<section id="{anchor}" aria-labelledby="{anchor}-title">'
        f'<h2 id="{anchor}-title">{title}</h2><p class="lead">{lead}</p>{body}</section>'
    )


def legend(names: Sequence[tuple[int, str]]) -> str:
    """Return the entries' names with their colours, from positions and names."""
    return f'<ul class="legend">{"".join(f"<li>{chip(*item)}</li>" for item in names)}</ul>'


def nothing(what: str) -> str:
    """Return a card that says why there is nothing to show."""
    return f'<p class="card">Nothing to show here: {what}.</p>'
