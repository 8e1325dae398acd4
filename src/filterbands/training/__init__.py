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
from .recipes import RECIPES
from .train import build, train

__all__ = [
    "METHODS",
    "RECIPES",
    "ModulateConfig",
    "ShareConfig",
    "SpectralConfig",
    "TrainConfig",
    "build",
    "from_plain",
    "to_plain",
    "train",
    "with_settings",
]
