"""Corrupted copies of whole data sets on disk, in parallel over cores, resumable, whole or not at all.

Two layouts. *Arrays*, as CIFAR-10-C is published: `KIND.npy` (5n, h, w, 3), severity after severity, and
`labels.npy`. *Folders*, as ImageNet-C is published: `KIND/SEVERITY/CLASS/FILE`.
"""

import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from PIL import Image

from ..datasets import ImageFiles, ImageSet, read_images
from ..disk import write_whole
from ..types import Progress
from ..version import __version__
from ..workers import run_jobs
from .constants import PARAMETERS
from .table import CORRUPTIONS, CORRUPTIONS_VERSION, corrupt, expand_kinds

# Images of one job: enough to hide its cost, few enough that progress and the cores are kept even.
_PIXELS_A_JOB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyConfig:
    """What is made."""

    kinds: tuple[str, ...] = ("c",)
    """Kinds of corruption or sets of them: c (all 19), cbar, all-but-frost (needs no textures)."""
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Severities from 1 to 5, ascending."""
    parameters: str = "cifar"
    """Table of constants, cifar or imagenet."""
    seed: int = 0
    """Seed of the random kinds."""
    jpeg85: bool = False
    """With parameters imagenet: end with the JPEG step of quality 85 that ends the published set."""

    def __post_init__(self) -> None:
        if self.parameters not in PARAMETERS:
            raise ValueError(f"parameters needs {' or '.join(PARAMETERS)}, got {self.parameters!r}")
        object.__setattr__(self, "kinds", expand_kinds(self.kinds, parameters=self.parameters))
        ascending = tuple(sorted(set(self.severities) & {1, 2, 3, 4, 5}))
        if not ascending or ascending != tuple(self.severities):
            raise ValueError(f"severities needs numbers from 1 to 5, ascending, got {self.severities}")
        if self.jpeg85 and self.parameters != "imagenet":
            raise ValueError(
                "jpeg85 is the last step of ImageNet-C; set parameters to imagenet, or leave it out"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What makes it; never changes a byte, but for rounding on another device."""

    device: str = "cpu"
    """A torch device."""
    workers: int = 1
    """Processes, on a CPU."""
    batch_size: int = 0
    """Images at a time; 0 for about a million pixels."""


def copy_arrays(
    data: ImageSet,
    out: Path,
    config: CopyConfig,
    *,
    machine: Machine | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Write the missing kinds of a copy in the layout of CIFAR-10-C and return their names.

    Args:
        data: The images.
        out: A folder that exists: empty, or with an earlier part of the same copy.
        config: What is made; it is recorded in `corrupt.json`.
        machine: What makes it; one process if not given.
        progress: Told the images made and in all.

    Raises:
        ValueError: The folder holds another copy, another process writes it, or the disk is too small.
        OSError: A file cannot be written; no half file is left.
    """
    machine = machine or Machine()
    made_by = {"layout": "arrays", **_describe(data.name, data.split, data.fingerprint(), len(data), config)}
    with _owned(out):
        _check_same(out, made_by)
        missing = [kind for kind in config.kinds if not (out / f"{kind}.npy").exists()]
        height, width = data.images.shape[2:]
        a_kind = len(config.severities) * len(data) * height * width * 3
        _check_space(out, len(missing) * a_kind)
        _write_json(out / "corrupt.json", made_by)
        _save(out / "labels.npy", _labels(data, len(config.severities)))
        if missing:
            _make_arrays(data, out, config, machine, missing, progress)
    return missing


def copy_folders(
    files: ImageFiles,
    out: Path,
    config: CopyConfig,
    *,
    name: str,
    split: str,
    size: int | None = None,
    machine: Machine | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Write the missing cells of a copy as `KIND/SEVERITY/CLASS/FILE` and return the kinds written.

    Files are read when their turn comes, so that a data set may be larger than memory, and may differ in
    size. They are written as PNG, or as JPEG of quality 85 where `config.jpeg85` says so.

    Args:
        files: What `list_images` returns.
        out: As `copy_arrays` takes it.
        config: As `copy_arrays` takes it.
        name: The data set's name, for the record.
        split: Its split, for the record.
        size: Bring the short side to this many pixels and crop the centre square; None keeps each size.
        machine: As `copy_arrays` takes it.
        progress: As `copy_arrays` takes it.

    Raises:
        ValueError: As `copy_arrays`, or a file that is no image.
        OSError: A file cannot be written; no half cell is left.
    """
    listing = "\n".join(f"{path.parent.name}/{path.name} {path.stat().st_size}" for path in files.paths)
    fingerprint = hashlib.sha256(f"{listing}\n{size}".encode()).hexdigest()
    described = _describe(name, split, fingerprint, len(files.paths), config)
    with _owned(out):
        _check_same(out, made_by := {"layout": "folders", "size": size, **described})
        names = _file_names(files, ".jpg" if config.jpeg85 else ".png")
        _write_json(out / "corrupt.json", made_by)
        cells = [
            (kind, severity)
            for kind in config.kinds
            for severity in config.severities
            if not (out / kind / str(severity)).exists()
        ]
        if cells:
            _make_folders(files, names, out, config, size, machine or Machine(), cells, progress)
    return list(dict.fromkeys(kind for kind, _ in cells))


def _describe(name: str, split: str, fingerprint: str, images: int, config: CopyConfig) -> dict[str, Any]:
    described = asdict(config)
    del described["kinds"]  # more kinds may be added to a copy
    return {
        "data": name,
        "split": split,
        "fingerprint": fingerprint,
        "images": images,
        **described,
        "severities": list(config.severities),
        "corruptions_version": CORRUPTIONS_VERSION,
    }


def _labels(data: ImageSet, copies: int) -> np.ndarray[Any, np.dtype[Any]]:
    """Return the labels once a severity, as bytes where they fit, as the published set has them."""
    kind = np.uint8 if len(data.classes) <= 256 else np.int64
    return np.tile(data.labels.numpy().astype(kind), copies)


# ---- arrays


@dataclass(frozen=True, slots=True)
class _ArrayJob:
    """Rows of one array: corrupt images [start, stop) and write them where they belong."""

    images: str
    index: str
    target: str
    offset: int
    start: int
    stop: int
    kind: str
    severity: int
    config: CopyConfig
    device: str


def _make_arrays(
    data: ImageSet,
    out: Path,
    config: CopyConfig,
    machine: Machine,
    kinds: Sequence[str],
    progress: Progress | None,
) -> None:
    """Fill temporary arrays beside their places, and put each into its place when its last rows are there."""
    height, width = data.images.shape[2:]
    row = height * width * 3
    shape = (len(config.severities) * len(data), height, width, 3)
    chunk = machine.batch_size or max(1, _PIXELS_A_JOB // (height * width))
    with _working_folder(out) as work:
        np.save(work / "images.npy", data.images.contiguous().numpy())
        np.save(work / "index.npy", data.index.numpy())
        headers = {kind: _write_header(work / f"{kind}.npy", shape) for kind in kinds}
        jobs = [
            _ArrayJob(
                images=str(work / "images.npy"),
                index=str(work / "index.npy"),
                target=str(work / f"{kind}.npy"),
                offset=headers[kind] + (level * len(data) + start) * row,
                start=start,
                stop=min(start + chunk, len(data)),
                kind=kind,
                severity=severity,
                config=config,
                device=machine.device,
            )
            for kind in kinds
            for level, severity in enumerate(config.severities)
            for start in range(0, len(data), chunk)
        ]
        left = {kind: sum(job.kind == kind for job in jobs) for kind in kinds}
        done = 0
        for number, images in run_jobs(_make_rows, jobs, workers=machine.workers):
            kind = jobs[number].kind
            done += images
            left[kind] -= 1
            if not left[kind]:
                _put(work / f"{kind}.npy", out / f"{kind}.npy")
            if progress is not None:
                progress(done, len(kinds) * shape[0], kind)


def _write_header(file: Path, shape: tuple[int, ...]) -> int:
    """Write the header of an array of bytes; return its length."""
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with file.open("wb") as stream:
        stream.write(header.getvalue())
    return len(header.getvalue())


def _make_rows(job: _ArrayJob) -> int:
    images = torch.from_numpy(_rows(job.images)[job.start : job.stop].copy())
    index = torch.from_numpy(_rows(job.index)[job.start : job.stop].copy())
    made = _corrupted(images, index, job.kind, job.severity, job.config, job.device)
    pixels = made.permute(0, 2, 3, 1).contiguous().numpy()
    with Path(job.target).open("r+b", buffering=0) as stream:
        stream.seek(job.offset)
        left = pixels.tobytes()
        while left:
            left = left[stream.write(left) or 0 :]
    return len(pixels)


@lru_cache(maxsize=2)
def _rows(file: str) -> Any:
    """Return an array of the parent's, memory-mapped, so that all workers share one copy."""
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _corrupted(
    images: torch.Tensor,
    index: torch.Tensor,
    kind: str,
    severity: int,
    config: CopyConfig,
    device: str,
) -> torch.Tensor:
    made = corrupt(
        images.to(device),
        kind,
        severity=severity,
        seed=config.seed,
        parameters=config.parameters,
        index=index,
    )
    if config.jpeg85:
        no_key = torch.zeros(len(made), dtype=torch.int64)
        made = CORRUPTIONS["jpeg_compression"].function(made, (85.0,), key=no_key)
    return made.cpu()


# ---- folders


@dataclass(frozen=True, slots=True)
class _FolderJob:
    """Files of one cell: read, corrupt and write them."""

    sources: tuple[Path, ...]
    names: tuple[str, ...]
    target: str
    start: int
    kind: str
    severity: int
    size: int | None
    config: CopyConfig
    device: str


def _make_folders(
    files: ImageFiles,
    names: Sequence[str],
    out: Path,
    config: CopyConfig,
    size: int | None,
    machine: Machine,
    cells: Sequence[tuple[str, int]],
    progress: Progress | None,
) -> None:
    """Fill a temporary folder a cell, and put each into its place when its last file is there."""
    first = read_images(files.paths[:1], size=size)
    chunk = machine.batch_size or max(1, _PIXELS_A_JOB // first[0, 0].numel())
    with _working_folder(out) as work:
        for kind, severity in cells:
            for label in dict.fromkeys(name.split("/")[0] for name in names):
                (work / kind / str(severity) / label).mkdir(parents=True)
        jobs = [
            _FolderJob(
                sources=files.paths[start : start + chunk],
                names=tuple(names[start : start + chunk]),
                target=str(work / kind / str(severity)),
                start=start,
                kind=kind,
                severity=severity,
                size=size,
                config=config,
                device=machine.device,
            )
            for kind, severity in cells
            for start in range(0, len(names), chunk)
        ]
        left = {cell: sum((job.kind, job.severity) == cell for job in jobs) for cell in cells}
        done = 0
        for number, images in run_jobs(_make_files, jobs, workers=machine.workers):
            job = jobs[number]
            cell = (job.kind, job.severity)
            done += images
            left[cell] -= 1
            if not left[cell]:
                (out / job.kind).mkdir(exist_ok=True)
                Path(job.target).replace(out / job.kind / str(job.severity))
            if progress is not None:
                progress(done, len(cells) * len(names), f"{job.kind} {job.severity}")


def _file_names(files: ImageFiles, suffix: str) -> list[str]:
    """Return CLASS/FILE of each file; refuses two that would be one."""
    names = [
        f"{files.classes[label]}/{path.stem}{suffix}"
        for path, label in zip(files.paths, files.labels, strict=True)
    ]
    seen: dict[str, Path] = {}
    for name, path in zip(names, files.paths, strict=True):
        if name in seen:
            raise ValueError(f"{seen[name]} and {path} would both become {name}; rename one")
        seen[name] = path
    return names


def _make_files(job: _FolderJob) -> int:
    images = [read_images((path,), size=job.size) for path in job.sources]
    step = 0
    while step < len(images):
        # Neighbours of one size go through together.
        end = step + 1
        while end < len(images) and images[end].shape == images[step].shape:
            end += 1
        index = torch.arange(job.start + step, job.start + end)
        plain = CopyConfig(**{**asdict(job.config), "jpeg85": False})  # the file itself is the JPEG step
        made = _corrupted(torch.cat(images[step:end]), index, job.kind, job.severity, plain, job.device)
        for name, pixels in zip(job.names[step:end], made.permute(0, 2, 3, 1).numpy(), strict=True):
            picture = Image.fromarray(np.ascontiguousarray(pixels))
            if job.config.jpeg85:
                picture.save(Path(job.target) / name, "JPEG", quality=85)
            else:
                picture.save(Path(job.target) / name, "PNG", compress_level=1)
        step = end
    return len(images)


# ---- the folder


@contextmanager
def _owned(out: Path) -> Iterator[None]:
    """Hold the folder's lock, which the operating system releases when the process dies, however it dies."""
    with (out / ".lock").open("a") as stream:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"another process is writing into {out}; wait for it, or name another folder"
                ) from None
        yield


@contextmanager
def _working_folder(out: Path) -> Iterator[Path]:
    """Yield a folder for unfinished files on the same disk; that of a killed process is removed first."""
    for stale in out.glob(".unfinished-*"):
        shutil.rmtree(stale, ignore_errors=True)
    work = Path(tempfile.mkdtemp(dir=out, prefix=".unfinished-"))
    try:
        yield work
    finally:
        _rows.cache_clear()
        shutil.rmtree(work, ignore_errors=True)


def _put(finished: Path, place: Path) -> None:
    with finished.open("rb") as stream:
        os.fsync(stream.fileno())
    finished.replace(place)


def _check_space(out: Path, needed: int) -> None:
    free = shutil.disk_usage(out).free
    if needed > free:
        raise ValueError(
            f"the copy needs {needed / 2**30:.1f} GiB, {out} has {free / 2**30:.1f} GiB left; "
            "take fewer kinds, severities or images, or another disk"
        )


def _check_same(out: Path, made_by: Mapping[str, Any]) -> None:
    file = out / "corrupt.json"
    if not file.exists():
        strangers = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
        if strangers:
            raise ValueError(f"{out} holds {strangers[0]} of another origin; name an empty folder with --out")
        return
    try:
        before = json.loads(file.read_text())
    except json.JSONDecodeError:
        raise ValueError(f"{file} is damaged; remove the folder or name another with --out") from None
    changed = [name for name in made_by if before.get(name) != made_by[name]]
    if changed:
        what = "; ".join(f"{name} was {before.get(name)}, now {made_by[name]}" for name in changed[:2])
        raise ValueError(f"{out} holds another corrupted copy ({what}); name another folder with --out")


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps({**content, "filterbands": __version__}, indent=2) + "\n"
    write_whole(file, lambda temporary: temporary.write_text(text))


def _save(file: Path, array: np.ndarray[Any, np.dtype[Any]]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.save(stream, array, allow_pickle=False)

    write_whole(file, write)
