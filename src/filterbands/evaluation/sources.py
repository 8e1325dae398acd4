"""Sources of labeled images: held in memory, or read piece by piece from a data set or from files."""

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    default_collate,
)

from ..datasets import (
    CLASSES,
    ImageFiles,
    ImageSet,
    Remarks,
    image_and_label,
    limited_positions,
    names_as_bytes,
    names_in,
    pixels_of,
    say_remarks,
    sorted_by_class,
)
from ..types import Images, Labels
from .files import Files, named_images, read_files

_LOG = logging.getLogger(__name__)


@runtime_checkable
class Items(Protocol):
    """A data set of another library, such as `datasets.Dataset` of Hugging Face."""

    def __len__(self) -> int:
        """Return the number of items."""

    def __getitem__(self, number: int, /) -> Any:
        """Return an item: (image, label), or a mapping that holds both."""


Data = ImageSet | Files | Dataset[Any] | DataLoader[Any] | tuple[Any, Any] | str | os.PathLike[str] | Items
"""What `evaluate` takes; a pair is of images and labels, as arrays or tensors."""

# A data set of more bytes than this is read again for each cell instead of being held in memory.
_HELD = 1 << 30
# Items that are read twice, to see whether they stay the same.
_TWICE = 8
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
    files: Files | None = None
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


def as_source(data: Data, *, limit: int | None = None, networks: Sequence[str] = ()) -> Source:
    """Return labeled images, given in any form that `evaluate` takes.

    Args:
        data: An `ImageSet`, `Files`, a pair of arrays, a text that `load_data` takes, or a data set: of
            torch, of Hugging Face, or anything else that has a length and items. An item is (image, label) or
            a mapping that holds them under `image` or `img` and `label`, `labels` or `fine_label`. Of a
            `DataLoader` the data set is read in its own order, through the loader's own `collate_fn`. Files
            and data sets are read once to be checked; they are held where they are small, else read again for
            each cell.
        limit: Take so many: the first ones, or evenly many of each class where the images are sorted by
            class. A `Dataset` says its labels by `targets`; without them the first images are read, and all
            of them where these are sorted.
        networks: Names of the networks that the images of a folder are for; see `reading_for`.

    Raises:
        ValueError: Other data, images that are not bytes or differ in size, or labels that do not fit.
    """
    if isinstance(data, str | os.PathLike):
        data = named_images(str(data), networks=networks)
    if isinstance(data, Files):
        return _from_files(data, data.files.limited(limit))
    if isinstance(data, ImageSet):
        held = data
    elif isinstance(data, tuple | list) and len(data) == 2:
        pixels = _as_bytes(data[0])
        labels = _as_labels(data[1], len(pixels))
        parts: dict[str, Any] = {"images": pixels, "labels": labels, "index": torch.arange(len(labels))}
        held = ImageSet(name="arrays", split="given", classes=_numbered(labels), **parts)
    elif isinstance(data, DataLoader):
        return _from_dataset(_ordered(data), limit, collate=data.collate_fn)
    elif isinstance(data, Mapping):
        raise ValueError(
            f"evaluate needs one data set, got a {type(data).__name__} of {', '.join(map(str, data))}; take "
            "one split of it, or give a pair of arrays (images, labels)"
        )
    elif isinstance(data, Items):
        return _from_dataset(data, limit)
    else:
        raise ValueError(
            "evaluate needs an ImageSet, Files, a data set or DataLoader of (image, label) whose items have "
            f"numbers, a pair of arrays, or a text such as folder:DIR, got {type(data).__name__}"
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


def _ordered(loader: DataLoader[Any]) -> Any:
    """Return the data set of a loader that gives each of its items once in a pass, in whatever order.

    Raises:
        ValueError: The loader gives others, or its data set has no order.
    """
    dataset, batches = loader.dataset, loader.batch_sampler
    sampler = batches.sampler if type(batches) is BatchSampler else batches
    shuffles = type(sampler) is RandomSampler
    is_whole = (shuffles and not sampler.replacement) or type(sampler) is SequentialSampler  # type: ignore[union-attr]
    if not isinstance(dataset, Items) or not is_whole or len(sampler) != len(dataset):  # type: ignore[arg-type]
        what = type(dataset if sampler is None or not isinstance(dataset, Items) else sampler).__name__
        raise ValueError(
            "evaluate needs a DataLoader that gives every image of a data set once, got one with a "
            f"{what}; give it a data set, such as torch.utils.data.Subset(dataset, indices)"
        )
    if shuffles or (loader.drop_last and len(dataset) % (loader.batch_size or 1)):
        _LOG.warning(
            "evaluate reads all %d images of the DataLoader's data set in its own order: shuffle and "
            "drop_last do not apply",
            len(dataset),
        )
    return dataset


def _from_dataset(
    dataset: Items, limit: int | None, *, collate: Callable[[Any], Any] = default_collate
) -> Source:
    if len(dataset) == 0:
        raise ValueError("evaluate needs at least one image, and labels from 0")
    index = _limited(dataset, limit)
    noted: dict[int, float] = {}
    first = dataset[0]
    shape = pixels_of(_read(dataset, collate, [0])[0][0]).shape

    def first_time(positions: Sequence[int]) -> Images:
        """Read images, and note their labels in the same pass."""
        images, labels = _read(dataset, collate, index[torch.tensor(positions)].tolist())
        noted.update(zip(positions, map(_as_number, labels), strict=True))
        return _stacked(images, shape)

    some = list(range(min(len(index), _TWICE)))
    if not torch.equal(first_time(some), first_time(some)):
        _LOG.warning(
            "evaluate: the data set gives other pixels at each reading, as with random transforms; what is "
            "measured depends on the draws, and results in a database are not found again"
        )
    reader = partial(_of_dataset, dataset, collate, shape, index)
    known = getattr(dataset, "features", None)
    column = names_in(first)[1] if isinstance(first, Mapping) else None
    # Hugging Face's way of naming classes.
    names = getattr(known.get(column), "names", None) if isinstance(known, Mapping) else None
    labels_of = partial(_noted, noted)
    return _passed(first_time, reader, _numbers(dataset)[index], labels_of, classes=tuple(names or ()))


def _noted(noted: dict[int, float]) -> Labels:
    return _as_labels([noted[position] for position in sorted(noted)], len(noted))


def _numbers(dataset: Any) -> Int64[Tensor, " n"]:
    """Return the numbers of the images; those of a part of a data set are the numbers in the whole."""
    if isinstance(dataset, Subset):
        return _numbers(dataset.dataset)[torch.as_tensor(dataset.indices)]
    return torch.arange(len(dataset))


def _limited(dataset: Any, limit: int | None) -> Int64[Tensor, " n"]:
    """Return the positions of the images of a data set that a limit takes."""
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


def _labels_of(dataset: Items, count: int) -> Labels:
    return torch.tensor([int(_as_number(image_and_label(dataset[number])[1])) for number in range(count)])


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


def _read(
    dataset: Items, collate: Callable[[Any], Any], numbers: Sequence[int]
) -> tuple[list[Any], list[Any]]:
    """Return images and labels of some items, through a loader's own function where it has one."""
    items = [dataset[number] for number in numbers]
    if collate is default_collate:
        images, labels = zip(*map(image_and_label, items), strict=True)
    else:
        images, labels = image_and_label(collate(items))
    if labels is None or len(images) != len(items) or len(labels) != len(items):
        raise ValueError("evaluate needs a collate_fn that gives one image and one label per item")
    return list(images), list(labels)


def _as_number(label: Any) -> float:
    try:
        return float(label)
    except (TypeError, ValueError, RuntimeError):
        what = f"shape {tuple(label.shape)}" if isinstance(label, Tensor | np.ndarray) else repr(label)
        raise ValueError(
            f"evaluate needs one label per image, the number of a class from 0, got {what}"
        ) from None


def _from_files(given: Files, files: ImageFiles) -> Source:
    labels, remarks = torch.tensor(files.labels, dtype=torch.int64), Remarks()
    index = torch.tensor(files.index)
    first_time = partial(read_files, files, given.reading, remarks=remarks)
    reader = partial(read_files, files, given.reading)
    source = _passed(first_time, reader, index, lambda: labels, classes=files.classes)
    say_remarks(remarks, given.reading, images=len(labels), name=given.name)
    return replace(source, name=given.name, split=given.split, files=replace(given, files=files))


# Readers are partial functions, which unlike closures can be sent to workers.
def _of_held(images: Tensor, positions: Sequence[int]) -> Images:
    return images[torch.as_tensor(positions, dtype=torch.int64)]


def _of_dataset(
    dataset: Items,
    collate: Callable[[Any], Any],
    shape: tuple[int, ...],
    index: Tensor,
    positions: Sequence[int],
) -> Images:
    return _stacked(_read(dataset, collate, index[torch.tensor(positions)].tolist())[0], shape)


def _stacked(images: Sequence[Any], shape: tuple[int, ...]) -> Images:
    arrays = [np.asarray(pixels_of(image)) for image in images]
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
    digest.update(names_as_bytes(names))
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
    if (largest := int(numbers.max())) >= CLASSES:
        raise ValueError(f"evaluate needs class numbers below the limit of {CLASSES:,}, got {largest:,}")
    return numbers


def _as_bytes(images: Any) -> Images:
    pixels = _as_tensor(images)
    if pixels.ndim != 4 or not {1, 3} & {pixels.shape[1], pixels.shape[3]}:
        cure = "; of gray ones add the channel, images[:, None]" if pixels.ndim == 3 else ""
        raise ValueError(
            "evaluate needs images of shape (n, c, h, w) or (n, h, w, c), c being 3 or, of gray ones, 1, got "
            f"{tuple(pixels.shape)}{cure}"
        )
    if pixels.shape[1] not in (1, 3):
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
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"evaluate needs images and labels that are numbers, got {array.dtype} from "
            f"{type(values).__name__}"
        )
    # torch calculates with signed numbers, and with bytes of the machine's order.
    native = array.dtype.newbyteorder("=")
    array = array.astype(np.int64 if native in (np.uint16, np.uint32, np.uint64) else native, copy=False)
    # A mapped file cannot be written, and torch warns of tensors that share its memory.
    return torch.as_tensor(np.require(array, requirements=("W", "C")))
