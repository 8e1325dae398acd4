"""The convolutions of a network or of a heap of tensors: which there are, and what their filters are."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ..models import Convolution, convolutions, plainly, weight_of
from ..types import FloatImages
from .integrals import Sides

TAPS = 2601
"""Most values of a kernel that is measured, 51 x 51; memory grows with their square."""

# How old and new weight normalization, pruning and parametrizations call what they compute a weight from.
_HIDDEN_WEIGHTS = ("weight_v", "weight_orig")
# What a kernel's own tensor is called: by torch, by Caffe2 and others (`conv1_w`), and by Keras and Flax,
# who put the spatial axes first.
_NAMES = ("weight", "w")
_SPATIAL_FIRST = ("kernel", "depthwise_kernel")
# What trainers, compilers and `Sequential` put in front of the names of a whole network.
_WRAPPERS = ("module", "model", "net", "network", "backbone", "encoder")
_KIND = {1: "one-dimensional", 3: "three-dimensional"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """A convolution as it was found."""

    name: str
    """Its name in the network; `weight` for a bare convolution."""
    shape: tuple[int, ...]
    """Shape of its weight as it is stored."""
    weight: Float[Tensor, "f c *k"]
    """Filters first, then the channels that one filter sees; on the CPU, checked, in its own precision."""
    stride: Sides | None = None
    """Pixels between outputs (of a transposed one: between inputs); None where it is not known."""
    dilation: Sides = ()
    """Pixels between taps."""
    transposed: bool = False
    """Whether frequencies are those of its output."""
    groups: int = 1
    """Number of groups of channels."""
    batch_norm: str | None = None
    """Name of the batch norm that was folded in."""
    measured: bool = True
    """Whether its spectrum can be told."""
    notes: tuple[str, ...] = ()
    """What a reader must know of it."""

    def __post_init__(self) -> None:
        if self.measured and math.prod(self.size) > TAPS:
            sides = "x".join(map(str, self.size))
            note = f"kernel of {sides}: not measured, more than {TAPS:,} values"
            object.__setattr__(self, "measured", False)
            object.__setattr__(self, "notes", (*self.notes, note))

    @property
    def size(self) -> Sides:
        """Sides of the kernel."""
        return tuple(self.weight.shape[2:])


def layers_of_network(
    model: nn.Module, *, fold_batch_norm: bool, images: FloatImages | None = None
) -> list[Layer]:
    """Return every convolution of a network, in the order of registration; the network is left as it is.

    With `images`, batch norms are found by running the network; see `models.convolutions`.
    """
    found = []
    plain = plainly(path for path, _ in model.named_modules())
    for path, module in model.named_modules():
        name = plain(path) or "weight"
        if isinstance(module, _ConvNd):
            found.append(layer_of(module, name))
            continue
        weight = weight_of(module)
        if isinstance(weight, Tensor) and weight.ndim in (4, 5):
            # Perhaps a convolution of another class; three axes belong to layer norms as well.
            notes, shape = (f"{type(module).__name__}: not measured",), tuple(weight.shape)
            kernels = checked(name, _sizes(weight))
            found.append(Layer(name=name, shape=shape, weight=kernels, measured=False, notes=notes))
    if fold_batch_norm:
        norms = {entry.name: entry for entry in convolutions(model, images)}
        found = [_folded(layer, norms.get(layer.name)) if layer.measured else layer for layer in found]
    return found


def layer_of(module: _ConvNd, name: str) -> Layer:
    """Return a convolution as a layer, as it is in evaluation mode; it is not changed.

    Raises:
        ValueError: It is not initialized, or has weights that `checked` refuses.
    """
    weight = weight_of(module)
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise ValueError(f"layer {name} is not initialized yet; run the network once on an image")
    return Layer(
        name=name,
        shape=tuple(weight.shape),
        weight=_filters_first(module, checked(name, weight)),
        stride=tuple(int(step) for step in module.stride),
        dilation=tuple(int(step) for step in module.dilation),
        transposed=isinstance(module, _ConvTransposeNd),
        groups=module.groups,
        notes=_notes(module),
    )


def _folded(layer: Layer, entry: Convolution | None) -> Layer:
    """Return a layer with its filters multiplied by the batch norm's scale, or with the reason why not."""
    scale, norm, note = entry.scale() if entry else (None, None, "it does not run on these images")
    kernels = layer.weight
    if scale is not None:
        scaled = kernels.double() * scale.reshape(-1, *[1] * (kernels.ndim - 1))
        kernels = checked(f"{layer.name} with {norm} folded in", scaled)
    return replace(layer, weight=kernels, batch_norm=norm, notes=(*layer.notes, note))


def layers_of_tensors(tensors: Mapping[str, Tensor]) -> list[Layer]:
    """Return the tensors that are named like a weight and have the axes of a convolution's."""
    found: dict[str, Layer] = {}
    plain = plainly(tensors)
    wrapping = _wrapping({plain(key): tensor for key, tensor in tensors.items()})
    for key, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.ndim not in (3, 4, 5):
            continue
        path, last = _split(plain(key).removeprefix(wrapping))
        facts: dict[str, Any] = {"dilation": (1,) * (tensor.ndim - 2)}
        if last in _NAMES:
            kind = _KIND.get(tensor.ndim - 2)
            facts["notes"] = (f"read as a {kind} convolution",) if kind else ()
        elif last in _SPATIAL_FIRST:
            facts["notes"] = ("read as stored by Keras and Flax, spatial axes first",)
        elif last in _HIDDEN_WEIGHTS or path.endswith("parametrizations.weight"):
            path = path.removesuffix("parametrizations.weight").removesuffix(".")
            note = "weight not stored as such (parametrized): bake it, or pass the network"
            facts = {"measured": False, "notes": (note,)}
        else:
            continue
        name = path or "weight"
        weight = checked(name, tensor)
        if last in _SPATIAL_FIRST:
            axes = [-1, -2] if last == "kernel" else [-2, -1]
            weight = weight.permute(*axes, *range(tensor.ndim - 2))
            if last == "depthwise_kernel":
                # Inputs and multiples of each: a filter sees one channel.
                weight = weight.flatten(0, 1)[:, None]
        # A weight may be kept in several parts, of which the largest has its shape.
        if name not in found or found[name].weight.numel() < weight.numel():
            found[name] = Layer(name=name, shape=tuple(tensor.shape), weight=weight, **facts)
    return list(found.values())


def _wrapping(tensors: Mapping[str, Tensor]) -> str:
    """Return the chain of wrappers that the names of all convolutions begin with, such as `model.net.`."""
    names = [key for key, tensor in tensors.items() if isinstance(tensor, Tensor) and tensor.ndim > 3]
    chain = ""
    while names:
        first = names[0].removeprefix(chain).partition(".")[0]
        rests = [name.removeprefix(f"{chain}{first}.") for name in names]
        alike = all(len(rest) < len(name) - len(chain) for rest, name in zip(rests, names, strict=True))
        # A layer keeps its own name, and the number of a block of a sequence is no wrapper.
        inner = all("." in rest and not (first.isdigit() and rest[0].isdigit()) for rest in rests)
        if not (alike and inner and (first in _WRAPPERS or first.isdigit())):
            break
        chain += f"{first}."
    return chain


def _filters_first(module: _ConvNd, kernels: Float[Tensor, "a b *k"]) -> Float[Tensor, "f c *k"]:
    """Return a convolution's kernels, which a transposed one keeps inputs first, with its filters first."""
    if not isinstance(module, _ConvTransposeNd):
        return kernels
    # Inputs, then the outputs of one group: bring the outputs together and in front. What one output is made
    # of is its filter, and a transposed convolution applies it turned around, which no power spectrum sees.
    parts = kernels.reshape(module.groups, -1, *kernels.shape[1:]).transpose(1, 2)
    return parts.flatten(0, 1)


def _sizes(weight: Tensor) -> Tensor:
    """Return weights that are not measured as real numbers of their sizes, which say what is dead."""
    if weight.is_quantized:
        return weight.dequantize()
    sizes = weight.abs() if weight.is_complex() else weight
    return sizes if sizes.is_floating_point() else sizes.float()


def checked(name: str, weight: Tensor) -> Float[Tensor, "f c *k"]:
    """Return a layer's weight on the CPU in float32 or float64, or raise ValueError with its name."""
    if weight.is_meta:
        raise ValueError(f"layer {name} holds no numbers (it is on the meta device); load its weights first")
    if weight.is_quantized or not weight.is_floating_point():
        raise ValueError(
            f"layer {name} needs real floating-point weights, got {weight.dtype}; "
            "convert them (quantized ones with dequantize) first"
        )
    if weight.numel() == 0:
        raise ValueError(f"layer {name} has no weights: its shape is {tuple(weight.shape)}")
    kernels: Tensor = weight.detach().cpu()
    if kernels.dtype not in (torch.float32, torch.float64):
        kernels = kernels.float()
    # The sum is finite where all are, unless it overflows: a second look is for those cases alone.
    if not bool(kernels.sum().isfinite()):
        bad = kernels.numel() - int(kernels.isfinite().sum())
        if bad:
            raise ValueError(
                f"layer {name} holds {bad} weights that are NaN or infinite, of {kernels.numel()}"
            )
    return kernels


def _split(key: str) -> tuple[str, str]:
    """Return a tensor's layer and its own name: `conv1.weight`, `conv1/kernel:0` and `conv1_w` have both."""
    whole = key.removesuffix(":0").replace("/", ".")
    path, _, last = whole.rpartition(".")
    if last not in (*_NAMES, *_SPATIAL_FIRST, *_HIDDEN_WEIGHTS):
        for name in _NAMES:
            if last.endswith(f"_{name}"):
                return whole.removesuffix(f"_{name}"), name
    return path, last


def _notes(module: _ConvNd) -> tuple[str, ...]:
    notes = []
    if isinstance(module, _ConvTransposeNd):
        notes.append(f"{type(module).__name__}: frequencies of its output")
    kind = _KIND.get(len(module.kernel_size))
    if kind and not isinstance(module, _ConvTransposeNd):
        notes.append(f"{type(module).__name__}: {kind}")
    # The plain classes and everything that only swaps its class for a parametrization run this very function.
    plain: Any = next(kind for kind in type(module).__mro__ if kind.__module__ == nn.modules.conv.__name__)
    kind_of: Any = type(module)
    if kind_of.forward is not plain.forward:
        notes.append(f"{type(module).__name__} has a forward of its own: the stored weight is measured")
    if "weight" not in module._parameters and not nn.utils.parametrize.is_parametrized(module, "weight"):
        notes.append("its weight is set by a hook: as of the last forward pass")
    return tuple(notes)
