"""The table of a study's finished runs."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from statistics import mean, stdev
from typing import Any, NamedTuple

from ..corruptions import CORRUPTIONS
from ..scores import BENCHMARK_15, EXTRA_4, FAMILIES

Line = Mapping[str, Any]
Kinds = Mapping[str, Sequence[float | None]]
"""The accuracies by kind, of five severities each; None where a cell failed."""

# The averages of the benchmark: their heads, and the kinds that they are over.
_BENCHMARK = {"average_15": ("15 kinds", BENCHMARK_15), "average_19": ("19 kinds", BENCHMARK_15 + EXTRA_4)}


class _Figure(NamedTuple):
    """A figure of one run, and whether what it is over was asked for."""

    value: float | None
    asked: bool = True


def average_of(kinds: Kinds) -> float | None:
    """Return the mean over all cells of these kinds; None where a cell failed, or where there is no kind.

    What is left of a failed cell is another average: see `Scores.average`.

    >>> average_of({"fog": [0.5, 0.25], "snow": [0.5, 0.75]}), average_of({"fog": [0.5, None]})
    (0.5, None)
    """
    cells = [value for values in kinds.values() for value in values]
    there = [value for value in cells if value is not None]
    return mean(there) if there and len(there) == len(cells) else None


def table(lines: Iterable[Line]) -> str:
    """Return the lines as Markdown, mean and standard deviation over seeds, in percent.

    A family's figure is over all of its kinds that were evaluated, as in `Scores.families`. The average over
    the kinds asked for stands there only where it is neither of the benchmark's own. A run of which a cell
    failed has no average over it; behind a mean stands the number of the other runs.
    """
    lines = list(lines)
    figures: dict[str, Callable[[Line], _Figure]] = {"clean": lambda line: _Figure(line["clean"])}
    for name, (head, _) in _BENCHMARK.items():
        figures[head] = partial(_benchmark, name=name)
    if not any(_all_close(lines, name) for name in _BENCHMARK):
        figures["all kinds asked for"] = _asked
    figures |= {family: partial(_of_family, family=family) for family in FAMILIES}
    heads = ("row", "seeds", *figures, "hours per run")
    text = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in dict.fromkeys(line["recipe"] for line in lines):
        group = [line for line in lines if line["recipe"] == row]
        cells = [_cell([figure(line) for line in group]) for figure in figures.values()]
        hours = mean(line["seconds"] + line["evaluation_seconds"] for line in group) / 3600
        text.append(f"| {row} | {len(group)} | {' | '.join(cells)} | {hours:.2f} |")
    return "\n".join(text)


def _benchmark(line: Line, *, name: str) -> _Figure:
    return _Figure(line[name], line["kinds"].keys() >= {*_BENCHMARK[name][1]})


def _asked(line: Line) -> _Figure:
    return _Figure(average_of(line["kinds"]), bool(line["kinds"]))


def _of_family(line: Line, *, family: str) -> _Figure:
    kinds = {kind: values for kind, values in line["kinds"].items() if CORRUPTIONS[kind].family == family}
    return _Figure(average_of(kinds), bool(kinds))


def _all_close(lines: Sequence[Line], name: str) -> bool:
    """Return whether the average over all kinds asked for is one of the benchmark's, in every line."""
    pairs = ((average_of(line["kinds"]), line[name]) for line in lines)
    return all(one == two or (one and two and math.isclose(one, two)) for one, two in pairs)


def _cell(found: Sequence[_Figure]) -> str:
    present = [100 * value for value, _ in found if value is not None]
    if not present:
        return "failed" if any(figure.asked for figure in found) else "not measured"
    text = f"{mean(present):.2f}" + (f" ± {stdev(present):.2f}" if len(present) > 1 else "")
    return text + (f" (n = {len(present)})" if len(present) < len(found) else "")
