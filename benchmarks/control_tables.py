"""Tables and the picture of the control study (docs/studies/control.md): what each arm gains and costs.

The arms are rows of three study files. `filterbands study` trains them on `train` and scores them on
`validation`, clean and under the four extra kinds of corruption, not under the 15 benchmark kinds.

    filterbands study benchmarks/control_study.json --out DIR              eight arms, seeds 0, 1, 2
    filterbands study benchmarks/control_variants_study.json --out DIR     variants, seed 0
    filterbands study benchmarks/control_40_study.json --out DIR           40 epochs, seed 0
    python benchmarks/control_tables.py                results/control_study.jsonl as a table
    python benchmarks/control_tables.py --match both   the white noise that costs as much clean accuracy
"""

import argparse
import json
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import altair as alt

from filterbands.report.style import GRID, INK, MUTED, RUN_COLORS
from filterbands.scores import BENCHMARK_15, student_interval

RESULTS = Path(__file__).parents[1] / "results"
KINDS = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
GROUPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "extra_4": {"speckle": KINDS[:1], "blur": KINDS[1:2], "spatter": KINDS[2:3], "saturate": KINDS[3:]},
    "average_15": {
        "noise": BENCHMARK_15[:3],
        "blur": BENCHMARK_15[3:7],
        "weather": BENCHMARK_15[7:11],
        "digital": BENCHMARK_15[11:],
        "all but noise": BENCHMARK_15[3:],
    },
}
"""The columns of an average's table."""
# The chart: its size in pixels, the size of names and where they may stand.
_WIDTH, _HEIGHT = 640, 460
_TEXT = 11
_SIDES = (
    ("left", 8, -7),
    ("center", 0, -13),
    ("center", 0, 13),
    ("right", -8, -7),
    ("left", 8, 9),
    ("right", -8, 9),
)
ON_IMAGES = frozenset(
    {"multiplicative", "additive", "both", "both_tempered", "both_clean_0.7", "both_mild", "finetuned"}
)
ON_BOTH = frozenset({"modulate_both", "share_low_both", "modulate_eigen_both"})
ORDER = (
    *("standard", "share_low", "share_high", "blur", "modulate", "multiplicative", "additive", "both"),
    *("both_tempered", "both_clean_0.7", "both_mild", "modulate_both", "share_low_both", "white_0.1"),
    *("modulate_eigen", "modulate_eigen_both", "share_random", "share_low_fixed", "projected", "finetuned"),
)
"""The arms in the order of the tables; others, which it does not list, come last."""


def table(lines: list[dict[str, Any]]) -> str:
    """Return the lines as Markdown: percent, mean ± standard deviation over seeds, and gains seed by seed.

    Gains over standard training of the same seed have Student's 95 % interval.
    """
    averaged = "average_15" if "average_15" in lines[0] else "extra_4"
    of = averaged.rpartition("_")[2] + " kinds"
    groups = GROUPS[averaged]
    heads = ["arm", "epochs", "seeds", "clean", of, "gain clean", f"gain {of}", *groups, "mean low energy"]
    rows = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    order = {arm: place for place, arm in enumerate(ORDER)}
    names = {(*_setting(line), line["arm"]) for line in lines}
    for *setting, arm in sorted(names, key=lambda name: (*name[:3], order.get(name[3], len(order)), name[3])):
        here = [line for line in lines if list(_setting(line)) == setting]
        group = [line for line in here if line["arm"] == arm]
        standard = {line["seed"]: line for line in here if line["arm"] == "standard"}
        cells = [_text([line[name] for line in group]) for name in ("clean", averaged)]
        paired = [line for line in group if line["seed"] in standard]
        for name in ("clean", averaged):
            gains = [line[name] - standard[line["seed"]][name] for line in paired]
            cells.append("" if arm == "standard" else _text(gains, sign=True))
        for kinds in groups.values():
            cells.append(_text([mean(mean(line["kinds"][kind]) for kind in kinds) for line in group]))
        energy = mean(line["mean_low_energy"] for line in group)
        name, epochs = " ".join((arm, *setting[2])), setting[1]
        rows.append(f"| {name} | {epochs} | {len(group)} | {' | '.join(cells)} | {energy:.3f} |")
    return "\n".join(rows)


def chart(lines: list[dict[str, Any]]) -> alt.LayerChart:
    """Return what each arm gains and costs beside standard training, in points, whiskers over seeds.

    Without `finetuned`, which had more epochs.
    """
    here = [line for line in lines if _setting(line) == _setting(lines[0])]
    standard = {line["seed"]: line for line in here if line["arm"] == "standard"}
    rows = []
    arms = dict.fromkeys(line["arm"] for line in here)
    for arm in [arm for arm in arms if arm not in ("standard", "finetuned")]:
        group = [line for line in here if line["arm"] == arm and line["seed"] in standard]
        row: dict[str, Any] = {"arm": arm, "of": _family(arm)}
        for name, to in (("clean", "x"), ("extra_4", "y")):
            gains = [100 * (line[name] - standard[line["seed"]][name]) for line in group]
            low, high = student_interval(gains) if len(gains) > 1 else (gains[0], gains[0])
            row |= {to: mean(gains), f"{to}_low": low, f"{to}_high": high}
        rows.append(row)
    base = alt.Chart(alt.Data(values=rows))
    x_ends, y_ends = (_domain(rows, to, step) for to, step in (("x", 0.5), ("y", 2.0)))
    titles = ("gain in clean accuracy, points", "gain under four kinds of corruption, points")
    x = alt.X("x:Q", title=titles[0]).scale(domain=x_ends)
    y = alt.Y("y:Q", title=titles[1]).scale(domain=y_ends)
    families = dict.fromkeys(row["of"] for row in rows)
    colour = (
        alt.Color("of:N", title=None, sort=list(families))
        .scale(range=[light for light, _ in RUN_COLORS])
        .legend(orient="bottom", labelLimit=400, symbolOpacity=1)
    )
    rule = base.mark_rule(opacity=0.4)
    across = rule.encode(x=alt.X("x_low:Q", title=titles[0]), x2="x_high:Q", y=y, color=colour)
    upright = rule.encode(x=x, y=alt.Y("y_low:Q", title=titles[1]), y2="y_high:Q", color=colour)
    points = base.mark_point(filled=True, size=70, opacity=1).encode(x=x, y=y, color=colour)
    places = _places([(row["arm"], row["x"], row["y"]) for row in rows], x_ends, y_ends)
    names = [
        alt.Chart(alt.Data(values=[row for row, place in zip(rows, places, strict=True) if place == at]))
        .mark_text(align=align, dx=right, dy=down, fontSize=_TEXT, color=INK[0])
        .encode(x=x, y=y, text="arm:N")
        for at, (align, right, down) in enumerate(_SIDES)
    ]
    zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color=MUTED[0], strokeDash=[3, 3])
    lines_of_zero = (zero.encode(x="zero:Q"), zero.encode(y="zero:Q"))
    layers = alt.layer(*lines_of_zero, across, upright, points, *names)
    return layers.properties(width=_WIDTH, height=_HEIGHT).configure_axis(gridColor=GRID[0])


def _domain(rows: list[dict[str, Any]], to: str, step: float) -> tuple[float, float]:
    """Return the ends of an axis, whole steps that hold every point and whisker."""
    low, high = min(row[f"{to}_low"] for row in rows), max(row[f"{to}_high"] for row in rows)
    return step * math.floor(low / step), step * math.ceil(high / step)


def _places(
    points: list[tuple[str, float, float]], x_ends: tuple[float, float], y_ends: tuple[float, float]
) -> list[int]:
    """Return beside which side of its point each name stands, so that few cover points or other names."""
    across, up = _WIDTH / (x_ends[1] - x_ends[0]), _HEIGHT / (y_ends[1] - y_ends[0])
    dots = [(x * across, -y * up) for _, x, y in points]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in dots]
    places = []
    for (name, _, _), (x, y) in zip(points, dots, strict=True):
        boxes = []
        for align, right, down in _SIDES:
            wide = 0.55 * _TEXT * len(name)
            left = x + right - {"left": 0, "center": wide / 2, "right": wide}[align]
            boxes.append((left, y + down - _TEXT / 2, left + wide, y + down + _TEXT / 2))
        covered = [sum(_overlap(box, other) for other in taken) for box in boxes]
        places.append(covered.index(min(covered)))
        taken.append(boxes[places[-1]])
    return places


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the area that two boxes (left, top, right, bottom) share."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0) * max(high, 0)


def _family(arm: str) -> str:
    """Return what an arm acts on."""
    if arm.startswith("white_"):
        return "white noise on the images"
    if arm in ON_BOTH:
        return "filters and spectra"
    if arm in ON_IMAGES:
        return "spectra of the images"
    return "blur" if arm == "blur" else "filters of the first layer"


def _setting(line: dict[str, Any]) -> tuple[str, int, tuple[str, ...]]:
    """Return what lines share that are compared: the network, the budget and what was changed in all arms."""
    return line["arch"], line["epochs"], tuple(line.get("set", ()))


def _text(shares: list[float], *, sign: bool = False) -> str:
    values = [100 * share for share in shares]
    if not values:
        return "not measured"
    text = f"{mean(values):+.2f}" if sign else f"{mean(values):.2f}"
    if len(values) == 1:
        return text
    if sign:
        return "{} ({:+.2f} to {:+.2f})".format(text, *student_interval(values))
    return f"{text} ± {stdev(values):.2f}"


def matches(lines: list[dict[str, Any]]) -> str:
    """Return, as Markdown, the white noise that costs as much clean accuracy as two perturbations do."""
    return "\n".join(f"- {matched(lines, arm)}" for arm in ("multiplicative", "both"))


def matched(lines: list[dict[str, Any]], arm: str) -> str:
    """Return the sigma of white noise whose clean accuracy is an arm's, between the sigmas that were run.

    Of the seeds that both the arm and the noises have, at the first setting in the lines.
    """
    lines = [line for line in lines if _setting(line) == _setting(lines[0])]
    seeds = {line["seed"] for line in lines if line["arm"].startswith("white_")}
    lines = [line for line in lines if line["seed"] in seeds]
    clean = {
        name: mean(line["clean"] for line in lines if line["arm"] == name)
        for name in {line["arm"] for line in lines}
    }
    if arm not in clean or "standard" not in clean:
        raise SystemExit(f"--match needs lines of standard and of {arm!r}")
    known = {float(name.removeprefix("white_")): clean[name] for name in clean if name.startswith("white_")}
    points = sorted({0.0: clean["standard"], **known}.items())
    for (low, at_low), (high, at_high) in pairwise(points):
        if at_low >= clean[arm] >= at_high and at_low > at_high:
            sigma = low + (high - low) * (at_low - clean[arm]) / (at_low - at_high)
            return f"{arm}: clean {100 * clean[arm]:.2f} %, white noise of sigma {sigma:.3f} costs as much"
    return f"{arm}: clean {100 * clean[arm]:.2f} % is beyond the white noise that was run; run a larger sigma"


def read(name: str) -> list[dict[str, Any]]:
    """Return the lines of results/NAME.jsonl."""
    return [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text().splitlines()]


def main() -> None:
    """Print the table, or what white noise costs as much."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--benchmark", action="store_true", help="of the 15 kinds on the test images")
    parser.add_argument("--match", default="", metavar="ARM", help="say which white noise costs as much")
    given = parser.parse_args()
    lines = read("control_benchmark" if given.benchmark else "control_study")
    print(matched(lines, given.match) if given.match else table(lines))


if __name__ == "__main__":
    main()
