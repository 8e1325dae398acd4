"""Robustness: accuracy on clean and corrupted images, kept in a database, and what it adds up to."""

from .compare import Difference, KindDifference, OverSeeds, Verdict, compare, compare_kinds, gate, over_seeds
from .evaluate import EvaluateConfig, evaluate
from .export import export_cells, leaderboard_entry, write_leaderboard_entry
from .fingerprint import model_fingerprint
from .heatmap import HeatMap, fourier_heatmap
from .loading import load_scores
from .scores import BENCHMARK_15, EXTRA_4, Estimate, Scores, overlapping_kinds
from .sensitivity import ProbeConfig, RankCorrelation, Spectrum, correlate
from .sources import Files
from .statistics import bootstrap, calibration_error, holm, mcnemar
from .store import Store

__all__ = [
    "BENCHMARK_15",
    "EXTRA_4",
    "Difference",
    "Estimate",
    "EvaluateConfig",
    "Files",
    "HeatMap",
    "KindDifference",
    "OverSeeds",
    "ProbeConfig",
    "RankCorrelation",
    "Scores",
    "Spectrum",
    "Store",
    "Verdict",
    "bootstrap",
    "calibration_error",
    "compare",
    "compare_kinds",
    "correlate",
    "evaluate",
    "export_cells",
    "fourier_heatmap",
    "gate",
    "holm",
    "leaderboard_entry",
    "load_scores",
    "mcnemar",
    "model_fingerprint",
    "over_seeds",
    "overlapping_kinds",
    "write_leaderboard_entry",
]
