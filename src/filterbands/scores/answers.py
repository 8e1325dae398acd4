"""Answers of a network, image by image, and how they are read from predictions that another program made."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checks import hint, whole_number
from ..corruptions import CORRUPTIONS
from .statistics import Bits, Integers, calibration_error

Place = tuple[str, int]
"""A kind and a severity; ("clean", 0) for clean images."""

GIVEN = "given:"
"""Begins the fingerprints of networks and data that only another program has seen."""

_LOG = logging.getLogger(__name__)
_Array = np.ndarray[Any, np.dtype[Any]]
# Rows of probabilities sum to 1 up to the rounding of half precision.
_ROUNDING = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers of a network in one cell: the images, and whether each prediction is correct."""

    positions: Integers
    """Positions of the images in the data set."""
    bits: Bits
    """Whether the prediction of each image is correct."""
    predictions: Integers | None = None
    """The predicted class of each image; None in results of older versions."""
    calibration_error: float | None = None
    """Expected calibration error in [0, 1]; None unless logits were kept."""

    @property
    def accuracy(self) -> float:
        """Share of correct answers, in [0, 1]."""
        return float(self.bits.mean())


def read_labels(labels: Any, classes: int | None = None) -> Integers:
    """Return labels as integers; raise ValueError unless they are class numbers, in [0, classes)."""
    numbers = _class_numbers("labels", _array("labels", labels), classes)
    if len(numbers) == 0:
        raise ValueError("labels needs the class of at least one image, got none")
    return numbers


def read_answers(
    predictions: Any, labels: Integers, classes: int | None
) -> tuple[dict[Place, Answers], dict[Place, str]]:
    """Return the answers of each cell, and why others have none; see `Scores.from_predictions`."""
    if not isinstance(predictions, Mapping):
        raise ValueError(
            'predictions needs a dict such as {("clean", 0): ..., ("fog", 3): ...}, '
            f"got {type(predictions).__name__}"
        )
    places = {check_place(place): value for place, value in predictions.items()}
    if ("clean", 0) not in places:
        raise ValueError('predictions lacks ("clean", 0); add the predictions on the clean images')
    for kind in dict.fromkeys(kind for kind, _ in places if kind != "clean"):
        if kind not in CORRUPTIONS and (near := hint(kind, CORRUPTIONS, closeness=0.8)):
            _LOG.warning("unknown kind %r%s: it is in no average that has a name", kind, near)
    # The clean cell is first, as in what `evaluate` returns.
    order = (("clean", 0), *(place for place in places if place[1]))
    found = {place: _cell(place, places[place], labels, classes) for place in order}
    cells = {place: one for place, one in found.items() if isinstance(one, Answers)}
    failed = {place: one for place, one in found.items() if isinstance(one, str)}
    if ("clean", 0) in failed:
        raise ValueError(f"on clean images {failed['clean', 0]}, so that nothing can be scored")
    if (count := len(cells["clean", 0].positions)) != len(labels):
        raise ValueError(f"clean needs a prediction of every image, got {count:,} of {len(labels):,}")
    return cells, failed


def fingerprint_of(*parts: object) -> str:
    """Return a fingerprint made of arrays, and of the `repr` of anything else, for what was given."""
    digest = sha256()
    for part in parts:
        digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return f"{GIVEN}{digest.hexdigest()}"


def check_place(place: Any) -> Place:
    """Return a kind and severity; raise ValueError unless the severity is 1 to 5, or 0 for `clean`."""
    if not (isinstance(place, tuple) and len(place) == 2 and isinstance(place[0], str) and place[0]):
        raise ValueError(f'predictions needs keys (kind, severity) such as ("fog", 3), got {place!r}')
    kind, severity = place[0], whole_number(f"the severity of {place[0]}", place[1])
    if severity not in ((0,) if kind == "clean" else range(1, 6)):
        wanted = "0" if kind == "clean" else "from 1 to 5"
        raise ValueError(f"the severity of {kind} needs to be {wanted}, got {severity}")
    return kind, severity


def _cell(place: Place, value: Any, labels: Integers, classes: int | None) -> Answers | str:
    if isinstance(value, str) and value:
        return value
    what = "clean" if place[0] == "clean" else f"{place[0]} {place[1]}"
    positions = np.arange(len(labels))
    if isinstance(value, tuple) and len(value) == 2 and np.ndim(value[0]):
        positions = _class_numbers(f"positions of {what}", _array(what, value[0]), len(labels))
        value = value[1]
    array = _array(what, value)
    if len(array) != len(positions) or not len(array):
        raise ValueError(
            f"{what} has {len(array):,} predictions for {len(positions):,} images; give one per label, in "
            "their order, or a pair (positions, predictions) for a part of the images"
        )
    order = np.argsort(positions, kind="stable")
    if not np.diff(positions[order]).all():
        raise ValueError(f"{what} has several predictions of one image; give each position once")
    if array.ndim == 2:
        return _of_logits(what, array[order], positions[order], labels, classes)
    return _answers(positions[order], _class_numbers(what, array, classes)[order], labels)


def _of_logits(
    what: str, logits: _Array, positions: Integers, labels: Integers, classes: int | None
) -> Answers | str:
    """Return the answers that have the largest logit, or the largest probability; or why there are none."""
    if logits.dtype.kind != "f":
        raise ValueError(
            f"{what} has integers of shape {logits.shape}; give one class number per image, or floats "
            "(images, classes)"
        )
    columns, least = logits.shape[1], max(2, int(labels.max()) + 1)
    if columns < least or (classes is not None and columns != classes):
        raise ValueError(
            f"{what} has logits of {columns} classes, expected {classes or f'at least {least}'}; the largest "
            f"label is {int(labels.max())}"
        )
    if bad := int(np.isnan(logits).any(axis=1).sum()):
        return nan_answers(bad, len(logits))
    named, error = logits.argmax(axis=1), None
    # Confidence is not defined where a logit is +infinity.
    if np.isfinite(logits.max(axis=1)).all():
        sums = logits.sum(axis=1, dtype=np.float64)
        if (logits >= 0).all() and (np.abs(sums - 1) < _ROUNDING).all():
            with np.errstate(divide="ignore"):
                logits = np.log(logits.astype(np.float64))
        error = calibration_error(logits, labels[positions])
    return _answers(positions, named, labels, error)


def _answers(
    positions: Integers, predictions: Integers, labels: Integers, error: float | None = None
) -> Answers:
    right = predictions == labels[positions]
    return Answers(positions=positions, bits=right, predictions=predictions, calibration_error=error)


def nan_answers(bad: int, images: int) -> str:
    """Return the reason why a cell has no answers: NaN among the outputs for so many of its images."""
    return f"the network gives NaN for {bad:,} of {images:,} images"


def _class_numbers(what: str, array: _Array, count: int | None) -> Integers:
    """Return whole numbers from 0, below the count if there is one."""
    if array.ndim != 1:
        raise ValueError(f"{what} needs one number per image, got an array of shape {array.shape}")
    # NaN and infinity differ from themselves rounded, or are out of range.
    wrong = ~np.isfinite(array) | (array != np.floor(array))
    if wrong.any():
        raise ValueError(f"{what} needs whole numbers, got {array[wrong][0]} at position {wrong.argmax()}")
    outside = (array < 0) | (array >= (2**63 if count is None else count))
    if outside.any():
        limit = "of at least 0" if count is None else f"from 0 to {count - 1}"
        raise ValueError(
            f"{what} needs numbers {limit}, got {array[outside][0]} at position {outside.argmax()}"
        )
    return array.astype(np.int64)


def _array(what: str, values: Any) -> _Array:
    if isinstance(values, Tensor):
        plain = values.detach().cpu()
        values = plain.float() if plain.dtype == torch.bfloat16 else plain
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):
        array = np.asarray(None)
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2):
        given = f"{array.dtype} {array.shape}" if array.ndim else type(values).__name__
        raise ValueError(
            f"{what} needs class numbers (images,), or logits (images, classes), as one array, got {given}"
        )
    return array
