"""Evaluation: fills the cells that the store lacks, and returns the scores."""

import contextlib
import difflib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ..corruptions import CORRUPTIONS, PARAMETERS, corrupt, kinds_of
from ..engine import PRECISIONS, Compiled, pick_device
from ..models import evaluating
from ..scores import SEVERITIES, Scores, overlapping_kinds
from ..types import Progress
from ..workers import run_jobs
from .arrays import Corrupted
from .fingerprint import model_fingerprint
from .inference import Runner, Scale
from .loading import answers
from .sources import Data, Source, as_source
from .store import Cell, Store, Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """What to evaluate, and how."""

    name: str | None = None
    """The name results are listed under; None keeps a known one, and is the class of a new network."""
    kinds: tuple[str, ...] | None = None
    """Kinds of corruption; None for all 19, () for clean accuracy alone."""
    severities: tuple[int, ...] = SEVERITIES
    """From 1 to 5; all five of a folder with fewer are those that it has."""
    parameters: str = "cifar"
    """Table of constants, `cifar` or `imagenet`."""
    seed: int = 0
    """Seed of the random kinds."""
    precision: str = "float32"
    """`float32`, or `bfloat16` by autocast."""
    compile: bool = False
    """Compile the network first, some ten seconds; kept as a precision of its own (`float32, compiled`)."""
    limit: int | None = None
    """Take the first so many images."""
    spread: bool = False
    """Severity s sees the images i with i = s - 1 modulo 5 alone: every kind sees every image, at a fifth."""
    corrupted: str | None = None
    """Folder of corrupted arrays in the published layout, read instead of corrupting here."""
    logits: bool = False
    """Keep the logits too, in float16: 20 bytes an image, cell and ten classes."""
    overlap: tuple[str, ...] | None = None
    """Kinds or families that what the network was trained on resembles; None leaves what is known of it."""
    workers: int = 1
    """Processes that share the cells; no part of a result."""
    ray: str | None = None
    """Address of a Ray cluster whose workers share them instead."""
    batch_size: int = 500
    """Images the network takes at a time; no part of a result."""
    device: str | None = None
    """`cpu`, `cuda` or `cuda:N`; None is where the network is."""

    @property
    def rounding(self) -> str:
        """What a network's numbers depend on: results of another are another result."""
        return f"{self.precision}, compiled" if self.compile else self.precision

    def __post_init__(self) -> None:
        if isinstance(self.kinds, str):
            raise ValueError(f"kinds needs a tuple of names, got the text {self.kinds!r}")
        for kind in self.kinds or ():
            if kind == "clean":
                raise ValueError("clean accuracy is always measured; leave clean out of kinds")
            if kind not in CORRUPTIONS and self.corrupted is None:
                close = difflib.get_close_matches(kind, CORRUPTIONS, n=1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                raise ValueError(f"unknown kind {kind!r}{hint}; known are {', '.join(CORRUPTIONS)}")
        if not self.severities or not set(self.severities) <= set(SEVERITIES):
            raise ValueError(f"severities need numbers from 1 to 5, got {self.severities}")
        for name, known in (("parameters", PARAMETERS), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} needs {' or '.join(known)}, got {getattr(self, name)!r}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit needs a number of at least 1, got {self.limit}")
        for name in ("batch_size", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} needs a number of at least 1, got {getattr(self, name)}")
        overlapping_kinds(self.overlap or ())


def evaluate(
    model: nn.Module,
    data: Data,
    *,
    config: EvaluateConfig | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    db: str | Path | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Return a network's accuracy on clean and corrupted images, computing only what the database lacks.

    Everything is checked before the first batch. Each cell (kind and severity) is written as soon as it is
    done, with one bit and the class named for each image, so that a run that is stopped loses the cells in
    flight at most, and two processes on one database share the work. A cell in which the network gives NaN is
    marked as failed, and is in no average. The network runs in evaluation mode and is left as it was.

    Args:
        model: Takes NCHW floats in [0, 1] (scaled by `mean` and `std` if given) and returns logits.
        data: An `ImageSet`, a torch `Dataset` of (image, label), or a pair of arrays: images NCHW or NHWC,
            bytes or floats in [0, 1] that are whole 255ths, and labels; or `Files`, read when their turn
            comes.
        config: What to evaluate; None evaluates all 19 kinds at five severities.
        mean: Subtracted from each channel before the network; 0 by default.
        std: Divided by; 1 by default.
        db: The database; made where there is none. None keeps nothing.
        progress: Called with cells done, cells in all, and the cell's name.

    Raises:
        ValueError: An option, data or file that does not fit, or a network that gives NaN on clean images;
            the line says which.
        FileNotFoundError: A corrupted array, or frost's textures, that are not there.

    >>> from filterbands import load_data, load_model
    >>> data = load_data("planted").subset(torch.arange(100))
    >>> scores = evaluate(load_model(arch="fastnet"), data, config=EvaluateConfig(kinds=("fog",)))
    >>> 0 <= scores.clean <= 1, scores.average_15()
    (True, None)
    """
    config = EvaluateConfig() if config is None else config
    source = as_source(data, limit=config.limit)
    network = nn.Sequential(Scale(mean, std), model) if mean is not None or std is not None else model
    device = pick_device(config.device) if config.device is not None else _device_of(model)
    folder = Corrupted(Path(config.corrupted), source) if config.corrupted is not None else None
    if folder is not None and config.severities == SEVERITIES:
        config = replace(config, severities=folder.severities)
    kinds = config.kinds
    if kinds is None:
        kinds = kinds_of("c", parameters=config.parameters) if folder is None else folder.kinds()
    # Kinds that do not exist or arrays that do not fit are found before any file is hashed or made.
    _check_kinds(kinds, source, config, folder)
    with Store(db) as store, _evaluating(network, device), contextlib.ExitStack() as stack:
        if config.compile:
            stack.callback(Compiled.forget)
        runner = Runner(
            network=network,
            source=source,
            device=device,
            precision=config.precision,
            compile=config.compile,
            batch_size=min(config.batch_size, len(source.labels)),
            folder=folder,
            keep_logits=config.logits,
        )
        _check_outputs(runner)
        fingerprint = model_fingerprint(network)
        known = Stored(
            fingerprint=source.fingerprint,
            name=source.name,
            split=source.split,
            labels=source.labels.numpy(),
            classes=source.classes,
        )
        cells = _plan(config, kinds, folder, fingerprint, source.fingerprint)
        # A network that is known keeps its name unless it is given another.
        name = config.name or store.models().get(fingerprint) or type(model).__name__
        store.add_model(fingerprint, name, overlap=config.overlap)
        store.add_data(known)
        _fill(store, cells, runner, config, progress)
        if folder is not None:
            store.add_folder(str(folder.path), [cell for cell in cells if cell.source])
        overlap = store.overlaps()[fingerprint]
        found = {
            cell.key: outcome for cell, outcome in store.cells(model=fingerprint, data=source.fingerprint)
        }
    if clean := found[cells[0].key].failed:
        raise ValueError(
            f"on clean images {clean}, so that nothing can be scored; look for divisions and logarithms "
            "in it, or for weights that overflowed"
        )
    places = {cell.key: (cell.kind, cell.severity) for cell in cells}
    return Scores(
        name=name,
        model=fingerprint,
        data=known.name,
        split=known.split,
        pixels=known.fingerprint,
        labels=known.labels,
        seed=config.seed,
        parameters=config.parameters if folder is None else "",
        precision=config.rounding,
        cells={
            places[cell.key]: answers(cell, found[cell.key]) for cell in cells if not found[cell.key].failed
        },
        failed={places[cell.key]: found[cell.key].failed for cell in cells if found[cell.key].failed},
        overlap=overlap,
        folder="" if folder is None else str(folder.path),
    )


def _plan(
    config: EvaluateConfig, kinds: Sequence[str], folder: Corrupted | None, model: str, data: str
) -> list[Cell]:
    cells = [Cell(model=model, data=data, kind="clean", severity=0, precision=config.rounding)]
    for kind in kinds:
        for severity in sorted(set(config.severities)):
            cells.append(
                Cell(
                    model=model,
                    data=data,
                    kind=kind,
                    severity=severity,
                    parameters=config.parameters if folder is None else "",
                    version=CORRUPTIONS[kind].version if folder is None else 0,
                    seed=config.seed if folder is None else 0,
                    source="" if folder is None else folder.sha256(kind),
                    precision=config.rounding,
                    first=severity - 1 if config.spread else 0,
                    step=len(SEVERITIES) if config.spread else 1,
                )
            )
    return cells


def _check_kinds(
    kinds: Sequence[str], source: Source, config: EvaluateConfig, folder: Corrupted | None
) -> None:
    """Make or read one image of each kind, so that nothing fails in the middle."""
    first = source.read(torch.arange(1))
    for kind in kinds:
        if folder is not None:
            folder.check(kind, config.severities)
        else:
            corrupt(first, kind, severity=config.severities[0], seed=0, parameters=config.parameters)
    if config.spread and len(source.labels) < len(SEVERITIES):
        raise ValueError(f"spread needs at least {len(SEVERITIES)} images, got {len(source.labels)}")


def _fill(
    store: Store,
    cells: Sequence[Cell],
    runner: Runner,
    config: EvaluateConfig,
    progress: Progress | None,
) -> None:
    """Compute the cells that are missing; one that another process works on comes back at the end.

    This process alone writes, and holds the claims of what its workers do.
    """
    waiting = [cell for cell in cells if not store.has(cell.key, logits=config.logits)]
    done = len(cells) - len(waiting)

    def report(cell: Cell) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, len(cells), title(cell))

    while waiting:
        later: list[Cell] = []
        mine: list[Cell] = []

        def claimed() -> Iterator[Cell]:
            for cell in waiting:  # noqa: B023  # the iterator is used up before the next round
                if not store.claim(cell.key):
                    later.append(cell)  # noqa: B023
                elif store.has(cell.key, logits=config.logits):
                    # Another process has finished it between the two looks.
                    store.release(cell.key)
                    report(cell)
                else:
                    mine.append(cell)  # noqa: B023
                    yield cell

        threads = max(1, torch.get_num_threads() // config.workers)
        outcomes = run_jobs(runner, claimed(), workers=config.workers, ray=config.ray, threads=threads)
        for number, outcome in outcomes:
            cell = mine[number]
            images = len(range(cell.first, len(runner.source.labels), cell.step))
            store.put(cell, outcome, images=images)
            if runner.folder is not None and cell.source:
                store.add_folder(str(runner.folder.path), [cell])
            store.release(cell.key)
            report(cell)
        if len(later) == len(waiting):
            time.sleep(0.2)
        waiting = later


def _check_outputs(runner: Runner) -> None:
    """Refuse outputs that do not fit the classes; of classes nobody named, some may not have been seen."""
    source = runner.source
    first = source.read(torch.arange(min(2, len(source.labels)))).to(runner.device)
    try:
        logits = runner.logits(first)
    except RuntimeError as error:
        what = str(error).partition("\n")[0]
        raise ValueError(f"the network cannot take images of shape {tuple(first.shape)}: {what}") from error
    wide = logits.ndim == 2 and logits.shape[1] > len(source.classes)
    whole = logits.ndim == 2 and len(logits) == len(first)
    if not whole or logits.shape[1] < len(source.classes) or (source.named and wide):
        raise ValueError(
            f"the network gives {tuple(logits.shape)} for {tuple(first.shape)}, expected "
            f"({len(first)}, {len(source.classes)}): {source.name} has {len(source.classes)} classes"
        )


@contextlib.contextmanager
def _evaluating(network: nn.Module, device: torch.device) -> Iterator[None]:
    home = _device_of(network)
    with evaluating(network):
        try:
            network.to(device)
            yield
        finally:
            network.to(home)


def title(cell: Cell) -> str:
    """Return a cell's name for people."""
    return cell.kind if cell.severity == 0 else f"{cell.kind} {cell.severity}"


def _device_of(model: nn.Module) -> torch.device:
    tensor = next(model.parameters(), None)
    return tensor.device if tensor is not None else torch.device("cpu")
