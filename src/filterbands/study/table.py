"""The table of a study's finished runs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from ..corruptions import CORRUPTIONS
from ..scores import FAMILIES

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
    heads = ("row", "seeds", *figures.values(), *FAMILIES, "hours per run")
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


def _cell(values: Iterable[float | None]) -> str:
    present = [100 * value for value in values if value is not None]
    if not present:
        return "not measured"
    return f"{mean(present):.2f}" + (f" ± {stdev(present):.2f}" if len(present) > 1 else "")
