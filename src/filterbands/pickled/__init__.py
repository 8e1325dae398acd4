"""What a pickle would make, found out without making it: a small file can claim memory, time and depth.

A pickle is gone through with stand-ins in place of what it makes. Both kinds of pickles that are read, those
of torch and those of CIFAR, are gone through first.
"""

from .calls import check_call_of_torch
from .stand_ins import Made, Name, PickleError
from .storages import check_storages, storage_sizes
from .walk import DEPTH, UNFOLDED, Bounded, Walk

__all__ = [
    "DEPTH",
    "UNFOLDED",
    "Bounded",
    "Made",
    "Name",
    "PickleError",
    "Walk",
    "check_call_of_torch",
    "check_storages",
    "storage_sizes",
]
