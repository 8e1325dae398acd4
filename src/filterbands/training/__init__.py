"""Training: one loop, methods that are losses, recipes that are configs."""

from .config import (
    ModulateConfig,
    ShareConfig,
    SpectralConfig,
    TrainConfig,
    from_plain,
    to_plain,
    with_settings,
)
from .methods import METHODS
from .networks import build
from .recipes import RECIPES
from .timing import StepSeconds, measure_step
from .train import train

__all__ = [
    "METHODS",
    "RECIPES",
    "ModulateConfig",
    "ShareConfig",
    "SpectralConfig",
    "StepSeconds",
    "TrainConfig",
    "build",
    "from_plain",
    "measure_step",
    "to_plain",
    "train",
    "with_settings",
]
