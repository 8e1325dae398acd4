"""Corrupted copies on disk: arrays as those of CIFAR-10-C, or image files as those of ImageNet-C."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from jaxtyping import Int64
from torch import Tensor

from ..corruptions import CORRUPTIONS
from ..datasets import Reading, image_files, image_size, read_images
from ..disk import check_input
from ..scores import SEVERITIES
from ..types import Images
from .arrays import CorruptedArrays, check_origin, read_record, recorded_seed, state_of
from .files import Files
from .sources import Source

_LOG = logging.getLogger(__name__)
_GEOMETRY: dict[str, Any] = {"resize": 0, "crop": 0, "interpolation": None}


def open_corrupted(folder: Path, images: Source) -> "Corrupted":
    """Open a folder of corrupted copies and check that it belongs to these images.

    Raises:
        FileNotFoundError: No such folder, or nothing in it.
        ValueError: Copies of other images.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder of corrupted arrays or files: {folder}")
    places = {} if any(folder.glob("*.npy")) else _kind_folders(folder)
    if not places:
        if not any(folder.glob("*.npy")):
            raise FileNotFoundError(
                f"{folder} has no labels.npy and fog.npy as CIFAR-10-C has, and no "
                "folders KIND/SEVERITY/CLASS as ImageNet-C has"
            )
        return CorruptedArrays(folder, images)
    if images.files is None:
        raise ValueError(
            f"{folder} holds image files, which are found by the class and name of the clean ones; give "
            f"those as folder:DIR (Files), got {images.name}"
        )
    return CorruptedFiles(folder, places, images, images.files)


def _kind_folders(folder: Path) -> dict[str, Path]:
    """Return the folders of kinds; they may lie in folders of families."""
    for pattern in ("*/[1-5]", "*/*/[1-5]"):
        if found := {path.parent.name: path.parent for path in folder.glob(pattern) if path.is_dir()}:
            return found
    return {}


class CorruptedFiles:
    """A folder of KIND/SEVERITY/CLASS/FILE, each file a copy of the clean file of this class and name.

    The endings of both names may differ.
    """

    by_severity = True

    def __init__(self, folder: Path, places: dict[str, Path], images: Source, clean: Files) -> None:
        """Take the clean files, of which each needs a copy.

        Raises:
            ValueError: Two clean files that would have one copy, or a copy that was made of other files or
                otherwise than the clean files are read.
        """
        self.path = folder.resolve()
        self._folder, self._places, self._images, self._clean = folder, places, images, clean
        there = {int(path.name) for place in places.values() for path in place.glob("[1-5]")}
        self.severities: tuple[int, ...] = tuple(one for one in SEVERITIES if one in there)
        self._known: dict[str, int] = {}
        for number, name in enumerate(clean.files.names):
            other = self._known.setdefault(_stem(name), number)
            if other != number:
                raise ValueError(
                    f"{clean.files.paths[other]} and {clean.files.paths[number]} would have one corrupted "
                    f"copy in {folder}; rename one"
                )
        record = read_record(folder)
        self.seed = recorded_seed(record)
        self._fitted = self._were_fitted(record)
        if record is not None:
            self._check_origin(record)
        self._clean_fit: bool | None = None
        self._readings: dict[tuple[str, int], Reading] = {}
        self._sums: dict[tuple[str, int], str] = {}
        # States of the files of a cell before they were hashed.
        self._states: dict[tuple[str, int], str] = {}
        self._listed: tuple[tuple[str, int], list[Path]] | None = None
        self._said: set[str] = set()

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds whose folders exist: the known ones in their order, then the others."""
        known = [kind for kind in CORRUPTIONS if kind in self._places]
        return (*known, *sorted(self._places.keys() - set(known)))

    def check(self, kind: str, severities: Sequence[int]) -> None:
        """Raise unless each image has a copy of a kind at these severities, of the size of the images.

        Raises:
            FileNotFoundError: A copy is missing.
            ValueError: Copies of another size, or two of one image.
        """
        for severity in severities:
            paths = self._paths(kind, severity)
            height, width = self._images.shape[1:]
            reading = self._as_stored() if image_size(paths[0]) == (height, width) else self._clean.reading
            self._checked(paths[:1], reading)

    def sha256(self, kind: str, severity: int) -> str:
        """Return the sha256 of the names and bytes of all copies, and of how they are read."""
        cell = kind, severity
        if cell not in self._sums:
            paths, digest = self._paths(kind, severity), sha256()
            self._states[cell] = state_of(paths)
            for stem, path in zip(self._known, paths, strict=True):
                content = check_input(path).read_bytes()
                digest.update(f"{stem} {len(content)}\n".encode())
                digest.update(content)
            self._readings[cell] = reading = self._reading(paths)
            digest.update(repr(sorted(reading.pixels().items())).encode())
            self._sums[cell] = digest.hexdigest()
        return self._sums[cell]

    def check_unchanged(self, kind: str, severity: int) -> None:
        """Raise ValueError where a copy of a cell is another one than was hashed."""
        if self._states[kind, severity] != state_of(self._paths(kind, severity)):
            place = self._places[kind] / str(severity)
            raise ValueError(f"a file in {place} changed while it was read; run the same command again")

    def read(self, kind: str, severity: int, positions: Int64[Tensor, " n"]) -> Images:
        """Return the corrupted images of the images at these positions."""
        self.sha256(kind, severity)
        paths = self._paths(kind, severity)
        return self._checked([paths[one] for one in positions.tolist()], self._readings[kind, severity])

    def _checked(self, paths: Sequence[Path], reading: Reading) -> Images:
        images = read_images(paths, reading=reading)
        if tuple(images.shape[1:]) != self._images.shape:
            _, height, width = self._images.shape
            raise ValueError(
                f"{paths[0]} is {images.shape[2]}x{images.shape[3]}, but the clean images are "
                f"{height}x{width} (height x width); give --size N (size=), or --resize and --crop"
            )
        return images

    def _paths(self, kind: str, severity: int) -> list[Path]:
        """Return the copies in the order of the images; those of one cell are remembered."""
        if self._listed is not None and self._listed[0] == (kind, severity):
            return self._listed[1]
        if kind not in self._places:
            raise FileNotFoundError(f"{self._folder} has no {kind}; its kinds are {', '.join(self.kinds())}")
        cell = self._places[kind] / str(severity)
        if not cell.is_dir():
            there = ", ".join(str(one) for one in SEVERITIES if (cell.parent / str(one)).is_dir())
            raise FileNotFoundError(f"{cell.parent} has severities {there}, not {severity}")
        found: dict[str, Path] = {}
        for label in sorted({stem.partition("/")[0] for stem in self._known}):
            for path in image_files(cell / label)[0] if (cell / label).is_dir() else ():
                stem = _stem(path.relative_to(cell).as_posix())
                if found.setdefault(stem, path) != path:
                    raise ValueError(f"{found[stem]} and {path} are copies of one image; remove one")
        if missing := [number for stem, number in self._known.items() if stem not in found]:
            raise FileNotFoundError(
                f"{cell} lacks copies of {len(missing):,} of {len(self._known):,} clean images, first of "
                f"{self._clean.files.names[missing[0]]}; name the folder of the images that were corrupted, "
                "and the same --split and --limit"
            )
        if more := len(found) - len(self._known):
            self._say(f"has {more:,} images more in each cell than the clean ones, which are not read")
        self._listed = (kind, severity), [found[stem] for stem in self._known]
        return self._listed[1]

    def _check_origin(self, record: dict[str, Any]) -> None:
        files, images = self._clean.files, record.get("images")
        whole = images == len(files.index) and record.get("index", list(range(images))) == list(files.index)
        check_origin(
            self._folder, record, self._images, record.get("contents") if whole else None, files.fingerprint
        )

    def _were_fitted(self, record: dict[str, Any] | None) -> bool | None:
        """Return whether `corrupt` resized or cropped before; None of copies that others made."""
        if record is None:
            return None
        side = record.get("size")
        made = record.get("reading") or ({"resize": side, "crop": side} if side else {})
        fitted = bool(made.keys() & _GEOMETRY.keys())
        given = self._clean.reading if fitted else self._as_stored()
        if made != given.pixels():
            raise ValueError(
                f"{self._folder} is of images read with {_flags(made)}, the clean ones are read with "
                f"{_flags(given.pixels())}; give the same options"
            )
        return fitted

    def _say(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            _LOG.warning("%s %s", self._folder, what)

    def _as_stored(self) -> Reading:
        return replace(self._clean.reading, **_GEOMETRY)

    def _reading(self, paths: Sequence[Path]) -> Reading:
        """Return how the copies of a cell are read: as the clean files, or as they are if they fit."""
        stored = self._as_stored()
        if self._fitted is None and self._clean.reading != stored:
            if self._clean_fit is None:
                self._clean_fit = self._fit(self._clean.files.paths)
            # Where the clean files have this size too, what is done to them is done to the copies.
            if self._fit(paths) and not self._clean_fit:
                self._say("has images of the size of the clean ones, and they are taken as they are")
                return stored
            if image_size(paths[0]) != image_size(self._clean.files.paths[0]):
                self._say("has images of another size than the clean files; they are resized like these")
        return stored if self._fitted else self._clean.reading

    def _fit(self, paths: Sequence[Path]) -> bool:
        """Return whether most files have the size that the network sees; others may have it by chance."""
        size = self._images.shape[1:]
        return 2 * sum(image_size(path) == size for path in paths) > len(paths)


Corrupted: TypeAlias = CorruptedArrays | CorruptedFiles


def _stem(name: str) -> str:
    head, _, tail = name.rpartition(".")
    return head if "/" not in tail else name


def _flags(options: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items()) or "no options"
