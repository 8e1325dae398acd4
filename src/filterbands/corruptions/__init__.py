"""The corruptions of CIFAR-10-C and ImageNet-C, batched and keyed: `corrupt`."""

from .constants import PARAMETERS
from .table import CORRUPTIONS, CORRUPTIONS_VERSION, Corrupt, Corruption, corrupt, expand_kinds, kinds_of
from .textures import find_textures, install_textures

__all__ = [
    "CORRUPTIONS",
    "CORRUPTIONS_VERSION",
    "PARAMETERS",
    "Corrupt",
    "Corruption",
    "corrupt",
    "expand_kinds",
    "find_textures",
    "install_textures",
    "kinds_of",
]
