"""Corrupted copies of whole data sets on disk, made in parallel, resumable, each file whole or absent.

There are two layouts. *Arrays*, as in CIFAR-10-C: `KIND.npy` (5n, h, w, c), severity after severity, and
`labels.npy`. *Folders*, as in ImageNet-C: `KIND/SEVERITY/CLASS/FILE`.
"""

import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from PIL import Image

from ..datasets import ImageFiles, ImageSet, Reading, Remarks, read_images, say_remarks
from ..disk import owned, put_in_place, read_json, readable, working_folder, write_text, write_whole
from ..types import Images, Progress
from ..version import __version__
from ..workers import run_jobs
from .plan import PIXELS_TOGETHER, CopyConfig, Job, Machine, plan_jobs
from .table import CORRUPTIONS_VERSION, SMALLEST, check_files

_RECORD, _LABELS = "corrupt.json", "labels.npy"
# Records of folders that earlier versions wrote have none.
_CONTENTS = "contents"


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
        out: An existing folder: empty, or with an earlier part of the same copy.
        config: The content of the copy, which is recorded in `corrupt.json`.
        machine: The machine that makes it; None uses one process.
        progress: Called with the number of images made and the total number.

    Raises:
        ValueError: The folder contains another copy, another process writes it, or the disk is too small.
        FileNotFoundError: The textures of `frost` are missing.
        OSError: A file cannot be written; no partial file is left.
    """
    machine = machine or Machine()
    copies, (height, width) = len(config.severities), data.images.shape[2:]
    config = config.at_size(height, width)
    described = _describe(data.name, data.split, data.fingerprint(), data.index.tolist(), config)
    made_by = {"layout": "arrays", **described}
    with _owned(out, made_by):
        missing = [kind for kind in config.kinds if not (out / f"{kind}.npy").exists()]
        check_files(missing)
        # The images themselves are written for the workers to read.
        needed, free = (len(missing) * copies + 1) * data.images.numel(), shutil.disk_usage(out).free
        if missing and needed > free:
            raise ValueError(
                f"the copy needs {readable(needed)}, {out} has {readable(free)} left; "
                "use fewer kinds, severities or images, or another disk"
            )
        # Bytes where they suffice, as in the published set.
        labels = data.labels.numpy().astype(np.uint8 if len(data.classes) <= 256 else np.int64)

        def begin() -> None:
            _write_record(out, made_by)
            write_whole(out / _LABELS, lambda file: _save(file, np.tile(labels, copies)))

        if not missing:
            begin()
            return missing
        with _working_folder(out) as work:
            _save(work / "images.npy", data.images.contiguous().numpy())
            _save(work / "index.npy", data.index.numpy())
            for kind in missing:
                _write_header(work / f"{kind}.npy", (copies * len(data), height, width, data.images.shape[1]))
            cells = [(kind, severity, f"{kind}.npy") for kind in missing for severity in config.severities]
            jobs = plan_jobs(cells, len(data), height * width, work=work, config=config, machine=machine)
            _do(jobs, _make_rows, out, machine, progress, begin)
    return missing


def copy_folders(
    files: ImageFiles,
    out: Path,
    config: CopyConfig,
    *,
    name: str,
    split: str,
    reading: Reading | None = None,
    machine: Machine | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Write the missing cells of a copy as `KIND/SEVERITY/CLASS/FILE` and return the kinds written.

    Each file is read when it is needed. The data set may therefore be larger than memory, and images may
    differ in size. Files are written as PNG, or as JPEG of quality 85 with `config.jpeg85`.

    Args:
        files: The result of `list_images`. If `config` names no constants, the size of the first one does.
        out: As for `copy_arrays`.
        config: As for `copy_arrays`.
        name: The name of the data set, for the record.
        split: The name of the split, for the record.
        reading: How files are read; None reads them as they are, each in its size.
        machine: As for `copy_arrays`.
        progress: As for `copy_arrays`.

    Raises:
        ValueError: As for `copy_arrays`, or a file is not an image.
        FileNotFoundError: As for `copy_arrays`.
        OSError: A file cannot be written; no partial cell is left.
    """
    machine, reading = machine or Machine(), reading or Reading()
    height, width = read_images(files.paths[:1], reading=reading).shape[2:]
    config = config.at_size(height, width)
    # What changes no pixel is no part of a copy; of older copies, the record has None in its place.
    options = reading.pixels() or None
    size = reading.crop if reading.crop == reading.resize else 0
    listing = "\n".join(f"{path.parent.name}/{path.name} {path.stat().st_size}" for path in files.paths)
    fingerprint = hashlib.sha256(f"{listing}\n{options}".encode()).hexdigest()
    described = _describe(name, split, fingerprint, files.index, config)
    if progress is not None:
        images = len(files.paths) * len(config.kinds) * len(config.severities)
        progress(0, images, "looking for changes")
    # Each cell decodes all files, so that reading them once more is little.
    contents = {_CONTENTS: files.fingerprint()}
    made_by = {"layout": "folders", "size": size or None, "reading": options, **described, **contents}
    with _owned(out, made_by):
        names = _file_names(files, ".jpg" if config.jpeg85 else ".png")
        begin = partial(_write_record, out, made_by)
        cells = [
            (kind, severity, f"{kind}/{severity}")
            for kind in config.kinds
            for severity in config.severities
            if not (out / kind / str(severity)).exists()
        ]
        if not cells:
            begin()
            return []
        check_files(kind for kind, _, _ in cells)
        with _working_folder(out) as work:
            for _, _, target in cells:
                for place in dict.fromkeys(name.rpartition("/")[0] for name in names):
                    (work / target / place).mkdir(parents=True, exist_ok=True)
            jobs = plan_jobs(cells, len(names), height * width, work=work, config=config, machine=machine)
            make = partial(_make_files, files, names, reading)
            remarks = _do(jobs, make, out, machine, progress, begin)
        say_remarks(remarks, reading, images=len(names), name=name)
    return list(dict.fromkeys(kind for kind, _, _ in cells))


def _describe(
    name: str, split: str, fingerprint: str, index: Sequence[int], config: CopyConfig
) -> dict[str, Any]:
    # The rows of a part of a split are not those of the images' numbers.
    numbers = {} if list(index) == list(range(len(index))) else {"index": list(index)}
    return {
        "data": name,
        "split": split,
        "fingerprint": fingerprint,
        "images": len(index),
        # Without the kinds, because more may be added to a copy.
        "severities": list(config.severities),
        "parameters": config.parameters,
        "seed": config.seed,
        "jpeg85": config.jpeg85,
        "corruptions_version": CORRUPTIONS_VERSION,
        **numbers,
    }


def _do(
    jobs: Sequence[Job],
    make: Callable[[Job], Remarks | None],
    out: Path,
    machine: Machine,
    progress: Progress | None,
    begin: Callable[[], None],
) -> Remarks:
    """Do the jobs, and move each target to its place when the last of its jobs is done.

    `begin` is called before the first target, so that jobs that fail earlier leave nothing.
    """
    left = Counter(job.target for job in jobs)
    begun, done, images = False, 0, sum(job.stop - job.start for job in jobs)
    remarks: Remarks = {}
    for number, found in run_jobs(make, jobs, workers=machine.workers):
        job = jobs[number]
        for remark, paths in (found or {}).items():
            remarks.setdefault(remark, set()).update(paths)
        done += job.stop - job.start
        left[job.target] -= 1
        if not left[job.target]:
            if not begun:
                begin()
                begun = True
            place = out / job.target
            place.parent.mkdir(exist_ok=True)
            put_in_place(job.work / job.target, place)
        if progress is not None:
            progress(done, images, f"{job.kind} {job.severity}")
    return remarks


def _write_header(file: Path, shape: tuple[int, ...]) -> None:
    with file.open("wb") as stream:
        npy.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _make_rows(job: Job) -> None:
    images, index = (_rows(str(job.work / f"{name}.npy")) for name in ("images", "index"))
    part = slice(job.start, job.stop)
    made = job.corrupted(torch.from_numpy(images[part].copy()), index[part].tolist(), jpeg=job.config.jpeg85)
    first = job.config.severities.index(job.severity) * len(index) + job.start
    with (job.work / job.target).open("r+b", buffering=0) as stream:
        npy.read_magic(stream)
        npy.read_array_header_1_0(stream)
        stream.seek(first * images[0].size, io.SEEK_CUR)
        left = made.permute(0, 2, 3, 1).contiguous().numpy().tobytes()
        while left:
            left = left[stream.write(left) or 0 :]


@lru_cache(maxsize=2)
def _rows(file: str) -> Any:
    """Return an array of the parent process, memory-mapped, so that all workers share one copy."""
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _file_names(files: ImageFiles, suffix: str) -> list[str]:
    """Return CLASS/FILE of each copy; raise ValueError if two files would have the same name."""
    seen: dict[str, Path] = {}
    for path, old in zip(files.paths, files.names, strict=True):
        name = old.removesuffix(path.suffix) + suffix
        if name in seen:
            raise ValueError(f"{seen[name]} and {path} would both become {name}; rename one")
        seen[name] = path
    return list(seen)


def _make_files(files: ImageFiles, names: Sequence[str], reading: Reading, job: Job) -> Remarks:
    remarks: Remarks = {}
    kind, options = ("JPEG", {"quality": 85}) if job.config.jpeg85 else ("PNG", {"compress_level": 1})
    start = job.start
    for images in _together(files.paths[job.start : job.stop], reading, remarks):
        part = slice(start, start + len(images))
        # The file itself is the JPEG step.
        made = job.corrupted(torch.cat(images), files.index[part], jpeg=False)
        for name, pixels in zip(names[part], made.permute(0, 2, 3, 1).contiguous().numpy(), strict=True):
            Image.fromarray(pixels).save(job.work / job.target / name, kind, **options)
        start = part.stop
    return remarks


def _together(paths: Sequence[Path], reading: Reading, remarks: Remarks) -> Iterator[list[Images]]:
    """Yield neighbors of one size, about a million pixels at once: a job is planned by its first file."""
    waiting: list[Images] = []
    for path in paths:
        image = read_images([path], reading=reading, remarks=remarks)
        _, _, height, width = image.shape
        if min(height, width) < SMALLEST:
            raise ValueError(
                f"{path} is {height}x{width}, and corrupt needs sides of at least {SMALLEST} pixels; leave "
                "it out, or give --size N"
            )
        full = len(waiting) * height * width >= PIXELS_TOGETHER
        if waiting and (full or image.shape != waiting[0].shape):
            yield waiting
            waiting = []
        waiting.append(image)
    if waiting:
        yield waiting


@contextmanager
def _owned(out: Path, made_by: Mapping[str, Any]) -> Iterator[None]:
    """Hold the lock of the folder of a copy, which must be empty or have an earlier part of the same copy."""
    with owned(out):
        _check_same(out, made_by)
        yield


@contextmanager
def _working_folder(out: Path) -> Iterator[Path]:
    """Yield a folder for unfinished files on the same disk."""
    with working_folder(out) as work:
        try:
            yield work
        finally:
            # Windows removes no file that is mapped.
            _rows.cache_clear()


def _check_same(out: Path, made_by: Mapping[str, Any]) -> None:
    """Raise ValueError if the folder contains anything else than an earlier part of the same copy."""
    file = out / _RECORD
    found = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    if found <= {_RECORD, _LABELS} and found != {_LABELS}:
        # A copy that ended before its first kind binds nobody.
        return
    if not file.exists():
        raise ValueError(f"{out} holds {min(found)} of another origin; name an empty folder with --out")
    try:
        before = read_json(file)
        known = [name for name in made_by if name in before or name != _CONTENTS]
        changed = [name for name in known if before.get(name) != made_by[name]]
    except (ValueError, AttributeError):
        raise ValueError(f"{file} is damaged; remove the folder or name another with --out") from None
    if changed:
        told = {name: f"{name} was {before.get(name)}, now {made_by[name]}" for name in changed}
        told |= {name: "of other images" for name in ("fingerprint", _CONTENTS) if name in told}
        what = "; ".join(list(dict.fromkeys(told.values()))[:2])
        raise ValueError(f"{out} holds another corrupted copy ({what}); name another folder with --out")


def _write_record(out: Path, content: Mapping[str, Any]) -> None:
    write_text(out / _RECORD, json.dumps({**content, "filterbands": __version__}, indent=2) + "\n")


def _save(file: Path, array: np.ndarray[Any, np.dtype[Any]]) -> None:
    # Through a stream, because np.save adds a suffix to the names of temporary files.
    with file.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)
