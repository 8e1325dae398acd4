"""Checks of what a user gives: whole numbers, a network's output, hints, and where the user's code failed."""

import difflib
import operator
import os
import re
import sysconfig
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

# Where Python and this library lie; packages that are installed lie in folders of two names.
_ROOTS = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), str(Path(__file__).parent))
_NOT_THE_USERS = tuple(f"{root}{os.sep}" for root in _ROOTS)
# Controls without tab and newline, marks and overrides of direction, halves of surrogate pairs.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_INSTALLED = {"site-packages", "dist-packages"}


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
    own = [f"{file}, line {line}" for file, line in places if _is_users(file)]
    return own[-1] if own else ""


def _is_users(file: str) -> bool:
    # What torch.compile writes lies in a folder of its own; code without a file has a name like <string>.
    generated = file.startswith("<") or "torchinductor" in file
    return not (generated or _INSTALLED & set(Path(file).parts) or file.startswith(_NOT_THE_USERS))


def logits_in(output: Any) -> Tensor:
    """Return the logits in what a network gives.

    They are the tensor that it gives, the `logits` of an object or mapping as networks of Hugging Face give
    them, or the one tensor in a list or tuple.

    Raises:
        ValueError: Something else; the line says how to take the logits out of it, where they are in it.

    >>> import torch
    >>> logits_in({"loss": None, "logits": torch.zeros(2, 10)}).shape
    torch.Size([2, 10])
    """
    if isinstance(output, Tensor):
        return output
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(found, Tensor):
        return found
    if isinstance(output, list | tuple) and len(output) == 1 and isinstance(output[0], Tensor):
        return output[0]
    parts = dict(enumerate(output)) if isinstance(output, list | tuple) else output
    named = parts.items() if isinstance(parts, Mapping) else ()
    shapes = {place: tuple(part.shape) for place, part in named if isinstance(part, Tensor)}
    told = f" of {', '.join(f'{place}: {shape}' for place, shape in shapes.items())}" if shapes else ""
    line = f"the network gives a {type(output).__name__}{told}, expected a tensor of logits (images, classes)"
    if flat := [place for place, shape in shapes.items() if len(shape) == 2]:
        raise ValueError(
            f"{line}; give Logits(model), which takes the right part: class Logits(torch.nn.Sequential): "
            f"forward = lambda self, images: self[0](images)[{flat[0]!r}]"
        )
    if shapes and {len(shape) for shape in shapes.values()} == {4}:
        raise ValueError(
            f"{line}; these are feature maps: make the network with its classifier, as timm does without "
            "features_only"
        )
    raise ValueError(f"{line}; none is in it: give the network that classifies")
