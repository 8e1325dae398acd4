"""CIFAR-10 and CIFAR-100 from their standard folders."""

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from .imageset import ImageSet

# Images of a batch file, and number of training images at the end that form the validation split.
_BATCH = 10_000
_VALIDATION = 5_000
_PIXELS = 3 * 32 * 32


_Content = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


class Layout(NamedTuple):
    """One way in which a data set is stored in a folder."""

    folder: str
    """Name of the standard folder."""
    training: tuple[str, ...]
    """Files of the training images, in order."""
    test: str
    """File of the test images."""
    meta: str
    """File of the class names."""
    label: str = ""
    """Key of the labels in a pickle; empty for binary files."""
    names: str = ""
    """Key of the class names in a pickle; empty for binary files."""
    label_bytes: int = 1
    """Label bytes before the pixels of a binary record; the last one is used."""

    @property
    def files(self) -> tuple[str, ...]:
        """All files of the layout."""
        return (*self.training, self.test, self.meta)

    @property
    def pickled(self) -> bool:
        """Whether the files are pickles."""
        return bool(self.label)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A data set: its layouts, and the archive that contains it."""

    name: str
    classes: int
    layouts: tuple[Layout, ...]
    archive: str
    md5: str


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_BINARIES = tuple(f"{name}.bin" for name in _BATCHES)

# Binary layouts come first, because they are read without unpickling anything.
CIFAR10 = Kind(
    name="cifar10",
    classes=10,
    layouts=(
        Layout("cifar-10-batches-bin", _BINARIES, "test_batch.bin", "batches.meta.txt"),
        Layout("cifar-10-batches-py", _BATCHES, "test_batch", "batches.meta", "labels", "label_names"),
    ),
    archive="cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
)
CIFAR100 = Kind(
    name="cifar100",
    classes=100,
    layouts=(
        Layout("cifar-100-binary", ("train.bin",), "test.bin", "fine_label_names.txt", label_bytes=2),
        Layout("cifar-100-python", ("train",), "test", "meta", "fine_labels", "fine_label_names"),
    ),
    archive="cifar-100-python.tar.gz",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
)


def load_cifar10(folder: str | Path, *, split: str = "test") -> ImageSet:
    """Return CIFAR-10 from `cifar-10-batches-py`, `cifar-10-batches-bin` or a folder that contains either.

    Sizes and label ranges are checked. Pickled batches are read without running any code in them.

    Args:
        folder: Folder of the data set; if it contains both layouts, the binary files are used.
        split: `train` (the first 45,000 training images), `validation` (the last 5,000), `full_train` or
            `test`.

    Raises:
        FileNotFoundError: The folder does not contain the data set.
        ValueError: The split is unknown, or a file is truncated or has other content.

    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """
    return _load(CIFAR10, Path(folder), split)


def load_cifar100(folder: str | Path, *, split: str = "test") -> ImageSet:
    """Return CIFAR-100 with its fine labels, from `cifar-100-python`, `cifar-100-binary` or their parent.

    Arguments and errors are those of `load_cifar10`.

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
    if split in ("train", "validation"):
        keep = slice(count - _VALIDATION) if split == "train" else slice(count - _VALIDATION, count)
        # Copies, so that a part does not keep the whole in memory.
        images, labels = images[keep].copy(), labels[keep].copy()
    return ImageSet(
        name=kind.name,
        split=split,
        images=torch.from_numpy(images).reshape(-1, 3, 32, 32),
        labels=torch.from_numpy(labels),
        classes=classes,
        index=torch.arange(len(labels)),
    )


def _find(kind: Kind, folder: Path) -> tuple[Path, Layout]:
    """Return the folder and the layout of a complete data set.

    Raises:
        FileNotFoundError: There is none; the message names the folders that were searched.
    """
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
    raise FileNotFoundError(f"{folder} is not {kind.name}: looked there and one folder below for {looked}")


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


def _read_binary(file: Path, layout: Layout, count: int) -> _Content:
    record = layout.label_bytes + _PIXELS
    size = file.stat().st_size
    if size != count * record:
        raise ValueError(
            f"{file} is {'truncated' if size < count * record else 'too long'}: expected "
            f"{count * record:,} bytes ({count:,} records of {record:,}), found {size:,}; copy it again"
        )
    table = np.fromfile(file, dtype=np.uint8).reshape(count, record)
    return table[:, layout.label_bytes :], table[:, layout.label_bytes - 1].astype(np.int64)


def _read_pickle(file: Path, layout: Layout, count: int) -> _Content:
    size = file.stat().st_size
    if size < count * _PIXELS:
        raise ValueError(
            f"{file} is truncated: expected at least {count * _PIXELS:,} bytes ({count:,} images of "
            f"{_PIXELS:,}), found {size:,}; copy it again"
        )
    content = _unpickle(file)
    images, labels = (_plain(content.get(key)) for key in ("data", layout.label))
    if not (isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape == (count, _PIXELS)):
        shown = isinstance(images, np.ndarray)
        came = f"{images.dtype} of shape {images.shape}" if shown else type(images).__name__
        raise ValueError(f"{file}: expected data as bytes of shape ({count}, {_PIXELS}), got {came}")
    if isinstance(labels, list) and all(type(label) is int for label in labels):
        labels = np.asarray(labels, dtype=np.int64)
    if not (isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and labels.shape == (count,)):
        came = f"{len(labels):,} of them" if isinstance(labels, np.ndarray | list) else type(labels).__name__
        raise ValueError(f"{file}: expected {layout.label} as {count:,} whole numbers, got {came}")
    return images, labels.astype(np.int64)


class _Array:
    """The array of a pickle; NumPy's own reconstruction is not run on untrusted input."""

    def __init__(self) -> None:
        self.value: npt.NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, _Array) else value


class _DType:
    """The dtype of a pickle; only integers of 1 to 8 bytes are accepted."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = _text(code)
        self.order = "="
        if self.code not in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"):
            raise _Refused(f"an array of {self.code!r}, not of integers")

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.code if self.order == "|" else self.order + self.code)


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> npt.NDArray[Any]:
    flat: npt.NDArray[Any] = np.frombuffer(data, dtype=dtype.numpy())
    return flat.reshape(tuple(shape), order="F" if _text(order) == "F" else "C")


def _encoded(text: str, encoding: str) -> bytes:
    # Python 3 writes bytes in this form under protocols 0 to 2.
    return text.encode("latin1") if encoding == "latin1" else text.encode("utf-8")


def _empty_array(*_: Any) -> _Array:
    return _Array()


class _Name:
    """A placeholder for `numpy.ndarray`, which a pickle only passes as an argument."""


_ALLOWED: Mapping[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array for core in ("core", "_core")},
    ("numpy", "ndarray"): _Name,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encoded,
}


class _Refused(Exception):  # noqa: N818
    """A pickle contains an object that is not read; the text names it."""


class _Unpickler(pickle.Unpickler):
    """A reader of plain containers and integer arrays that refuses any other name in a pickle."""

    def find_class(self, module: str, name: str, /) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}, which would run code") from None


def _unpickle(file: Path) -> dict[str, Any]:
    # `bytes` keeps the strings of Python 2 unchanged; pixels are such strings.
    try:
        content = _Unpickler(io.BytesIO(file.read_bytes()), encoding="bytes").load()
    except _Refused as error:
        raise ValueError(f"{file} is refused, because it is not a CIFAR pickle: it holds {error}") from None
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
