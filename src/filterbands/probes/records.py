"""Finished heat maps, pass curves and spectra of corruptions in a database, and what they are of.

The parts that a probe keeps are found only by those who know all that they depend on; a record says it.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..evaluation import Store
from .heatmap import HeatMap
from .passes import BANDS, SHAPES, PassCurves
from .probe import Spectrum, read_arrays
from .spectra import CorruptionSpectra

# What reading a record raises that holds something else.
_ODD = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
_T = TypeVar("_T")


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
    """Return the finished heat maps and pass curves in a database, oldest first; a line names damaged ones.

    Raises:
        FileNotFoundError: The database does not exist.
        ValueError: The file is not a database of results.
    """
    with Store(db, readonly=True) as store:
        names = store.names()

        def read(one: dict[str, Any]) -> Probing:
            model, name = _text(one["model"]), _text(one["name"])
            return Probing(
                model=model,
                name=", ".join(names.get(model, ())) or name,
                data=_text(one["data"]),
                split=_text(one["split"]),
                precision=_text(one["precision"]),
                found=_READERS[one["probe"]](one["found"]),
            )

        return list(_read(store, read, of_networks=True))


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

    What is damaged is left out, and a line names it.

    Raises:
        FileNotFoundError: The database does not exist.
        ValueError: The file is not a database of results.
    """
    with Store(db, readonly=True) as store:

        def read(one: dict[str, Any]) -> Added:
            parts = {
                (_text(kind), _count(severity)): store.probed(_text(key))
                for kind, severity, key in one["keys"]
            }
            spectra = {cell: _spectrum(content) for cell, content in parts.items() if content is not None}
            about = {what: _text(one[what]) for what in ("data", "split", "parameters")}
            return Added(
                **about, found=CorruptionSpectra(spectra=spectra, images=_count(one["images"]), **about)
            )

        found = list(_read(store, read, of_networks=False))
    held = [one for one in found if one.found.spectra]
    return sorted(held, key=lambda one: (-len(one.found.kinds), -one.found.images))


def _read(store: Store, read: Callable[[dict[str, Any]], _T], *, of_networks: bool) -> Iterator[_T]:
    """Yield what is read of records; of one that holds something else a line is said."""
    for key, content in store.records(of_networks=of_networks):
        try:
            found = read(json.loads(content))
        except _ODD:
            store.say_damaged(key)
            continue
        yield found


def _heatmap(found: dict[str, Any]) -> HeatMap:
    height, width = map(_count, found["size"])
    rows = [[math.nan if error is None else _share(error) for error in row] for row in found["error"]]
    # Frequency zero is in the middle; see `HeatMap.error`.
    sides = (height + 1 - height % 2, width + 1 - width % 2)
    if (len(rows), *{len(row) for row in rows}) != sides:
        raise ValueError("the map is of another size")
    radius = found["radius"]
    return HeatMap(
        error=torch.tensor(rows),
        clean_error=_share(found["clean_error"]),
        norm=_positive(found["norm"]),
        size=(height, width),
        layer=_text(found["layer"]),
        images=_count(found["images"]),
        step=_count(found["step"]),
        reach=None if radius is None else _positive(radius),
    )


def _passes(found: dict[str, Any]) -> PassCurves:
    radii = [_positive(radius) for radius in found["radii"]]
    curves = {_text(name): [_share(one) for one in curve] for name, curve in found["curves"].items()}
    if {len(curve) for curve in curves.values()} != {len(radii)} or curves.keys() != _CURVES:
        raise ValueError("the curves are not those of the radii")
    return PassCurves(
        radii=torch.tensor(radii),
        curves={name: torch.tensor(curve) for name, curve in curves.items()},
        clean=_share(found["clean"]),
        phase_only=_share(found["phase_only"]),
        amplitude_only=_share(found["amplitude_only"]),
        reached={float(share): _reached(one) for share, one in found["reached"].items()},
        images=_count(found["images"]),
    )


def _reached(one: dict[str, Any] | None) -> tuple[float, float, float] | None:
    if one is None:
        return None
    low, high = map(_number, one["ci95"])
    return _number(one["radius"]), low, high


def _spectrum(content: bytes) -> Spectrum:
    power = torch.from_numpy(read_arrays(content)["power"])
    if power.ndim != 2 or not power.is_floating_point() or not bool(power.isfinite().all()):
        raise ValueError("the spectrum is no map of numbers")
    return Spectrum(power=power)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _count(value: object) -> int:
    if type(value) is not int or not 1 <= value < 2**63:
        raise ValueError("no number of things")
    return value


def _number(value: object) -> float:
    if type(value) not in (int, float):
        raise TypeError("no number")
    return float(value)  # type: ignore[arg-type]


def _share(value: object) -> float:
    if not 0 <= (share := _number(value)) <= 1:
        raise ValueError("no share")
    return share


def _positive(value: object) -> float:
    if not 0 < (number := _number(value)) < math.inf:
        raise ValueError("not above 0")
    return number


_CURVES = {f"{band}_{shape}" for shape in SHAPES for band in BANDS}
_READERS: dict[str, Callable[[dict[str, Any]], HeatMap | PassCurves]] = {
    "heatmap": _heatmap,
    "passes": _passes,
}
