"""`filterbands data`: fetch and verify a data set or frost's textures, or list what is there."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from ..checks import hint
from ..corruptions import install_textures
from ..datasets import CIFARS, cached, fetch_cifar
from ..disk import cache_folder
from .shared import Answer, Options, progress_bar


@dataclass(frozen=True, kw_only=True)
class DataOptions(Options):
    """Fetch and verify a data set or frost's textures, or list what was fetched."""

    name: tyro.conf.Positional[str]
    """cifar10, cifar100, frost, or list."""
    folder: tyro.conf.Positional[str | None] = None
    """Folder for the data set, by default the cache; an archive that lies in it is used. For frost: a folder
    that holds the six textures, which are copied into the cache."""


def run(options: DataOptions) -> Answer:
    """Fetch what is named, or list what is there."""
    if options.name == "list":
        if options.folder is not None:
            raise ValueError(f"data list shows the cache, {cache_folder()}; leave out {options.folder}")
        found = cached()
        lines = [f"{entry.name:<12} {entry.bytes / 2**20:8.1f} MiB  {entry.path}" for entry in found]
        return Answer(
            document={
                "folder": str(cache_folder()),
                "cached": [{"name": e.name, "path": str(e.path), "bytes": e.bytes} for e in found],
            },
            text="\n".join(lines) or f"nothing fetched yet; the cache is {cache_folder()}",
        )
    if options.name == "frost":
        place = install_textures(Path(options.folder) if options.folder else None)
        return Answer(document={"name": "frost", "path": str(place)}, text=f"{place}: checked")
    if options.name not in CIFARS:
        near = hint(options.name, (*CIFARS, "frost", "list"))
        raise ValueError(
            f"unknown data {options.name!r}{near}; known are {', '.join(CIFARS)}, frost, and list"
        )
    with progress_bar(options.name) as progress:
        place = fetch_cifar(options.name, options.folder or cache_folder(), progress=progress)
    return Answer(
        document={"name": options.name, "path": str(place)},
        text=f"{place}: checked; use it as {options.name}:{place}",
    )
