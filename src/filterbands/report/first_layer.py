"""The first layer: its filters, their mean spectrum, its curves before and after training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from ..filters import LayerSpectrum
from .charts import Axis, Line, line_chart
from .markup import chip, escaped, figure, legend, nothing, number, percent, section
from .pictures import filter_picture, kernels_power, scale_picture, spectrum_picture
from .views import ReportView, RunView

_RADIUS = Axis(title="Radius, cycles per pixel", domain=(0, 0.5))
# So many filters are drawn of one network, and of all: a drawn filter takes 1.5 kB of the page.
_MOST_FILTERS = 64
_MOST_IN_ALL = 1200
_OPEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trained:
    """An entry whose first layer was measured."""

    position: int
    name: str
    run: RunView
    layer: LayerSpectrum
    weight: Float[Tensor, "f c kh kw"]
    energies: Float[Tensor, " f"]


def filters_section(report: ReportView) -> str:
    """Return the section on the first layer: every filter, the mean spectrum, radial profile and curve."""
    lead = (
        "What the first convolution lets through. A filter&rsquo;s low energy is the share of its power "
        "spectrum within the cutoff; a white filter, as at initialisation, has one half at the default one."
    )
    trained = _trained(report)
    if not trained:
        return section("filters", "First layer", lead, nothing("no finished run with a measured first layer"))
    most = max(8, min(_MOST_FILTERS, _MOST_IN_ALL // len(trained)) // 2 * 2)
    body = [
        legend([(item.position, item.name) for item in trained]),
        f'<div class="grid">{"".join(_layer_charts(trained))}</div>',
        _mean_spectra(trained),
        *(_filters(item, is_open=len(trained) <= _OPEN, most=most) for item in trained),
    ]
    return section("filters", "First layer", lead, "".join(body))


def _trained(report: ReportView) -> list[_Trained]:
    found = []
    for position, entry in enumerate(report.entries):
        run = entry.run
        layer = run.layer if run is not None else None
        if run is None or layer is None or run.weight is None or layer.filters_low_energy is None:
            continue
        found.append(
            _Trained(
                position=position,
                name=entry.name,
                run=run,
                layer=layer,
                weight=run.weight,
                energies=layer.filters_low_energy,
            )
        )
    return found


def _layer_charts(trained: Sequence[_Trained]) -> list[str]:
    cutoff = trained[0].layer.cutoff
    curves, profiles = [], []
    for item in trained:
        position, name, run, layer = item.position, item.name, item.run, item.layer
        before, after = _logged_curves(run)
        if before:
            curves.append(Line(position=position, name=f"{name}, before", values=before, dashed=True))
            profiles.append(
                Line(position=position, name=f"{name}, before", values=_rings(before), dashed=True)
            )
        if not after and layer.curve is not None:
            after = list(zip(layer.radii.tolist(), layer.curve.tolist(), strict=True))
        curves.append(Line(position=position, name=f"{name}, after", values=after))
        if layer.profile is not None:
            values = list(zip(layer.radii.tolist(), layer.profile.tolist(), strict=True))
            profiles.append(Line(position=position, name=f"{name}, after", values=values))
    note = f"Solid after training, dashed before; the dotted line is the cutoff, {cutoff:.3f}."
    cumulative = line_chart(
        curves,
        x=_RADIUS,
        y=Axis(title="Energy within the radius", percent=True, domain=(0, 1)),
        mark=cutoff,
        label="Share of the filters' energy within each radius, before and after training",
    )
    radial = line_chart(
        profiles,
        x=_RADIUS,
        y=Axis(title="Power, white filter = 1", domain=(0, _ceiling(profiles))),
        mark=cutoff,
        label="Mean power of the filters at each radius, before and after training",
    )
    charts = [
        figure("Cumulative curve", cumulative, f"Mean over live filters of &rho;(rc). {note}"),
        figure("Radial profile", radial, f"Mean over live filters and directions. {note}"),
    ]
    history = _history(trained)
    return [*charts, history] if history else charts


def _ceiling(lines: Sequence[Line]) -> float:
    highest = max(y for line in lines for _, y in line.values)
    return max(1.5, math.ceil(2.2 * highest) / 2)


def _logged_curves(run: RunView) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Return the cumulative curve of the first and of the last epoch, from (0, 0) on; empty for none."""
    curves = [record.curve for record in run.log if record.curve] or [(), ()]
    first, last = ([(0.0, 0.0), *curve] if curve else [] for curve in (curves[0], curves[-1]))
    return first, last


def _rings(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the mean power in each ring between two radii of a cumulative curve; a white filter has 1."""
    values = []
    for (inner, below), (outer, above) in pairwise(curve):
        area = math.pi * (outer**2 - inner**2)
        values.append(((inner + outer) / 2, (above - below) / area))
    return values


def _history(trained: Sequence[_Trained]) -> str:
    """Return the mean low energy and the low share against the epoch."""
    lines = []
    for item in trained:
        log = item.run.log
        for said, dashed, values in (
            ("mean low energy", False, [(record.epoch, record.mean_low_energy) for record in log]),
            ("low share", True, [(record.epoch, record.low_share) for record in log]),
        ):
            known = [(float(epoch), value) for epoch, value in values if value is not None]
            if len(known) > 1:
                name = f"{item.name}, {said}"
                lines.append(Line(position=item.position, name=name, values=known, dashed=dashed))
    if not lines:
        return ""
    chart = line_chart(
        lines,
        x=Axis(title="Epoch", whole=True),
        y=Axis(title="Low energy, low share", percent=True, domain=(0, 1)),
        dots=True,
        label="Mean low energy and low share of the first layer against the epoch",
    )
    return figure("Over training", chart, "Solid: mean low energy. Dashed: low share. Epoch 0 is before.")


def _mean_spectra(trained: Sequence[_Trained]) -> str:
    means = [kernels_power(item.weight[item.layer.live]).mean(dim=0) for item in trained]
    peak = max(float(mean.max()) for mean in means)
    figures = []
    for item, mean in zip(trained, means, strict=True):
        said = f"Mean power spectrum of {item.name}, frequency zero in the centre"
        picture = f'<img src="{spectrum_picture(mean, peak=peak, levels=64)}" alt="{escaped(said)}">'
        # The picture is the square from -1/2 to 1/2: a disc of radius rc ends (1/2 - rc) from its sides.
        inset = f"{100 * (0.5 - item.layer.cutoff):.2f}%"
        figures.append(
            f"<figure><figcaption>{chip(item.position, item.name)}</figcaption>"
            f'<div class="spectrum" style="--inset:{inset}">{picture}</div></figure>'
        )
    scale = f'<p class="scale">0 <img src="{scale_picture()}" alt="to"> {peak:.1f} times a white filter</p>'
    note = (
        "Frequency zero in the centre, sides at &plusmn;1/2 cycles per pixel, dashed circle at the cutoff. "
        "Each live filter counts the same; one scale for all networks."
    )
    return figure("Mean power spectrum", f'<div class="spectra">{"".join(figures)}</div>{scale}', note)


def _filters(item: _Trained, *, is_open: bool, most: int) -> str:
    layer, live, energies = item.layer, item.layer.live.tolist(), item.energies.tolist()
    order = sorted(range(layer.filters), key=lambda row: (not live[row], -energies[row]))
    hidden = len(order) - most
    if hidden > 0:
        order = order[: most // 2] + order[-most // 2 :]
    powers = kernels_power(item.weight[order])
    tiles = []
    for row, power in zip(order, powers, strict=True):
        said = f"Filter {row}, low energy {energies[row]:.2f}" + ("" if live[row] else ", dead")
        spectrum = spectrum_picture(power, peak=float(power.max()))
        tiles.append(
            f'<li{"" if live[row] else " class=dead"} title="{said}">'
            f'<img class="pixels" src="{filter_picture(item.weight[row])}" alt="{said}">'
            f'<img src="{spectrum}" alt="and its power spectrum">'
            f'<span class="rho">{energies[row]:.2f}{"" if live[row] else " dead"}</span></li>'
        )
    channels = item.weight.shape[1]
    colours = {3: "in the colours of its channels", 1: "in grey"}
    painted = colours.get(channels, f"in grey, the mean of its {channels} channels")
    note = (
        f"Each filter {painted}, scaled to its own largest weight, mid-grey being 0. Below it its power "
        "spectrum, scaled to its own peak, and its low energy &rho;. Sorted by &rho;, dead filters last."
    )
    if hidden > 0:
        note += f" Shown are the first and the last {most // 2}; {hidden} between them are left out."
    facts = (
        f"<code>{escaped(layer.name)}</code>, {layer.filters} filters{_dead(layer)}, "
        f"low share {percent(layer.low_share)}, mean low energy {number(layer.mean_low_energy)}"
    )
    return (
        f'<div class="card"><details{" open" if is_open else ""}><summary>{chip(item.position, item.name)}'
        f'<span class="sub">{facts}</span></summary>'
        f'<ul class="tiles">{"".join(tiles)}</ul><p class="note">{note}</p></details></div>'
    )


def _dead(layer: LayerSpectrum) -> str:
    return f" ({layer.dead} dead)" if layer.dead else ""
