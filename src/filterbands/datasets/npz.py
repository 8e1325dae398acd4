"""Data sets of the user: an `.npz` file of arrays."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..disk import DAMAGED, check_arrays
from ..types import Images
from .imageset import ImageSet, check_split

_LOG = logging.getLogger(__name__)
CLASSES = 1_000_000
"""Most classes of a data set."""


_WHOLE = "all"
# Names of the parts of a data set in names of arrays, in small letters.
_PARTS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}


def load_npz(file: str | Path, *, split: str = "test") -> ImageSet:
    """Return the images and labels of an `.npz` file.

    Arrays named `images` and `labels`, or `x` and `y`, are one part of a data set, and `split` names it;
    `validation` is refused there, so that choices are not made on training images by accident. Otherwise the
    split selects among `train_images` and `train_labels`, or `x_train` and `y_train`, and likewise `val`
    (`valid`, `validation`) and `test`. Names may have capitals.

    Args:
        file: Images are uint8, NHWC or NCHW with 1 or 3 channels; gray ones without an axis of channels
            become three equal channels, as gray image files do. Labels are whole numbers from 0, one per
            image. `classes` are optional names; without them, classes are named by their numbers.
        split: `train`, `validation`, `full_train` (both, or `train` alone where the file has no other) or
            `test`.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The split is unknown or not in the file, or the arrays differ from this description.
    """
    path = Path(file)
    check_split("npz", split)
    names = _names_in(path)
    pairs = _pairs(names)
    chosen = _chosen(path, names, pairs, split)
    classes = {name.lower(): name for name in names}.get("classes")
    wanted = {pairs[part][0] for part in chosen} | {labels for _, labels in pairs.values()}
    arrays = read_arrays(path, [*wanted, *([classes] if classes else [])])
    images = [_as_nchw(arrays[pairs[part][0]], where=f"{path}: {pairs[part][0]}") for part in chosen]
    if len(shapes := {tuple(part.shape[1:]) for part in images}) > 1:
        one, other = sorted(shapes)
        raise ValueError(f"{path}: images of one data set differ in shape, {one} and {other}; take one part")
    counts = {part: len(held) for part, held in zip(chosen, images, strict=True)}
    # A part may lack classes that others have, and has their numbers all the same.
    labels = {
        part: _as_labels(arrays[name], counts.get(part), where=f"{path}: {name}")
        for part, (_, name) in pairs.items()
    }
    every = np.concatenate([*labels.values()])
    if int(every.min()) == 1 and not classes:
        _LOG.warning("%s: no image has label 0; if labels count from 1, subtract 1", path)
    taken = np.concatenate([labels[part] for part in chosen])
    return ImageSet(
        name=f"npz:{path.stem}",
        split=split,
        images=images[0] if len(images) == 1 else torch.cat(images),
        labels=torch.from_numpy(taken),
        classes=_npz_classes(path, arrays[classes] if classes else None, int(every.max()) + 1),
        index=torch.arange(len(taken)),
    )


def npz_parts(file: str | Path, split: str) -> set[str]:
    """Return the parts of an `.npz` file that a split takes; of a file that is one part, or none, `all`."""
    try:
        pairs = _pairs(_names_in(Path(file)))
    except (OSError, ValueError):
        pairs = {}
    return {_WHOLE} if _WHOLE in pairs or not pairs else parts_of(split) & pairs.keys()


def parts_of(split: str) -> set[str]:
    """Return the parts of a data set that a split takes."""
    return {"train", "validation"} if split == "full_train" else {split}


def _pairs(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the names of images and labels by part of the data set."""
    known = {name.lower(): name for name in names}
    found: dict[str, tuple[str, str]] = {}
    for pair in (("images", "labels"), ("x", "y")):
        if known.keys() >= {*pair}:
            return {_WHOLE: (known[pair[0]], known[pair[1]])}
    for part, spellings in _PARTS.items():
        for word in spellings:
            for pair in ((f"{word}_images", f"{word}_labels"), (f"x_{word}", f"y_{word}")):
                if known.keys() >= {*pair} and part not in found:
                    found[part] = known[pair[0]], known[pair[1]]
    return found


def _chosen(path: Path, names: Sequence[str], pairs: dict[str, tuple[str, str]], split: str) -> list[str]:
    """Return the parts that a split takes, those of training first."""
    if not pairs:
        found = ", ".join(names[:8]) or "none"
        raise ValueError(
            f"{path} needs arrays named images and labels, x and y, or by split as train_images and "
            f"train_labels or x_train and y_train; found {found}"
        )
    if _WHOLE in pairs:
        if split == "validation":
            raise ValueError(
                f"{path} is one part of a data set and has no validation part; name a file of its own "
                "as npz:FILE with split test"
            )
        return [_WHOLE]
    chosen = [part for part in _PARTS if part in parts_of(split) & pairs.keys()]
    if not chosen or (split == "full_train" and "train" not in chosen):
        raise ValueError(
            f"{path} has no {split.removeprefix('full_')} part; its splits are {', '.join(pairs)}; name one, "
            "as --split or split="
        )
    return chosen


def _names_in(path: Path) -> list[str]:
    with _opened(path) as archive:
        return list(archive.files)


def read_arrays(path: Path, wanted: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the arrays of an `.npz` file by name: all, or those wanted that are there.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is no `.npz`, or holds objects.
    """
    with _opened(path) as archive:
        return {name: archive[name] for name in archive if name in (wanted or archive)}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a checked archive to read from; raise ValueError for whatever is wrong with it."""
    if not path.is_file():
        what = "is a folder; folder:DIR reads images" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"npz needs a file of arrays, but {path} {what}")
    with path.open("rb") as stream:
        if (magic := stream.read(2)) != b"PK":
            raise ValueError(
                f"{path} is not an .npz of plain arrays: it starts with {magic!r}; numpy.savez writes one"
            )
        stream.seek(0)
        try:
            with np.load(stream, allow_pickle=False) as archive:
                check_arrays(archive.zip)
                yield archive
        except DAMAGED as error:
            raise ValueError(f"{path} is not an .npz of plain arrays: {error}") from None


def _as_labels(labels: Any, count: int | None, *, where: str) -> Any:
    """Return class numbers, one per image."""
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.dtype.kind not in "iu" or flat.ndim != 1 or count not in (None, len(flat)):
        several = labels.ndim == 2 and bool(((labels != 0).sum(1) > 1).any())
        cure = "; of one column per class take labels.argmax(1)" if labels.ndim == 2 else ""
        raise ValueError(
            f"{where} must be {'' if count is None else f'{count:,} '}whole numbers, one per image, got "
            f"{labels.dtype} of shape {labels.shape}" + ("; images have several labels" if several else cure)
        )
    if len(flat) == 0:
        raise ValueError(f"{where.rpartition(': ')[0]} holds no images")
    if int(flat.max()) >= CLASSES:
        raise ValueError(
            f"{where} must be class numbers below the limit of {CLASSES:,}, got {int(flat.max()):,}"
        )
    if int(flat.min()) < 0:
        raise ValueError(f"{where} must be class numbers from 0, got {int(flat.min())}")
    return flat.astype(np.int64)


def _as_nchw(images: Any, *, where: str) -> Images:
    if images.dtype != np.uint8:
        raise ValueError(
            f"{where} must be uint8 from 0 to 255, got {images.dtype}; scale, round and convert it"
        )
    if images.ndim == 3:
        # Gray, as in the files of MedMNIST and of Keras; equal channels, as of gray image files.
        return torch.from_numpy(np.repeat(images[:, None], 3, axis=1))
    if images.ndim != 4:
        raise ValueError(
            f"{where} must have 4 axes, NHWC or NCHW, or 3 for gray images, got shape {images.shape}"
        )
    first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
    if first == last:
        why = "either could be the channels" if first else "neither the 2nd nor the last axis is"
        raise ValueError(
            f"{where} must be NHWC or NCHW with 1 or 3 channels, got shape {images.shape}: {why}"
        )
    ordered = images if first else images.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(ordered))


def _npz_classes(path: Path, names: Any, fewest: int) -> tuple[str, ...]:
    if names is None:
        return tuple(str(number) for number in range(fewest))
    if names.dtype.kind != "U" or names.ndim != 1 or not fewest <= len(names) <= CLASSES:
        raise ValueError(
            f"{path}: classes must be at least {fewest} names, one per class, and at most {CLASSES:,}, "
            f"got {names.dtype} of shape {names.shape}"
        )
    return tuple(str(name) for name in names)
