"""`load_data` and its specs."""

from pathlib import Path

from ..checks import hint
from ..disk import cache_folder
from .cifar import CIFARS, load_cifar
from .digits import digits
from .folder import load_folder
from .imageset import ImageSet, check_split
from .npz import load_npz
from .planted import planted, read_knobs
from .reading import Reading

# Each kind of spec, and the place behind it.
_KINDS = {"planted": "", "digits": "", **dict.fromkeys((*CIFARS, "folder"), ":DIR"), "npz": ":FILE"}
_KNOWN = ", ".join(kind + place for kind, place in _KINDS.items())


def load_data(
    spec: str,
    *,
    split: str = "test",
    size: int | None = None,
    limit: int | None = None,
    reading: Reading | None = None,
) -> ImageSet:
    """Return the images of a data set that a spec names.

    Args:
        spec: `planted` or `planted:low=1,high=0,seed=3` (generated; see `planted`), `digits` (handwritten
            digits that come with the package), `cifar10:DIR`, `cifar100:DIR` (without DIR: the folder that
            `filterbands data` has filled), `folder:DIR` (one subfolder per class) or `npz:FILE`.
        split: `train`, `validation`, `full_train` (both) or `test`. Of CIFAR's 50,000 training images the
            last 5,000 are `validation`.
        size: Side in pixels to which `folder` resizes and crops images; None leaves them unchanged.
        limit: Number of images to take; None for all. The first ones, or evenly many of each class where the
            images are sorted by class, as those of `folder` are, of which no other file is read.
        reading: How the files of `folder` are read, instead of by `size` alone.

    Raises:
        FileNotFoundError: The data set does not exist there.
        ValueError: The spec, split or knob is unknown, the size or limit is out of range or the size or
            reading is not applicable, or a file is damaged.

    >>> load_data("planted:high=0,seed=3", split="validation").name
    'planted:seed=3,high=0'
    """
    kind, _, place = spec.partition(":")
    if kind not in _KINDS:
        if spec and Path(spec).expanduser().exists():
            raise ValueError(f"data {spec!r} needs its kind in front of the place: one of {_KNOWN}")
        raise ValueError(f"unknown data {spec!r}{hint(kind, _KINDS, closeness=0.7)}; known are {_KNOWN}")
    check_split(kind, split)
    if size is not None and not 1 <= size <= 4096:
        raise ValueError(f"--size (size=) needs a side from 1 to 4096 pixels, got {size}")
    if size is not None and reading is not None:
        raise ValueError("give the size in the reading: Reading(size=N)")
    reading = reading or Reading(size=size or 0)
    if kind != "folder" and (given := reading.given()):
        name = next(iter(given))
        flag = "--size (size=)" if {"resize", "crop"} <= given.keys() else f"--{name.replace('_', '-')}"
        raise ValueError(f"{flag} says how files of folder:DIR alone are read, got {spec!r}; leave it out")
    if limit is not None and limit < 1:
        raise ValueError(f"limit needs a number of at least 1, got {limit}")
    if kind in ("folder", "npz") and not place:
        raise ValueError(f"{kind} needs a place: write {kind}{_KINDS[kind]}")
    path = Path(place).expanduser()
    if kind == "folder":
        return load_folder(path, split=split, reading=reading, limit=limit)
    if kind == "planted":
        data = planted(read_knobs(place), split=split)
    elif kind == "digits":
        if place:
            raise ValueError(f"digits comes with the package and takes no place, got {spec!r}; write digits")
        data = digits(split=split)
    elif kind == "npz":
        data = load_npz(path, split=split)
    else:
        data = load_cifar(CIFARS[kind], path if place else _cached(kind), split=split)
    return data.limited(limit)


def _cached(kind: str) -> Path:
    for layout in (CIFARS[kind].pickled, CIFARS[kind].binary):
        if (found := cache_folder() / layout.folder).is_dir():
            return found
    raise FileNotFoundError(
        f"{kind} needs its folder: write {kind}:DIR, or fetch it once with filterbands data {kind}"
    )
