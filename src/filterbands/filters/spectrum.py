"""What the filters of a network look at: every convolution measured, and shown."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..models import ARCHITECTURES, load_model, read_checkpoint
from .bands import (
    EQUAL_AREA,
    autocorrelation,
    centroid_kernel,
    chance_interval,
    chance_of_low,
    check_cutoff,
    circle_kernel,
    disc_kernel,
    is_low,
    line,
    unaliased_kernel,
)

# A filter with less than this part of the energy of the layer's strongest is dead.
_DEAD = 1e-3
_RADII = tuple(step / 100 for step in range(1, 51))
# How old and new weight normalisation, pruning and parametrizations call what they compute a weight from.
_HIDDEN_WEIGHTS = ("weight_v", "weight_orig")


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
    stride: tuple[int, int] | None
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
    aliased_energy: float | None = None
    """Mean over live filters of the share of energy that the stride folds over lower frequencies."""
    filters_low_energy: Float[Tensor, " f"] | None = None
    """Each filter's share within the cutoff, dead ones included; the line where all taps are 0."""
    radii: Float[Tensor, " r"]
    """Radii of the two curves, cycles per pixel."""
    curve: Float[Tensor, " r"] | None = None
    """Mean over live filters of the share of energy within each radius."""
    profile: Float[Tensor, " r"] | None = None
    """Mean over live filters of the power at each radius, over all directions; white ones have 1."""

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
            "low_share": self.low_share,
            "low_share_chance": None if self.low_share_chance is None else list(self.low_share_chance),
            "low_energy": self.low_energy,
            "mean_low_energy": self.mean_low_energy,
            "centroid": self.centroid,
            "filters_low_energy": _listed(self.filters_low_energy),
            "response_low_energy": None,
            "aliased_energy": self.aliased_energy,
            "note": self.note,
        }

    def __str__(self) -> str:
        lines = [_table([self])]
        if self.curve is not None:
            parts = [
                f"{float(share):.3f} within {float(radius):.1f}"
                for radius, share in zip(self.radii[9::10], self.curve[9::10], strict=True)
            ]
            lines.append("energy " + ", ".join(parts))
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelSpectrum:
    """How low or high the filters of every convolution are: layers by name, or one after the other."""

    cutoff: float
    """Radius between low and high, cycles per pixel."""
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

    def to_json(self) -> dict[str, Any]:
        """Return the document of `filterbands analyze --json`."""
        return {"cutoff": self.cutoff, "layers": [layer.to_json() for layer in self.layers]}

    def __str__(self) -> str:
        heading = (
            f"low: within {self.cutoff:.4f} cycles per pixel, where a white filter has "
            f"{line(self.cutoff):.3f} of its energy"
        )
        return f"{heading}\n{_table(self.layers)}"


def analyze(
    model: nn.Module | Mapping[str, Tensor] | str | os.PathLike[str],
    *,
    cutoff: float = EQUAL_AREA,
    fold_batch_norm: bool = False,
) -> ModelSpectrum:
    """Return the spectrum of every convolution of a network; the network is left as it is.

    Two-dimensional convolutions are measured: of any kernel, stride, dilation and number of groups. Other
    kinds are listed with the reason and without figures. Of tensors without a network every
    four-dimensional one named `weight` is read as such a convolution, its stride unknown and its dilation
    taken to be 1; a file that names one of our architectures is read as that network.

    Args:
        model: A network, a state dict, or the path of a checkpoint or Run folder.
        cutoff: Radius between low and high in (0, 1/2], cycles per pixel.
        fold_batch_norm: Multiply each filter by what the batch norm behind it, in evaluation mode, does to
            its scale. That is the one registered right after the convolution in the same parent, of as
            many features. It changes who is dead, and `low_energy`; each filter's own share is the same.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No convolution, weights that are not finite real floating-point numbers, a cutoff
            outside of its range, or batch norms to be folded without a network that says where they are.

    >>> spectrum = analyze({"conv1.weight": torch.ones(8, 3, 3, 3)})
    >>> round(spectrum["conv1"].low_energy, 3), spectrum["conv1"].low_share
    (0.895, 1.0)
    """
    check_cutoff(cutoff)
    source = _opened(Path(model)) if isinstance(model, str | os.PathLike) else model
    if isinstance(source, nn.Module):
        with torch.no_grad():
            found = _of_network(source, fold_batch_norm)
    elif isinstance(source, Mapping):
        found = _of_tensors(source, fold_batch_norm)
    else:
        raise ValueError(f"analyze needs a network, a state dict or a path, got a {type(model).__name__}")
    if not found:
        raise ValueError(
            "there is no convolution here: expected torch.nn.Conv2d layers, or four-dimensional tensors "
            "named `weight`"
        )
    return ModelSpectrum(cutoff=cutoff, layers=tuple(_measure(layer, cutoff) for layer in found))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Layer:
    """A layer as it was found."""

    name: str
    shape: tuple[int, ...]
    weight: Float[Tensor, "f c *k"]
    """Filters first, finite, float64, on the CPU."""
    stride: tuple[int, int] | None = None
    dilation: tuple[int, int] = (1, 1)
    batch_norm: str | None = None
    measured: bool = True
    notes: tuple[str, ...] = ()


def _opened(path: Path) -> nn.Module | Mapping[str, Tensor]:
    """Return the network that a file says it is, else its tensors."""
    weights, metadata = read_checkpoint(path)
    return load_model(path) if metadata.get("arch") in ARCHITECTURES else weights


def _of_network(model: nn.Module, fold: bool) -> list[_Layer]:
    norms = _batch_norms(model) if fold else {}
    found = []
    for path, module in model.named_modules():
        name = path or "weight"
        weight = getattr(module, "weight", None)
        is_convolution = isinstance(module, nn.modules.conv._ConvNd)
        # A weight of this many axes may be a convolution of any class; layer norms have three as well.
        if not isinstance(weight, Tensor) or not (is_convolution or weight.ndim in (4, 5)):
            continue
        if isinstance(weight, nn.parameter.UninitializedParameter):
            raise ValueError(f"layer {name} is not initialised yet; run the network once on an image")
        if not isinstance(module, nn.Conv2d):
            found.append(_refused(name, module, weight))
            continue
        kernels, norm, notes = _checked(name, weight), None, _notes(module)
        if fold:
            scale, norm, note = _scale(norms.get(path), module.out_channels)
            notes += note
            if scale is not None:
                kernels = _checked(f"{name} with {norm} folded in", kernels * scale[:, None, None, None])
        found.append(
            _Layer(
                name=name,
                shape=tuple(weight.shape),
                weight=kernels,
                stride=(int(module.stride[0]), int(module.stride[1])),
                dilation=(int(module.dilation[0]), int(module.dilation[1])),
                batch_norm=norm,
                notes=notes,
            )
        )
    return found


def _refused(name: str, module: nn.Module, weight: Tensor) -> _Layer:
    kernels = _checked(name, weight)
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        # Inputs, then the outputs of one group: bring the outputs together and in front.
        parts = kernels.reshape(module.groups, -1, *kernels.shape[1:]).transpose(1, 2)
        kernels = parts.flatten(0, 1)
    note = f"{type(module).__name__}: not measured"
    return _Layer(name=name, shape=tuple(weight.shape), weight=kernels, measured=False, notes=(note,))


def _notes(module: nn.Conv2d) -> tuple[str, ...]:
    notes = []
    # `Conv2d` and everything that only swaps its class for a parametrization run this very function.
    if type(module).forward is not nn.Conv2d.forward:
        notes.append(f"{type(module).__name__} has a forward of its own: the stored weight is measured")
    if "weight" not in module._parameters and not nn.utils.parametrize.is_parametrized(module, "weight"):
        notes.append("its weight is set by a hook: as of the last forward pass")
    return tuple(notes)


def _batch_norms(model: nn.Module) -> dict[str, tuple[str, nn.Module]]:
    """Return, for each module's name, the module registered right after it in the same parent."""
    following = {}
    for path, parent in model.named_modules():
        prefix = f"{path}." if path else ""
        children = list(parent.named_children())
        for (name, _), (after, module) in pairwise(children):
            following[prefix + name] = (prefix + after, module)
    return following


def _scale(
    following: tuple[str, nn.Module] | None, filters: int
) -> tuple[Float[Tensor, " f"] | None, str | None, tuple[str, ...]]:
    """Return what a batch norm multiplies each filter by, its name, and what to say where there is none."""
    if following is None:
        return None, None, ("no batch norm follows",)
    name, module = following
    if not isinstance(module, nn.modules.batchnorm._BatchNorm) or module.num_features != filters:
        return None, None, ("no batch norm follows",)
    if module.running_var is None:
        return None, None, (f"{name} keeps no running variance: not folded",)
    scale: Tensor = (module.running_var.detach().cpu().double() + module.eps).rsqrt()
    if module.weight is not None:
        scale = scale * module.weight.detach().cpu().double()
    return scale, name, ()


def _of_tensors(tensors: Mapping[str, Tensor], fold: bool) -> list[_Layer]:
    if fold:
        raise ValueError(
            "fold_batch_norm needs the network, since names do not say which batch norm follows which "
            "convolution; pass the network, or a checkpoint together with its architecture"
        )
    found: dict[str, _Layer] = {}
    for key, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.ndim not in (3, 4, 5):
            continue
        path, _, last = key.rpartition(".")
        if last == "weight":
            kernels = _checked(path or key, tensor)
            flat = tensor.ndim == 4
            notes: tuple[str, ...] = () if flat else (f"a weight of {tensor.ndim} axes: not measured",)
        elif last in _HIDDEN_WEIGHTS or path.endswith("parametrizations.weight"):
            path = path.removesuffix("parametrizations.weight").removesuffix(".")
            kernels, flat = _checked(path or key, tensor), False
            notes = ("weight not stored as such (parametrised): bake it, or pass the network",)
        else:
            continue
        name = path or "weight"
        # A weight may be kept in several parts, of which the largest has its shape.
        if name not in found or found[name].weight.numel() < tensor.numel():
            found[name] = _Layer(
                name=name,
                shape=tuple(tensor.shape),
                weight=kernels,
                measured=flat,
                notes=notes,
            )
    return list(found.values())


def _checked(name: str, weight: Tensor) -> Float[Tensor, "f c *k"]:
    """Return a layer's weight in float64 on the CPU, or raise ValueError with its name."""
    if weight.is_meta:
        raise ValueError(f"layer {name} holds no numbers (it is on the meta device); load its weights first")
    if not weight.is_floating_point():
        raise ValueError(f"layer {name} needs real floating-point weights, got {weight.dtype}")
    if weight.numel() == 0:
        raise ValueError(f"layer {name} has no weights: its shape is {tuple(weight.shape)}")
    kernels: Tensor = weight.detach().cpu().to(torch.float64)
    bad = kernels.numel() - int(kernels.isfinite().sum())
    if bad:
        raise ValueError(f"layer {name} holds {bad} weights that are NaN or infinite, of {kernels.numel()}")
    return kernels


def _measure(layer: _Layer, cutoff: float) -> LayerSpectrum:
    # Scaled to 1, so that no square vanishes or overflows; every figure is free of scale.
    weight = layer.weight / layer.weight.abs().amax().clamp_min(torch.finfo(torch.float64).tiny)
    energy = weight.square().flatten(1).sum(dim=1)
    live = (energy >= _DEAD * energy.amax()) & (energy > 0)
    facts: dict[str, Any] = {
        "name": layer.name,
        "shape": layer.shape,
        "filters": len(weight),
        "live": live,
        "cutoff": cutoff,
        "stride": layer.stride,
        "batch_norm": layer.batch_norm,
        "radii": torch.tensor(_RADII, dtype=torch.float64, device="cpu"),
    }
    notes = list(layer.notes)
    if layer.measured and weight.shape[2:].numel() == 1:
        notes.insert(0, "1x1: no spatial spectrum")
    elif layer.measured:
        facts |= _spectral(weight, live, layer, cutoff)
        if layer.stride is None:
            notes.append("stride unknown, dilation taken to be 1")
    if not live.any():
        notes.insert(0, "all filters are dead")
    return LayerSpectrum(**facts, note="; ".join(notes))


def _spectral(
    weight: Float[Tensor, "f c kh kw"], live: Bool[Tensor, " f"], layer: _Layer, cutoff: float
) -> dict[str, Any]:
    _, channels, kh, kw = weight.shape
    lagged = autocorrelation(weight)
    energy = lagged[:, lagged.shape[1] // 2]
    # Filters of zeros: no share exists, and the line is what a white one would have.
    share = lagged @ _kernels(kh, kw, layer.dilation, cutoff)
    some = energy > 0
    inside = torch.where(some, share[:, 0] / energy, line(cutoff))
    facts: dict[str, Any] = {"filters_low_energy": inside}
    count = int(live.sum())
    if count == 0:
        return facts
    relative = share[live] / energy[live, None]
    mean = relative.mean(dim=0)
    steps = len(_RADII)
    probability = chance_of_low(kh, kw, channels, cutoff=cutoff, dilation=layer.dilation)
    facts |= {
        "low_share": float(is_low(inside[live], cutoff).double().mean()),
        "low_share_chance": chance_interval(count, probability),
        "low_energy": float(share[:, 0].sum() / energy.sum()),
        "mean_low_energy": float(mean[0]),
        "centroid": float(mean[1]),
        "curve": mean[2 : 2 + steps],
        "profile": mean[2 + steps :],
    }
    if layer.stride is not None:
        kept = lagged[live] @ unaliased_kernel(kh, kw, layer.stride, layer.dilation) / energy[live]
        # A stride of 1 keeps everything, to the last bit but rounding.
        facts["aliased_energy"] = max(0.0, float(1 - kept.mean())) if max(layer.stride) > 1 else 0.0
    return facts


@lru_cache(maxsize=64)
def _kernels(kh: int, kw: int, dilation: tuple[int, int], cutoff: float) -> Float[Tensor, "lags m"]:
    """Return, as columns, what a filter's autocorrelation is weighted with: cutoff, centroid, two curves."""
    with torch.inference_mode(False):
        return torch.stack(
            [
                disc_kernel(kh, kw, dilation, cutoff),
                centroid_kernel(kh, kw, dilation),
                *(disc_kernel(kh, kw, dilation, radius) for radius in _RADII),
                *(circle_kernel(kh, kw, dilation, radius) for radius in _RADII),
            ],
            dim=1,
        )


def _listed(values: Tensor | None) -> list[float] | None:
    return None if values is None else [float(value) for value in values]


_COLUMNS = (
    "layer",
    "shape",
    "dead",
    "low share",
    "by chance",
    "low energy",
    "mean low energy",
    "centroid",
    "aliased",
    "note",
)
_LEFT_ALIGNED = ("layer", "shape", "note")


def _table(layers: Sequence[LayerSpectrum]) -> str:
    """Return the layers as lines of aligned columns.

    A column in which nobody has anything to say is left out, and a note that all share stands below.
    """
    shared = layers[0].note if len({layer.note for layer in layers}) == 1 else ""
    rows = [_row(layer, note="" if shared else layer.note) for layer in layers]
    kept = [column for column in range(len(_COLUMNS)) if any(row[column] not in ("", "-") for row in rows)]
    lines = []
    widths = [max(len(row[column]) for row in [_COLUMNS, *rows]) for column in range(len(_COLUMNS))]
    for row in [_COLUMNS, *rows]:
        cells = [
            row[column].ljust(widths[column])
            if _COLUMNS[column] in _LEFT_ALIGNED
            else row[column].rjust(widths[column])
            for column in kept
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, *([shared] if shared else [])])


def _row(layer: LayerSpectrum, *, note: str) -> tuple[str, ...]:
    chance = layer.low_share_chance
    return (
        layer.name,
        "x".join(str(side) for side in layer.shape),
        str(layer.dead),
        _figure(layer.low_share),
        "-" if chance is None else f"{chance[0]:.2f} to {chance[1]:.2f}",
        _figure(layer.low_energy),
        _figure(layer.mean_low_energy),
        _figure(layer.centroid),
        _figure(layer.aliased_energy),
        note,
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
