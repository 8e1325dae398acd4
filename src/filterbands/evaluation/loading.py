"""Scores of the results in a database."""

from pathlib import Path
from typing import Any

import numpy as np

from ..corruptions import CORRUPTIONS
from ..scores import Answers, Scores
from .store import Cell, Outcome, Store

_Base = tuple[str, str, str]
_Groups = dict[tuple[Any, ...], list[tuple[Cell, Outcome]]]


def load_scores(db: str | Path) -> list[Scores]:
    """Return the scores in a database, by network, data, seed, constants or folder, and precision.

    Cells of an earlier version of a kind are left out, so that no average mixes versions. Corrupted images
    that were read from files give one set of scores per folder. Rows of older databases do not have a folder.
    If there are several such files of one kind, each file has its own scores.

    Raises:
        FileNotFoundError: The database does not exist.
        ValueError: The file is not a database of results.
    """
    groups: _Groups = {}
    clean: dict[_Base, tuple[Cell, Outcome]] = {}
    with Store(db, readonly=True) as store:
        names, overlaps, folders = store.models(), store.overlaps(), store.folders()
        found = [(cell, outcome) for cell, outcome in store.cells() if not _outdated(cell)]
        twice = _kinds_of_several_files([cell for cell, _ in found if cell.key not in folders])
        for cell, outcome in found:
            base = (cell.model, cell.data, cell.precision)
            if cell.kind == "clean":
                if not outcome.failed:
                    clean[base] = (cell, outcome)
                continue
            for folder in folders.get(cell.key, [""]):
                orphan = cell.source if not folder and base in twice else bool(cell.source)
                group = (*base, cell.seed, cell.parameters, folder, cell.step, orphan)
                groups.setdefault(group, []).append((cell, outcome))
        for base in clean:
            if not any(group[:3] == base for group in groups):
                alone = (*base, 0, "", "", 1, False)
                groups[alone] = []
        data = {group[1]: store.data(group[1]) for group in groups}
    return [
        Scores(
            name=names[model],
            model=model,
            data=data[images].name,
            split=data[images].split,
            pixels=images,
            labels=data[images].labels,
            seed=seed,
            parameters=parameters,
            precision=precision,
            cells={
                (cell.kind, cell.severity): answers(cell, outcome)
                for cell, outcome in (clean[model, images, precision], *cells)
                if not outcome.failed
            },
            failed={(cell.kind, cell.severity): outcome.failed for cell, outcome in cells if outcome.failed},
            overlap=overlaps[model],
            folder=folder,
        )
        for (model, images, precision, seed, parameters, folder, _, _), cells in _distinct(groups).items()
        if (model, images, precision) in clean
    ]


def answers(cell: Cell, outcome: Outcome) -> Answers:
    """Return the answers of a cell in the form that `Scores` takes."""
    return Answers(
        positions=cell.first + cell.step * np.arange(len(outcome.bits)),
        bits=outcome.bits,
        predictions=outcome.predictions,
        calibration_error=outcome.calibration_error,
    )


def _distinct(groups: _Groups) -> _Groups:
    """Return the groups without folders whose cells are all in another one: copies, or former places."""
    kept: _Groups = {}
    keys = {group: {cell.key for cell, _ in cells} for group, cells in groups.items()}
    order = list(groups)
    for place, group in enumerate(order):
        covered = group[5] and any(
            keys[group] < keys[other] or (keys[group] == keys[other] and order.index(other) > place)
            for other in order
            if other != group and other[5]
        )
        if not covered:
            kept[group] = groups[group]
    return kept


def _outdated(cell: Cell) -> bool:
    made_here = cell.kind in CORRUPTIONS and not cell.source
    return made_here and cell.version != CORRUPTIONS[cell.kind].version


def _kinds_of_several_files(cells: list[Cell]) -> set[_Base]:
    """Return network, data and precision where several arrays of one kind were read."""
    files: dict[tuple[str, str, str, str], set[str]] = {}
    for cell in cells:
        if cell.source:
            files.setdefault((cell.model, cell.data, cell.precision, cell.kind), set()).add(cell.source)
    return {place[:3] for place, sources in files.items() if len(sources) > 1}
