"""Finished heat maps, pass curves and spectra of corruptions in a database, and what they are of.

The parts that a probe keeps are found only by those who know all that they depend on; a record says it.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..evaluation import Store
from .heatmap import HeatMap
from .passes import PassCurves
from .probe import Spectrum, read_arrays
from .spectra import CorruptionSpectra


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """A finished probe, the network that it is of, and how it was made."""

    model: str
    """Fingerprint of the network."""
    name: str
    """Name of the network; empty if none is known."""
    data: str
    """Name of the data set."""
    split: str
    """Split of the data set."""
    precision: str
    """Precision of the network."""
    found: HeatMap | PassCurves
    """What was found."""


def read_probed(db: str | Path) -> list[Probing]:
    """Return the finished heat maps and pass curves in a database, oldest first.

    Raises:
        FileNotFoundError: The database does not exist.
        ValueError: The file is not a database of results.
    """
    with Store(db, readonly=True) as store:
        names, contents = store.names(), [json.loads(content) for content in store.records()]
    return [
        Probing(
            model=one["model"],
            name=", ".join(names.get(one["model"], ())) or one["name"],
            data=one["data"],
            split=one["split"],
            precision=one["precision"],
            found=_READERS[one["probe"]](one["found"]),
        )
        for one in contents
        if one["probe"] in _READERS
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """Spectra of what corruptions add to images, and which images these are."""

    data: str
    """Name of the data set."""
    split: str
    """Split of the data set."""
    parameters: str
    """Table of constants of the corruptions."""
    found: CorruptionSpectra
    """The spectra."""


def read_added(db: str | Path) -> list[Added]:
    """Return the spectra of corruptions in a database, those of the most kinds and images first.

    Raises:
        FileNotFoundError: The database does not exist.
        ValueError: The file is not a database of results.
    """
    with Store(db, readonly=True) as store:
        records = [one for one in map(json.loads, store.records()) if one["probe"] == "corruptions"]
        parts = [
            {(kind, severity): store.probed(key) for kind, severity, key in one["keys"]} for one in records
        ]
    found = [
        Added(
            data=one["data"],
            split=one["split"],
            parameters=one["parameters"],
            found=CorruptionSpectra(
                spectra={
                    cell: Spectrum(power=torch.from_numpy(read_arrays(content)["power"]))
                    for cell, content in cells.items()
                    if content is not None
                },
                images=one["images"],
            ),
        )
        for one, cells in zip(records, parts, strict=True)
    ]
    held = [one for one in found if one.found.spectra]
    return sorted(held, key=lambda one: (-len(one.found.kinds), -one.found.images))


def _heatmap(found: dict[str, Any]) -> HeatMap:
    rows = [[math.nan if error is None else error for error in row] for row in found["error"]]
    return HeatMap(
        error=torch.tensor(rows),
        clean_error=found["clean_error"],
        norm=found["norm"],
        size=(found["size"][0], found["size"][1]),
        layer=found["layer"],
        images=found["images"],
        step=found["step"],
        reach=found["radius"],
    )


def _passes(found: dict[str, Any]) -> PassCurves:
    return PassCurves(
        radii=torch.tensor(found["radii"]),
        curves={name: torch.tensor(curve) for name, curve in found["curves"].items()},
        clean=found["clean"],
        phase_only=found["phase_only"],
        amplitude_only=found["amplitude_only"],
        reached={
            float(share): None if one is None else (one["radius"], one["ci95"][0], one["ci95"][1])
            for share, one in found["reached"].items()
        },
        images=found["images"],
    )


_READERS: dict[str, Callable[[dict[str, Any]], HeatMap | PassCurves]] = {
    "heatmap": _heatmap,
    "passes": _passes,
}
