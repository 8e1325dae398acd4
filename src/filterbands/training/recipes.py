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


def augmix() -> TrainConfig:
    """AugMix without its consistency loss: one forward pass."""
    return _of("augmix")


def augmix_jsd() -> TrainConfig:
    """AugMix with its consistency loss: three forward passes."""
    return _of("augmix_jsd")


def apr_p() -> TrainConfig:
    """Phases of an image under the amplitudes of another: two forward passes."""
    return _of("apr_p")


def apr_s() -> TrainConfig:
    """Phases of an image under the amplitudes of its own operated version."""
    return _of("apr_s")


def apr_sp() -> TrainConfig:
    """Both forms of amplitude-phase recombination: two forward passes."""
    return _of("apr_sp")


def prime() -> TrainConfig:
    """Random filters, colours and displacements, mixed, with the consistency loss: three forward passes."""
    return _of("prime")


def prime_spectral() -> TrainConfig:
    """PRIME with random filters alone: three forward passes."""
    return _of("prime_spectral")


def hybridaugment() -> TrainConfig:
    """Low frequencies of one image, high of another, single and paired: two forward passes."""
    return _of("hybridaugment")


def hybridaugment_pp() -> TrainConfig:
    """HybridAugment with recombined amplitudes of the low frequencies: two forward passes."""
    return _of("hybridaugment_pp")


def randconv() -> TrainConfig:
    """Random convolutions of 1 to 7 pixels, mixed, with a consistency loss: three forward passes."""
    return _of("randconv")


def apr_p_code() -> TrainConfig:
    """APR-P as its public code has it."""
    return _of("apr_p_code")


def apr_s_code() -> TrainConfig:
    """APR-S as its public code has it."""
    return _of("apr_s_code")


def apr_sp_code() -> TrainConfig:
    """APR-SP as its public code has it."""
    return _of("apr_sp_code")


def hybridaugment_pp_code() -> TrainConfig:
    """HybridAugment++ as its public code has it."""
    return _of("hybridaugment_pp_code")


def finetune() -> TrainConfig:
    """A trained network made robust in a few epochs, from `init`: the power spectrum perturbed."""
    return TrainConfig(
        recipe="finetune",
        epochs=5,
        learning_rate=0.02,
        spectral=SpectralConfig(strength=1.0, gain=1.0, noise=0.06),
    )


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


def _of(method: str) -> TrainConfig:
    return TrainConfig(recipe=method, method=method)


RECIPES: Mapping[str, Callable[[], TrainConfig]] = MappingProxyType(
    {
        recipe.__name__: recipe
        for recipe in (
            standard,
            gaussian,
            augmix,
            augmix_jsd,
            apr_p,
            apr_s,
            apr_sp,
            prime,
            prime_spectral,
            hybridaugment,
            hybridaugment_pp,
            randconv,
            apr_p_code,
            apr_s_code,
            apr_sp_code,
            hybridaugment_pp_code,
            finetune,
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
