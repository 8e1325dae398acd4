"""Every kind: the function that makes it, and its constants at five severities in both published sets.

A constant has the unit that the docstring of its function states.

Source: Hendrycks, Dietterich 2019, "Benchmarking neural network robustness to common corruptions and
perturbations", arXiv:1903.12261, as in the generators of CIFAR-10-C and ImageNet-C (224 pixels) of
github.com/hendrycks/robustness. Two additions make the differences between the generators explicit. The
third number of `frost` is the scale of its textures. The constants of `elastic_transform` are in pixels: 32
and 244 times the fractions of the generators (244 is an error of the original, but it made the data).

The sets of C-bar are from Mintun, Kirillov, Xie 2021, "On interaction between augmentations and corruptions
in natural corruption robustness", arXiv:2102.11273, as in the generator of
github.com/facebookresearch/augmentation-corruption. Its lengths grow with the image; they are shares of the
image's side here.
"""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol, runtime_checkable

from ..types import Images, Keys
from . import blur, cbar_fields, cbar_lenses, cbar_overlays, digital, elastic, noise, spatter, weather
from .pixels import Constants, Severities
from .textures import find_textures

Family = Literal["noise", "blur", "weather", "digital", "cbar"]
"""The groups of the benchmarks; the kinds of C-bar form a group of their own."""


@runtime_checkable
class Corrupt(Protocol):
    """A function that makes a kind; its image i depends on the pixels of image i and on key i alone."""

    __name__: str

    def __call__(self, images: Images, parameters: Constants, *, key: Keys) -> Images:
        """Return the corrupted copy.

        Args:
            images: Bytes, contiguous.
            parameters: The constants of one severity, in the order that the kind's docstring states.
            key: One per image; deterministic kinds do not use it.
        """
        ...


BENCHMARK: Mapping[Family, tuple[Corrupt, ...]] = {
    "noise": (noise.gaussian_noise, noise.shot_noise, noise.impulse_noise),
    "blur": (blur.defocus_blur, blur.glass_blur, blur.motion_blur, blur.zoom_blur),
    "weather": (weather.snow, weather.frost, weather.fog, digital.brightness),
    "digital": (digital.contrast, elastic.elastic_transform, digital.pixelate, digital.jpeg_compression),
}
"""The 15 kinds of the benchmark's average by family, in its order. A kind has the name of its function."""

OTHERS: Mapping[Family, tuple[Corrupt, ...]] = {
    "noise": (noise.speckle_noise,),
    "blur": (blur.gaussian_blur,),
    "weather": (spatter.spatter,),
    "digital": (digital.saturate,),
    "cbar": (
        *(cbar_fields.blue_noise_sample, cbar_overlays.checkerboard_cutout, cbar_overlays.inverse_sparkles),
        *(cbar_lenses.pinch_and_twirl, cbar_lenses.ripple, cbar_fields.brownish_noise),
        *(cbar_lenses.circular_motion_blur, cbar_overlays.lines, cbar_overlays.sparkles),
        *(cbar_lenses.transverse_chromatic_abberation, cbar_lenses.caustic_refraction),
        *(cbar_fields.perlin_noise, cbar_fields.plasma_noise, cbar_fields.cocentric_sine_waves),
        cbar_fields.single_frequency_greyscale,
    ),
}
"""The other kinds of the published sets by family."""

MORE: Mapping[Family, tuple[Corrupt, ...]] = {}
"""Kinds of no published set by family: evaluated where they are named, and in no set's average."""

TOGETHER = {"zoom_blur": 16, "spatter": 8}
"""Smallest number of images to process at once, where that is not 1."""

VERSIONS = {"shot_noise": 2}
"""Version of the bytes of a kind, where that is not 1."""

NEEDS: Mapping[str, Callable[[], object]] = {"frost": find_textures}
"""What finds the files that a kind reads, or raises FileNotFoundError."""

CIFAR: Mapping[str, Severities] = {
    "gaussian_noise": ((0.04,), (0.06,), (0.08,), (0.09,), (0.1,)),
    "shot_noise": ((500,), (250,), (100,), (75,), (50,)),
    "impulse_noise": ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom_blur": ((1, 1.06, 0.01), (1, 1.11, 0.01), (1, 1.16, 0.01), (1, 1.21, 0.01), (1, 1.26, 0.01)),
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1, 0.2, 0.2), (1, 0.3, 0.2), (0.9, 0.4, 0.2), (0.85, 0.4, 0.2), (0.75, 0.45, 0.2)),
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "brightness": ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),
    "contrast": ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
    "elastic_transform": (
        (0, 0, 2.56),
        (1.6, 6.4, 2.24),
        (2.56, 1.92, 1.92),
        (3.2, 1.28, 1.6),
        (3.2, 0.96, 0.96),
    ),
    "pixelate": ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),
    "jpeg_compression": ((80,), (65,), (58,), (50,), (40,)),
    "speckle_noise": ((0.06,), (0.1,), (0.12,), (0.16,), (0.2,)),
    "gaussian_blur": ((0.4,), (0.6,), (0.7,), (0.8,), (1,)),
    "spatter": (
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
    "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
}

IMAGENET: Mapping[str, Severities] = {
    "gaussian_noise": ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
    "shot_noise": ((60,), (25,), (12,), (5,), (3,)),
    "impulse_noise": ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),
    "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    "zoom_blur": ((1, 1.11, 0.01), (1, 1.16, 0.01), (1, 1.21, 0.02), (1, 1.26, 0.02), (1, 1.31, 0.03)),
    "snow": (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "frost": ((1, 0.4, 1), (0.8, 0.6, 1), (0.7, 0.7, 1), (0.65, 0.7, 1), (0.6, 0.75, 1)),
    "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    "brightness": ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
    "contrast": ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
    "elastic_transform": (
        (488, 170.79999999999998, 24.400000000000002),
        (488, 19.52, 48.800000000000004),
        (12.200000000000001, 2.44, 4.88),
        (17.080000000000002, 2.44, 4.88),
        (29.279999999999998, 2.44, 4.88),
    ),
    "pixelate": ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),
    "jpeg_compression": ((25,), (18,), (15,), (10,), (7,)),
    "speckle_noise": ((0.15,), (0.2,), (0.35,), (0.45,), (0.6,)),
    "gaussian_blur": ((1,), (2,), (3,), (4,), (6,)),
    "spatter": (
        (0.65, 0.3, 4, 0.69, 0.6, 0),
        (0.65, 0.3, 3, 0.68, 0.6, 0),
        (0.65, 0.3, 2, 0.68, 0.5, 0),
        (0.65, 0.3, 1, 0.65, 1.5, 1),
        (0.67, 0.4, 1, 0.65, 1.5, 1),
    ),
    "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
}

CIFAR_BAR: Mapping[str, Severities] = {
    "blue_noise_sample": ((-2.29,), (-2.08,), (-1.87,), (-1.45,), (-1.24,)),
    "checkerboard_cutout": ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
    "inverse_sparkles": ((0.13,), (0.195,), (0.325,), (0.585,), (0.65,)),
    "pinch_and_twirl": ((49.5, 0.32), (54, 0.34), (58.5, 0.36), (76.5, 0.44), (90, 0.5)),
    "ripple": ((0.01375,), (0.015,), (0.01625,), (0.01875,), (0.02,)),
    "brownish_noise": ((16,), (25.6,), (35.2,), (41.6,), (44.8,)),
    "circular_motion_blur": ((4.2,), (5.4,), (6.6,), (7.8,), (9,)),
    "lines": ((0.05,), (0.1,), (0.15,), (0.2,), (0.25,)),
    "sparkles": ((0.007,), (0.035,), (0.056,), (0.063,), (0.07,)),
    "transverse_chromatic_abberation": ((0.05,), (0.1,), (0.25,), (0.45,), (0.5,)),
}

IMAGENET_BAR: Mapping[str, Severities] = {
    "caustic_refraction": ((0.1175, 0.47), (0.16, 0.64), (0.245, 0.98), (0.33, 1.32), (0.4575, 1.83)),
    "inverse_sparkles": ((0.13,), (0.26,), (0.52,), (1.17,), (1.3,)),
    "sparkles": ((0.01,), (0.02,), (0.03,), (0.05,), (0.06,)),
    "perlin_noise": ((0.23,), (0.26,), (0.29,), (0.38,), (0.44,)),
    "blue_noise_sample": ((-2.26,), (-2.02,), (-1.78,), (-1.3,), (-0.82,)),
    "plasma_noise": ((30.4,), (44.8,), (54.4,), (59.2,), (64,)),
    "checkerboard_cutout": ((0.2,), (0.3,), (0.4,), (0.5,), (0.6,)),
    "cocentric_sine_waves": ((38.4,), (64,), (102.4,), (115.2,), (128,)),
    "single_frequency_greyscale": ((19.6,), (29.4,), (39.2,), (88.2,), (98,)),
    "brownish_noise": ((6.4,), (12.8,), (19.2,), (25.6,), (32,)),
}

PARAMETERS: Mapping[str, Mapping[str, Severities]] = {
    "cifar": {**CIFAR, **CIFAR_BAR},
    "imagenet": {**IMAGENET, **IMAGENET_BAR},
}
"""Both tables, by the names that `corrupt` takes."""
