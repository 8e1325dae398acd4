"""Models: architectures under public parameter names, and loading of weights."""

from . import held
from .files import find_checkpoints, read_checkpoint, read_weights, weights_hash
from .geometry import Geometry, published_geometry
from .held import bake_weights, held_weights
from .layers import (
    Convolution,
    batch_norms,
    convolutions,
    first_layer,
    owners,
    plain_name,
    plainly,
    run_on,
    weight_of,
)
from .loading import architecture_of, describe, load_model
from .named import (
    Named,
    known_images,
    known_overlap,
    known_place,
    known_size,
    known_trainings,
    name_of,
    opened,
    remembered,
    run_of,
)
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
from .onnx import OnnxNetwork, is_onnx
from .own_forward import check_applies_weight, convolved_input, has_own_forward
from .zoo import ARCHITECTURES, check_architecture, is_named, trusted_arch

__all__ = [
    "ARCHITECTURES",
    "CIFAR_MEAN",
    "CIFAR_STD",
    "Convolution",
    "Geometry",
    "Named",
    "Normalizing",
    "OnnxNetwork",
    "Scale",
    "architecture_of",
    "bake_weights",
    "batch_norms",
    "check_applies_weight",
    "check_architecture",
    "check_mean_std",
    "convolutions",
    "convolved_input",
    "describe",
    "evaluating",
    "find_checkpoints",
    "first_layer",
    "has_own_forward",
    "held",
    "held_weights",
    "input_std",
    "is_named",
    "is_onnx",
    "known_images",
    "known_overlap",
    "known_place",
    "known_size",
    "known_trainings",
    "load_model",
    "name_of",
    "opened",
    "owners",
    "plain_name",
    "plainly",
    "published_geometry",
    "read_checkpoint",
    "read_weights",
    "remembered",
    "run_of",
    "run_on",
    "scaled",
    "trusted_arch",
    "weight_of",
    "weights_hash",
]
