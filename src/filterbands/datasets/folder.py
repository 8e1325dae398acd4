"""Data sets of the user: a folder of image files, or an `.npz` file of arrays."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ..types import Images
from .imageset import ImageSet, check_split

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_PARTS = {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}
_LARGEST = 4 * 2**30
# Modes whose samples are wider than a byte, which Pillow would clamp at 255.
_WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFiles:
    """Paths of image files, with their labels."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    """Class numbers, from 0."""
    classes: tuple[str, ...]
    """Names of the class folders, sorted."""

    def first(self, count: int) -> "ImageFiles":
        """Return the first files, with the classes of all."""
        return ImageFiles(paths=self.paths[:count], labels=self.labels[:count], classes=self.classes)


def list_images(folder: str | Path, *, split: str = "test") -> ImageFiles:
    """Return the files of one split of a folder that has one subfolder per class, sorted by class and name.

    If the folder contains `train`, `val` (or `validation`) or `test` folders of class folders, the split
    selects one of them. Classes are numbered over all these folders, so that a class has the same number in
    each. Otherwise all files belong to the requested split, and there is no `validation`. Files other than
    png, jpg, jpeg, bmp and webp, and hidden files, are ignored.

    Raises:
        FileNotFoundError: The folder does not exist, or lacks the split.
        ValueError: The split is unknown, there are fewer than 2 classes, or a class has no images.
    """
    root = Path(folder)
    check_split("folder", split)
    if not root.is_dir():
        what = "is a file; npz:FILE reads arrays" if root.exists() else "does not exist"
        raise FileNotFoundError(f"folder needs a folder with one subfolder per class, but {root} {what}")
    parts = _parts(root)
    chosen = _chosen(root, parts, split)
    classes = tuple(sorted({name for part in parts.values() or [root] for name in _subfolders(part)}))
    if len(classes) < 2:
        raise ValueError(f"{chosen[0]} needs at least 2 class folders of images, found {len(classes)}")
    paths: list[Path] = []
    labels: list[int] = []
    for part in chosen:
        for label, name in enumerate(classes):
            if not (part / name).is_dir():
                continue
            files = _files(part / name)
            if not files:
                raise ValueError(
                    f"{part / name} holds no images ({', '.join(_SUFFIXES)}); add some or remove it"
                )
            paths += files
            labels += [label] * len(files)
    return ImageFiles(paths=tuple(paths), labels=tuple(labels), classes=classes)


def read_images(paths: tuple[Path, ...], *, size: int | None = None) -> Images:
    """Return image files decoded to RGB, in order.

    Args:
        paths: At least one file.
        size: Resize the short side to this many pixels (bilinear, antialiased) and crop the center
            square. None leaves images unchanged; all must have one size.

    Raises:
        ValueError: Sizes differ, a file is not a complete image or has samples wider than a byte, or the
            images need more than 4 GiB.
    """
    first = _decode(paths[0], size)
    height, width = first.shape[:2]
    if (total := len(paths) * 3 * height * width) > _LARGEST:
        raise ValueError(
            f"{len(paths):,} images of {height}x{width} take {total / 2**30:.1f} GiB decoded, more than the "
            f"limit of {_LARGEST / 2**30:g} GiB; use fewer images or a smaller --size (size=)"
        )
    images = np.empty((len(paths), height, width, 3), dtype=np.uint8)
    images[0] = first
    for number, path in enumerate(paths[1:], start=1):
        image = _decode(path, size)
        if image.shape != first.shape:
            raise ValueError(
                f"images of one size are needed, but {paths[0]} is {height}x{width} and {path} is "
                f"{image.shape[0]}x{image.shape[1]} (height x width); give --size N (size=N)"
            )
        images[number] = image
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def load_folder(
    folder: str | Path, *, split: str = "test", size: int | None = None, limit: int | None = None
) -> ImageSet:
    """Return one split of a folder that has one subfolder per class, in memory.

    Args:
        folder: As for `list_images`.
        split: `train`, `validation`, `full_train` (both) or `test`.
        size: As for `read_images`.
        limit: Number of files to read, the first ones; None for all.

    Raises:
        FileNotFoundError: As for `list_images`.
        ValueError: As for `list_images` and `read_images`.
    """
    files = list_images(folder, split=split)
    files = files if limit is None else files.first(limit)
    images = read_images(files.paths, size=size)
    return ImageSet(
        name=f"folder:{Path(folder).resolve().name}",
        split=split,
        images=images,
        labels=torch.tensor(files.labels, dtype=torch.int64),
        classes=files.classes,
        index=torch.arange(len(files.paths)),
    )


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
        raise ValueError(
            f"{path} needs arrays named images and labels (or x and y), found {', '.join(arrays) or 'none'}"
        )
    images = _as_nchw(arrays[pixels], where=f"{path}: {pixels}")
    labels = arrays[targets]
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise ValueError(
            f"{path}: {targets} must be {len(images):,} whole numbers, one per image, "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    if len(labels) == 0:
        raise ValueError(f"{path} holds no images")
    if int(labels.min()) < 0:
        raise ValueError(f"{path}: {targets} must be class numbers from 0, got {int(labels.min())}")
    classes = _npz_classes(path, arrays.get("classes"), int(labels.max()) + 1)
    return ImageSet(
        name=f"npz:{path.stem}",
        split=split,
        images=images,
        labels=torch.from_numpy(labels.astype(np.int64)),
        classes=classes,
        index=torch.arange(len(labels)),
    )


def _parts(root: Path) -> dict[str, Path]:
    """Return the split folders of a folder; a class folder named `train` is not a split folder."""
    return {
        split: root / name
        for split, names in _PARTS.items()
        for name in names
        if (root / name).is_dir() and _subfolders(root / name)
    }


def _chosen(root: Path, parts: dict[str, Path], split: str) -> list[Path]:
    if not parts:
        if split == "validation":
            raise FileNotFoundError(
                f"{root} has no validation part; put its class folders into train, val and test folders"
            )
        return [root]
    first, *others = ("train", "validation") if split == "full_train" else (split,)
    if first not in parts:
        raise FileNotFoundError(f"{root} has no {first} folder; its splits are {', '.join(parts)}")
    return [parts[name] for name in (first, *others) if name in parts]


def _subfolders(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _decode(path: Path, size: int | None) -> Any:
    try:
        with Image.open(path) as image:
            if image.mode in _WIDE_MODES:
                raise ValueError(
                    f"{path} has samples wider than a byte (mode {image.mode}); convert it to 8 bits"
                )
            rgb = image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ValueError(f"{path} cannot be read: {reason}; copy it again or remove it") from None
    if size is not None:
        short = min(rgb.size)
        width, height = (max(size, round(side * size / short)) for side in rgb.size)
        rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        rgb = rgb.crop((left, top, left + size, top + size))
    return np.asarray(rgb)


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
                return {name: archive[name] for name in wanted or archive if name in archive}
        except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} is not an .npz of plain arrays: {error}") from None


def _as_nchw(images: Any, *, where: str) -> Images:
    if images.dtype != np.uint8:
        raise ValueError(
            f"{where} must be uint8 from 0 to 255, got {images.dtype}; scale, round and convert it"
        )
    if images.ndim != 4:
        raise ValueError(f"{where} must have 4 axes, NHWC or NCHW, got shape {images.shape}")
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
    if names.dtype.kind != "U" or names.ndim != 1 or len(names) < fewest:
        raise ValueError(
            f"{path}: classes must be at least {fewest} names, one per class, "
            f"got {names.dtype} of shape {names.shape}"
        )
    return tuple(str(name) for name in names)
