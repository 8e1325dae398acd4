"""The convolutions of a network, the first spatial one, and the batch norms that read their output.

With images, the network is run on two of them. Its convolutions then come in the order of execution, and a
batch norm belongs to a convolution if it is given that convolution's output, unchanged. Without images, the
order is that of registration, and a batch norm belongs to a convolution if it is the next leaf module (of the
same number of features; identities do not count). Each result says which of the two was used.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, pairwise
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..types import FloatImages
from .normalizing import evaluating, place_of

# Modules whose output is that of the last module inside, or their input.
_TRANSPARENT = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity)
# A module inside a network may be called `module`, but nobody's is called `_orig_mod`.
_WRAPPED = re.compile(r"^((_orig_mod|module)(\.|$))+|(?<=\.)_orig_mod\.|\._orig_mod$")


@dataclass(frozen=True, slots=True, eq=False)
class Convolution:
    """A convolution of a network, and the batch norms that read its output."""

    name: str
    """Name in the network, without the prefix of torch.compile; `weight` for a bare layer."""
    layer: _ConvNd
    norms: dict[str, _BatchNorm]
    """Batch norms by name; only execution finds more than one."""
    found_by: str
    """`execution` or `registration`."""
    runs: int = 1
    """How often it runs on one image; 1 where only registration is known."""
    has_other_readers: bool = True
    """Whether its output is also read past these batch norms; True where only registration is known."""

    @property
    def is_spatial(self) -> bool:
        """Whether the kernel is larger than 1x1."""
        return prod(self.layer.kernel_size) > 1

    def scale(self) -> tuple[Float[Tensor, " f"] | None, str | None, str]:
        """Return the factor of the batch norm per filter, its name, and how it was found.

        Factor and name are None unless exactly one batch norm with a running variance reads the output. The
        text then gives the reason.
        """
        if len(self.norms) != 1:
            names = " and ".join(self.norms)
            return None, None, f"{names} read its output: not folded" if names else "no batch norm follows"
        ((name, norm),) = self.norms.items()
        if norm.running_var is None:
            return None, None, f"{name} keeps no running variance: not folded"
        scale: Tensor = (norm.running_var.detach().cpu().double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.detach().cpu().double()
        return scale, name, f"{name} found by {self.found_by}"


def convolutions(model: nn.Module, images: FloatImages | None = None) -> tuple[Convolution, ...]:
    """Return the convolutions of a network, each with the batch norms that read its output.

    Args:
        model: A network; it is not changed.
        images: At least one input image. With images, only convolutions that run are returned.

    Raises:
        ValueError: The network does not accept the images.

    >>> layers = convolutions(nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3)), nn.BatchNorm2d(8)))
    >>> [(layer.name, list(layer.norms), layer.found_by) for layer in layers]
    [('0.0', ['1'], 'registration')]
    """
    return _registered(model) if images is None else _executed(model, images[:2])


def first_layer(
    verb: str, model: nn.Module, images: FloatImages | None = None, *, kind: type[_ConvNd] = nn.Conv2d
) -> Convolution:
    """Return the first convolution larger than 1x1, and the batch norms that read its output.

    Args:
        verb: The name of the caller, for the error.
        model: As for `convolutions`.
        images: As for `convolutions`.
        kind: Class that the convolution must have.

    Raises:
        ValueError: There is none, or the network does not accept the images.

    >>> first_layer("shrink", nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3))).name
    '1'
    """
    for found in convolutions(model, images):
        if isinstance(found.layer, kind) and found.is_spatial:
            return found
    name = "convolution" if kind is _ConvNd else f"torch.nn.{kind.__name__}"
    raise ValueError(f"{verb} needs a network with a {name} larger than 1x1, found none")


def batch_norms(model: nn.Module) -> tuple[_BatchNorm, ...]:
    """Return every batch norm that keeps running statistics, in the order of registration."""
    return tuple(
        norm for norm in model.modules() if isinstance(norm, _BatchNorm) and norm.running_mean is not None
    )


def owners(model: nn.Module, tensor: Tensor) -> list[str]:
    """Return the names under which the modules of a network hold this tensor, or another one of its memory.

    That of a parametrized one is the name that it had before.

    >>> model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))
    >>> model[1].weight = model[0].weight
    >>> owners(model, model[0].weight)
    ['0.weight', '1.weight']
    """
    plain = plainly(path for path, _ in model.named_modules())
    names = (
        f"{plain(path)}.{name}".removeprefix(".")
        for path, module in model.named_modules()
        for name, held in chain(module._parameters.items(), module._buffers.items())
        if held is tensor or (held is not None and _overlap(held, tensor))
    )
    return [re.sub(r"\bparametrizations\.(\w+)\.original$", r"\1", name) for name in names]


def _overlap(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors lie in the same memory, as after `second.data = first.data`."""
    one, two = _span(first), _span(second)
    return first.device == second.device and max(one[0], two[0]) < min(one[1], two[1])


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return the first byte of a tensor and the one after its last; both 0 where it has no plain memory."""
    try:
        start = tensor.data_ptr()
        steps = [
            (side - 1) * stride for side, stride in zip(tensor.shape, tensor.stride(), strict=True) if side
        ]
    # Tensors that are lazy, sparse, or wrap others.
    except (RuntimeError, NotImplementedError, ValueError):
        return 0, 0
    return (start, start + (sum(steps) + 1) * tensor.element_size()) if start and tensor.numel() else (0, 0)


def weight_of(module: nn.Module) -> Any:
    """Return a module's `weight` as it is in evaluation mode; None where it has none.

    A parametrized weight is computed at every read. In training mode, a read may draw random numbers, or be
    a step of its own, as the power iteration of spectral normalization is. Here it leaves no trace.
    """
    if not parametrize.is_parametrized(module, "weight"):
        return getattr(module, "weight", None)
    with evaluating(module):
        return module.weight


def plain_name(path: str) -> str:
    """Return a name without the prefixes of torch.compile, here or inside, and of data parallelism.

    >>> plain_name("module._orig_mod.layer1._orig_mod.conv1.weight")
    'layer1.conv1.weight'
    """
    return _WRAPPED.sub("", path)


def plainly(paths: Iterable[str]) -> Callable[[str], str]:
    """Return `plain_name`, or where that gives two of the paths one name, what keeps `module.` in all.

    >>> plainly(["module.conv1", "module.conv2"])("module.conv1")
    'conv1'
    >>> plainly(["module.conv1", "conv1"])("module.conv1")
    'module.conv1'
    """
    names = [name for name in map(plain_name, set(paths)) if name]
    return plain_name if len(set(names)) == len(names) else _compiled_name


def _compiled_name(path: str) -> str:
    """Return a name without the prefixes of torch.compile alone."""
    return ".".join(part for part in path.split(".") if part != "_orig_mod")


def run_on(model: nn.Module, images: FloatImages) -> Any:
    """Return what a network gives for a copy of images, on its device and in its precision.

    The images stay as they are, also where the network normalizes its input in place. `engine.logits_in`
    finds the logits in what comes back.

    Raises:
        ValueError: The network does not accept them, or holds no numbers.
    """
    place = place_of(model, images)
    if place.is_meta:
        raise ValueError("the network holds no numbers (it is on the meta device); load its weights first")
    # Compiled code ignores hooks that were added to the modules after the compilation.
    plain: nn.Module = getattr(model, "_orig_mod", model)
    # Nor do hooks go well with modules inside that were compiled. For others the compiler is not even loaded.
    has_compiled = any(hasattr(module, "_orig_mod") for module in plain.modules())
    try:
        with torch.compiler.set_stance("force_eager") if has_compiled else nullcontext():
            return plain(images.to(place.device, place.dtype, copy=True))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0] or "it asserts something else"
        raise ValueError(f"the network cannot take images of {tuple(images.shape[1:])}: {reason}") from None


def _registered(model: nn.Module) -> tuple[Convolution, ...]:
    found: dict[_ConvNd, Convolution] = {}
    plain = plainly(path for path, _ in model.named_modules())
    for (path, layer), (after, norm) in pairwise([*_in_order("", model), ("", model)]):
        if isinstance(layer, _ConvNd) and layer not in found:
            follows = isinstance(norm, _BatchNorm) and norm.num_features == layer.out_channels
            norms = {plain(after): norm} if isinstance(norm, _BatchNorm) and follows else {}
            found[layer] = Convolution(plain(path) or "weight", layer, norms, "registration")
    return tuple(found.values())


def _in_order(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield leaf modules in the order of registration, and a block of several leaves after its leaves.

    Only the forward of such a block knows whether its last leaf gives its output. A batch norm that holds
    the activation behind it, as those of timm do, comes before it.
    """
    prefix = f"{path}." if path else ""
    inside = [
        entry
        for name, child in module.named_children()
        if name != "parametrizations"
        for entry in _in_order(prefix + name, child)
    ]
    if isinstance(module, (_ConvNd, _BatchNorm)):
        yield path, module
    yield from inside
    if len(inside) != 1 and not isinstance(module, (*_TRANSPARENT, _ConvNd, _BatchNorm)):
        yield path, module


# torch leaves the class and its constructor without annotations.
class _Readers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes whose outputs are read by any operation outside of the batch norms that were given them.

    It sees every operation that is computed, also those of scripted modules and of functions with a backward
    of their own. A tensor keeps its identity on the way.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layers: dict[int, _ConvNd] = {}
        # Kept, so that no later tensor gets the identity of one of them.
        self.outputs: list[tuple[_ConvNd, Tensor, int]] = []
        self.given: list[Any] = []
        self.read: set[_ConvNd] = set()

    def __torch_dispatch__(
        self, function: Any, _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.look_into((args, kwargs))
        return function(*args, **(kwargs or {}))

    def add(self, layer: _ConvNd, output: Tensor) -> None:
        """Watch an output from now on."""
        self.layers[id(output)] = layer
        # An activation in place changes the version of the tensor, but not its identity.
        self.outputs.append((layer, output, output._version))

    def look_into(self, values: Any) -> None:
        """Note the outputs among values that someone reads."""
        for value in tree_leaves(values):
            if id(value) in self.layers and not any(value is one for one in self.given):
                self.read.add(self.layers[id(value)])


def _executed(model: nn.Module, images: FloatImages) -> tuple[Convolution, ...]:
    found: dict[_ConvNd, dict[str, _BatchNorm]] = {}
    readers = _Readers()

    def on_convolution(module: _ConvNd, _: Any, output: Tensor) -> None:
        found.setdefault(module, {})
        readers.add(module, output)

    def on_norm(module: _BatchNorm, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        read = inputs[0] if inputs else named.get("input")
        mine = [layer for layer, out, version in readers.outputs if read is out and out._version == version]
        for layer in mine:
            found[layer][names[module]] = module
        readers.given.append(read if mine else None)

    def after_norm(*_: Any) -> None:
        readers.given.pop()

    paths = {module: path for path, module in model.named_modules()}
    plain = plainly(paths.values())
    names = {module: plain(path) for module, path in paths.items()}
    hooks = []
    for module in names:
        if isinstance(module, _ConvNd):
            hooks.append(module.register_forward_hook(on_convolution))
        elif isinstance(module, _BatchNorm):
            hooks.append(module.register_forward_pre_hook(on_norm, with_kwargs=True))
            hooks.append(module.register_forward_hook(after_norm))
    try:
        # Tensors of inference mode have no version.
        with evaluating(model), torch.inference_mode(False), torch.no_grad(), readers:
            readers.look_into(run_on(model, images))
    finally:
        for hook in hooks:
            hook.remove()
    runs = Counter(layer for layer, _, _ in readers.outputs)
    return tuple(
        Convolution(names[layer] or "weight", layer, norms, "execution", runs[layer], layer in readers.read)
        for layer, norms in found.items()
    )
