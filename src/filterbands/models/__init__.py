"""Models: architectures under public parameter names, and loading of weights."""

from .files import find_checkpoints, read_checkpoint, read_weights
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
from .own_forward import check_applies_weight, convolved_input, has_own_forward

__all__ = [
    "ARCHITECTURES",
    "CIFAR_MEAN",
    "CIFAR_STD",
    "Convolution",
    "Normalizing",
    "Scale",
    "batch_norms",
    "check_applies_weight",
    "check_mean_std",
    "convolutions",
    "convolved_input",
    "describe",
    "evaluating",
    "find_checkpoints",
    "first_layer",
    "has_own_forward",
    "input_std",
    "load_model",
    "plain_name",
    "read_checkpoint",
    "read_weights",
    "run_on",
    "scaled",
]
