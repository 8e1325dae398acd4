"""Data sets of the user: a folder of image files, in class folders."""

import logging
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from ..disk import check_input
from .classes import number_classes
from .decoding import SUFFIXES, Remarks, read_images, say_remarks
from .imageset import ImageSet, check_split
from .limits import limited_positions
from .reading import Reading

_LOG = logging.getLogger(__name__)
# Names of split folders, in small letters.
_PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
# What systems leave in folders, in small letters; hidden files are left out too.
_RUBBISH = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFiles:
    """Paths of image files, with their labels."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    """Class numbers, from 0."""
    classes: tuple[str, ...]
    """Names of all classes, by number."""
    names: tuple[str, ...]
    """CLASS/FILE of each; files may lie in folders of the class folder."""
    index: tuple[int, ...]
    """Number of each file in its split; it is the key of corruptions."""
    present: tuple[int, ...]
    """Numbers of the classes of which the folder has images, whichever of them are taken."""

    def limited(self, limit: int | None) -> "ImageFiles":
        """Return evenly many files of each class, with their numbers and the classes of all files."""
        chosen = limited_positions(self.labels, limit).tolist()
        parts: dict[str, Any] = {
            name: tuple(getattr(self, name)[place] for place in chosen)
            for name in ("paths", "labels", "names", "index")
        }
        return replace(self, **parts)

    def fingerprint(self) -> str:
        """Return the sha256 of the names and bytes of all files.

        Raises:
            FileNotFoundError: A file has been removed.
            ValueError: A pipe or device among them.
        """
        digest = sha256()
        for name, path in zip(self.names, self.paths, strict=True):
            content = check_input(path).read_bytes()
            digest.update(f"{name} {len(content)}\n".encode())
            digest.update(content)
        return digest.hexdigest()


def list_images(folder: str | Path, *, split: str = "test", reading: Reading | None = None) -> ImageFiles:
    """Return the files of one split of a folder that has one subfolder per class, by class and name.

    If the folder contains `train` (or `training`), `val` (`valid`, `validation`) or `test` (`testing`)
    folders of class folders, in any case, the split selects one of them. Classes are numbered over all
    these folders, so that a class has the same number in each; one that has none of the classes of `train`
    is no part of them. Otherwise all files belong to the requested split, and there is no `validation`.
    Images in folders of a class folder belong to the class. Names are compared in Unicode's composed form.
    Other files are counted and named in a warning, except hidden ones.

    Args:
        folder: The folder.
        split: `train`, `validation`, `full_train` (both) or `test`.
        reading: Its `classes` and `class_order` number the class folders; None numbers them by name. Only
            with `classes` may a class folder be empty, or the only one.

    Raises:
        FileNotFoundError: The folder does not exist, or lacks the split.
        ValueError: The split is unknown, there are fewer than 2 classes, a class has no images, or its number
            is unclear.
    """
    root = Path(folder)
    reading = Reading() if reading is None else reading
    check_split("folder", split)
    if not root.is_dir():
        what = "is a file; npz:FILE reads arrays" if root.exists() else "does not exist"
        raise FileNotFoundError(f"folder needs a folder with one subfolder per class, but {root} {what}")
    parts = _parts(root)
    chosen = _chosen(root, parts, split)
    inside = {part: _class_folders(part) for part in parts.values() or [root]}
    _check_parts(root, parts, chosen, inside)
    folders = sorted({name for names in inside.values() for name in names})
    if len(folders) < (1 if reading.classes else 2):
        raise ValueError(
            f"{chosen[0]} needs at least 2 class folders of images, found {len(folders)}"
            + (f" ({folders[0]}); {_single(root, folders[0])}" if folders else "")
        )
    numbers, classes = number_classes(folders, reading, root=root)
    unread = [path for path in _entries(root) if parts and path not in parts.values()]
    found: list[tuple[Path, int, str]] = []
    empty: list[Path] = []
    for part in chosen:
        unread += [path for path in _entries(part) if not path.is_dir()]
        for label, name in sorted((numbers[name], name) for name in inside[part]):
            place = inside[part][name]
            files, others = image_files(place)
            unread += others
            if not files:
                empty.append(place)
            found += [(path, label, f"{place.name}/{path.relative_to(place).as_posix()}") for path in files]
    if empty and not reading.classes:
        raise ValueError(f"{empty[0]} holds no images ({', '.join(SUFFIXES)}); add some or remove it")
    if not found:
        raise ValueError(f"{chosen[0]} holds no images ({', '.join(SUFFIXES)}) in its class folders")
    _say_left_out(root, unread, empty, reading)
    paths, labels, names = zip(*found, strict=True)
    return ImageFiles(
        paths=paths,
        labels=labels,
        classes=classes,
        names=names,
        index=tuple(range(len(paths))),
        present=tuple(sorted(set(labels))),
    )


def split_folders(folder: str | Path, split: str) -> list[Path]:
    """Return the folders of class folders that a split of a folder takes: itself, if it has no split folders.

    Raises:
        FileNotFoundError: The folder does not exist, or lacks the split.
        ValueError: The split is unknown.
    """
    check_split("folder", split)
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"folder needs a folder with one subfolder per class, but {root} is none")
    return _chosen(root, _parts(root), split)


def image_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the image files in a folder and the folders in it, by name, and the other files."""
    found = sorted(_walk(folder))
    images = [path for path in found if path.suffix.lower() in SUFFIXES]
    return images, [path for path in found if path.suffix.lower() not in SUFFIXES]


def load_folder(
    folder: str | Path, *, split: str = "test", reading: Reading | None = None, limit: int | None = None
) -> ImageSet:
    """Return one split of a folder that has one subfolder per class, in memory.

    Args:
        folder: As for `list_images`.
        split: `train`, `validation`, `full_train` (both) or `test`.
        reading: As for `list_images` and `read_images`.
        limit: Number of files to read, evenly many of each class; None for all.

    Raises:
        FileNotFoundError: As for `list_images`.
        ValueError: As for `list_images` and `read_images`.
    """
    reading = Reading() if reading is None else reading
    files = list_images(folder, split=split, reading=reading).limited(limit)
    remarks: Remarks = {}
    images = read_images(files.paths, reading=reading, remarks=remarks)
    name = f"folder:{Path(folder).resolve().name}"
    say_remarks(remarks, reading, images=len(images), name=name)
    return ImageSet(
        name=name,
        split=split,
        images=images,
        labels=torch.tensor(files.labels, dtype=torch.int64),
        classes=files.classes,
        index=torch.tensor(files.index),
    )


def _parts(root: Path) -> dict[str, Path]:
    """Return the split folders of a folder; a class folder named `train` is not a split folder."""
    folders = {path.name.lower(): path for path in sorted(_entries(root)) if path.is_dir()}
    return {
        split: folders[name]
        for split, names in _PARTS.items()
        for name in names
        if name in folders and _subfolders(folders[name])
    }


def _class_folders(part: Path) -> dict[str, Path]:
    """Return the class folders by their names in composed form, which file systems write in two ways."""
    found: dict[str, Path] = {}
    for name in sorted(_subfolders(part)):
        other = found.setdefault(unicodedata.normalize("NFC", name), part / name)
        if other != part / name:
            raise ValueError(
                f"{part} has two class folders of one name, {name}, in two forms of Unicode; join them"
            )
    return found


def _check_parts(
    root: Path, parts: dict[str, Path], chosen: list[Path], inside: dict[Path, dict[str, Path]]
) -> None:
    """Take out of `inside` the split folders without a class of `train`; refuse one that is chosen."""
    if "train" not in parts:
        return
    known = inside[parts["train"]].keys()
    for split, part in parts.items():
        names = inside[part].keys()
        if split == "train" or names <= known:
            continue
        some = ", ".join(sorted(names - known)[:3])
        if names & known:
            _LOG.warning(
                "%s: %s has class folders that train lacks, numbered with the others: %s",
                root,
                part.name,
                some,
            )
        elif part in chosen:
            raise ValueError(
                f"{part} has no class folder that train has ({some}); sort its files into class folders"
            )
        else:
            del inside[part]


def _single(root: Path, name: str) -> str:
    """Return what to do about a folder that holds one folder alone."""
    if _subfolders(root / name) if (root / name).is_dir() else False:
        return f"if its class folders lie in there, name folder:{root / name}"
    return "--classes FILE (classes=) gives it its number"


def _chosen(root: Path, parts: dict[str, Path], split: str) -> list[Path]:
    if not parts:
        if split == "validation":
            raise FileNotFoundError(
                f"{root} has no validation part; put its class folders into train, val and test folders"
            )
        return [root]
    first, *others = ("train", "validation") if split == "full_train" else (split,)
    flat = [path for path in _entries(root) if path.is_dir() and path.name.lower() in _PARTS[first]]
    if first not in parts and flat:
        raise FileNotFoundError(
            f"{flat[0]} has no class folders in it; sort its files into one folder per class"
        )
    if first not in parts:
        raise FileNotFoundError(
            f"{root} has no {first} folder; its splits are {', '.join(parts)}; name one, as --split or split="
        )
    return [parts[name] for name in (first, *others) if name in parts]


def _entries(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.name.lower() not in _RUBBISH
    ]


def _subfolders(folder: Path) -> list[str]:
    return [path.name for path in _entries(folder) if path.is_dir()]


def _walk(folder: Path) -> Iterator[Path]:
    for path in _entries(folder):
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def _say_left_out(root: Path, unread: list[Path], empty: list[Path], reading: Reading) -> None:
    own = Path(reading.classes).expanduser().resolve() if reading.classes else None
    for what, paths in (
        ("files or folders are not read", [path for path in unread if path.resolve() != own]),
        ("class folders hold no images", empty),
    ):
        if paths:
            named = ", ".join(str(path.relative_to(root)) for path in paths[:3])
            _LOG.warning("%s: %d %s: %s%s", root, len(paths), what, named, ", ..." if paths[3:] else "")
