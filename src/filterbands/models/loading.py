"""Networks from names and files."""

import json
import logging
import re
from collections import OrderedDict
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from .files import read_checkpoint
from .fitting import Fit, Shape, fit, some
from .held import bake_weights, held_weights
from .layers import convolutions
from .normalizing import mean_and_std, normalizing, scaled
from .onnx import OnnxNetwork, is_onnx
from .zoo import ARCHITECTURES, KNOWN, build, check_architecture, is_named, is_zoo, published, trusted_arch

_log = logging.getLogger(__name__)
# Numbers of a network that a file names, and times those in the file where that is more: it may lack a head.
_NUMBERS, _TIMES = 1 << 26, 10


def load_model(
    path: str | Path | None = None,
    *,
    arch: str | None = None,
    key: str | None = None,
    classes: int | None = None,
    prefix: str | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> nn.Module:
    """Return a network with the weights of a file, in evaluation mode, or a fresh one, in training mode.

    Names in the file may have a prefix that the network's do not have, such as `module.` or `model.net.`. It
    is found. Entries of other modules are left out, and layers that were held when the file was saved are
    baked; a warning says both.

    Args:
        path: `.safetensors`, a pickled state dict, `.npz`, ONNX, a Run folder, the folder of a Hugging Face
            repository, `timm:NAME` or `torchvision:NAME` with their published weights, or
            `module:function`, which imports and runs that function; it must return a network. None
            initializes a network from torch's default generator. As with torch and timm, a fresh network is
            in training mode; call `.eval()` before inference.
        arch: Which network the weights are of: a key of `ARCHITECTURES`, `timm:NAME`, `torchvision:NAME`
            (nothing is downloaded), or `module:function`, found also in the working directory and with
            arguments as in `module:function(depth=20)`. The files of a Run contain it.
        key: The entry of a checkpoint that holds the weights; see `read_weights`.
        classes: Number of outputs of a fresh network, 10 by default. For a file, the number is that of its
            last layer, and any other is refused. A `module:function` takes its number as an argument.
        prefix: Removed from the names in the file, all others are left out; by default it is found.
        mean: Mean per channel of images in [0, 1], which the network subtracts. By default it is that of
            CIFAR-10 for `ARCHITECTURES`, that of timm or torchvision for theirs, else 0.
        std: Standard deviation per channel, by which the network divides.

    Raises:
        FileNotFoundError: The file, the module or the function does not exist.
        ValueError: The file is not a checkpoint, it does not fit the architecture, no architecture is
            given, or published weights cannot be downloaded.

    >>> load_model(arch="fastnet").conv1.weight.shape
    torch.Size([24, 3, 3, 3])
    """
    if classes is not None and classes < 1:
        raise ValueError(f"classes needs a number of at least 1, got {classes}")
    if key is not None and (path is None or is_named(path) or is_onnx(path)):
        raise ValueError(f"--key (key=) chooses among the entries of a checkpoint; {path} is none")
    if path is not None and is_onnx(path):
        return scaled(OnnxNetwork(path), mean, std).eval()
    if path is not None and is_named(path):
        _refuse_classes(str(path), classes)
        model, own = published(str(path))
    elif path is not None:
        model, own = _of_file(path, arch, classes, (key, prefix), {"mean": mean, "std": std})
    else:
        if arch is None:
            raise ValueError(f"load_model needs a path or an architecture: arch= with one of {KNOWN}")
        if arch not in ARCHITECTURES and not is_zoo(arch):
            _refuse_classes(arch, classes)
        model, own = build(arch, classes or 10)
    mean, std = (own.get(key) if given is None else given for key, given in (("mean", mean), ("std", std)))
    normalizing(model, mean, std)
    return model if path is None else model.eval()


def architecture_of(path: str | Path, arch: str | None = None, *, key: str | None = None) -> str | None:
    """Return the name of the network that `load_model` makes of these; None where nothing trusted says it."""
    if is_named(path):
        return str(path)
    return arch or trusted_arch(read_checkpoint(path, key=key)[1])


def describe(model: nn.Module, *, arch: str) -> dict[str, str]:
    """Return the metadata of a weights file, so that `load_model` needs only the file.

    Mean and standard deviation are those that `load_model` gave the network, if any.
    """
    texts = {"arch": arch}
    for name, values in zip(("mean", "std"), mean_and_std(model) or (), strict=False):
        texts[name] = json.dumps([float(f"{value:.6g}") for value in values])
    return texts


_POINTED = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


def _known(arch: str | None, metadata: Mapping[str, str], where: str) -> str:
    """Return the architecture, given or of the metadata, which may not choose code to run."""
    found = arch or trusted_arch(metadata)
    if found is None:
        said = metadata.get("arch")
        says = f"{where} does not say which network it is"
        if said is not None and ":" in said:
            says = f"{where} names code as its network, {said!r}, which no file may have run"
        elif said is not None:
            says = f"{where} says that its network is {said!r}, which is unknown"
        raise ValueError(f"{says}; name it with --arch (arch=), one of {KNOWN}")
    check_architecture(found)
    return found


def _normalization_in(weights: Mapping[str, Tensor], left: list[str]) -> str:
    """Return what the file says of a mean and standard deviation for which the network has no place."""
    names = ("mean", "std", "mu", "sigma", "new_mean", "new_std")
    found = [name for name in left if name.rpartition(".")[2] in names and weights[name].numel() == 3]
    return " and ".join(
        f"{name} {','.join(f'{value:.4g}' for value in weights[name].flatten().tolist())}" for name in found
    )


def _refuse_classes(arch: str, classes: int | None) -> None:
    if classes is not None:
        raise ValueError(
            f"{arch} has a number of outputs of its own, got classes={classes}; leave classes out, or give "
            "it to your function as module:function(classes=10)"
        )


def _of_file(
    path: str | Path,
    arch: str | None,
    classes: int | None,
    place: tuple[str | None, str | None],
    given: Mapping[str, tuple[float, ...] | None],
) -> tuple[nn.Module, Mapping[str, Any]]:
    where, (key, prefix) = str(path), place
    weights, metadata = read_checkpoint(path, key=key)
    if (arch or "").startswith("torchvision:densenet"):
        # The published files are from before names could not hold points; torchvision renames them too.
        weights = {_POINTED.sub(r"\1\2.", name): tensor for name, tensor in weights.items()}
    is_said, arch = arch is None, _known(arch, metadata, where)
    if is_said and is_zoo(arch):
        _check_size(arch, weights, where)
    told = {name: _numbers(metadata[name], name, where) for name in given if metadata.get(name)}
    if arch not in ARCHITECTURES and not is_zoo(arch):
        _refuse_classes(arch, classes)
        model, own = build(arch, None)
        found, wider = _fit(model, weights, prefix, where)
    else:
        model, own, found, wider = _sized(arch, weights, classes, prefix, where)
    if not found.fits:
        if classes is not None and found.outputs is not None:
            raise ValueError(
                f"{where} has {found.outputs} outputs, not {classes}; take weights of as many classes as the "
                "data have, or leave classes out"
            )
        raise ValueError(f"{where} does not fit {arch}: {found.faults()}")
    state = model.state_dict()
    for name, tensor in found.weights.items():
        if state[name].is_floating_point() and not tensor.is_floating_point():
            raise ValueError(
                f"{where}: {name} needs real floating-point values, got {tensor.dtype}; convert them "
                "(quantized ones with dequantize) first"
            )
    if (held := held_weights(weights)) and not held_weights(model.state_dict()):
        _log.warning("%s: baked on the way in, since they were held when it was saved: %s", where, some(held))
    if found.kept:
        _log.warning("%s: taken from %s, since the file lacks them: %s", where, arch, some(found.kept))
    if wider:
        _log.warning("%s: %s; the layer of %s is made wider", where, wider, arch)
    if found.left:
        _log.warning("%s: left out, since %s has no place for them: %s", where, arch, some(found.left))
    fitting = OrderedDict(found.weights)
    # Versions of modules, which some refuse to load without.
    fitting._metadata = state._metadata  # type: ignore[attr-defined]
    model.load_state_dict(fitting, strict=False)
    known = [name for name in given if own.get(name) is not None]
    if assumed := [name for name in known if given[name] is None and name not in told]:
        values = " and ".join(f"{name} {','.join(f'{value:g}' for value in own[name])}" for name in assumed)
        if said := _normalization_in(weights, found.left):
            _log.warning("%s: the file holds %s; give them with --mean and --std (mean=, std=)", where, said)
        _log.warning(
            "%s: %s as usual for %s; give --mean and --std (mean=, std=) if these weights need others; a "
            "training starts from the file that `filterbands bake` writes with them",
            *(where, values, arch),
        )
    return model, {**own, **told}


def _check_size(arch: str, weights: Mapping[str, Tensor], where: str) -> None:
    """Refuse a small file that says it is a large network, before that takes memory."""
    try:
        with torch.device("meta"):
            state = build(arch, None)[0].state_dict()
    except RuntimeError:
        # A network that looks at its numbers while it is made cannot be made without them.
        return
    own, there = (sum(one.numel() for one in every.values()) for every in (state, weights))
    if own > max(_NUMBERS, _TIMES * there):
        raise ValueError(
            f"{where} says that its network is {arch}, which has {own:,} numbers, and holds {there:,}; "
            "copy it again, or name its network with --arch (arch=)"
        )


def _sized(
    arch: str, weights: Mapping[str, Tensor], classes: int | None, prefix: str | None, where: str
) -> tuple[nn.Module, Mapping[str, Any], Fit, str]:
    """Return a network with as many outputs as the file has, and what `_fit` does."""
    if classes is None:
        heads = [len(one) for name, one in weights.items() if one.ndim == 2 and name.endswith("weight")]
        # The last matrix is the head in most files; else the shapes tell, or it is the published network.
        guess = heads[-1] if heads else None
        sizes = list(dict.fromkeys([guess, None])) if is_zoo(arch) else [guess]
    else:
        sizes = [classes]
    tried: list[tuple[nn.Module, Mapping[str, Any], Fit, str]] = []
    for size in sizes:
        model, own = build(arch, size)
        found, wider = _fit(model, weights, prefix, where)
        if classes is None and found.outputs is not None:
            model, own = build(arch, found.outputs)
            found, wider = _fit(model, weights, prefix, where)
        tried.append((model, own, found, wider))
        if found.fits:
            return tried[-1]
    return tried[0]


def _fit(model: nn.Module, weights: Mapping[str, Tensor], prefix: str | None, where: str) -> tuple[Fit, str]:
    """Return how weights fit a network, those of held layers baked unless the network holds some itself.

    The text says that the first layer was widened for another reason than a baked blur.
    """
    if held_weights(weights) and not held_weights(model.state_dict()):
        try:
            weights = bake_weights(weights)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    found = fit(model, weights, prefix=prefix, where=where)
    first = next((entry for entry in convolutions(model) if entry.is_spatial), None)
    name = f"{first.name}.weight" if first else ""
    its, own = found.wrong.get(name, ((), ()))
    if first is None or not own or not _widened(first.layer, its, own):
        return found, ""
    again = fit(model, weights, prefix=prefix, where=where)
    wide = next(key for key, value in model.named_parameters() if value is first.layer.weight)
    if _is_blurred(again.weights[wide], prod(own[2:])):
        return again, ""
    kernels = ["x".join(map(str, shape[2:])) for shape in (its, own)]
    return again, f"{name} has kernels of {kernels[0]}, not of {kernels[1]}, and not those of a baked blur"


def _is_blurred(weight: Tensor, size: int) -> bool:
    """Return whether kernels are those of so many values behind one blur, which span no more dimensions."""
    if not weight.is_floating_point() or not weight.isfinite().all():
        return False
    values = torch.linalg.svdvals(weight.detach().double().flatten(0, 1).flatten(1))
    # Half precision adds a thousandth.
    return len(values) > size and float(values[size]) <= 5e-3 * float(values[0])


def _widened(layer: _ConvNd, its: Shape, own: Shape) -> bool:
    """Widen the first layer to the kernel of the file, if that is larger by two taps, as behind a blur."""
    if its != (*own[:2], *(side + 2 for side in own[2:])):
        return False
    if isinstance(layer.padding, str):
        return False
    layer.weight = nn.Parameter(layer.weight.new_empty(its))
    layer.kernel_size = its[2:]
    layer.padding = tuple(pad + 1 for pad in layer.padding)
    layer._reversed_padding_repeated_twice = [pad + 1 for pad in layer._reversed_padding_repeated_twice]
    return True


def _numbers(text: str, name: str, where: str) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in json.loads(text))
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise ValueError(f"{where} says a {name} that is no list of numbers: {text[:60]!r}") from None
