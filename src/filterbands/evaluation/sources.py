"""Sources of labeled images: held in memory, or read piece by piece from a data set or from files."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import Any, Union

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import Dataset, Subset

from ..datasets import (
    ImageFiles,
    ImageSet,
    Reading,
    Remarks,
    limited_positions,
    read_images,
    say_remarks,
    sorted_by_class,
)
from ..types import Images, Labels

Data = Union[ImageSet, "Files", Dataset[Any], tuple[Any, Any]]
"""What `evaluate` takes; a pair is of images and labels, as arrays or tensors."""

# A data set of more bytes than this is read again for each cell instead of being held in memory.
_HELD = 1 << 30
# Bytes and number of the images that are processed together.
_CHUNK_BYTES, _CHUNK_IMAGES = 1 << 25, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Labeled images of one size, read by position, so that they need not fit into memory."""

    name: str
    """The data set's name."""
    split: str
    """Its split."""
    classes: tuple[str, ...]
    """The classes' names."""
    labels: Labels
    """One class number per image."""
    index: Int64[Tensor, " b"]
    """Each image's number in its split."""
    shape: tuple[int, int, int]
    """Channels, height, width."""
    fingerprint: str
    """The sha256 of all the above and of the pixels, equal to that of an `ImageSet` of the same images."""
    reader: Callable[[Sequence[int]], Images]
    """Returns the images at given positions; can be sent to workers if the data can."""
    named: bool = True
    """Whether the classes have names; else their number is that of the largest label."""
    files: Union["Files", None] = None
    """The files that the images are read from, if they are files."""

    @property
    def present(self) -> tuple[int, ...]:
        """The numbers of the classes that the data have: of files, those of the whole folder."""
        if self.files is not None:
            return self.files.files.present
        return tuple(sorted(set(self.labels.tolist())))

    def read(self, positions: Int64[Tensor, " n"]) -> Images:
        """Return the images at these positions."""
        return self.reader(positions.tolist())


def chunk_size(shape: Sequence[int]) -> int:
    """Return how many images to process together."""
    return max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // math.prod(shape)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Image files that are read when they are needed, and how."""

    files: ImageFiles
    """As `list_images` returns them."""
    name: str = "folder"
    """Name to list the results under."""
    split: str = "test"
    """Split that the files are."""
    reading: Reading = field(default_factory=Reading)
    """How `read_images` reads them; by default as they are."""


def as_source(data: Data, *, limit: int | None = None) -> Source:
    """Return labeled images, given in any form that `evaluate` takes.

    Args:
        data: An `ImageSet`, `Files`, a torch `Dataset` of (image, label), or a pair of arrays. Files and a
            `Dataset` are read once to be checked; they are held where they are small, else read again for
            each cell.
        limit: Take so many: the first ones, or evenly many of each class where the images are sorted by
            class. A `Dataset` says its labels by `targets`; without them the first images are read, and all
            of them where these are sorted.

    Raises:
        ValueError: Other data, images that are not bytes or differ in size, or labels that do not fit.
    """
    if isinstance(data, Files):
        return _from_files(data, data.files.limited(limit))
    if isinstance(data, ImageSet):
        held = data
    elif isinstance(data, tuple | list) and len(data) == 2:
        pixels = _as_bytes(data[0])
        labels = _as_labels(data[1], len(pixels))
        parts: dict[str, Any] = {"images": pixels, "labels": labels, "index": torch.arange(len(labels))}
        held = ImageSet(name="arrays", split="given", classes=_numbered(labels), **parts)
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return _from_dataset(data, limit)
    else:
        raise ValueError(
            "evaluate needs an ImageSet, Files, a torch Dataset of (image, label), or a pair of arrays, "
            f"got {type(data).__name__}"
        )
    held = held.limited(limit)
    _, channels, height, width = held.images.shape
    return Source(
        name=held.name,
        split=held.split,
        classes=held.classes,
        labels=held.labels.cpu(),
        index=held.index.cpu(),
        shape=(channels, height, width),
        fingerprint=held.fingerprint(),
        reader=partial(_of_held, held.images),
        named=isinstance(data, ImageSet),
    )


def _from_dataset(dataset: Any, limit: int | None) -> Source:
    if len(dataset) == 0:
        raise ValueError("evaluate needs at least one image, and labels from 0")
    index = _limited(dataset, limit)
    noted: dict[int, float] = {}

    def first_time(positions: Sequence[int]) -> Images:
        """Read images, and note their labels in the same pass."""
        items = [dataset[number] for number in index[positions].tolist()]
        noted.update((place, float(label)) for place, (_, label) in zip(positions, items, strict=True))
        return _stacked([image for image, _ in items], shape)

    shape = np.asarray(dataset[0][0]).shape
    reader = partial(_of_dataset, dataset, shape, index)
    return _passed(first_time, reader, index, lambda: _as_labels(list(noted.values()), len(index)))


def _limited(dataset: Any, limit: int | None) -> Int64[Tensor, " n"]:
    """Return the numbers of the images of a data set that a limit takes."""
    count = len(dataset)
    if limit is None or limit >= count:
        return torch.arange(count)
    labels = _targets(dataset)
    if labels is None:
        # Reading a label costs an image, so that all are read only where the first ones are sorted.
        labels = _labels_of(dataset, limit)
        if limit > 1 and (bool((labels == labels[0]).all()) or sorted_by_class(labels)):
            labels = _labels_of(dataset, count)
    return limited_positions(labels, limit) if len(labels) == count else torch.arange(limit)


def _labels_of(dataset: Any, count: int) -> Labels:
    return torch.tensor([int(dataset[number][1]) for number in range(count)])


def _targets(dataset: Any) -> Labels | None:
    """Return the classes of a data set that lists them, as torchvision's do; None of another one."""
    if isinstance(dataset, Subset):
        whole = _targets(dataset.dataset)
        return None if whole is None else whole[torch.as_tensor(dataset.indices)]
    try:
        found = np.asarray(getattr(dataset, "targets", None))
    except ValueError:  # rows of different lengths
        return None
    known = found.dtype.kind in "iu" and found.shape == (len(dataset),)
    return torch.from_numpy(found.astype(np.int64)) if known else None


def _from_files(given: Files, files: ImageFiles) -> Source:
    labels, remarks = torch.tensor(files.labels, dtype=torch.int64), Remarks()
    index = torch.tensor(files.index)
    first_time = partial(_of_files, files, given.reading, remarks=remarks)
    reader = partial(_of_files, files, given.reading)
    source = _passed(first_time, reader, index, lambda: labels, classes=files.classes)
    say_remarks(remarks, given.reading, images=len(labels), name=given.name)
    return replace(source, name=given.name, split=given.split, files=replace(given, files=files))


# Readers are partial functions, which unlike closures can be sent to workers.
def _of_held(images: Tensor, positions: Sequence[int]) -> Images:
    return images[torch.as_tensor(positions, dtype=torch.int64)]


def _of_dataset(dataset: Any, shape: tuple[int, ...], index: Tensor, positions: Sequence[int]) -> Images:
    return _stacked([dataset[number][0] for number in index[positions].tolist()], shape)


def _of_files(
    files: ImageFiles, reading: Reading, numbers: Sequence[int], remarks: Remarks | None = None
) -> Images:
    # With the first file among them, the error about a file of another size names both.
    paths = (files.paths[0], *(files.paths[number] for number in numbers))
    return read_images(paths, reading=reading, remarks=remarks)[1:]


def _stacked(images: Sequence[Any], shape: tuple[int, ...]) -> Images:
    arrays = [np.asarray(image) for image in images]
    for array in arrays:
        if array.shape != shape:
            raise ValueError(
                f"evaluate needs images of one size, got {shape} and {array.shape}; resize and crop them"
            )
    return _as_bytes(np.stack(arrays))


def _passed(
    first_time: Callable[[Sequence[int]], Images],
    reader: Callable[[Sequence[int]], Images],
    index: Int64[Tensor, " n"],
    labels: Callable[[], Labels],
    *,
    classes: tuple[str, ...] = (),
) -> Source:
    """Read all images once, hash them, and hold them where they are small enough."""
    _, *sides = first_time([0]).shape
    count, shape = len(index), (sides[0], sides[1], sides[2])
    digest = sha256(f"{torch.uint8} {(count, *shape)}".encode())
    held = torch.empty(count, *shape, dtype=torch.uint8) if count * math.prod(shape) <= _HELD else None
    for numbers in torch.split(torch.arange(count), chunk_size(shape)):
        images = first_time(numbers.tolist()).contiguous()
        digest.update(images.numpy().tobytes())
        if held is not None:
            held[numbers] = images
    known = labels()
    for array in (known, index):
        digest.update(f"{array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.numpy().tobytes())
    names = classes or _numbered(known)
    digest.update("\x1f".join(names).encode())
    return Source(
        name="arrays",
        split="given",
        classes=names,
        labels=known,
        index=index,
        shape=shape,
        fingerprint=digest.hexdigest(),
        reader=reader if held is None else partial(_of_held, held),
        named=bool(classes),
    )


def _numbered(labels: Labels) -> tuple[str, ...]:
    return tuple(map(str, range(int(labels.max()) + 1)))


def _as_labels(labels: Any, images: int) -> Labels:
    numbers = _as_tensor(labels)
    if bool((numbers != numbers.to(torch.int64)).any()):
        raise ValueError("evaluate needs labels that are whole numbers, the classes' numbers from 0")
    numbers = numbers.to(torch.int64)
    if numbers.ndim != 1 or len(numbers) != images:
        raise ValueError(
            f"evaluate needs one label per image, got {images} images, labels {tuple(numbers.shape)}"
        )
    if len(numbers) == 0 or int(numbers.min()) < 0:
        raise ValueError("evaluate needs at least one image, and labels from 0")
    return numbers


def _as_bytes(images: Any) -> Images:
    pixels = _as_tensor(images)
    if pixels.ndim != 4 or 3 not in (pixels.shape[1], pixels.shape[3]):
        raise ValueError(
            f"evaluate needs images of shape (n, 3, h, w) or (n, h, w, 3), got {tuple(pixels.shape)}"
        )
    if pixels.shape[1] != 3:
        pixels = pixels.permute(0, 3, 1, 2)
    if pixels.dtype != torch.uint8:
        scaled = pixels.double() * 255
        rounded = scaled.round()
        if not bool(((rounded >= 0) & (rounded <= 255) & ((scaled - rounded).abs() < 1e-2)).all()):
            raise ValueError(
                "evaluate needs images as bytes, or as floats that are whole 255ths of [0, 1], since "
                "corruptions are defined on bytes; give images that are not normalized, and mean= and std="
            )
        pixels = rounded.to(torch.uint8)
    return pixels.contiguous()


def _as_tensor(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu()
    # A mapped file cannot be written, and torch warns of tensors that share its memory.
    return torch.as_tensor(np.require(np.asarray(values), requirements=("W", "C")))
