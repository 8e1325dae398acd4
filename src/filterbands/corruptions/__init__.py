"""The corruptions of CIFAR-10-C and ImageNet-C, batched and keyed: `corrupt`.

A random kind draws in one function and calculates in another: recorded draws give the recorded result.
"""

from .copies import copy_arrays, copy_folders
from .kinds import PARAMETERS, Corrupt
from .plan import CopyConfig, Machine
from .table import (
    CORRUPTIONS,
    CORRUPTIONS_VERSION,
    Corruption,
    check_files,
    corrupt,
    expand_kinds,
    kinds_of,
    parameters_for,
    read_severities,
)
from .textures import find_textures, install_textures
from .transform import Corrupting

__all__ = [
    "CORRUPTIONS",
    "CORRUPTIONS_VERSION",
    "PARAMETERS",
    "CopyConfig",
    "Corrupt",
    "Corrupting",
    "Corruption",
    "Machine",
    "check_files",
    "copy_arrays",
    "copy_folders",
    "corrupt",
    "expand_kinds",
    "find_textures",
    "install_textures",
    "kinds_of",
    "parameters_for",
    "read_severities",
]
