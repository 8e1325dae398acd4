"""The hint that ends an error about an unknown name."""

import difflib
from collections.abc import Iterable


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
