"""Training methods: one protocol, one table.

What perturbs filters (`set_share`, `modulate`) or the network's input (`SpectralNoise`) is part of the
network and combines with any method here. The views alone, for a loop of one's own, are functions of images
and keys in the files of the methods.
"""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from .apr import apr_p, apr_p_code, apr_s, apr_s_code, apr_sp, apr_sp_code, paired_view, single_view
from .augmix import augmix, augmix_jsd, augmix_view
from .gaussian import gaussian
from .hybrid import (
    hybridaugment,
    hybridaugment_pp,
    hybridaugment_pp_code,
    paired_hybrid,
    single_hybrid,
)
from .prime import prime, prime_spectral, prime_view
from .protocol import Loss, Method, Partners, Step
from .randconv import randconv, randconv_view
from .standard import standard

NOISES = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
"""What training with added noise resembles."""

FILTERS = ("defocus_blur", "gaussian_blur")
"""What training with randomly filtered images resembles."""

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "standard": Method(loss=standard),
        "gaussian": Method(loss=gaussian, resembles=NOISES),
        # Its operations exclude the benchmarks' own; shears and turns are no elastic transform.
        "augmix": Method(loss=augmix),
        "augmix_jsd": Method(loss=augmix_jsd, views=3),
        "apr_p": Method(loss=apr_p, views=2, partners=1),
        "apr_s": Method(loss=apr_s),
        "apr_sp": Method(loss=apr_sp, views=2, partners=1),
        "apr_p_code": Method(loss=apr_p_code, views=2, partners=1),
        "apr_p_across": Method(loss=partial(apr_p, across_channels=True), views=2, partners=1),
        # Bytes that wrap around are impulses.
        "apr_s_code": Method(loss=apr_s_code, resembles=("impulse_noise",)),
        "apr_sp_code": Method(loss=apr_sp_code, views=2, partners=1, resembles=("impulse_noise",)),
        "hybridaugment": Method(loss=hybridaugment, views=2, partners=1),
        "hybridaugment_pp": Method(loss=hybridaugment_pp, views=2, partners=2),
        "hybridaugment_pp_code": Method(
            loss=hybridaugment_pp_code, views=2, partners=2, resembles=("impulse_noise",)
        ),
        # Random filters blur, random colours change contrast and brightness, displacements are elastic.
        "prime": Method(
            loss=prime,
            views=3,
            resembles=(
                *FILTERS,
                *("brightness", "contrast", "saturate", "elastic_transform"),
            ),
        ),
        "prime_spectral": Method(loss=prime_spectral, views=3, resembles=FILTERS),
        "randconv": Method(loss=randconv, views=3, resembles=(*FILTERS, "contrast", "saturate")),
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
    "augmix_view",
    "paired_hybrid",
    "paired_view",
    "prime_view",
    "randconv_view",
    "single_hybrid",
    "single_view",
]
