"""analyze: every convolution of a network, measured."""

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..datasets import ImageSet, load_data
from ..models import load_model, read_checkpoint, trusted_arch
from .bands import EQUAL_AREA, check_cutoff, cutoff_of
from .figures import FIGURES, LayerSpectrum, ModelSpectrum, color_of
from .integrals import ball_kernel, direction_kernel, sphere_kernel
from .layers import Layer, layers_of_network, layers_of_tensors
from .measured import Measured
from .moments import as_floats
from .response import images_of, response_of_network, response_of_tensors
from .sensitivity import sensitivity_of

RADII = tuple(step / 100 for step in range(1, 51))
_ANGLES = tuple(map(float, range(0, 180, 15)))


def analyze(
    model: nn.Module | Mapping[str, Tensor] | str | os.PathLike[str],
    *,
    cutoff: float = EQUAL_AREA,
    fold_batch_norm: bool = False,
    data: ImageSet | Tensor | str | Iterable[Any] | Dataset[Any] | None = None,
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
        data: Images, as an `ImageSet`, as NCHW bytes or as NCHW floats in [0, 1], as a loader's batches or
            items of them, or as a text that `load_data` takes, for `response_low_energy`. A network is run on
            them, on the device it is on; of tensors without one, only layers that read as many channels as an
            image has are taken to see the images.

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
    if isinstance(data, str):
        data = load_data(data)
    data = None if data is None else images_of(data)
    source = _opened(Path(model)) if isinstance(model, str | os.PathLike) else model
    if isinstance(source, nn.Module):
        few = None if data is None else as_floats(data[:2])
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
    responses: Mapping[str, Tensor] = {}
    if data is not None:
        respond = response_of_network if isinstance(source, nn.Module) else response_of_tensors
        responses = respond(source, found, data, cutoff)  # type: ignore[arg-type]
    layers = tuple(measure(layer, cutoff, response=responses.get(layer.name)) for layer in found)
    return ModelSpectrum(cutoff=cutoff, layers=layers)


def measure(
    layer: Layer, cutoff: float, *, chance: bool = True, response: Float[Tensor, " f"] | None = None
) -> LayerSpectrum:
    """Return the spectrum of one layer; `chance` and `response` are those of `Measured`."""
    dimensions = len(layer.size)
    measured = Measured(layer, cutoff_of(cutoff, dimensions), chance=chance, response=response)
    notes, spectral = list(layer.notes), dict[str, Any]()
    if layer.measured and math.prod(layer.size) == 1:
        notes.insert(0, f"{'x'.join('1' * max(2, dimensions))}: no spatial spectrum")
    elif layer.measured:
        spectral = _spectral(measured)
        if layer.stride is None:
            notes.append("stride unknown, dilation taken to be 1")
    if not measured.live.any():
        notes.insert(0, "all filters are dead")
    return LayerSpectrum(
        name=layer.name,
        shape=layer.shape,
        filters=len(layer.weight),
        live=measured.live,
        cutoff=measured.cutoff,
        stride=layer.stride,
        batch_norm=layer.batch_norm,
        radii=torch.tensor(RADII, dtype=torch.float64, device="cpu"),
        note="; ".join(notes),
        **spectral,
    )


def _opened(path: Path) -> nn.Module | Mapping[str, Tensor]:
    """Return the network that a file says it is, else its tensors."""
    weights, metadata = read_checkpoint(path)
    return weights if trusted_arch(metadata) is None else load_model(path)


def _spectral(layer: Measured) -> dict[str, Any]:
    found = {name: figure.of(layer) for name, figure in FIGURES.items()}
    # What images tell stands behind what the weights tell, as it may be missing.
    each = sorted(found, key=lambda name: FIGURES[name].needs_data)
    facts: dict[str, Any] = {
        "figures": {name: whole for name, (whole, _) in found.items()},
        "each": {name: found[name][1] for name in each if found[name][1] is not None},
    }
    is_planar = len(layer.layer.size) == 2
    if is_planar:
        facts["angles"] = torch.tensor(_ANGLES, dtype=torch.float64, device="cpu")
    if layer.live.any():
        facts |= {
            "colour": color_of(layer),
            "sensitivity": sensitivity_of(layer) if layer.chance else None,
            "curve": layer.curve(ball_kernel, RADII),
            "profile": layer.curve(sphere_kernel, RADII),
            "orientation": layer.curve(direction_kernel, _ANGLES) if is_planar else None,
        }
    return facts
