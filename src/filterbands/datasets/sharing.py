"""Whether two splits of data sets have images in common, as far as their names tell."""

from pathlib import Path

from .cifar import CIFARS
from .folder import split_folders
from .npz import npz_parts, parts_of
from .planted import read_knobs

Part = tuple[str, str]
"""A spec as `load_data` takes it, and a split."""


def shares_images(one: Part, other: Part) -> bool:
    """Return whether two parts of data sets have images in common.

    Folders and files of arrays are compared by what a split takes, so that one without splits is one part.
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
    return place == other_place and bool(_parts(one) & _parts(other))


def is_one_part(spec: str, splits: tuple[str, str]) -> bool:
    """Return whether two splits of a data set are the same images, under two names."""
    kind, _ = _place(spec)
    if kind == "npz":
        return bool(one := _parts((spec, splits[0]))) and one == _parts((spec, splits[1]))
    if kind != "folder":
        return False
    first, second = (_folders((spec, split)) for split in splits)
    return bool(first) and first == second


def placed(spec: str) -> str:
    """Return a spec that means the same from every working directory.

    >>> placed("folder:photos") == f"folder:{Path.cwd() / 'photos'}"
    True
    >>> placed("planted:low=0.5"), placed("cifar10")
    ('planted:low=0.5', 'cifar10')
    """
    kind, colon, rest = spec.partition(":")
    if rest and kind in ("folder", "npz", *CIFARS):
        return f"{kind}{colon}{Path(rest).expanduser().resolve()}"
    return spec


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


def _parts(part: Part) -> set[str]:
    """Return which parts of its data set a split takes; those of a file go by what is in it."""
    spec, split = part
    kind, place = _place(spec)
    return npz_parts(place, split) if kind == "npz" else parts_of(split)
