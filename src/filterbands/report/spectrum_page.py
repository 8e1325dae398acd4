"""The page of `analyze`: curves, directions and tables of every convolution, and their course."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..datasets import ImageSet
from ..disk import check_output
from ..filters import Analyzed, GradientSpectrum, Sensitivity, Trajectory, line
from .charts import Axis, Line, line_chart, points
from .layers import by_depth, course, having, layers_table, radial_figures, spectra_pictures
from .page import render, write_page
from .text import brief, cleaned, number, percent, span
from .views import Cell, Figure, Row, Table


def write_spectra(
    networks: Sequence[Analyzed],
    out: str | Path,
    *,
    together: Trajectory | None = None,
    data: ImageSet | None = None,
    title: str = "The spectra of the filters",
) -> Path:
    """Write one HTML page about the filters of networks, and return its path.

    The page loads nothing, and its one script asks for nothing; it is written whole or not at all.

    Args:
        networks: In the order in which they are shown.
        out: The file to write; its folder must exist.
        together: The networks as steps of one training.
        data: The images that they were measured on; None for weights alone.
        title: The heading.

    Raises:
        ValueError: No network, a place that cannot be written, or a page of over 3 MB.

    >>> write_spectra([], "spectra.html")
    Traceback (most recent call last):
    ValueError: a page of spectra needs at least one network, got none
    """
    if not networks:
        raise ValueError("a page of spectra needs at least one network, got none")
    file = check_output(out, replaced=True)
    names = [one.path for one in networks]
    networks = [replace(one, path=brief(cleaned(one.path))) for one in networks]
    gradients = having((one.path, one.gradient) for one in networks)
    sensitivities = having((one.path, one.sensitivity) for one in networks)
    pictures, peak = spectra_pictures([_gradient(*each) for each in gradients], of="the input gradient of ")
    page = render(
        "analyze.html",
        title=title,
        names=[(position, one.path, names[position]) for position, one in enumerate(networks)],
        firsts=[(n, one.path, one.first) for n, one in enumerate(networks) if one.first is not None],
        ends=_ends(together),
        white=line(networks[0].spectrum.cutoff),
        conditions=[] if data is None else _conditions(data),
        curves=_curves(networks),
        courses=_courses(networks, together),
        courses_of=[(len(networks), "the checkpoints")]
        if together
        else [(n, name) for n, name, _ in _logged(networks)],
        gradients=pictures,
        peak=peak,
        layers=[layers_table(n, one.path, one.layers) for n, one in enumerate(networks)],
        definitions=_definitions(sensitivities),
        conclusions=[(position, name, found.sentence) for position, name, found in sensitivities],
    )
    return write_page(file, page, of=f"page of {len(networks)} networks")


def _conditions(data: ImageSet) -> list[tuple[str, str]]:
    return [
        ("data", data.name),
        ("split", data.split),
        ("images", f"{len(data):,}"),
        ("precision", "float32"),
    ]


def _first(course: Trajectory) -> str:
    """Return the first layer that has a spectrum; one of 1x1 has none."""
    known = (str(row["layer"]) for row in course.rows if row.get("mean_low_energy") is not None)
    return next(known, course.layers[0])


def _ends(together: Trajectory | None) -> list[tuple[int, float]]:
    """Return the first and the last step of the first layer with its mean low energy; none without two."""
    if together is None:
        return []
    found = together.series(_first(together), "mean_low_energy")
    return [found[0], found[-1]] if len(found) > 1 else []


def _curves(networks: Sequence[Analyzed]) -> list[Figure]:
    """Return the first layer's cumulative curve, radial profile and orientation, and energy by depth."""
    curves, profiles, orientations, measured = [], [], [], []
    for position, one in enumerate(networks):
        first = one.first
        if first is None or first.curve is None or first.profile is None:
            continue
        measured.append((position, one.path, one.spectrum))
        curve = [(0.0, 0.0), *points(first.radii, first.curve)]
        curves.append(Line(position, one.path, curve))
        profiles.append(Line(position, one.path, points(first.radii, first.profile)))
        if first.angles is not None and first.orientation is not None:
            turns = points(first.angles, first.orientation)
            turns.append((180.0, turns[0][1]))
            orientations.append(Line(position, one.path, turns))
    figures = radial_figures(curves, profiles, cutoff=networks[0].spectrum.cutoff)
    if orientations:
        chart = line_chart(
            orientations,
            x=Axis("Direction, degrees", domain=(0, 180)),
            # From 0 on, so that the noise of white filters looks as small as it is.
            y=Axis(
                "Power, white filter = 1",
                domain=(0, max(1.5, 1.1 * max(y for one in orientations for _, y in one.values))),
            ),
            label="Mean power of the first layer's filters in each direction",
        )
        note = "0 and 180 are horizontal frequencies, which vertical edges have; 90 are vertical ones."
        figures.append(Figure("Orientation", chart, note))
    return [*figures, *by_depth(measured)]


def _courses(networks: Sequence[Analyzed], together: Trajectory | None) -> list[Figure]:
    """Return figures against the step: of the checkpoints together, or of each network's own log."""
    own = _logged(networks)
    # A position of its own: the course is that of no single checkpoint.
    courses = own if together is None else [(len(networks), "the checkpoints", together)]
    figures = []
    for title, key in (("Low share", "low_share"), ("Mean low energy", "mean_low_energy")):
        found = [
            (position, f"{path}, {_first(one)}", one.series(_first(one), key))
            for position, path, one in courses
        ]
        label, y = f"{title} of the first layer against the step", Axis(title, percent=True)
        figures += course(title, found, x=Axis("Step", whole=True), y=y, label=label, several=True)
    return figures


def _logged(networks: Sequence[Analyzed]) -> list[tuple[int, str, Trajectory]]:
    return having((one.path, one.history) for one in networks)


def _gradient(position: int, name: str, found: GradientSpectrum) -> tuple[Cell, Tensor, float]:
    under = f"low energy {number(found.low_energy)}, white {number(found.white_low_energy)}"
    # Powers of a gradient span orders of magnitude: their roots are drawn.
    return Cell(name, position, under), found.power.sqrt(), found.cutoff


def _definitions(sensitivities: Sequence[tuple[int, str, Sensitivity]]) -> Table:
    """Return the first layers at three cutoffs."""
    head = ["Network", "Cutoff", "Low share", "By chance", "Low energy", "Mean low energy", "Centroid"]
    rows: list[Row] = [
        [
            Cell(name, position),
            number(reading.cutoff),
            percent(reading.low_share),
            span(reading.low_share_chance),
            number(reading.low_energy),
            number(reading.mean_low_energy),
            number(found.centroid),
        ]
        for position, name, found in sensitivities
        for reading in found.readings
    ]
    return Table("The first layers by three cutoffs", head, rows)
