"""Models: architectures under public parameter names, and loading of anyone's weights."""

from .files import find_checkpoints, read_checkpoint, read_weights
from .loading import ARCHITECTURES, describe, load_model
from .normalising import CIFAR_MEAN, CIFAR_STD, Normalising, evaluating

__all__ = [
    "ARCHITECTURES",
    "CIFAR_MEAN",
    "CIFAR_STD",
    "Normalising",
    "describe",
    "evaluating",
    "find_checkpoints",
    "load_model",
    "read_checkpoint",
    "read_weights",
]
