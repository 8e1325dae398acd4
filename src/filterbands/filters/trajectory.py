"""Spectra over training: from checkpoints, from a Run, and logged while it goes on."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from ..disk import as_frame, check_output
from ..models import convolutions, find_checkpoints, first_layer, load_model
from ..run import Run
from ..types import FloatImages
from . import tables
from .bands import EQUAL_AREA, check_cutoff
from .figures import FIGURES, LayerSpectrum, ModelSpectrum
from .layers import layer_of
from .spectrum import analyze, measure

# Words before a number that tells networks apart, not steps of one.
_NO_STEPS = ("seed", "s", "fold", "run", "trial", "rep", "repeat", "split", "v", "version")


def _figures() -> list[str]:
    """Return what is told of a layer at every step: columns of `LayerSpectrum.to_row`."""
    return [name for name, figure in FIGURES.items() if "course" not in figure.left_out]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """How the layers of one network changed: a row per step and layer."""

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
        """Return the rows as a pandas frame, which needs the package pandas."""
        return as_frame(self.rows)

    def __str__(self) -> str:
        return tables.text_table(self._columns(), left=("layer",))

    def _repr_html_(self) -> str:
        return tables.html_table(self._columns())

    def _columns(self) -> tables.Columns:
        columns = {name: [str(row[name]) for row in self.rows] for name in ("step", "layer")}
        return columns | {name: [tables.shown(row.get(name)) for row in self.rows] for name in _figures()}


def trajectory(
    checkpoints: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    arch: str | None = None,
    cutoff: float = EQUAL_AREA,
) -> Trajectory:
    """Return how the layers of one network changed over its checkpoints.

    Args:
        checkpoints: Files; a glob such as `run/iter_*.pt`; a folder of them; or a Run, of which see
            `course_of`. The step of a file is the last number in its name where those differ, else its place.
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
        run = Run(Path(checkpoints))
        course = course_of(run, arch=arch, cutoff=cutoff)
        if course is not None:
            return course
        if run.exists:
            says = "says nothing of the first layer"
            if cutoff != EQUAL_AREA:
                says = "tells of the default cutoff alone; leave the cutoff out"
            raise ValueError(f"{run.folder} kept no weights, and its log {says}")
        checkpoints = (checkpoints,)
    return _of_files([file for entry in checkpoints for file in find_checkpoints(Path(entry))], arch, cutoff)


def course_of(run: Run, *, arch: str | None = None, cutoff: float = EQUAL_AREA) -> Trajectory | None:
    """Return what a Run tells of its training; None for nothing.

    It is read from the weights that `keep_every` kept, or from a folder `checkpoints` in the Run. A Run
    without either tells at the default cutoff what its log says of the first layer, epoch by epoch.
    """
    older = run.folder / "checkpoints"
    files = run.kept if run.exists else ()
    if files or older.is_dir():
        return _of_files(files or find_checkpoints(older), arch, cutoff)
    rows = []
    for record in run.read_log() if cutoff == EQUAL_AREA else ():
        layer = record.get("first_layer")
        if isinstance(record.get("epoch"), int) and isinstance(layer, dict):
            row = {"step": record["epoch"], "checkpoint": "", "layer": str(layer.get("name"))}
            rows.append(row | {name: layer.get(name) for name in _figures()})
    return Trajectory(rows=tuple(rows)) if rows else None


def _of_files(files: Sequence[Path], arch: str | None, cutoff: float) -> Trajectory:
    if not files:
        raise ValueError("trajectory needs at least one checkpoint, got none")
    return trajectory_of(
        files, lambda file: analyze(file if arch is None else load_model(file, arch=arch), cutoff=cutoff)
    )


def trajectory_of(files: Sequence[Path], spectrum_of: Callable[[Path], ModelSpectrum]) -> Trajectory:
    """Return files as the steps of one training."""
    parts = [_rows(spectrum_of(file), step, str(file)) for step, file in _steps_of(files)]
    return Trajectory(rows=tuple(chain.from_iterable(parts)))


def _rows(layers: Iterable[LayerSpectrum], step: int, checkpoint: str = "") -> list[dict[str, Any]]:
    return [{"step": step, "checkpoint": checkpoint, **layer.to_row()} for layer in layers]


def _steps_of(files: Sequence[Path]) -> list[tuple[int, Path]]:
    """Return files with their steps, rising: the last number in each name, or the place among the files."""
    if steps := steps_of_training(files):
        return sorted(steps.items())
    steps = {int(found[-1]): file for file in files if (found := re.findall(r"\d+", file.stem))}
    return sorted(steps.items()) if len(steps) == len(files) else list(enumerate(files))


def steps_of_training(files: Sequence[Path]) -> dict[int, Path]:
    """Return files by their steps if they are weights that one training kept; else an empty dict.

    They are if all lie in one folder, and they are a Run's own, or their names differ in one number alone. A
    number behind a word such as `seed` or `fold` tells networks apart, and a Run is a network.

    >>> sorted(steps_of_training([Path("a/epoch_2.pt"), Path("a/epoch_10.pt")]))
    [2, 10]
    >>> steps_of_training([Path("a/seed_0.pt"), Path("a/seed_1.pt")])
    {}
    """
    folders = {file.parent.resolve() for file in files}
    if len(files) < 2 or len(folders) > 1 or any(Run(file).exists for file in files):
        return {}
    run = Run(folders.pop())
    if run.exists:
        epochs = {run.weights_at(number).name: number for number in map(_number, run.kept)}
        last = run.read()["config"].get("epochs") if run.weights.name in {file.name for file in files} else 0
        epochs[run.weights.name] = last if isinstance(last, int) else max(epochs.values(), default=0) + 1
        return {epochs[file.name]: file for file in files} if all(f.name in epochs for f in files) else {}
    # Odd parts are the numbers.
    parts = [re.split(r"(\d+)", file.name) for file in files]
    places = [set(place) for place in zip(*parts, strict=False)]
    differ = [number for number, place in enumerate(places) if len(place) > 1]
    if len({len(one) for one in parts}) > 1 or len(differ) != 1 or differ[0] % 2 == 0:
        return {}
    word = re.findall(r"[a-z]*$", parts[0][differ[0] - 1].lower().rstrip("-_.= "))[0]
    if word in _NO_STEPS:
        return {}
    if re.search(r"\d\.$", "".join(parts[0][: differ[0]])[-2:]):
        # Digits behind a point, as of a learning rate, count no steps.
        return {}
    steps = {int(one[differ[0]]): file for one, file in zip(parts, files, strict=True)}
    return steps if len(steps) == len(files) else {}


def _number(file: Path) -> int:
    return int(re.findall(r"\d+", file.stem)[-1])


class SpectrumLogger:
    """Records the spectrum of a network's layers while it trains, in any loop or in Lightning's Trainer.

    In a loop call `step()` after each step of the optimizer. In Lightning pass `callback()` in `callbacks`.
    Nothing is drawn, no gradient touched, no module changed. A record of a first layer takes about a
    millisecond; `seconds` says what all of them took.

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
            self._record()

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
        if self._step % self.every == 0:
            self._record()

    def callback(self) -> Any:
        """Return a callback for Lightning's Trainer that records here.

        It also hands the scalars to the trainer's loggers, and only the first process records.

        Raises:
            ValueError: Neither `lightning.pytorch` nor `pytorch_lightning` has been imported.
        """
        modules = [sys.modules.get(name) for name in ("lightning.pytorch", "pytorch_lightning")]
        # A trainer calls only instances of its own package's class.
        bases = dict.fromkeys(module.Callback for module in modules if module is not None)
        if not bases:
            raise ValueError("SpectrumLogger.callback needs Lightning: import your Trainer's package first")
        return type("SpectrumCallback", (_Hooks, *bases), {})(self)

    def __getattr__(self, name: str) -> Any:
        """Raise AttributeError; that of a hook says what Lightning's Trainer has to be given."""
        is_hook = name in ("setup", "state_key") or name.startswith("on_")
        what = "is no Lightning callback; pass logger.callback()" if is_hook else f"has no {name!r}"
        raise AttributeError(f"SpectrumLogger {what}")

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

    def _record(self, loggers: Sequence[Any] = ()) -> None:
        if not self._layers:
            raise ValueError("SpectrumLogger needs its network: pass it, or give Lightning its callback()")
        # With accumulated gradients several batches share a step.
        if self._step == self._last:
            return
        begun, step = time.perf_counter(), self._step
        found = (layer_of(module, name) for name, module in self._layers.items())
        spectrum = [measure(layer, self.cutoff, chance=False) for layer in found]
        rows = _rows(spectrum, step)
        self._rows += rows
        scalars: dict[str, float] = {
            f"spectrum/{row['layer']}/{figure}": row[figure]
            for row in rows
            for figure in _figures()
            if row[figure] is not None
        }
        if self._file is not None:
            with self._file.open("a", encoding="utf-8", newline="\n") as stream:
                stream.writelines(json.dumps(row) + "\n" for row in rows)
        if self._writer is not None:
            for layer in spectrum:
                if (values := layer.filters_low_energy) is not None:
                    tag = f"spectrum/{layer.name}/filters_low_energy"
                    self._writer.add_histogram(tag, values.numpy(), step)
            for tag, value in scalars.items():
                self._writer.add_scalar(tag, value, step)
        for logger in loggers:
            logger.log_metrics(scalars, step=step)
        self._last = step
        self.seconds += time.perf_counter() - begun


class _Hooks:
    """What Lightning's Trainer calls: a callback that hands its steps to a logger."""

    def __init__(self, logger: SpectrumLogger) -> None:
        self.logger = logger

    def __reduce__(self) -> tuple[Any, ...]:
        # Its class is made anew in another process.
        return SpectrumLogger.callback, (self.logger,)

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        if not self.logger._layers:
            self.logger._begin(pl_module)
        self._record(trainer)

    def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
        if trainer.global_step % self.logger.every == 0:
            self._record(trainer)

    def _record(self, trainer: Any) -> None:
        if trainer.is_global_zero:
            self.logger._step = int(trainer.global_step)
            self.logger._record(trainer.loggers)


def _writer(folder: str | os.PathLike[str]) -> Any:
    try:
        make: Callable[..., Any] = import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError:
        raise ValueError("SpectrumLogger: tensorboard= needs the package tensorboard; install it") from None
    return make(os.fspath(folder))
