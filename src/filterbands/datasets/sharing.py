"""Whether two splits of data sets have images in common, as far as their names tell."""

from pathlib import Path

from .cifar import CIFARS
from .folder import split_folders
from .planted import read_knobs

Part = tuple[str, str]
"""A spec as `load_data` takes it, and a split."""


def shares_images(one: Part, other: Part) -> bool:
    """Return whether two parts of data sets have images in common.

    Folders are compared by the folders that a split takes, so that one without split folders is one part.
    CIFAR is the same images wherever it lies. A part that does not exist has none.

    >>> shares_images(("cifar10", "full_train"), ("cifar10:data", "validation"))
    True
    >>> shares_images(("cifar10", "train"), ("cifar10", "test"))
    False
    """
    (kind, place), (other_kind, other_place) = _place(one[0]), _place(other[0])
    if kind != other_kind:
        return False
    if kind == "folder":
        pairs = [(first, second) for first in _folders(one) for second in _folders(other)]
        return any(
            first == second or first in second.parents or second in first.parents for first, second in pairs
        )
    # An npz file is one part, whatever split it is called.
    return place == other_place and (kind == "npz" or bool(_parts(one[1]) & _parts(other[1])))


def is_one_part(spec: str, splits: tuple[str, str]) -> bool:
    """Return whether two splits of a data set are the same images, under two names."""
    kind, _ = _place(spec)
    if kind != "folder":
        return kind == "npz"
    one, two = (_folders((spec, split)) for split in splits)
    return bool(one) and one == two


def _place(spec: str) -> Part:
    """Return the kind of a spec and what it names, in one form however it is written."""
    kind, _, rest = spec.partition(":")
    if kind in ("folder", "npz"):
        return kind, str(Path(rest).expanduser().resolve())
    if kind == "planted":
        try:
            return kind, read_knobs(rest).spec
        except ValueError:
            # Of another version.
            return kind, rest
    return kind, "" if kind in CIFARS else rest


def _folders(part: Part) -> list[Path]:
    """Return the folders of class folders that a part is; none where it does not exist."""
    spec, split = part
    try:
        return split_folders(_place(spec)[1], split)
    except (OSError, ValueError):
        return []


def _parts(split: str) -> set[str]:
    return {"train", "validation"} if split == "full_train" else {split}
