"""Image files that are read when they are needed, and the images that a text names."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..datasets import (
    INTERPOLATIONS,
    ImageFiles,
    ImageSet,
    Reading,
    Remarks,
    list_images,
    load_data,
    read_images,
)
from ..models import Geometry, known_size, published_geometry
from ..types import Images

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Image files that are read when they are needed, and how."""

    files: ImageFiles
    """As `list_images` returns them."""
    name: str = "folder"
    """Name to list the results under."""
    split: str = "test"
    """Split that the files are."""
    reading: Reading = field(default_factory=Reading)
    """How `read_images` reads them; by default as they are."""


def named_images(
    spec: str,
    *,
    split: str = "test",
    limit: int | None = None,
    reading: Reading | None = None,
    networks: Sequence[str] = (),
) -> ImageSet | Files:
    """Return the images of a data set; those of a folder, which may fill memory, are not read yet.

    Args:
        spec: As `load_data` takes it.
        split: As `load_data` takes it.
        limit: As `load_data` takes it.
        reading: How the files of a folder are read; without a size, see `reading_for`.
        networks: Names of the networks that the images are for.

    Raises:
        FileNotFoundError: As for `load_data`.
        ValueError: As for `load_data` and `reading_for`.
    """
    reading = reading_for(spec, networks, reading)
    kind, _, place = spec.partition(":")
    if kind != "folder" or not place:
        return load_data(spec, split=split, limit=limit, reading=reading)
    folder = Path(place).expanduser()
    return Files(
        files=list_images(folder, split=split, reading=reading).limited(limit),
        name=f"folder:{folder.resolve().name}",
        split=split,
        reading=reading,
    )


def reading_for(spec: str, networks: Sequence[str], reading: Reading | None = None) -> Reading:
    """Return how files are read: without a size, as images are prepared for the networks, which is said.

    That is in the size that a Run was trained at, or as timm or torchvision prepare images for a network.

    Raises:
        ValueError: The networks expect images of different sizes.
    """
    reading = Reading() if reading is None else reading
    if not spec.startswith("folder:") or reading.resize or reading.crop:
        return reading
    found = {name: shape for name in networks if (shape := _geometry(name)) is not None}
    if not found:
        return reading
    (name, shape), *others = found.items()
    if differs := next((other for other, one in others if one != shape), None):
        raise ValueError(
            f"{name} and {differs} expect images of other sizes; give --resize and --crop, or --size"
        )
    _LOG.warning(
        "images are resized to %d and cropped to %d pixels, %s, as %s expects them; --resize and --crop "
        "(resize=, crop=) say otherwise",
        *(shape.resize, shape.crop, shape.interpolation, name),
    )
    return replace(reading, **asdict(shape))


def _geometry(network: str) -> Geometry | None:
    """Return how images are prepared for a network; None where nothing says it."""
    if size := known_size(network):
        return Geometry(resize=size, crop=size, interpolation=INTERPOLATIONS[0])
    return published_geometry(network)


def read_files(
    files: ImageFiles, reading: Reading, numbers: Sequence[int], remarks: Remarks | None = None
) -> Images:
    """Return the images of the files at these positions."""
    # With the first file among them, the error about a file of another size names both.
    paths = (files.paths[0], *(files.paths[number] for number in numbers))
    return read_images(paths, reading=reading, remarks=remarks)[1:]
