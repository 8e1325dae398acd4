"""Models: architectures under public parameter names, and loading of anyone's weights."""

from .base import CIFAR_MEAN, CIFAR_STD, Normalising
from .loading import ARCHITECTURES, describe, load_model, read_checkpoint, read_weights

__all__ = [
    "ARCHITECTURES",
    "CIFAR_MEAN",
    "CIFAR_STD",
    "Normalising",
    "describe",
    "load_model",
    "read_checkpoint",
    "read_weights",
]
