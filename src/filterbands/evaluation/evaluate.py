"""Evaluation: computes the cells that the store lacks, and returns the scores."""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch
from torch import nn

from ..checks import as_names, seed_number, whole_number
from ..corruptions import (
    CORRUPTIONS,
    PARAMETERS,
    corrupt,
    expand_kinds,
    kinds_of,
    parameters_for,
    read_severities,
)
from ..engine import PRECISIONS, Compiled, pick_precision
from ..models import Named, known_overlap, name_of, opened, scaled
from ..scores import PRESENT_ONLY, SEVERITIES, Scores, overlapping_kinds
from ..types import Progress
from ..workers import run_jobs
from .copies import Corrupted, open_corrupted
from .fingerprint import model_fingerprint
from .inference import Runner, check_outputs, running_on
from .loading import scores_of
from .rows import Cell, check_text
from .seen import check_seen
from .sources import Data, Source, as_source
from .store import Store

_LOG = logging.getLogger(__name__)
# The sets of kinds that `expand_kinds` knows.
_SETS = ("c", "cbar", "all-but-frost")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """How a network is evaluated.

    >>> EvaluateConfig(kinds=("fog", "contrast"), severities=(1, 5)).seed
    0
    """

    name: str | None = None
    """Name to list the results under; by default that of the run or file, of a module the known one or the
    class."""
    kinds: tuple[str, ...] | None = None
    """Kinds of corruption or sets: c (all 19), cbar, all-but-frost, none; by default c, of a folder all."""
    severities: tuple[int, ...] = SEVERITIES
    """Severities from 1 to 5; by default all that there are."""
    parameters: str | None = None
    """Table of constants: cifar or imagenet; by default cifar up to 64 pixels, imagenet above. Copies on
    disk (`corrupted`) have their own."""
    seed: int = 0
    """Seed of the random kinds. Copies on disk (`corrupted`) have their own."""
    precision: str = "float32"
    """Precision of the network: float32, or bfloat16 by autocast."""
    compile: bool = False
    """Compile the network first, some ten seconds; results are kept under a precision of their own."""
    spread: bool = False
    """Severity s sees the images i with i = s - 1 modulo 5: each image once per kind, a fifth of the cost."""
    corrupted: str | None = None
    """Folder of corrupted arrays or image files in the published layout, read instead of corrupting here."""
    present_only: bool = False
    """Choose among the classes that the data contain alone, as figures published for ImageNet-A and -R do."""
    logits: bool = False
    """Keep the logits too, in float16, for calibration errors: 20 bytes per image, cell and ten classes."""
    overlap: tuple[str, ...] | None = None
    """Kinds or families (noise, blur, ...) that the training resembles; by default what a Run knows."""
    workers: int = 1
    """Processes that share the cells; no part of a result."""
    ray: str | None = None
    """Ray cluster whose workers share them instead: auto, HOST:PORT or local."""
    batch_size: int = 500
    """Images the network takes at a time; no part of a result."""
    device: str | None = None
    """Device: auto (CUDA where there is one), cpu, cuda or cuda:N; without one, where the network is."""

    @property
    def rounding(self) -> str:
        """What the network's rounding depends on; results of another rounding are other results."""
        parts = {"compiled": self.compile, PRESENT_ONLY: self.present_only}
        return ", ".join((self.precision, *(name for name, given in parts.items() if given)))

    def __post_init__(self) -> None:
        given = {"parameters": self.parameters or "cifar", "precision": self.precision}
        for name, known in (("parameters", PARAMETERS), ("precision", PRECISIONS)):
            if given[name] not in known:
                raise ValueError(f"{name} needs {' or '.join(known)}, got {given[name]!r}")
        if self.kinds is not None:
            object.__setattr__(self, "kinds", self._expanded(self.kinds))
        object.__setattr__(self, "severities", read_severities(self.severities))
        object.__setattr__(self, "seed", seed_number(self.seed))
        own = {"seed": self.seed, "parameters": self.parameters}
        if self.corrupted is not None and (set_too := [f"{name} {one}" for name, one in own.items() if one]):
            raise ValueError(
                "corrupted needs no seed and no parameters, since copies on disk were made with their own; "
                f"leave out {' and '.join(set_too)}"
            )
        for name, most in (("batch_size", None), ("workers", 1024)):
            number = whole_number(name, getattr(self, name))
            object.__setattr__(self, name, number)
            if not 1 <= number <= (most or number):
                limit = f"from 1 to {most}" if most else "of at least 1"
                raise ValueError(f"{name} needs a number {limit}, got {number}")
        overlapping_kinds(self.overlap or ())
        check_text("the name of the network", self.name or "")

    def _expanded(self, kinds: tuple[str, ...]) -> tuple[str, ...]:
        """Return single kinds; those of arrays on disk may be unknown here."""
        kinds = as_names("kinds", kinds)
        if "clean" in kinds:
            raise ValueError("clean accuracy is always measured; leave clean out of kinds")
        if kinds == ("none",):
            return ()
        single: dict[str, None] = {}
        for name in kinds:
            known = self.corrupted is None or name in _SETS
            single |= dict.fromkeys(expand_kinds([name], parameters=self.parameters) if known else [name])
        return tuple(single)


def evaluate(
    model: Named,
    data: Data,
    *,
    config: EvaluateConfig | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    db: str | Path | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Return the accuracy of a network on clean and corrupted images, computing only what the database lacks.

    Everything is checked before the first batch. Each cell (kind and severity) is written as soon as it is
    complete, with one bit and the predicted class per image. A run that is stopped loses at most the cells in
    flight, and two processes on one database share the work. A cell in which the network gives NaN is marked
    as failed and enters no average. The network runs in evaluation mode and is left as it was. A line says
    where a Run is measured on images that it was trained on.

    Args:
        model: Takes NCHW floats in [0, 1] and returns logits: a tensor, or an object or mapping with
            `logits`. `load_model` sets what it subtracts and divides by, and loads what a text names.
        data: An `ImageSet`; a pair of arrays: images NCHW or NHWC, bytes or floats in [0, 1] that are whole
            255ths, and labels; a data set of torch or of Hugging Face or a `DataLoader`, whose items are
            (image, label) or hold `image` and `label`; a text that `load_data` takes, such as `folder:DIR`;
            or `Files`, which are read when they are needed.
        config: How to evaluate; None evaluates all 19 kinds at five severities.
        mean: For a network that does not normalize its images itself: subtracted from each channel; None
            for 0.
        std: Each channel is divided by it; None for 1.
        db: The database, created where there is none. None keeps nothing.
        progress: Called with cells done, cells in all, and the cell's name.

    Raises:
        ValueError: An option, data or file that does not fit, mean and std for a network that normalizes its
            images already, or a network that gives NaN on clean images; the line says which.
        FileNotFoundError: A corrupted array, or the textures of frost, are missing.

    >>> from filterbands import load_data, load_model
    >>> data = load_data("planted").subset(torch.arange(100))
    >>> scores = evaluate(load_model(arch="fastnet"), data, config=EvaluateConfig(kinds=("fog",)))
    >>> 0 <= scores.clean <= 1, scores.average_15()
    (True, None)
    """
    config = EvaluateConfig() if config is None else config
    network, known = scaled(opened(model), mean, std), type(model).__name__
    if not isinstance(model, nn.Module):
        known = name_of(model)
        # A record that names none says nothing against what was said of the network before.
        if config.overlap is None and (overlap := known_overlap(model)):
            config = replace(config, overlap=overlap)
    source = as_source(data, networks=[] if isinstance(model, nn.Module) else [str(model)])
    if not isinstance(model, nn.Module):
        check_seen(model, data, source)
    folder = open_corrupted(Path(config.corrupted), source) if config.corrupted is not None else None
    if folder is not None and config.severities == SEVERITIES:
        config = replace(config, severities=folder.severities)
    if folder is None:
        # Where nothing is corrupted, no constants are chosen.
        height, width = source.shape[1:] if config.kinds != () else (1, 1)
        config = replace(config, parameters=parameters_for(config.parameters, height, width))
    # A kind that does not exist and an array that does not fit are refused before any file is hashed or made.
    kinds = check_kinds(source, config, folder)
    kept = [("name of the network", config.name or known), ("name of the data", source.name)]
    kept += [("kind", kind) for kind in kinds]
    kept += [] if folder is None else [("folder of corrupted images", str(folder.path))]
    for what, text in kept:
        check_text(f"the {what}", text)
    _say_choice(source, config)
    with Store(db) as store, running_on(network, config.device) as device, contextlib.ExitStack() as stack:
        if config.compile:
            stack.callback(Compiled.forget)
        pick_precision(config.precision, device)
        runner = Runner(
            network=network,
            source=source,
            device=device,
            precision=config.precision,
            compile=config.compile,
            batch_size=min(config.batch_size, len(source.labels)),
            folder=folder,
            keep_logits=config.logits,
            among=source.present if config.present_only else None,
        )
        check_outputs(source, runner.logits, device)
        fingerprint = model_fingerprint(network, shape=source.shape)
        whose, precision = (fingerprint, source.fingerprint), _precision(config, source)
        cells = _plan(config, kinds, folder, whose, precision, progress)
        # A known network keeps its name unless another one is given.
        name = config.name or next(iter(store.names().get(fingerprint, ())), known)
        store.add_model(fingerprint, name, overlap=config.overlap)
        store.add_data(source)
        _fill(store, cells, runner, config, progress)
        if folder is not None:
            made = [cell for cell in cells if cell.source]
            store.add_folder(str(folder.path), made, by_severity=folder.by_severity, seed=folder.seed)
        stored = store.cells(model=fingerprint, data=source.fingerprint)
        # A damaged row may look like another cell.
        there = {cell.key: outcome for cell, outcome in stored if not outcome.is_damaged}
        try:
            found = [(cell, there[cell.key]) for cell in cells]
            overlap, names = store.overlaps()[fingerprint], store.names()[fingerprint]
        except KeyError:
            raise ValueError(
                f"{db}: results of {name} were deleted meanwhile; run the same command again"
            ) from None
    if failed := found[0][1].failed:
        raise ValueError(
            f"on clean images {failed}, so that nothing can be scored; look for divisions and logarithms "
            "in the network, or for weights that overflowed"
        )
    return scores_of(
        source,
        found,
        names=(name, *(other for other in names if other != name)),
        overlap=overlap,
        seed=config.seed if folder is None else folder.seed,
        parameters=str(config.parameters) if folder is None else "",
        folder="" if folder is None else str(folder.path),
    )


def _precision(config: EvaluateConfig, source: Source) -> str:
    """Return what the answers depend on beside network and images: rounding, and classes to choose among.

    These are named where the labels do not say them: of some files of a folder, those of all its files.
    """
    among = source.present
    if not config.present_only or set(among) == set(source.labels.tolist()):
        return config.rounding
    digest = sha256(repr([*map(int, among)]).encode()).hexdigest()
    return f"{config.rounding}, {len(among)} classes {digest[:8]}"


def _plan(
    config: EvaluateConfig,
    kinds: Sequence[str],
    folder: Corrupted | None,
    fingerprints: tuple[str, str],
    precision: str,
    progress: Progress | None,
) -> list[Cell]:
    model, data = fingerprints
    clean = Cell(model=model, data=data, kind="clean", severity=0, precision=precision)
    cells, severities = [clean], sorted(set(config.severities))
    for kind in kinds:
        for severity in severities:
            if folder is None:
                version = CORRUPTIONS[kind].version
                made = replace(clean, version=version, parameters=str(config.parameters), seed=config.seed)
            else:
                if progress is not None:
                    progress(0, 1 + len(kinds) * len(severities), f"reading {kind} {severity}")
                made = replace(clean, source=folder.sha256(kind, severity))
            first, step = (severity - 1, len(SEVERITIES)) if config.spread else (0, 1)
            cells.append(replace(made, kind=kind, severity=severity, first=first, step=step))
    return cells


def check_kinds(source: Source, config: EvaluateConfig, folder: Corrupted | None = None) -> tuple[str, ...]:
    """Return the kinds after making or reading one image of each, so that none fails after hours of work.

    Raises:
        ValueError: A kind that does not exist or does not fit, or fewer images than `spread` needs.
        FileNotFoundError: A corrupted array, or the textures of frost, are missing.
    """
    kinds = config.kinds
    if kinds is None:
        kinds = kinds_of("c") if folder is None else folder.kinds()
    elif folder is not None and "cbar" in kinds:
        # The kinds of C-bar differ between the tables, and a folder says which were made.
        there = tuple(
            kind for kind in folder.kinds() if getattr(CORRUPTIONS.get(kind), "suite", "") == "cbar"
        )
        if not there:
            raise ValueError(f"{folder.path} has none of the kinds of cbar; leave it out of kinds")
        kinds = tuple(dict.fromkeys(one for kind in kinds for one in (there if kind == "cbar" else (kind,))))
    first = source.read(torch.arange(1))
    height, width = source.shape[1:]
    parameters = parameters_for(config.parameters, height, width) if kinds and folder is None else ""
    for kind in kinds:
        if folder is not None:
            folder.check(kind, config.severities)
        else:
            corrupt(first, kind, severity=config.severities[0], seed=0, parameters=parameters)
    if config.spread and len(source.labels) < len(SEVERITIES):
        raise ValueError(f"spread needs at least {len(SEVERITIES)} images, got {len(source.labels)}")
    return kinds


def _say_choice(source: Source, config: EvaluateConfig) -> None:
    """Say among which classes the network chooses, where the data do not have all of them."""
    there, known = len(source.present), len(source.classes)
    if config.present_only:
        _LOG.warning("evaluate: the network chooses among %d of %d classes", there, known)
    elif source.files is not None and there < known:
        _LOG.warning(
            "evaluate: %s has images of %d of %d classes, and the network chooses among all; --present-only "
            "(present_only=) chooses among these, as figures published for ImageNet-A and -R do",
            *(source.name, there, known),
        )


def _fill(
    store: Store, cells: Sequence[Cell], runner: Runner, config: EvaluateConfig, progress: Progress | None
) -> None:
    """Compute the cells that are missing; wait at the end for those that another process computes.

    Only this process writes, and it holds the claims of its workers.
    """
    waiting = [cell for cell in cells if not store.has(cell.key, logits=config.logits)]
    done = len(cells) - len(waiting)

    def report(cell: Cell) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, len(cells), str(cell))

    while waiting:
        later: list[Cell] = []
        mine: list[Cell] = []

        def claimed() -> Iterator[Cell]:
            for cell in waiting:  # noqa: B023  # the iterator is used up before the next round
                if not store.claim(cell.key):
                    later.append(cell)  # noqa: B023
                elif store.has(cell.key, logits=config.logits):
                    # Another process has completed it between the two checks.
                    store.release(cell.key)
                    report(cell)
                else:
                    mine.append(cell)  # noqa: B023
                    yield cell

        threads = max(1, torch.get_num_threads() // config.workers)
        outcomes = run_jobs(
            runner,
            claimed(),
            workers=config.workers,
            ray=config.ray,
            threads=threads,
            device=runner.device.type,
        )
        for number, outcome in outcomes:
            cell = mine[number]
            images = len(range(cell.first, len(runner.source.labels), cell.step))
            if runner.folder is not None and cell.source:
                runner.folder.check_unchanged(cell.kind, cell.severity)
            store.put(cell, outcome, images=images)
            if runner.folder is not None and cell.source:
                place, folder = str(runner.folder.path), runner.folder
                store.add_folder(place, [cell], by_severity=folder.by_severity, seed=folder.seed)
            store.release(cell.key)
            report(cell)
        if len(later) == len(waiting):
            time.sleep(0.2)
        waiting = later
