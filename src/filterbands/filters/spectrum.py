"""analyze: every convolution of a network, measured."""

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..datasets import ImageSet
from ..models import ARCHITECTURES, load_model, read_checkpoint
from .bands import EQUAL_AREA, check_cutoff, cutoff_of, is_low, line
from .chance import chance_centroid, chance_interval, chance_moments, chance_of_low
from .figures import Colour, LayerSpectrum, ModelSpectrum, Reading, Sensitivity
from .integrals import (
    Sides,
    autocorrelation,
    ball_kernel,
    centroid_kernel,
    constant,
    direction_kernel,
    sphere_kernel,
    unaliased_kernel,
    volume,
    wedge_kernel,
)
from .layers import Layer, layers_of_network, layers_of_tensors, live_filters
from .moments import as_floats
from .response import images_of, response_of_network, response_of_tensors

__all__ = ["LayerSpectrum", "ModelSpectrum", "analyze", "measure"]

_RADII = tuple(step / 100 for step in range(1, 51))
_ANGLES = tuple(range(0, 180, 15))
# Horizontal, vertical and diagonal frequencies, in degrees.
_WEDGES = (((-22.5, 22.5),), ((67.5, 112.5),), ((22.5, 67.5), (112.5, 157.5)))
# The lines of the three definitions that are compared: shares of the cube of frequencies.
_LINES = {1: (0.25, 0.5, 0.75), 2: (0.25, 0.5, 0.75), 3: (0.125, 0.25, 0.5)}
# Two-sided, 95 %.
_QUANTILE = 1.96


def analyze(
    model: nn.Module | Mapping[str, Tensor] | str | os.PathLike[str],
    *,
    cutoff: float = EQUAL_AREA,
    fold_batch_norm: bool = False,
    data: ImageSet | Tensor | None = None,
) -> ModelSpectrum:
    """Return the spectrum of every convolution of a network; the network is left as it is.

    One-, two- and three-dimensional convolutions are measured, transposed ones too: of any kernel, stride,
    dilation and number of groups. Other classes with such weights are listed with the reason and without
    figures. Of tensors without a network every one of three to five axes that is named like a weight is read
    as a convolution, its stride unknown and its dilation taken to be 1; a file that names one of our
    architectures is read as that network.

    Args:
        model: A network, a state dict, or the path of a checkpoint, a Run or a Hugging Face folder.
        cutoff: Radius between low and high in (0, 1/2], cycles per pixel. The default is the disc of half of
            all frequencies, for kernels that are not planar the interval or ball of half of theirs.
        fold_batch_norm: Multiply each filter by what the batch norm behind it, in evaluation mode, does to
            its scale. With data, that is the batch norm that is given the convolution's output; without,
            the next leaf module registered, of as many features. The layer's note says which of the two
            was used. It changes who is dead, and `low_energy`; each filter's own share is the same.
        data: Images, as an `ImageSet`, as NCHW bytes or as NCHW floats in [0, 1], for
            `response_low_energy`. A network is run on them, on the device it is on; of tensors without
            one, only layers that read as many channels as an image has are taken to see the images.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No convolution, weights that are not finite real floating-point numbers, a cutoff
            outside of its range, batch norms to be folded without a network that says where they are, or
            images that the network cannot take.

    >>> spectrum = analyze({"conv1.weight": torch.ones(8, 3, 3, 3)})
    >>> round(spectrum["conv1"].low_energy, 3), spectrum["conv1"].low_share
    (0.895, 1.0)
    """
    check_cutoff(cutoff)
    source = _opened(Path(model)) if isinstance(model, str | os.PathLike) else model
    if isinstance(source, nn.Module):
        few = None if data is None else as_floats(images_of(data)[:2])
        found = layers_of_network(source, fold_batch_norm=fold_batch_norm, images=few)
    elif isinstance(source, Mapping):
        if fold_batch_norm:
            raise ValueError(
                "fold_batch_norm needs the network, since names do not say which batch norm follows which "
                "convolution; pass the network, or a checkpoint together with its architecture"
            )
        found = layers_of_tensors(source)
    else:
        raise ValueError(
            f"analyze needs a network, a state dict or a path, got a {type(model).__name__}"
            f"{'; trajectory reads several' if isinstance(model, list | tuple) else ''}"
        )
    if not found:
        raise ValueError(
            "there is no convolution here: expected torch.nn convolutions, or tensors of three to five axes "
            "named `weight`"
        )
    layers = tuple(measure(layer, cutoff) for layer in found)
    if data is not None:
        respond = response_of_network if isinstance(source, nn.Module) else response_of_tensors
        shares = respond(source, found, data, cutoff)  # type: ignore[arg-type]
        layers = tuple(_with_response(layer, shares.get(layer.name)) for layer in layers)
    return ModelSpectrum(cutoff=cutoff, layers=layers)


def measure(layer: Layer, cutoff: float, *, chance: bool = True) -> LayerSpectrum:
    """Return the spectrum of one layer.

    Args:
        layer: As it was found.
        cutoff: Radius between low and high, cycles per pixel.
        chance: Say what chance gives, which holds for filters that are drawn as such.
    """
    # Scaled to 1, so that no square vanishes or overflows; every figure is free of scale.
    largest = layer.weight.abs().amax().double().clamp_min(torch.finfo(torch.float64).tiny)
    weight = layer.weight.double() / largest
    energy = weight.square().flatten(1).sum(dim=1)
    live = live_filters(weight) & (energy > 0)
    dimensions = len(layer.size)
    facts: dict[str, Any] = {
        "name": layer.name,
        "shape": layer.shape,
        "filters": len(weight),
        "live": live,
        "cutoff": cutoff_of(cutoff, dimensions),
        "stride": layer.stride,
        "batch_norm": layer.batch_norm,
        "radii": torch.tensor(_RADII, dtype=torch.float64, device="cpu"),
    }
    notes = list(layer.notes)
    if layer.measured and math.prod(layer.size) == 1:
        notes.insert(0, f"{'x'.join('1' * max(2, dimensions))}: no spatial spectrum")
    elif layer.measured:
        facts |= _spectral(weight, energy, live, layer, facts["cutoff"], chance)
        if layer.stride is None:
            notes.append("stride unknown, dilation taken to be 1")
    if not live.any():
        notes.insert(0, "all filters are dead")
    return LayerSpectrum(**facts, note="; ".join(notes))


def _opened(path: Path) -> nn.Module | Mapping[str, Tensor]:
    """Return the network that a file says it is, else its tensors."""
    weights, metadata = read_checkpoint(path)
    return load_model(path) if metadata.get("arch") in ARCHITECTURES else weights


def _with_response(layer: LayerSpectrum, share: Tensor | None) -> LayerSpectrum:
    if share is None or layer.mean_low_energy is None:
        return layer
    known = share[layer.live & share.isfinite()]
    mean = float(known.mean()) if len(known) else None
    return replace(layer, response_low_energy=mean, filters_response_low_energy=share)


def _spectral(
    weight: Float[Tensor, "f c *k"],
    energy: Float[Tensor, " f"],
    live: Bool[Tensor, " f"],
    layer: Layer,
    cutoff: float,
    chance: bool,
) -> dict[str, Any]:
    size, dilation, dimensions = layer.size, layer.dilation, len(layer.size)
    white = line(cutoff, dimensions)
    lagged = autocorrelation(weight)
    columns = _columns(size, dilation, cutoff)
    some = energy > 0
    share = (lagged @ columns) / energy.clamp_min(torch.finfo(torch.float64).tiny)[:, None]
    # Filters of zeros have no spectrum, and get what a white one has, whose mean autocorrelation is 1 at
    # distance 0 and nothing elsewhere.
    share = torch.where(some[:, None], share, columns[len(columns) // 2])
    count, steps = int(live.sum()), len(_RADII)
    inside, centroid, leak = share[:, 0], share[:, 1], share[:, 2]
    facts: dict[str, Any] = {
        "filters_low_energy": inside,
        "filters_centroid": centroid,
        "filters_zero_leak": leak,
    }
    if dimensions == 2:
        wedges = share[:, 6 + 2 * steps : 9 + 2 * steps]
        facts["filters_directions"] = wedges / wedges.sum(dim=1, keepdim=True)
        facts["angles"] = torch.tensor(_ANGLES, dtype=torch.float64, device="cpu")
    if count == 0:
        return facts
    mean = share[live].mean(dim=0)
    facts |= {
        "low_share": float(is_low(inside[live], white).double().mean()),
        "low_energy": float((inside * energy).sum() / energy.sum()),
        "mean_low_energy": float(mean[0]),
        "centroid": float(mean[1]),
        "zero_leak": float(mean[2]),
        "curve": mean[6 : 6 + steps],
        "profile": mean[6 + steps : 6 + 2 * steps],
    }
    if chance:
        probability = chance_of_low(size, weight.shape[1], cutoff=cutoff, dilation=dilation)
        facts["low_share_chance"] = chance_interval(count, probability)
        facts["sensitivity"] = _sensitivity(share, energy, live, layer)
    if dimensions == 2:
        directions = facts["filters_directions"][live].mean(dim=0).tolist()
        names = ("horizontal_energy", "vertical_energy", "diagonal_energy")
        facts |= dict(zip(names, directions, strict=True))
        facts["orientation"] = mean[9 + 2 * steps :]
        if weight.shape[1] == 3 and layer.groups == 1 and not layer.transposed:
            facts["colour"] = _colour(weight[live], ball_kernel(size, dilation, cutoff))
    if layer.stride is not None:
        kept = lagged[live] @ unaliased_kernel(size, dilation, layer.stride) / energy[live]
        # A stride of 1 keeps everything, to the last bit but rounding.
        facts["aliased_energy"] = max(0.0, float(1 - kept.mean())) if max(layer.stride) > 1 else 0.0
    return facts


@constant
def _columns(size: Sides, dilation: Sides, cutoff: float) -> Float[Tensor, "lags m"]:
    """Return, as columns, what a filter's autocorrelation is weighted with.

    They are: cutoff, centroid, leak at 0, the three cutoffs of the definitions, cumulative curve, radial
    profile; for planar kernels the three wedges and the orientations.
    """
    dimensions = len(size)
    lags = math.prod(2 * side - 1 for side in size)
    kernels = [
        ball_kernel(size, dilation, cutoff),
        centroid_kernel(size, dilation),
        torch.full((lags,), 1 / math.prod(size), dtype=torch.float64),
        *(ball_kernel(size, dilation, radius) for radius in _cutoffs(dimensions)),
        *(ball_kernel(size, dilation, radius) for radius in _RADII),
        *(sphere_kernel(size, dilation, radius) for radius in _RADII),
    ]
    if dimensions == 2:
        kernels += [wedge_kernel(size, dilation, wedges) for wedges in _WEDGES]
        kernels += [direction_kernel(size, dilation, float(angle)) for angle in _ANGLES]
    return torch.stack(kernels, dim=1)


def _cutoffs(dimensions: int) -> tuple[float, ...]:
    """Return the radii whose interval, disc or ball has the volumes of `_LINES`."""
    return tuple((part / volume(1.0, dimensions)) ** (1 / dimensions) for part in _LINES[dimensions])


def _sensitivity(
    share: Float[Tensor, "f m"], energy: Float[Tensor, " f"], live: Bool[Tensor, " f"], layer: Layer
) -> Sensitivity:
    size, dilation, channels = layer.size, layer.dilation, layer.weight.shape[1]
    count = int(live.sum())
    readings, counts, means = [], [], []
    for position, cutoff in enumerate(_cutoffs(len(size)), start=3):
        inside, white = share[:, position], line(cutoff, len(size))
        probability = chance_of_low(size, channels, cutoff=cutoff, dilation=dilation)
        reading = Reading(
            cutoff=cutoff,
            line=white,
            low_share=float(is_low(inside[live], white).double().mean()),
            low_share_chance=chance_interval(count, probability),
            low_energy=float((inside * energy).sum() / energy.sum()),
            mean_low_energy=float(inside[live].mean()),
        )
        readings.append(reading)
        counts.append((f"count at {cutoff:.3f}", _verdict(reading.low_share, reading.low_share_chance)))
        middle, deviation = chance_moments(size, channels, cutoff=cutoff, dilation=dilation)
        means.append(
            (f"mean at {cutoff:.3f}", _verdict(reading.mean_low_energy, _around(middle, deviation, count)))
        )
    centroid = float(share[live, 1].mean())
    middle, deviation = chance_centroid(size, channels, dilation=dilation)
    # The lower the centroid, the lower the filters.
    turned = _verdict(-centroid, _around(-middle, deviation, count))
    ordered = torch.stack([share[live, 3], share[live, 4], share[live, 5], -share[live, 1]])
    return Sensitivity(
        readings=tuple(readings),
        centroid=centroid,
        rank_correlation=_spearman(ordered) if count >= 3 else None,
        verdicts=(*counts, *means, ("centroid", turned)),
    )


def _around(middle: float, deviation: float, count: int) -> tuple[float, float]:
    half = _QUANTILE * deviation / math.sqrt(count)
    return middle - half, middle + half


def _verdict(value: float, chance: tuple[float, float]) -> str:
    if value > chance[1] + 1e-9:
        return "low"
    return "high" if value < chance[0] - 1e-9 else "like white"


def _spearman(rows: Float[Tensor, "m n"]) -> tuple[tuple[float, ...], ...]:
    """Return the rank correlations of the rows; equal values share their mean rank.

    A row whose values are all equal ranks nothing, and correlates by 0 with all but itself.
    """
    ranks = []
    for row in rows:
        # Rounded, so that filters that are equal but for rounding are equal.
        _, place, counts = torch.unique(row.round(decimals=12), return_inverse=True, return_counts=True)
        middle = counts.cumsum(0).double() - (counts.double() - 1) / 2
        ranks.append(middle[place])
    centred = torch.stack(ranks)
    centred = centred - centred.mean(dim=1, keepdim=True)
    unit = centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-300)
    correlation = (unit @ unit.T).clamp(-1, 1).fill_diagonal_(1.0)
    return tuple(tuple(map(float, row)) for row in correlation)


def _colour(weight: Float[Tensor, "f 3 kh kw"], disc: Float[Tensor, " lags"]) -> Colour:
    """Return the achromatic and the opponent part of live filters, each filter scaled to energy 1."""
    kernels = weight / weight.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    achromatic = kernels.mean(dim=1, keepdim=True).expand_as(kernels)
    figures = []
    for part in (achromatic, kernels - achromatic):
        lagged = autocorrelation(part)
        energy = float(lagged[:, lagged.shape[1] // 2].sum())
        figures.append((energy, float((lagged @ disc).sum()) / energy if energy > 1e-12 else None))
    (grey, grey_low), (colour, colour_low) = figures
    return Colour(
        achromatic_energy=grey / (grey + colour),
        achromatic_low_energy=grey_low,
        opponent_low_energy=colour_low,
    )
