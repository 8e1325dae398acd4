"""What the verbs share: options, the answer that they return, progress on standard error."""

import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from torch import nn

from ..datasets import SPLITS, ImageSet, list_images, load_data
from ..engine import pick_device, set_threads
from ..evaluation import Files
from ..models import ARCHITECTURES, check_mean_std, load_model
from ..models import name_of as name_of
from ..types import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a verb returns: a document for `--json`, a text for people, and the exit code."""

    document: Mapping[str, Any]
    text: str
    code: int = 0


Spec = Annotated[
    str, tyro.conf.arg(help="Images: planted, cifar10:DIR, cifar100:DIR, folder:DIR or npz:FILE.")
]
OutFile = Annotated[str, tyro.conf.arg(metavar="FILE")]
OutFolder = Annotated[str, tyro.conf.arg(metavar="DIR")]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of every verb."""

    json: bool = False
    """Print one JSON document on standard output, and nothing else there."""


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(Options):
    """Options of verbs that compute."""

    threads: int = 0
    """Threads of torch's operations in each process; 0 leaves the setting as it is."""

    def __post_init__(self) -> None:
        check_range("--threads", self.threads, 0, 1024)

    def start(self, device: str | None) -> torch.device:
        """Set the threads and return the device; refuse a device that is not there."""
        set_threads(self.threads or None)
        return pick_device(device or "auto")


@dataclass(frozen=True, kw_only=True)
class DeviceOptions(ComputeOptions):
    """Options of verbs that compute and have no config that says where."""

    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda or cuda:N."""
    batch_size: int = 0
    """Images at a time; 0 leaves it to the verb."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("--batch-size", self.batch_size, 0, math.inf)


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """What the network is and what it expects of its images."""

    arch: str | None = None
    """Architecture of the network; a Run knows its own."""
    mean: tuple[float, ...] | None = None
    """What the network subtracts from each channel of images in [0, 1]."""
    std: tuple[float, ...] | None = None
    """What the network divides each channel by."""

    def __post_init__(self) -> None:
        check_mean_std(self.mean, self.std)
        if self.arch is not None and self.arch not in ARCHITECTURES:
            raise ValueError(f"unknown --arch {self.arch!r}; known are {', '.join(ARCHITECTURES)}")

    def load(self, model: str) -> nn.Module:
        """Return the network that a MODEL argument and these options name."""
        return load_model(model, arch=self.arch, mean=self.mean, std=self.std)


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Which images of a data set are taken."""

    split: str = "test"
    """Split: train, validation, full_train or test."""
    size: int = 0
    """Side in pixels to which images of folder:DIR are resized and cropped; 0 takes them as they are."""
    limit: int = 0
    """Take the first N images; 0 for all."""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"--split needs one of {', '.join(SPLITS)}, got {self.split!r}")
        check_range("--size", self.size, 0, 4096)
        check_range("--limit", self.limit, 0, math.inf)

    def load(self, spec: str) -> ImageSet:
        """Return the images of a data set."""
        return load_data(spec, split=self.split, size=self.size or None, limit=self.limit or None)

    def in_turn(self, spec: str) -> ImageSet | Files:
        """Return the images of a data set; those of a folder, which may fill memory, are not read yet."""
        kind, _, place = spec.partition(":")
        if kind != "folder" or not place:
            return self.load(spec)
        folder = Path(place).expanduser()
        files = list_images(folder, split=self.split)
        return Files(
            files=files.first(self.limit) if self.limit else files,
            name=f"folder:{folder.resolve().name}",
            split=self.split,
            size=self.size or None,
        )


def check_range(flag: str, value: float, low: float, high: float, *, what: str = "a number") -> None:
    """Raise ValueError for a value outside [low, high]."""
    if not low <= value <= high:
        upper = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise ValueError(f"{flag} needs {what} {upper}, got {value:g}")


@contextmanager
def progress_bar(label: str, *, lines: bool = False) -> Iterator[Progress | None]:
    """Yield a reporter that draws a bar with elapsed and remaining time on standard error.

    Where standard error is not a terminal, nothing is drawn and it yields None; with `lines`, for work of
    hours whose output goes to a file, it yields a reporter that writes one line each time.
    """
    if not sys.stderr.isatty():
        began = time.monotonic()

        def write(done: int, total: int, what: str) -> None:
            elapsed = timedelta(seconds=int(time.monotonic() - began))
            print(f"{label}: {done} of {total} after {elapsed}: {what}", file=sys.stderr, flush=True)  # noqa: T201

        yield write if lines else None
        return
    columns = (
        *(TextColumn(label), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn()),
        *(TextColumn("left"), TimeRemainingColumn()),
        # Names come from users and are not markup.
        TextColumn("{task.description}", markup=False),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as rich:
        task = rich.add_task("", visible=False)

        def draw(done: int, total: int, what: str) -> None:
            rich.update(task, completed=done, total=total, description=what, visible=True)

        yield draw
