"""Training: one loop, methods that are losses, recipes that are configs."""

from .batches import check_count
from .config import (
    ModulateConfig,
    ShareConfig,
    SpectralConfig,
    TrainConfig,
    changed_fields,
    from_plain,
    to_plain,
    with_settings,
)
from .methods import METHODS
from .networks import build
from .recipes import FROM_TRAINED, RECIPES, check_init, check_start
from .timing import StepSeconds, measure_step
from .train import train

__all__ = [
    "FROM_TRAINED",
    "METHODS",
    "RECIPES",
    "ModulateConfig",
    "ShareConfig",
    "SpectralConfig",
    "StepSeconds",
    "TrainConfig",
    "build",
    "changed_fields",
    "check_count",
    "check_init",
    "check_start",
    "from_plain",
    "measure_step",
    "to_plain",
    "train",
    "with_settings",
]
