"""What was measured of a layer and of a network: plain values that print, render and convert."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from . import tables
from .bands import line


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How low a layer is by one cutoff."""

    cutoff: float
    """Radius, cycles per pixel."""
    line: float
    """What a white filter has within it."""
    low_share: float
    """The count: share of live filters on or above the line."""
    low_share_chance: tuple[float, float]
    """Where the count lies for 95 % of white layers of this shape."""
    low_energy: float
    """The mass: share of the energy of all filters."""
    mean_low_energy: float
    """The mean over live filters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """Whether what one says of a layer depends on the definition of low."""

    readings: tuple[Reading, ...]
    """Three cutoffs, rising: where white filters have a quarter, a half and three quarters of their energy
    (an eighth, a quarter and a half for three-dimensional kernels)."""
    centroid: float
    """The mean centroid, which knows no cutoff."""
    rank_correlation: tuple[tuple[float, ...], ...] | None
    """Spearman's, across live filters, of low energy at the three cutoffs and the centroid turned round, in
    that order; None with fewer than three live filters."""
    verdicts: tuple[tuple[str, str], ...]
    """What each reading says beside chance: (`count at 0.399`, `low`, `high` or `like white`)."""

    @property
    def depends(self) -> bool:
        """Whether the readings disagree."""
        return len({verdict for _, verdict in self.verdicts}) > 1

    @property
    def sentence(self) -> str:
        """What the readings say, in a sentence."""
        groups = {
            verdict: [name for name, said in self.verdicts if said == verdict] for _, verdict in self.verdicts
        }
        if len(groups) == 1:
            return f"{next(iter(groups))} by every definition"
        parts = [f"{verdict} by {', '.join(names)}" for verdict, names in groups.items()]
        return f"depends on the definition: {'; '.join(parts)}"

    def __str__(self) -> str:
        lines = ["cutoff  low share     by chance  low energy  mean low energy"]
        for reading in self.readings:
            low, high = reading.low_share_chance
            lines.append(
                f"{reading.cutoff:.4f}  {reading.low_share:9.3f}  {low:.2f} to {high:.2f}  "
                f"{reading.low_energy:10.3f}  {reading.mean_low_energy:15.3f}"
            )
        if self.rank_correlation is not None:
            least = min(min(row) for row in self.rank_correlation)
            lines.append(f"rank correlation of filters between them and the centroid: at least {least:.2f}")
        return "\n".join([*lines, self.sentence])

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "readings": [
                {
                    "cutoff": reading.cutoff,
                    "line": reading.line,
                    "low_share": reading.low_share,
                    "low_share_chance": list(reading.low_share_chance),
                    "low_energy": reading.low_energy,
                    "mean_low_energy": reading.mean_low_energy,
                }
                for reading in self.readings
            ],
            "rank_correlation": None
            if self.rank_correlation is None
            else [list(row) for row in self.rank_correlation],
            "depends": self.depends,
            "sentence": self.sentence,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Colour:
    """What a layer that reads red, green and blue does with brightness and with colour.

    A kernel's channels are split into their mean, the achromatic part, and the rest, the two-dimensional
    opponent part. Each live filter counts the same.
    """

    achromatic_energy: float
    """Share of the energy that is achromatic; white filters have 1/3."""
    achromatic_low_energy: float | None
    """Share of the achromatic energy within the cutoff; None where there is none."""
    opponent_low_energy: float | None
    """Share of the opponent energy within the cutoff; None where there is none."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "achromatic_energy": self.achromatic_energy,
            "achromatic_low_energy": self.achromatic_low_energy,
            "opponent_low_energy": self.opponent_low_energy,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerSpectrum:
    """How low or high the filters of one convolution are.

    What cannot be said is None: nothing spectral of a 1x1 kernel or of a kind that is not measured, no
    figure over live filters where all are dead.
    """

    name: str
    """The layer's name in the network; `weight` for a bare convolution."""
    shape: tuple[int, ...]
    """Shape of its weight."""
    filters: int
    """Number of filters, that is, of output channels."""
    live: Bool[Tensor, " f"]
    """Whether each filter has at least 1e-3 of the energy of the layer's strongest."""
    cutoff: float
    """Radius between low and high, cycles per pixel."""
    stride: tuple[int, ...] | None
    """Pixels between outputs; None where a tensor without its network was read."""
    batch_norm: str | None
    """Name of the batch norm that was folded in."""
    note: str
    """What a reader must know of this layer; empty for nothing."""
    low_share: float | None = None
    """Share of the live filters that are low: on or above the line."""
    low_share_chance: tuple[float, float] | None = None
    """Where that share lies for 95 % of layers of this shape with white Gaussian filters."""
    low_energy: float | None = None
    """Share of the energy of all filters that lies within the cutoff."""
    mean_low_energy: float | None = None
    """Mean over live filters of each one's share within the cutoff: free of the filters' scales."""
    centroid: float | None = None
    """Mean over live filters of the power-weighted mean radius, cycles per pixel; white ones have 0.3826."""
    zero_leak: float | None = None
    """Mean over live filters of the power at frequency zero, 1 being the most that a kernel of the same norm
    can have there; white ones have one over the number of taps."""
    aliased_energy: float | None = None
    """Mean over live filters of the share of energy that the stride folds over lower frequencies; of a
    transposed convolution, of what it lets through of the input's images above the input's Nyquist."""
    horizontal_energy: float | None = None
    """Mean over live filters of the share, of the energy up to Nyquist, within 22.5 degrees of the horizontal
    frequencies, which vertical edges have; white ones have 1/4. Planar kernels alone."""
    vertical_energy: float | None = None
    """The same of the vertical frequencies; white ones have 1/4."""
    diagonal_energy: float | None = None
    """The rest, within 22.5 degrees of either diagonal; white ones have 1/2."""
    response_low_energy: float | None = None
    """Mean over live filters of the share of what they let through of given images that is within the
    cutoff; None where no images were given."""
    colour: Colour | None = None
    """Brightness and colour apart, for layers that read three channels."""
    sensitivity: Sensitivity | None = None
    """The same conclusions by other definitions."""
    filters_low_energy: Float[Tensor, " f"] | None = None
    """Each filter's share within the cutoff, dead ones included; the line where all taps are 0."""
    filters_centroid: Float[Tensor, " f"] | None = None
    """Each filter's power-weighted mean radius; that of white ones where all taps are 0."""
    filters_zero_leak: Float[Tensor, " f"] | None = None
    """Each filter's leak at frequency zero."""
    filters_directions: Float[Tensor, "f 3"] | None = None
    """Each filter's horizontal, vertical and diagonal energy."""
    filters_response_low_energy: Float[Tensor, " f"] | None = None
    """Each filter's share within the cutoff of what it lets through; NaN where it lets nothing through."""
    radii: Float[Tensor, " r"]
    """Radii of the two curves, cycles per pixel."""
    curve: Float[Tensor, " r"] | None = None
    """Mean over live filters of the share of energy within each radius."""
    profile: Float[Tensor, " r"] | None = None
    """Mean over live filters of the power at each radius, over all directions; white ones have 1."""
    angles: Float[Tensor, " a"] | None = None
    """Directions of `orientation` in degrees, 0 being the horizontal frequencies."""
    orientation: Float[Tensor, " a"] | None = None
    """Mean over live filters of the power in each direction, up to Nyquist; white ones have 1."""

    @property
    def dead(self) -> int:
        """Number of filters that are not live."""
        return self.filters - int(self.live.sum())

    def to_json(self) -> dict[str, Any]:
        """Return the layer as plain values, the keys being those of `filterbands analyze --json`."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "filters": self.filters,
            "dead": self.dead,
            "cutoff": self.cutoff,
            "low_share": self.low_share,
            "low_share_chance": None if self.low_share_chance is None else list(self.low_share_chance),
            "low_energy": self.low_energy,
            "mean_low_energy": self.mean_low_energy,
            "response_low_energy": self.response_low_energy,
            "centroid": self.centroid,
            "zero_leak": self.zero_leak,
            "aliased_energy": self.aliased_energy,
            "horizontal_energy": self.horizontal_energy,
            "vertical_energy": self.vertical_energy,
            "diagonal_energy": self.diagonal_energy,
            "colour": None if self.colour is None else self.colour.to_json(),
            "sensitivity": None if self.sensitivity is None else self.sensitivity.to_json(),
            "filters_low_energy": tables.listed(self.filters_low_energy),
            "radii": tables.listed(self.radii),
            "curve": tables.listed(self.curve),
            "profile": tables.listed(self.profile),
            "angles": tables.listed(self.angles),
            "orientation": tables.listed(self.orientation),
            "batch_norm": self.batch_norm,
            "note": self.note,
        }

    def to_row(self) -> dict[str, Any]:
        """Return the layer's own figures, without those of single filters, as a row of a table."""
        chance = self.low_share_chance or (None, None)
        return {
            "layer": self.name,
            "shape": "x".join(map(str, self.shape)),
            "filters": self.filters,
            "dead": self.dead,
            "cutoff": self.cutoff,
            "low_share": self.low_share,
            "low_share_chance_low": chance[0],
            "low_share_chance_high": chance[1],
            "low_energy": self.low_energy,
            "mean_low_energy": self.mean_low_energy,
            "response_low_energy": self.response_low_energy,
            "centroid": self.centroid,
            "zero_leak": self.zero_leak,
            "aliased_energy": self.aliased_energy,
            "horizontal_energy": self.horizontal_energy,
            "vertical_energy": self.vertical_energy,
            "diagonal_energy": self.diagonal_energy,
            "note": self.note,
        }

    def filter_rows(self) -> list[dict[str, Any]]:
        """Return a row a filter; none where the layer has no spectrum."""
        if self.filters_low_energy is None or self.filters_centroid is None or self.filters_zero_leak is None:
            return []
        rows = []
        for number in range(self.filters):
            row = {
                "layer": self.name,
                "filter": number,
                "live": bool(self.live[number]),
                "low_energy": float(self.filters_low_energy[number]),
                "centroid": float(self.filters_centroid[number]),
                "zero_leak": float(self.filters_zero_leak[number]),
            }
            if self.filters_directions is not None:
                names = ("horizontal_energy", "vertical_energy", "diagonal_energy")
                row |= dict(zip(names, self.filters_directions[number].tolist(), strict=True))
            if self.filters_response_low_energy is not None:
                row["response_low_energy"] = float(self.filters_response_low_energy[number])
            rows.append(row)
        return rows

    def to_frame(self) -> Any:
        """Return a row a filter, as a pandas frame.

        Raises:
            ValueError: pandas is not installed.
        """
        return tables.frame(self.filter_rows())

    def __str__(self) -> str:
        lines = [tables.text_table([self.to_row()])]
        if self.curve is not None:
            parts = [
                f"{float(share):.3f} within {float(radius):.1f}"
                for radius, share in zip(self.radii[9::10], self.curve[9::10], strict=True)
            ]
            lines.append("energy        " + ", ".join(parts))
        if self.horizontal_energy is not None:
            lines.append(
                f"directions    {self.horizontal_energy:.3f} horizontal, "
                f"{self.vertical_energy:.3f} vertical, {self.diagonal_energy:.3f} diagonal "
                "(white: 0.25, 0.25, 0.5)"
            )
        if self.colour is not None:
            achromatic, opponent = (
                tables.figure(value)
                for value in (self.colour.achromatic_low_energy, self.colour.opponent_low_energy)
            )
            lines.append(
                f"colour        {self.colour.achromatic_energy:.3f} of the energy achromatic (white: 0.333); "
                f"low energy {achromatic} of it, {opponent} of the opponent part"
            )
        if self.sensitivity is not None:
            lines.append(str(self.sensitivity))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return tables.html_table([self.to_row()])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelSpectrum:
    """How low or high the filters of every convolution are: layers by name, or one after the other."""

    cutoff: float
    """Radius between low and high, cycles per pixel, of planar kernels."""
    layers: tuple[LayerSpectrum, ...]
    """The convolutions, in the order of the network."""

    def __getitem__(self, name: str) -> LayerSpectrum:
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = ", ".join(layer.name for layer in self.layers)
        raise ValueError(f"no convolution {name!r}; there are {names}")

    def __contains__(self, name: str) -> bool:
        return any(layer.name == name for layer in self.layers)

    def __iter__(self) -> Iterator[LayerSpectrum]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def spatial(self) -> tuple[LayerSpectrum, ...]:
        """The layers that have a spectrum."""
        return tuple(layer for layer in self.layers if layer.mean_low_energy is not None)

    @property
    def low_share(self) -> float | None:
        """Share of the live filters of all layers with a spectrum that are low; None without such a layer."""
        return self._over_filters([layer.low_share for layer in self.spatial])

    @property
    def mean_low_energy(self) -> float | None:
        """Mean over the live filters of all layers with a spectrum."""
        return self._over_filters([layer.mean_low_energy for layer in self.spatial])

    @property
    def centroid(self) -> float | None:
        """Mean over the live filters of all layers with a spectrum, in each layer's own pixels."""
        return self._over_filters([layer.centroid for layer in self.spatial])

    def _over_filters(self, values: Sequence[float | None]) -> float | None:
        known = [
            (layer.filters - layer.dead, value)
            for layer, value in zip(self.spatial, values, strict=True)
            if value is not None
        ]
        count = sum(filters for filters, _ in known)
        return sum(filters * value for filters, value in known) / count if count else None

    def to_json(self) -> dict[str, Any]:
        """Return the document of `filterbands analyze --json`."""
        return {
            "cutoff": self.cutoff,
            "network": {
                "filters": sum(layer.filters for layer in self.layers),
                "dead": sum(layer.dead for layer in self.layers),
                "low_share": self.low_share,
                "mean_low_energy": self.mean_low_energy,
                "centroid": self.centroid,
            },
            "layers": [layer.to_json() for layer in self.layers],
        }

    def to_frame(self) -> Any:
        """Return a row a layer, as a pandas frame.

        Raises:
            ValueError: pandas is not installed.
        """
        return tables.frame([layer.to_row() for layer in self.layers])

    def __str__(self) -> str:
        depends = [layer.name for layer in self.layers if layer.sensitivity and layer.sensitivity.depends]
        below = [f"whether low or high depends on the definition for {_some(depends)}"] if depends else []
        return "\n".join(
            [_heading(self.cutoff), tables.text_table([layer.to_row() for layer in self.layers]), *below]
        )

    def _repr_html_(self) -> str:
        return f"<p>{_heading(self.cutoff)}</p>{tables.html_table([layer.to_row() for layer in self.layers])}"


def _heading(cutoff: float) -> str:
    white = line(cutoff)
    return f"low: within {cutoff:.4f} cycles per pixel, where a white filter has {white:.3f} of its energy"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:6])
    return f"{shown} and {len(names) - 6} more" if len(names) > 6 else shown
