"""Recipes: functions that return a `TrainConfig`, one table."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from .config import ModulateConfig, ShareConfig, SpectralConfig, TrainConfig


def standard() -> TrainConfig:
    """Plain training: flips, crops, SGD with a triangular schedule, label smoothing."""
    return TrainConfig(recipe="standard")


def gaussian() -> TrainConfig:
    """Gaussian noise of standard deviation 0.1 on half of the images."""
    return TrainConfig(recipe="gaussian", method="gaussian")


def share_low() -> TrainConfig:
    """Every filter of the first layer held in the low span."""
    return TrainConfig(recipe="share_low", share=ShareConfig(low=1.0))


def share_high() -> TrainConfig:
    """Every filter of the first layer held in the zero-mean high span."""
    return TrainConfig(recipe="share_high", share=ShareConfig(low=0.0))


def spectral() -> TrainConfig:
    """The power spectrum of every image perturbed: radial gains, shared gain, noise of random spectrum."""
    return TrainConfig(recipe="spectral", spectral=SpectralConfig(strength=1.0, gain=1.0, noise=0.06))


def spectral_gain() -> TrainConfig:
    """The power spectrum perturbed by gains alone; nothing is added to an image."""
    return TrainConfig(recipe="spectral_gain", spectral=SpectralConfig(strength=1.0, gain=1.0))


def modulate_only() -> TrainConfig:
    """The first layer's proportions learned and perturbed for every image."""
    return TrainConfig(recipe="modulate_only", modulate=ModulateConfig(on=True))


def modulated() -> TrainConfig:
    """Learned and perturbed proportions together with the perturbed power spectrum of the images."""
    return replace(spectral(), recipe="modulated", modulate=ModulateConfig(on=True))


RECIPES: Mapping[str, Callable[[], TrainConfig]] = MappingProxyType(
    {
        recipe.__name__: recipe
        for recipe in (
            standard,
            gaussian,
            share_low,
            share_high,
            spectral,
            spectral_gain,
            modulate_only,
            modulated,
        )
    }
)
"""Every recipe by name."""
