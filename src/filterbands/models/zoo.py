"""Networks by name: the architectures here, those of timm and torchvision, and functions of the user's own.

A name in the metadata of a file is untrusted: `trusted_arch` passes on what cannot choose code to run.
"""

import ast
import importlib
import inspect
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from ..checks import hint, users_line
from .fastnet import FastNet
from .normalizing import CIFAR_MEAN, CIFAR_STD, Normalizing
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

KNOWN = f"{', '.join(ARCHITECTURES)}, timm:NAME, torchvision:NAME, module:function"
"""What a name may be, for errors."""

Built = tuple[nn.Module, Mapping[str, Any]]
"""A network, and the `mean` and `std` of its images where its origin says them."""


def check_architecture(arch: str) -> None:
    """Raise ValueError unless this names a network; the code of a `module:function` is not run."""
    kind, colon, name = arch.partition(":")
    if kind in _ZOOS and colon:
        _zoo(kind, name)
    elif colon:
        _call(arch)
    elif arch not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {arch!r}{_near(arch)}; known are {KNOWN}")


def is_zoo(arch: str) -> bool:
    """Return whether this is a name of timm or torchvision, known there or not."""
    kind, colon, _ = arch.partition(":")
    return bool(colon) and kind in _ZOOS


def is_named(place: str | Path) -> bool:
    """Return whether a MODEL is a name such as `timm:NAME` or `module:function`, and no file or folder."""
    try:
        return ":" in str(place) and not Path(place).exists()
    except OSError:
        # A function with many arguments is too long for a file's name.
        return ":" in str(place)


def trusted_arch(metadata: Mapping[str, str]) -> str | None:
    """Return the architecture that the metadata of a file names, unless it would run code; else None."""
    arch = metadata.get("arch")
    return arch if arch is not None and (arch in ARCHITECTURES or is_zoo(arch)) else None


def build(arch: str, classes: int | None) -> Built:
    """Return a network of random weights; `classes` of None is the number that the architecture is known for.

    Raises:
        FileNotFoundError: There is no such module or function.
        ValueError: There is no such network.
    """
    check_architecture(arch)
    if arch in ARCHITECTURES:
        usual = {"mean": CIFAR_MEAN, "std": CIFAR_STD}
        return ARCHITECTURES[arch](10 if classes is None else classes), usual
    kind, _, name = arch.partition(":")
    return _ZOOS[kind](name, classes, False) if kind in _ZOOS else (_of_function(arch), {})


def published(spec: str) -> Built:
    """Return what `timm:NAME` or `torchvision:NAME` publishes, or what `module:function` returns.

    Raises:
        FileNotFoundError: There is no such module or function.
        ValueError: There is no such network, or its weights could not be downloaded.
    """
    kind, _, name = spec.partition(":")
    if kind not in _ZOOS:
        return _of_function(spec), {}
    check_architecture(spec)
    try:
        with _quiet_hub():
            return _ZOOS[kind](name, None, True)
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"the published weights of {spec} could not be loaded ({reason}); get a file of them, or of your "
            f"own, and name it together with --arch {spec} (arch=)"
        ) from None


def _timm(name: str, classes: int | None, pretrained: bool) -> Built:
    options = {} if classes is None else {"num_classes": classes}
    try:
        model: Any = _zoo("timm", name).create_model(name, pretrained=pretrained, **options)
    except RuntimeError as error:
        if pretrained:
            raise
        raise ValueError(f"timm cannot build {name}: {str(error).strip().partition(chr(10))[0]}") from None
    return model, getattr(model, "pretrained_cfg", {})


def _torchvision(name: str, classes: int | None, pretrained: bool) -> Built:
    models = _zoo("torchvision", name)
    weights = models.get_model_weights(name).DEFAULT
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if not pretrained and "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        # A detector would download those of its backbone.
        options["weights_backbone"] = None
    with warnings.catch_warnings():
        # Of Inception networks, about how random weights are drawn.
        warnings.simplefilter("ignore", FutureWarning)
        model = models.get_model(name, weights=weights if pretrained else None, **options)
    if hasattr(model, "transform_input"):
        # Of GoogLeNet and Inception v3, whose published weights take images scaled in another way.
        model.transform_input = True
    return model, vars(weights.transforms())


_ZOOS: Mapping[str, Callable[[str, int | None, bool], Built]] = MappingProxyType(
    {"timm": _timm, "torchvision": _torchvision}
)


def _zoo(kind: str, name: str) -> Any:
    """Return the package of networks, which knows this one."""
    package = _package(kind)
    if package is None:
        raise ValueError(f"{kind}:{name} needs the package {kind}; install filterbands[vision]")
    # timm also takes addresses, such as hf-hub:USER/NAME, and would ask the network for them.
    known = package.is_model(name) if kind == "timm" else name in package.list_models()
    if not re.fullmatch(r"[\w.-]+", name) or not known:
        listed = "timm.list_models()" if kind == "timm" else "torchvision.models.list_models()"
        near = hint(name, package.list_models())
        raise ValueError(f"{kind} knows no network {name!r}{near}; {listed} lists them")
    return package


def _package(kind: str) -> Any:
    """Return the package of a zoo; None where it is not installed."""
    try:
        return importlib.import_module("timm" if kind == "timm" else "torchvision.models")
    except ImportError:
        return None


def _near(arch: str) -> str:
    """Return a hint at the nearest name of all that are at hand."""
    packages = {kind: _package(kind) for kind in _ZOOS}
    theirs = [f"{kind}:{name}" for kind, one in packages.items() if one for name in one.list_models()]
    known = [*ARCHITECTURES, *theirs]
    # Else the nearest to `resnet` is `fastnet`.
    return hint(arch, [name for name in known if arch in name], closeness=0) or hint(arch, known)


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Keep what huggingface_hub says of each of its retries off standard error."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _of_function(spec: str) -> nn.Module:
    """Return the network that a function of the user's own returns."""
    module_name, function_name, positional, named = _call(spec)
    here = os.getcwd()
    if not {"", here} & set(sys.path):
        # As `python -m` does; a script such as `filterbands` looks beside itself alone.
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        if users_line(error):
            # The module exists, and its own code failed.
            raise
        raise _no_function(spec, str(error)) from None
    try:
        inspect.signature(function).bind(*positional, **named)
    except TypeError as error:
        raise ValueError(
            f"{spec} cannot be called: {error}; give arguments as in module:function(depth=20)"
        ) from None
    model = function(*positional, **named)
    if not isinstance(model, nn.Module):
        raise ValueError(f"{spec} returned a {type(model).__name__}, expected a torch.nn.Module")
    return model


def _call(spec: str) -> tuple[str, str, list[Any], dict[str, Any]]:
    """Return the module, the function and the arguments of `module:function(depth=20)`; nothing is run."""
    module_name, _, call = spec.partition(":")
    positional: list[Any] = []
    named: dict[str, Any] = {}
    if "(" in call:
        try:
            parsed = ast.parse(call, mode="eval").body
            if not isinstance(parsed, ast.Call):
                raise ValueError
            call = ast.unparse(parsed.func)
            positional = [ast.literal_eval(value) for value in parsed.args]
            # That of ** has no name, which no call takes.
            named = {str(word.arg): ast.literal_eval(word.value) for word in parsed.keywords}
            if any(word.arg is None for word in parsed.keywords):
                raise ValueError
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            raise ValueError(
                f"{spec} is no call with plain values; write numbers, texts, lists, True, False or None, as "
                "in module:function(depth=20)"
            ) from None
    if not all(part.isidentifier() for part in (*module_name.split("."), call)):
        raise _no_function(spec, "not the names of a Python module and a function")
    return module_name, call, positional, named


def _no_function(spec: str, reason: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"no such file or function: {spec} ({reason}){_near(spec)}; expected a path, a Run folder, "
        "timm:NAME, torchvision:NAME or module:function"
    )
