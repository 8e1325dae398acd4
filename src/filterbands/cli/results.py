"""`filterbands results`: list, export or delete what a database holds."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from ..checks import hint
from ..evaluation import Store, export_cells, load_scores, write_leaderboard_entry
from ..scores import Scores
from .shared import Answer, Options


@dataclass(frozen=True, kw_only=True)
class ResultsOptions(Options):
    """List, export or delete the results of a database."""

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

    def __post_init__(self) -> None:
        if sum(map(bool, (self.export, self.delete, self.robustbench))) > 1:
            raise ValueError(
                "--export, --robustbench and --delete exclude each other; do one after the other"
            )
        if self.robustbench and not self.model:
            raise ValueError("--robustbench needs --model NAME, the network to write")


def run(options: ResultsOptions) -> Answer:
    """List, export or delete."""
    scores = load_scores(options.db)
    if options.delete:
        with Store(options.db) as store:
            count = store.delete(options.delete)
        text = f"{options.db}: deleted {count} results of {options.delete}"
        return Answer(document={"deleted": count, "name": options.delete}, text=text)
    if options.export:
        count = export_cells(options.db, options.export)
        text = f"{options.export}: {count} results"
        return Answer(document={"exported": count, "out": options.export}, text=text)
    if options.model:
        known = sorted({entry.name for entry in scores})
        scores = [entry for entry in scores if entry.name == options.model]
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
        text = "\n\n".join(map(str, scores))
    else:
        text = "\n".join(map(_line, scores)) or f"{options.db} holds no results"
    return Answer(document={"results": [entry.to_json() for entry in scores]}, text=text)


def _line(scores: Scores) -> str:
    at_hand = scores.average_at_hand()
    parts = [f"{scores.name:<24} {scores.data} ({scores.split}, {len(scores.labels):,})"]
    parts.append(f"clean {100 * scores.clean:.2f} %")
    for title, estimate in (("15 kinds", scores.average_15()), ("19 kinds", scores.average_19())):
        if estimate is not None:
            parts.append(f"{title} {100 * estimate.accuracy:.2f} %")
    if at_hand is not None and scores.average_15() is None:
        parts.append(f"{len(scores.kinds)} kinds at hand {100 * at_hand.accuracy:.2f} %")
    if scores.precision != "float32":
        parts.append(scores.precision)
    return "  ".join(parts)
