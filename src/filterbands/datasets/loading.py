"""`load_data` and its specs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch

from ..disk import cache_folder
from ..hints import hint
from .cifar import load_cifar10, load_cifar100
from .folder import load_folder, load_npz
from .imageset import ImageSet
from .planted import planted, read_knobs

SPLITS = ("train", "validation", "full_train", "test")
"""All splits; choices are made on `validation`, and `test` is used last."""


def load_data(
    spec: str, *, split: str = "test", size: int | None = None, limit: int | None = None
) -> ImageSet:
    """Return the images of a data set that a spec names.

    Args:
        spec: `planted` or `planted:low=1,high=0,seed=3` (generated; see `planted`), `cifar10:DIR`,
            `cifar100:DIR` (without DIR: the folder that `filterbands data` has filled), `folder:DIR` (one
            subfolder per class) or `npz:FILE`.
        split: `train`, `validation`, `full_train` (both) or `test`. Of CIFAR's 50,000 training images the
            last 5,000 are `validation`.
        size: Side in pixels to which `folder` resizes images; None leaves them unchanged.
        limit: Number of images to take, the first ones; None for all. Of `folder`, no other file is read.

    Raises:
        FileNotFoundError: The data set does not exist there.
        ValueError: The spec, split or knob is unknown, the size or limit is out of range or the size is not
            applicable, or a file is damaged.

    >>> load_data("planted:high=0,seed=3", split="validation").name
    'planted:seed=3,high=0'
    """
    kind, _, place = spec.partition(":")
    if kind not in _KINDS:
        if spec and Path(spec).expanduser().exists():
            raise ValueError(f"data {spec!r} needs its kind in front of the place: one of {_KNOWN}")
        raise ValueError(f"unknown data {spec!r}{hint(kind, _KINDS, closeness=0.7)}; known are {_KNOWN}")
    if split not in SPLITS:
        raise ValueError(
            f"unknown split {split!r}{hint(split, SPLITS, closeness=0.7)}; known are {', '.join(SPLITS)}"
        )
    if size is not None and kind != "folder":
        raise ValueError(f"--size (size=) resizes the images of folder:DIR alone, got {spec!r}; leave it out")
    if size is not None and not 1 <= size <= 4096:
        raise ValueError(f"--size (size=) needs a side from 1 to 4096 pixels, got {size}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit needs a number of at least 1, got {limit}")
    if kind == "folder":
        return load_folder(_named("folder", "DIR", place), split=split, size=size, limit=limit)
    data = _LOADERS[kind](place, split)
    return data if limit is None else data.subset(torch.arange(min(limit, len(data))))


def _planted(place: str, split: str) -> ImageSet:
    return planted(read_knobs(place), split=split)


def _cifar10(place: str, split: str) -> ImageSet:
    return load_cifar10(_folder_or_cache("cifar10", place, "cifar-10-batches-py"), split=split)


def _cifar100(place: str, split: str) -> ImageSet:
    return load_cifar100(_folder_or_cache("cifar100", place, "cifar-100-python"), split=split)


def _npz(place: str, split: str) -> ImageSet:
    return load_npz(_named("npz", "FILE", place), split=split)


_LOADERS: Mapping[str, Callable[[str, str], ImageSet]] = MappingProxyType(
    {"planted": _planted, "cifar10": _cifar10, "cifar100": _cifar100, "npz": _npz}
)
_KINDS = (*_LOADERS, "folder")
_KNOWN = "planted, cifar10:DIR, cifar100:DIR, folder:DIR, npz:FILE"


def _named(kind: str, what: str, place: str) -> Path:
    if not place:
        raise ValueError(f"{kind} needs a place: write {kind}:{what}")
    return Path(place).expanduser()


def _folder_or_cache(kind: str, place: str, cached: str) -> Path:
    if place:
        return Path(place).expanduser()
    found = cache_folder() / cached
    if not found.is_dir():
        raise FileNotFoundError(
            f"{kind} needs its folder: write {kind}:DIR, or fetch it once with filterbands data {kind}"
        )
    return found
