"""Networks as a config describes them: what is trained, and what stands in front of it meanwhile."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import nn

from ..control import SpectralNoise, WhiteNoise, modulate, set_blur, set_random_share, set_share
from ..engine import Compiled
from ..models import first_layer, load_model
from .config import TrainConfig

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
        hold(layer, **share, seed=config.seed)
    del modulation["on"], modulation["learning_rate"]
    if config.modulate.on:
        modulate(layer, **modulation)
    if config.blur:
        set_blur(layer, side=config.blur)
    if fixed:
        layer.requires_grad_(False)
    return model


def in_training(config: TrainConfig, *, classes: int) -> tuple[nn.Module, nn.Module]:
    """Return the network that `build` gives, and the same with what stands in front of it in training."""
    model = build(config, classes=classes)
    front: list[nn.Module] = [SpectralNoise(**asdict(config.spectral))] if config.spectral.on else []
    if config.white_noise:
        front.append(WhiteNoise(config.white_noise))
    network: nn.Module = nn.Sequential(*front, model) if front else model
    if config.sync_batch_norm:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model, network


def compiled(network: nn.Module, config: TrainConfig) -> nn.Module:
    """Return the network as the config says: compiled by torch at its first batch, or as it is."""
    if not config.compile:
        return network
    Compiled.forget()
    # A module, which it is: torch says it may be a function.
    return cast(nn.Module, torch.compile(network, options=_COMPILING))
