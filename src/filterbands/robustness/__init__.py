"""Robustness: accuracy on clean and corrupted images, kept in a database, and what it adds up to."""

from .evaluate import EvaluateConfig, evaluate, load_scores
from .fingerprint import model_fingerprint
from .scores import BENCHMARK_15, EXTRA_4, Difference, Estimate, Scores, bootstrap, compare
from .store import Store

__all__ = [
    "BENCHMARK_15",
    "EXTRA_4",
    "Difference",
    "Estimate",
    "EvaluateConfig",
    "Scores",
    "Store",
    "bootstrap",
    "compare",
    "evaluate",
    "load_scores",
    "model_fingerprint",
]
