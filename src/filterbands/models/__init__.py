"""Models: architectures under public parameter names, and loading of anyone's weights."""

from .files import find_checkpoints, read_checkpoint, read_weights
from .loading import ARCHITECTURES, describe, load_model
from .normalizing import (
    CIFAR_MEAN,
    CIFAR_STD,
    Normalizing,
    Scale,
    check_mean_std,
    evaluating,
    input_std,
    scaled,
)

__all__ = [
    "ARCHITECTURES",
    "CIFAR_MEAN",
    "CIFAR_STD",
    "Normalizing",
    "Scale",
    "check_mean_std",
    "describe",
    "evaluating",
    "find_checkpoints",
    "input_std",
    "load_model",
    "read_checkpoint",
    "read_weights",
    "scaled",
]
