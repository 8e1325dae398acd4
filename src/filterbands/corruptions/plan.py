"""The plan of a corrupted copy: its content, the machine that makes it, and its jobs."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..checks import seed_number
from ..types import Images
from .kinds import PARAMETERS
from .table import CORRUPTIONS, corrupt, expand_kinds, in_color, parameters_for, read_severities

PIXELS_TOGETHER = 1 << 20
"""Pixels of one job: enough to hide its cost, and few enough to keep progress and cores even."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyConfig:
    """The content of a copy."""

    kinds: tuple[str, ...] = ("c",)
    """Kinds of corruption or sets of them: c (all 19), cbar, all-but-frost (needs no textures)."""
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Severities from 1 to 5, ascending."""
    parameters: str | None = None
    """Table of constants: cifar or imagenet; by default cifar up to 64 pixels, imagenet above."""
    seed: int = 0
    """Seed of the random kinds."""
    jpeg85: bool = False
    """With parameters imagenet: end with the JPEG step of quality 85 that ends the published set."""

    def __post_init__(self) -> None:
        if self.parameters not in (None, *PARAMETERS):
            raise ValueError(f"parameters needs {' or '.join(PARAMETERS)}, got {self.parameters!r}")
        object.__setattr__(self, "kinds", expand_kinds(self.kinds, parameters=self.parameters))
        object.__setattr__(self, "severities", read_severities(self.severities))
        object.__setattr__(self, "seed", seed_number(self.seed))
        if tuple(sorted(set(self.severities))) != self.severities:
            raise ValueError(f"severities needs numbers from 1 to 5, ascending, got {self.severities}")
        if self.jpeg85 and self.parameters not in (None, "imagenet"):
            raise ValueError(
                "jpeg85 is the last step of ImageNet-C; set parameters to imagenet, or leave it out"
            )

    def at_size(self, height: int, width: int) -> "CopyConfig":
        """Return the config with the table of constants for images of this size, if it names none."""
        return replace(self, parameters=parameters_for(self.parameters, height, width))


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

    def corrupted(self, images: Images, index: Iterable[int], *, jpeg: bool) -> Images:
        """Return corrupted images on the CPU, compressed if `jpeg` is true; `index` numbers the images."""
        made = corrupt(
            images.to(self.device),
            self.kind,
            severity=self.severity,
            seed=self.config.seed,
            parameters=str(self.config.parameters),
            index=torch.tensor(list(index), dtype=torch.int64),
        )
        if jpeg:
            unused = torch.zeros(len(made), dtype=torch.int64)
            made = in_color(CORRUPTIONS["jpeg_compression"].function, made, (85.0,), key=unused)
        return made.cpu()


def plan_jobs(
    cells: Iterable[tuple[str, int, str]],
    images: int,
    pixels: int,
    *,
    work: Path,
    config: CopyConfig,
    machine: Machine,
) -> list[Job]:
    """Return the jobs of cells (kind, severity, target) of `images` images with `pixels` pixels each."""
    step = machine.batch_size or max(1, PIXELS_TOGETHER // pixels)
    return [
        Job(
            kind=kind,
            severity=severity,
            start=start,
            stop=min(start + step, images),
            work=work,
            target=target,
            config=config,
            device=machine.device,
        )
        for kind, severity, target in cells
        for start in range(0, images, step)
    ]
