"""The page of `analyze`: curves, directions and tables of every convolution, and their course."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..disk import check_output, write_whole
from ..filters import GradientSpectrum, LayerSpectrum, ModelSpectrum, Trajectory
from ..version import __version__
from .charts import Axis, Line, line_chart
from .markup import chip, escaped, figure, legend, nothing, number, percent, section, table
from .networks import layers_card
from .pictures import scale_picture, spectrum_picture
from .style import style_sheet

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_RADIUS = Axis(title="Radius, cycles per pixel", domain=(0, 0.5))
_LARGEST = 3_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyzed:
    """One network as it is shown; None for what was not measured."""

    path: str
    """What it is called."""
    spectrum: ModelSpectrum
    """Its convolutions."""
    effective: LayerSpectrum | None = None
    """Its first two convolutions composed."""
    gradient: GradientSpectrum | None = None
    """The spectrum of its input gradient."""
    history: Trajectory | None = None
    """Its own course over training."""


def write_spectra(
    networks: Sequence[Analyzed],
    out: str | Path,
    *,
    together: Trajectory | None = None,
    title: str = "The spectra of the filters",
) -> Path:
    """Write one HTML page about the filters of networks, and return its path.

    The page loads nothing and runs no script; it is written whole or not at all.

    Args:
        networks: In the order in which they are shown.
        out: The file to write; its folder must exist.
        together: The networks as steps of one training.
        title: The heading.

    Raises:
        ValueError: No network, a place that cannot be written, or a page of over 3 MB.

    >>> write_spectra([], "spectra.html")
    Traceback (most recent call last):
    ValueError: a page of spectra needs at least one network, got none
    """
    if not networks:
        raise ValueError("a page of spectra needs at least one network, got none")
    file = check_output(out)
    sections = [
        _curves(networks),
        _courses(networks, together),
        _gradients(networks),
        _layers(networks),
        _definitions(networks),
    ]
    heading = escaped(title)
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta name="generator" content="filterbands {escaped(__version__)}">'
        f"<title>{heading}</title><style>{style_sheet()}</style></head>\n<body>"
        '<a class="skip" href="#main">Skip to the results</a>'
        f'<header><p class="kicker">filterbands analyze</p><h1>{heading}</h1></header>\n'
        f'<main id="main">{"".join(sections)}</main>\n'
        f"<footer><p>Written by filterbands {escaped(__version__)}. "
        "This page loads nothing and runs no script.</p></footer></body></html>\n"
    ).encode()
    if len(page) > _LARGEST:
        raise ValueError(
            f"the page of {len(networks)} networks would have {len(page) / 1e6:.1f} MB, at most "
            f"{_LARGEST / 1e6:.0f} are written; name fewer"
        )
    write_whole(file, lambda temporary: temporary.write_bytes(page))
    return file


def _first(spectrum: ModelSpectrum) -> LayerSpectrum | None:
    return spectrum.spatial[0] if spectrum.spatial else None


def _curves(networks: Sequence[Analyzed]) -> str:
    """Return the first layer's cumulative curve, radial profile and orientation, and energy by depth."""
    lead = "The first convolution larger than 1&times;1 of every network, and all of them by depth."
    curves, profiles, orientations, depths = [], [], [], []
    for position, one in enumerate(networks):
        first = _first(one.spectrum)
        if first is None or first.curve is None or first.profile is None:
            continue
        radii = first.radii.tolist()
        points = [(0.0, 0.0), *zip(radii, first.curve.tolist(), strict=True)]
        curves.append(Line(position=position, name=one.path, values=points))
        values = list(zip(radii, first.profile.tolist(), strict=True))
        profiles.append(Line(position=position, name=one.path, values=values))
        if first.angles is not None and first.orientation is not None:
            turns = list(zip(first.angles.tolist(), first.orientation.tolist(), strict=True))
            turns.append((180.0, turns[0][1]))
            orientations.append(Line(position=position, name=one.path, values=turns))
        by_depth = [
            (float(place), layer.mean_low_energy)
            for place, layer in enumerate(one.spectrum, start=1)
            if layer.mean_low_energy is not None
        ]
        depths.append(Line(position=position, name=one.path, values=by_depth))
    if not curves:
        return section("curves", "Curves", lead, nothing("no convolution larger than 1x1"))
    cutoff = networks[0].spectrum.cutoff
    cards = [
        figure(
            "Cumulative curve",
            line_chart(
                curves,
                x=_RADIUS,
                y=Axis(title="Energy within the radius", percent=True, domain=(0, 1)),
                mark=cutoff,
                label="Share of the first layer's energy within each radius",
            ),
            f"Mean over live filters. The dotted line is the cutoff, {cutoff:.3f}.",
        ),
        figure(
            "Radial profile",
            line_chart(
                profiles,
                x=_RADIUS,
                y=Axis(title="Power, white filter = 1"),
                mark=cutoff,
                label="Mean power of the first layer's filters at each radius",
            ),
            "Mean over live filters and directions.",
        ),
    ]
    if orientations:
        chart = line_chart(
            orientations,
            x=Axis(title="Direction, degrees", domain=(0, 180)),
            y=Axis(title="Power, white filter = 1"),
            label="Mean power of the first layer's filters in each direction",
        )
        note = "0 and 180 are horizontal frequencies, which vertical edges have; 90 are vertical ones."
        cards.append(figure("Orientation", chart, note))
    if any(len(line.values) > 1 for line in depths):
        chart = line_chart(
            depths,
            x=Axis(title="Convolution, from the input on", whole=True),
            y=Axis(title="Mean low energy", percent=True),
            dots=True,
            label="Mean low energy of every convolution in the order of the network",
        )
        cards.append(figure("By depth", chart))
    names = legend([(position, one.path) for position, one in enumerate(networks)])
    return section("curves", "Curves", lead, f'{names}<div class="grid">{"".join(cards)}</div>')


def _courses(networks: Sequence[Analyzed], together: Trajectory | None) -> str:
    """Return figures against the step: of the checkpoints together, or of each network's own log."""
    courses = [(n, one.path, one.history) for n, one in enumerate(networks) if one.history is not None]
    if together is not None:
        courses = [(0, "the checkpoints", together)]
    cards = []
    for name, key in (("Low share", "low_share"), ("Mean low energy", "mean_low_energy")):
        lines = []
        for position, path, course in courses:
            layer = course.layers[0]
            values = [(float(step), value) for step, value in course.series(layer, key)]
            if len(values) > 1:
                lines.append(Line(position=position, name=f"{path}, {layer}", values=values))
        if lines:
            chart = line_chart(
                lines,
                x=Axis(title="Step"),
                y=Axis(title=name, percent=True),
                dots=True,
                label=f"{name} of the first layer against the step",
            )
            cards.append(figure(name, chart))
    if not cards:
        return ""
    lead = "The first layer over training."
    return section("course", "Over training", lead, f'<div class="grid">{"".join(cards)}</div>')


def _gradients(networks: Sequence[Analyzed]) -> str:
    known = [(n, one.path, one.gradient) for n, one in enumerate(networks) if one.gradient is not None]
    if not known:
        return ""
    # Powers of a gradient span orders of magnitude: their roots are drawn.
    peak = max(float(gradient.power.max()) for _, _, gradient in known) ** 0.5
    pictures = []
    for position, path, gradient in known:
        said = f"Mean power spectrum of the input gradient of {path}, frequency zero in the centre"
        address = spectrum_picture(gradient.power.sqrt(), peak=peak, levels=64)
        inset = f"{100 * (0.5 - gradient.cutoff):.2f}%"
        pictures.append(
            f"<figure><figcaption>{chip(position, path)}</figcaption>"
            f'<div class="spectrum" style="--inset:{inset}"><img src="{address}" alt="{escaped(said)}"></div>'
            f'<p class="note">low energy {number(gradient.low_energy)}, '
            f"white {number(gradient.white_low_energy)}</p></figure>"
        )
    scale = f'<p class="scale">0 <img src="{scale_picture()}" alt="to"> amplitude {peak:.1f} times white</p>'
    lead = "Which frequencies of an image move the network&rsquo;s loss: depth included."
    return section(
        "gradient", "Input gradient", lead, f'<div class="spectra">{"".join(pictures)}</div>{scale}'
    )


def _layers(networks: Sequence[Analyzed]) -> str:
    cards = []
    for position, one in enumerate(networks):
        layers = [*one.spectrum, *([one.effective] if one.effective is not None else [])]
        cards.append(layers_card(position, one.path, layers, opened=position == 0))
    lead = (
        "Every convolution. &ldquo;By chance&rdquo; is where the share lies for 95&nbsp;% of white layers of "
        "that shape; a share within it tells nothing from an initialised layer."
    )
    return section("layers", "Every layer", lead, "".join(cards))


def _definitions(networks: Sequence[Analyzed]) -> str:
    """Return the first layers by three definitions."""
    head = ["Network", "Cutoff", "Low share", "By chance", "Low energy", "Mean low energy", "Centroid"]
    rows, sentences = [], []
    for position, one in enumerate(networks):
        first = _first(one.spectrum)
        if first is None or first.sensitivity is None:
            continue
        for reading in first.sensitivity.readings:
            low, high = reading.low_share_chance
            rows.append(
                [
                    chip(position, one.path),
                    number(reading.cutoff),
                    percent(reading.low_share),
                    f"{100 * low:.0f} to {percent(high, 0)}",
                    number(reading.low_energy),
                    number(reading.mean_low_energy),
                    number(first.sensitivity.centroid),
                ]
            )
        sentences.append(f"<li>{chip(position, one.path)}: {escaped(first.sensitivity.sentence)}</li>")
    if not rows:
        return ""
    inside = table(head, rows, caption="", label="The first layers by three cutoffs")
    body = f'<div class="card">{inside}<ul>{"".join(sentences)}</ul></div>'
    return section("definitions", "By definition", "The first layers at three cutoffs, side by side.", body)
