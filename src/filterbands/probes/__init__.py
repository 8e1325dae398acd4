"""Probes: which frequencies a network looks at, and what corruptions add there."""

from .heatmap import HeatMap, find_module, fourier_heatmap
from .passes import PassCurves, pass_curves
from .probe import ProbeConfig, RankCorrelation, Spectrum, correlate
from .records import Added, Probing, read_added, read_probed
from .spectra import (
    CorruptionSpectra,
    FrequencyGain,
    corruption_spectra,
    gain_by_frequency,
    gradient_spectrum,
)
from .vulnerability import (
    PatchMoments,
    Vulnerability,
    cifar10_moments,
    filters_vulnerability,
    layer_vulnerability,
    patch_moments,
    vulnerability,
)

__all__ = [
    "Added",
    "CorruptionSpectra",
    "FrequencyGain",
    "HeatMap",
    "PassCurves",
    "PatchMoments",
    "ProbeConfig",
    "Probing",
    "RankCorrelation",
    "Spectrum",
    "Vulnerability",
    "cifar10_moments",
    "correlate",
    "corruption_spectra",
    "filters_vulnerability",
    "find_module",
    "fourier_heatmap",
    "gain_by_frequency",
    "gradient_spectrum",
    "layer_vulnerability",
    "pass_curves",
    "patch_moments",
    "read_added",
    "read_probed",
    "vulnerability",
]
