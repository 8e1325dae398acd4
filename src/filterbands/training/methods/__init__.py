"""Training methods: one table, each row a view of the batch and a loss.

What perturbs filters (`set_share`, `modulate`) or the network's input (`SpectralNoise`) is part of the
network and combines with any method here. The views alone, for a custom loop, are functions of images and
keys in the files of the methods.
"""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from .afa import afa_two, afa_view
from .apr import apr_p, apr_sp, paired_view, single_view
from .augmix import augmix_view, several, with_clean
from .hybrid import hybridaugment, hybridaugment_pp, paired_hybrid, single_hybrid
from .losses import consistent, cross_entropy, following, summed
from .plain import gaussian, repeated, standard
from .prime import prime_view
from .protocol import Loss, Method, Partners, Step, View
from .randconv import CONSISTENCY, randconv_view
from .trivial import trivial_view

NOISES = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
"""What training with added noise resembles."""

WRAPPED = ("impulse_noise",)
"""What training with bytes that wrap around resembles: they are impulses."""

FILTERS = ("defocus_blur", "gaussian_blur")
"""What training with randomly filtered images resembles."""

WAVES = ("cocentric_sine_waves", "single_frequency_greyscale")
"""What training with added waves resembles: they are plane waves, or are nearly so at each place."""

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "standard": Method(view=standard, loss=cross_entropy),
        "gaussian": Method(view=gaussian, loss=cross_entropy, resembles=NOISES),
        "pair": Method(view=partial(repeated, count=2), loss=consistent, views=2, keeps_first=True),
        "pair_stop": Method(view=partial(repeated, count=2), loss=following, views=2, keeps_first=True),
        "triple": Method(view=partial(repeated, count=3), loss=consistent, views=3, keeps_first=True),
        # Its operations exclude the benchmarks' own; shears and turns are no elastic transform.
        "augmix": Method(view=augmix_view, loss=cross_entropy),
        "augmix_jsd": Method(view=partial(with_clean, augmix_view), loss=consistent, views=3),
        "apr_p": Method(view=apr_p, loss=cross_entropy, views=2, partners=1),
        "apr_s": Method(view=single_view, loss=cross_entropy),
        "apr_sp": Method(view=apr_sp, loss=cross_entropy, views=2, partners=1),
        "apr_p_code": Method(
            view=partial(apr_p, across_channels=True, clip=False),
            loss=summed,
            views=2,
            partners=1,
            leaves_range=True,
        ),
        "apr_p_across": Method(
            view=partial(apr_p, across_channels=True), loss=cross_entropy, views=2, partners=1
        ),
        "apr_s_code": Method(view=partial(single_view, as_code=True), loss=cross_entropy, resembles=WRAPPED),
        "apr_sp_code": Method(
            view=partial(apr_sp, as_code=True),
            loss=summed,
            views=2,
            partners=1,
            leaves_range=True,
            resembles=WRAPPED,
        ),
        "hybridaugment": Method(view=hybridaugment, loss=cross_entropy, views=2, partners=1),
        "hybridaugment_pp": Method(view=hybridaugment_pp, loss=cross_entropy, views=2, partners=2),
        "hybridaugment_pp_code": Method(
            view=partial(hybridaugment_pp, as_code=True),
            loss=summed,
            views=2,
            partners=2,
            leaves_range=True,
            resembles=WRAPPED,
        ),
        # Random filters blur, random colors change contrast and brightness, displacements are elastic.
        "prime": Method(
            view=partial(with_clean, prime_view),
            loss=consistent,
            views=3,
            resembles=(*FILTERS, "brightness", "contrast", "saturate", "elastic_transform"),
        ),
        "prime_spectral": Method(
            view=partial(with_clean, partial(prime_view, primitives=(0,))),
            loss=consistent,
            views=3,
            resembles=FILTERS,
        ),
        "randconv": Method(
            view=partial(several, randconv_view, count=3),
            loss=partial(consistent, weight=CONSISTENCY),
            views=3,
            resembles=(*FILTERS, "contrast", "saturate"),
        ),
        # Its enhancements are the benchmark's; a sharpness below 1 is a blur.
        "trivial": Method(
            view=trivial_view,
            loss=cross_entropy,
            resembles=(*FILTERS, "brightness", "contrast", "saturate"),
        ),
        "afa": Method(view=afa_view, loss=cross_entropy, resembles=WAVES),
        "afa_two": Method(view=afa_two, loss=cross_entropy, views=2, resembles=WAVES),
    }
)
"""Every training method by name."""

__all__ = [
    "FILTERS",
    "METHODS",
    "NOISES",
    "Loss",
    "Method",
    "Partners",
    "Step",
    "View",
    "afa_view",
    "augmix_view",
    "paired_hybrid",
    "paired_view",
    "prime_view",
    "randconv_view",
    "single_hybrid",
    "single_view",
    "trivial_view",
]
