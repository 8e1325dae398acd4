"""CIFAR-10 and CIFAR-100 from their standard folders."""

import io
import pickle
import pickletools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ..disk import check_input
from ..pickled import PickleError, Walk
from .imageset import ImageSet, check_split

# Images of a batch file, and number of training images at the end that form the validation split.
_BATCH = 10_000
_VALIDATION = 5_000
_PIXELS = 3 * 32 * 32


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
    label_bytes: int = 0
    """Label bytes before the pixels of a binary record; the last one is used."""

    @property
    def files(self) -> tuple[str, ...]:
        """All files of the layout."""
        return (*self.training, self.test, self.meta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cifar:
    """A data set: its layouts, and the archive that contains the pickled one."""

    name: str
    classes: int
    binary: Layout
    pickled: Layout
    archive: str
    md5: str


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_BINARIES = tuple(f"{name}.bin" for name in _BATCHES)

CIFARS: dict[str, Cifar] = {
    "cifar10": Cifar(
        name="cifar10",
        classes=10,
        binary=Layout("cifar-10-batches-bin", _BINARIES, "test_batch.bin", "batches.meta.txt", label_bytes=1),
        pickled=Layout(
            "cifar-10-batches-py", _BATCHES, "test_batch", "batches.meta", "labels", "label_names"
        ),
        archive="cifar-10-python.tar.gz",
        md5="c58f30108f718f92721af3b95e74349a",
    ),
    "cifar100": Cifar(
        name="cifar100",
        classes=100,
        binary=Layout("cifar-100-binary", ("train.bin",), "test.bin", "fine_label_names.txt", label_bytes=2),
        pickled=Layout("cifar-100-python", ("train",), "test", "meta", "fine_labels", "fine_label_names"),
        archive="cifar-100-python.tar.gz",
        md5="eb9058c3a382ffc7106e4002c42a8d85",
    ),
}
"""CIFAR-10 and CIFAR-100 by name."""


def load_cifar(kind: Cifar, folder: str | Path, *, split: str = "test") -> ImageSet:
    """Return CIFAR-10, or CIFAR-100 with its fine labels, from a standard folder or its parent.

    Sizes and label ranges are checked. Pickled batches are read without running any code in them.

    Args:
        kind: A value of `CIFARS`.
        folder: Folder of the data set, such as `cifar-10-batches-py` or `cifar-10-batches-bin`, or its
            parent; if it contains both layouts, the binary files are used.
        split: `train` (the first 45,000 training images), `validation` (the last 5,000), `full_train` or
            `test`.

    Raises:
        FileNotFoundError: The folder does not contain the data set.
        ValueError: The split is unknown, or a file is truncated or has other content.

    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """
    check_split(kind.name, split)
    place, layout = _find(kind, Path(folder))
    classes = _class_names(place / layout.meta, kind, layout)
    files = (layout.test,) if split == "test" else layout.training
    count = _BATCH if split == "test" else 5 * _BATCH
    images = np.empty((count, _PIXELS), dtype=np.uint8)
    labels = np.empty(count, dtype=np.int64)
    each = count // len(files)
    for number, name in enumerate(files):
        where = slice(number * each, (number + 1) * each)
        images[where], labels[where] = _read(place / name, layout, each)
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


def _find(kind: Cifar, folder: Path) -> tuple[Path, Layout]:
    """Return the folder and the layout of a complete data set."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise FileNotFoundError(
            f"{kind.name} needs the folder of its batches or its parent, but {folder} {what}"
        )
    partial = ""
    # Binary files come first, because they are read without unpickling anything.
    layouts = (kind.binary, kind.pickled)
    for layout in layouts:
        for place in (folder, folder / layout.folder):
            missing = [name for name in layout.files if not (place / name).is_file()]
            if not missing:
                return place, layout
            if len(missing) < len(layout.files):
                partial = partial or f"{place} is an incomplete {kind.name}: it lacks {', '.join(missing)}"
    if partial:
        raise FileNotFoundError(f"{partial}; copy it again")
    looked = " or ".join(f"{layout.folder} ({layout.training[0]}, {layout.test}, ...)" for layout in layouts)
    raise FileNotFoundError(f"{folder} is not {kind.name}: looked there and one folder below for {looked}")


def _class_names(file: Path, kind: Cifar, layout: Layout) -> tuple[str, ...]:
    if layout.names:
        listed = _unpickle(file).get(layout.names)
        names = tuple(map(_text, listed)) if isinstance(listed, list) and all(map(_is_text, listed)) else ()
    else:
        names = tuple(file.read_text(encoding="utf-8", errors="replace").split())
    if len(names) != kind.classes:
        raise ValueError(
            f"{file} is not {kind.name}: expected {kind.classes} class names, got {len(names)}; copy it again"
        )
    return names


def _read(
    file: Path, layout: Layout, count: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.integer[Any]]]:
    """Return the pixels and the labels of a batch file."""
    pickled, record = bool(layout.label), layout.label_bytes + _PIXELS
    size, expected = file.stat().st_size, count * record
    if size < expected or (size > expected and not pickled):
        raise ValueError(
            f"{file} is {'truncated' if size < expected else 'too long'}: expected "
            f"{'at least ' if pickled else ''}{expected:,} bytes ({count:,} images of {record:,}), "
            f"found {size:,}; copy it again"
        )
    if not pickled:
        table = np.fromfile(file, dtype=np.uint8).reshape(count, record)
        return table[:, layout.label_bytes :], table[:, layout.label_bytes - 1]
    content = _unpickle(file)
    images: Any = content.get("data")
    labels: Any = content.get(layout.label)
    if not (isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape == (count, _PIXELS)):
        shown = isinstance(images, np.ndarray)
        came = f"{images.dtype} of shape {images.shape}" if shown else type(images).__name__
        raise ValueError(f"{file}: expected data as bytes of shape ({count}, {_PIXELS}), got {came}")
    if isinstance(labels, list) and all(type(label) is int and abs(label) < 2**31 for label in labels):
        labels = np.asarray(labels, dtype=np.int64)
    if not (isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and labels.shape == (count,)):
        came = f"{len(labels):,} of them" if isinstance(labels, np.ndarray | list) else type(labels).__name__
        raise ValueError(f"{file}: expected {layout.label} as {count:,} whole numbers, got {came}")
    return images, labels


class _Array:
    """The array of a pickle; NumPy's own reconstruction is not run on untrusted input."""

    value: npt.NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, data = state
        self.value = _array(data, dtype, shape, "F" if is_fortran else "C")


class _DType:
    """The dtype of a pickle; only integers of 1 to 8 bytes are accepted."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not re.fullmatch("[iu][1248]", _text(code)):
            raise _Refused(f"an array of {_text(code)!r}, not of integers")
        self.dtype = np.dtype(_text(code))

    def __setstate__(self, state: Any) -> None:
        self.dtype = self.dtype.newbyteorder(_text(state[1]))  # type: ignore[arg-type]


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> npt.NDArray[Any]:
    flat: npt.NDArray[Any] = np.frombuffer(data, dtype=dtype.dtype)
    return flat.reshape(tuple(shape), order="F" if _text(order) == "F" else "C")


def _encoded(text: str, code: str) -> bytes:
    """Return the bytes that Python 3 writes in this form under protocols 0 to 2."""
    if code != "latin1":
        raise _Refused(f"a text in {_text(code)[:20]!r}, not in latin1")
    return text.encode("latin1")


_ALLOWED: Mapping[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): lambda *_: _Array() for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array for core in ("core", "_core")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encoded,
}
_DAMAGE = (
    *(pickle.PickleError, EOFError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError),
    *(RecursionError, MemoryError),
)


class _Refused(Exception):  # noqa: N818
    """A pickle contains an object that is not read; the text names it."""


class _Unpickler(pickle.Unpickler):
    """A reader of plain containers and integer arrays that refuses any other name in a pickle.

    What a pickle would make is gone through first, since a few bytes can claim any memory, time and depth.
    """

    def find_class(self, module: str, name: str, /) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}, which would run code") from None


def _unpickle(file: Path) -> dict[str, Any]:
    # `bytes` keeps the strings of Python 2 unchanged; pixels are such strings.
    content = check_input(file).read_bytes()
    try:
        Walk(size=len(content)).through(pickletools.genops(content))
        content = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except _Refused as error:
        raise ValueError(f"{file} is refused, because it is not a CIFAR pickle: it holds {error}") from None
    except PickleError as error:
        raise ValueError(f"{file} is not a whole CIFAR pickle: it {error}; copy it again") from None
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{file} is not a whole CIFAR pickle ({reason}); copy it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} is not a CIFAR pickle: expected a dict, got {type(content).__name__}")
    return {_text(key): getattr(value, "value", value) for key, value in content.items() if _is_text(key)}


def _is_text(value: object) -> bool:
    return isinstance(value, str | bytes)


def _text(value: Any) -> str:
    """Return a text that Python 2 or 3 has written; raise TypeError for anything else, however large."""
    if not _is_text(value):
        raise TypeError(f"a {type(value).__name__} in place of a text")
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
