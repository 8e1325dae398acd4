"""Recipes: functions that return a `TrainConfig`, one table."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ..models import is_named
from .config import ModulateConfig, ShareConfig, SpectralConfig, TrainConfig
from .methods import METHODS

_MILD = SpectralConfig(strength=0.5, gain=0.5, noise=0.03)
_STRONG = SpectralConfig(strength=1.0, gain=1.0, noise=0.06, clean=0.4)

_DOCS = {
    "standard": "Plain training: flips, crops, SGD with a triangular schedule, label smoothing.",
    "gaussian": "Gaussian noise of standard deviation 0.1 on half of the images.",
    "pair": "A clean and a perturbed view that must agree: two forward passes.",
    "pair_stop": "Perturbed views have labels too, and follow the clean answer: two forward passes.",
    "triple": "A clean view and two perturbed ones that must agree: three forward passes.",
    "augmix": "AugMix without its consistency loss: one forward pass.",
    "augmix_jsd": "AugMix with its consistency loss: three forward passes.",
    "apr_p": "Phases of an image under the amplitudes of another: two forward passes.",
    "apr_s": "Phases of an image under the amplitudes of its own operated version.",
    "apr_sp": "Both forms of amplitude-phase recombination: two forward passes.",
    "prime": "Random filters, colors and displacements, with the consistency loss: three forward passes.",
    "prime_spectral": "PRIME with random filters alone: three forward passes.",
    "hybridaugment": "Low frequencies of one image and high ones of another: two forward passes.",
    "hybridaugment_pp": "HybridAugment with recombined amplitudes of low frequencies: two forward passes.",
    "randconv": "Random convolutions of 1 to 7 pixels, with a consistency loss: three forward passes.",
    "trivial": "TrivialAugment: one operation per image, of any strength.",
    "afa": "A plane wave on each color channel: one forward pass.",
    "afa_two": "Clean images and the same with plane waves: two forward passes.",
    "apr_p_code": "APR-P as its public code has it.",
    "apr_p_across": "APR-P with the transform over the color channels too, all else as in its paper.",
    "apr_s_code": "APR-S as its public code has it.",
    "apr_sp_code": "APR-SP as its public code has it.",
    "hybridaugment_pp_code": "HybridAugment++ as its public code has it.",
    "finetune": "A trained network made robust in a few epochs, from `init`: the power spectrum perturbed.",
    "fast_wide": "`fastnet_wide` on the full training set: the aim is 93 % in 45 minutes on two cores.",
    "fast_narrow": "`cifar_resnet18_narrow` in about 12 minutes on two cores.",
    "long_narrow": "`cifar_resnet18_narrow` in about 40 minutes on two cores.",
    "long_resnet20": "`cifar_resnet20` for 80 epochs: the longest budget of the recipes for two cores.",
    "gpu": "`cifar_resnet18` in 30 epochs of large batches: meant for one data-center GPU.",
    "published_gaussian": """The row Gauss50 of RobustBench: 93.2 clean, 85.0 corrupted.

    Source: Kireev et al. 2021, arXiv:2103.02325. 150 epochs, batch 128, rate 0.1 falling to a tenth after
    each third: the defaults of github.com/tml-epfl/adv-training-corruptions. Its momentum is plain, ours is
    Nesterov's.
    """,
    "published_augmix": """AugMix with its consistency loss: 95.69 clean, 87.74 corrupted.

    Source: github.com/MTandHJ/PyTorch-Robust; 200 epochs, batch 128, rate 0.1 along a cosine, as Hendrycks et
    al. 2020, arXiv:1912.02781, section 4.1. That row was made with chains of one operation (`--depth=1`); the
    paper, and ours, draw one to three.
    """,
    "published_apr_sp": """APR-SP as its public code has it: 95.0 clean, 90.9 corrupted.

    Source: Chen et al. 2021, arXiv:2108.08487. 200 epochs, batch 128, rate 0.1 in steps of a fifth
    (github.com/iCGY96/APR, main.py).
    """,
    "published_hybridaugment_pp": """HA++_PS as in its public code: 95.0 clean, 91.8 corrupted.

    Source: Yucel et al. 2023, arXiv:2307.11823. The budget of APR-SP, whose code it extends
    (github.com/MKYucel/hybrid_augment, main.py).
    """,
    "published_prime": """PRIME: 93.1 clean, 89.0 corrupted.

    Source: Modas et al. 2022, arXiv:2112.13547, ResNet-18. 100 epochs, batch 128, peak rate 0.2 at a quarter,
    gradients clipped to 0.5 (github.com/amodas/PRIME-augmentations, config/cifar10_cfg.py). There, momentum
    cycles between 0.95 and 0.85, the rate rises along a cosine from a 25th, and the epoch that is best on its
    validation images is reported. Here they are 0.9, a straight rise from 0, and the last epoch.
    """,
    "share_low": "Every filter of the first layer held in the low span.",
    "share_high": "Every filter of the first layer held in the zero-mean high span.",
    "spectral": """The power spectrum of images perturbed by radial gains, a shared gain, and noise.

    Provisional: the most robust setting that lost at most 0.3 points of clean accuracy; see
    docs/studies/control.md.
    """,
    "spectral_strong": "`spectral` at twice the strengths on twice as many images: more robust, less clean.",
    "spectral_gain": "The power spectrum perturbed by gains alone; nothing is added to an image.",
    "best_one_pass": """The best row of one forward pass in the recipe search, docs/search.md.

    `spectral`, of which training learns how to divide its strengths.
    """,
    "best_two_pass": """The best row of two forward passes in the recipe search, docs/search.md.

    `pair_stop` with the strengths of `spectral`.
    """,
    "best_three_pass": """The best row of three forward passes in the recipe search, docs/search.md.

    AugMix with its consistency loss, all views perturbed as `spectral` perturbs them.
    """,
    "modulate_only": "The first layer's proportions learned and perturbed for every image.",
    "modulated": "Learned and perturbed proportions with the perturbed power spectrum of the images.",
}


FROM_TRAINED = ("finetune",)
"""Recipes that start from a trained network."""


def check_start(recipe: str, config: TrainConfig) -> None:
    """Raise ValueError where a recipe that starts from a trained network has none, or one without a file."""
    check_init(config)
    if recipe in FROM_TRAINED and not config.init:
        raise ValueError(
            f"{recipe} starts from a trained network; name it with --set init=FILE (and arch=NAME)"
        )


def check_init(config: TrainConfig) -> None:
    """Raise ValueError where a training would start from a name, as `timm:resnet18`, and no file or Run."""
    # Not when a config is read: what a finished Run started from may be gone.
    if config.init and is_named(config.init):
        raise ValueError(
            f"init needs a file or a Run, got {config.init}; save its weights with torch.save and name "
            f"that file, with arch={config.arch}"
        )


def _on_cifar(recipe: str, arch: str, **change: Any) -> TrainConfig:
    given = {"data": "cifar10", "split": "full_train", **change}
    return TrainConfig(recipe=recipe, arch=arch, **given)


def _published(recipe: str, method: str, **change: Any) -> TrainConfig:
    """Return the common ground: ResNet-18, batch 128, weight decay 5e-4, no label smoothing."""
    # A warm-up of an epoch or so, where the originals have none.
    given = {"batch_size": 128, "learning_rate": 0.1, "peak": 0.01, "label_smoothing": 0.0, **change}
    return _on_cifar(f"published_{recipe}", "cifar_resnet18", method=method, **given)


_CONFIGS = (
    *(
        TrainConfig(
            recipe=name,
            method=name,
            spectral=replace(_MILD, clean=0.0) if method.keeps_first else SpectralConfig(),
        )
        for name, method in METHODS.items()
    ),
    TrainConfig(recipe="finetune", epochs=5, learning_rate=0.02, spectral=_STRONG),
    _on_cifar("fast_wide", "fastnet_wide", epochs=28, batch_size=512, learning_rate=0.6, ema=0.99),
    _on_cifar("fast_narrow", "cifar_resnet18_narrow", epochs=15),
    _on_cifar("long_narrow", "cifar_resnet18_narrow", epochs=50, ema=0.995),
    _on_cifar("long_resnet20", "cifar_resnet20", epochs=80, learning_rate=0.2, weight_decay=1e-3),
    _on_cifar("gpu", "cifar_resnet18", epochs=30, batch_size=512, ema=0.995),
    _published("gaussian", "gaussian", epochs=150, schedule="thirds"),
    _published("augmix", "augmix_jsd", epochs=200, schedule="cosine"),
    _published("apr_sp", "apr_sp_code", epochs=200, schedule="steps"),
    _published("hybridaugment_pp", "hybridaugment_pp_code", epochs=200, schedule="steps"),
    _published("prime", "prime", epochs=100, schedule="cosine", learning_rate=0.2, peak=0.25, clip=0.5),
    TrainConfig(recipe="share_low", share=ShareConfig(low=1.0)),
    TrainConfig(recipe="share_high", share=ShareConfig(low=0.0)),
    TrainConfig(recipe="spectral", spectral=_MILD),
    TrainConfig(recipe="spectral_strong", spectral=_STRONG),
    TrainConfig(recipe="spectral_gain", spectral=replace(_STRONG, noise=0.0)),
    TrainConfig(recipe="best_one_pass", spectral=replace(_MILD, learn="joint")),
    TrainConfig(recipe="best_two_pass", method="pair_stop", spectral=replace(_MILD, clean=0.0)),
    TrainConfig(recipe="best_three_pass", method="augmix_jsd", spectral=_MILD),
    TrainConfig(recipe="modulate_only", modulate=ModulateConfig(on=True)),
    TrainConfig(recipe="modulated", spectral=_MILD, modulate=ModulateConfig(on=True)),
)


def _recipe(config: TrainConfig) -> Callable[[], TrainConfig]:
    def recipe() -> TrainConfig:
        return config

    recipe.__name__ = recipe.__qualname__ = config.recipe
    # A method without a line of its own is described by its view.
    recipe.__doc__ = _DOCS.get(config.recipe) or METHODS[config.method].view.__doc__
    return recipe


RECIPES: Mapping[str, Callable[[], TrainConfig]] = MappingProxyType(
    {config.recipe: _recipe(config) for config in _CONFIGS}
)
"""Every recipe by name."""
