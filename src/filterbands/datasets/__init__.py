"""Datasets: labeled images from generated, standard and user sources, all through `load_data`."""

from .cifar import CIFARS
from .decoding import Remarks, image_size, read_images, say_remarks
from .digits import digits
from .fetch import Cached, cached, fetch_cifar
from .folder import ImageFiles, image_files, list_images
from .imageset import SPLITS, ImageSet, names_as_bytes
from .items import IMAGE_NAMES, image_and_label, names_in, pixels_of, tensors_in
from .limits import limited_positions, sorted_by_class
from .loading import load_data
from .npz import CLASSES, read_arrays
from .planted import PLANTED_VERSION, PlantedConfig, planted
from .reading import INTERPOLATIONS, Reading
from .sharing import Part, is_one_part, placed, shares_images

__all__ = [
    "CIFARS",
    "CLASSES",
    "IMAGE_NAMES",
    "INTERPOLATIONS",
    "PLANTED_VERSION",
    "SPLITS",
    "Cached",
    "ImageFiles",
    "ImageSet",
    "Part",
    "PlantedConfig",
    "Reading",
    "Remarks",
    "cached",
    "digits",
    "fetch_cifar",
    "image_and_label",
    "image_files",
    "image_size",
    "is_one_part",
    "limited_positions",
    "list_images",
    "load_data",
    "names_as_bytes",
    "names_in",
    "pixels_of",
    "placed",
    "planted",
    "read_arrays",
    "read_images",
    "say_remarks",
    "shares_images",
    "sorted_by_class",
    "tensors_in",
]
