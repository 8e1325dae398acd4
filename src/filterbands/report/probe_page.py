"""The page of `probe`: which frequencies networks look at, and what corruption does to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isnan
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..disk import check_output
from ..filters import EQUAL_AREA, LayerSpectrum
from ..probes import (
    CorruptionSpectra,
    HeatMap,
    PassCurves,
    Spectrum,
    Vulnerability,
    correlate,
    gain_by_frequency,
)
from ..scores import Scores, key_of
from .accuracy import accuracy_cells, compared, mean_at_hand
from .charts import Axis, Line, known, line_chart, points
from .layers import RADIUS, having, radial_figures, spectra_pictures
from .page import render, write_page
from .pictures import spectrum_picture
from .scored import conditions_of
from .text import brief, cleaned, isolated, number, percent, spaced
from .views import RING, Cell, Figure, Picture, Row, Table

_SHOWN_SEVERITY = 3
_DECADES = 6.0
# Out to the corner, 0.71 cycles per pixel.
_RINGS = round(0.72 / RING)
_BANDS = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.71))


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What is known about one network; None for what was not looked at."""

    name: str
    """As it is shown."""
    heatmap: HeatMap | None = None
    """Its error under every frequency."""
    passes: PassCurves | None = None
    """Its accuracy on filtered images."""
    gradient: Spectrum | None = None
    """The spectrum of its loss's gradient."""
    vulnerability: Vulnerability | None = None
    """How corruptions move its first layer."""
    why: str = ""
    """Why there is no vulnerability."""
    layer: LayerSpectrum | None = None
    """Its first spatial layer's filters."""
    scores: Scores | None = None
    """Its measured accuracies."""


def write_probe_page(
    probed: Sequence[Probed],
    out: str | Path,
    *,
    corruptions: CorruptionSpectra | None = None,
    conditions: Mapping[str, str] = MappingProxyType({}),
    title: str = "Which frequencies it looks at",
) -> Path:
    """Write one HTML page on which networks stand side by side, and return its path.

    The page loads nothing, and its one script asks for nothing; it is written whole or not at all.

    Args:
        probed: The networks; the others are compared with the first. Scores that were not measured as those
            of the first that has some are left out, and the page says why.
        out: The file to write; its folder must exist.
        corruptions: Spectra of what corruptions add, by which kinds are ordered.
        conditions: What the networks were probed on, such as data, split and images, in words.
        title: The heading.

    Raises:
        ValueError: No network, a place that cannot be written, or a page of over 3 MB.

    >>> write_probe_page([], "probe.html")
    Traceback (most recent call last):
    ValueError: a page needs at least one network, got none
    """
    if not probed:
        raise ValueError("a page needs at least one network, got none")
    file = check_output(out, replaced=True)
    names = [entry.name for entry in probed]
    probed, apart = _alike([replace(entry, name=brief(cleaned(entry.name))) for entry in probed])
    maps = having((entry.name, entry.heatmap) for entry in probed)
    passed = having((entry.name, entry.passes) for entry in probed)
    gradients, peak = _gradients(probed)
    page = render(
        "probe.html",
        title=title,
        names=[(position, entry.name, names[position]) for position, entry in enumerate(probed)],
        answers=_answers(probed),
        sentences=_sentences(probed, corruptions),
        unscored=[
            (position, entry.name)
            for position, entry in enumerate(probed)
            if corruptions is not None and len(probed) > 1 and entry.scores is None and position not in apart
        ],
        apart=[(position, probed[position].name, why) for position, why in apart.items()],
        scored=list(dict.fromkeys(conditions_of(one.scores) for one in probed if one.scores is not None)),
        conditions=list(conditions.items()),
        curves=_curves(probed),
        gains=_gains(probed, corruptions),
        **probed_sections(maps, passed),
        added=[] if corruptions is None else added_pictures(corruptions),
        gradients=gradients,
        peak=peak,
        vulnerability=_vulnerability(probed),
        missing=having((entry.name, entry.why or None) for entry in probed),
    )
    return write_page(file, page, of=f"page of {len(probed)} networks")


def probed_sections(
    maps: Sequence[tuple[int, str, HeatMap]], passed: Sequence[tuple[int, str, PassCurves]]
) -> dict[str, Any]:
    """Return what a page shows of heat maps and of filtered images, by position and name of the network."""
    return {
        "maps": _maps(maps),
        "errors": _errors(maps),
        "passes": _passes(passed) if passed else [],
        "reached": _reached(passed),
    }


def _alike(probed: Sequence[Probed]) -> tuple[list[Probed], dict[int, str]]:
    """Return the networks with the scores that may be compared, and by position why others are left out.

    They are those that were measured as the first that has scores.
    """
    first = next((entry.scores for entry in probed if entry.scores is not None), None)
    kept, apart = list(probed), dict[int, str]()
    for position, entry in enumerate(probed):
        if first is not None and entry.scores is not None and key_of(entry.scores) != key_of(first):
            kept[position] = replace(entry, scores=None)
            apart[position] = _difference(entry.scores, first)
    return kept, apart


def _difference(scores: Scores, first: Scores) -> str:
    """Return in which conditions scores differ from the first ones."""
    theirs = dict(conditions_of(first))
    mine = dict(conditions_of(scores))
    names = [name for name in {**theirs, **mine} if mine.get(name) != theirs.get(name)]
    said = [f"{name} {mine.get(name, 'none')} instead of {theirs.get(name, 'none')}" for name in names]
    return "; ".join(said) or "other images or kinds"


def _answers(probed: Sequence[Probed]) -> list[tuple[int, str, dict[str, Any]]]:
    """Return what the sentences at the top say of each network that has a heat map or pass curves."""
    found = []
    for position, entry in enumerate(probed):
        heat, passes = entry.heatmap, entry.passes
        reach = None if passes is None else passes.reached.get(0.9)
        error = None if heat is None or isnan(heat.mean_error()) else heat.mean_error()
        if reach is None and error is None:
            continue
        about = (
            {}
            if heat is None
            else {
                "norm": f"{heat.norm:g}",
                "clean": heat.clean_error,
                "where": f" to the output of {heat.layer}" if heat.layer else "",
            }
        )
        found.append((position, entry.name, {"reach": reach, "error": error, **about}))
    return found


def _sentences(probed: Sequence[Probed], corruptions: CorruptionSpectra | None) -> list[str]:
    first = probed[0]
    gains = [
        (entry.name, gain_by_frequency(entry.scores, first.scores, corruptions))
        for entry in probed[1:]
        if corruptions is not None and first.scores is not None and entry.scores is not None
    ]
    return [gain.sentence(isolated(name), isolated(first.name)) for name, gain in gains]


def _curves(probed: Sequence[Probed]) -> list[Figure]:
    lines = [
        Line(position, name, points(layer.radii, layer.curve))
        for position, name, layer in having((entry.name, entry.layer) for entry in probed)
        if layer.curve is not None
    ]
    return radial_figures(lines, cutoff=EQUAL_AREA)


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
    """Return mean errors and numbers of frequencies, ring by ring."""
    edges = [RING * number for number in range(_RINGS + 1)]
    errors = [heat.mean_error(*ends) for ends in pairwise(edges)]
    counts = [heat.measured(*ends)[0] for ends in pairwise(edges)]
    said = ["" if isnan(error) else f"{error:.4f}" for error in errors]
    return {"errors": ",".join(said), "counts": ",".join(map(str, counts))}


def _errors(maps: Sequence[tuple[int, str, HeatMap]]) -> Table:
    rows: list[Row] = [["no perturbation", *(percent(heat.clean_error) for _, _, heat in maps)]]
    for low, high in _BANDS:
        rows.append([f"{low:g} to {high:g}", *(_percent(heat.mean_error(low, high)) for _, _, heat in maps)])
    heads = [Cell(name, position, _about(heat, maps)) for position, name, heat in maps]
    return Table("Mean error by radius", ["Radius", *heads], rows)


def _about(heat: HeatMap, maps: Sequence[tuple[int, str, HeatMap]]) -> str:
    """Return the norm and the layer of a map where those of the maps beside it differ."""
    same = len({(other.norm, other.layer) for _, _, other in maps}) == 1
    return "" if same else f"norm {heat.norm:g}" + (f" at {heat.layer}" if heat.layer else "")


def _percent(error: float) -> str:
    return "not measured" if isnan(error) else percent(error)


def _names(found: Sequence[tuple[int, str, object]]) -> list[Cell]:
    return [Cell(name, position) for position, name, _ in found]


def _gains(probed: Sequence[Probed], corruptions: CorruptionSpectra | None) -> Table | None:
    scored = having((entry.name, entry.scores) for entry in probed)
    if corruptions is None or not scored:
        return None
    tables = [scores.kinds for _, _, scores in scored]
    rows: list[Row] = [
        [
            Cell(spaced(kind), kind=kind),
            number(corruptions.low_energy(kind)),
            *accuracy_cells(kind, tables),
        ]
        for kind in sorted(corruptions.kinds, key=corruptions.low_energy)
    ]
    head: Row = ["Kind", Cell("Low energy", under="of what it adds"), *compared(_names(scored))]
    return Table("Accuracy by kind, ordered by frequency", head, rows)


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
        chart = line_chart(
            lines,
            x=Axis(RADIUS, domain=(0, 0.72)),
            y=Axis("Accuracy", percent=True, domain=(0, 1)),
            label=f"Accuracy under {shape} low- and high-pass filters",
        )
        figures.append(Figure(title, chart))
    return figures


def _reached(passed: Sequence[tuple[int, str, PassCurves]]) -> Table:
    rows: list[Row] = [
        [
            Cell(name, position),
            percent(passes.clean),
            *(_with_ends(passes.reached[share], 3) for share in (0.1, 0.9)),
            percent(passes.phase_only),
            percent(passes.amplitude_only),
        ]
        for position, name, passes in passed
    ]
    radii = [
        Cell(f"Radius for {percent(share, 0)}", under="of its gain over guessing") for share in (0.1, 0.9)
    ]
    return Table("Pass curves", ["Network", "Clean", *radii, "Phases alone", "Amplitudes alone"], rows)


def _with_ends(found: tuple[float, float, float] | None, digits: int) -> Cell:
    if found is None:
        return Cell(number(None))
    value, low, high = (number(part, digits) for part in found)
    return Cell(value, under=f"{low} to {high}")


def added_pictures(corruptions: CorruptionSpectra) -> list[Picture]:
    """Return a picture of what each kind adds, those of the highest frequencies first."""
    pictures = []
    for kind in sorted(corruptions.kinds, key=corruptions.low_energy):
        severities = [severity for name, severity in corruptions.spectra if name == kind]
        severity = _SHOWN_SEVERITY if _SHOWN_SEVERITY in severities else severities[0]
        spectrum = corruptions.spectra[kind, severity]
        power = spectrum.power.double()
        within = [spectrum.low_energy(RING * number) for number in range(1, _RINGS + 1)]
        shares = ",".join(f"{above - below:.4f}" for below, above in pairwise([0.0, *within]))
        decades = (power / power.max().clamp_min(1e-30)).clamp_min(1e-30).log10() + _DECADES
        under = f"severity {severity}, low energy {number(spectrum.low_energy())}"
        address = spectrum_picture(decades, peak=_DECADES, levels=24)
        label = Cell(spaced(kind), under=under, kind=kind)
        rings = {"shares": shares}
        pictures.append(Picture(label, address, f"Spectrum of {label.text}", pixels=True, rings=rings))
    return pictures


def _gradients(probed: Sequence[Probed]) -> tuple[list[Picture], float]:
    """Return pictures of the roots of powers relative to a white gradient's, and the peak of their scale."""
    found = [
        (
            Cell(name, position, f"low energy {number(gradient.low_energy())}"),
            (gradient.power.double() / max(gradient.total, 1e-300)).sqrt(),
            EQUAL_AREA,
        )
        for position, name, gradient in having((entry.name, entry.gradient) for entry in probed)
    ]
    return spectra_pictures(found, of="the input gradient of ")


def _vulnerability(probed: Sequence[Probed]) -> Table | None:
    moved = having((entry.name, entry.vulnerability) for entry in probed)
    if not moved:
        return None
    first = moved[0][2]
    rows: list[Row] = [
        [Cell(spaced(kind), kind=kind), *(number(each.of_kind(kind)) for _, _, each in moved)]
        for kind in sorted(first.kinds, key=first.of_kind, reverse=True)
    ]
    agreements = [_agreement(each, probed[position].scores) for position, _, each in moved]
    closing: list[Row] = [["rank correlation with error", *agreements]]
    return Table("Vulnerability by kind", ["Kind", *_names(moved)], rows, closing=closing)


def _agreement(moved: Vulnerability, scores: Scores | None) -> Cell:
    accuracies = {} if scores is None else scores.kinds
    pairs = [(moved.of_kind(kind), mean_at_hand(accuracies.get(kind, ()))) for kind in moved.kinds]
    measured = known(pairs)
    found = correlate([value for value, _ in measured], [1 - accuracy for _, accuracy in measured])
    return Cell("not measured") if found is None else _with_ends((found.value, *found.ci95), 2)
