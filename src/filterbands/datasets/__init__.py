"""Datasets: labeled images from generated, standard and user sources, all through `load_data`."""

from .cifar import CIFARS
from .fetch import Cached, cached, fetch_cifar
from .folder import ImageFiles, list_images, read_arrays, read_images
from .imageset import SPLITS, ImageSet
from .loading import load_data
from .planted import PlantedConfig, planted

__all__ = [
    "CIFARS",
    "SPLITS",
    "Cached",
    "ImageFiles",
    "ImageSet",
    "PlantedConfig",
    "cached",
    "fetch_cifar",
    "list_images",
    "load_data",
    "planted",
    "read_arrays",
    "read_images",
]
