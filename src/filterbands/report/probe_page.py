"""The page of `probe`: which frequencies networks look at, and what corruption does to them."""

from collections.abc import Collection, Mapping, Sequence
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
    cifar10_moments,
    correlate,
    gain_by_frequency,
)
from ..scores import Scores, key_of
from .accuracy import accuracy_cells, compared
from .charts import Line, points
from .layers import having, radial_figures, spectra_pictures
from .page import render, write_page
from .pictures import spectrum_picture
from .scored import conditions_of
from .sensitivity import RINGS, Found, probed_sections, with_ends
from .text import brief, cleaned, isolated, number, spaced
from .views import RING, Cell, Figure, Picture, Row, Table

_SHOWN_SEVERITY = 3
_DECADES = 6.0


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
    found = [
        Found(position, entry.name, (("images", f"{one.images:,}"),), one)
        for position, entry in enumerate(probed)
        for one in (entry.heatmap, entry.passes)
        if one is not None
    ]
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
        **probed_sections(found),
        added=[] if corruptions is None else added_pictures(corruptions),
        gradients=gradients,
        peak=peak,
        vulnerability=_vulnerability(probed),
        patches=list(
            dict.fromkeys(one.vulnerability.data for one in probed if one.vulnerability is not None)
        ),
        packaged=_packaged(probed),
        missing=having((entry.name, entry.why or None) for entry in probed),
    )
    return write_page(file, page, of=f"page of {len(probed)} networks")


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


def _names(found: Sequence[tuple[int, str, object]]) -> list[Cell]:
    return [Cell(name, position) for position, name, _ in found]


def _gains(probed: Sequence[Probed], corruptions: CorruptionSpectra | None) -> Table | None:
    scored = having((entry.name, entry.scores) for entry in probed)
    if corruptions is None or not scored:
        return None
    tables = [scores.kinds for _, _, scores in scored]
    # The networks that are compared were measured at the same severities.
    energies = {
        kind: energy
        for kind in corruptions.kinds
        if not isnan(
            energy := corruptions.low_energy(
                kind, severities=_shared(scored[0][2], corruptions.spectra, kind)
            )
        )
    }
    rows: list[Row] = [
        [Cell(spaced(kind), kind=kind), number(energies[kind]), *accuracy_cells(kind, tables)]
        for kind in sorted(energies, key=energies.__getitem__)
    ]
    head: Row = ["Kind", Cell("Low energy", under="of what it adds"), *compared(_names(scored))]
    return Table("Accuracy by kind, ordered by frequency", head, rows)


def added_pictures(corruptions: CorruptionSpectra) -> list[Picture]:
    """Return a picture of what each kind adds, those of the highest frequencies first."""
    pictures = []
    for kind in sorted(corruptions.kinds, key=corruptions.low_energy):
        severities = [
            severity
            for (name, severity), one in corruptions.spectra.items()
            if name == kind and one.total > 0
        ]
        severity = _SHOWN_SEVERITY if _SHOWN_SEVERITY in severities else severities[0]
        spectrum = corruptions.spectra[kind, severity]
        power = spectrum.power.double()
        within = [spectrum.low_energy(RING * number) for number in range(1, RINGS + 1)]
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


def _packaged(probed: Sequence[Probed]) -> int | None:
    """Return how many images the moments that come with the package are over, where they may be shown."""
    moments = cifar10_moments()
    may = any(
        one.vulnerability is not None
        and one.vulnerability.data == moments.name
        and (one.layer is None or tuple(one.layer.shape[2:]) == moments.kernel)
        for one in probed
    )
    return moments.images if may else None


def _agreement(moved: Vulnerability, scores: Scores | None) -> Cell:
    if scores is None:
        return Cell("not measured")
    pairs = []
    for kind in moved.kinds:
        if levels := _shared(scores, moved.whole, kind):
            accuracies = [scores.cells[kind, severity].accuracy for severity in levels]
            pairs.append((moved.of_kind(kind, levels), 1 - sum(accuracies) / len(accuracies)))
    found = correlate([value for value, _ in pairs], [error for _, error in pairs])
    return Cell("not measured") if found is None else with_ends((found.value, *found.ci95), 2)


def _shared(scores: Scores, cells: Collection[tuple[str, int]], kind: str) -> list[int] | None:
    """Return the severities of a kind at which scores have answers and that are among cells; None if none."""
    return [severity for name, severity in cells if name == kind and (kind, severity) in scores.cells] or None
