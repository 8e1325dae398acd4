"""What sources of a report are: Runs, databases of results, files of networks, and lines of studies."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from ..evaluation import is_onnx, known_fingerprints, model_fingerprint
from ..filters import ModelSpectrum, analyze, steps_of_training
from ..models import (
    find_checkpoints,
    is_named,
    load_model,
    name_of,
    published_geometry,
    read_checkpoint,
    trusted_arch,
)
from ..run import Run
from ..study import read_lines
from .views import FiltersView

_LOG = logging.getLogger(__name__)
_DATABASE = b"SQLite format 3\x00"
# Sides of images that are tried for a network of others with results under its name; 32 and those that are
# known come first.
_SIDES = (28, 48, 64, 96, 128, 160, 192, 224, 240, 256, 288, 299, 320, 384)
_KNOWN = "a Run folder, a database of results, a checkpoint, an ONNX file, a study's folder"


class Weights(NamedTuple):
    """A network that is not a Run."""

    place: str
    """A checkpoint, an ONNX file, the folder of a Hugging Face repository, or a name such as `timm:NAME`."""
    listed: bool = False
    """Whether it was found in a folder that a source names, and not named itself."""
    earlier: Mapping[int, Path] = {}
    """Earlier checkpoints of the same training, and this one, by step."""


class Results(NamedTuple):
    """What the databases hold results of."""

    models: Mapping[str, Sequence[str]] = {}
    """The names of each network, by its fingerprint."""
    sides: Sequence[int] = ()
    """Sides in pixels of images that networks were probed with."""


@dataclass(slots=True)
class Found:
    """What the sources hold, in their order."""

    networks: list[Run | Weights] = field(default_factory=list)
    databases: list[Path] = field(default_factory=list)
    lines: list[tuple[Path, Mapping[str, Any]]] = field(default_factory=list)
    """Lines of studies, each with the folder of its Run, which need not exist."""


class Opened(NamedTuple):
    """What is read of a network that is not a Run."""

    fingerprints: tuple[str, ...]
    """Those that its results have, else the one that new ones would get; none without an architecture."""
    filters: FiltersView | None
    file: Mapping[str, str]
    """What is known of the file."""
    course: Mapping[int, ModelSpectrum]
    """The spectra of the checkpoints of its training, by step."""


def find_sources(sources: Sequence[str | Path]) -> Found:
    """Return what the sources hold, each once; a folder that is no network stands for all that is in it.

    Raises:
        FileNotFoundError: A source that does not exist.
        ValueError: No source, or one that is of no known kind.
    """
    if not sources:
        raise ValueError(f"a report needs at least one source: {_KNOWN}; got none")
    found, folders = Found(), set[Path]()
    for source in sources:
        path = Path(source)
        if is_named(source):
            found.networks.append(Weights(str(source)))
        elif not path.exists():
            raise FileNotFoundError(f"no such source of a report: {source}")
        elif path.is_dir() and not Run(path).exists:
            if path.resolve() not in folders:
                folders.add(path.resolve())
                _add_folder(found, path)
        else:
            _add(found, path, listed=False)
    found.networks = _joined(_once(found.networks))
    databases: dict[Path, Path] = {}
    for database in found.databases:
        databases.setdefault(database.resolve(), database)
    found.databases = list(databases.values())
    return found


def _add_folder(found: Found, folder: Path) -> None:
    """Add all that is in a folder: a study, or any other."""
    try:
        inside = list(find_checkpoints(folder))
    except ValueError:
        inside = []
    if inside == [folder]:
        found.networks.append(Weights(str(folder)))
        return
    lines = [(folder / str(line.get("name")), line) for line in read_lines(folder) if "config" in line]
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    inside += [path for path in files if _is_database(path) or is_onnx(path)]
    if not inside and not lines:
        raise ValueError(f"{folder} is no source of a report: it holds none of {_KNOWN}")
    # Runs come in the order of the study.
    order = [place for place, _ in lines]
    for path in sorted(inside, key=lambda path: order.index(path) if path in order else len(order)):
        _add(found, path, listed=True)
    found.lines += lines


def _add(found: Found, path: Path, *, listed: bool) -> None:
    if Run(path).exists:
        found.networks.append(Run(path))
    elif _is_database(path):
        found.databases.append(path)
    else:
        found.networks.append(Weights(str(path), listed))


def _is_database(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_DATABASE)) == _DATABASE


def _place(network: Run | Weights) -> str:
    """Return what tells a network apart: its resolved path, or its name."""
    place = network.folder if isinstance(network, Run) else network.place
    return str(place) if is_named(place) else str(Path(place).resolve())


def _once(networks: Sequence[Run | Weights]) -> list[Run | Weights]:
    """Return the networks without those that come a second time."""
    found: dict[str, Run | Weights] = {}
    for network in networks:
        found.setdefault(_place(network), network)
    return list(found.values())


def _joined(networks: Sequence[Run | Weights]) -> list[Run | Weights]:
    """Return the networks, the checkpoints of one training as the last of them."""
    folders: dict[Path, list[Path]] = {}
    for network in networks:
        if isinstance(network, Weights) and not is_named(network.place) and not is_onnx(network.place):
            folders.setdefault(Path(network.place).resolve().parent, []).append(Path(network.place))
    joined = list(networks)
    for folder, files in folders.items():
        steps = steps_of_training(files)
        if not steps or len({_shapes(file) for file in files}) > 1:
            continue
        last = str(steps[max(steps)])
        _LOG.warning(
            "%s: %d checkpoints are shown as one training, steps %d to %d, since only the number in their "
            "names differs; only the last is compared",
            *(folder, len(files), min(steps), max(steps)),
        )
        dropped = {str(file) for file in files} - {last}
        joined = [
            one._replace(earlier=steps) if isinstance(one, Weights) and one.place == last else one
            for one in joined
            if not (isinstance(one, Weights) and one.place in dropped)
        ]
    return joined


def _shapes(file: Path) -> tuple[tuple[str, tuple[int, ...]], ...]:
    try:
        weights, _ = read_checkpoint(file)
    except ValueError:
        return ()
    return tuple((name, tuple(tensor.shape)) for name, tensor in weights.items())


def fingerprints_of(model: nn.Module, name: str, results: Results, *sides: int) -> tuple[str, ...]:
    """Return the fingerprints under which a network has results, else the one that new ones would get.

    That of a network of others depends on the size of the images. `sides` are those that it is likely to
    have seen.
    """
    found = known_fingerprints(model, results.models.keys(), sides=(*sides, 32, *results.sides))
    if not found and any(name in names for names in results.models.values()):
        found = known_fingerprints(model, results.models.keys(), sides=_SIDES)
    return found or (model_fingerprint(model),)


def open_weights(weights: Weights, results: Results) -> Opened | None:
    """Return what a file holds; None, which is said, for a file in a folder that is no network.

    Raises:
        FileNotFoundError: The file, or a part of it, does not exist.
        ValueError: The file is not a network, or does not fit the architecture that it names.
    """
    try:
        return _open(weights, results)
    except ValueError as error:
        if not weights.listed:
            raise
        _LOG.warning("%s is left out: %s", weights.place, error)
        return None


def _open(weights: Weights, results: Results) -> Opened:
    place, file = weights.place, {"place": weights.place}
    if is_onnx(place):
        prints = fingerprints_of(load_model(place), name_of(place), results)
        return Opened(prints, None, {**file, "format": "ONNX"}, {})
    model: nn.Module | None = None
    if is_named(place):
        model, arch = load_model(place), place
    else:
        try:
            tensors, metadata = read_checkpoint(place)
        except ValueError as error:
            if "is not a checkpoint" not in str(error):
                raise
            raise ValueError(f"{place} is none of {_KNOWN}: {error}") from None
        arch = trusted_arch(metadata) or ""
        model = load_model(place) if arch else None
        named = dict(tensors)
    if model is not None:
        named = dict(model.named_parameters())
    file["architecture"] = arch or "not in the file: read as plain tensors"
    filters = None
    try:
        spectrum = analyze(named if model is None else model)
    except ValueError as error:
        # A known network may well have no convolution, and still have scores.
        if model is None or "no convolution" not in str(error):
            raise ValueError(f"{place}: {error}") from None
    else:
        first = next((layer.name for layer in spectrum if layer.filters_low_energy is not None), "")
        weight = named.get(f"{first}.weight")
        planar = weight.detach() if weight is not None and weight.ndim == 4 else None
        filters = FiltersView(spectrum, first, planar)
    course = {step: analyze(earlier) for step, earlier in sorted(weights.earlier.items())}
    prints = () if model is None else fingerprints_of(model, name_of(place), results, *_published(arch))
    return Opened(prints, filters, file, course)


def _published(arch: str) -> tuple[int, ...]:
    """Return the side of the images that a network of timm or torchvision was published with."""
    try:
        geometry = published_geometry(arch)
    except ValueError:
        return ()
    return () if geometry is None else (geometry.crop,)


def name_of_weights(weights: Weights) -> str:
    """Return what a network that is no Run is called."""
    return name_of(weights.place)
