"""What the verbs share: options, the answer that they return, progress on standard error."""

import contextlib
import logging
import math
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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

from ..checks import hint, printable
from ..datasets import SPLITS, ImageSet, Reading, is_one_part, load_data, placed, shares_images
from ..engine import is_first_process, pick_device, set_threads
from ..evaluation import Files, has_seen, named_images, reading_for, say_seen
from ..models import (
    architecture_of,
    check_architecture,
    check_mean_std,
    describe,
    known_place,
    known_trainings,
    load_model,
    remembered,
    run_of,
)
from ..models import name_of as name_of
from ..run import Run
from ..types import Progress

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a verb returns: a document for `--json`, a text for people, and the exit code."""

    document: Mapping[str, Any]
    text: str
    code: int = 0
    shown: bool = True
    """False for one of several processes that all have the answer."""


Spec = Annotated[
    str, tyro.conf.arg(help="Images: planted, digits, cifar10:DIR, cifar100:DIR, folder:DIR or npz:FILE.")
]
# What may be left out of a verb whose MODEL is a Run.
SpecOfRun = Annotated[
    str | None,
    tyro.conf.arg(
        help="Images: planted, digits, cifar10:DIR, cifar100:DIR, folder:DIR or npz:FILE; a Run may leave it "
        "out, as it knows what it was trained on."
    ),
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
    """Network that a file is of: cifar_resnet20 ..., timm:NAME, torchvision:NAME, or module:function, also as
    "module:function(depth=20)" (which runs that code); a Run knows its own."""
    key: str | None = None
    """Entry of the checkpoint that holds the weights, such as model_ema or ema.shadow."""
    prefix: str | None = None
    """What to remove from the names in the file, such as encoder.; found where only one fits."""
    mean: tuple[float, ...] | None = None
    """What the network subtracts from each channel of images in [0, 1]; one number for all."""
    std: tuple[float, ...] | None = None
    """What the network divides each channel by; one number for all."""

    def __post_init__(self) -> None:
        check_mean_std(self.mean, self.std)
        if self.arch is not None:
            check_architecture(self.arch)

    def specs(self, *models: str) -> tuple[str, ...]:
        """Return what may say the size of images: MODEL arguments, or the architecture of what is no Run."""
        return tuple(model if self.arch is None or run_of(model) else self.arch for model in models)

    def load(self, model: str) -> nn.Module:
        """Return the network that a MODEL argument and these options name."""
        return load_model(
            model, arch=self.arch, key=self.key, prefix=self.prefix, mean=self.mean, std=self.std
        )

    def described(self, network: nn.Module, model: str) -> dict[str, str]:
        """Return the metadata of a file of weights of the network that `load` returned for this MODEL.

        What the record of a Run says of its training goes into them too.
        """
        arch = architecture_of(model, self.arch, key=self.key) or ""
        return describe(network, arch=arch) | remembered(model)


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Which images of a data set are taken."""

    split: str = "test"
    """Split: train, validation, full_train or test."""
    reading: Reading = field(default_factory=Reading)
    """How the files of folder:DIR are read."""
    limit: int = 0
    """Take N images: the first ones, or evenly many of each class if sorted by class; 0 for all."""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            near = hint(self.split, SPLITS)
            raise ValueError(f"--split needs one of {', '.join(SPLITS)}, got {self.split!r}{near}")
        check_range("--limit", self.limit, 0, math.inf)

    def check_used(self, data: str | None, usual: "ImageOptions") -> None:
        """Raise ValueError where these options are given and no data set is named that they are about."""
        if data is None and self != usual:
            raise ValueError("options of images, such as --split and --limit, need --data SPEC")

    def of(self, data: str | None, models: Sequence[str]) -> tuple[str, "ImageOptions"]:
        """Return the spec of the images of MODEL arguments, and these options at its size; see `data_of`."""
        spec, reading = data_of(data, models, split=self.split, reading=self.reading)
        return spec, replace(self, reading=reading)

    def load(self, spec: str, *, networks: Sequence[str] = ()) -> ImageSet:
        """Return the images of a data set; those of a folder in the size that networks expect or Runs had."""
        reading = reading_for(spec, networks, self.reading)
        return load_data(spec, split=self.split, limit=self.limit or None, reading=reading)

    def in_turn(self, spec: str, *, networks: Sequence[str] = ()) -> ImageSet | Files:
        """Return the images of a data set; those of a folder, which may fill memory, are not read yet."""
        limit = self.limit or None
        return named_images(spec, split=self.split, limit=limit, reading=self.reading, networks=networks)


def names_of(models: Sequence[str]) -> list[str]:
    """Return what to call networks: the ends of their paths where these differ."""
    short = [name_of(model) for model in models]
    return short if len(set(short)) == len(short) else list(models)


def data_of(data: str | None, models: Sequence[str], *, split: str, reading: Reading) -> tuple[str, Reading]:
    """Return the images that MODELs are measured on: those named, else what the Runs were trained on.

    Args:
        data: The spec that `--data` names.
        models: The MODEL arguments.
        split: The split that is asked for.
        reading: How the files of a folder are read.

    Returns:
        The spec, and how the files of a folder are read: of a Run's own images, in the size that it was
        trained on. For images that are named, `reading_for` finds the size.

    Raises:
        ValueError: No spec is named, and a MODEL is no Run, or the Runs were trained on several data sets, or
            on the very images of the split.

    A line says where a Run, or what it started from, was trained on images that are named.
    """
    if data is not None:
        for model in models:
            if has_seen(model, data, split):
                say_seen(model)
        return data, reading
    found: dict[tuple[str, int], str] = {}
    seen: dict[str, None] = {}
    for model in models:
        if not Run(Path(model)).exists:
            raise ValueError(
                f"--data SPEC is missing: {model} is no Run, which would know its images; name them, such as "
                "--data cifar10:DIR, folder:DIR or planted"
            )
        config = Run(Path(model)).read()["config"]
        spec, side, trained = config.get("data"), config.get("size", 0), config.get("split")
        if not isinstance(spec, str) or type(side) is not int:
            raise ValueError(
                f"--data SPEC is missing: the record of {model} (run.json) is damaged and does not say its "
                "images; name them"
            )
        spec = _found_again(model, spec)
        if trained != split and is_one_part(spec, (split, str(trained))):
            raise ValueError(
                f"--data SPEC is missing: {spec} has no {split} images but those that {model} was trained "
                "on; name images that it has not seen"
            )
        found[spec, side] = model
        seen[str(trained)] = None
    if len(found) > 1:
        one, other = [f"{model} on {spec}" for (spec, _), model in found.items()][:2]
        raise ValueError(f"--data SPEC is missing: {one} and {other} were trained; name one for all")
    ((spec, side),) = found
    names, splits = " and ".join(models), ", ".join(seen)
    if takes_size := side > 0 and not (reading.resize or reading.crop):
        reading = replace(reading, size=side)
    at = f", at {side} pixels" if takes_size else ""
    _LOG.warning("images: %s, split %s%s; %s was trained on its split %s", spec, split, at, names, splits)
    for model in models:
        # On its own split only where that is asked for, which the line says.
        if any(shares_images(part, (spec, split)) for part in known_trainings(model)[1:]):
            say_seen(model)
    return spec, reading


def _found_again(model: str, spec: str) -> str:
    """Return the spec of a Run's images from here; refuse one that may be other images, or none.

    Args:
        model: The Run.
        spec: As it was named, perhaps from another folder.
    """
    place, here = known_place(model), placed(spec)
    if here in (spec, place):
        return spec
    if not place and Path(spec.partition(":")[2]).expanduser().is_absolute():
        return spec
    if not place:
        raise ValueError(
            f"--data SPEC is missing: the record of {model} (run.json) does not say in which folder {spec} "
            "was; name its images"
        )
    if not Path(place.partition(":")[2]).exists():
        raise ValueError(
            f"--data SPEC is missing: {model} was trained on {place}, which is not there; name its images "
            "where they are now"
        )
    return place


def check_range(flag: str, value: float, low: float, high: float, *, what: str = "a number") -> None:
    """Raise ValueError for a value outside [low, high]."""
    if not low <= value <= high:
        upper = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        # Python makes no float of a whole number of 400 digits.
        shown = f"{value:g}" if isinstance(value, float) else f"{value!s:.40}"
        raise ValueError(f"{flag} needs {what} {upper}, got {shown}")


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
        self.last = (done, total, printable(what), now)

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
    label = printable(label)
    if not sys.stderr.isatty():
        with _lines(label, each=lines) as report:
            yield report
        return
    # Names come from users: they are neither markup nor a pattern.
    name = TextColumn(label.replace("{", "{{").replace("}", "}}"), markup=False)
    columns = (
        *(name, BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn()),
        *(TextColumn("left"), TimeRemainingColumn()),
        TextColumn("{task.description}", markup=False),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as rich:
        task = rich.add_task("", visible=False)

        def draw(done: int, total: int, what: str) -> None:
            rich.update(task, completed=done, total=total, description=printable(what), visible=True)

        yield draw
