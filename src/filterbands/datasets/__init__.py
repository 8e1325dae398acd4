"""Datasets: labeled images from generated, standard and user sources, all through `load_data`."""

from .cifar import CIFARS
from .fetch import Cached, cached, fetch_cifar
from .folder import ImageFiles, list_images, read_images
from .imageset import SPLITS, ImageSet
from .items import IMAGE_NAMES, image_and_label, names_in, pixels_of, tensors_in
from .loading import load_data
from .planted import PlantedConfig, planted

__all__ = [
    "CIFARS",
    "IMAGE_NAMES",
    "SPLITS",
    "Cached",
    "ImageFiles",
    "ImageSet",
    "PlantedConfig",
    "cached",
    "fetch_cifar",
    "image_and_label",
    "list_images",
    "load_data",
    "names_in",
    "pixels_of",
    "planted",
    "read_images",
    "tensors_in",
]
