"""The run of a study: every training and evaluation that is missing, on any number of workers.

A folder holds a Run for each training, one database of evaluations, and runs.jsonl with a line for each that
is finished. A line of another evaluation than the study's is made anew from its Run and the database.
"""

import functools
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ..datasets import ImageSet, Part, load_data, shares_images
from ..disk import make_folder, owned, write_text
from ..engine import pick_device, pick_precision, set_threads
from ..evaluation import as_source, check_kinds, evaluate, take_over
from ..models import known_overlap, known_trainings, load_model, weights_hash
from ..run import Run
from ..training import TrainConfig, check_count, check_init, train
from ..types import Progress
from ..workers import run_jobs
from .file import StudyConfig, folder_of
from .lines import ImagesNow, line_of, measured_images, read_lines, say_evaluated_anew, start_of, versions_of
from .table import average_of

_LOG = logging.getLogger(__name__)
# Where a line that comes from another machine has the cells; no line is written with it.
_CELLS = "cells"
_APART = "bring those back, or study these in another folder"


def run_study(
    study: StudyConfig,
    out: str | Path,
    *,
    workers: int = 1,
    ray: str | None = None,
    threads: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Train and evaluate what is missing and return a line for every finished run, in the study's order.

    A run that was killed is resumed from its checkpoint; one whose worker dies is begun again there. A run
    whose loss is no longer finite does not stop the others. What was evaluated in another way than the study
    now says is evaluated anew. Lines say that, and where rows are measured on images that they train on.

    Args:
        study: What to do.
        out: Folder of runs, of results.db and of runs.jsonl; made if need be. With `ray`, all nodes have it
            at the same place, and this process alone writes into the database.
        workers: Trainings at once, one per process.
        ray: Address of a Ray cluster, as for `run_jobs`.
        threads: Torch threads of each worker; None for 1 each with several, else as they are.
        device: As for `train`; several workers of this machine take its CUDA devices in turn.
        progress: Called after every run with runs done, runs in all, and what was found.

    Raises:
        ValueError: Data that do not fit, results of another configuration in the folder, another process
            that works there, or runs that failed, once all others are done.

    >>> import tempfile
    >>> from filterbands.study import as_study
    >>> one = as_study({"data": "planted", "recipes": ["standard"], "seeds": [0], "evaluate": {"kinds": []},
    ...                 "set": {"epochs": 1, "split": "validation"}})
    >>> with tempfile.TemporaryDirectory() as out:
    ...     len(run_study(one, out))
    1
    """
    folder = make_folder(out)
    if ray is not None:
        # Other nodes have other folders to start from.
        folder = folder.resolve()
    with owned(folder):
        return _run_missing(
            study, folder, workers=workers, ray=ray, threads=threads, device=device, progress=progress
        )


def _run_missing(
    study: StudyConfig,
    folder: Path,
    *,
    workers: int,
    ray: str | None,
    threads: int | None,
    device: str,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    training, test = load(study)
    now = ImagesNow(study, training)
    lines = read_lines(folder)
    say_evaluated_anew(study, lines)
    todo = [config for config in study.configs if line_of(config, study, lines, folder, now) is None]
    if todo:
        check_kinds(as_source(test), study.evaluation)
        _check_same(study, todo, lines, folder, now, device=None if ray is not None else device)
    # The runs that start from others come last, when these are finished.
    rounds = [
        [config for config in todo if config.recipe not in study.starts],
        [_started(config, study, folder) for config in todo if config.recipe in study.starts],
    ]
    run_one = _run_apart if ray is not None else _run_one
    work = functools.partial(run_one, folder=str(folder), study=study, threads=threads)
    devices = [device]
    if workers > 1 and ray is None and pick_device(device) == torch.device("cuda"):
        devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    failed = []
    done = len(study.configs) - len(todo)
    found = (
        line
        for configs in rounds
        for _, line in run_jobs(
            work,
            zip(configs, cycle(devices)),
            workers=workers,
            ray=ray,
            threads=threads or 1,
            device=device,
        )
    )
    for line in found:
        done += 1
        if "stopped" in line:
            failed.append(f"{line['name']}: {line['stopped']}")
        else:
            if (cells := line.pop(_CELLS, None)) is not None:
                take_over(cells, folder / "results.db")
            # One that was evaluated in another way goes; a run has one line.
            lines = [entry for entry in lines if entry["name"] != line["name"]] + [line]
            # Not appended, because a line that was cut short has no end.
            write_text(folder / "runs.jsonl", "".join(f"{json.dumps(entry)}\n" for entry in lines))
        if progress is not None:
            progress(done, len(study.configs), _said(line))
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(study.configs)} runs failed, the others are kept: {failed[0]}"
        )
    finished = [line_of(config, study, lines, folder, now) for config in study.configs]
    return [line for line in finished if line is not None]


def _started(config: TrainConfig, study: StudyConfig, folder: Path) -> TrainConfig:
    """Return a training with the run that it starts from.

    One that has finished keeps the path that it began with: the folder may have moved since.
    """
    start, run = start_of(config, study), Run(folder / folder_of(config))
    if run.exists and run.finished:
        recorded = str(run.read()["config"].get("init", ""))
        if Path(recorded).name == start:
            return replace(config, init=recorded)
    return replace(config, init=str(folder / start))


def _check_same(
    study: StudyConfig,
    todo: Sequence[TrainConfig],
    lines: Sequence[Mapping[str, Any]],
    folder: Path,
    now: ImagesNow,
    *,
    device: str | None,
) -> None:
    """Refuse new work where runs of the table have other images, or rows other weights or another precision.

    The runs themselves are looked at: one whose line is lost or is made anew is in the table too. `device` is
    None where the workers of a cluster compute: they may have other devices than this process.
    """
    # Of two lines of a run the first one counts, as in `line_of`.
    line_of_name = {line["name"]: line for line in reversed(lines)}
    missing = {*todo}
    runs = {config: Run(folder / folder_of(config)) for config in study.configs}
    # Rows that get a run that is trained from its first epoch on.
    new = {config.recipe for config in missing if not runs[config].begun}
    starts: dict[str, str] = {}

    for config, run in runs.items():
        line = line_of_name.get(run.folder.name, {})
        where = f"{folder} has {run.folder.name}"
        if run.begun:
            if run.images not in (None, now.trained(config)):
                raise ValueError(f"{where}, trained on other images than {study.data} holds now; {_APART}")
            if config.init:
                if config.init not in starts:
                    starts[config.init] = weights_hash(config.init)
                if run.start not in (None, starts[config.init]):
                    raise ValueError(
                        f"{where}, which started from other weights than {config.init} holds now; {_APART}"
                    )
        # What is missing is measured now.
        if line and config not in missing and line.get("fingerprint") not in (None, now.measured(config)):
            raise ValueError(f"{where}, measured on other images than {study.data} holds now; {_APART}")
        if device is None or config.recipe not in new:
            continue
        precision = pick_precision(config.precision, pick_device(device))
        was = line.get("training_precision") or (run.read().get("precision") if run.begun else None)
        if was not in (None, precision):
            raise ValueError(
                f"{where}, trained in {was}, and its other seeds would be in {precision}; set precision to "
                f"{was}"
            )


def _run_apart(
    job: tuple[TrainConfig, str], *, folder: str, study: StudyConfig, threads: int | None
) -> dict[str, Any]:
    """Do the same on a node of a cluster and return the cells with the line.

    Several machines may not write one database of SQLite.
    """
    if not Path(folder).is_dir():
        raise ValueError(
            f"a node of the cluster has no folder {folder}; its nodes share the folder of a study"
        )
    with TemporaryDirectory() as own:
        file = Path(own) / "results.db"
        line = _run_one(job, folder=folder, study=study, threads=threads, db=file)
        return line if "stopped" in line else {**line, _CELLS: file.read_bytes()}


def _run_one(
    job: tuple[TrainConfig, str],
    *,
    folder: str,
    study: StudyConfig,
    threads: int | None,
    db: Path | None = None,
) -> dict[str, Any]:
    """Train and evaluate one network on a device and return its line."""
    config, device = job
    set_threads(threads)
    name = folder_of(config)
    place = Path(folder) / name
    run = Run(place)
    try:
        run = train(config, place, resume=run.exists, device=device)
        described = run.read()
        began = time.perf_counter()
        model = load_model(run.folder)
        settings = replace(study.evaluation, name=name, device=device, overlap=known_overlap(place) or None)
        db = db or Path(folder) / "results.db"
        scores = evaluate(model, measured_images(study, config), config=settings, db=db)
    except (ValueError, FileNotFoundError) as error:
        return {"name": name, "stopped": str(error)}
    except RuntimeError as error:
        # Torch's own, such as memory that ran out, are of one run as well.
        said = " ".join(str(error).split()) or type(error).__name__
        return {"name": name, "stopped": said}
    plain = scores.to_json()
    averages = {
        key: None if plain[key] is None else plain[key]["accuracy"] for key in ("average_15", "average_19")
    }
    layer = run.last_epoch()["first_layer"]
    return {
        "name": name,
        "recipe": config.recipe,
        "arch": config.arch,
        "data": study.data.partition(":")[0],
        "split": config.split,
        "seed": config.seed,
        "epochs": config.epochs,
        "images": plain["images"],
        "clean": plain["clean"]["accuracy"],
        **averages,
        "robust": average_of(plain["kinds"]),
        "kinds": plain["kinds"],
        "versions": versions_of(plain["kinds"]),
        "failed": plain["failed"],
        "fingerprint": scores.pixels,
        "low_share": layer["low_share"],
        "mean_low_energy": layer["mean_low_energy"],
        "seconds": described["seconds"],
        "evaluation_seconds": time.perf_counter() - began,
        "device": described["device"],
        "training_precision": run.precision,
        "git": described["git"],
        "config": described["config"],
        "evaluation": dict(study.evaluate),
    }


def load(study: StudyConfig) -> tuple[dict[tuple[str, int], ImageSet], ImageSet]:
    """Return the training sets by split and size, and the images to evaluate, after checking what can fail.

    A line says where rows are measured on images that they train on.
    """
    sets = {
        (split, size): load_data(study.data, split=split, size=size or None)
        for split, size in dict.fromkeys((entry.split, entry.size) for entry in study.configs)
    }
    for entry in study.configs:
        check_count(sets[entry.split, entry.size], entry)
        check_init(entry)
        if entry.init and not Path(entry.init).exists():
            raise ValueError(
                f"row {entry.recipe!r} starts from init {entry.init}, and there is no such file or Run"
            )
    test = measured_images(study, study.configs[0])
    _say_seen(study)
    return sets, test


def _say_seen(study: StudyConfig) -> None:
    """Say, once for every part of the data, which rows train on images that they are measured on."""
    measured = (study.data, study.evaluate["split"])
    splits = {config.recipe: config.split for config in study.configs}
    found: dict[Part, dict[str, None]] = {}
    for config in study.configs:
        start = study.starts.get(config.recipe)
        parts = [(study.data, config.split), *(known_trainings(config.init) if config.init else ())]
        parts += [(study.data, splits[start])] if start else []
        for part in parts:
            if shares_images(part, measured):
                found.setdefault(part, {})[config.recipe] = None
    for (data, split), rows in found.items():
        some = ", ".join([*rows][:3]) + (f" and {len(rows) - 3} others" if len(rows) > 3 else "")
        _LOG.warning(
            "study: split %s of %s has images that rows are trained on (split %s%s): %s; their figures say "
            "little about other images",
            *(measured[1], measured[0], split, "" if data == study.data else f" of {data}", some),
        )


def _said(line: Mapping[str, Any]) -> str:
    if "stopped" in line:
        return f"{line['name']} failed"
    robust = "" if line["robust"] is None else f", corrupted {100 * line['robust']:.1f} %"
    if line["failed"]:
        robust = f", {len(line['failed'])} corrupted cells failed"
    return f"{line['name']}: clean {100 * line['clean']:.1f} %{robust}"
