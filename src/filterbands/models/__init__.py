"""Models: architectures under public parameter names, and loading of anyone's weights."""

from .files import find_checkpoints, read_checkpoint, read_weights
from .layers import Convolution, batch_norms, convolutions, first_layer, plain_name, run_on
from .loading import ARCHITECTURES, describe, load_model
from .normalising import CIFAR_MEAN, CIFAR_STD, Normalising, evaluating

__all__ = [
    "ARCHITECTURES",
    "CIFAR_MEAN",
    "CIFAR_STD",
    "Convolution",
    "Normalising",
    "batch_norms",
    "convolutions",
    "describe",
    "evaluating",
    "find_checkpoints",
    "first_layer",
    "load_model",
    "plain_name",
    "read_checkpoint",
    "read_weights",
    "run_on",
]
