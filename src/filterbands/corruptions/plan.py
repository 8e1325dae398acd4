"""The plan of a corrupted copy: its content, the machine that makes it, and its jobs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ..types import Images
from .table import CORRUPTIONS, corrupt

# Pixels of one job: enough to hide its cost, and few enough to keep progress and cores even.
_PIXELS_PER_JOB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyConfig:
    """The content of a copy."""

    kinds: tuple[str, ...]
    """Keys of `CORRUPTIONS`."""
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    """From 1 to 5, ascending."""
    parameters: str = "cifar"
    """`cifar` or `imagenet`."""
    seed: int = 0
    """Seed of the random kinds."""
    jpeg85: bool = False
    """Whether a JPEG step of quality 85 comes last, as in the published ImageNet-C."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine that makes a copy; it changes no byte, except for rounding on another device."""

    device: str = "cpu"
    """A torch device."""
    workers: int = 1
    """Number of processes on a CPU."""
    batch_size: int = 0
    """Images per job; 0 for about a million pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A part of a copy: images [start, stop) of one kind at one severity."""

    kind: str
    severity: int
    start: int
    stop: int
    work: Path
    """The folder of unfinished files."""
    target: str
    """The file or folder that this job is a part of, relative to the folder of the copy."""
    config: CopyConfig
    device: str
    offset: int = 0
    """Position of the first byte in an array's file."""
    sources: tuple[Path, ...] = ()
    """The image files to read, where the copy is made of files."""
    names: tuple[str, ...] = ()
    """The files to write, relative to the target."""
    size: int | None = None
    """Side to which files are resized and cropped."""

    def corrupted(self, images: Images, index: Iterable[int], *, jpeg: bool) -> Images:
        """Return corrupted images on the CPU, compressed if `jpeg` is true; `index` numbers the images."""
        made = corrupt(
            images.to(self.device),
            self.kind,
            severity=self.severity,
            seed=self.config.seed,
            parameters=self.config.parameters,
            index=torch.tensor(list(index), dtype=torch.int64),
        )
        if jpeg:
            unused = torch.zeros(len(made), dtype=torch.int64)
            made = CORRUPTIONS["jpeg_compression"].function(made, (85.0,), key=unused)
        return made.cpu()


def chunks(images: int, pixels: int, machine: Machine) -> Iterator[tuple[int, int]]:
    """Yield first and last position (exclusive) of the images of each job, for images of `pixels` pixels."""
    step = machine.batch_size or max(1, _PIXELS_PER_JOB // pixels)
    for start in range(0, images, step):
        yield start, min(start + step, images)
