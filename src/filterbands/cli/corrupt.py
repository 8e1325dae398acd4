"""`filterbands corrupt`: a corrupted copy of a data set in the published layout."""

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from ..corruptions import (
    CORRUPTIONS_VERSION,
    PARAMETERS,
    CopyConfig,
    Machine,
    copy_arrays,
    copy_folders,
    expand_kinds,
    find_textures,
)
from ..datasets import list_images, load_data
from ..disk import make_folder
from ..engine import pick_device, set_threads
from .shared import Answer, ComputeOptions, check_range, listed, progress_bar, severities


@dataclass(frozen=True, kw_only=True)
class CorruptOptions(ComputeOptions):
    """Write a corrupted copy of a data set: KIND.npy (5n, h, w, 3), labels.npy, corrupt.json.

    Of folder:DIR, KIND/SEVERITY/CLASS/FILE.png, as ImageNet-C is laid out.
    """

    spec: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SPEC")]
    """planted, cifar10:DIR, cifar100:DIR, folder:DIR or npz:FILE."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")]
    """Folder to write into, created if need be; what is there from the same command is kept."""
    split: Annotated[str, tyro.conf.arg(metavar="NAME")] = "test"
    """train, validation, full_train or test."""
    kinds: Annotated[str, tyro.conf.arg(metavar="A,B")] = ""
    """Kinds of corruption; all 19 by default; cbar is C-bar's ten; all-but-frost needs no textures."""
    severities: Annotated[str, tyro.conf.arg(metavar="1,2")] = "1,2,3,4,5"
    """Severities from 1 to 5."""
    parameters: Annotated[str, tyro.conf.arg(metavar="cifar|imagenet")] = "cifar"
    """Table of constants."""
    jpeg85: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """With --parameters imagenet: end with the JPEG step of quality 85 that ends the published set."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Seed of the random kinds."""
    size: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Side in pixels that images of folder:DIR are brought to; 0 takes them as they are."""
    limit: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Take the first N images; 0 for all."""
    workers: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Processes; 0 for one a core, or one in all where the work is small or done on a GPU."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("--size", self.size, 0, 4096)
        check_range("--limit", self.limit, 0, math.inf)
        check_range("--workers", self.workers, 0, 1024)
        severities(self.severities)
        if self.parameters not in PARAMETERS:
            raise ValueError(f"--parameters needs {' or '.join(PARAMETERS)}, got {self.parameters!r}")
        if self.jpeg85 and self.parameters != "imagenet":
            raise ValueError(
                "--jpeg85 is the last step of ImageNet-C; add --parameters imagenet, or leave it out"
            )


OPTIONS = CorruptOptions

# Fewer images than this, over all kinds and severities, are made sooner than processes start.
_SMALL = 5000


def run(options: CorruptOptions) -> Answer:
    """Write what is missing and say what is there."""
    config = CopyConfig(
        kinds=chosen_kinds(options.kinds, parameters=options.parameters),
        severities=severities(options.severities),
        parameters=options.parameters,
        seed=options.seed,
        jpeg85=options.jpeg85,
    )
    if "frost" in config.kinds:
        find_textures()  # before any work, not after half of it
    set_threads(options.threads or None)
    device = pick_device(options.device)
    out = make_folder(options.out)
    kind, _, place = options.spec.partition(":")
    with progress_bar("corrupt") as progress:
        if kind == "folder":
            if not place:
                raise ValueError("folder needs a place: write folder:DIR")
            files = list_images(Path(place).expanduser(), split=options.split)
            files = files.first(options.limit) if options.limit else files
            images = len(files.paths)
            name = f"folder:{Path(place).resolve().name}"
            written = copy_folders(
                files,
                out,
                config,
                name=name,
                split=options.split,
                size=options.size or None,
                machine=_machine(options, device, config, images),
                progress=progress,
            )
        else:
            data = load_data(options.spec, split=options.split, size=options.size or None)
            if options.limit:
                data = data.subset(torch.arange(min(options.limit, len(data))))
            images, name = len(data), data.name
            machine = _machine(options, device, config, images)
            written = copy_arrays(data, out, config, machine=machine, progress=progress)
    kept = len(config.kinds) - len(written)
    wrote = f"wrote {len(written)} kinds" + (f", kept {kept}" if kept else "")
    return Answer(
        document={
            "out": str(out),
            "written": written,
            "data": name,
            "split": options.split,
            "images": images,
            **asdict(config),
            "corruptions_version": CORRUPTIONS_VERSION,
        },
        text=f"{out}: {wrote}, severities {options.severities}, {images:,} images each",
    )


def chosen_kinds(text: str, *, parameters: str) -> tuple[str, ...]:
    """Return the kinds of a text such as `fog,contrast` or `cbar`; all 19 for an empty one."""
    return expand_kinds(listed(text) or ["c"], parameters=parameters)


def _machine(options: CorruptOptions, device: torch.device, config: CopyConfig, images: int) -> Machine:
    workers = options.workers
    if device.type != "cpu":
        workers = workers or 1
    elif not workers:
        small = images * len(config.kinds) * len(config.severities) < _SMALL
        workers = 1 if small else _cores()
    return Machine(device=str(device), workers=workers, batch_size=options.batch_size)


def _cores() -> int:
    """Return how many cores this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1
