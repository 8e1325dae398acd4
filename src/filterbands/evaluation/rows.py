"""Rows of the database of results: what they hold, how it is packed, and how damage to them is found."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from typing import Any

import numpy as np

from ..scores import Bits
from .sources import Source

Integers = np.ndarray[Any, np.dtype[np.int64]]

DAMAGED = "its row in the database is damaged: "
"""Begins the reason of a cell whose row cannot be believed."""


UNKNOWN_FILE = "given"
"""Stands for the sha256 of a file of corrupted images that only another program has seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One kind at one severity for one network: everything that can change a bit of the answer."""

    model: str
    """Fingerprint of the network: architecture, weights, what it subtracts and divides by."""
    data: str
    """Fingerprint of the clean images: pixels, labels, numbers, class names."""
    kind: str
    """`clean`, or a kind of corruption."""
    severity: int
    """1 to 5; 0 for clean."""
    parameters: str = ""
    """Table of constants; empty where nothing was corrupted here."""
    version: int = 0
    """Version of the corruption's bytes."""
    seed: int = 0
    """Seed of the corruption."""
    source: str = ""
    """sha256 of the file of corrupted images; empty where they were made here."""
    precision: str = "float32"
    """What the network ran in."""
    first: int = 0
    """Position of the first image used."""
    step: int = 1
    """Every how many images one was used."""

    @property
    def key(self) -> str:
        """The sha256 of all of it."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.kind} {self.severity}" if self.severity else self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What running a network on a cell's images gave."""

    bits: Bits
    """Whether the network named the class, per image; empty where the cell failed."""
    seconds: float
    """Seconds that the cell took."""
    predictions: Integers | None = None
    """The class that the network named, per image; None in rows of older versions."""
    logits: np.ndarray[Any, np.dtype[np.float16]] | None = None
    """(images, classes), less each image's largest logit; None unless they were asked for."""
    calibration_error: float | None = None
    """Calibration error of the logits; see `scores.calibration_error`."""
    failed: str = ""
    """Why the cell has no accuracy, such as NaN among its outputs."""

    @property
    def is_damaged(self) -> bool:
        """Whether the cell has no accuracy because its row is damaged."""
        return self.failed.startswith(DAMAGED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A data set as the database knows it."""

    fingerprint: str
    name: str
    split: str
    labels: Integers
    classes: tuple[str, ...]


# What a row of the database holds beside the fields of its cell, and its logits where it has some.
COLUMNS = "key, images, correct, bits, predictions, failed, seconds, cells.checksum AS checksum"
LOGITS = "classes, calibration_error, LENGTH(numbers) AS length"
_TYPES: Mapping[str, type] = {
    **{field.name: int if field.type is int else str for field in fields(Cell)},
    "key": str,
    "images": int,
    "correct": int,
    "bits": bytes,
    "failed": str,
    "checksum": str,
}


ROW: Mapping[str, type] = {
    **dict.fromkeys(("name", "data", "split", "kind"), str),
    "severity": int,
    "parameters": str,
    **dict.fromkeys(("version", "seed"), int),
    **dict.fromkeys(("source", "precision"), str),
    **dict.fromkeys(("first", "step", "images", "correct"), int),
    "failed": str,
    "seconds": float,
    **dict.fromkeys(("created", "filterbands"), str),
    "calibration_error": float,
    **dict.fromkeys(("model_fingerprint", "data_fingerprint", "key"), str),
}
"""Columns of a cell's row for other programs, and their types."""

# The name that a network came with first is its name where one is shown.
_NAME = "(SELECT name FROM names WHERE model = cells.model ORDER BY names.rowid LIMIT 1)"
TABLE = (
    f"SELECT {_NAME} AS name, data.name AS data, data.split AS split, kind, severity, parameters, version, "
    "seed, source, precision, first, step, cells.images AS images, correct, failed, seconds, created, "
    "filterbands, calibration_error, model AS model_fingerprint, cells.data AS data_fingerprint, key "
    "FROM cells LEFT JOIN data ON data.fingerprint = cells.data "
    "LEFT JOIN logits ON logits.cell = cells.key ORDER BY cells.rowid"
)
"""What selects them."""


def check_text(what: str, text: str) -> str:
    """Return a text that a database is to hold; raise ValueError where it has bytes that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} needs to be text in UTF-8, got {text!r}; give it another name") from None
    return text


def by_name(row: Any) -> dict[str, Any]:
    """Return a row of SQLite, which takes the names of columns in any case, by their names here."""
    return {name.lower(): row[name] for name in row.keys()}  # noqa: SIM118


def checksum(*parts: object) -> str:
    """Return the sha256 of texts, numbers and bytes, each with its type and length."""
    digest = sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(f"{type(part).__name__} {len(content)} ".encode() + content)
    return digest.hexdigest()


def is_whole(key: object, content: object, known: object) -> bool:
    """Return whether a part of a probe is what was kept; rows of before schema 3 have no checksum."""
    return isinstance(key, str) and isinstance(content, bytes) and known in ("", checksum(key, content))


def packed(cell: Cell, outcome: Outcome, *, images: int | None) -> dict[str, Any]:
    """Return the columns of a cell's row; `images` is the number of images of a cell that failed."""
    named = outcome.predictions
    values = asdict(cell) | {
        "key": cell.key,
        "images": len(outcome.bits) if images is None else images,
        "correct": int(outcome.bits.sum()),
        "bits": np.packbits(outcome.bits).tobytes(),
        "predictions": None if named is None else _narrow(named).tobytes(),
        "failed": outcome.failed,
        "seconds": outcome.seconds,
    }
    classes = None if outcome.logits is None else outcome.logits.shape[1]
    error = outcome.calibration_error
    logits = {"classes": None if error is None else classes or 0, "calibration_error": error}
    return values | {"checksum": _checksum(values | logits)}


def read_row(row: Mapping[str, Any], labels: Integers | None) -> tuple[Cell, Outcome]:
    """Return a cell and what it gave; of a damaged row an outcome that failed.

    Args:
        row: The cell's fields, `COLUMNS` and `LOGITS`.
        labels: The labels of its data set; None if there is no such set.
    """
    cell = Cell(**{field.name: _typed(row[field.name], field.name) for field in fields(Cell)})
    seconds = row["seconds"] if isinstance(row["seconds"], float) else 0.0
    if fault := _fault(row, cell, labels):
        return cell, Outcome(bits=np.zeros(0, dtype=np.bool_), seconds=seconds, failed=f"{DAMAGED}{fault}")
    count = 0 if row["failed"] else row["images"]
    named = row["predictions"]
    return cell, Outcome(
        bits=np.unpackbits(np.frombuffer(row["bits"], np.uint8), count=count).astype(bool),
        seconds=seconds,
        predictions=None if named is None else _wide(named, count),
        calibration_error=row["calibration_error"],
        failed=row["failed"],
    )


def _typed(value: object, name: str) -> Any:
    """Return the value of a cell's field; of a damaged one something of its type, which names the cell."""
    if type(value) is _TYPES[name]:
        return value
    return -1 if _TYPES[name] is int else f"{value!s:.60}"


def packed_data(data: Stored | Source) -> dict[str, Any]:
    """Return the columns of a data set's row."""
    labels = np.ascontiguousarray(data.labels, dtype="<i8").tobytes()
    values = {
        "fingerprint": data.fingerprint,
        "name": data.name,
        "split": data.split,
        "images": len(data.labels),
        "labels": labels,
        "classes": json.dumps(data.classes),
    }
    return values | {"checksum": checksum(*values.values())}


def read_data(row: Mapping[str, Any]) -> Stored:
    """Return a data set.

    Raises:
        ValueError: Its row is damaged.
    """
    *values, known = (row[name] for name in (*packed_data(_NOTHING),))
    labels, images = row["labels"], row["images"]
    is_whole = isinstance(labels, bytes) and isinstance(images, int) and len(labels) == 8 * images
    is_whole &= all(isinstance(row[name], str) for name in ("fingerprint", "name", "split", "classes"))
    classes = _read_names(row["classes"])
    if not is_whole or classes is None or (known and known != checksum(*values)):
        raise ValueError(
            f"the row of the data set {row['name']!s:.60} is damaged; evaluate a network on these images, "
            "which writes it anew"
        )
    return Stored(
        fingerprint=row["fingerprint"],
        name=row["name"],
        split=row["split"],
        labels=np.frombuffer(labels, "<i8"),
        classes=classes,
    )


_NOTHING = Stored(fingerprint="", name="", split="", labels=np.zeros(0, dtype=np.int64), classes=())


def _fault(row: Mapping[str, Any], cell: Cell, labels: Integers | None) -> str:
    """Return what is wrong with a row; nothing of one that can be believed.

    Rows of before schema 3 have no checksum. Their bits are compared with their predictions.
    """
    for name, kind in _TYPES.items():
        if type(row[name]) is not kind:
            return f"{name} is no {kind.__name__}"
    if row["key"] != cell.key:
        return "its key is of another cell"
    if labels is None:
        return "its data set is not in the database"
    images, bits, named = row["images"], row["bits"], row["predictions"]
    if images < 0 or cell.first < 0 or cell.step < 1 or cell.first + cell.step * (images - 1) >= len(labels):
        return f"it is of {images:,} images, and the data set has {len(labels):,}"
    count = 0 if row["failed"] else images
    if len(bits) != (count + 7) // 8:
        return f"{len(bits):,} bytes of bits for {count:,} images"
    right = np.unpackbits(np.frombuffer(bits, np.uint8))
    if int(right.sum()) != row["correct"] or right[count:].any():
        return f"{int(right.sum()):,} bits are set, {row['correct']:,} were counted"
    widths = {width * count for width in (1, 2, 4, 8)}
    if named is not None and not (isinstance(named, bytes) and len(named) in widths):
        return "the predictions are not one per image"
    if row["classes"] is not None and not _has_logits(row, count):
        return "the logits are not those of the images"
    if row["checksum"]:
        return "" if row["checksum"] == _checksum(row) else "its checksum is another"
    truth = labels[cell.first :: cell.step][:count]
    if named and not np.array_equal(_wide(named, count) == truth, right[:count]):
        return "its bits do not agree with its predictions"
    return ""


def _has_logits(row: Mapping[str, Any], count: int) -> bool:
    classes, error = row["classes"], row["calibration_error"]
    numbers = isinstance(classes, int) and isinstance(error, float) and math.isfinite(error)
    return numbers and row["length"] == 2 * classes * count


def _checksum(values: Mapping[str, Any]) -> str:
    names = ("key", "images", "correct", "bits", "predictions", "failed", "classes", "calibration_error")
    return checksum(*(values[name] for name in names))


def _narrow(numbers: Integers) -> np.ndarray[Any, np.dtype[Any]]:
    """Return class numbers in the narrowest type."""
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))).newbyteorder("<"))


def _wide(packed: bytes, count: int) -> Integers:
    return np.frombuffer(packed, f"<u{len(packed) // count}" if count else "<u1").astype(np.int64)


def read_overlap(fingerprint: object, overlap: object, path: object) -> tuple[str, ...]:
    """Return the names in what `json.dumps` made of them.

    Raises:
        ValueError: It holds something else.
    """
    if (names := _read_names(overlap)) is not None:
        return names
    raise ValueError(
        f"{path}: what the network {fingerprint!s:.12} resembles in training is damaged ({overlap!s:.60}); "
        "bring the file back, or name another one and evaluate anew"
    )


def _read_names(text: object) -> tuple[str, ...] | None:
    """Return a list of names from its JSON; None of anything else."""
    with suppress(ValueError, RecursionError):
        names = json.loads(text) if isinstance(text, str) else None
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return tuple(names)
    return None
