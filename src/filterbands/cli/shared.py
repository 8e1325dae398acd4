"""What the verbs share: options, the answer they return, progress on standard error."""

import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

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

from ..models import ARCHITECTURES, load_model
from ..types import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a verb has to say: a document for `--json`, a text for people, and the exit code."""

    document: Mapping[str, Any]
    text: str
    code: int = 0


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of every verb."""

    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON document on standard output, and nothing else there."""


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(Options):
    """Options of verbs that compute."""

    device: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"
    """auto (CUDA where there is one), cpu, cuda or cuda:N."""
    batch_size: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Images at a time; 0 leaves it to the verb."""
    threads: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Threads of torch's operations; 0 leaves the setting as it is."""

    def __post_init__(self) -> None:
        check_range("--batch-size", self.batch_size, 0, math.inf)
        check_range("--threads", self.threads, 0, 1024)


@dataclass(frozen=True, kw_only=True)
class ModelOptions(ComputeOptions):
    """Options of verbs that run a network."""

    arch: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    """The network's architecture; a Run knows its own."""
    mean: Annotated[str, tyro.conf.arg(metavar="R,G,B")] = ""
    """What the network subtracts from each channel of images in [0, 1]."""
    std: Annotated[str, tyro.conf.arg(metavar="R,G,B")] = ""
    """What it divides by."""

    def load(self, model: str, *, classes: int = 10) -> nn.Module:
        """Return the network that a MODEL argument and these options name."""
        check_arch(self.arch)
        return load_model(
            model,
            arch=self.arch or None,
            classes=classes,
            mean=three_numbers("--mean", self.mean),
            std=three_numbers("--std", self.std),
        )


def check_arch(name: str) -> None:
    """Raise ValueError for a name that is not an architecture's; empty is none given."""
    if name and name not in ARCHITECTURES:
        raise ValueError(f"unknown --arch {name!r}; known are {', '.join(ARCHITECTURES)}")


def check_range(flag: str, value: float, low: float, high: float, *, what: str = "a number") -> None:
    """Raise ValueError for a value outside [low, high]."""
    if not low <= value <= high:
        upper = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise ValueError(f"{flag} needs {what} {upper}, got {value:g}")


def three_numbers(flag: str, text: str) -> tuple[float, ...] | None:
    """Return the numbers of a text such as `0.5,0.5,0.5`; None for an empty one."""
    if not text:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 3:
        raise ValueError(f"{flag} needs 3 numbers separated by commas (red,green,blue), got {text!r}")
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"{flag} needs finite numbers, got {text!r}")
    if flag == "--std" and min(values) <= 0:
        raise ValueError(f"--std needs numbers above 0, got {text!r}")
    return values


def listed(text: str) -> tuple[str, ...]:
    """Return the names of a text such as `fog,contrast`."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def severities(text: str) -> tuple[int, ...]:
    """Return the severities of a text such as `1,3,5`."""
    parts = listed(text)
    if not parts or any(part not in {"1", "2", "3", "4", "5"} for part in parts):
        raise ValueError(f"--severities needs numbers from 1 to 5 separated by commas, got {text!r}")
    return tuple(sorted({int(part) for part in parts}))


@dataclass(slots=True)
class _Bar:
    """A progress bar that appears with the first report."""

    rich: RichProgress
    tasks: dict[str, Any] = field(default_factory=dict)

    def __call__(self, done: int, total: int, what: str) -> None:
        if "task" not in self.tasks:
            self.tasks["task"] = self.rich.add_task(what, total=total)
        self.rich.update(self.tasks["task"], completed=done, total=total, description=what)


@dataclass(slots=True)
class _Lines:
    """A line a report, for work of hours whose output goes to a file."""

    label: str
    began: float = field(default_factory=time.monotonic)

    def __call__(self, done: int, total: int, what: str) -> None:
        elapsed = timedelta(seconds=int(time.monotonic() - self.began))
        print(f"{self.label}: {done} of {total} after {elapsed}: {what}", file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def progress_bar(label: str, *, lines: bool = False) -> Iterator[Progress | None]:
    """Yield a reporter that draws a bar with elapsed and remaining time on standard error.

    Where standard error is not a terminal it yields None, and nothing is drawn; with `lines`, a reporter
    that writes a line each time.
    """
    if not sys.stderr.isatty():
        yield _Lines(label) if lines else None
        return
    columns = (
        TextColumn(label),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        # Names come from users, and are shown as they are.
        TextColumn("{task.description}", markup=False),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as rich:
        yield _Bar(rich)


def say(line: str) -> None:
    """Print a line on standard error where it is a terminal."""
    if sys.stderr.isatty():
        print(line, file=sys.stderr)  # noqa: T201
