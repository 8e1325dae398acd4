"""Finished heat maps and pass curves in a database, with the network and the images that they are of.

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
