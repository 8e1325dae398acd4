"""`filterbands results`: list, export, delete or add to what a database holds."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from ..checks import hint, seed_number
from ..evaluation import (
    Store,
    export_cells,
    load_scores,
    read_predictions,
    save_scores,
    score_predictions,
    write_leaderboard_entry,
)
from ..scores import SEVERITIES, Scores, conditions, of_name
from .shared import Answer, ImageOptions, Options


@dataclass(frozen=True, kw_only=True)
class ResultsOptions(Options):
    """List, export or delete the results of a database, or add predictions made elsewhere."""

    db: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DB")]
    """The database."""
    model: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """List the network of this name alone, kind by kind."""
    export: str | None = None
    """Write every cell as .csv, .json or .parquet."""
    robustbench: str | None = None
    """Write the network that --model names as a leaderboard's JSON entry."""
    delete: str | None = None
    """Delete every result of the network of this name."""
    add: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Add predictions made elsewhere: an .npz of clean, fog_3, ..., and labels unless --data has them."""
    name: str | None = None
    """Name of the network of --add."""
    data: str | None = None
    """Images that --add is about, as evaluate takes them, for comparisons with its results."""
    images: ImageOptions = field(default_factory=ImageOptions)
    """Which images of the data set --add is about."""
    parameters: str = "cifar"
    """Table of constants of the corruptions of --add, cifar or imagenet; empty for published arrays."""
    seed: int | None = None
    """Seed of the corruptions of --add, by default 0."""

    def __post_init__(self) -> None:
        for option in ("model", "export", "robustbench", "delete", "add", "name", "data"):
            if getattr(self, option) == "":
                raise ValueError(f"--{option} needs a text, got an empty one; fill it or leave it out")
        if sum(map(bool, (self.export, self.delete, self.robustbench, self.add))) > 1:
            raise ValueError(
                "--export, --robustbench, --delete and --add exclude each other; do one after the other"
            )
        seed_number(self.seed or 0)
        if bool(self.add) != bool(self.name):
            raise ValueError("--add FILE and --name NAME, of the network that made it, go together")
        if self.data and not self.add:
            raise ValueError("--data is for --add; --model NAME lists the results of one network")
        self.images.check_used(self.data, ImageOptions())
        if not self.add and (self.parameters != "cifar" or self.seed is not None):
            raise ValueError("--parameters and --seed are for --add")
        if self.model and (self.export or self.delete or self.add):
            raise ValueError(
                "--model lists one network, or names that of --robustbench; leave it out with --export, "
                "--delete and --add"
            )
        if self.robustbench and not self.model:
            raise ValueError("--robustbench needs --model NAME, the network to write")


def run(options: ResultsOptions) -> Answer:
    """List, export, delete or add."""
    if options.add and options.name:
        return _add(options, options.add, options.name)
    scores = load_scores(options.db)
    if options.delete:
        networks = len({entry.model for entry in of_name(scores, options.delete)})
        with Store(options.db) as store:
            count = store.delete(options.delete)
        text = f"{options.db}: deleted {count} results of {options.delete}"
        if networks > 1:
            text += f", {networks} networks of this name"
        if kept := {name for entry in of_name(scores, options.delete) for name in entry.other_names}:
            text += f"; the network has other names and keeps its results: {', '.join(sorted(kept))}"
        return Answer(document={"deleted": count, "name": options.delete}, text=text)
    if options.export:
        count = export_cells(options.db, options.export)
        text = f"{options.export}: {count} results"
        return Answer(document={"exported": count, "out": options.export}, text=text)
    if options.model:
        known = sorted({name for entry in scores for name in _names(entry)})
        scores = of_name(scores, options.model)
        if not scores:
            names = ", ".join(known) or "none"
            near = hint(options.model, known)
            raise ValueError(f"no results of {options.model!r}{near}; there are results of {names}")
        if options.robustbench:
            whole = [entry for entry in scores if entry.average_15() is not None]
            if len(whole) != 1:
                raise ValueError(
                    f"--robustbench needs one set of all 75 cells of {options.model!r}, there are "
                    f"{len(whole)}; evaluate all kinds, or take a database for it"
                )
            write_leaderboard_entry(whole[0], options.robustbench)
            document = {"model": options.model, "out": options.robustbench}
            return Answer(document=document, text=f"{options.robustbench}: {options.model}")
        text = "\n\n".join(f"{entry}\n\nmeasured on {_conditions(entry)}" for entry in scores)
    else:
        text = "\n".join(map(_line, scores)) or f"{options.db} holds no results"
    return Answer(document={"results": [entry.to_json() for entry in scores]}, text=text)


def _add(options: ResultsOptions, file: str, name: str) -> Answer:
    predictions, labels = read_predictions(file)
    made: dict[str, Any] = {"name": name, "parameters": options.parameters, "seed": options.seed}
    if options.data:
        images = options.images.in_turn(options.data)
        scores = score_predictions(images, predictions, labels=labels, db=options.db, **made)
    elif labels is None:
        raise ValueError(f"{file} has no labels; add them to the file, or name the images with --data SPEC")
    else:
        scores = Scores.from_predictions(labels, predictions, **made)
        save_scores(scores, options.db)
    return Answer(document=scores.to_json(), text=f"{options.db}: added {len(predictions)} results of {name}")


def _names(scores: Scores) -> tuple[str, ...]:
    return (scores.name, *scores.other_names)


def _conditions(scores: Scores) -> str:
    return ", ".join(f"{what} {value}" for what, value in conditions(scores))


def _line(scores: Scores) -> str:
    parts = [f"{scores.name:<24} {scores.data} ({scores.split}, {len(scores.labels):,})"]
    parts.append(f"clean {100 * scores.clean:.2f} %")
    averages = {"15 kinds": scores.average_15(), "19 kinds": scores.average_19()}
    cbar, at_hand = scores.average_cbar(), scores.average_at_hand()
    if averages["15 kinds"] is None and at_hand != cbar:
        count, levels = len(scores.kinds_at_hand), scores.severities != SEVERITIES
        title = f"{count} kind{'' if count == 1 else 's'} at hand"
        averages[title + (f" at {scores.levels}" if levels else "")] = at_hand
    for title, estimate in {**averages, "C-bar's 10 kinds": cbar}.items():
        if estimate is not None:
            parts.append(f"{title} {100 * estimate.accuracy:.2f} %")
    known = dict(conditions(scores))
    for what, usual in (("seed", "0"), ("constants", "cifar"), ("folder", ""), ("images per severity", "")):
        if known.get(what, usual) != usual:
            parts.append(f"{what} {known[what]}")
    if scores.precision != "float32":
        parts.append(scores.precision)
    if scores.other_names:
        parts.append(f"also named {', '.join(scores.other_names)}")
    return "  ".join(parts)
