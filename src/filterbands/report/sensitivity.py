"""Heat maps and filtered images of networks: those of the same conditions stand together."""

from collections.abc import Sequence
from itertools import pairwise
from math import isnan
from typing import Any, NamedTuple

from ..filters import EQUAL_AREA
from ..probes import HeatMap, PassCurves
from .charts import Axis, Line, first_drawn, line_chart, points
from .layers import RADIUS
from .pictures import spectrum_picture
from .text import brief, number, percent
from .views import RING, Cell, Figure, Picture, Row, Table

RINGS = round(0.72 / RING)
"""Rings out to the corner, 0.71 cycles per pixel."""

_BANDS = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.71))

Facts = tuple[tuple[str, str], ...]
"""Conditions, names and values as they are shown."""


class Found(NamedTuple):
    """A probe of a network: its position and name, the conditions, and what was found."""

    position: int
    name: str
    conditions: Facts
    probe: HeatMap | PassCurves


class Alike(NamedTuple):
    """Probes of the same conditions: only these are compared."""

    title: str
    """The conditions that others do not share; empty where there are no others."""
    facts: Facts
    pictures: Sequence[Picture] = ()
    figures: Sequence[Figure] = ()
    table: Table | None = None


def probed_sections(found: Sequence[Found]) -> dict[str, Any]:
    """Return what a page shows of heat maps and of filtered images, each group of conditions apart."""
    maps: dict[Facts, list[tuple[int, str, HeatMap]]] = {}
    passed: dict[Facts, list[tuple[int, str, PassCurves]]] = {}
    for position, name, conditions, probe in found:
        if isinstance(probe, HeatMap):
            facts = (*conditions, ("norm", f"{probe.norm:g}"), ("layer", probe.layer or "the image"))
            maps.setdefault(facts, []).append((position, name, probe))
        else:
            passed.setdefault(conditions, []).append((position, name, probe))
    mapped = zip(_titles(list(maps)), maps.items(), strict=True)
    filtered = zip(_titles(list(passed)), passed.items(), strict=True)
    return {
        "maps": [
            Alike(title, facts, pictures=_maps(group), table=_errors(group, title))
            for title, (facts, group) in mapped
        ],
        "passes": [
            Alike(title, facts, figures=_passes(group), table=_reached(group, title))
            for title, (facts, group) in filtered
        ],
    }


def _titles(groups: Sequence[Facts]) -> list[str]:
    """Return of each group the conditions that differ between them."""
    shared = set(groups[0]).intersection(*groups) if groups else set()
    return [
        ", ".join(f"{what} {brief(value, 40)}" for what, value in facts if (what, value) not in shared)
        for facts in groups
    ]


def _maps(maps: Sequence[tuple[int, str, HeatMap]]) -> list[Picture]:
    pictures = []
    for position, name, heat in maps:
        where = f", at {heat.layer}" if heat.layer else ""
        measured, frequencies = heat.measured()
        if measured < frequencies:
            where += f", {measured:,} of {frequencies:,} frequencies measured"
        label = Cell(name, position, f"norm {heat.norm:g}, {heat.images:,} images{where}")
        alt = f"Fourier heat map of {name}: mean error {_percent(heat.mean_error())}"
        address = spectrum_picture(heat.filled(), peak=1.0)
        pictures.append(Picture(label, address, alt, EQUAL_AREA, pixels=True, rings=_error_rings(heat)))
    return pictures


def _error_rings(heat: HeatMap) -> dict[str, str]:
    """Return mean errors and numbers of frequencies, ring by ring, and how far rings were measured wholly."""
    edges = [RING * number for number in range(RINGS + 1)]
    errors = [heat.mean_error(*ends) for ends in pairwise(edges)]
    counts = [heat.measured(*ends)[0] for ends in pairwise(edges)]
    said = ["" if isnan(error) else f"{error:.4f}" for error in errors]
    whole = [edge for edge in edges if not isnan(heat.mean_error(0.0, edge))]
    reach = f"{max(whole, default=0.0):.2f}"
    return {"errors": ",".join(said), "counts": ",".join(map(str, counts)), "reach": reach}


def _errors(maps: Sequence[tuple[int, str, HeatMap]], title: str) -> Table:
    rows: list[Row] = [["no perturbation", *(percent(heat.clean_error) for _, _, heat in maps)]]
    for low, high in _BANDS:
        rows.append([f"{low:g} to {high:g}", *(_percent(heat.mean_error(low, high)) for _, _, heat in maps)])
    heads = [Cell(name, position) for position, name, _ in maps]
    return Table(_labeled("Mean error by radius", title), ["Radius", *heads], rows)


def _labeled(label: str, title: str) -> str:
    return f"{label}, {title}" if title else label


def _percent(error: float) -> str:
    return "not measured" if isnan(error) else percent(error)


def _passes(passed: Sequence[tuple[int, str, PassCurves]]) -> list[Figure]:
    figures = []
    for shape, title in (("ideal", "Ideal filters"), ("gaussian", "Gaussian filters")):
        lines = [
            Line(
                position=position,
                name=f"{name}, {band}-pass",
                values=points(passes.radii, passes.curves[f"{band}_{shape}"]),
                dashed=band == "high",
            )
            for position, name, passes in passed
            for band in ("low", "high")
        ]
        shown, said = first_drawn(lines)
        chart = line_chart(
            shown,
            x=Axis(RADIUS, domain=(0, 0.72)),
            y=Axis("Accuracy", percent=True, domain=(0, 1)),
            label=f"Accuracy under {shape} low- and high-pass filters",
        )
        figures.append(Figure(title, chart, said.strip()))
    return figures


def _reached(passed: Sequence[tuple[int, str, PassCurves]], title: str) -> Table:
    rows: list[Row] = [
        [
            Cell(name, position),
            percent(passes.clean),
            *(with_ends(passes.reached[share], 3) for share in (0.1, 0.9)),
            percent(passes.phase_only),
            percent(passes.amplitude_only),
        ]
        for position, name, passes in passed
    ]
    radii = [
        Cell(f"Radius for {percent(share, 0)}", under="of its gain over guessing") for share in (0.1, 0.9)
    ]
    heads: Row = ["Network", "Clean", *radii, "Phases alone", "Amplitudes alone"]
    return Table(_labeled("Pass curves", title), heads, rows)


def with_ends(found: tuple[float, float, float] | None, digits: int) -> Cell:
    """Return a figure with the ends of its interval below it; a dash for None."""
    if found is None:
        return Cell(number(None))
    value, low, high = (number(part, digits) for part in found)
    return Cell(value, under=f"{low} to {high}")
