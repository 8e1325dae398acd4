"""Networks as a config describes them: what is trained, and what stands in front of it meanwhile."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..control import SpectralNoise, WhiteNoise, modulate, set_blur, set_random_share, set_share
from ..engine import Compiled
from ..models import first_layer, load_model
from .config import TrainConfig
from .methods import METHODS

# Rounds where the network does: else the gradient of a maximum looks for a value that fused code has never
# rounded, finds none and divides by 0.
_COMPILING: dict[str, str | int | bool | Callable[..., Any]] = {"emulate_precision_casts": True}


def build(config: TrainConfig, *, classes: int) -> nn.Module:
    """Return a network, fresh or from `init`, its first layer controlled or modulated as the config says."""
    model = load_model(config.init or None, arch=config.arch, classes=classes)
    layer = first_layer("train", model).layer
    share, modulation = asdict(config.share), asdict(config.modulate)
    hold = set_random_share if share.pop("random") else set_share
    fixed = share.pop("fixed")
    if config.share.low is not None:
        # The filters of a trained network are low or high already; those of a fresh one are chosen by key.
        if config.init and hold is set_share:
            set_share(layer, **share, seed=None)
        else:
            hold(layer, **share, seed=config.seed)
    del modulation["on"], modulation["learning_rate"]
    if config.modulate.on:
        modulate(layer, **modulation)
    if config.blur:
        if config.init and layer.kernel_size != _fresh_kernel(config, classes):
            raise ValueError(f"{config.init} was trained behind a blur, which is in its kernels; set blur=0")
        set_blur(layer, side=config.blur)
    if fixed:
        layer.requires_grad_(False)
    return model


def _fresh_kernel(config: TrainConfig, classes: int) -> tuple[int, ...]:
    """Return the sides of the first layer's kernels as the architecture has them."""
    with torch.random.fork_rng(devices=[]):
        return first_layer("train", load_model(arch=config.arch, classes=classes)).layer.kernel_size


def in_training(config: TrainConfig, *, classes: int) -> tuple[nn.Module, nn.Module]:
    """Return the network that `build` gives, and the same with what stands in front of it in training."""
    model = build(config, classes=classes)
    method = METHODS[config.method]
    first = 1 / method.views if method.keeps_first else 0.0
    front: list[nn.Module] = [_spectral(config, first)] if config.spectral.on else []
    if config.white_noise:
        front.append(WhiteNoise(config.white_noise, clean=config.white_clean, clean_first=first))
    network: nn.Module = nn.Sequential(*front, model) if front else model
    if config.sync_batch_norm:
        _check_plain_norms(network)
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model, network


def _check_plain_norms(network: nn.Module) -> None:
    """Refuse batch norms that do more than that, such as timm's with an activation: torch would drop it."""
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and type(module) not in plain:
            raise ValueError(
                f"sync_batch_norm needs plain batch norms, {name} is a {type(module).__name__}, which torch "
                "would replace by one without its own forward; set it to false"
            )


def _spectral(config: TrainConfig, clean_first: float) -> SpectralNoise:
    given = asdict(config.spectral)
    del given["learning_rate"], given["schedule"]
    return SpectralNoise(**given, clean_first=clean_first)


def set_progress(network: nn.Module, config: TrainConfig, done: float) -> None:
    """Set the perturbation of the power spectrum as its schedule says, at a share of the training done."""
    if config.spectral.schedule == "constant":
        return
    ending = min(1.0, (1 - done) * 4)
    scale, chance = {"fade": (ending, 1.0), "clear": (1.0, ending), "rise": (min(1.0, 2 * done), 1.0)}[
        config.spectral.schedule
    ]
    for module in network.modules():
        if isinstance(module, SpectralNoise):
            module.scale, module.chance = scale, chance


def learned_spectrum(network: nn.Module) -> dict[str, Any]:
    """Return what a record of the log says about the spectrum that climbs the loss; nothing without one."""
    found = [module for module in network.modules() if isinstance(module, SpectralNoise) and module.learn]
    rounded = {
        name: [round(value, 6) for value in values]
        for module in found
        for name, values in module.strengths().items()
    }
    return {"spectral": rounded} if found else {}


def compiled(network: nn.Module, config: TrainConfig) -> nn.Module:
    """Return the network as the config says: compiled by torch at its first batch, or as it is."""
    if not config.compile:
        return network
    Compiled.forget()
    # A module, which it is: torch says it may be a function.
    return cast(nn.Module, torch.compile(network, options=_COMPILING))
