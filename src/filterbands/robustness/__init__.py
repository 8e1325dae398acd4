"""Robustness: accuracy on clean and corrupted images, kept in a database, and what it adds up to."""

from .compare import (
    Difference,
    KindDifference,
    OverSeeds,
    Verdict,
    choose_baseline,
    compare,
    compare_kinds,
    gate,
    over_seeds,
)
from .evaluate import EvaluateConfig, evaluate
from .export import export_cells, leaderboard_entry, write_leaderboard_entry
from .field import PUBLISHED, Place, Published, place_among_published
from .fingerprint import model_fingerprint
from .heatmap import HeatMap, find_module, fourier_heatmap
from .loading import load_scores
from .onnx import OnnxNetwork, is_onnx
from .passes import PassCurves, pass_curves
from .scores import BENCHMARK_15, EXTRA_4, FAMILIES, Estimate, Scores, overlapping_kinds
from .sensitivity import ProbeConfig, RankCorrelation, Spectrum, correlate
from .sources import Files
from .spectra import (
    CorruptionSpectra,
    FrequencyGain,
    corruption_spectra,
    gain_by_frequency,
    gradient_spectrum,
)
from .statistics import bootstrap, calibration_error, holm, mcnemar
from .store import Store
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
    "BENCHMARK_15",
    "EXTRA_4",
    "FAMILIES",
    "PUBLISHED",
    "CorruptionSpectra",
    "Difference",
    "Estimate",
    "EvaluateConfig",
    "Files",
    "FrequencyGain",
    "HeatMap",
    "KindDifference",
    "OnnxNetwork",
    "OverSeeds",
    "PassCurves",
    "PatchMoments",
    "Place",
    "ProbeConfig",
    "Published",
    "RankCorrelation",
    "Scores",
    "Spectrum",
    "Store",
    "Verdict",
    "Vulnerability",
    "bootstrap",
    "calibration_error",
    "choose_baseline",
    "cifar10_moments",
    "compare",
    "compare_kinds",
    "correlate",
    "corruption_spectra",
    "evaluate",
    "export_cells",
    "filters_vulnerability",
    "find_module",
    "fourier_heatmap",
    "gain_by_frequency",
    "gate",
    "gradient_spectrum",
    "holm",
    "is_onnx",
    "layer_vulnerability",
    "leaderboard_entry",
    "load_scores",
    "mcnemar",
    "model_fingerprint",
    "over_seeds",
    "overlapping_kinds",
    "pass_curves",
    "patch_moments",
    "place_among_published",
    "vulnerability",
    "write_leaderboard_entry",
]
