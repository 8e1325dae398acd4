"""The figures about a layer's filters, one per row of `FIGURES`, and the spectra of layers and networks.

A new figure is a new row: attributes, text, HTML, tables, JSON, trajectories and `--require` read the table.
"""

import html
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from statistics import fmean
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..disk import as_frame
from . import tables
from .bands import line
from .integrals import autocorrelation, ball_kernel, centroid_kernel, unaliased_kernel
from .measured import DIRECTIONS, Measured
from .sensitivity import Sensitivity

Value = float | tuple[float, float] | None
"""What a layer has of a figure: a number, the ends of an interval, or None."""
PerFilter = Float[Tensor, " f"]
"""A number per filter."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure about a layer's filters: how it is computed and where it is shown."""

    label: str
    """Heading of its column."""
    each: Callable[[Measured], PerFilter | None] | None = None
    """Computes each filter's own, mostly as `lagged @ kernel`, with a kernel of `integrals`."""
    whole: Callable[[Measured], Value] | None = None
    """Computes the layer's where a filter is live; by default the mean of `each` over live filters."""
    white: float | None = None
    """What planar white filters have at the default cutoff; None where that depends on the layer."""
    unit: Literal["energy", "filters", "power", "cycles per pixel"] = "energy"
    """What it is a share of, or counted in; pages show a share of filters as percent."""
    form: str = ".3f"
    """Format of its numbers in text."""
    ends: tuple[str, ...] = ("",)
    """Suffixes of its columns in files: two for an interval."""
    needs_data: bool = False
    """Whether it is None without images."""
    of_network: bool = False
    """Whether a network has it: the mean over the live filters of all layers."""
    left_out: Collection[str] = ()
    """Where it has no column: `text`, the `course` of a training, the `comparison` of networks on a page."""

    def of(self, layer: Measured) -> tuple[Value, PerFilter | None]:
        """Return the layer's figure and each filter's own."""
        each = None if self.each is None else self.each(layer)
        if self.whole is not None and layer.live.any():
            return self.whole(layer), each
        known = [] if each is None else each[layer.live & each.isfinite()].tolist()
        return (fmean(known) if known else None), each


def _aliased(layer: Measured) -> float | None:
    stride = layer.layer.stride
    if stride is None or max(stride) == 1:
        # A stride of 1 keeps everything, to the last bit but rounding.
        return None if stride is None else 0.0
    return max(0.0, float(1 - layer.mean_lagged @ unaliased_kernel(*layer.geometry, stride)))


def _direction(name: str, white: float) -> Figure:
    def each(layer: Measured) -> PerFilter | None:
        return layer.directions[:, list(DIRECTIONS).index(name)] if len(layer.layer.size) == 2 else None

    label = name.removesuffix("_energy")
    return Figure(label, each, white=white, left_out=("text", "course", "comparison"))


FIGURES: dict[str, Figure] = {
    # Share of the live filters that are low: on or above the line.
    "low_share": Figure(
        "low share", whole=lambda layer: layer.reading.low_share, white=0.5, unit="filters", of_network=True
    ),
    # Where that share lies for 95 % of layers of this shape with white Gaussian filters.
    "low_share_chance": Figure(
        "by chance",
        whole=lambda layer: layer.reading.low_share_chance if layer.chance else None,
        unit="filters",
        form=".2f",
        ends=("_low", "_high"),
        left_out=("course",),
    ),
    # Share of the energy of all filters that lies within the cutoff.
    "low_energy": Figure(
        "low energy", lambda layer: layer.inside(layer.cutoff), lambda layer: layer.reading.low_energy, 0.5
    ),
    # Mean over live filters of the share within the cutoff of each: free of the filters' scales.
    "mean_low_energy": Figure(
        "mean low energy", whole=lambda layer: layer.reading.mean_low_energy, white=0.5, of_network=True
    ),
    # Mean over live filters of the share within the cutoff of what they let through of given images.
    "response_low_energy": Figure(
        "response",
        lambda layer: layer.response,
        unit="power",
        needs_data=True,
        left_out=("course", "comparison"),
    ),
    # Mean over live filters of the power-weighted mean radius.
    "centroid": Figure(
        "centroid",
        lambda layer: layer.lagged @ centroid_kernel(*layer.geometry),
        white=0.3826,
        unit="cycles per pixel",
        of_network=True,
    ),
    # Mean over live filters of the power at frequency zero, 1 being the most that a kernel of the same norm
    # can have there; white ones have one over the number of taps.
    "zero_leak": Figure(
        "leak at 0",
        lambda layer: layer.lagged.sum(dim=1) / math.prod(layer.layer.size),
        unit="power",
        left_out=("comparison",),
    ),
    # Mean over live filters of the share of energy that the stride folds over lower frequencies; of a
    # transposed convolution, of what it lets through of the input's images above the input's Nyquist.
    "aliased_energy": Figure("aliased", whole=_aliased, left_out=("course",)),
    # Mean over live filters of the share, of the energy up to Nyquist, within 22.5 degrees of the horizontal
    # frequencies, which vertical edges have, of the vertical ones, of either diagonal. Planar kernels alone.
    **{name: _direction(name, 0.25 * len(wedges)) for name, wedges in DIRECTIONS.items()},
}
"""Every figure by its name, which is its key in JSON and its attribute, in the order of all tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Color:
    """What a layer that reads red, green and blue does with brightness and with color.

    A kernel's channels are split into their mean, the achromatic part, and the rest, the two-dimensional
    opponent part. Each live filter counts the same.
    """

    achromatic_energy: float
    """Share of the energy that is achromatic; white filters have 1/3."""
    achromatic_low_energy: float | None
    """Share of the achromatic energy within the cutoff; None where there is none."""
    opponent_low_energy: float | None
    """Share of the opponent energy within the cutoff; None where there is none."""


def color_of(layer: Measured) -> Color | None:
    """Return brightness and color of live filters; None unless each reads three channels of the plane."""
    conv = layer.layer
    if len(conv.size) != 2 or layer.weight.shape[1] != 3 or conv.groups != 1 or conv.transposed:
        return None
    # Each filter scaled to energy 1, so that the energies of the two parts have the sum 1.
    gray = autocorrelation(layer.weight[layer.live].sum(dim=1, keepdim=True)) / 3
    achromatic = (gray / layer.energy[layer.live, None]).mean(dim=0)
    disc = ball_kernel(*layer.geometry, layer.cutoff)
    parts = []
    for lagged in (achromatic, layer.mean_lagged - achromatic):
        energy = float(lagged[len(lagged) // 2])
        parts.append((energy, float(lagged @ disc) / energy if energy > 1e-12 else None))
    (share, low), (_, opponent_low) = parts
    return Color(achromatic_energy=share, achromatic_low_energy=low, opponent_low_energy=opponent_low)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerSpectrum:
    """How low or high the filters of one convolution are.

    Every name of `FIGURES` is an attribute (`low_share`), and `filters_` in front of it gives each filter's
    own, dead ones included (`filters_low_energy`). What cannot be said is None: nothing spectral of a 1x1
    kernel or of a kind that is not measured, no figure over live filters where all are dead. A filter of
    zeros has what white ones have.
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
    figures: Mapping[str, Value] = field(default_factory=dict)
    """The layer's figures by name."""
    each: Mapping[str, Float[Tensor, " f"]] = field(default_factory=dict)
    """Those of single filters; NaN where a filter has none."""
    colour: Color | None = None
    """Brightness and color apart, for layers that read three channels."""
    sensitivity: Sensitivity | None = None
    """The same conclusions by other definitions."""
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

    def __getattr__(self, name: str) -> Any:
        """Return a figure, or that of each filter; None where it cannot be said."""
        if name in FIGURES:
            return self.figures.get(name)
        if name.removeprefix("filters_") in FIGURES:
            return self.each.get(name.removeprefix("filters_"))
        raise AttributeError(f"a layer has no {name!r}; its figures are {', '.join(FIGURES)}")

    @property
    def filters_directions(self) -> Float[Tensor, "f 3"] | None:
        """Each filter's horizontal, vertical and diagonal energy."""
        known = [self.each[name] for name in DIRECTIONS if name in self.each]
        return torch.stack(known, dim=1) if known else None

    @property
    def dead(self) -> int:
        """Number of filters that are not live."""
        return self.filters - int(self.live.sum())

    def to_json(self) -> dict[str, Any]:
        """Return the layer as plain values, the keys being those of `filterbands analyze --json`."""
        facts = ("name", "shape", "filters", "dead", "cutoff")
        curves = ("radii", "curve", "profile", "angles", "orientation", "batch_norm", "note")
        keys = (*facts, *FIGURES, "colour", "sensitivity", "filters_low_energy", *curves)
        document = {key: tables.plain(getattr(self, key)) for key in keys}
        return {**document, "sensitivity": None if self.sensitivity is None else self.sensitivity.to_json()}

    def to_row(self) -> dict[str, Any]:
        """Return the layer's own figures, without those of single filters, as a row of a table."""
        row: dict[str, Any] = {
            "layer": self.name,
            "shape": "x".join(map(str, self.shape)),
            "filters": self.filters,
            "dead": self.dead,
            "cutoff": self.cutoff,
        }
        for name, figure in FIGURES.items():
            value = self.figures.get(name)
            ends = value if isinstance(value, tuple) else (value,) * len(figure.ends)
            row |= {name + end: number for end, number in zip(figure.ends, ends, strict=True)}
        return {**row, "note": self.note}

    def filter_rows(self) -> list[dict[str, Any]]:
        """Return a row per filter; none where the layer has no spectrum."""
        columns = {name: values.tolist() for name, values in self.each.items()}
        known = {"filter": range(self.filters), "live": self.live.tolist(), **columns} if columns else {}
        rows = zip(*known.values(), strict=True)
        return [{"layer": self.name, **dict(zip(known, row, strict=True))} for row in rows]

    def to_frame(self) -> Any:
        """Return a row per filter as a pandas frame, which needs the package pandas."""
        return as_frame(self.filter_rows())

    def __str__(self) -> str:
        lines = [_text([self])]
        if self.curve is not None:
            points = zip(self.curve[9::10].tolist(), self.radii[9::10].tolist(), strict=True)
            parts = [f"{share:.3f} within {radius:.1f}" for share, radius in points]
            lines.append(f"energy        {', '.join(parts)}")
        if self.horizontal_energy is not None:
            parts = [f"{self.figures[name]:.3f} {FIGURES[name].label}" for name in DIRECTIONS]
            lines.append(f"directions    {', '.join(parts)} (white: 0.25, 0.25, 0.5)")
        if self.colour is not None:
            share, low, opponent = map(tables.shown, astuple(self.colour))
            lines.append(
                f"colour        {share} of the energy achromatic (white: 0.333); low energy {low} of it, "
                f"{opponent} of the opponent part"
            )
        if self.sensitivity is not None:
            lines.append(str(self.sensitivity))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return _html([self])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelSpectrum:
    """How low or high the filters of every convolution are: layers by name, or one after the other.

    `low_share`, `mean_low_energy` and `centroid` are those of all live filters of layers with a spectrum,
    each in its own layer's pixels; None without such a layer.
    """

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

    def __getattr__(self, name: str) -> Any:
        """Return the mean of a figure over the live filters of all layers that have it."""
        if name not in FIGURES or not FIGURES[name].of_network:
            raise AttributeError(f"a network's spectrum has no {name!r}; look at one of its layers")
        known = [(int(layer.live.sum()), getattr(layer, name)) for layer in self.spatial]
        known = [(filters, value) for filters, value in known if value is not None]
        count = sum(filters for filters, _ in known)
        return sum(filters * value for filters, value in known) / count if count else None

    @property
    def spatial(self) -> tuple[LayerSpectrum, ...]:
        """The layers that have a spectrum."""
        return tuple(layer for layer in self.layers if layer.mean_low_energy is not None)

    def to_json(self) -> dict[str, Any]:
        """Return the document of `filterbands analyze --json`."""
        return {
            "cutoff": self.cutoff,
            "network": {
                "filters": sum(layer.filters for layer in self.layers),
                "dead": sum(layer.dead for layer in self.layers),
                **{name: getattr(self, name) for name, figure in FIGURES.items() if figure.of_network},
            },
            "layers": [layer.to_json() for layer in self.layers],
        }

    def to_frame(self) -> Any:
        """Return a row per layer as a pandas frame, which needs the package pandas."""
        return as_frame([layer.to_row() for layer in self.layers])

    def __str__(self) -> str:
        depends = [layer.name for layer in self.layers if layer.sensitivity and layer.sensitivity.depends]
        more = f" and {len(depends) - 6} more" if len(depends) > 6 else ""
        below = f"whether low or high depends on the definition for {', '.join(depends[:6])}{more}"
        return "\n".join([self._heading(), _text(self.layers), *([below] if depends else [])])

    def _repr_html_(self) -> str:
        return f"<p>{self._heading()}</p>{_html(self.layers)}"

    def _heading(self) -> str:
        """Return what is called low, by the layers' cutoffs and dimensions."""
        found = dict.fromkeys((layer.cutoff, len(layer.shape) - 2) for layer in self.layers)
        whole = {
            dimensions: f"within {cutoff:.4f} cycles per pixel, where a white filter has "
            f"{line(cutoff, dimensions):.3f} of its energy"
            for cutoff, dimensions in found or {(self.cutoff, 2): None}
        }
        if len(whole) == 1:
            return f"low: {next(iter(whole.values()))}"
        return "low: " + "; ".join(f"of {dimensions}-D layers {text}" for dimensions, text in whole.items())


def _text(layers: Sequence[LayerSpectrum]) -> str:
    columns, shared = _columns(layers)
    table = tables.text_table(columns, left=("layer", "shape", "note"))
    return f"{table}\n{shared}" if shared else table


def _html(layers: Sequence[LayerSpectrum]) -> str:
    columns, shared = _columns(layers)
    return tables.html_table(columns) + (f"<p>{html.escape(shared)}</p>" if shared else "")


def _columns(layers: Sequence[LayerSpectrum]) -> tuple[dict[str, list[str]], str]:
    """Return the columns in which some layer has something to say, and the note that all layers share."""
    notes = {layer.note for layer in layers}
    shared = notes.pop() if len(notes) == 1 else ""
    columns = {
        "layer": [layer.name for layer in layers],
        "shape": ["x".join(map(str, layer.shape)) for layer in layers],
        "dead": [str(layer.dead) for layer in layers],
        **{
            figure.label: [tables.shown(layer.figures.get(name), figure.form) for layer in layers]
            for name, figure in FIGURES.items()
            if "text" not in figure.left_out
        },
        "note": [layer.note for layer in layers if not shared],
    }
    kept = {head: cells for head, cells in columns.items() if any(cell not in ("", "-") for cell in cells)}
    return kept, shared
