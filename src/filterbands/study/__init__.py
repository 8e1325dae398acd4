"""Studies: a grid of trainings and their evaluations from a JSON file, resumable, on several workers."""

from .file import StudyConfig, as_study, read_study
from .lines import read_lines
from .plan import Plan, detectable, plan_study, seed_spread
from .run import run_study
from .table import table

__all__ = [
    "Plan",
    "StudyConfig",
    "as_study",
    "detectable",
    "plan_study",
    "read_lines",
    "read_study",
    "run_study",
    "seed_spread",
    "table",
]
