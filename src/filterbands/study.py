"""A study: a grid of trainings and their evaluations from one JSON file, resumable, on any number of workers.

    {
      "name": "narrow",
      "data": "cifar10:DIR",
      "recipes": ["standard", "apr_sp",
                  {"name": "apr_sp_spectral", "recipe": "apr_sp", "set": {"spectral.strength": 1.0}}],
      "set": {"arch": "cifar_resnet18_narrow", "epochs": 12, "split": "full_train"},
      "grid": {"share.low": ["none", 1.0]},
      "seeds": [0, 1, 2],
      "evaluate": {"kinds": ["all-but-frost"], "spread": true, "precision": "bfloat16"}
    }

Every recipe is trained with every combination of the grid's values and every seed: all rows of the first
seed come before any of the second. A folder holds a Run for each, one database of evaluations, and runs.jsonl
with a line for each that is finished.
"""

import difflib
import functools
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import cycle, product
from pathlib import Path
from statistics import NormalDist, mean, stdev
from typing import Any

import torch

from .corruptions import CORRUPTIONS, expand_kinds
from .datasets import ImageSet, load_data
from .disk import make_folder
from .engine import pick_device, set_threads
from .evaluation import EvaluateConfig, evaluate
from .models import load_model
from .scores import FAMILIES
from .training import RECIPES, TrainConfig, measure_step, to_plain, train, with_settings
from .types import Progress
from .workers import run_jobs

USUAL_SPREAD = 0.003
"""Standard deviation of the robust accuracy over seeds where none was measured: a high published one.

Source: .07 to .30 points over 3 seeds, WRN-28-4 on CIFAR-10-C, in the results of
github.com/Georgsiedel/robust_image_classification.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """How the networks of a study are evaluated."""

    split: str = "test"
    """The split, say `validation` while there is a choice to make."""
    kinds: tuple[str, ...] = ("c",)
    """Kinds or sets of kinds; `c` are all 19, `none` for clean accuracy alone."""
    spread: bool = True
    """Every kind sees every image, at one severity each: a fifth of the cost."""
    precision: str = "float32"
    """`float32` or `bfloat16`."""
    limit: int | None = None
    """The first so many images."""
    seed: int = 0
    """Of the corruptions."""

    def config(self, name: str, *, device: str | None = None) -> EvaluateConfig:
        """Return the evaluation's own config, under a network's name."""
        kinds = () if self.kinds in ((), ("none",)) else expand_kinds(list(self.kinds))
        return EvaluateConfig(
            name=name,
            kinds=kinds,
            spread=self.spread,
            precision=self.precision,
            seed=self.seed,
            device=None if device == "auto" else device,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What is to be trained and evaluated, and where."""

    name: str
    """The results folder's name."""
    data: str
    """As `load_data` takes it."""
    configs: tuple[TrainConfig, ...]
    """Every training, in order; its recipe is the row it belongs to."""
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)
    """How they are evaluated."""

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows' names, in order."""
        return tuple(dict.fromkeys(config.recipe for config in self.configs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a study will cost and what it can tell."""

    runs: int
    """Trainings in all."""
    missing: int
    """Those not finished."""
    hours: float
    """For the missing ones, on the given number of workers, as if these did not slow each other."""
    seconds: Mapping[str, tuple[float, float]]
    """A row's seconds of training and of evaluation, a run."""
    spread: float
    """Standard deviation of the robust accuracy over seeds: measured where finished runs allow."""
    detectable: float | None
    """Difference of two rows' means found in 80 % of studies at the 5 % level; None with one seed."""


def read_study(path: str | Path) -> Study:
    """Return the study of a JSON file, every config of it checked.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not such a file: an unknown key, recipe or field, or a value that does not fit.
    """
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        content = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    try:
        return as_study(content, name=file.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def as_study(content: Any, *, name: str = "study") -> Study:
    """Return the study that plain values describe; see `read_study`.

    >>> study = as_study({"data": "planted", "recipes": ["standard"], "seeds": [0, 1]})
    >>> [(config.recipe, config.seed) for config in study.configs]
    [('standard', 0), ('standard', 1)]
    """
    known = ("name", "data", "recipes", "set", "grid", "seeds", "evaluate")
    _known_keys(content, known, "a study")
    for key, kind in (("name", str), ("data", str), ("set", dict), ("grid", dict), ("evaluate", dict)):
        if key in content and not isinstance(content[key], kind):
            raise ValueError(f"{key} needs {_NOUNS[kind]}, got {content[key]!r}")
    for key in ("recipes", "seeds"):
        if not isinstance(content.get(key), list) or not content[key]:
            raise ValueError(f"{key} needs a list that is not empty, got {content.get(key)!r}")
    if "data" not in content:
        raise ValueError("data is missing: planted, cifar10:DIR or another set of load_data")
    if not all(isinstance(seed, int) for seed in content["seeds"]) or len(set(content["seeds"])) < len(
        content["seeds"]
    ):
        raise ValueError(f"seeds needs different whole numbers, got {content['seeds']!r}")
    grid = content.get("grid", {})
    for setting, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"grid.{setting} needs a list of values, got {values!r}")
    points = list(product(*([(setting, value) for value in values] for setting, values in grid.items())))
    rows = [_row(entry) for entry in content["recipes"]]
    if len({row for row, _, _ in rows}) < len(rows):
        raise ValueError("two recipes have one name; give each a name of its own")
    configs = [
        _config(row, recipe, [*content.get("set", {}).items(), *own, *point], content["data"], seed, point)
        for seed in content["seeds"]
        for row, recipe, own in rows
        for point in points
    ]
    return Study(
        name=content.get("name", name),
        data=content["data"],
        configs=tuple(configs),
        evaluate=_options(content.get("evaluate", {})),
    )


def run_study(
    study: Study,
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
    whose loss becomes no number does not stop the others.

    Args:
        study: What to do.
        out: Folder of runs, of results.db and of runs.jsonl; made if need be. With `ray`, all nodes see it.
        workers: Trainings at once, one a process.
        ray: Address of a Ray cluster, as for `run_jobs`.
        threads: Torch threads of each worker; None for 1 each with several, else as they are.
        device: As for `train`; several workers of this machine take its CUDA devices in turn.
        progress: Called after every run with runs done, runs in all, and what was found.

    Raises:
        ValueError: Data that do not fit, results of another configuration in the folder, or runs that
            failed, once all others are done.

    >>> import tempfile
    >>> one = as_study({"data": "planted", "recipes": ["standard"], "seeds": [0], "evaluate": {"kinds": []},
    ...                 "set": {"epochs": 1, "split": "validation"}})
    >>> with tempfile.TemporaryDirectory() as out:
    ...     len(run_study(one, out))
    1
    """
    folder = make_folder(out)
    _load(study)
    lines = read_lines(folder)
    todo = [config for config in study.configs if _line_of(config, lines, folder) is None]
    work = functools.partial(_run_one, folder=str(folder), study=study, threads=threads)
    devices = [device]
    if workers > 1 and ray is None and pick_device(device) == torch.device("cuda"):
        devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    jobs = zip(todo, cycle(devices))
    failed = []
    done = len(study.configs) - len(todo)
    for _, line in run_jobs(work, jobs, workers=workers, ray=ray, threads=threads or 1):
        done += 1
        if "failed" in line:
            failed.append(f"{line['name']}: {line['failed']}")
        else:
            with (folder / "runs.jsonl").open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            lines.append(line)
        if progress is not None:
            progress(done, len(study.configs), _said(line))
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(study.configs)} runs failed, the others are kept: {failed[0]}"
        )
    found = [_line_of(config, lines, folder) for config in study.configs]
    return [line for line in found if line is not None]


def plan_study(
    study: Study,
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
    training, test = _load(study)
    lines = read_lines(Path(out)) if Path(out).exists() else []
    missing = [config for config in study.configs if _line_of(config, lines, Path(out)) is None]
    seconds: dict[str, tuple[float, float]] = {}
    first = {config.recipe: config for config in reversed(study.configs)}
    for number, row in enumerate(study.rows):
        config = first[row]
        step = measure_step(config, training[config.split], steps=3, device=device, threads=threads)
        steps = config.epochs * (len(training[config.split]) // config.batch_size)
        seconds[row] = (step.total * steps, _evaluation_seconds(study, config, test, device))
        if progress is not None:
            progress(number + 1, len(study.rows), row)
    total = sum(sum(seconds[config.recipe]) for config in missing)
    spread = seed_spread(lines)
    seeds = len({config.seed for config in study.configs})
    return Plan(
        runs=len(study.configs),
        missing=len(missing),
        hours=total / workers / 3600,
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
    factor = _student_quantile(0.975, freedom) + _student_quantile(0.8, freedom)
    return factor * spread * math.sqrt(2 / seeds)


def seed_spread(lines: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the pooled standard deviation of the robust accuracy over seeds; None without two of a row."""
    groups: dict[str, list[float]] = {}
    for line in lines:
        if line["robust"] is not None:
            groups.setdefault(line["recipe"], []).append(line["robust"])
    several = [values for values in groups.values() if len(values) > 1]
    if not several:
        return None
    squares = sum((len(values) - 1) * stdev(values) ** 2 for values in several)
    return math.sqrt(squares / sum(len(values) - 1 for values in several))


_FIGURES = {
    "clean": "clean",
    "average_15": "15 kinds",
    "average_19": "19 kinds",
    "robust": "all kinds asked for",
}


def table(lines: Iterable[Mapping[str, Any]]) -> str:
    """Return the lines as Markdown, mean and standard deviation over seeds, in percent.

    A family's figure is over all of its kinds that were evaluated, as in `Scores.families`. The average over
    the kinds asked for stands there only where it is neither of the benchmark's own.
    """
    lines = list(lines)
    figures = dict(_FIGURES)
    if any(_all_close(lines, "robust", name) for name in ("average_15", "average_19")):
        del figures["robust"]
    heads = ("row", "seeds", *figures.values(), *FAMILIES, "hours a run")
    text = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in dict.fromkeys(line["recipe"] for line in lines):
        group = [line for line in lines if line["recipe"] == row]
        cells = [_cell(line[name] for line in group) for name in figures]
        cells += [_cell(_of_family(line["kinds"], family) for line in group) for family in FAMILIES]
        hours = mean(line["seconds"] + line["evaluation_seconds"] for line in group) / 3600
        text.append(f"| {row} | {len(group)} | {' | '.join(cells)} | {hours:.2f} |")
    return "\n".join(text)


def _all_close(lines: Sequence[Mapping[str, Any]], one: str, other: str) -> bool:
    """Return whether two figures are the same in every line."""
    pairs = ((line[one], line[other]) for line in lines)
    return all(a == b or (None not in (a, b) and math.isclose(a, b)) for a, b in pairs)


def _of_family(kinds: Mapping[str, Sequence[float | None]], family: str) -> float | None:
    """Return the mean over the severities at hand of the family's kinds at hand."""
    means = []
    for kind, values in kinds.items():
        present = [value for value in values if value is not None]
        if CORRUPTIONS[kind].family == family and present:
            means.append(mean(present))
    return mean(means) if means else None


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """Return the finished runs' lines, without one that was cut short."""
    file = folder / "runs.jsonl"
    lines = []
    for text in file.read_text().splitlines() if file.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def _run_one(
    job: tuple[TrainConfig, str], *, folder: str, study: Study, threads: int | None
) -> dict[str, Any]:
    """Train and evaluate one network on a device and return its line."""
    config, device = job
    set_threads(threads)
    name = _name(config)
    place = Path(folder) / name
    try:
        run = train(config, place, resume=(place / "run.json").exists(), device=device)
    except ValueError as error:
        return {"name": name, "failed": str(error)}
    described = run.read()
    began = time.perf_counter()
    model = load_model(run.folder)
    settings = replace(study.evaluate.config(name, device=device), overlap=config.resembles or None)
    options, size = study.evaluate, config.size or None
    test = load_data(study.data, split=options.split, size=size, limit=options.limit)
    scores = evaluate(model, test, config=settings, db=Path(folder) / "results.db")
    plain = scores.to_json()
    averages = {
        key: None if plain[key] is None else plain[key]["accuracy"] for key in ("average_15", "average_19")
    }
    cells = [value for values in plain["kinds"].values() for value in values if value is not None]
    layer = run.read_log()[-1]["first_layer"]
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
        "robust": mean(cells) if cells else None,
        "kinds": plain["kinds"],
        "low_share": layer["low_share"],
        "mean_low_energy": layer["mean_low_energy"],
        "seconds": described["seconds"],
        "evaluation_seconds": time.perf_counter() - began,
        "device": described["device"],
        "git": described["git"],
        "config": described["config"],
        "evaluation": _plain_options(study.evaluate),
    }


def _plain_options(options: EvaluateOptions) -> dict[str, Any]:
    plain = {entry.name: getattr(options, entry.name) for entry in fields(options)}
    return {**plain, "kinds": list(options.kinds)}


def _name(config: TrainConfig) -> str:
    safe = "".join(letter if letter.isalnum() or letter in "-_.=" else "_" for letter in config.recipe)
    return f"{safe}-{config.arch}-{config.seed}"


def _line_of(config: TrainConfig, lines: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any] | None:
    """Return a run's line; refuse a folder whose run of that name is another."""
    for line in lines:
        if line["name"] == _name(config):
            now = to_plain(config)
            changed = [name for name, value in now.items() if line["config"].get(name, value) != value]
            if changed:
                raise ValueError(
                    f"{folder} holds {line['name']} with another {', '.join(changed)}; use another folder, "
                    "or give the row another name"
                )
            return dict(line)
    return None


def _load(study: Study) -> tuple[dict[str, ImageSet], ImageSet]:
    """Return the training sets by split, and the images to evaluate; check what can fail."""
    config = study.configs[0]
    size = config.size or None
    splits = {entry.split: load_data(study.data, split=entry.split, size=size) for entry in study.configs}
    for entry in study.configs:
        if len(splits[entry.split]) < entry.batch_size:
            raise ValueError(
                f"{entry.recipe}: batch_size {entry.batch_size} exceeds the {len(splits[entry.split])} "
                f"images of {study.data}"
            )
    test = load_data(study.data, split=study.evaluate.split, size=size, limit=study.evaluate.limit)
    return splits, test


def _evaluation_seconds(study: Study, config: TrainConfig, test: ImageSet, device: str) -> float:
    count = min(100, len(test))
    settings = replace(study.evaluate.config("plan", device=device), spread=False, severities=(3,))
    model = load_model(arch=config.arch, classes=len(test.classes))
    began = time.perf_counter()
    evaluate(model, test.subset(torch.arange(count)), config=settings)
    return (time.perf_counter() - began) * len(test) / count * (1 if study.evaluate.spread else 5)


def _row(entry: Any) -> tuple[str, str, list[tuple[str, Any]]]:
    """Return a row's name, its recipe and its own settings."""
    if isinstance(entry, str):
        entry = {"recipe": entry}
    _known_keys(entry, ("name", "recipe", "set"), "a recipe")
    recipe = entry.get("recipe")
    if recipe not in RECIPES:
        close = difflib.get_close_matches(str(recipe), RECIPES, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(f"unknown recipe {recipe!r}{hint}; known are {', '.join(RECIPES)}")
    return entry.get("name", recipe), recipe, list(entry.get("set", {}).items())


def _config(
    row: str,
    recipe: str,
    settings: Sequence[tuple[str, Any]],
    data: str,
    seed: int,
    point: Sequence[tuple[str, Any]],
) -> TrainConfig:
    texts = [f"{name}={'none' if value is None else value}" for name, value in settings]
    config = with_settings(RECIPES[recipe](), [f"data={data}", *texts, f"seed={seed}"])
    at = "".join(f" {name}={'none' if value is None else value}" for name, value in point)
    return replace(config, recipe=row + at)


def _options(plain: Mapping[str, Any]) -> EvaluateOptions:
    _known_keys(plain, [entry.name for entry in fields(EvaluateOptions)], "evaluate")
    given = dict(plain)
    if "kinds" in given:
        if not isinstance(given["kinds"], list):
            raise ValueError(f"evaluate.kinds needs a list of names, got {given['kinds']!r}")
        given["kinds"] = tuple(given["kinds"])
    options = EvaluateOptions(**given)
    options.config("check")
    return options


_NOUNS = {str: "a text", dict: "an object"}


def _known_keys(content: Any, known: Sequence[str], what: str) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{what} needs an object with {', '.join(known)}, got {content!r}")
    for key in content:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(f"{what} has no key {key!r}{hint}; there are {', '.join(known)}")


def _said(line: Mapping[str, Any]) -> str:
    if "failed" in line:
        return f"{line['name']} failed"
    robust = "" if line["robust"] is None else f", corrupted {100 * line['robust']:.1f} %"
    return f"{line['name']}: clean {100 * line['clean']:.1f} %{robust}"


def _cell(values: Iterable[float | None]) -> str:
    present = [100 * value for value in values if value is not None]
    if not present:
        return "not measured"
    return f"{mean(present):.2f}" + (f" ± {stdev(present):.2f}" if len(present) > 1 else "")


def _student_quantile(probability: float, freedom: int) -> float:
    """Return Student's quantile above the median, by bisection of the integrated density."""
    scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(freedom * math.pi)

    def below(value: float) -> float:
        # Simpson's rule from 0, where half of the law lies below.
        pieces = 400
        width = value / pieces
        density = [
            math.exp(scale - (freedom + 1) / 2 * math.log1p((place * width) ** 2 / freedom))
            for place in range(pieces + 1)
        ]
        inner = 4 * sum(density[1:-1:2]) + 2 * sum(density[2:-1:2])
        return 0.5 + width / 3 * (density[0] + inner + density[-1])

    low, high = 0.0, 20 * NormalDist().inv_cdf(probability)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < probability else (low, middle)
    return (low + high) / 2
