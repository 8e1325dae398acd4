"""Predictions that another program made: read from a file, scored on images, kept in a database."""

from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from ..corruptions import CORRUPTIONS
from ..datasets import CLASSES, read_arrays
from ..scores import GIVEN, Integers, Scores, read_labels
from .rows import UNKNOWN_FILE, Cell, Outcome, Stored, check_text
from .sources import Data, as_source
from .store import Store


def score_predictions(
    data: Data,
    predictions: Any,
    *,
    name: str,
    labels: Any = None,
    parameters: str = "cifar",
    seed: SupportsIndex | None = None,
    precision: str = "float32",
    overlap: tuple[str, ...] = (),
    db: str | Path | None = None,
) -> Scores:
    """Return the scores of predictions that another program made on these images.

    They can be compared with those that `evaluate` returns for the same images, seed and constants.

    Args:
        data: The clean images with their labels, as `evaluate` takes them.
        predictions: By kind and severity. This and the other options are those of `Scores.from_predictions`.
        name: Name of the network.
        labels: Labels that the other program had, which must be those of the data; None does not check.
        parameters: Table of constants of the corruptions; empty if the images were read from files.
        seed: Seed of the corruptions, 0 by default; of images that were read from files that of the copies.
        precision: Precision of the network.
        overlap: Kinds, or families of kinds, that the training data resemble.
        db: Database in which `save_scores` keeps the scores; None keeps nothing.

    Raises:
        ValueError: As for `Scores.from_predictions` and `evaluate`.

    >>> from filterbands import load_data
    >>> data = load_data("planted", limit=4)
    >>> score_predictions(data, {("clean", 0): data.labels}, name="perfect").clean
    1.0
    """
    source = as_source(data)
    if labels is not None and not np.array_equal(read_labels(labels), source.labels):
        raise ValueError(
            f"the labels of the predictions are not those of {source.name} ({source.split}, "
            f"{len(source.labels):,} images); give the same images in the same order"
        )
    scores = Scores.from_predictions(
        source.labels,
        predictions,
        name=name,
        classes=len(source.classes) if source.named else None,
        data=source.name,
        parameters=parameters,
        seed=seed,
        precision=precision,
        overlap=overlap,
    )
    scores = replace(scores, split=source.split, pixels=source.fingerprint)
    if db is not None:
        _check(scores)
        with Store(db) as store:
            store.add_data(source)
        save_scores(scores, db)
    return scores


def save_scores(scores: Scores, db: str | Path) -> None:
    """Keep scores of given predictions in a database, for `load_scores`, reports and baselines.

    Cells that are there already stay as they are; one without a calibration error takes that of logits.

    Args:
        scores: From `Scores.from_predictions`. The images of each cell must be all, or every k-th.
        db: The database, created where there is none.

    Raises:
        ValueError: Scores of another origin, other images, or a database that cannot be written.
    """
    spans = _check(scores)
    clean = Cell(model=scores.model, data=scores.pixels, kind="clean", severity=0, precision=scores.precision)
    classes = tuple(map(str, range(int(scores.labels.max()) + 1)))
    data = Stored(
        fingerprint=scores.pixels, name=scores.data, split=scores.split, labels=scores.labels, classes=classes
    )
    # A failed cell has no images of its own, and one of a single image no step; they stand with the others in
    # one set of scores.
    step = max((step for (kind, _), (_, step) in spans.items() if kind != "clean"), default=1) or 1
    with Store(db) as store:
        store.add_model(scores.model, scores.name, overlap=scores.overlap)
        store.add_data(data)
        for place in (*scores.cells, *scores.failed):
            kind, severity = place
            first, every = spans.get(place, (0, 0))
            every = every or step
            cell = replace(clean, kind=kind, severity=severity, first=first, step=every)
            if kind != "clean" and scores.parameters:
                version = CORRUPTIONS[kind].version if kind in CORRUPTIONS else 0
                cell = replace(cell, parameters=scores.parameters, version=version, seed=scores.seed or 0)
            elif kind != "clean":
                cell = replace(cell, source=UNKNOWN_FILE, seed=scores.seed or 0)
            # A cell of a part of the images may end before the data do.
            there, whole = scores.cells.get(place), range(first, len(scores.labels), every)
            images = len(whole if there is None else there.positions)
            store.put(cell, _outcome(scores, place), images=images)


def read_predictions(file: str | Path) -> tuple[dict[tuple[str, int], Any], Any]:
    """Return the predictions in an `.npz` file by kind and severity, and its `labels`, None without them.

    Args:
        file: `clean` and arrays such as `fog_3`, of kind and severity; see `Scores.from_predictions`.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is no `.npz` of plain arrays, or an array has another name.
    """
    arrays = read_arrays(Path(file))
    labels, predictions = arrays.pop("labels", None), {}
    for name, array in arrays.items():
        kind, _, severity = (name, "", "0") if name == "clean" else name.rpartition("_")
        if name != "clean" and not (kind and severity in tuple("12345")):
            raise ValueError(f"{file} needs arrays named labels, clean, and such as fog_3, found {name!r}")
        predictions[kind, int(severity)] = array
    return predictions, labels


def _check(scores: Scores) -> dict[tuple[str, int], tuple[int, int]]:
    """Return the first image and the step of each cell, 0 for one image; raise ValueError for other cells."""
    if not scores.model.startswith(GIVEN):
        raise ValueError(
            f"save_scores keeps scores of predictions that were given, not those of {scores.name}, which "
            "evaluate made; give evaluate the database"
        )
    for what, text in (("name of the network", scores.name), ("name of the data", scores.data)):
        check_text(f"the {what}", text)
    for kind, _ in (*scores.cells, *scores.failed):
        check_text("the kind", kind)
    if (largest := int(scores.labels.max())) >= CLASSES:
        raise ValueError(
            f"{scores.name} needs labels that are class numbers below the limit of {CLASSES:,}, "
            f"got {largest:,}"
        )
    return {place: _span(scores.name, place, answers.positions) for place, answers in scores.cells.items()}


def _span(name: str, place: tuple[str, int], positions: Integers) -> tuple[int, int]:
    first = int(positions[0])
    step = int(positions[1]) - first if len(positions) > 1 else 0
    if not np.array_equal(positions, first + step * np.arange(len(positions))):
        raise ValueError(
            f"{name} has {place[0]} {place[1]} on images that are not every k-th; a database holds only such "
            "cells, so give the predictions of all images, or spread them as evaluate does"
        )
    return first, step


def _outcome(scores: Scores, place: tuple[str, int]) -> Outcome:
    answers = scores.cells.get(place)
    if answers is None:
        return Outcome(bits=np.zeros(0, dtype=np.bool_), seconds=0.0, failed=scores.failed[place])
    return Outcome(
        bits=answers.bits,
        seconds=0.0,
        predictions=answers.predictions,
        calibration_error=answers.calibration_error,
    )
