"""What all pages show of convolutions: curves, energy by depth, and tables."""

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor

from ..filters import FIGURES, LayerSpectrum, ModelSpectrum
from .charts import Axis, Line, first_drawn, known, line_chart, span_note
from .pictures import spectrum_picture
from .text import number, percent, span
from .views import Cell, Entry, Figure, Picture, ReportView, Row, Table

RADIUS = "Radius, cycles per pixel"
"""Title of an axis."""
_Value = TypeVar("_Value")


def having(found: Iterable[tuple[str, _Value | None]]) -> list[tuple[int, str, _Value]]:
    """Return positions, names and values of the networks that have a value."""
    return [(position, name, value) for position, (name, value) in enumerate(found) if value is not None]


def recipes_of(report: ReportView, entries: Sequence[Entry]) -> list[tuple[int, str]]:
    """Return positions and names of the recipes that these networks are of, for a legend."""
    positions = {entry.position for entry in entries}
    return [(recipe.position, recipe.name) for recipe in report.recipes if recipe.position in positions]


def radial_figures(
    curves: Sequence[Line], profiles: Sequence[Line] = (), *, cutoff: float, drawn: str = ""
) -> list[Figure]:
    """Return the cards of the cumulative curves and of the radial profiles of first layers.

    `drawn` is a sentence on how the lines differ.
    """
    figures = []
    x, said = Axis(RADIUS, domain=(0, 0.5)), f"{drawn}The dotted line is the cutoff, {cutoff:.3f}."
    if curves:
        y = Axis("Energy within the radius", percent=True, domain=(0, 1))
        label = "Share of the first layer's energy within each radius"
        chart = line_chart(curves, x=x, y=y, mark=cutoff, label=label)
        figures.append(Figure("Cumulative curve", chart, f"Mean over live filters. {said}"))
    if profiles:
        highest = max(power for line in profiles for _, power in line.values)
        y = Axis("Power, white filter = 1", domain=(0, max(1.5, math.ceil(2.2 * highest) / 2)))
        label = "Mean power of the first layer's filters at each radius"
        chart = line_chart(profiles, x=x, y=y, mark=cutoff, label=label)
        figures.append(Figure("Radial profile", chart, f"Mean over live filters and directions. {said}"))
    return figures


def by_depth(networks: Iterable[tuple[int, str, ModelSpectrum]]) -> list[Figure]:
    """Return the card of the mean low energy of every convolution; none where all have just one."""
    return course(
        "By depth",
        [
            (
                position,
                name,
                [(place, layer.mean_low_energy) for place, layer in enumerate(spectrum, start=1)],
            )
            for position, name, spectrum in networks
        ],
        x=Axis("Convolution, from the input on", whole=True),
        y=Axis("Mean low energy", percent=True, domain=(0, 1)),
        label="Mean low energy of every convolution in the order of the network",
        several=True,
    )


def course(
    title: str,
    found: Iterable[tuple[int, str, Iterable[tuple[float, float | None]]]],
    *,
    x: Axis,
    y: Axis,
    label: str,
    several: bool = False,
) -> list[Figure]:
    """Return the card of what was found of each network, by position and name; none where that is nothing.

    With `several`, at least one line must have two points.
    """
    lines = [Line(position, name, known(values)) for position, name, values in found]
    if max((len(line.values) for line in lines), default=0) <= several:
        return []
    shown, said = first_drawn(lines)
    chart = line_chart(shown, x=x, y=y, dots=True, label=label)
    return [Figure(title, chart, f"{said}{span_note(y)}".strip())]


def spectra_pictures(
    found: Sequence[tuple[Cell, Float[Tensor, "_ _"], float]], *, of: str = ""
) -> tuple[list[Picture], float]:
    """Return pictures of spectra on one scale, and the peak of the scale.

    Each has a label, values with frequency zero in the center, and the radius of a circle. `of` is what of a
    network the spectra are of, for readers that do not see them.
    """
    peak = max((float(values.max()) for _, values, _ in found), default=0.0)
    pictures = [
        Picture(
            label,
            spectrum_picture(values, peak=peak, levels=64),
            f"Mean power spectrum of {of}{label.text}, frequency zero in the center",
            cutoff,
        )
        for label, values, cutoff in found
    ]
    return pictures, peak


def layers_table(
    position: int, name: str, layers: Iterable[LayerSpectrum], *, brief: bool = False
) -> tuple[int, str, Table, str]:
    """Return a network's position and name, a table of its convolutions, and what is noted of them.

    A brief table shows only the figures that tell networks apart. Figures that no layer has are left out.
    """
    found = list(layers)
    columns = {
        key: row
        for key, row in FIGURES.items()
        if not (brief and "comparison" in row.left_out)
        and any(layer.figures.get(key) is not None for layer in found)
    }
    rows: list[Row] = [
        [
            Cell(layer.name, code=True),
            "\N{MULTIPLICATION SIGN}".join(str(side) for side in layer.shape),
            str(layer.dead),
            *(_cell(layer.figures.get(key), percents=row.unit == "filters") for key, row in columns.items()),
        ]
        for layer in found
    ]
    head = ["Layer", "Shape", "Dead", *(row.label.capitalize() for row in columns.values())]
    notes = "; ".join(sorted({layer.note for layer in found if layer.note}))
    return position, name, Table(f"Convolutions of {name}", head, rows, numeric=2), notes


def _cell(value: float | tuple[float, float] | None, *, percents: bool) -> str:
    if isinstance(value, tuple):
        return span(value)
    return percent(value) if percents else number(value)
