"""What a text names where a network is expected: the network, its name, and what its training resembles."""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from ..run import Run
from .loading import load_model
from .zoo import is_named

# Largest side of images that a file may name.
_LARGEST_SIDE = 4096

Named = nn.Module | str | os.PathLike[str]
"""A network, or what `load_model` takes for one."""


def opened(model: Named) -> nn.Module:
    """Return the network, which `load_model` loads where a text or path names it.

    >>> network = nn.Identity()
    >>> opened(network) is network
    True
    """
    return model if isinstance(model, nn.Module) else load_model(str(model))


def name_of(model: str | os.PathLike[str]) -> str:
    """Return the name of the file or folder that a text names; a spec names itself."""
    path = Path(model)
    return str(model) if is_named(path) or not path.exists() else path.resolve().name


def run_of(model: str | os.PathLike[str]) -> Run | None:
    """Return the run whose folder, or one of whose files of weights, a text names; None for anything else."""
    path = Path(model)
    try:
        if Run(path).exists:
            return Run(path)
        if not path.is_file():
            return None
        file = path.resolve()
    except OSError:
        # The name of a function with arguments may be too long for a file.
        return None
    run = Run(file.parent)
    return run if run.exists and file in (run.weights, run.checkpoint, *run.kept) else None


def known_overlap(model: str | os.PathLike[str]) -> tuple[str, ...] | None:
    """Return the kinds that a network's training resembles; None where nothing says it.

    The record of a run says it, and a file of weights that was written from one.
    """
    run = run_of(model)
    found = _noted(model, "overlap") if run is None else run.read().get("overlap")
    return tuple(map(str, found)) if isinstance(found, list) else None


def known_size(model: str | os.PathLike[str]) -> int:
    """Return the side to which a run's images of a folder were brought; 0 where none is known.

    A file of weights that was written from a run knows what the run does.
    """
    size = _record(model).get("config", {}).get("size") or _noted(model, "trained_size")
    return size if type(size) is int and 0 < size <= _LARGEST_SIDE else 0


def known_trainings(model: str | os.PathLike[str]) -> tuple[tuple[str, str], ...]:
    """Return the data set and the split of each training that a run's record knows of, its own first.

    The others are those of the network that it started from. A data set is named by where it lay, where
    the record says it. A file of weights that was written from a run knows what the run does.
    """
    record = _record(model)
    earlier = record.get("trained_before") if record else _noted(model, "trainings")
    own = record.get("config")
    if isinstance(own, dict) and (place := known_place(model)):
        own = {**own, "data": place}
    found = [own, *(earlier if isinstance(earlier, list) else [])]
    return tuple(
        (entry["data"], entry["split"])
        for entry in found
        if isinstance(entry, dict)
        and isinstance(entry.get("data"), str)
        and isinstance(entry.get("split"), str)
    )


def remembered(model: str | os.PathLike[str]) -> dict[str, str]:
    """Return what is known of a network's training as metadata of a file of weights, where a run is not."""
    overlap, trainings = known_overlap(model), known_trainings(model)
    found = {} if overlap is None else {"overlap": json.dumps(overlap)}
    if trainings:
        found["trainings"] = json.dumps([{"data": data, "split": split} for data, split in trainings])
    if size := known_size(model):
        found["trained_size"] = json.dumps(size)
    return found


def _noted(model: str | os.PathLike[str], what: str) -> Any:
    """Return what `remembered` wrote into a file of weights; None where there is nothing that can be read."""
    file = Path(model)
    try:
        if not file.is_file():
            return None
        with safe_open(file, framework="pt") as archive:
            return json.loads((archive.metadata() or {}).get(what, "null"))
    except (OSError, ValueError, RecursionError, SafetensorError):
        return None


def known_place(model: str | os.PathLike[str]) -> str:
    """Return the spec of a run's images that means them from every folder; nothing where it is not known."""
    found: str | None = (_record(model).get("data") or {}).get("place")
    return found or ""


def known_images(model: str | os.PathLike[str]) -> str:
    """Return the fingerprint of the images that a run was trained on; nothing where it is not known."""
    found: str | None = (_record(model).get("data") or {}).get("fingerprint")
    return found or ""


def _record(model: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the record of a run, whose types were checked; nothing where there is none that can be read."""
    try:
        run = run_of(model)
        return {} if run is None else run.read()
    except (OSError, ValueError):
        return {}
