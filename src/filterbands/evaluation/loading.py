"""Scores of the results in a database."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ..corruptions import CORRUPTIONS
from ..scores import Answers, Scores
from .rows import UNKNOWN_FILE, Cell, Outcome, Stored
from .sources import Source
from .store import Store

_LOG = logging.getLogger(__name__)

_Base = tuple[str, str, str]
_Groups = dict[tuple[Any, ...], list[tuple[Cell, Outcome]]]


def load_scores(db: str | Path, *, folder: str = "") -> list[Scores]:
    """Return the scores in a database, by network, data, seed, constants or folder, and precision.

    Cells of an earlier version of a kind are left out, so that no average mixes versions. Corrupted images
    that were read from files give one set of scores per folder. Rows of older databases do not have a folder,
    and go by the sha256 of their files. If there are several such files of one kind, each file has its own
    scores. A damaged cell is among the failed ones, and a line says it.

    Args:
        db: The database.
        folder: A folder of corrupted images whose scores are wanted even where all its cells are those of
            another folder, such as a copy. Else the later or larger one alone is there.

    Raises:
        FileNotFoundError: The database does not exist.
        ValueError: The file is not a database of results.
    """
    groups: _Groups = {}
    clean: dict[_Base, tuple[Cell, Outcome]] = {}
    with Store(db, readonly=True) as store:
        names, overlaps, folders = store.names(), store.overlaps(), store.folders()
        found = [(cell, outcome) for cell, outcome in store.cells() if not _outdated(cell)]
        for cell, outcome in found:
            if outcome.is_damaged:
                shown = (db, cell, next(iter(names.get(cell.model, ())), cell.model), outcome.failed)
                _LOG.warning("%s: %s of %s is left out, since %s; evaluate computes it anew", *shown)
        twice = _kinds_of_several_files([cell for cell, _ in found if cell.key not in folders])
        for cell, outcome in found:
            base = (cell.model, cell.data, cell.precision)
            if cell.kind == "clean":
                if not outcome.failed:
                    clean[base] = (cell, outcome)
                continue
            for place in folders.get(cell.key, {"": None}):
                orphan = cell.source if not place and base in twice else bool(cell.source)
                group = (*base, cell.seed, cell.parameters, place, cell.step, orphan)
                groups.setdefault(group, []).append((cell, outcome))
        for base in clean:
            if not any(group[:3] == base for group in groups):
                alone = (*base, 0, "", "", 1, False)
                groups[alone] = []
        # Without a clean cell there is no score, and such a cell may name a data set that is not there.
        data = {group[1]: store.data(group[1]) for group in groups if group[:3] in clean}
    distinct = _distinct(groups, folder)
    return [
        scores_of(
            data[images],
            [clean[model, images, precision], *cells],
            # A network whose row is gone goes by its fingerprint.
            names=names.get(model, (model[:12],)),
            overlap=overlaps.get(model, ()),
            seed=_seed_of_copies([cell for cell, _ in cells], place, folders) if read else seed,
            parameters=parameters,
            folder=place or _unknown_folder([cell for cell, _ in cells]),
        )
        for (model, images, precision, seed, parameters, place, _, read), cells in distinct.items()
        if (model, images, precision) in clean
    ]


def scores_of(
    data: Source | Stored,
    found: Sequence[tuple[Cell, Outcome]],
    *,
    names: tuple[str, ...],
    overlap: tuple[str, ...],
    seed: int | None,
    parameters: str,
    folder: str,
) -> Scores:
    """Return the scores of cells of one network, the clean one first; the first of its names is shown."""
    clean = found[0][0]
    return Scores(
        name=names[0],
        other_names=names[1:],
        model=clean.model,
        data=data.name,
        split=data.split,
        pixels=data.fingerprint,
        labels=np.asarray(data.labels),
        seed=seed,
        parameters=parameters,
        precision=clean.precision,
        cells={
            (cell.kind, cell.severity): Answers(
                positions=cell.first + cell.step * np.arange(len(outcome.bits)),
                bits=outcome.bits,
                predictions=outcome.predictions,
                calibration_error=outcome.calibration_error,
            )
            for cell, outcome in found
            if not outcome.failed
        },
        failed={(cell.kind, cell.severity): outcome.failed for cell, outcome in found if outcome.failed},
        overlap=overlap,
        folder=folder,
    )


def _distinct(groups: _Groups, wanted: str) -> _Groups:
    """Return the groups, except folders whose cells are all in another one: copies, or former paths."""
    keys = {group: {cell.key for cell, _ in cells} for group, cells in groups.items() if group[5]}
    order = list(keys)
    covered = {
        group
        for place, group in enumerate(order)
        if group[5] != wanted
        and (
            any(keys[group] < keys[other] for other in order)
            or any(keys[group] == keys[later] for later in order[place + 1 :])
        )
    }
    return {group: cells for group, cells in groups.items() if group not in covered}


def _seed_of_copies(
    cells: Sequence[Cell], folder: str, folders: Mapping[str, Mapping[str, int | None]]
) -> int | None:
    """Return the seed of the copies in a folder; None if it is not known, or not the same for all."""
    # Of files that another program read, the rows have the seed that was given with the predictions.
    seeds = {folders[cell.key][folder] if folder else cell.seed or None for cell in cells}
    return seeds.pop() if len(seeds) == 1 else None


def _unknown_folder(cells: Sequence[Cell]) -> str:
    """Return what tells files apart whose folder is not known; nothing where no file was read here."""
    sources = sorted({(cell.kind, cell.source) for cell in cells if cell.source not in ("", UNKNOWN_FILE)})
    return f"files of sha256 {sha256(repr(sources).encode()).hexdigest()[:12]}" if sources else ""


def _outdated(cell: Cell) -> bool:
    made_here = cell.kind in CORRUPTIONS and not cell.source
    return made_here and cell.version != CORRUPTIONS[cell.kind].version


def _kinds_of_several_files(cells: list[Cell]) -> set[_Base]:
    """Return network, data and precision where several arrays of one kind were read."""
    files = {(cell.model, cell.data, cell.precision, cell.kind, cell.source) for cell in cells if cell.source}
    counts = Counter(file[:4] for file in files)
    return {place[:3] for place, count in counts.items() if count > 1}
