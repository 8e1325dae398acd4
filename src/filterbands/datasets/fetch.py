"""Downloads of data sets, whole or not at all, and the cache folder."""

import hashlib
import shutil
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from ..disk import cache_folder, working_folder
from ..types import Progress
from .cifar import CIFARS, Layout, load_cifar

_SITE = "https://www.cs.toronto.edu/~kriz/"


def fetch_cifar(name: str, folder: str | Path, *, progress: Progress | None = None) -> Path:
    """Put a CIFAR data set into a folder, whole or not at all, and return the folder of its batches.

    A data set in the folder, in one of its layouts, is only checked. If the folder contains
    `cifar-10-python.tar.gz`, this archive is unpacked. Otherwise the archive is downloaded from its authors'
    site. The md5 of the archive is checked.

    Args:
        name: A key of `CIFARS`.
        folder: The folder, which is created if needed.
        progress: Called with the bytes downloaded and the total number.

    Raises:
        ValueError: The archive has another md5, or lacks a file.
        OSError: The site cannot be reached, or the folder cannot be written.
    """
    kind, folder = CIFARS[name], Path(folder)
    done = folder / kind.pickled.folder
    there = [
        place
        for layout in (kind.pickled, kind.binary)
        for place in (folder / layout.folder, folder)
        if all((place / name).is_file() for name in layout.files)
    ]
    if there or done.is_dir():
        place = there[0] if there else done
        for split in ("full_train", "test"):
            load_cifar(kind, place, split=split)
        return place
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / kind.archive
    with working_folder(folder) as scratch:
        if not archive.is_file():
            archive = _download(_SITE + kind.archive, scratch / kind.archive, progress)
        digest = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
        if digest != kind.md5:
            raise ValueError(
                f"{archive} is not the known archive: expected md5 {kind.md5}, got {digest}; "
                "delete it and run the command again"
            )
        unpacked = scratch / kind.pickled.folder
        _unpack(archive, kind.pickled, unpacked)
        unpacked.rename(done)
    return done


class Cached(NamedTuple):
    """An entry of the cache folder: its name, its path, and its size."""

    name: str
    path: Path
    bytes: int


def cached() -> list[Cached]:
    """Return the entries of the cache folder; data sets have the name of their spec, others their own."""
    root = cache_folder()
    if not root.is_dir():
        return []
    known = {layout.folder: kind.name for kind in CIFARS.values() for layout in (kind.binary, kind.pickled)}
    found = []
    for path in sorted(root.iterdir()):
        # Dot files are unfinished downloads and archives that are being unpacked.
        if path.name.startswith("."):
            continue
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        size = sum(file.stat().st_size for file in files)
        found.append(Cached(known.get(path.name, path.name), path, size))
    return found


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
            "and run the command again"
        ) from None
    if got < total:
        raise ConnectionError(
            f"{url} ended early: expected {total:,} bytes, got {got:,}; run the command again"
        )
    return file


def _unpack(archive: Path, layout: Layout, target: Path) -> None:
    """Write the files of the layout, and nothing else from the archive, into the target folder."""
    wanted = {f"{layout.folder}/{name}": name for name in layout.files}
    target.mkdir()
    with tarfile.open(archive) as members:
        for member in members:
            content = members.extractfile(member) if member.name in wanted and member.isfile() else None
            if content is not None:
                with (target / wanted.pop(member.name)).open("wb") as out:
                    shutil.copyfileobj(content, out)
    if wanted:
        raise ValueError(f"{archive} lacks {', '.join(wanted)}")
