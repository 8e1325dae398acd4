"""Whether what one says of a layer depends on the definition of low."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from . import tables
from .chance import chance_centroid, chance_moments
from .integrals import centroid_kernel, volume
from .measured import Measured, Reading

# The lines of the three definitions that are compared: shares of the cube of frequencies.
_LINES = {1: (0.25, 0.5, 0.75), 2: (0.25, 0.5, 0.75), 3: (0.125, 0.25, 0.5)}
# Two-sided, 95 %.
_QUANTILE = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What a layer is by several definitions of low, each compared with chance."""

    readings: tuple[Reading, ...]
    """Three cutoffs, rising: where white filters have a quarter, a half and three quarters of their energy
    (an eighth, a quarter and a half for three-dimensional kernels)."""
    centroid: float
    """The mean centroid, which knows no cutoff."""
    rank_correlation: tuple[tuple[float, ...], ...] | None
    """Spearman's, across live filters, of low energy at the three cutoffs and the centroid turned round, in
    that order; None with fewer than three live filters."""
    verdicts: tuple[tuple[str, str], ...]
    """What each reading says compared with chance: (`count at 0.399`, `low`, `high` or `like white`)."""

    @property
    def depends(self) -> bool:
        """Whether the readings disagree."""
        return len({verdict for _, verdict in self.verdicts}) > 1

    @property
    def sentence(self) -> str:
        """What the readings say, in a sentence."""
        groups: dict[str, list[str]] = {}
        for name, verdict in self.verdicts:
            groups.setdefault(verdict, []).append(name)
        if len(groups) == 1:
            return f"{next(iter(groups))} by every definition"
        parts = [f"{verdict} by {', '.join(names)}" for verdict, names in groups.items()]
        return f"depends on the definition: {'; '.join(parts)}"

    def __str__(self) -> str:
        rows = self.readings
        columns = {
            "cutoff": [f"{row.cutoff:.4f}" for row in rows],
            "low share": [tables.shown(row.low_share) for row in rows],
            "by chance": [tables.shown(row.low_share_chance, ".2f") for row in rows],
            "low energy": [tables.shown(row.low_energy) for row in rows],
            "mean low energy": [tables.shown(row.mean_low_energy) for row in rows],
        }
        lines = [tables.text_table(columns)]
        if self.rank_correlation is not None:
            least = min(min(row) for row in self.rank_correlation)
            lines.append(f"rank correlation of filters between them and the centroid: at least {least:.2f}")
        return "\n".join([*lines, self.sentence])

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        keys = ("readings", "rank_correlation", "depends", "sentence")
        return {key: tables.plain(getattr(self, key)) for key in keys}


def sensitivity_of(layer: Measured) -> Sensitivity:
    """Return what a layer with live filters is by three cutoffs and by its centroid."""
    size, dilation = layer.geometry
    channels, dimensions = layer.weight.shape[1], len(size)
    readings, ranked, counts, means = [], [], [], []
    # The radii whose interval, disc or ball has these volumes.
    for cutoff in ((part / volume(1.0, dimensions)) ** (1 / dimensions) for part in _LINES[dimensions]):
        reading = layer.read(cutoff)
        readings.append(reading)
        ranked.append(layer.inside(cutoff)[layer.live])
        counts.append((f"count at {cutoff:.3f}", _verdict(reading.low_share, *reading.low_share_chance)))
        white = chance_moments(size, channels, cutoff=cutoff, dilation=dilation)
        means.append((f"mean at {cutoff:.3f}", _verdict_of_mean(ranked[-1], *white)))
    # The lower the centroid, the lower the filters.
    turned = -(layer.lagged @ centroid_kernel(size, dilation))[layer.live]
    middle, deviation = chance_centroid(size, channels, dilation=dilation)
    correlation = None
    if len(turned) >= 3:
        # Rounded, so that filters that are equal but for rounding are equal.
        found = rank_correlations(torch.stack([*ranked, turned]).round(decimals=12))
        # A row whose values are all equal ranks nothing, and correlates by 0 with all but itself.
        found = found.nan_to_num(0.0).clamp(-1, 1).fill_diagonal_(1.0)
        correlation = tuple(map(tuple, found.tolist()))
    return Sensitivity(
        readings=tuple(readings),
        centroid=-float(turned.mean()),
        rank_correlation=correlation,
        verdicts=(*counts, *means, ("centroid", _verdict_of_mean(turned, -middle, deviation))),
    )


def _verdict_of_mean(values: Float[Tensor, " f"], middle: float, deviation: float) -> str:
    half = _QUANTILE * deviation / math.sqrt(len(values))
    return _verdict(float(values.mean()), middle - half, middle + half)


def _verdict(value: float, low: float, high: float) -> str:
    if value > high + 1e-9:
        return "low"
    return "high" if value < low - 1e-9 else "like white"


def rank_correlations(rows: Float[Tensor, "n items"]) -> Float[Tensor, "n n"]:
    """Return Spearman's rank correlations of the rows, equal values at their mean rank.

    A row whose values are all equal has NaN.

    Source: Spearman 1904, American Journal of Psychology 15.

    >>> rank_correlations(torch.tensor([[1.0, 2, 3], [10, 20, 15]]).double())[0, 1].item()
    0.5
    """
    ordered = rows.sort(dim=1).values
    # Twice the mean rank, but for a constant.
    ranks = torch.searchsorted(ordered, rows) + torch.searchsorted(ordered, rows, right=True)
    return torch.corrcoef(ranks.double())
