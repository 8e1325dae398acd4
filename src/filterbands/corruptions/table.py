"""The table of kinds, the named sets of kinds, and `corrupt`."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex

import torch
from jaxtyping import Int64
from torch import Tensor

from .. import rng
from ..checks import as_names, hint, whole_number
from ..types import Images, Keys
from .kinds import BENCHMARK, MORE, NEEDS, OTHERS, PARAMETERS, TOGETHER, VERSIONS, Corrupt, Family
from .pixels import Constants, Severities

CORRUPTIONS_VERSION = 2
"""Increased when any kind gives other bytes for the same pixels, seed and index."""

SMALLEST = 8
"""The smallest side of an image, in pixels."""

LARGEST_OF_CIFAR = 64
"""The largest side of images to which the constants of `cifar` apply unless others are asked for."""

_LOG = logging.getLogger(__name__)

# Values that are processed at once: on a CPU, what a core's cache holds; on a GPU, enough to keep it busy.
_VALUES_AT_A_TIME = {"cpu": 1 << 17, "other": 1 << 24}

Suite = Literal["c", "cbar", "more"]
"""The published sets (the 19 kinds of CIFAR-10-C and ImageNet-C, the ten of C-bar), and all other kinds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """A kind of corruption."""

    name: str
    """Its name in the benchmarks."""
    family: Family
    """Its group in the benchmarks."""
    suite: Suite
    """The published set that it belongs to."""
    benchmark: bool
    """Whether it is one of the 15 kinds of the benchmark's average; the other 4 are extras."""
    version: int = 1
    """Increased when its bytes change for the same pixels, seed and index."""
    function: Corrupt
    """The function that makes it."""
    together: int = 1
    """Smallest number of images to process at once: kinds of many small steps are slow on single images."""
    needs: Callable[[], object] | None = None
    """Raises FileNotFoundError where files that it reads are missing; None for a kind that reads none."""

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables of constants that contain it, of `cifar` and `imagenet`."""
        return tuple(name for name, table in PARAMETERS.items() if self.name in table)


CORRUPTIONS: Mapping[str, Corruption] = {
    function.__name__: Corruption(
        name=function.__name__,
        family=family,
        suite="more" if families is MORE else "cbar" if family == "cbar" else "c",
        benchmark=families is BENCHMARK,
        version=VERSIONS.get(function.__name__, 1),
        function=function,
        together=TOGETHER.get(function.__name__, 1),
        needs=NEEDS.get(function.__name__),
    )
    for families in (BENCHMARK, OTHERS, MORE)
    for family, functions in families.items()
    for function in functions
}
"""All kinds by name: the 15 of the benchmark's average in its order, the extras, C-bar, then others."""


def kinds_of(suite: Suite, *, parameters: str = "cifar") -> tuple[str, ...]:
    """Return the kinds of a set, in its order.

    Args:
        suite: `c` (the 15 kinds of the average, then the four extras), `cbar` (ten kinds) or `more`
            (kinds of neither).
        parameters: The table of constants; the kinds of C-bar differ between the tables.

    >>> len(kinds_of("c"))
    19
    """
    return tuple(kind for kind in _table(parameters) if CORRUPTIONS[kind].suite == suite)


def parameters_for(parameters: str | None, height: int, width: int) -> str:
    """Return the table of constants that is asked for, or else the one for images of this size.

    It is `cifar` for sides of at most 64 pixels, and `imagenet` for larger ones, which a warning says.

    Args:
        parameters: `cifar`, `imagenet` or None.
        height: Height of the images in pixels.
        width: Their width.

    >>> parameters_for(None, 32, 32), parameters_for("cifar", 224, 224)
    ('cifar', 'cifar')
    """
    if parameters is not None:
        return parameters
    if max(height, width) <= LARGEST_OF_CIFAR:
        return "cifar"
    _LOG.warning(
        "images of %d x %d pixels are corrupted with the constants of imagenet, the default above %d pixels; "
        "--parameters cifar (parameters=) takes the others",
        *(height, width, LARGEST_OF_CIFAR),
    )
    return "imagenet"


def expand_kinds(names: Iterable[str], *, parameters: str | None = "cifar") -> tuple[str, ...]:
    """Return the kinds that names of kinds or of sets (`c`, `cbar`, `all-but-frost`) stand for, each once.

    Args:
        names: Names in any order, which is kept.
        parameters: The table of constants; it must contain all the kinds. None leaves `cbar` as it is, whose
            kinds differ between the tables.

    Raises:
        ValueError: A name or table is unknown, or the table lacks a kind.

    >>> expand_kinds(["fog", "c"])[:3]
    ('fog', 'gaussian_noise', 'shot_noise')
    """
    sets = {"c": kinds_of("c"), "cbar": ("cbar",)}
    if parameters is not None:
        sets = {suite: kinds_of(suite, parameters=parameters) for suite in ("c", "cbar")}
    sets["all-but-frost"] = tuple(kind for kind in sets["c"] if kind != "frost")
    kinds = [kind for name in as_names("kinds", names) for kind in sets.get(name, (name,))]
    for kind in kinds:
        if isinstance(kind, str) and kind not in CORRUPTIONS and kind not in sets:
            near = hint(kind, (*CORRUPTIONS, *sets))
            raise ValueError(
                f"unknown kind {kind!r}{near}; known are {', '.join(CORRUPTIONS)}, and the sets "
                f"{', '.join(sets)}"
            )
        if kind != "cbar":
            _severities(kind, parameters or _entry(kind).tables[0])
    return tuple(dict.fromkeys(kinds))


def check_files(kinds: Iterable[str]) -> None:
    """Raise FileNotFoundError where a file that one of the kinds reads is missing: before any work."""
    for kind in kinds:
        # The set `cbar` may not be expanded yet; its kinds read no files.
        if (entry := CORRUPTIONS.get(kind)) is not None and entry.needs is not None:
            entry.needs()


def corrupt(
    images: Images,
    kind: str,
    *,
    severity: SupportsIndex,
    seed: SupportsIndex,
    parameters: str = "cifar",
    index: Int64[Tensor, " b"] | None = None,
) -> Images:
    """Return a corrupted copy of images, the same bytes for the same pixels, seed and index in any batch.

    Args:
        images: Bytes, RGB or gray, of at least 8 x 8 pixels. Gray images (one channel) are corrupted as three
            equal channels, of which the green one is returned: noise then has its full strength. `saturate`
            does not change them.
        kind: A key of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: Any integer; image i draws from (seed, kind, severity, index[i]).
        parameters: `cifar` (constants of CIFAR-10-C) or `imagenet` (constants of ImageNet-C at 224 pixels,
            without its final JPEG step).
        index: The number of each image in its data set, as int64; None numbers the images from 0.

    Raises:
        ValueError: The images have another type or shape, a kind, severity or table is unknown, or the table
            lacks the kind.
        FileNotFoundError: The textures of `frost` are not available.

    Source: Hendrycks, Dietterich 2019, arXiv:1903.12261; docs/studies/corruptions.md says which kinds are
    exact.

    >>> images = torch.full((2, 3, 32, 32), 128, dtype=torch.uint8)
    >>> corrupt(images, "brightness", severity=3, seed=0).unique().tolist()
    [166]
    """
    check_images(images)
    severity = check_severity("corrupt", severity)
    severities = _severities(kind, parameters)
    entry = CORRUPTIONS[kind]
    index = _check_index(index, images)
    key = rng.keys(seed, kind, severity, index=index)
    on_cpu = images.device.type == "cpu"
    if on_cpu:
        # Freeing a large block raises the threshold above which the C library returns memory to the system.
        # Otherwise each temporary of a chunk is mapped and cleared again, at half the speed.
        torch.empty(3 << 23, dtype=torch.uint8)
    at_a_time = max(
        entry.together, _VALUES_AT_A_TIME["cpu" if on_cpu else "other"] // (3 * images.shape[2:].numel())
    )
    constants = severities[severity - 1]
    result = torch.empty_like(images, memory_format=torch.contiguous_format)
    for start in range(0, len(images), at_a_time):
        part = slice(start, start + at_a_time)
        result[part] = in_color(entry.function, images[part].contiguous(), constants, key=key[part])
    return result


def in_color(function: Corrupt, images: Images, constants: Constants, *, key: Keys) -> Images:
    """Return images changed by a function of RGB bytes; of gray ones, as three equal channels, the green.

    `saturate` makes gray images reddish, and leaves their red channel as it is.
    """
    if images.shape[1] == 3:
        return function(images, constants, key=key)
    kept = 0 if function.__name__ == "saturate" else 1
    return function(images.expand(-1, 3, -1, -1).contiguous(), constants, key=key)[:, kept : kept + 1]


def check_severity(verb: str, severity: SupportsIndex) -> int:
    """Return a severity of any integer type as `int`; raise ValueError unless it is from 1 to 5."""
    number = whole_number(f"{verb}: severity", severity)
    if not 1 <= number <= 5:
        raise ValueError(f"{verb} needs a severity of 1, 2, 3, 4 or 5, got {severity!r}")
    return number


def read_severities(severities: Any) -> tuple[int, ...]:
    """Return severities of any integer type as `int`.

    Raises:
        ValueError: There is none, or one is not from 1 to 5.

    >>> read_severities(range(1, 3))
    (1, 2)
    """
    listed = isinstance(severities, Iterable) and not isinstance(severities, str)
    numbers = tuple(whole_number("severities", one) for one in (severities if listed else ()))
    if not numbers or not set(numbers) <= {1, 2, 3, 4, 5}:
        raise ValueError(f"severities needs numbers from 1 to 5, got {numbers if listed else severities!r}")
    return numbers


def check_images(images: object) -> Images:
    """Return a batch of bytes, RGB or gray; raise ValueError, with the line that converts it, for others."""
    needs = "corrupt needs a uint8 tensor of shape (b, 3, h, w), or (b, 1, h, w)"
    if not isinstance(images, Tensor):
        raise ValueError(
            f"{needs}, got {type(images).__name__}; convert height x width x RGB bytes with "
            "torch.from_numpy(numpy.array(image)).permute(2, 0, 1)[None]"
        )
    shape = tuple(images.shape)
    if images.dtype != torch.uint8:
        raise ValueError(
            f"{needs}, as in the published sets, got {images.dtype}; convert floats in [0, 1] with "
            "(images * 255).round().to(torch.uint8)"
        )
    if len(shape) == 3 and 3 in (shape[0], shape[2]):
        fix = "images[None]" if shape[0] == 3 else "images.permute(2, 0, 1)[None]"
        raise ValueError(f"{needs}, got one image of shape {shape}; convert with {fix}")
    if len(shape) == 3:
        raise ValueError(f"{needs}, got {shape}; of gray images add the channel, images[:, None]")
    if len(shape) == 4 and shape[1] not in (1, 3) and shape[3] in (1, 3):
        raise ValueError(f"{needs}, got {shape}, channels last; convert with images.permute(0, 3, 1, 2)")
    if len(shape) != 4 or shape[1] not in (1, 3):
        cure = "; drop an alpha channel with images[:, :3]" if len(shape) == 4 and shape[1] == 4 else ""
        raise ValueError(f"{needs}, got {shape}{cure}")
    if min(shape[2:]) < SMALLEST:
        raise ValueError(f"corrupt needs sides of at least {SMALLEST} pixels, got shape {shape}")
    return images


def _table(parameters: object) -> Mapping[str, Severities]:
    if not isinstance(parameters, str) or parameters not in PARAMETERS:
        raise ValueError(f"corrupt needs parameters {' or '.join(map(repr, PARAMETERS))}, got {parameters!r}")
    return PARAMETERS[parameters]


def _severities(kind: object, parameters: object) -> Severities:
    """Return the constants of a kind; raise ValueError for an unknown kind or table."""
    table, entry = _table(parameters), _entry(kind)
    if entry.name not in table:
        other = entry.tables[0]
        raise ValueError(f"{kind!r} has no constants in parameters {parameters!r}; use {other!r}")
    return table[entry.name]


def _entry(kind: object) -> Corruption:
    if not isinstance(kind, str):
        raise ValueError(f"a kind is a name such as fog, got {type(kind).__name__}; give one after the other")
    if kind not in CORRUPTIONS:
        near = hint(kind, CORRUPTIONS)
        raise ValueError(f"unknown kind {kind!r}{near}; known are {', '.join(CORRUPTIONS)}")
    return CORRUPTIONS[kind]


def _check_index(index: Any, images: Tensor) -> Int64[Tensor, " b"]:
    if index is None:
        return torch.arange(len(images), device=images.device)
    if not isinstance(index, Tensor):
        try:
            index = torch.as_tensor(index)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"corrupt needs an int64 index, got {type(index).__name__}") from None
    if tuple(index.shape) != (len(images),):
        raise ValueError(
            f"corrupt needs one index per image, {len(images)} in total, got shape {tuple(index.shape)}"
        )
    if index.dtype != torch.int64:
        raise ValueError(f"corrupt needs an int64 index, got {index.dtype}; convert with index.long()")
    found: Tensor = index.to(images.device)
    return found
