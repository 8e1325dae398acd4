"""Checks of what a user gives: whole numbers, hints, and where the user's code failed; without torch."""

import difflib
import operator
import os
import re
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Where Python and this library lie; packages that are installed lie in folders of two names.
_ROOTS = (
    *(sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")),
    *(str(Path(file).parent) for file in (os.__file__, __file__)),
)
_NOT_THE_USERS = tuple(f"{root}{os.sep}" for root in _ROOTS)
# Controls without tab and newline, marks and overrides of direction, halves of surrogate pairs.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_INSTALLED = {"site-packages", "dist-packages"}


def as_names(what: str, given: Iterable[str]) -> tuple[str, ...]:
    """Return names as a tuple; refuse one text, which would be taken for its letters.

    >>> as_names("kinds", ["fog", "snow"])
    ('fog', 'snow')
    """
    if isinstance(given, str):
        raise ValueError(f"{what} needs a tuple of names, got the text {given!r}")
    return tuple(given)


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


def seed_number(value: Any) -> int:
    """Return a seed as `int`; databases and torch's generators take 64 bits.

    >>> seed_number(2**63)
    Traceback (most recent call last):
    ValueError: seed needs a whole number of 64 bits, -2^63 to 2^63 - 1, got 9223372036854775808
    """
    number = whole_number("seed", value)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"seed needs a whole number of 64 bits, -2^63 to 2^63 - 1, got {number}")
    return number


def printable(text: str) -> str:
    r"""Return a text whose letters can neither steer a terminal nor turn its reading direction.

    Such letters, and halves of letters that no encoding has, are written as escapes.

    >>> printable("red \x1b[31m")
    'red \\x1b[31m'
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def users_line(error: BaseException) -> str:
    """Return `FILE, line N` of the last line of the user's own code that an exception passed, or nothing.

    Files of Python, of installed packages and of this library are not the user's own.

    Args:
        error: An exception that was caught.

    >>> users_line(ValueError("never raised"))
    ''
    """
    frames = traceback.extract_tb(error.__traceback__)
    places = [(frame.filename, frame.lineno) for frame in frames]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno))
    own = [f"{file}, line {line}" for file, line in places if is_users_file(file)]
    return own[-1] if own else ""


def is_users_file(file: str) -> bool:
    """Return whether a file of code is neither of Python, of an installed package nor of this library.

    >>> is_users_file(os.__file__)
    False
    """
    # What torch.compile writes lies in a folder of its own; code without a file has a name like <string>.
    generated = file.startswith("<") or "torchinductor" in file
    return not (generated or _INSTALLED & set(Path(file).parts) or file.startswith(_NOT_THE_USERS))
