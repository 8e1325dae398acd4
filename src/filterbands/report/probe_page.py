"""The causal page: filter curve, heat map and accuracy under corruption of several networks, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..disk import check_output, write_whole
from ..filters import EQUAL_AREA, LayerSpectrum
from ..probes import (
    CorruptionSpectra,
    HeatMap,
    PassCurves,
    RankCorrelation,
    Spectrum,
    Vulnerability,
    correlate,
    gain_by_frequency,
)
from ..scores import Scores
from ..version import __version__
from .charts import Axis, Line, line_chart
from .markup import chip, escaped, figure, legend, nothing, number, percent, section, shown, signed, table
from .pictures import scale_picture, spectrum_picture
from .style import style_sheet

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_RADIUS = Axis(title="Radius, cycles per pixel", domain=(0, 0.5))
_LONG_RADIUS = Axis(title="Radius, cycles per pixel", domain=(0, 0.72))
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
    title: str = "Which frequencies it looks at",
) -> Path:
    """Write one HTML page on which networks stand side by side, and return its path.

    The page loads nothing and runs no script; it is written whole or not at all.

    Args:
        probed: The networks; the others are compared with the first.
        out: The file to write; its folder must exist.
        corruptions: Spectra of what corruptions add, by which kinds are ordered.
        title: The heading.

    Raises:
        ValueError: No network, or a place that cannot be written.

    >>> write_probe_page([], "probe.html")
    Traceback (most recent call last):
    ValueError: a page needs at least one network, got none
    """
    if not probed:
        raise ValueError("a page needs at least one network, got none")
    file = check_output(out)
    page = _page(probed, corruptions, title).encode()
    write_whole(file, lambda temporary: temporary.write_bytes(page))
    return file


def _page(probed: Sequence[Probed], corruptions: CorruptionSpectra | None, title: str) -> str:
    names = legend([(position, entry.name) for position, entry in enumerate(probed)])
    sections = (
        _side_by_side(probed),
        _gains(probed, corruptions),
        _passes(probed),
        _added(corruptions),
        _vulnerability(probed),
    )
    heading = escaped(title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta name="generator" content="filterbands {escaped(__version__)}">'
        f"<title>{heading}</title><style>{style_sheet()}</style></head>\n<body>"
        f'<header><p class="kicker">filterbands probe</p><h1>{heading}</h1>'
        f'<div class="headline">{_headline(probed, corruptions)}</div>{names}</header>\n<main id="main">'
        f"{''.join(sections)}</main>\n<footer><p>Written by filterbands {escaped(__version__)}. "
        "This page loads nothing and runs no script.</p></footer></body></html>\n"
    )


def _headline(probed: Sequence[Probed], corruptions: CorruptionSpectra | None) -> str:
    first = probed[0]
    said = []
    for entry in probed[1:]:
        if corruptions is not None and first.scores is not None and entry.scores is not None:
            gain = gain_by_frequency(entry.scores, first.scores, corruptions)
            said.append(f"<p>{escaped(gain.sentence(entry.name, first.name))}</p>")
    if len(probed) > 1 and not said:
        said.append(
            '<p class="quiet">Accuracies under corruption are not in the database: nothing is said about '
            "causes. Evaluate the networks into it first.</p>"
        )
    return "".join(said)


def _side_by_side(probed: Sequence[Probed]) -> str:
    lead = (
        "The first layer&rsquo;s filters, and the error when one frequency is added to every image. "
        "Frequency zero is in the centre, the dashed circle is the cutoff; all maps have one colour scale."
    )
    body = [_curves(probed)] if any(entry.layer is not None for entry in probed) else []
    maps = [(position, entry) for position, entry in enumerate(probed) if entry.heatmap is not None]
    if maps:
        tiles = "".join(_heat_map(position, entry) for position, entry in maps)
        scale = f'0<img src="{scale_picture()}" alt="from dark to light">100&nbsp;% of the images wrong'
        body.append(f'<div class="card"><div class="spectra">{tiles}</div><p class="scale">{scale}</p></div>')
        body.append(_heat_table(maps))
    if not body:
        body.append(nothing("neither filters nor heat maps were asked for"))
    return section("maps", "Filters and sensitivity", lead, "".join(body))


def _curves(probed: Sequence[Probed]) -> str:
    lines = []
    for position, entry in enumerate(probed):
        layer = entry.layer
        if layer is not None and layer.radii is not None and layer.curve is not None:
            points = list(zip(layer.radii.tolist(), layer.curve.tolist(), strict=True))
            lines.append(Line(position=position, name=entry.name, values=points))
    chart = line_chart(
        lines,
        x=_RADIUS,
        y=Axis(title="Share of the filters' energy within it", percent=True),
        label="Cumulative spectrum of the first layer's filters of each network",
        mark=EQUAL_AREA,
    )
    return figure("First layer", chart, "Mean over live filters; the dotted line is the cutoff.")


def _heat_map(position: int, entry: Probed) -> str:
    heat = entry.heatmap
    if heat is None:
        return ""
    inset = 100 * (0.5 - EQUAL_AREA)
    picture = spectrum_picture(heat.error, peak=1.0)
    alt = escaped(f"Fourier heat map of {entry.name}: mean error {percent(heat.mean_error())}")
    what = f"norm {heat.norm:g}, {heat.images:,} images"
    where = f", at {heat.layer}" if heat.layer else ""
    return (
        f"<figure><figcaption>{chip(position, entry.name)}"
        f'<span class="sub">{escaped(what + where)}</span></figcaption>'
        f'<div class="spectrum" style="--inset:{inset:.2f}%">'
        f'<img class="pixels" style="image-rendering:pixelated" src="{picture}" alt="{alt}"></div></figure>'
    )


_BANDS = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.71))


def _heat_table(maps: Sequence[tuple[int, Probed]]) -> str:
    head = ["Radius", *(chip(position, entry.name) for position, entry in maps)]
    heats = [entry.heatmap for _, entry in maps if entry.heatmap is not None]
    rows = [["no perturbation", *(percent(heat.clean_error) for heat in heats)]]
    rows += [
        [f"{low:g} to {high:g}", *(percent(heat.mean_error(low, high)) for heat in heats)]
        for low, high in _BANDS
    ]
    return figure("Error by radius", table(head, rows, caption="", label="Mean error by radius"))


def _gains(probed: Sequence[Probed], corruptions: CorruptionSpectra | None) -> str:
    lead = (
        "Kinds of corruption in the order of what they add: the highest frequencies first. If filters "
        "explain robustness, gains follow this order."
    )
    scored = [(position, entry) for position, entry in enumerate(probed) if entry.scores is not None]
    if corruptions is None or not scored:
        missing = "accuracies or spectra of corruptions are missing"
        return section("gains", "What breaks it", lead, nothing(missing))
    base = scored[0][1].scores
    rows = []
    for kind in sorted(corruptions.kinds, key=corruptions.low_energy):
        cells = [shown(kind.replace("_", " ")), number(corruptions.low_energy(kind))]
        start = None if base is None else _accuracy(base, kind)
        for place, (_, entry) in enumerate(scored):
            mine = None if entry.scores is None else _accuracy(entry.scores, kind)
            cell = percent(mine)
            if place and mine is not None and start is not None:
                cell += f' <span class="delta">{signed(mine - start)}</span>'
            cells.append(cell)
        rows.append(cells)
    head = [
        "Kind",
        'Low energy<span class="sub">of what it adds</span>',
        *(chip(position, entry.name) for position, entry in scored),
    ]
    note = "Accuracy, mean over severities; in grey the difference to the first, in points."
    return section(
        "gains",
        "What breaks it",
        lead,
        figure(
            "By frequency",
            table(head, rows, caption="", label="Accuracy by kind, ordered by frequency"),
            note,
        ),
    )


def _accuracy(scores: Scores, kind: str) -> float | None:
    found = [value for value in scores.kinds.get(kind, ()) if value is not None]
    return sum(found) / len(found) if found else None


def _passes(probed: Sequence[Probed]) -> str:
    lead = (
        "Accuracy when a filter leaves only some frequencies of the image: up to a radius (solid), beyond it "
        "(dashed). Each channel keeps its mean."
    )
    entries = [(position, entry) for position, entry in enumerate(probed) if entry.passes is not None]
    if not entries:
        return section("passes", "Filtered images", lead, nothing("pass curves were not asked for"))
    charts = []
    for shape, name in (("ideal", "Ideal filters"), ("gaussian", "Gaussian filters")):
        lines = []
        for position, entry in entries:
            passes = entry.passes
            for band in ("low", "high"):
                if passes is not None:
                    values = zip(
                        passes.radii.tolist(), passes.curves[f"{band}_{shape}"].tolist(), strict=True
                    )
                    said = f"{entry.name}, {band}-pass"
                    lines.append(
                        Line(position=position, name=said, values=list(values), dashed=band == "high")
                    )
        y = Axis(title="Accuracy", percent=True, domain=(0, 1))
        label = f"Accuracy under {shape} low- and high-pass filters"
        charts.append(figure(name, line_chart(lines, x=_LONG_RADIUS, y=y, label=label)))
    rows = []
    for position, entry in entries:
        passes = entry.passes
        if passes is not None:
            rows.append(
                [
                    chip(position, entry.name),
                    percent(passes.clean),
                    *(_reach(passes.reached[share]) for share in (0.1, 0.9)),
                    percent(passes.phase_only),
                    percent(passes.amplitude_only),
                ]
            )
    head = [
        "Network",
        "Clean",
        'Radius for 10&nbsp;%<span class="sub">of what it knows</span>',
        'Radius for 90&nbsp;%<span class="sub">of what it knows</span>',
        "Phases alone",
        "Amplitudes alone",
    ]
    body = f'<div class="grid">{"".join(charts)}</div>'
    return section(
        "passes", "Filtered images", lead, body + table(head, rows, caption="", label="Pass curves")
    )


def _reach(found: tuple[float, float, float] | None) -> str:
    if found is None:
        return number(None)
    return f'{number(found[0])}<span class="sub">{number(found[1])} to {number(found[2])}</span>'


def _added(corruptions: CorruptionSpectra | None) -> str:
    lead = (
        "Mean power spectrum of (corrupted &minus; clean), frequency zero in the centre, logarithmic, six "
        "decades below each picture&rsquo;s own peak."
    )
    if corruptions is None:
        return section("corruptions", "What corruptions add", lead, nothing("spectra were not asked for"))
    tiles = []
    for kind in sorted(corruptions.kinds, key=corruptions.low_energy):
        severities = [severity for name, severity in corruptions.spectra if name == kind]
        severity = _SHOWN_SEVERITY if _SHOWN_SEVERITY in severities else severities[0]
        power = corruptions.spectra[kind, severity].power.double()
        peak = power.max().clamp_min(1e-30)
        picture = spectrum_picture(
            (power / peak).clamp_min(1e-30).log10() + _DECADES, peak=_DECADES, levels=24
        )
        name = kind.replace("_", " ")
        alt = escaped(f"Spectrum of {name}")
        tiles.append(
            f"<figure><figcaption>{shown(name)}"
            f'<span class="sub">severity {severity}, low energy {number(corruptions.low_energy(kind))}</span>'
            '</figcaption><div><img style="width:100%;image-rendering:pixelated" '
            f'src="{picture}" alt="{alt}"></div></figure>'
        )
    small = "grid-template-columns:repeat(auto-fill,minmax(120px,1fr))"
    body = f'<div class="card"><div class="spectra" style="{small}">{"".join(tiles)}</div></div>'
    return section("corruptions", "What corruptions add", lead, body)


def _vulnerability(probed: Sequence[Probed]) -> str:
    lead = (
        "How much each corruption moves the first layer, relative to what images do: a ratio of powers from "
        "covariances of patches, without running the network."
    )
    entries = [(position, entry) for position, entry in enumerate(probed) if entry.vulnerability is not None]
    if not entries:
        return section(
            "vulnerability", "Without inference", lead, nothing("it was not asked for, or has no layer")
        )
    first = entries[0][1].vulnerability
    kinds = sorted(first.kinds, key=first.of_kind, reverse=True) if first is not None else []
    rows = [
        [
            shown(kind.replace("_", " ")),
            *(
                number(moved.of_kind(kind))
                for _, entry in entries
                if (moved := entry.vulnerability) is not None
            ),
        ]
        for kind in kinds
    ]
    rows.append(["rank correlation with error", *(_agreement(entry) for _, entry in entries)])
    head = ["Kind", *(chip(position, entry.name) for position, entry in entries)]
    inside = table(head, rows, caption="", label="Vulnerability by kind")
    note = "Over kinds, with its 95&nbsp;% interval; 1 would rank the kinds as the measured error does."
    return section("vulnerability", "Without inference", lead, figure("First layer", inside, note))


def _agreement(entry: Probed) -> str:
    moved, scores = entry.vulnerability, entry.scores
    if moved is None or scores is None:
        return "not measured"
    accuracies = {kind: _accuracy(scores, kind) for kind in moved.kinds}
    kinds = [kind for kind, accuracy in accuracies.items() if accuracy is not None]
    errors = [1 - accuracy for accuracy in accuracies.values() if accuracy is not None]
    found: RankCorrelation | None = correlate([moved.of_kind(kind) for kind in kinds], errors)
    if found is None:
        return "not measured"
    low, high = (number(end, 2) for end in found.ci95)
    return f'{number(found.value, 2)}<span class="sub">{low} to {high}</span>'
