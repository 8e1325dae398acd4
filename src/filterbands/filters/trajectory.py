"""Spectra over training: from checkpoints, from a Run, and logged while it goes on."""

import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from ..disk import check_output
from ..models import convolutions, find_checkpoints, first_layer, load_model
from ..run import Run
from ..types import FloatImages
from . import tables
from .bands import EQUAL_AREA, check_cutoff
from .figures import ModelSpectrum
from .layers import layer_of
from .spectrum import analyze, measure

# What is told of a layer at every step; all are columns of `LayerSpectrum.to_row`.
_FIGURES = ("low_share", "low_energy", "mean_low_energy", "centroid", "zero_leak")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """How the layers of one network changed: a row a step and layer."""

    rows: tuple[dict[str, Any], ...]
    """`step`, `checkpoint` (empty where none was read), `layer` and its figures, in the order of steps."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in the order of the network."""
        return tuple(dict.fromkeys(row["layer"] for row in self.rows))

    def series(self, layer: str, figure: str = "low_share") -> list[tuple[int, float]]:
        """Return a figure of a layer against the step: (step, value) where it has a value.

        Raises:
            ValueError: No such layer or figure.

        >>> rows = ({"step": 0, "layer": "a", "low_share": 0.5}, {"step": 9, "layer": "a", "low_share": 0.7})
        >>> Trajectory(rows=rows).series("a")
        [(0, 0.5), (9, 0.7)]
        """
        mine = [row for row in self.rows if row["layer"] == layer]
        if not mine:
            raise ValueError(f"no layer {layer!r}; there are {', '.join(self.layers)}")
        if figure not in mine[0]:
            known = ", ".join(name for name, value in mine[0].items() if isinstance(value, float))
            raise ValueError(f"no figure {figure!r}; there are {known}")
        return [(row["step"], row[figure]) for row in mine if row[figure] is not None]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"trajectory": list(self.rows)}

    def to_frame(self) -> Any:
        """Return the rows as a pandas frame.

        Raises:
            ValueError: pandas is not installed.
        """
        return tables.frame(self.rows)

    def __str__(self) -> str:
        lines = [f"{'step':>10}  {'layer':<24}" + "".join(f"{name:>17}" for name in _FIGURES)]
        for row in self.rows:
            figures = "".join(f"{tables.figure(row.get(name)):>17}" for name in _FIGURES)
            lines.append(f"{row['step']:>10}  {row['layer']:<24}{figures}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return tables.html_rows(["step", "layer", *_FIGURES], self.rows)


def trajectory(
    checkpoints: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    arch: str | None = None,
    cutoff: float = EQUAL_AREA,
) -> Trajectory:
    """Return how the layers of one network changed over its checkpoints.

    Args:
        checkpoints: Files; a glob such as `run/iter_*.pt`; a folder of them; or a Run: of the checkpoints
            that it kept in `checkpoints/`, else of what its log says of the first layer, epoch by epoch.
            The step of a file is the last number in its name where those differ, else its place.
        arch: Their architecture; without it every tensor named like a weight is a layer.
        cutoff: Radius between low and high in (0, 1/2], cycles per pixel.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No checkpoint, or what `analyze` refuses.

    >>> trajectory("no/such/*.pt")
    Traceback (most recent call last):
    FileNotFoundError: no checkpoint fits no/such/*.pt
    """
    check_cutoff(cutoff)
    if isinstance(checkpoints, str | os.PathLike):
        folder = Path(checkpoints)
        kept = folder / "checkpoints"
        if (folder / "run.json").exists() and not kept.is_dir():
            return _of_log(Run(folder), cutoff)
        files = find_checkpoints(kept if kept.is_dir() else folder)
    else:
        files = tuple(file for entry in checkpoints for file in find_checkpoints(Path(entry)))
    if not files:
        raise ValueError("trajectory needs at least one checkpoint, got none")
    rows = []
    for step, file in steps_of(files):
        source = load_model(file, arch=arch) if arch is not None else file
        rows += rows_of(analyze(source, cutoff=cutoff), step=step, checkpoint=str(file))
    return Trajectory(rows=tuple(rows))


def steps_of(files: Sequence[Path]) -> list[tuple[int, Path]]:
    """Return files with their steps, rising: the last number in each name, or the place among the files."""
    found = [re.findall(r"\d+", file.stem) for file in files]
    steps = [int(numbers[-1]) if numbers else None for numbers in found]
    known = [step for step in steps if step is not None]
    if len(set(known)) < len(files):
        return list(enumerate(files))
    return sorted(zip(known, files, strict=True), key=lambda item: item[0])


def rows_of(spectrum: ModelSpectrum, *, step: int, checkpoint: str) -> list[dict[str, Any]]:
    """Return the layers of a network at one step, as rows of a trajectory."""
    return [{"step": step, "checkpoint": checkpoint, **layer.to_row()} for layer in spectrum]


def _of_log(run: Run, cutoff: float) -> Trajectory:
    rows = []
    for record in run.read_log():
        layer = record.get("first_layer")
        if isinstance(record.get("epoch"), int) and isinstance(layer, dict):
            figures = {name: _number(layer.get(name)) for name in _FIGURES}
            row = {"step": record["epoch"], "checkpoint": "", "layer": str(layer.get("name")), **figures}
            rows.append(row)
    if not rows:
        raise ValueError(f"{run.folder} kept no checkpoints, and its log says nothing of the first layer")
    if cutoff != EQUAL_AREA:
        raise ValueError(
            f"{run.folder} kept no checkpoints, only a log at the default cutoff; leave the cutoff out"
        )
    return Trajectory(rows=tuple(rows))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


class SpectrumLogger:
    """Records the spectrum of a network's layers while it trains, in any loop or in Lightning's Trainer.

    In a loop call `step()` after each step of the optimizer. One made after `lightning.pytorch` (or
    `pytorch_lightning`) was imported is also a Lightning callback, to be passed in `callbacks`; it then
    hands its scalars to the trainer's loggers as well, and only the first process records. Nothing is drawn,
    no gradient touched, no module changed. A record of a first layer takes about a millisecond; `seconds`
    says what all of them took.

    Args:
        model: The network; None in Lightning, where it is the module that is fitted.
        layers: `first` (the first convolution larger than 1x1), `all`, or names of convolutions.
        every: Steps between records; the state before the first step is recorded as step 0.
        cutoff: Radius between low and high in (0, 1/2], cycles per pixel.
        file: Where each record is appended as a line of JSON; its folder must exist.
        tensorboard: A folder, for which the package tensorboard must be installed, or a `SummaryWriter`:
            gets scalars and a histogram of the filters.
        example: Images that the network takes. With them, `first` is the first convolution that runs, else
            the first that is registered. `found_by` says which: `execution` or `registration`.

    Raises:
        ValueError: No such layers, an option outside of its range, or TensorBoard that is not installed.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> logger = SpectrumLogger(network, every=10)
    >>> for _ in range(20): logger.step()
    >>> [step for step, _ in logger.trajectory.series("0")]
    [0, 10, 20]
    """

    def __new__(cls, *_: Any, **__: Any) -> "SpectrumLogger":
        """Return an instance that is a Lightning callback, too, where Lightning has been imported."""
        made: SpectrumLogger = object.__new__(_with_callbacks(cls, _lightning_callbacks()))
        return made

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        layers: str | Sequence[str] = "first",
        every: int = 100,
        cutoff: float = EQUAL_AREA,
        file: str | os.PathLike[str] | None = None,
        tensorboard: Any = None,
        example: FloatImages | None = None,
    ) -> None:
        check_cutoff(cutoff)
        if every < 1:
            raise ValueError(f"SpectrumLogger: every needs a number of steps of at least 1, got {every}")
        self.every = every
        self.cutoff = cutoff
        self.seconds = 0.0
        self.found_by = ""
        self._example = example
        self._wanted = layers
        self._file = None if file is None else check_output(Path(file))
        self._writer = _writer(tensorboard) if isinstance(tensorboard, str | os.PathLike) else tensorboard
        self._layers: dict[str, _ConvNd] = {}
        self._rows: list[dict[str, Any]] = []
        self._step = 0
        self._last: int | None = None
        if model is not None:
            self._begin(model)
            self._record(0)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what rebuilds it in another process, where its class is made anew."""
        return SpectrumLogger.__new__, (SpectrumLogger,), self.__dict__

    @property
    def trajectory(self) -> Trajectory:
        """What was recorded so far."""
        return Trajectory(rows=tuple(self._rows))

    def step(self, number: int | None = None) -> None:
        """Count a step, and record where one is due.

        Args:
            number: The step's number, say after resuming; by default one more than before.
        """
        self._step = self._step + 1 if number is None else number
        if self._step % self.every == 0 and self._step != self._last:
            self._record(self._step)

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Lightning: record the state before the first step."""
        if not self._layers:
            self._begin(pl_module)
        self._step = int(trainer.global_step)
        if trainer.is_global_zero and self._step != self._last:
            self._record(self._step, trainer)

    def on_train_batch_end(
        self, trainer: Any, pl_module: nn.Module, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lightning: record where a step is due."""
        del pl_module, outputs, batch, batch_idx
        self._step = int(trainer.global_step)
        # With accumulated gradients several batches share a step.
        if trainer.is_global_zero and self._step % self.every == 0 and self._step != self._last:
            self._record(self._step, trainer)

    def _begin(self, model: nn.Module) -> None:
        first = first_layer("SpectrumLogger", model, self._example, kind=_ConvNd)
        self.found_by = first.found_by
        found = {entry.name: entry.layer for entry in convolutions(model) if entry.is_spatial}
        wanted = (self._wanted,) if isinstance(self._wanted, str) else tuple(self._wanted)
        names = (first.name,) if wanted == ("first",) else tuple(found) if wanted == ("all",) else wanted
        for name in names:
            if name not in found:
                raise ValueError(f"SpectrumLogger: no convolution {name!r}; there are {', '.join(found)}")
        self._layers = {name: found[name] for name in names}

    def _record(self, step: int, trainer: Any = None) -> None:
        if not self._layers:
            raise ValueError("SpectrumLogger needs its network: pass it, or use it as a Lightning callback")
        begun = time.perf_counter()
        scalars: dict[str, float] = {}
        lines = []
        for name, module in self._layers.items():
            layer = measure(layer_of(module, name), self.cutoff, chance=False)
            row = {"step": step, "checkpoint": "", **layer.to_row()}
            self._rows.append(row)
            lines.append(json.dumps(row) + "\n")
            for figure in _FIGURES:
                if row[figure] is not None:
                    scalars[f"spectrum/{name}/{figure}"] = row[figure]
            if self._writer is not None and layer.filters_low_energy is not None:
                histogram = layer.filters_low_energy.numpy()
                self._writer.add_histogram(f"spectrum/{name}/filters_low_energy", histogram, step)
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as stream:
                stream.writelines(lines)
        if self._writer is not None:
            for tag, value in scalars.items():
                self._writer.add_scalar(tag, value, step)
        for logger in getattr(trainer, "loggers", None) or ():
            logger.log_metrics(scalars, step=step)
        self._last = step
        self.seconds += time.perf_counter() - begun


def _lightning_callbacks() -> tuple[type, ...]:
    """Return the callback classes of those Lightning packages that this process has imported already."""
    modules = (sys.modules.get(name) for name in ("lightning.pytorch", "pytorch_lightning"))
    return tuple(dict.fromkeys(module.Callback for module in modules if module is not None))


def _with_callbacks(cls: Any, callbacks: tuple[type, ...]) -> Any:
    # Lightning calls only instances of its own class.
    missing = tuple(callback for callback in callbacks if not issubclass(cls, callback))
    return type(cls.__name__, (cls, *missing), {"__module__": cls.__module__}) if missing else cls


def _writer(folder: str | os.PathLike[str]) -> Any:
    try:
        make: Callable[..., Any] = import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError:
        raise ValueError("SpectrumLogger: tensorboard= needs the package tensorboard; install it") from None
    return make(os.fspath(folder))
