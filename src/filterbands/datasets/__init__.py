"""Datasets: labeled images from generated, standard and user sources, all through `load_data`."""

from .fetch import Cached, cached, fetch_cifar10, fetch_cifar100
from .folder import ImageFiles, list_images, read_images
from .imageset import ImageSet
from .loading import SPLITS, load_data
from .planted import PlantedConfig, planted

__all__ = [
    "SPLITS",
    "Cached",
    "ImageFiles",
    "ImageSet",
    "PlantedConfig",
    "cached",
    "fetch_cifar10",
    "fetch_cifar100",
    "list_images",
    "load_data",
    "planted",
    "read_images",
]
