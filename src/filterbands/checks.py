"""Checks of what a user gives: whole numbers, and hints for unknown names."""

import difflib
import operator
from collections.abc import Iterable
from typing import Any


def hint(value: str, known: Iterable[str], *, closeness: float = 0.6) -> str:
    """Return ` (did you mean NAME?)` with the known name that is nearest, or nothing where none is near.

    Args:
        value: The unknown name.
        known: The names there are.
        closeness: Smallest similarity of a near name, in [0, 1], as `difflib` measures it.

    >>> hint("epoch", ["epochs", "ema"])
    ' (did you mean epochs?)'
    """
    close = difflib.get_close_matches(value, known, n=1, cutoff=closeness)
    return f" (did you mean {close[0]}?)" if close else ""


def whole_number(what: str, value: Any) -> int:
    """Return an integer of any type, such as those of NumPy and torch, as `int`.

    Keys of random numbers and of results are made from the text of a number, which differs between types.

    Args:
        what: Name of the value, for the error.
        value: The number.

    Raises:
        ValueError: The value is no integer; a boolean is none.

    >>> whole_number("severity", 3)
    3
    """
    kind = str(getattr(value, "dtype", type(value).__name__))
    if not kind.endswith("bool"):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise ValueError(f"{what} needs a whole number, got {value!r}")
