"""Tables and the picture of the recipe search (docs/search.md), from results/search.jsonl, without training.

python benchmarks/search.py                   both tables, as Markdown
python benchmarks/search.py --candidates      writes the study of 40 epochs, by the rules of docs/search.md
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import altair as alt
from collecting import read_finished

from filterbands.report.style import MUTED
from filterbands.scores import student_interval
from filterbands.training import from_plain

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
OWN = ("spatter", "saturate")
BAR = (
    *("caustic_refraction", "perlin_noise", "plasma_noise"),
    *("cocentric_sine_waves", "single_frequency_greyscale"),
)
LEFT_OUT = ("cocentric_sine_waves",)
"""Kinds that are invisible or hopeless on the standard network."""
ALLOWED: Mapping[int, float] = {12: 1.0, 40: 0.3}
"""Clean loss in points that costs nothing in the rank, by epochs."""
PENALTY = 3.0
GOAL = (14.0, 0.3)
"""The gain over the 15 kinds and the clean loss that the search is for, in points."""

Line = dict[str, Any]


def read() -> list[Line]:
    """Return the lines of the finished runs."""
    return read_finished(RESULTS / "search.jsonl")


def selection(kinds: Mapping[str, Sequence[float | None]], *, without: Sequence[str] = ()) -> float:
    """Return the selection score: the mean accuracy over the selection kinds, as a share."""
    chosen = [kind for kind in (*OWN, *BAR) if kind not in (*LEFT_OUT, *without)]
    return mean(accuracy(kinds[kind]) for kind in chosen)


def resembled(line: Line) -> tuple[str, ...]:
    """Return the selection kinds that a row's training resembles, on which it is not ranked."""
    found = from_plain(line["config"]).resembles
    return tuple(kind for kind in (*OWN, *BAR) if kind in found and kind not in LEFT_OUT)


def accuracy(severities: Sequence[float | None]) -> float:
    """Return a kind's mean accuracy over its severities."""
    return mean(value for value in severities if value is not None)


def gains(lines: Sequence[Line], row: str, epochs: int) -> list[tuple[float, float]]:
    """Return the clean and the selection gain over `standard` by seed, in points."""
    of = {
        name: {line["seed"]: line for line in lines if (line["row"], line["epochs"]) == (name, epochs)}
        for name in (row, "standard")
    }
    return [
        (
            100 * (line["clean"] - of["standard"][seed]["clean"]),
            100 * _difference(line, of["standard"][seed], resembled(line)),
        )
        for seed, line in sorted(of[row].items())
        if seed in of["standard"]
    ]


def _difference(line: Line, standard: Line, without: Sequence[str]) -> float:
    return selection(line["kinds"], without=without) - selection(standard["kinds"], without=without)


def rank(found: Sequence[tuple[float, float]], epochs: int) -> float:
    """Return the gain in the selection score less the penalty on what the clean loss exceeds, in points."""
    clean, gain = (mean(values) for values in zip(*found, strict=True))
    return gain - PENALTY * max(0.0, -clean - ALLOWED[epochs])


def table(lines: Sequence[Line], epochs: int) -> str:
    """Return all rows of a budget as Markdown, the best rank first."""
    lines = [line for line in lines if line["epochs"] == epochs]
    if not lines:
        return "No runs yet."
    rows = {line["row"]: gains(lines, line["row"], epochs) for line in lines}
    order = sorted((row for row in rows if rows[row]), key=lambda row: -rank(rows[row], epochs))
    costs = RESULTS / "search_cost.json"
    ratios = json.loads(costs.read_text())["ratios"] if costs.exists() else {}
    heads = (
        "row",
        "passes",
        "step",
        "seeds",
        "clean, %",
        "selection, %",
        "clean, points",
        "selection, points",
        "rank",
    )
    text = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in order:
        runs = [line for line in lines if line["row"] == row]
        of_clean, of_selection = ([pair[place] for pair in rows[row]] for place in (0, 1))
        cells = [
            f"`{row}`" + (" *" if resembled(runs[0]) else ""),
            str(runs[0]["passes"]),
            f"{ratios[row]:.2f}" if row in ratios else "",
            str(len(runs)),
            f"{100 * mean(line['clean'] for line in runs):.2f}",
            f"{100 * mean(selection(line['kinds'], without=resembled(line)) for line in runs):.2f}",
            *(("", "", "") if row == "standard" else (_signed(of_clean), _signed(of_selection))),
            *(() if row == "standard" else (f"{rank(rows[row], epochs):.2f}",)),
        ]
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def _signed(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:+.2f}"
    low, high = student_interval(values)
    return f"{mean(values):+.2f} ({low:+.2f} to {high:+.2f})"


def chart(lines: Sequence[Line]) -> alt.LayerChart:
    """Return gain against clean change: what can be had, by passes and budget."""
    points = []
    for epochs in sorted({line["epochs"] for line in lines}):
        for row in sorted({line["row"] for line in lines if line["epochs"] == epochs}):
            found = gains(lines, row, epochs)
            if row != "standard" and found:
                clean, gain = (mean(values) for values in zip(*found, strict=True))
                passes = next(line["passes"] for line in lines if line["row"] == row)
                points.append(
                    {"row": row, "clean": clean, "gain": gain, "passes": passes, "epochs": f"{epochs} epochs"}
                )
    base = alt.Chart(alt.Data(values=points)).encode(
        x=alt.X("clean:Q", title="change in clean accuracy, points").scale(zero=False, padding=40),
        y=alt.Y("gain:Q", title="gain in the selection score, points").scale(zero=False, padding=12),
    )
    return alt.layer(
        base.mark_point(filled=True, size=60).encode(
            color=alt.Color("passes:N", title="passes per step"), shape=alt.Shape("epochs:N", title=None)
        ),
        base.mark_text(align="left", dx=6, fontSize=9, color=MUTED[0]).encode(text="row:N"),
    ).properties(width=560, height=360)


def candidates(lines: Sequence[Line]) -> list[str]:
    """Return the rows that go from 12 to 40 epochs, `standard` first, by their ranks and the rules alone."""
    made = {line["row"]: line for line in lines if line["epochs"] == 12 and line["row"] != "standard"}
    ranks = {row: rank(gains(lines, row, 12), 12) for row in made}

    def best(count: int, belongs: Callable[[Line], bool]) -> list[str]:
        return sorted((row for row in made if belongs(made[row])), key=lambda row: -ranks[row])[:count]

    def is_plain(line: Line, method: str) -> bool:
        config = from_plain(line["config"])
        return config.method == method and not config.spectral.on

    found = ["standard"]
    for passes, count in ((1, 4), (2, 2), (3, 1)):
        found += best(count, lambda line, passes=passes: line["passes"] == passes)
    found += best(1, lambda line: is_plain(line, "standard") and line["config"]["white_noise"] > 0)
    found += best(1, lambda line: is_plain(line, "trivial"))
    return list(dict.fromkeys(found))


def study_of(rows: Sequence[str]) -> dict[str, Any]:
    """Return the study of 40 epochs of some rows of the studies of 12."""
    studies = [json.loads(file.read_text()) for file in sorted((HERE / "search").glob("*_12.json"))]
    known = {
        row if isinstance(row, str) else row["name"]: row for study in studies for row in study["recipes"]
    }
    return {
        **studies[0],
        "name": "search_candidates_40",
        "recipes": [known[row] for row in rows],
        "set": {**studies[0]["set"], "epochs": 40, "ema": 0.995},
    }


def main() -> None:
    """Print both tables, or write the study of the candidates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", action="store_true")
    lines = read()
    if parser.parse_args().candidates:
        rows = candidates(lines)
        (HERE / "search" / "candidates_40.json").write_text(json.dumps(study_of(rows), indent=2) + "\n")
        print(", ".join(rows))
        return
    for epochs in ALLOWED:
        print(f"## {epochs} epochs\n\n{table(lines, epochs)}\n")


if __name__ == "__main__":
    main()
