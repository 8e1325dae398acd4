"""Corrupted images from arrays of the published layout, memory-mapped."""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ..corruptions import CORRUPTIONS
from ..disk import DAMAGED, check_input, read_json
from ..scores import SEVERITIES
from ..types import Images
from .sources import Source

_LOG = logging.getLogger(__name__)
# What images are called that have no name of their own.
_NAMELESS = ("arrays", "folder")


class CorruptedArrays:
    """A folder of corrupted arrays in the published layout, memory-mapped."""

    by_severity = False

    def __init__(self, folder: Path, images: Source) -> None:
        """Open it and check that it belongs to these images.

        Raises:
            FileNotFoundError: There is no labels.npy.
            ValueError: Labels of a severity that differ from those of the images, or a copy of other images.
        """
        self.path = folder.resolve()
        self._folder = folder
        self._images = images
        self._sums: dict[str, str] = {}
        # States of the files before they were hashed.
        self._states: dict[str, str] = {}
        self.severities: tuple[int, ...] = SEVERITIES
        # Numbers of the images whose rows are there; None where row i is of image i.
        self._numbers: tuple[int, ...] | None = None
        self.seed = recorded_seed(record := read_record(folder))
        if record is not None:
            self.severities = _read_severities(folder, record)
            self._numbers = _read_numbers(folder, record)
        labels = self._open("labels").reshape(-1)
        self._count, rest = divmod(len(labels), len(self.severities))
        numbers = range(self._count) if self._numbers is None else self._numbers
        self._rows = {number: row for row, number in enumerate(numbers)}
        missing = sorted(set(images.index.tolist()) - self._rows.keys())
        if rest or len(numbers) != self._count or (missing and self._numbers is None):
            raise ValueError(
                f"{folder}/labels.npy has {len(labels):,} labels; expected {len(self.severities)} times the "
                f"number of images, at least {int(images.index.max()) + 1:,}"
            )
        if missing:
            raise ValueError(
                f"{folder} has {self._count:,} images of the split, and not number {missing[0]:,}; "
                "give the same limit (--limit) as for the copy"
            )
        places = [self._rows[number] for number in images.index.tolist()]
        for severity, rows in zip(self.severities, labels.reshape(-1, self._count), strict=True):
            if not np.array_equal(np.asarray(rows[places], dtype=np.int64), images.labels.cpu().numpy()):
                raise ValueError(
                    f"{folder}/labels.npy does not hold the labels of {images.name} ({images.split}) "
                    f"for severity {severity}"
                )
        if record is not None:
            whole = images.index.tolist() == list(numbers)
            known = record.get("fingerprint") if whole else None
            check_origin(folder, record, images, known, lambda: images.fingerprint)

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds whose arrays exist: the known ones in their order, then the others.

        Raises:
            FileNotFoundError: There are none.
        """
        there = {path.stem for path in self._folder.glob("*.npy")} - {"labels", "clean"}
        if not there:
            raise FileNotFoundError(f"{self._folder} has no corrupted arrays, such as fog.npy")
        known = [kind for kind in CORRUPTIONS if kind in there]
        return (*known, *sorted(there - set(known)))

    def check(self, kind: str, severities: Sequence[int]) -> None:
        """Raise ValueError unless the array of a kind has these severities and the shape of the images."""
        for severity in severities:
            if severity not in self.severities:
                have = ", ".join(map(str, self.severities))
                raise ValueError(f"{self._folder} has severities {have}, not {severity}")
        rows = self._open(kind)
        channels, height, width = self._images.shape
        expected = (len(self.severities) * self._count, height, width, channels)
        if rows.dtype != np.uint8 or rows.shape != expected:
            raise ValueError(
                f"{self._folder}/{kind}.npy is {rows.dtype} {rows.shape}, expected uint8 {expected}"
            )

    def sha256(self, kind: str, _: int) -> str:
        """Return the sha256 of the file of a kind, and of what its record says of its severities and rows."""
        if kind not in self._sums:
            digest = sha256(b"" if self.severities == SEVERITIES else repr(self.severities).encode())
            digest.update(b"" if self._numbers is None else repr(self._numbers).encode())
            self._states[kind] = state_of([file := self._folder / f"{kind}.npy"])
            with file.open("rb") as stream:
                while block := stream.read(1 << 24):
                    digest.update(block)
            self._sums[kind] = digest.hexdigest()
        return self._sums[kind]

    def check_unchanged(self, kind: str, _: int) -> None:
        """Raise ValueError where the file of a kind is another one than was hashed."""
        if self._states[kind] != state_of([file := self._folder / f"{kind}.npy"]):
            raise ValueError(f"{file} changed while it was read; run the same command again")

    def read(self, kind: str, severity: int, positions: Int64[Tensor, " n"]) -> Images:
        """Return the corrupted images of the images at these positions."""
        first = self.severities.index(severity) * self._count
        numbers = self._images.index[positions].tolist()
        rows = self._open(kind)[[first + self._rows[number] for number in numbers]]
        return torch.from_numpy(np.ascontiguousarray(rows)).permute(0, 3, 1, 2)

    def _open(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        file = self._folder / f"{name}.npy"
        if not file.exists():
            raise FileNotFoundError(f"{self._folder} has no {name}.npy")
        try:
            array = np.load(check_input(file), mmap_mode="r", allow_pickle=False)
        except DAMAGED as error:
            raise ValueError(f"{file} is not a whole array: {error}") from None
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError(f"{file} is not a whole array: it is an archive of several")
        return array


def state_of(files: Iterable[Path]) -> str:
    """Return a hash of sizes and times of files, which is another one when one of them is written anew."""
    digest = sha256()
    for file in files:
        with suppress(FileNotFoundError):
            found = file.stat()
            # The last time is of the name too, which another file with an old time may have taken.
            digest.update(f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}".encode())
        digest.update(b"\n")
    return digest.hexdigest()


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return what `corrupt` wrote about a folder of copies, or None.

    Raises:
        ValueError: The record is not JSON.
    """
    file = folder / "corrupt.json"
    if not file.exists():
        return None
    content = read_json(file)
    return content if isinstance(content, dict) else {}


def check_origin(
    folder: Path, record: dict[str, Any], images: Source, known: Any, found: Callable[[], str]
) -> None:
    """Check that a copy was made of these images, as far as its record says.

    Args:
        folder: The copy.
        record: What `read_record` returned.
        images: The clean images.
        known: Hash of the images that were corrupted; None where these are fewer or where it is not known.
        found: Returns that of the clean images.

    Raises:
        ValueError: The copy was made of other images.

    A line says where the names of the data differ and the images cannot be compared.
    """
    named, here = (record.get("data"), record.get("split")), (images.name, images.split)
    if known is not None:
        if known == found():
            return
        # Images without names of classes have another hash.
        if images.name != "arrays":
            raise ValueError(
                f"{folder} is a corrupted copy of {named[0]} ({named[1]}) with other images, labels or names "
                f"than {here[0]} ({here[1]}) has now; give the images that were corrupted, or make the copy "
                "anew"
            )
    elif named == here or None in named or images.name in _NAMELESS:
        return
    _LOG.warning(
        "%s is a corrupted copy of %s (%s); whether it is one of %s (%s) cannot be seen: what is measured is "
        "wrong if these are other images",
        *(folder, *named, *here),
    )


def recorded_seed(record: dict[str, Any] | None) -> int | None:
    """Return the seed that a copy was made with; None if nothing says it."""
    seed = None if record is None else record.get("seed")
    return seed if type(seed) is int and -(2**63) <= seed < 2**63 else None


def _read_severities(folder: Path, record: dict[str, Any]) -> tuple[int, ...]:
    found = record.get("severities")
    if not isinstance(found, list) or not found or not set(map(repr, found)) <= set(map(repr, SEVERITIES)):
        raise ValueError(
            f'{folder / "corrupt.json"} needs "severities", a list of numbers from 1 to 5, got {found!r}'
        )
    return tuple(found)


def _read_numbers(folder: Path, record: dict[str, Any]) -> tuple[int, ...] | None:
    """Return the numbers of the images in their split; None where these are 0, 1, 2 ..."""
    numbers = record.get("index")
    if numbers is None:
        return None
    if not isinstance(numbers, list) or {type(number) for number in numbers} != {int}:
        raise ValueError(
            f'{folder / "corrupt.json"} needs "index", a list of the numbers of the images, '
            f"got {numbers!s:.60}"
        )
    return tuple(numbers)
