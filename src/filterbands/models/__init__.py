"""Models: architectures under public parameter names, and loading of weights."""

from .files import find_checkpoints, read_checkpoint, read_weights
from .layers import Convolution, batch_norms, convolutions, first_layer, plain_name, run_on
from .loading import ARCHITECTURES, describe, load_model
from .named import Named, known_overlap, name_of, opened
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
    "Convolution",
    "Named",
    "Normalizing",
    "Scale",
    "batch_norms",
    "check_mean_std",
    "convolutions",
    "describe",
    "evaluating",
    "find_checkpoints",
    "first_layer",
    "input_std",
    "known_overlap",
    "load_model",
    "name_of",
    "opened",
    "plain_name",
    "read_checkpoint",
    "read_weights",
    "run_on",
    "scaled",
]
