"""CIFAR-10 and CIFAR-100 from their standard folders."""

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .imageset import ImageSet

# Images of a batch file, and how many of the last ones are the validation split.
_BATCH = 10_000
_VALIDATION = 5_000
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way in which a data set is laid out in a folder."""

    folder: str
    """Name of the standard folder."""
    training: tuple[str, ...]
    """Files of the training images, in order."""
    test: str
    """File of the test images."""
    meta: str
    """File of the class names."""
    pickled: bool
    label: str
    """Key of the labels in a pickle."""
    names: str
    """Key of the class names in a pickle."""
    label_bytes: int = 1
    """Label bytes in front of the pixels of a binary record; the last one is used."""

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the layout."""
        return (*self.training, self.test, self.meta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A data set: its layouts, and the archive it is distributed in."""

    name: str
    classes: int
    layouts: tuple[Layout, ...]
    archive: str
    md5: str


CIFAR10 = Kind(
    name="cifar10",
    classes=10,
    # The binary files come first: they are read without unpickling anything.
    layouts=(
        Layout(
            folder="cifar-10-batches-bin",
            training=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
            test="test_batch.bin",
            meta="batches.meta.txt",
            pickled=False,
            label="",
            names="",
        ),
        Layout(
            folder="cifar-10-batches-py",
            training=tuple(f"data_batch_{number}" for number in range(1, 6)),
            test="test_batch",
            meta="batches.meta",
            pickled=True,
            label="labels",
            names="label_names",
        ),
    ),
    archive="cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
)
CIFAR100 = Kind(
    name="cifar100",
    classes=100,
    layouts=(
        Layout(
            folder="cifar-100-binary",
            training=("train.bin",),
            test="test.bin",
            meta="fine_label_names.txt",
            pickled=False,
            label="",
            names="",
            label_bytes=2,
        ),
        Layout(
            folder="cifar-100-python",
            training=("train",),
            test="test",
            meta="meta",
            pickled=True,
            label="fine_labels",
            names="fine_label_names",
        ),
    ),
    archive="cifar-100-python.tar.gz",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
)


def load_cifar10(folder: str | Path, *, split: str = "test") -> ImageSet:
    """Return CIFAR-10, read from `cifar-10-batches-py`, `cifar-10-batches-bin` or a folder that holds one.

    Sizes and label ranges are checked. Pickled batches are read without running anything in them.

    Args:
        folder: Where it lies; binary files win where both are there.
        split: `train` (the first 45,000 training images), `validation` (the last 5,000), `full_train` or
            `test`.

    Raises:
        FileNotFoundError: The folder is not the data set.
        ValueError: An unknown split, a truncated file, or one whose content is not the data set.

    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """
    return _load(CIFAR10, Path(folder), split)


def load_cifar100(folder: str | Path, *, split: str = "test") -> ImageSet:
    """Return CIFAR-100 with its fine labels, from `cifar-100-python`, `cifar-100-binary` or their parent.

    As `load_cifar10` in all else.

    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """
    return _load(CIFAR100, Path(folder), split)


def _load(kind: Kind, folder: Path, split: str) -> ImageSet:
    splits = ("train", "validation", "full_train", "test")
    if split not in splits:
        raise ValueError(f"{kind.name} has no split {split!r}; splits are {', '.join(splits)}")
    place, layout = _find(kind, folder)
    classes = _class_names(place / layout.meta, kind, layout)
    files = (layout.test,) if split == "test" else layout.training
    count = _BATCH if split == "test" else 5 * _BATCH
    images = np.empty((count, _PIXELS), dtype=np.uint8)
    labels = np.empty(count, dtype=np.int64)
    each = count // len(files)
    for number, name in enumerate(files):
        where = slice(number * each, (number + 1) * each)
        read = _read_pickle if layout.pickled else _read_binary
        images[where], labels[where] = read(place / name, layout, each)
        wrong = labels[where][(labels[where] < 0) | (labels[where] >= kind.classes)]
        if len(wrong):
            raise ValueError(
                f"{place / name} is not {kind.name}: expected labels 0 to {kind.classes - 1}, "
                f"got {int(wrong[0])}; copy it again"
            )
    keep = slice(None)
    if split == "train":
        keep = slice(0, count - _VALIDATION)
    elif split == "validation":
        keep = slice(count - _VALIDATION, count)
    # A copy, so that a part does not hold on to the whole.
    chosen = torch.from_numpy(labels[keep].copy())
    return ImageSet(
        name=kind.name,
        split=split,
        images=torch.from_numpy(images if keep == slice(None) else images[keep].copy()).reshape(
            -1, 3, 32, 32
        ),
        labels=chosen,
        classes=classes,
        index=torch.arange(len(chosen)),
    )


def _find(kind: Kind, folder: Path) -> tuple[Path, Layout]:
    """Return the folder and layout that are complete; else say what was looked for."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise FileNotFoundError(
            f"{kind.name} needs the folder of its batches or its parent, but {folder} {what}"
        )
    partial = ""
    for layout in kind.layouts:
        for place in (folder, folder / layout.folder):
            missing = [name for name in layout.files if not (place / name).is_file()]
            if not missing:
                return place, layout
            if len(missing) < len(layout.files):
                partial = partial or f"{place} is an incomplete {kind.name}: it lacks {', '.join(missing)}"
    if partial:
        raise FileNotFoundError(f"{partial}; copy it again")
    looked = " or ".join(
        f"{layout.folder} ({layout.training[0]}, {layout.test}, ...)" for layout in kind.layouts
    )
    raise FileNotFoundError(f"{folder} is not {kind.name}: looked there, and one folder down, for {looked}")


def _class_names(file: Path, kind: Kind, layout: Layout) -> tuple[str, ...]:
    if layout.pickled:
        listed = _unpickle(file).get(layout.names)
        names = tuple(map(_text, listed)) if isinstance(listed, list) else ()
    else:
        names = tuple(file.read_text(encoding="utf-8", errors="replace").split())
    if len(names) != kind.classes:
        raise ValueError(
            f"{file} is not {kind.name}: expected {kind.classes} class names, got {len(names)}; copy it again"
        )
    return names


def _read_binary(
    file: Path, layout: Layout, count: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    record = layout.label_bytes + _PIXELS
    size = file.stat().st_size
    if size != count * record:
        raise ValueError(
            f"{file} is {'truncated' if size < count * record else 'too long'}: expected "
            f"{count * record:,} bytes ({count:,} records of {record:,}), found {size:,}; copy it again"
        )
    table = np.fromfile(file, dtype=np.uint8).reshape(count, record)
    return table[:, layout.label_bytes :], table[:, layout.label_bytes - 1].astype(np.int64)


def _read_pickle(
    file: Path, layout: Layout, count: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    size = file.stat().st_size
    if size < count * _PIXELS:
        raise ValueError(
            f"{file} is truncated: expected at least {count * _PIXELS:,} bytes ({count:,} images of "
            f"{_PIXELS:,}), found {size:,}; copy it again"
        )
    content = _unpickle(file)
    images, labels = content.get("data"), content.get(layout.label)
    if isinstance(images, _Array):
        images = images.value
    if isinstance(labels, _Array):
        labels = labels.value
    if not (isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape == (count, _PIXELS)):
        came = (
            f"{images.dtype} of shape {images.shape}"
            if isinstance(images, np.ndarray)
            else type(images).__name__
        )
        raise ValueError(f"{file}: expected data as bytes of shape ({count}, {_PIXELS}), got {came}")
    if isinstance(labels, list) and all(type(label) is int for label in labels):
        labels = np.asarray(labels, dtype=np.int64)
    if not (isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and labels.shape == (count,)):
        came = f"{len(labels):,} of them" if isinstance(labels, np.ndarray | list) else type(labels).__name__
        raise ValueError(f"{file}: expected {layout.label} as {count:,} whole numbers, got {came}")
    return images, labels.astype(np.int64)


class _Array:
    """What an array's pickle is read into: numpy's own reconstruction is not run on foreign input."""

    def __init__(self) -> None:
        self.value: npt.NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


class _DType:
    """What a dtype's pickle is read into; integers of 1 to 8 bytes only."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = _text(code)
        self.order = "="
        if self.code not in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"):
            raise _Refused(f"an array of {self.code!r}, not of whole numbers")

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.code if self.order == "|" else self.order + self.code)


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> npt.NDArray[Any]:
    flat: npt.NDArray[Any] = np.frombuffer(data, dtype=dtype.numpy())
    return flat.reshape(tuple(shape), order="F" if _text(order) == "F" else "C")


def _encoded(text: str, encoding: str) -> bytes:
    # How Python 3 writes bytes under protocols 0 to 2.
    return text.encode("latin1") if encoding == "latin1" else text.encode("utf-8")


def _empty_array(*_: Any) -> _Array:
    return _Array()


class _Name:
    """Stands for `numpy.ndarray`, which a pickle only passes on as an argument."""


_ALLOWED: Mapping[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array for core in ("core", "_core")},
    ("numpy", "ndarray"): _Name,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encoded,
}


class _Refused(Exception):  # noqa: N818
    """A pickle holds what is not read; the text says what."""


class _Unpickler(pickle.Unpickler):
    """Reads plain containers and integer arrays; any other name in a pickle is refused."""

    def find_class(self, module: str, name: str, /) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}, which reading it would run") from None


def _unpickle(file: Path) -> dict[str, Any]:
    # `bytes` keeps the strings of Python 2, pixels among them, as they are.
    try:
        content = _Unpickler(io.BytesIO(file.read_bytes()), encoding="bytes").load()
    except _Refused as error:
        raise ValueError(f"{file} is refused, not a CIFAR pickle: it holds {error}") from None
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        KeyError,
        OverflowError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{file} is not a whole CIFAR pickle ({reason}); copy it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} is not a CIFAR pickle: expected a dict, got {type(content).__name__}")
    return {_text(key): value for key, value in content.items()}


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
