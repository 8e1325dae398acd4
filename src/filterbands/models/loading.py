"""Networks from names and files. Files are untrusted: nothing in them is executed."""

import difflib
import importlib
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .base import Normalising, set_normalisation
from .fastnet import FastNet
from .resnet import FourStageResNet, ThreeStageResNet

ARCHITECTURES: Mapping[str, Callable[[int], Normalising]] = MappingProxyType(
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
"""Every architecture: its name, and a function of the number of classes that builds it afresh."""

# Where trainers put the weights inside what they save.
_WRAPPERS = ("state_dict", "net", "model", "model_state_dict", "weights")


def load_model(
    path: str | Path | None = None,
    *,
    arch: str | None = None,
    classes: int = 10,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> nn.Module:
    """Return a network in evaluation mode, with the weights of a file or freshly initialised.

    Args:
        path: `.safetensors`, a pickled state dict, `.npz`, a Run folder, `timm:NAME`, or
            `module:function`, which imports and runs that function and takes the network it returns.
            None initialises from torch's default generator.
        arch: A name of `ARCHITECTURES`. A Run knows its own.
        classes: Number of outputs of a fresh network. A file's own number is read from its last layer.
        mean: What the network subtracts from each channel of images in [0, 1]; CIFAR-10's by default.
        std: What it divides by.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a checkpoint, one that does not fit the architecture, or no architecture given.

    >>> load_model(arch="fastnet").conv1.weight.shape
    torch.Size([24, 3, 3, 3])
    """
    spec = str(path) if path is not None else ""
    if spec.startswith("timm:"):
        return _timm_model(spec.removeprefix("timm:"))
    if ":" in spec and not Path(spec).exists():
        return _function_model(spec)
    metadata: Mapping[str, str] = {}
    weights: dict[str, Tensor] = {}
    if path is not None:
        weights, metadata = read_checkpoint(path)
    arch = arch or metadata.get("arch")
    if arch is None:
        raise ValueError(
            f"{spec} does not say which network it is; name it with --arch (arch=), one of {_names()}"
        )
    if arch not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {arch!r}{_nearest(arch)}; known are {_names()}")
    if classes < 1:
        raise ValueError(f"classes needs a number of at least 1, got {classes}")
    head = weights.get("linear.weight")
    model = ARCHITECTURES[arch](len(head) if head is not None and head.ndim == 2 else classes)
    set_normalisation(
        model,
        mean if mean is not None else _numbers(metadata.get("mean")),
        std if std is not None else _numbers(metadata.get("std")),
    )
    if path is not None:
        _fill(model, weights, where=spec, arch=arch)
    return model.eval()


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, whatever its format, without running code in it.

    A leading `module.` is dropped from the names, and the wrappers that trainers put around a state
    dict (`state_dict`, `net`, `model`) are opened.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a checkpoint, or one that would need to execute code.
    """
    return read_checkpoint(path)[0]


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Return what `read_weights` returns, and what the file says of itself (`arch`, `mean`, `std`)."""
    file = Path(path)
    if file.is_dir():
        file = file / "weights.safetensors"
        if not file.exists():
            raise FileNotFoundError(
                f"{path} is a folder without weights.safetensors: not a finished run; "
                "name a checkpoint file, or resume the run with train --resume"
            )
    if not file.exists():
        raise FileNotFoundError(f"no such file: {path}")
    with file.open("rb") as stream:
        head = stream.read(16)
    metadata: Mapping[str, str] = {}
    if len(head) >= 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < file.stat().st_size:
        tensors, metadata = _read_safetensors(file)
    elif head[:4] == b"PK\x03\x04":
        tensors = _read_npz(file) if _is_npz(file) else _read_pickle(file)
    elif head[:1] == b"\x80":
        tensors = _read_pickle(file)
    else:
        raise ValueError(
            f"{path} is not a checkpoint: expected safetensors, a pickled state dict or .npz, "
            f"got a file that starts with {head[:8]!r}"
        )
    if not tensors:
        raise ValueError(f"{path} holds no tensors")
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}, metadata


def describe(model: nn.Module, *, arch: str) -> dict[str, str]:
    """Return what a weights file says of itself, so that `load_model` needs nothing but the file."""
    texts = {"arch": arch}
    for name in ("mean", "std"):
        texts[name] = json.dumps(
            [float(f"{value:.6g}") for value in model.get_buffer(name).flatten().tolist()]
        )
    return texts


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    try:
        with safe_open(file, framework="pt") as archive:
            names = list(archive.keys())
            return {name: archive.get_tensor(name) for name in names}, archive.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{file} is not a whole safetensors file: {error}") from None


def _is_npz(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except zipfile.BadZipFile:
        raise ValueError(f"{file} is a truncated archive, not a checkpoint; copy it again") from None


def _read_npz(file: Path) -> dict[str, Tensor]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} holds arrays that are not plain numbers: {error}") from None


def _read_pickle(file: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{file} is refused: it holds more than tensors in plain containers, and reading it would run "
            "its code; save model.state_dict() (better: as safetensors) and name that file"
        ) from None
    except (RuntimeError, EOFError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not a checkpoint: {str(error).splitlines()[0]}") from None
    for wrapper in _WRAPPERS:
        inner = loaded.get(wrapper) if isinstance(loaded, Mapping) else None
        if isinstance(inner, list) and len(inner) == 1:
            inner = inner[0]
        if isinstance(inner, Mapping):
            loaded = inner
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{file} holds a {type(loaded).__name__}, not a state dict; save model.state_dict()")
    return {str(name): tensor for name, tensor in loaded.items() if isinstance(tensor, Tensor)}


def _fill(model: nn.Module, weights: Mapping[str, Tensor], *, where: str, arch: str) -> None:
    own = model.state_dict()
    # Checkpoints of before torch 0.4.1 lack the batch counters, and nothing here reads them.
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    extra = [name for name in weights if name not in own]
    wrong = [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if missing or extra or wrong:
        parts = [
            f"{label} {', '.join(found[:3])}{f' and {len(found) - 3} more' if len(found) > 3 else ''}"
            for label, found in (
                ("it lacks", missing),
                ("it has besides", extra),
                ("of another shape:", wrong),
            )
            if found
        ]
        raise ValueError(f"{where} does not fit {arch}: {'; '.join(parts)}")
    model.load_state_dict(dict(weights), strict=False)


def _function_model(spec: str) -> nn.Module:
    module_name, _, function_name = spec.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise FileNotFoundError(
            f"no such file or function: {spec} ({error}); expected a path, a Run folder, timm:NAME "
            "or module:function"
        ) from None
    model = function()
    if not isinstance(model, nn.Module):
        raise ValueError(f"{spec} returned a {type(model).__name__}, expected a torch.nn.Module")
    return model.eval()


def _timm_model(name: str) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise ValueError(f"timm:{name} needs the package timm; install filterbands[vision]") from None
    if not timm.is_model(name):
        raise ValueError(f"timm knows no network {name!r}; timm.list_models() lists them")
    model: nn.Module = timm.create_model(name, pretrained=True)
    return model.eval()


def _numbers(text: str | None) -> tuple[float, ...] | None:
    return tuple(json.loads(text)) if text else None


def _names() -> str:
    return ", ".join(ARCHITECTURES)


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, ARCHITECTURES, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
