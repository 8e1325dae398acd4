"""What stands for the values that a pickle would make, and how long they take where they are keys."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

# Letters that a key counts for besides its own.
KEY = 32
# Most axes of a tensor.
AXES = 64
# Entries of a container that take no time worth counting.
_FEW = 16
# What else has a hash that follows from its numbers. No file has thousands of them as keys.
_OF_NUMBERS = ("builtins.complex", "torch.Size", "torch.device")


class PickleError(ValueError):
    """A pickle is cut, makes no sense, or would take far more than its size; the text says what it does."""


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that a pickle names."""

    text: str
    """Module and name with a dot between."""


@dataclass(slots=True, eq=False)
class Made:
    """A container that a pickle makes, or what a call gives."""

    kind: str
    """`tuple`, `list`, `dict`, `set`, or `object`."""
    parts: list[Any] = field(default_factory=list)
    """Its entries: containers, names, texts, bytes, numbers, None; keys and values of a dictionary."""
    keys: list[Any] = field(default_factory=list)
    """Those of its entries that are looked up: all of a set, every other one of a dictionary."""
    weight: int = 1
    """Letters of a tuple and the tuples in it, all of which are looked at where it is a key; 1 for others."""
    level: int = 1
    """Tuples within each other, itself among them."""
    letters: int = 0
    """Letters of the container written out."""
    height: int = 0
    """Containers within each other, itself among them; 0 while that is not known."""
    maker: str = ""
    """The name of what was called for it."""
    numbers: int = 0
    """What a storage claims to hold, or the letters of bytes."""
    sides: list[Any] = field(default_factory=list)
    """Those of a `torch.Size`."""
    hashed: tuple[int | None] | None = None
    """What `hashed` returns; None while that is not known."""


def fits(given: list[Any]) -> bool:
    """Return whether storage, offset, shape and steps of a tensor lie within the storage.

    Torch would enlarge a storage that is too small, by any number of numbers.
    """
    if len(given) < 4 or not (isinstance(given[0], Made) and given[0].kind == "object"):
        return False
    shape, steps = (_sides(one) for one in given[2:4])
    numbers = [given[1], *shape, *steps]
    if len(shape) > AXES or not all(isinstance(one, int) and one >= 0 for one in numbers):
        return False
    last: int = given[1] + sum((side - 1) * step for side, step in zip(shape, steps, strict=True))
    return 0 in shape or last < given[0].numbers


def _sides(value: Any) -> list[Any]:
    """Return the numbers of a shape; one that is none for anything else."""
    if not isinstance(value, Made) or value.kind not in ("tuple", "list", "object"):
        return [None]
    return value.sides if value.kind == "object" else value.parts


def weight(value: Any) -> int:
    """Return the letters of a value that is no container, and the weight of one that is."""
    if isinstance(value, Made):
        return value.weight
    if isinstance(value, int):
        return 1 + value.bit_length() // 3
    return 1 + (len(value) if isinstance(value, (str, bytes, bytearray)) else 0)


def entries(values: list[Any]) -> list[Any]:
    """Return the entries of containers, and those of pairs in them."""
    parts = [part for one in values if isinstance(one, Made) for part in one.parts]
    pairs = [one for one in parts if isinstance(one, Made) and len(one.parts) == 2]
    return [*parts, *(part for one in pairs for part in one.parts)]


def hashed(value: Any) -> int | None:
    """Return a number that keys of one hash share; None for a key that has a hash of its own."""
    if not isinstance(value, Made):
        return hash(value)
    if value.hashed is None:
        found: int | None = 0 if value.kind == "frozenset" or value.maker in _OF_NUMBERS else None
        if value.kind == "tuple":
            parts = [hashed(part) for part in value.parts]
            found = None if None in parts else hash(tuple(parts))
        value.hashed = (found,)
    return value.hashed[0]


def compared(keys: Sequence[Any]) -> int:
    """Return how many letters are compared, at most, since several keys of a container have one hash."""
    if len(keys) < 2:
        return 0
    known = sorted((found, KEY + weight(key)) for key in keys if (found := hashed(key)) is not None)
    groups = [[one for _, one in group] for _, group in groupby(known, key=itemgetter(0))]
    return sum(len(group) * sum(group) for group in groups if len(group) > 1)


def copied(value: Any) -> int:
    """Return the letters of what a call copies of an argument: texts, and the entries of containers."""
    if not isinstance(value, Made):
        return weight(value)
    inner = [part for part in value.parts if isinstance(part, Made)]
    entries = sum(max(len(one.parts) - _FEW, 0) for one in (value, *inner))
    return KEY * entries + (value.numbers if value.maker else 0)
