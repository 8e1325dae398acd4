"""Prints the tables of studies that were run: one row a recipe, mean and standard deviation over seeds.

    python benchmarks/study_table.py
    python benchmarks/study_table.py FILE...
    python benchmarks/study_table.py --kinds FILE...
    python benchmarks/study_table.py --chart docs/images/study.png FILE...

Without files: results/narrow_study.jsonl. Any runs.jsonl of `filterbands study` will do. `--kinds` prints a
line a kind of corruption and a column a row instead, `--chart` draws the rows of all files in one picture.
"""

import argparse
import io
import itertools
import json
from pathlib import Path
from statistics import mean
from typing import Any

import altair as alt
from PIL import Image
from scatter import PASSES

from filterbands.corruptions import CORRUPTIONS
from filterbands.report.style import GRID, INK, MUTED, RUN_COLORS
from filterbands.scores import BENCHMARK_15, student_interval
from filterbands.study import detectable, seed_spread, table
from filterbands.training.methods import METHODS

RESULTS = Path(__file__).parents[1] / "results"
OTHERS = [kind for kind in BENCHMARK_15 if CORRUPTIONS[kind].family != "noise"]


def main() -> None:
    """Print a table a file, or draw one picture of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, default=[RESULTS / "narrow_study.jsonl"])
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--kinds", action="store_true")
    instead.add_argument("--chart", metavar="FILE")
    given = parser.parse_args()
    for file in given.files:
        if not file.is_file():
            parser.error(f"no such file: {file}; name the runs.jsonl of a study")
    studies = [[json.loads(line) for line in file.read_text().splitlines()] for file in given.files]
    if given.chart is None:
        print("\n\n".join((kinds if given.kinds else table)(lines) for lines in studies))
        return
    buffer = io.BytesIO()
    chart([line for lines in studies for line in lines]).save(buffer, format="png", scale_factor=2)
    small = Image.open(buffer).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(given.chart, optimize=True)
    print(given.chart)


def kinds(lines: list[dict[str, Any]]) -> str:
    """Return Markdown, a line a kind and a column a row: mean over severities and seeds, in percent."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault(line["recipe"], []).append(line["kinds"])
    text = [f"| {' | '.join(('kind', *groups))} |", "|---" * (1 + len(groups)) + "|"]
    for kind in dict.fromkeys(kind for line in lines for kind in line["kinds"]):
        cells = []
        for group in groups.values():
            present = [value for each in group for value in each.get(kind, ()) if value is not None]
            cells.append(f"{100 * mean(present):.1f}" if present else "-")
        text.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(text)


def gains(lines: list[dict[str, Any]], reference: str = "standard") -> str:
    """Return Markdown, the largest gain first: points over a row, paired by seed, with 95 % intervals.

    A row of one seed is compared with the mean of the other row's seeds, since that one seed may be unusual.
    """
    figures = {
        "15 kinds": lambda line: 100 * line["average_15"],
        "12 non-noise kinds": lambda line: mean(100 * mean(_present(line["kinds"][kind])) for kind in OTHERS),
        "clean": lambda line: 100 * line["clean"],
    }
    rows = {}
    for line in lines:
        rows.setdefault(line["recipe"], {})[line["seed"]] = line
    plain = rows.pop(reference)
    text = []
    for name, seeds in rows.items():
        views = METHODS[next(iter(seeds.values()))["config"]["method"]].views
        differences = []
        for of in figures.values():
            usual = mean(map(of, plain.values()))
            others = {seed: of(line) if len(seeds) > 1 else usual for seed, line in plain.items()}
            differences.append([of(line) - others[seed] for seed, line in seeds.items()])
        cells = [name, str(views), str(len(seeds)), *map(_gain, differences)]
        text.append((mean(differences[0]), f"| {' | '.join(cells)} |"))
    heads = ("recipe", "passes per step", "seeds", *(f"gain, {name}" for name in figures))
    return "\n".join(
        [
            f"| {' | '.join(heads)} |",
            "|---" * len(heads) + "|",
            *(row for _, row in sorted(text, reverse=True)),
        ]
    )


def seeds(lines: list[dict[str, Any]], reference: str = "standard") -> str:
    """Return Markdown: how much seeds differ in 15-kind accuracy, and how many show a difference of rows."""
    wanted = (0.5, 1.0, 2.0, 5.0)
    heads = ("trainings", "runs", "standard deviation, points", *(f"{points:g} points" for points in wanted))
    text = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, of in (
        (f"`{reference}`", [line for line in lines if line["recipe"] == reference]),
        ("other recipes", [line for line in lines if line["recipe"] != reference]),
    ):
        # Rows of one seed tell nothing of others.
        of = [line for line in of if sum(line["recipe"] == other["recipe"] for other in of) > 1]
        spread = seed_spread([{"recipe": line["recipe"], "robust": line["average_15"]} for line in of])
        if spread is None:
            continue
        counts = [next(n for n in itertools.count(2) if _finds(n, spread, points)) for points in wanted]
        text.append(f"| {name} | {len(of)} | {100 * spread:.2f} | {' | '.join(map(str, counts))} |")
    return "\n".join(text)


def _finds(seeds: int, spread: float, points: float) -> bool:
    found = detectable(seeds, spread)
    return found is not None and 100 * found <= points


def _gain(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:+.1f}"
    low, high = student_interval(values)
    return f"{mean(values):+.1f} ({low:+.1f} to {high:+.1f})"


def _present(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def chart(lines: list[dict[str, Any]]) -> alt.LayerChart:
    """Return a row a recipe, best first: clean and corrupted accuracy, means as points and seeds as ticks."""
    values: list[dict[str, Any]] = []
    ticks: list[dict[str, Any]] = []
    for name in dict.fromkeys(line["recipe"] for line in lines):
        group = [line for line in lines if line["recipe"] == name]
        clean, corrupted = ([100 * line[key] for line in group] for key in ("clean", "average_15"))
        passes = METHODS[group[0]["config"]["method"]].views
        row = {"row": name, "of": PASSES[passes], "clean": mean(clean), "corrupted": mean(corrupted)}
        values.append(row | {"most": max(clean), "least": min(corrupted)})
        ticks += [{"row": name, "of": PASSES[passes], "at": at} for at in (*clean, *corrupted)]
    values.sort(key=lambda row: -row["corrupted"])
    y = alt.Y("row:N", title=None, sort=[row["row"] for row in values]).axis(grid=True, labelLimit=300)
    title = "accuracy in %: filled, mean of the 15 kinds of corruption; hollow, clean; ticks, seeds"
    ends = (min(row["least"] for row in values) - 2, max(row["most"] for row in values) + 2)
    scale = alt.Scale(domain=ends, nice=False)
    colour = (
        alt.Color("of:N", title=None, sort=list(PASSES.values()))
        .scale(domain=list(PASSES.values()), range=[light for light, _ in RUN_COLORS[: len(PASSES)]])
        .legend(orient="bottom", labelLimit=400, symbolOpacity=1)
    )

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title=title, scale=scale)

    rows, seeds = (alt.Chart(alt.Data(values=each)).encode(y=y) for each in (values, ticks))
    layers = (
        rows.mark_rule(opacity=0.35, strokeWidth=2).encode(x=x("corrupted"), x2="clean:Q", color=colour),
        seeds.mark_tick(height=12).encode(x=x("at"), color=colour),
        rows.mark_point(filled=True, size=80, opacity=1).encode(x=x("corrupted"), color=colour),
        rows.mark_point(size=70, opacity=1, fill="white").encode(x=x("clean"), color=colour),
        rows.mark_text(align="right", dx=-9, color=INK[0]).encode(
            x=x("least"), text=alt.Text("corrupted:Q", format=".1f")
        ),
        rows.mark_text(align="left", dx=9, color=MUTED[0]).encode(
            x=x("most"), text=alt.Text("clean:Q", format=".1f")
        ),
    )
    return (
        alt.layer(*layers)
        .properties(width=560, height=alt.Step(24))
        .configure_axis(gridColor=GRID[0], labelFontSize=12, titleFontSize=12)
        .configure_legend(labelFontSize=12)
    )


if __name__ == "__main__":
    main()
