"""Datasets: labeled images from generated, standard and user sources, all through `load_data`."""

from .cifar import CIFARS
from .decoding import Remarks, image_size, read_images, say_remarks
from .digits import digits
from .fetch import Cached, cached, fetch_cifar
from .folder import ImageFiles, image_files, list_images
from .imageset import SPLITS, ImageSet
from .limits import limited_positions, sorted_by_class
from .loading import load_data
from .npz import read_arrays
from .planted import PlantedConfig, planted
from .reading import Reading

__all__ = [
    "CIFARS",
    "SPLITS",
    "Cached",
    "ImageFiles",
    "ImageSet",
    "PlantedConfig",
    "Reading",
    "Remarks",
    "cached",
    "digits",
    "fetch_cifar",
    "image_files",
    "image_size",
    "limited_positions",
    "list_images",
    "load_data",
    "planted",
    "read_arrays",
    "read_images",
    "say_remarks",
    "sorted_by_class",
]
