"""Where images come from: held in memory, or read piece by piece from a data set or files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Union

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import Dataset

from ..datasets import ImageFiles, ImageSet, read_images
from ..types import Images, Labels

Pair = tuple[Any, Any]
"""Images and labels as arrays or tensors."""
Data = Union[ImageSet, "Files", Dataset[Any], Pair]
"""What `evaluate` takes."""

# A data set of more bytes than this is read again for every cell instead of being held.
_HELD = 1 << 30
# Bytes of images that are worked on at a time: few enough to be small, 1,000 of CIFAR's at the most.
_CHUNK_BYTES, _CHUNK_IMAGES = 1 << 25, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Labelled images of one size, read by position: there may be more of them than memory holds."""

    name: str
    """The data set's name."""
    split: str
    """Its split."""
    classes: tuple[str, ...]
    """The classes' names."""
    labels: Labels
    """One an image."""
    index: Int64[Tensor, " b"]
    """Each image's number in its split."""
    shape: tuple[int, int, int]
    """Channels, height, width."""
    fingerprint: str
    """The sha256 of all of it: that of an `ImageSet` of the same images."""
    reader: Callable[[Sequence[int]], Images]
    """Returns the images at these positions; can be sent to workers if what it reads can."""
    named: bool = True
    """Whether the classes were named, and not only counted by the labels."""

    def read(self, positions: Int64[Tensor, " n"]) -> Images:
        """Return the images at these positions."""
        return self.reader(positions.tolist())


@dataclass(frozen=True, slots=True)
class _Held:
    images: Images

    def __call__(self, positions: Sequence[int]) -> Images:
        return self.images[torch.as_tensor(positions, dtype=torch.int64)]


def chunk_size(shape: Sequence[int]) -> int:
    """Return how many images to work on at a time."""
    return max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // int(np.prod(shape))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Image files to be read when their turn comes, and how."""

    files: ImageFiles
    """As `list_images` returns them."""
    name: str = "folder"
    """What results are listed under."""
    split: str = "test"
    """The split they are."""
    size: int | None = None
    """Side that they are brought to, as `read_images` does it."""


def as_source(data: Data, *, limit: int | None = None) -> Source:
    """Return labelled images of any of the forms that `evaluate` takes.

    Args:
        data: An `ImageSet`, `Files`, a torch `Dataset` of (image, label), or a pair of arrays. The two in the
            middle are read once to be checked, and held where they are small, else read again for each cell.
        limit: Take the first so many.

    Raises:
        ValueError: Anything else, images that are no bytes, of several sizes, or labels that do not fit.
    """
    if isinstance(data, Files):
        files = data.files if limit is None else data.files.first(limit)
        return _from_files(files, data.size, (data.name, data.split))
    if isinstance(data, ImageSet):
        held = data
    elif isinstance(data, tuple | list) and len(data) == 2:
        held = _from_arrays(*data)
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return _from_dataset(data, limit)
    else:
        raise ValueError(
            "evaluate needs an ImageSet, Files, a torch Dataset of (image, label), or a pair of arrays, "
            f"got {type(data).__name__}"
        )
    held = held if limit is None else held.subset(torch.arange(min(limit, len(held))))
    return _held(held, named=isinstance(data, ImageSet))


def _held(data: ImageSet, *, named: bool) -> Source:
    _, channels, height, width = data.images.shape
    return Source(
        name=data.name,
        split=data.split,
        classes=data.classes,
        labels=data.labels.cpu(),
        index=data.index.cpu(),
        shape=(channels, height, width),
        fingerprint=data.fingerprint(),
        reader=_Held(data.images),
        named=named,
    )


def _from_arrays(images: Any, labels: Any) -> ImageSet:
    pixels = _as_bytes(images)
    numbers = _as_labels(labels, len(pixels))
    return ImageSet(
        name="arrays",
        split="given",
        images=pixels,
        labels=numbers,
        classes=_numbered(numbers),
        index=torch.arange(len(numbers)),
    )


@dataclass(frozen=True, slots=True)
class _DatasetReader:
    dataset: Any
    shape: tuple[int, ...]

    def __call__(self, numbers: Sequence[int]) -> Images:
        arrays = [np.asarray(self.dataset[number][0]) for number in numbers]
        for array in arrays:
            if array.shape != self.shape:
                raise ValueError(
                    f"evaluate needs images of one size, got {self.shape} and {array.shape}; "
                    "resize and crop them"
                )
        return _as_bytes(np.stack(arrays))


def _from_dataset(dataset: Any, limit: int | None) -> Source:
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count == 0:
        raise ValueError("evaluate needs at least one image, and labels from 0")
    noting = _Noting(dataset, [])
    first = np.asarray(dataset[0][0])
    shape = tuple(_as_bytes(first[None]).shape[1:])
    held, digest = _passed(_DatasetReader(noting, first.shape), count, shape)
    labels = _as_labels(noting.labels, count)
    names = _numbered(labels)
    return _streamed(
        held, digest, _DatasetReader(dataset, first.shape), shape, labels, names, ("arrays", "given")
    )


@dataclass(frozen=True, slots=True)
class _Noting:
    """A data set that notes the labels it gives: pixels and labels are read in one pass."""

    dataset: Any
    labels: list[Any]

    def __getitem__(self, number: int) -> Any:
        image, label = self.dataset[number]
        self.labels.append(float(label))
        return image, label


@dataclass(frozen=True, slots=True)
class _FileReader:
    files: ImageFiles
    size: int | None

    def __call__(self, numbers: Sequence[int]) -> Images:
        # The first file goes along, so that one of another size is named beside it.
        paths = (self.files.paths[0], *(self.files.paths[number] for number in numbers))
        return read_images(paths, size=self.size)[1:]


def _from_files(files: ImageFiles, size: int | None, called: tuple[str, str]) -> Source:
    shape = tuple(read_images(files.paths[:1], size=size).shape[1:])
    reader = _FileReader(files, size)
    held, digest = _passed(reader, len(files.paths), shape)
    labels = torch.tensor(files.labels, dtype=torch.int64)
    return _streamed(held, digest, reader, shape, labels, files.classes, called, named=True)


def _passed(
    reader: Callable[[Sequence[int]], Images], count: int, shape: tuple[int, ...]
) -> tuple[Images | None, Any]:
    """Read everything once; return it where it is small enough to keep, and the hash of its pixels."""
    digest = sha256(f"{torch.uint8} {(count, *shape)}".encode())
    total = count * int(np.prod(shape))
    held = torch.empty(count, *shape, dtype=torch.uint8) if total <= _HELD else None
    step = chunk_size(shape)
    for start in range(0, count, step):
        images = reader(range(start, min(start + step, count))).contiguous()
        digest.update(images.numpy().tobytes())
        if held is not None:
            held[start : start + len(images)] = images
    return held, digest


def _streamed(
    held: Images | None,
    digest: Any,
    reader: Callable[[Sequence[int]], Images],
    shape: tuple[int, ...],
    labels: Labels,
    classes: tuple[str, ...],
    called: tuple[str, str],
    *,
    named: bool = False,
) -> Source:
    index = torch.arange(len(labels))
    for array in (labels, index):
        digest.update(f"{array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.numpy().tobytes())
    digest.update("\x1f".join(classes).encode())
    return Source(
        name=called[0],
        split=called[1],
        classes=classes,
        labels=labels,
        index=index,
        shape=(shape[0], shape[1], shape[2]),
        fingerprint=digest.hexdigest(),
        reader=reader if held is None else _Held(held),
        named=named,
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
            f"evaluate needs one label an image, got {images} images, labels {tuple(numbers.shape)}"
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
                "evaluate needs images as bytes, or as floats that are whole 255ths of [0, 1]; corruptions "
                "are defined on bytes: give them before any normalisation, and that as mean= and std="
            )
        pixels = rounded.to(torch.uint8)
    return pixels.contiguous()


def _as_tensor(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu()
    # A mapped file cannot be written, and torch warns of tensors that share its memory.
    return torch.as_tensor(np.require(np.asarray(values), requirements=("W", "C")))
