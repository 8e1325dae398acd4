"""The first layer of trained networks: filters, mean spectrum, and curves before and after training."""

import logging
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..filters import LayerSpectrum, filters_low_energy
from .charts import Axis, Line, Points, first_drawn, known, line_chart, points
from .layers import radial_figures, recipes_of, spectra_pictures
from .pictures import filter_picture, kernels_power, spectrum_picture
from .views import RING, Entry, Epoch, Figure, ReportView

_LOG = logging.getLogger(__name__)
# So many filters are drawn of one network, and of all: a drawn filter takes 1.6 kB of the page.
_MOST_FILTERS = 64
_MOST_IN_ALL = 1200
_OPEN = 4


class Tile(NamedTuple):
    """A filter as it is drawn."""

    number: int
    """Its place in the layer."""
    live: bool
    energy: float
    """Its low energy."""
    weight: str
    """Picture of its weights."""
    power: str
    """Picture of its power spectrum."""
    curve: str
    """Shares of its energy within 1, 2, 3, ... rings of `RING` cycles per pixel, in thousandths."""


class Trained(NamedTuple):
    """An entry whose first layer was measured, with the low energy of each filter."""

    entry: Entry
    log: tuple[Epoch, ...]
    layer: LayerSpectrum
    energies: Float[Tensor, " f"]
    weight: Float[Tensor, "f c kh kw"]

    def line(self, what: str, values: Points, *, dashed: bool = False) -> Line:
        """Return values of this network as a line."""
        return Line(self.entry.position, f"{self.entry.name}{what and ', '}{what}", values, dashed)

    def tiles(self, most: int) -> list[Tile]:
        """Return filters by low energy, dead ones last: all, or the first and the last of so many."""
        live, energies = self.layer.live.tolist(), self.energies.tolist()
        order = sorted(range(self.layer.filters), key=lambda row: (not live[row], -energies[row]))
        if len(order) > most:
            order = order[: most // 2] + order[-most // 2 :]
        pictures = [
            (filter_picture(self.weight[row]), spectrum_picture(power, peak=float(power.max())))
            for row, power in zip(order, kernels_power(self.weight[order]), strict=True)
        ]
        kernels = self.weight[order].double()
        steps = [filters_low_energy(kernels, RING * number) for number in range(1, round(0.5 / RING) + 1)]
        curves = (1000 * torch.stack(steps, dim=1)).round().int().tolist()
        return [
            Tile(row, live[row], energies[row], *pair, " ".join(map(str, curve)))
            for row, pair, curve in zip(order, pictures, curves, strict=True)
        ]


def first_layers(report: ReportView) -> dict[str, Any] | None:
    """Return what the section on the first layer shows; None where no network has one that was measured."""
    trained = [
        Trained(entry, entry.log, layer, layer.filters_low_energy, filters.weight)
        for entry in report.entries
        if (filters := entry.filters) is not None
        and (layer := filters.layer) is not None
        and layer.filters_low_energy is not None
        and filters.weight is not None
        and _shows(entry.name, layer, filters.weight)
    ]
    if not trained:
        return None
    pictures, peak = spectra_pictures(
        [
            (item.entry.label, kernels_power(item.weight[item.layer.live]).mean(dim=0), item.layer.cutoff)
            for item in trained
        ]
    )
    return {
        "trained": trained,
        "names": recipes_of(report, [item.entry for item in trained]),
        "figures": _figures(trained),
        "pictures": pictures,
        "peak": peak,
        "most": max(8, min(_MOST_FILTERS, _MOST_IN_ALL // len(trained)) // 2 * 2),
        "opened": len(trained) <= _OPEN,
    }


def _shows(name: str, layer: LayerSpectrum, weight: Tensor) -> bool:
    """Return whether a weight as it is stored has the figures of its layer; a line says where it has not."""
    known = layer.filters_low_energy
    if known is None or len(weight) != layer.filters:
        shown = False
    else:
        stored = filters_low_energy(weight.double(), layer.cutoff).cpu().to(known)
        shown = torch.allclose(stored, known, atol=1e-4, equal_nan=True)
    if not shown:
        _LOG.warning(
            "%s: the filters of %s are not drawn, since it does not use its kernels as they are stored "
            "(it is dilated or transposed, or changes them)",
            *(name, layer.name),
        )
    return shown


def rings(curve: Sequence[tuple[float, float]]) -> Points:
    """Return the mean power in each ring between two radii of a cumulative curve; a white filter has 1."""
    return [
        ((inner + outer) / 2, (above - below) / (math.pi * (outer**2 - inner**2)))
        for (inner, below), (outer, above) in pairwise(curve)
    ]


def _figures(trained: Sequence[Trained]) -> list[Figure]:
    curves, profiles = [], []
    for item in trained:
        layer = item.layer
        logged: list[Points] = [[(0.0, 0.0), *record.curve] for record in item.log if record.curve]
        if logged:
            curves.append(item.line("before", logged[0], dashed=True))
            profiles.append(item.line("before", rings(logged[0]), dashed=True))
        after = [] if layer.curve is None else points(layer.radii, layer.curve)
        what = "after" if logged else ""
        curves.append(item.line(what, logged[-1] if logged else after))
        if layer.profile is not None:
            profiles.append(item.line(what, points(layer.radii, layer.profile)))
    drawn = "Solid after training, dashed before. " if any(line.dashed for line in curves) else ""
    (curves, left), (profiles, _) = first_drawn(curves), first_drawn(profiles)
    figures = radial_figures(curves, profiles, cutoff=trained[0].layer.cutoff, drawn=left + drawn)
    courses = []
    for item in trained:
        for what, key in (("mean low energy", "mean_low_energy"), ("low share", "low_share")):
            values = known((record.epoch, getattr(record, key)) for record in item.log)
            if len(values) > 1:
                courses.append(item.line(what, values, dashed=key == "low_share"))
    if courses:
        shown, said = first_drawn(courses)
        chart = line_chart(
            shown,
            x=Axis("Epoch or step", whole=True),
            y=Axis("Low energy, low share", percent=True, domain=(0, 1)),
            dots=True,
            label="Mean low energy and low share of the first layer against the epoch or step",
        )
        note = f"{said}Solid: mean low energy. Dashed: low share. Epoch 0 is before."
        figures.append(Figure("Over training", chart, note))
    return figures
