"""The study's file: one JSON object that says which rows, seeds and evaluations there are.

    {
      "name": "narrow",
      "data": "cifar10:DIR",
      "recipes": ["standard", "apr_sp",
                  {"name": "apr_sp_spectral", "recipe": "apr_sp", "set": {"spectral.strength": 1.0}},
                  {"recipe": "finetune", "from": "standard", "set": {"epochs": 5}}],
      "set": {"arch": "cifar_resnet18_narrow", "epochs": 12, "split": "full_train"},
      "grid": {"share.low": ["none", 1.0]},
      "seeds": [0, 1, 2],
      "evaluate": {"kinds": ["all-but-frost"], "spread": true, "precision": "bfloat16"}
    }

Every recipe is trained with every combination of the grid's values and every seed: all rows of the first
seed come before any of the second. A row with `from` starts from the weights of that row, with the same seed
and values of the grid.
"""

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from ..checks import hint
from ..disk import read_json
from ..evaluation import EvaluateConfig
from ..training import FROM_TRAINED, RECIPES, TrainConfig, with_settings

LARGEST = 10_000
"""Most trainings of a study."""

# Bytes of a study's file, and of a name of a folder (file systems take 255).
_FILE, _NAME = 1 << 20, 200
# Fields of a training that a study has of its own, and where they belong.
_ELSEWHERE = {
    "data": "the key data, whose images are measured too; write a study for each data set",
    "seed": "the key seeds",
    "recipe": "the key recipes, where name says what a row is called",
}
EVALUATE: Mapping[str, Any] = {
    "split": "test",
    "kinds": ["c"],
    "spread": True,
    "precision": "float32",
    "limit": None,
    "seed": 0,
}
"""The keys of `evaluate`, and what each says by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyConfig:
    """The trainings of a study and how they are evaluated; `as_study` and `read_study` make it.

    >>> study = as_study({"data": "planted", "recipes": ["standard"], "seeds": [0, 1]})
    >>> study.rows, len(study.configs)
    (('standard',), 2)
    """

    name: str
    """Name of the results folder."""
    data: str
    """As `load_data` takes it."""
    configs: tuple[TrainConfig, ...]
    """Every training, in order; its recipe is the row it belongs to."""
    starts: Mapping[str, str]
    """Rows that start from the weights of another row, and that row."""
    evaluate: Mapping[str, Any]
    """How they are evaluated: `split` and `limit` choose the images, the rest is of `EvaluateConfig`."""

    @property
    def evaluation(self) -> EvaluateConfig:
        """The config of every evaluation."""
        given = {name: value for name, value in self.evaluate.items() if name not in ("split", "limit")}
        return EvaluateConfig(**{**given, "kinds": tuple(given["kinds"])})

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows' names, in order."""
        return tuple(dict.fromkeys(config.recipe for config in self.configs))


def read_study(path: str | Path) -> StudyConfig:
    """Return the study of a JSON file, every config of it checked.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not such a file: an unknown key, recipe or field, or a value that does not fit.
    """
    content = read_json(path, largest=_FILE)
    try:
        return as_study(content, name=Path(path).stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def as_study(content: Any, *, name: str = "study") -> StudyConfig:
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
    seeds = content["seeds"]
    if not all(type(seed) is int for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds needs different whole numbers, got {_short(seeds)}")
    grid = content.get("grid", {})
    _no_own_keys("set", content.get("set", {}))
    _no_own_keys("grid", grid)
    for setting, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"grid.{setting} needs a list of values, got {_short(values)}")
        _different(f"grid.{setting}", [_text((setting, value)) for value in values])
    _different_settings(grid)
    count = len(seeds) * len(content["recipes"]) * math.prod(map(len, grid.values()))
    if count > LARGEST:
        raise ValueError(f"a study has at most {LARGEST:,} trainings, got {count:,}; split it")
    points = list(product(*([(setting, value) for value in values] for setting, values in grid.items())))
    rows = [_row(entry) for entry in content["recipes"]]
    if len({row for row, *_ in rows}) < len(rows):
        raise ValueError("two recipes have one name; give each a name of its own")
    names = [_at(point, row) for row, *_, start in rows if not start for point in points]
    starts = {_at(point, row): _at(point, start) for row, *_, start in rows if start for point in points}
    if unknown := [start for start in starts.values() if start not in names]:
        raise ValueError(
            f"from needs a row that itself starts from no other, got {unknown[0]!r}; "
            f"such are {', '.join(names)}"
        )
    for row, _, own, _ in rows:
        if both := {_setting(name) for name, _ in own} & {_setting(name) for name in grid}:
            raise ValueError(
                f"row {row!r} and grid both set {', '.join(sorted(both))}, and the grid would win; leave it "
                "out of one"
            )
    configs = [
        _config(row, recipe, [*content.get("set", {}).items(), *own, *point], content["data"], seed, point)
        for seed in seeds
        for row, recipe, own, _ in rows
        for point in points
    ]
    _check_starts(configs, rows, points)
    _check_folders(configs)
    evaluate = {**EVALUATE, **content.get("evaluate", {})}
    _known_keys(evaluate, list(EVALUATE), "evaluate")
    for key, value in evaluate.items():
        fits, noun = _EVALUATED[key]
        if not fits(value):
            raise ValueError(f"evaluate.{key} needs {noun}, got {value!r}")
    if {"/", "\\", "\0"} & set(content.get("name", "")):
        raise ValueError(f"name is a part of a folder's name, got {content['name']!r}")
    study = StudyConfig(
        name=content.get("name", name),
        data=content["data"],
        configs=tuple(configs),
        starts=starts,
        evaluate=evaluate,
    )
    # Refuses what does not fit, before anything is trained.
    _ = study.evaluation
    return study


def _row(entry: Any) -> tuple[str, str, list[tuple[str, Any]], str]:
    """Return a row's name, its recipe, its own settings, and the row that it starts from."""
    if isinstance(entry, str):
        entry = {"recipe": entry}
    _known_keys(entry, ("name", "recipe", "set", "from"), "a recipe")
    for key, kind in (("name", str), ("recipe", str), ("set", dict), ("from", str)):
        if key in entry and not isinstance(entry[key], kind):
            raise ValueError(f"{key} of a recipe needs {_NOUNS[kind]}, got {entry[key]!r}")
    recipe = entry.get("recipe")
    if recipe not in RECIPES:
        near, known = hint(str(recipe), RECIPES), ", ".join(RECIPES)
        raise ValueError(f"unknown recipe {recipe!r}{near}; known are {known}")
    _no_own_keys("set of a recipe", entry.get("set", {}))
    return entry.get("name", recipe), recipe, list(entry.get("set", {}).items()), entry.get("from", "")


def _no_own_keys(what: str, settings: Mapping[str, Any]) -> None:
    """Refuse fields that a study has of its own."""
    for key in settings:
        name = _setting(key)
        if where := _ELSEWHERE.get(name):
            raise ValueError(f"{what} cannot have {name}, which belongs to {where}")


def _setting(key: object) -> str:
    """Return the field that a key of `set` or `grid` names."""
    return str(key).partition("=")[0].strip()


def _different_settings(grid: Mapping[str, Any]) -> None:
    """Refuse a grid that has one setting twice."""
    names = [_setting(key) for key in grid]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"grid has {', '.join(twice)} twice")


def _at(point: Sequence[tuple[str, Any]], row: str) -> str:
    """Return a row's name at a point of the grid."""
    return " ".join([row, *map(_text, point)])


def _config(
    row: str,
    recipe: str,
    settings: Sequence[tuple[str, Any]],
    data: str,
    seed: int,
    point: Sequence[tuple[str, Any]],
) -> TrainConfig:
    config = with_settings(RECIPES[recipe](), [f"data={data}", *map(_text, settings), f"seed={seed}"])
    return replace(config, recipe=_at(point, row))


def _check_starts(
    configs: Sequence[TrainConfig],
    rows: Sequence[tuple[str, str, list[tuple[str, Any]], str]],
    points: Sequence[Sequence[tuple[str, Any]]],
) -> None:
    """Refuse rows that lack the network that their recipe starts from, and rows that name two."""
    inits = {config.recipe: config.init for config in configs}
    archs = {config.recipe: config.arch for config in configs}
    for row, recipe, _, start in rows:
        init = next((init for point in points if (init := inits[_at(point, row)])), "")
        if start and init:
            raise ValueError(f"row {row!r} starts from {start!r} and from init {init!r}; leave one out")
        for point in points if start else ():
            own, other = archs[_at(point, row)], archs[_at(point, start)]
            if own != other:
                raise ValueError(
                    f"row {row!r} has arch {own} and starts from {start!r}, which has {other}; give both "
                    "one arch"
                )
        if recipe in FROM_TRAINED and not start and not all(inits[_at(point, row)] for point in points):
            raise ValueError(
                f"row {row!r} has the recipe {recipe}, which starts from a trained network; name it as "
                '"from": a row, or "set": {"init": a file or Run}'
            )


def _text(setting: tuple[str, Any]) -> str:
    name, value = setting
    return f"{name}={'none' if value is None else value}"


def folder_of(config: TrainConfig) -> str:
    """Return the name of a run's folder in the folder of its study."""
    name = f"{config.recipe}-{config.arch}-{config.seed}"
    return "".join(letter if letter.isalnum() or letter in "-_.=" else "_" for letter in name)


def _check_folders(configs: Sequence[TrainConfig]) -> None:
    """Refuse rows that are one training, and rows whose folders are one on some file system."""
    folders: dict[str, TrainConfig] = {}
    for config in configs:
        name = folder_of(config)
        if len(name.encode()) > _NAME:
            raise ValueError(f"the name of a row is too long for a folder: {_short(config.recipe)}")
        other = folders.setdefault(unicodedata.normalize("NFKC", name).casefold(), config)
        if other is not config:
            raise ValueError(
                f"rows {other.recipe!r} and {config.recipe!r} would share the folder {name}; rename one"
            )


def _different(what: str, texts: Sequence[str]) -> None:
    """Refuse values that are written twice, or in two ways: one row would count as two seeds."""
    seen: dict[object, str] = {}
    for text in texts:
        _, _, value = text.partition("=")
        key: object = value.strip().lower()
        with suppress(ValueError):
            key = float(value)
        if key in seen:
            raise ValueError(f"{what} has one value twice, {seen[key]} and {value}")
        seen[key] = value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


_NOUNS = {str: "a text", dict: "an object"}
_EVALUATED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "split": (lambda value: isinstance(value, str), "a text"),
    "kinds": (
        lambda value: isinstance(value, list) and all(isinstance(kind, str) for kind in value),
        "a list of names",
    ),
    "spread": (lambda value: isinstance(value, bool), "true or false"),
    "precision": (lambda value: isinstance(value, str), "a text"),
    "limit": (lambda value: value is None or (type(value) is int and value > 0), "a number above 0 or null"),
    "seed": (lambda value: type(value) is int, "a whole number"),
}


def _known_keys(content: Any, known: Sequence[str], what: str) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{what} needs an object with {', '.join(known)}, got {content!r}")
    for key in content:
        if key not in known:
            raise ValueError(f"{what} has no key {key!r}{hint(key, known)}; there are {', '.join(known)}")
