"""`filterbands corrupt`: writes a corrupted copy of a data set in the published layout."""

import os
from dataclasses import asdict, dataclass, field

import torch
import tyro

from ..corruptions import (
    CORRUPTIONS_VERSION,
    CopyConfig,
    Machine,
    check_files,
    copy_arrays,
    copy_folders,
)
from ..datasets import ImageSet, read_images
from ..disk import make_folder
from ..evaluation import Files
from .shared import Answer, DeviceOptions, ImageOptions, OutFolder, Spec, check_range, progress_bar


@dataclass(frozen=True, kw_only=True)
class CorruptOptions(DeviceOptions):
    """Write a corrupted copy of a data set: KIND.npy (5n, h, w, 3), labels.npy, corrupt.json.

    Of folder:DIR it writes KIND/SEVERITY/CLASS/FILE.png, the layout of ImageNet-C.
    """

    spec: tyro.conf.Positional[Spec]
    out: OutFolder
    """Folder to write into, created if need be; what is there from the same command is kept."""
    images: ImageOptions = field(default_factory=ImageOptions)
    """Which images of the data set are taken."""
    config: CopyConfig = field(default_factory=CopyConfig)
    """What is made of each image."""
    workers: int = 0
    """Processes; 0 for one per core, or one in all where the work is small or done on a GPU."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("--workers", self.workers, 0, 1024)


# Fewer images than this, over all kinds and severities, are made before processes have started.
_SMALL = 5000


def run(options: CorruptOptions) -> Answer:
    """Write the missing kinds and return what the folder holds."""
    config = options.config
    check_files(config.kinds)
    device = options.start(options.device)
    out = make_folder(options.out)
    with progress_bar("corrupt") as progress:
        data = options.images.in_turn(options.spec)
        config = config.at_size(*_size(data))
        images = len(data.files.paths) if isinstance(data, Files) else len(data)
        machine = _machine(options, config, device, images)
        if isinstance(data, Files):
            written = copy_folders(
                data.files,
                out,
                config,
                name=data.name,
                split=data.split,
                reading=data.reading,
                machine=machine,
                progress=progress,
            )
        else:
            written = copy_arrays(data, out, config, machine=machine, progress=progress)
    kept = len(config.kinds) - len(written)
    wrote = f"wrote {len(written)} kinds" + (f", kept {kept}" if kept else "")
    severities = ",".join(map(str, config.severities))
    return Answer(
        document={
            "out": str(out),
            "written": written,
            "data": data.name,
            "split": options.images.split,
            "images": images,
            **asdict(config),
            "corruptions_version": CORRUPTIONS_VERSION,
        },
        text=f"{out}: {wrote}, severities {severities}, {images:,} images each",
    )


def _size(data: ImageSet | Files) -> tuple[int, int]:
    """Return height and width of the images, of files those of the first."""
    first = (
        read_images(data.files.paths[:1], reading=data.reading) if isinstance(data, Files) else data.images
    )
    return first.shape[2], first.shape[3]


def _machine(options: CorruptOptions, config: CopyConfig, device: torch.device, images: int) -> Machine:
    small = images * len(config.kinds) * len(config.severities) < _SMALL
    # Not every system tells which cores a process may use.
    cores = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    workers = options.workers or (1 if small or device.type != "cpu" else len(cores))
    return Machine(device=str(device), workers=workers, batch_size=options.batch_size)
