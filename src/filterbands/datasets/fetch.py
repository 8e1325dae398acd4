"""Fetching of data sets, whole or not at all, and the folder of what was fetched."""

import hashlib
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..disk import cache_folder
from ..types import Progress
from .cifar import CIFAR10, CIFAR100, Kind, Layout, load_cifar10, load_cifar100
from .imageset import ImageSet

_SITE = "https://www.cs.toronto.edu/~kriz/"


def fetch_cifar10(folder: str | Path, *, progress: Progress | None = None) -> Path:
    """Put CIFAR-10 into a folder, whole or not at all, and return the folder of its batches.

    Where it is there already, it is only checked; where the folder holds `cifar-10-python.tar.gz`, that
    is unpacked; else the archive is downloaded from its authors' site. The archive's md5 is checked.

    Args:
        folder: Created where missing.
        progress: Told the bytes downloaded and in all.

    Raises:
        ValueError: The archive is not the known one, or lacks a file.
        OSError: The site cannot be reached, or the folder not be written.
    """
    return _fetch(CIFAR10, load_cifar10, Path(folder), progress)


def fetch_cifar100(folder: str | Path, *, progress: Progress | None = None) -> Path:
    """Put CIFAR-100 into a folder, as `fetch_cifar10` does CIFAR-10."""
    return _fetch(CIFAR100, load_cifar100, Path(folder), progress)


class Cached(NamedTuple):
    """Something fetched: its name, where it lies, and its size."""

    name: str
    path: Path
    bytes: int


def cached() -> list[Cached]:
    """Return what lies in the cache folder: data sets by their spec's name, anything else by its own."""
    root = cache_folder()
    if not root.is_dir():
        return []
    known = {layout.folder: kind.name for kind in (CIFAR10, CIFAR100) for layout in kind.layouts}
    found = []
    for path in sorted(root.iterdir()):
        # Dot files are downloads and archives being unpacked.
        if path.name.startswith("."):
            continue
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        size = sum(file.stat().st_size for file in files)
        found.append(Cached(known.get(path.name, path.name), path, size))
    return found


def _fetch(kind: Kind, load: Callable[..., ImageSet], folder: Path, progress: Progress | None) -> Path:
    layout = next(layout for layout in kind.layouts if layout.pickled)
    done = folder / layout.folder
    if done.is_dir():
        for split in ("full_train", "test"):
            load(done, split=split)
        return done
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / kind.archive
    with tempfile.TemporaryDirectory(prefix=f".{kind.name}-", dir=folder) as scratch:
        if not archive.is_file():
            archive = _download(_SITE + kind.archive, Path(scratch) / kind.archive, progress)
        _check_md5(archive, kind.md5)
        unpacked = Path(scratch) / layout.folder
        _unpack(archive, layout, unpacked)
        unpacked.rename(done)
    return done


def _download(url: str, file: Path, progress: Progress | None) -> Path:
    request = urllib.request.Request(url, headers={"User-Agent": "filterbands"})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply, file.open("wb") as out:
            total = int(reply.headers.get("Content-Length") or 0)
            got = 0
            while block := reply.read(1 << 20):
                out.write(block)
                got += len(block)
                if progress is not None:
                    progress(got, max(got, total), "bytes")
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(
            f"{url} cannot be downloaded ({reason}); download it elsewhere, put it into the folder "
            "and run this again"
        ) from None
    if got < total:
        raise ConnectionError(f"{url} broke off: expected {total:,} bytes, got {got:,}; run this again")
    return file


def _check_md5(archive: Path, expected: str) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with archive.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise ValueError(
            f"{archive} is not the known archive: expected md5 {expected}, got {digest.hexdigest()}; "
            "delete it and run this again"
        )


def _unpack(archive: Path, layout: Layout, target: Path) -> None:
    """Write the layout's files, and nothing else that the archive may hold, into the target folder."""
    wanted = {f"{layout.folder}/{name}": name for name in layout.files}
    target.mkdir()
    with tarfile.open(archive) as members:
        for member in members:
            name = wanted.get(member.name)
            content = members.extractfile(member) if name is not None and member.isfile() else None
            if content is not None:
                del wanted[member.name]
                with (target / str(name)).open("wb") as out:
                    shutil.copyfileobj(content, out)
    if wanted:
        raise ValueError(f"{archive} lacks {', '.join(wanted)}")
