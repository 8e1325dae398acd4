"""Values in words: shares as percent, differences in points, durations, and texts that any page can hold."""

import unicodedata
from collections.abc import Sequence

from .views import Estimate

_SPACE = "\N{NO-BREAK SPACE}"
_MINUS = "\N{MINUS SIGN}"
_NONE = "\N{EN DASH}"
_JOINER = "\N{ZERO WIDTH JOINER}"
_ISOLATES = "\N{LEFT-TO-RIGHT ISOLATE}\N{RIGHT-TO-LEFT ISOLATE}\N{FIRST STRONG ISOLATE}"


def cleaned(text: str) -> str:
    """Return a text without what no page can hold: control characters, lone surrogates."""
    return "".join(map(_shown, text))


def _shown(letter: str) -> str:
    if letter < " ":
        # The picture of a control character: a line break is one letter, as all others.
        return chr(0x2400 + ord(letter))
    return "\N{REPLACEMENT CHARACTER}" if unicodedata.category(letter) in ("Cc", "Cs", "Cn") else letter


def brief(text: str, most: int = 100) -> str:
    """Return a text of at most so many letters, its middle left out where it is longer."""
    if len(text) <= most:
        return text
    kept = most - 1
    return f"{text[: kept - kept // 4]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - kept // 4 :]}"


def fitted(text: str, columns: int) -> str:
    """Return a text of at most so many columns, cut at a letter; East Asian letters and emoji take two.

    >>> fitted("a_long_name", 7), fitted("short", 7)
    ('a_long…', 'short')
    """
    widths = [_columns(letter) for letter in text]
    if sum(widths) <= columns:
        return text
    kept, left = 0, columns - 1
    while kept < len(text) and widths[kept] <= left:
        left -= widths[kept]
        kept += 1
    # Neither is a letter parted from what joins it to the next one.
    return f"{text[:kept].rstrip(_JOINER)}\N{HORIZONTAL ELLIPSIS}"


def _columns(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def closers(text: str) -> str:
    """Return what ends the isolates that a text opens, so that they end with the element that holds it."""
    return "\N{POP DIRECTIONAL ISOLATE}" * sum(map(text.count, _ISOLATES))


def isolated(text: str) -> str:
    """Return a text that turns no direction around it, for sentences without markup."""
    return f"{_ISOLATES[-1]}{text}{closers(text)}\N{POP DIRECTIONAL ISOLATE}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number; a dash for None."""
    if value is None:
        return _NONE
    text = f"{value:.{digits}f}"
    # Nothing is less than nothing.
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", _MINUS)


def hundredths(share: float | None, digits: int = 1) -> str:
    """Return a share times 100; a dash for None."""
    return number(None if share is None else 100 * share, digits)


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as percent; a dash for None."""
    return _NONE if share is None else f"{hundredths(share, digits)}{_SPACE}%"


def signed(difference: float) -> str:
    """Return a difference of shares times 100, with its sign."""
    text = f"{100 * difference:+.1f}".replace("-", _MINUS)
    return "0.0" if text.strip(f"+{_MINUS}") == "0.0" else text


def points(difference: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    return f"{signed(difference)}{_SPACE}points"


def interval(estimate: Estimate) -> str:
    """Return the ends of an interval in percent; an empty text where it is not known."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{hundredths(estimate.low)}{_SPACE}to{_SPACE}{hundredths(estimate.high)}"


def with_interval(estimate: Estimate) -> str:
    """Return an accuracy and, in brackets, its interval, cut to 0 and 100 %."""
    ends = interval(estimate.cut)
    return percent(estimate.value) + (f" ({ends})" if ends else "")


def span(ends: tuple[float, float] | None) -> str:
    """Return two shares as whole percent; a dash for None."""
    return _NONE if ends is None else f"{hundredths(ends[0], 0)} to {percent(ends[1], 0)}"


def duration(seconds: float | None) -> str:
    """Return a time in seconds, minutes or hours; a dash for None."""
    if seconds is None:
        return _NONE
    if seconds < 90:
        return f"{seconds:.0f}{_SPACE}s"
    if seconds < 5400:
        return f"{seconds / 60:.1f}{_SPACE}min"
    return f"{seconds / 3600:.1f}{_SPACE}h"


def spaced(kind: str) -> str:
    """Return the name of a kind of corruption as words."""
    return kind.replace("_", " ")


def listed(kinds: Sequence[str]) -> str:
    """Return names of kinds as an enumeration: `a, b and c`."""
    *most, last = map(spaced, kinds)
    return f"{', '.join(most)} and {last}" if most else last
