"""What all pages show of convolutions: curves, energy by depth, and tables."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from ..filters import LayerSpectrum, ModelSpectrum
from .charts import Axis, Line, known, line_chart
from .text import number, percent, span
from .views import Cell, Figure, Table

RADIUS = "Radius, cycles per pixel"
"""Title of an axis."""
_Value = TypeVar("_Value")


def having(found: Iterable[tuple[str, _Value | None]]) -> list[tuple[int, str, _Value]]:
    """Return positions, names and values of the networks that have a value."""
    return [(position, name, value) for position, (name, value) in enumerate(found) if value is not None]


def radial_figures(
    curves: Sequence[Line], profiles: Sequence[Line] = (), *, cutoff: float, drawn: str = ""
) -> list[Figure]:
    """Return the cards of the energy within each radius and of the power at each radius, of first layers.

    Args:
        curves: Cumulative curves.
        profiles: Radial profiles.
        cutoff: Radius of the dotted line.
        drawn: A sentence on how the lines differ.
    """
    figures = []
    x, said = Axis(title=RADIUS, domain=(0, 0.5)), f"{drawn}The dotted line is the cutoff, {cutoff:.3f}."
    if curves:
        y = Axis(title="Energy within the radius", percent=True, domain=(0, 1))
        label = "Share of the first layer's energy within each radius"
        chart = line_chart(curves, x=x, y=y, mark=cutoff, label=label)
        figures.append(Figure("Cumulative curve", chart, f"Mean over live filters. {said}"))
    if profiles:
        highest = max(power for line in profiles for _, power in line.values)
        y = Axis(title="Power, white filter = 1", domain=(0, max(1.5, math.ceil(2.2 * highest) / 2)))
        label = "Mean power of the first layer's filters at each radius"
        chart = line_chart(profiles, x=x, y=y, mark=cutoff, label=label)
        figures.append(Figure("Radial profile", chart, f"Mean over live filters and directions. {said}"))
    return figures


def by_depth(networks: Iterable[tuple[int, str, ModelSpectrum]]) -> list[Figure]:
    """Return the card of the mean low energy of every convolution; none where all have just one.

    Args:
        networks: Position, name and convolutions of each.
    """
    lines = []
    for position, name, spectrum in networks:
        values = known((place, layer.mean_low_energy) for place, layer in enumerate(spectrum, start=1))
        if values:
            lines.append(Line(position=position, name=name, values=values))
    if all(len(line.values) < 2 for line in lines):
        return []
    chart = line_chart(
        lines,
        x=Axis(title="Convolution, from the input on", whole=True),
        y=Axis(title="Mean low energy", percent=True),
        dots=True,
        label="Mean low energy of every convolution in the order of the network",
    )
    return [Figure("By depth", chart)]


_COLUMNS: Mapping[str, Callable[[LayerSpectrum], Cell | str]] = {
    "Layer": lambda layer: Cell(layer.name, code=True),
    "Shape": lambda layer: "\N{MULTIPLICATION SIGN}".join(str(side) for side in layer.shape),
    "Dead": lambda layer: str(layer.dead),
    "Low share": lambda layer: percent(layer.low_share),
    "By chance": lambda layer: span(layer.low_share_chance),
    "Low energy": lambda layer: number(layer.low_energy),
    "Mean low energy": lambda layer: number(layer.mean_low_energy),
    "Response": lambda layer: number(layer.response_low_energy),
    "Centroid": lambda layer: number(layer.centroid),
    "Leak at 0": lambda layer: number(layer.zero_leak),
    "Aliased": lambda layer: number(layer.aliased_energy),
    "Horizontal": lambda layer: number(layer.horizontal_energy),
    "Vertical": lambda layer: number(layer.vertical_energy),
    "Diagonal": lambda layer: number(layer.diagonal_energy),
}
ALL = tuple(_COLUMNS)
"""Every column of a table of convolutions."""
FEW = tuple(
    name for name in ALL if name not in ("Response", "Leak at 0", "Horizontal", "Vertical", "Diagonal")
)
"""Those that tell networks apart."""


def layers_table(
    position: int, name: str, layers: Iterable[LayerSpectrum], columns: Sequence[str]
) -> tuple[int, str, Table, str]:
    """Return a network's position and name, a table of its convolutions, and what is noted of them."""
    found = list(layers)
    rows = [[_COLUMNS[column](layer) for column in columns] for layer in found]
    notes = "; ".join(sorted({layer.note for layer in found if layer.note}))
    return position, name, Table(f"Convolutions of {name}", columns, rows, numeric=2), notes
