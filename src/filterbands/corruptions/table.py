"""The table of kinds, their sets by name, and `corrupt`, the one way in."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

from .. import rng
from ..types import Images, Keys
from . import blur, cbar_fields, cbar_lenses, cbar_overlays, digital, elastic, noise, spatter, weather
from .constants import PARAMETERS, Severities

CORRUPTIONS_VERSION = 1
"""Bumped when any kind gives other bytes for the same pixels, seed and index."""

SMALLEST = 8
"""The smallest side of an image, in pixels."""

# Values worked on at a time: on a CPU, what a core's cache holds; on a GPU, what keeps it busy.
_VALUES_AT_A_TIME = {"cpu": 1 << 17, "other": 1 << 24}


Family = Literal["noise", "blur", "weather", "digital", "cbar"]
"""The benchmarks' groups; the kinds of C-bar have none and make one of their own."""

Suite = Literal["c", "cbar"]
"""The published sets: CIFAR-10-C and ImageNet-C, or the ten kinds unlike theirs."""


@runtime_checkable
class Corrupt(Protocol):
    """What each kind is: bytes in, bytes out, image i a function of its pixels and key i alone."""

    def __call__(self, images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:
        """Return the corrupted copy; `parameters` is one severity's entry of the constants."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """A kind of corruption."""

    name: str
    """What the benchmarks call it."""
    family: Family
    """The benchmarks' group."""
    benchmark: bool
    """Whether it is one of the 15 that make the benchmark's average; the other 4 are extras."""
    version: int
    """Bumped when its bytes change for the same pixels, seed and index."""
    function: Corrupt
    """Makes it."""
    together: int = 1
    """How many images it takes at once at least: kinds of many small steps are slow on single ones."""

    @property
    def suite(self) -> Suite:
        """The published set it belongs to."""
        return "cbar" if self.family == "cbar" else "c"

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables of constants that have it, of `cifar` and `imagenet`."""
        return tuple(name for name, table in PARAMETERS.items() if self.name in table)


def _kind(name: str, family: Family, function: Corrupt, *, version: int = 1, together: int = 1) -> Corruption:
    benchmark = family != "cbar" and name not in ("speckle_noise", "gaussian_blur", "spatter", "saturate")
    return Corruption(
        name=name,
        family=family,
        benchmark=benchmark,
        version=version,
        function=function,
        together=together,
    )


CORRUPTIONS: Mapping[str, Corruption] = {
    kind.name: kind
    for kind in (
        _kind("gaussian_noise", "noise", noise.gaussian_noise),
        _kind("shot_noise", "noise", noise.shot_noise),
        _kind("impulse_noise", "noise", noise.impulse_noise),
        _kind("defocus_blur", "blur", blur.defocus_blur),
        _kind("glass_blur", "blur", blur.glass_blur),
        _kind("motion_blur", "blur", blur.motion_blur),
        _kind("zoom_blur", "blur", blur.zoom_blur, together=16),
        _kind("snow", "weather", weather.snow),
        _kind("frost", "weather", weather.frost),
        _kind("fog", "weather", weather.fog),
        _kind("brightness", "weather", digital.brightness),
        _kind("contrast", "digital", digital.contrast),
        _kind("elastic_transform", "digital", elastic.elastic_transform),
        _kind("pixelate", "digital", digital.pixelate),
        _kind("jpeg_compression", "digital", digital.jpeg_compression),
        _kind("speckle_noise", "noise", noise.speckle_noise),
        _kind("gaussian_blur", "blur", blur.gaussian_blur),
        _kind("spatter", "weather", spatter.spatter, together=8),
        _kind("saturate", "digital", digital.saturate),
        _kind("blue_noise_sample", "cbar", cbar_fields.blue_noise_sample),
        _kind("checkerboard_cutout", "cbar", cbar_overlays.checkerboard_cutout),
        _kind("inverse_sparkles", "cbar", cbar_overlays.inverse_sparkles),
        _kind("pinch_and_twirl", "cbar", cbar_lenses.pinch_and_twirl),
        _kind("ripple", "cbar", cbar_lenses.ripple),
        _kind("brownish_noise", "cbar", cbar_fields.brownish_noise),
        _kind("circular_motion_blur", "cbar", cbar_lenses.circular_motion_blur),
        _kind("lines", "cbar", cbar_overlays.lines),
        _kind("sparkles", "cbar", cbar_overlays.sparkles),
        _kind("transverse_chromatic_abberation", "cbar", cbar_lenses.transverse_chromatic_abberation),
        _kind("caustic_refraction", "cbar", cbar_lenses.caustic_refraction),
        _kind("perlin_noise", "cbar", cbar_fields.perlin_noise),
        _kind("plasma_noise", "cbar", cbar_fields.plasma_noise),
        _kind("cocentric_sine_waves", "cbar", cbar_fields.cocentric_sine_waves),
        _kind("single_frequency_greyscale", "cbar", cbar_fields.single_frequency_greyscale),
    )
}
"""All kinds by name: those of the benchmark's average first, in its order, then the extras, then C-bar."""


def kinds_of(suite: Suite, *, parameters: str = "cifar") -> tuple[str, ...]:
    """Return the kinds of a published set, in its order.

    Args:
        suite: `c` (the 15 of the average, then the four extras) or `cbar` (ten).
        parameters: The table of constants; C-bar has other kinds in either.

    >>> len(kinds_of("c"))
    19
    """
    return tuple(kind for kind in _table(parameters) if CORRUPTIONS[kind].suite == suite)


def expand_kinds(names: Iterable[str], *, parameters: str = "cifar") -> tuple[str, ...]:
    """Return kinds, each once, from names of kinds and of sets: `c`, `cbar` and `all-but-frost`.

    Args:
        names: In any order, which is kept.
        parameters: The table of constants, which every kind must be in.

    Raises:
        ValueError: An unknown name or table, or a kind that the table lacks.

    >>> expand_kinds(["fog", "c"])[:3]
    ('fog', 'gaussian_noise', 'shot_noise')
    """
    sets = {suite: kinds_of(suite, parameters=parameters) for suite in ("c", "cbar")}
    sets["all-but-frost"] = tuple(kind for kind in sets["c"] if kind != "frost")
    kinds = [kind for name in names for kind in sets.get(name, (name,))]
    for kind in kinds:
        _severities(kind, parameters)
    return tuple(dict.fromkeys(kinds))


def corrupt(
    images: Images,
    kind: str,
    *,
    severity: int,
    seed: int,
    parameters: str = "cifar",
    index: Int64[Tensor, " b"] | None = None,
) -> Images:
    """Return a corrupted copy of images, the same bytes for the same pixels, seed and index in any batch.

    Args:
        images: RGB bytes of at least 8 x 8 pixels.
        kind: A key of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: Any integer; image i draws from (seed, kind, severity, index[i]).
        parameters: `cifar` (constants of CIFAR-10-C) or `imagenet` (of ImageNet-C at 224 pixels, without
            its final JPEG step).
        index: Each image's number in its data set; 0, 1, ... if not given.

    Raises:
        ValueError: Images of another type or shape, an unknown kind, severity or table, or a kind that the
            table lacks.
        FileNotFoundError: `frost` without its textures.

    Source: Hendrycks, Dietterich 2019, arXiv:1903.12261; see docs/corruptions.md for what is exact.

    >>> images = torch.full((2, 3, 32, 32), 128, dtype=torch.uint8)
    >>> corrupt(images, "brightness", severity=3, seed=0).unique().tolist()
    [166]
    """
    check_images(images)
    if isinstance(severity, bool) or severity not in (1, 2, 3, 4, 5):
        raise ValueError(f"corrupt needs a severity of 1, 2, 3, 4 or 5, got {severity!r}")
    severities = _severities(kind, parameters)
    entry = CORRUPTIONS[kind]
    index = _check_index(index, images)
    key = rng.keys(seed, kind, severity, index=index)
    on_cpu = images.device.type == "cpu"
    if on_cpu:
        # Freeing a large block raises the C library's threshold for handing memory back to the system;
        # otherwise each temporary of a chunk is mapped and cleared anew, at half the speed.
        torch.empty(3 << 23, dtype=torch.uint8)
    at_a_time = max(
        entry.together, _VALUES_AT_A_TIME["cpu" if on_cpu else "other"] // images.shape[1:].numel()
    )
    result = torch.empty_like(images, memory_format=torch.contiguous_format)
    for start in range(0, len(images), at_a_time):
        part = slice(start, start + at_a_time)
        result[part] = entry.function(images[part].contiguous(), severities[severity - 1], key=key[part])
    return result


def check_images(images: object) -> None:
    """Refuse what is not a batch of RGB bytes, with the line that converts it."""
    needs = "corrupt needs a uint8 tensor of shape (b, 3, h, w)"
    if not isinstance(images, Tensor):
        raise ValueError(
            f"{needs}, got {type(images).__name__}; convert height x width x RGB bytes with "
            "torch.from_numpy(numpy.array(image)).permute(2, 0, 1)[None]"
        )
    shape = tuple(images.shape)
    if images.dtype != torch.uint8:
        raise ValueError(
            f"{needs}, as the published sets hold, got {images.dtype}; convert floats in [0, 1] with "
            "(images * 255).round().to(torch.uint8)"
        )
    if len(shape) == 3 and 3 in (shape[0], shape[2]):
        fix = "images[None]" if shape[0] == 3 else "images.permute(2, 0, 1)[None]"
        raise ValueError(f"{needs}, got one image of shape {shape}; convert with {fix}")
    if len(shape) == 4 and shape[1] != 3 and shape[3] == 3:
        raise ValueError(f"{needs}, got {shape}, channels last; convert with images.permute(0, 3, 1, 2)")
    if len(shape) != 4 or shape[1] != 3:
        raise ValueError(
            f"{needs}, got {shape}; repeat grey images with images.expand(-1, 3, -1, -1), drop an alpha "
            "channel with images[:, :3]"
        )
    if min(shape[2:]) < SMALLEST:
        raise ValueError(f"corrupt needs sides of at least {SMALLEST} pixels, got shape {shape}")


def _table(parameters: str) -> Mapping[str, Severities]:
    if parameters not in PARAMETERS:
        raise ValueError(f"corrupt needs parameters {' or '.join(map(repr, PARAMETERS))}, got {parameters!r}")
    return PARAMETERS[parameters]


def _severities(kind: str, parameters: str) -> Severities:
    """Return the constants of a kind, or refuse an unknown kind or table."""
    table = _table(parameters)
    if kind not in CORRUPTIONS:
        near = difflib.get_close_matches(str(kind), CORRUPTIONS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown kind {kind!r}; {hint}known: {', '.join(CORRUPTIONS)}")
    if kind not in table:
        other = CORRUPTIONS[kind].tables[0]
        raise ValueError(f"{kind!r} has no constants in parameters {parameters!r}; use {other!r}")
    return table[kind]


def _check_index(index: Tensor | None, images: Tensor) -> Int64[Tensor, " b"]:
    if index is None:
        return torch.arange(len(images), device=images.device)
    if tuple(index.shape) != (len(images),):
        raise ValueError(
            f"corrupt needs one index an image, {len(images)} in all, got shape {tuple(index.shape)}"
        )
    if index.dtype != torch.int64:
        raise ValueError(f"corrupt needs an int64 index, got {index.dtype}; convert with index.long()")
    return index.to(images.device)
