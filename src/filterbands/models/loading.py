"""Networks from names and files."""

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from ..checks import hint, users_line
from .fastnet import FastNet
from .files import read_checkpoint
from .normalizing import Normalizing, normalizing
from .resnet import FourStageResNet, ThreeStageResNet

ARCHITECTURES: Mapping[str, Callable[[int], Normalizing]] = MappingProxyType(
    {
        "fastnet": lambda classes: FastNet((24, 64, 64), classes=classes),
        "fastnet_wide": lambda classes: FastNet((64, 256, 256), classes=classes),
        "cifar_resnet18": lambda classes: FourStageResNet(64, classes=classes),
        "cifar_resnet18_narrow": lambda classes: FourStageResNet(16, classes=classes),
        "cifar_resnet20": lambda classes: ThreeStageResNet(20, classes=classes),
        "cifar_resnet32": lambda classes: ThreeStageResNet(32, classes=classes),
        "cifar_resnet44": lambda classes: ThreeStageResNet(44, classes=classes),
        "cifar_resnet56": lambda classes: ThreeStageResNet(56, classes=classes),
        "cifar_resnet110": lambda classes: ThreeStageResNet(110, classes=classes),
    }
)
"""The architectures: per name, a function of the number of classes that returns a fresh network."""

_NAMES = ", ".join(ARCHITECTURES)
# Prefixes of every name by torch.compile, data parallelism, Lightning and others.
_PREFIXES = ("_orig_mod.", "module.", "model.", "net.", "network.")


def load_model(
    path: str | Path | None = None,
    *,
    arch: str | None = None,
    classes: int = 10,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> nn.Module:
    """Return a network with the weights of a file, in evaluation mode, or a fresh one, in training mode.

    Args:
        path: `.safetensors`, a pickled state dict, `.npz`, a Run folder, the folder of a Hugging Face
            repository, `timm:NAME` or `torchvision:NAME` with their published weights, or
            `module:function`, which imports and runs that function; it must return a network. None
            initializes a network from torch's default generator. As with torch and timm, a fresh network is
            in training mode; call `.eval()` before inference.
        arch: A key of `ARCHITECTURES`. The files of a Run contain it.
        classes: Number of outputs of a fresh network. For a file, the number is that of its last layer.
        mean: Mean per channel of images in [0, 1], which the network subtracts. By default it is that of
            CIFAR-10 for `ARCHITECTURES`, that of timm or torchvision for theirs, else 0.
        std: Standard deviation per channel, by which the network divides.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not a checkpoint, it does not fit the architecture, or no architecture is
            given.

    >>> load_model(arch="fastnet").conv1.weight.shape
    torch.Size([24, 3, 3, 3])
    """
    spec = str(path) if path is not None else ""
    kind, _, name = spec.partition(":")
    if ":" not in spec or Path(spec).exists():
        model, own = _our_model(path, arch, classes)
    elif kind in _ZOOS:
        model, own = _ZOOS[kind](name)
    else:
        model, own = _function_model(spec), {}
    mean, std = (own.get(key) if given is None else given for key, given in (("mean", mean), ("std", std)))
    normalizing(model, mean, std)
    return model if path is None else model.eval()


def describe(model: nn.Module, *, arch: str) -> dict[str, str]:
    """Return the metadata of a weights file, so that `load_model` needs only the file."""
    texts = {"arch": arch}
    for name in ("mean", "std"):
        texts[name] = json.dumps(
            [float(f"{value:.6g}") for value in model.get_buffer(name).flatten().tolist()]
        )
    return texts


def _our_model(
    path: str | Path | None, arch: str | None, classes: int
) -> tuple[nn.Module, Mapping[str, Any]]:
    weights, metadata = ({}, {}) if path is None else read_checkpoint(path)
    arch = arch or metadata.get("arch")
    if arch is None:
        raise ValueError(
            f"{path or ''} does not say which network it is; name it with --arch (arch=), one of {_NAMES}"
        )
    if arch not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {arch!r}{hint(arch, ARCHITECTURES)}; known are {_NAMES}")
    if classes < 1:
        raise ValueError(f"classes needs a number of at least 1, got {classes}")
    head = weights.get("linear.weight")
    model = ARCHITECTURES[arch](len(head) if head is not None and head.ndim == 2 else classes)
    if path is not None:
        _fit_first_layer(model, weights.get("conv1.weight"))
        _fill(model, weights, where=str(path), arch=arch)
    return model, {name: json.loads(metadata[name]) for name in ("mean", "std") if metadata.get(name)}


def _fit_first_layer(model: nn.Module, weight: Tensor | None) -> None:
    """Widen `conv1` to the kernel of the file, which a baked blur has made larger by two taps."""
    layer = model.get_submodule("conv1")
    if not isinstance(layer, nn.Conv2d) or weight is None or weight.ndim != 4:
        return
    side = layer.kernel_size[0] + 2
    if tuple(weight.shape) == (layer.out_channels, layer.in_channels, side, side):
        model.conv1 = nn.Conv2d(layer.in_channels, layer.out_channels, side, padding=side // 2, bias=False)


def _fill(model: nn.Module, weights: Mapping[str, Tensor], *, where: str, arch: str) -> None:
    own = model.state_dict()
    for prefix in _PREFIXES:
        if not any(name in own for name in weights) and all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    # Checkpoints from before torch 0.4.1 lack the batch counters, which are not used.
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    extra = [name for name in weights if name not in own]
    wrong = [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    faults = {"it lacks": missing, "it also has": extra, "of another shape:": wrong}
    parts = [
        f"{label} {', '.join(found[:3])}{f' and {len(found) - 3} more' if len(found) > 3 else ''}"
        for label, found in faults.items()
        if found
    ]
    if parts:
        raise ValueError(f"{where} does not fit {arch}: {'; '.join(parts)}")
    model.load_state_dict(dict(weights), strict=False)


def _function_model(spec: str) -> nn.Module:
    module_name, _, function_name = spec.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        if users_line(error):
            # The module exists, and its own code failed.
            raise
        raise FileNotFoundError(
            f"no such file or function: {spec} ({error}); expected a path, a Run folder, timm:NAME, "
            "torchvision:NAME or module:function"
        ) from None
    model = function()
    if not isinstance(model, nn.Module):
        raise ValueError(f"{spec} returned a {type(model).__name__}, expected a torch.nn.Module")
    return model


def _timm_model(name: str) -> tuple[nn.Module, Mapping[str, Any]]:
    timm = _package("timm", "timm", name)
    if not timm.is_model(name):
        raise ValueError(f"timm knows no network {name!r}; timm.list_models() lists them")
    model: Any = timm.create_model(name, pretrained=True)
    return model, getattr(model, "pretrained_cfg", {})


def _torchvision_model(name: str) -> tuple[nn.Module, Mapping[str, Any]]:
    models = _package("torchvision.models", "torchvision", name)
    if name not in models.list_models():
        raise ValueError(
            f"torchvision knows no network {name!r}; torchvision.models.list_models() lists them"
        )
    weights = models.get_model_weights(name).DEFAULT
    return models.get_model(name, weights=weights), vars(weights.transforms())


def _package(module: str, package: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ValueError(
            f"{package}:{name} needs the package {package}; install filterbands[vision]"
        ) from None


_ZOOS: Mapping[str, Callable[[str], tuple[nn.Module, Mapping[str, Any]]]] = MappingProxyType(
    {"timm": _timm_model, "torchvision": _torchvision_model}
)
