"""Evaluation: accuracy on clean and corrupted images, kept in a database."""

from ..models import OnnxNetwork, is_onnx
from .evaluate import EvaluateConfig, check_kinds, evaluate
from .export import export_cells, leaderboard_entry, write_leaderboard_entry
from .files import Files, named_images, reading_for
from .fingerprint import known_fingerprints, model_fingerprint
from .given import read_predictions, save_scores, score_predictions
from .inference import check_outputs, logits_of, running_on
from .loading import load_scores
from .merging import take_over
from .seen import check_seen, has_seen, say_seen
from .sources import Data, Source, as_source, chunk_size
from .store import Store

__all__ = [
    "Data",
    "EvaluateConfig",
    "Files",
    "OnnxNetwork",
    "Source",
    "Store",
    "as_source",
    "check_kinds",
    "check_outputs",
    "check_seen",
    "chunk_size",
    "evaluate",
    "export_cells",
    "has_seen",
    "is_onnx",
    "known_fingerprints",
    "leaderboard_entry",
    "load_scores",
    "logits_of",
    "model_fingerprint",
    "named_images",
    "read_predictions",
    "reading_for",
    "running_on",
    "save_scores",
    "say_seen",
    "score_predictions",
    "take_over",
    "write_leaderboard_entry",
]
