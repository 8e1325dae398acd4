"""Models: architectures under public parameter names, and loading of weights."""

from . import held
from .files import find_checkpoints, read_checkpoint, read_weights
from .held import bake_weights, held_weights
from .layers import Convolution, batch_norms, convolutions, first_layer, plain_name, run_on
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
    "Convolution",
    "Normalizing",
    "Scale",
    "bake_weights",
    "batch_norms",
    "check_mean_std",
    "convolutions",
    "describe",
    "evaluating",
    "find_checkpoints",
    "first_layer",
    "held",
    "held_weights",
    "input_std",
    "load_model",
    "plain_name",
    "read_checkpoint",
    "read_weights",
    "run_on",
    "scaled",
]
