"""Data sets of the user: an `.npz` file of arrays."""

import logging
from collections.abc import Sequence
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


def load_npz(file: str | Path, *, split: str = "test") -> ImageSet:
    """Return the arrays `images` and `labels` (or `x` and `y`) of an `.npz` file.

    The file is one split of a data set, and `split` names it; keep one file per split. `validation` is
    refused, so that choices are not made on training images by accident.

    Args:
        file: `images` is uint8, NHWC or NCHW with 1 or 3 channels. `labels` are whole numbers from 0, one per
            image. `classes` are optional names; without them, classes are named by their numbers.
        split: `train`, `full_train` or `test`.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The split is unknown, or the arrays differ from this description.
    """
    path = Path(file)
    check_split("npz", split)
    if split == "validation":
        raise ValueError(
            f"{path} is one part of a data set and has no validation part; name a file of its own "
            "as npz:FILE with split test"
        )
    arrays = read_arrays(path, ("images", "labels", "x", "y", "classes"))
    pixels, targets = ("images", "labels") if {"images", "labels"} <= arrays.keys() else ("x", "y")
    if not {pixels, targets} <= arrays.keys():
        found = ", ".join(_names_in(path)[:8]) or "none"
        raise ValueError(f"{path} needs arrays named images and labels (or x and y), found {found}")
    images = _as_nchw(arrays[pixels], where=f"{path}: {pixels}")
    labels = arrays[targets]
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise ValueError(
            f"{path}: {targets} must be {len(images):,} whole numbers, one per image, "
            f"got {labels.dtype} of shape {labels.shape}"
            + ("; of one column per class take labels.argmax(1)" if labels.ndim == 2 else "")
        )
    if len(labels) == 0:
        raise ValueError(f"{path} holds no images")
    if int(labels.max()) >= CLASSES:
        raise ValueError(
            f"{path}: {targets} must be class numbers below the limit of {CLASSES:,}, "
            f"got {int(labels.max()):,}"
        )
    if int(labels.min()) < 0:
        raise ValueError(f"{path}: {targets} must be class numbers from 0, got {int(labels.min())}")
    if int(labels.min()) == 1 and "classes" not in arrays:
        _LOG.warning("%s: no image has label 0; if labels count from 1, subtract 1", path)
    classes = _npz_classes(path, arrays.get("classes"), int(labels.max()) + 1)
    return ImageSet(
        name=f"npz:{path.stem}",
        split=split,
        images=images,
        labels=torch.from_numpy(labels.astype(np.int64)),
        classes=classes,
        index=torch.arange(len(labels)),
    )


def _names_in(path: Path) -> list[str]:
    with np.load(path, allow_pickle=False) as archive:
        return list(archive.files)


def read_arrays(path: Path, wanted: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the arrays of an `.npz` file by name: all, or those wanted that are there.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is no `.npz`, or holds objects.
    """
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
                taken = [name for name in wanted or archive if name in archive]
                check_arrays(archive.zip)
                return {name: archive[name] for name in taken}
        except DAMAGED as error:
            raise ValueError(f"{path} is not an .npz of plain arrays: {error}") from None


def _as_nchw(images: Any, *, where: str) -> Images:
    if images.dtype != np.uint8:
        raise ValueError(
            f"{where} must be uint8 from 0 to 255, got {images.dtype}; scale, round and convert it"
        )
    if images.ndim != 4:
        cure = "; of gray images add the channel, images[:, None]" if images.ndim == 3 else ""
        raise ValueError(f"{where} must have 4 axes, NHWC or NCHW, got shape {images.shape}{cure}")
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
