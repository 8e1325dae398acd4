"""The plan of a study: what it will cost, and which difference it can find."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import stdev
from typing import Any

import torch

from ..datasets import ImageSet
from ..engine import pick_device
from ..evaluation import evaluate
from ..models import load_model
from ..run import Run
from ..scores import student_quantile
from ..training import TrainConfig, measure_step
from ..types import Progress
from .file import StudyConfig, folder_of
from .lines import ImagesNow, line_of, read_lines, say_evaluated_anew
from .run import load
from .table import average_of

USUAL_SPREAD = 0.003
"""Standard deviation of the robust accuracy over seeds where none was measured: a high published one.

Source: .07 to .30 points over 3 seeds, WRN-28-4 on CIFAR-10-C, in the results of
github.com/Georgsiedel/robust_image_classification.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a study will cost and what it can tell."""

    runs: int
    """Trainings in all."""
    missing: int
    """Those not finished, or evaluated in another way than the study says now."""
    hours: float
    """For the missing ones, on the given number of workers, as if these did not slow each other."""
    seconds: Mapping[str, tuple[float, float]]
    """By row, the seconds of training and of evaluation per run."""
    spread: float
    """Standard deviation of the robust accuracy over seeds: measured where finished runs allow."""
    detectable: float | None
    """Difference of two rows' means found in 80 % of studies at the 5 % level; None with one seed."""


def plan_study(
    study: StudyConfig,
    out: str | Path,
    *,
    workers: int = 1,
    threads: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Plan:
    """Return what the study will cost, from a few steps and one small evaluation of each row.

    Nothing is written. Finished runs in `out` count as done, and give the spread over seeds.

    Raises:
        ValueError: As for `run_study`.
    """
    training, test = load(study)
    now = ImagesNow(study, training)
    lines = read_lines(Path(out)) if Path(out).exists() else []
    say_evaluated_anew(study, lines)
    found = [line_of(config, study, lines, Path(out), now) for config in study.configs]
    missing = [config for config, line in zip(study.configs, found, strict=True) if line is None]
    # As workers are given, unless a number is named.
    threads = threads or (1 if workers > 1 else None)
    seconds: dict[str, tuple[float, float]] = {}
    first = {config.recipe: config for config in reversed(study.configs)}
    for number, row in enumerate(study.rows):
        config = first[row]
        images = training[config.split, config.size]
        step = measure_step(config, images, steps=3, device=device, threads=threads)
        steps = config.epochs * (len(images) // config.batch_size)
        seconds[row] = (step.total * steps, _evaluation_seconds(study, config, test, device))
        if progress is not None:
            progress(number + 1, len(study.rows), row)
    trained = {config for config in missing if Run(Path(out) / folder_of(config)).finished}
    # Rows that start from others wait for these, and workers share no run.
    rounds: dict[bool, list[float]] = {}
    for config in missing:
        training_seconds, evaluation_seconds = seconds[config.recipe]
        one = evaluation_seconds + (0 if config in trained else training_seconds)
        rounds.setdefault(config.recipe in study.starts, []).append(one)
    total = sum(max(max(each), sum(each) / workers) for each in rounds.values())
    spread = seed_spread([line for line in found if line is not None])
    seeds = len({config.seed for config in study.configs})
    return Plan(
        runs=len(study.configs),
        missing=len(missing),
        hours=total / 3600,
        seconds=seconds,
        spread=USUAL_SPREAD if spread is None else spread,
        detectable=detectable(seeds, USUAL_SPREAD if spread is None else spread),
    )


def detectable(seeds: int, spread: float) -> float | None:
    """Return the difference of two means that a two-sided t-test finds in 80 % of studies at the 5 % level.

    Both rows have the same seeds and the same standard deviation `spread` over them, and are not paired.

    Source: the usual approximation (t_{0.975} + t_{0.8}) * spread * sqrt(2 / n) with 2n - 2 degrees of
    freedom; Cohen 1988, "Statistical power analysis", section 2.4.

    >>> round(detectable(3, 0.003), 4)
    0.0091
    """
    if seeds < 2:
        return None
    freedom = 2 * seeds - 2
    factor = student_quantile(0.975, freedom) + student_quantile(0.8, freedom)
    return factor * spread * math.sqrt(2 / seeds)


def seed_spread(lines: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the pooled standard deviation of the robust accuracy over seeds; None without two of a row."""
    groups: dict[str, list[float]] = {}
    for line in lines:
        # Lines of earlier versions say a mean without the cells that failed.
        robust = average_of(line["kinds"]) if line.get("kinds") else line["robust"]
        if robust is not None:
            groups.setdefault(line["recipe"], []).append(robust)
    several = [values for values in groups.values() if len(values) > 1]
    if not several:
        return None
    squares = sum((len(values) - 1) * stdev(values) ** 2 for values in several)
    return math.sqrt(squares / sum(len(values) - 1 for values in several))


def _evaluation_seconds(study: StudyConfig, config: TrainConfig, test: ImageSet, device: str) -> float:
    few = test.subset(torch.arange(min(100, len(test))))
    settings = replace(study.evaluation, device=device, spread=False, severities=(3,))
    model = load_model(arch=config.arch, classes=len(test.classes))
    if pick_device(device).type == "cuda":
        # The first evaluation loads kernels, once.
        evaluate(model, few, config=settings)
    began = time.perf_counter()
    evaluate(model, few, config=settings)
    return (time.perf_counter() - began) * len(test) / len(few) * (1 if study.evaluation.spread else 5)
