"""What the verbs share: options, the answer that they return, progress on standard error."""

import contextlib
import math
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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

from ..checks import hint
from ..datasets import SPLITS, ImageSet, list_images, load_data
from ..engine import is_first_process, pick_device, set_threads
from ..evaluation import Files
from ..models import ARCHITECTURES, check_mean_std, load_model
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
    traceback: bool = False
    """Show where an error arose, not its one line alone."""


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
            near = hint(self.split, SPLITS)
            raise ValueError(f"--split needs one of {', '.join(SPLITS)}, got {self.split!r}{near}")
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


def name_of(model: str) -> str:
    """Return the name of the file or folder of a MODEL argument; a spec names itself."""
    path = Path(model)
    return path.resolve().name if path.exists() else model


# Seconds between lines where standard error is not a terminal.
_EVERY = 30.0


@dataclass(slots=True)
class _Lines:
    """What long work tells a file or a pipe: a line now and then, with what is done and what is left."""

    label: str
    began: float = field(default_factory=time.monotonic)
    first: tuple[int, float] | None = None
    """Units done when this part of the work began, as far as is known, and when that was."""
    last: tuple[int, int, str, float] | None = None

    def report(self, done: int, total: int, what: str) -> None:
        """Take a report of progress."""
        now = time.monotonic()
        if self.last is None or done < self.last[0] or total != self.last[1]:
            # The first report of a part. It may go on from earlier units, unless this is the first one.
            self.first = (done, now) if done > 1 else (0, self.last[3] if self.last else self.began)
        self.last = (done, total, what, now)

    def write(self) -> None:
        """Write a line; that nobody reads it does not stop the work."""
        with contextlib.suppress(OSError):
            print(f"{self.label}: {self.text(time.monotonic())}", file=sys.stderr, flush=True)  # noqa: T201

    def text(self, now: float) -> str:
        """Return what is known at a time of the clock."""
        elapsed = timedelta(seconds=int(now - self.began))
        if self.first is None or self.last is None:
            return f"at work for {elapsed}"
        (begun, then), (done, total, what, _) = self.first, self.last
        left = ""
        if done > begun:
            seconds = (now - then) * (total - done) / (done - begun)
            left = f", about {timedelta(seconds=round(seconds))} left"
        return f"{done} of {total} after {elapsed}{left}: {what}"


@contextmanager
def _lines(label: str, *, each: bool) -> Iterator[Progress]:
    """Yield a reporter that writes a line every half minute, and one per report where `each` is true."""
    lines, ended = _Lines(label), threading.Event()

    def tick() -> None:
        while not ended.wait(_EVERY):
            lines.write()

    def report(done: int, total: int, what: str) -> None:
        lines.report(done, total, what)
        if each:
            lines.write()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield report
    finally:
        ended.set()
        thread.join()


@contextmanager
def progress_bar(label: str, *, lines: bool = False) -> Iterator[Progress | None]:
    """Yield a reporter that draws a bar with elapsed and remaining time on standard error.

    Where standard error is not a terminal, a line is written every half minute, also while nothing is
    reported; with `lines`, for work of hours, one line per report too. Of several processes that train
    together, the first alone tells something.
    """
    if not is_first_process():
        yield None
        return
    if not sys.stderr.isatty():
        with _lines(label, each=lines) as report:
            yield report
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
