"""Recompute the tables, contrasts and pictures of the protocol (docs/protocol.md) from its results.

`decisions.py` draws the conclusions.

    python benchmarks/verdict.py                                    tables and contrasts, as Markdown
    python benchmarks/verdict.py --dose docs/images/dose.png        accuracy against share, as a picture
    python benchmarks/verdict.py --arms docs/images/arms.png        corrupted against clean accuracy

C-bar is not read here until `protocol_open.py` opens it, when all runs are done.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import altair as alt
import numpy as np
import scatter
from collecting import read_finished, unpack
from planned import pairs
from scipy import stats

from filterbands.corruptions import CORRUPTIONS, kinds_of
from filterbands.report.style import MUTED
from filterbands.scores import BENCHMARK_15, FAMILIES, bootstrap, holm, student_interval
from filterbands.training import from_plain

RESULTS = Path(__file__).parents[1] / "results"
NARROW, FULL = "cifar_resnet18_narrow", "cifar_resnet18"
ORDER = (
    *("standard", "share_low", "share_75", "share_50", "share_25", "share_0", "share_0_literal"),
    *("share_random", "blur", "modulate", "modulate_eigen", "spectral_gain", "spectral"),
    *("gaussian_matched", "best_one_pass"),
)
BUDGETS = ((FULL, 12), (FULL, 6), (NARROW, 12), (NARROW, 40), (FULL, 30))
"""Networks and epochs of the protocol's runs."""
LONGER = ((FULL, 12), (NARROW, 40), (FULL, 30))
"""Those that have a section of their own when they run."""
CONTRASTS = (
    ("share_low", "standard", 12),
    ("share_low", "share_random", 12),
    ("share_low", "blur", 12),
    ("spectral_gain", "standard", 40),
    ("spectral", "gaussian_matched", 40),
    ("best_one_pass", "spectral", 40),
)
"""The planned contrasts on the narrow network: a row, the row it is compared with, and the epochs."""
SHARES = {"share_0": 0.0, "share_25": 0.25, "share_50": 0.5, "share_75": 0.75, "share_low": 1.0}
CLAIMED = 10.97
TIE = 0.3
MARGINS = (0.5, 0.3)
RESAMPLES = 1_000
DOSE_SEEDS = 5
"""Seeds that the protocol plans for every share."""

Line = dict[str, Any]
Figure = Callable[[Line], float]


class Gain(NamedTuple):
    """A paired difference of two rows in one figure, in points."""

    seeds: int
    mean: float
    low: float
    high: float


def over(kinds: Sequence[str]) -> Figure:
    """Return the mean accuracy over kinds, in percent."""
    return lambda line: 100 * mean(mean(line["kinds"][kind]) for kind in kinds)


FIGURES: dict[str, Figure] = {
    "clean": lambda line: 100 * line["clean"],
    "15 kinds": lambda line: 100 * line["average_15"],
    "19 kinds": lambda line: 100 * line["average_19"],
    "12 non-noise": over(BENCHMARK_15[3:]),
    **{
        name: over([kind for kind, entry in CORRUPTIONS.items() if entry.family == name]) for name in FAMILIES
    },
}
"""Every figure of a run, in percent."""
FILTERS = {"low share": "low_share", "low energy": "mean_low_energy"}
"""What a run says of its first layer, as shares."""
RESEMBLE_NOISE = ("blue_noise_sample", "brownish_noise")
BAR = {
    "8 kinds of C-bar": [kind for kind in kinds_of("cbar") if kind not in RESEMBLE_NOISE],
    "10 kinds of C-bar": kinds_of("cbar"),
}
"""The second witness: C-bar without the kinds that resemble additive noise, and whole."""
OVER = {
    "clean": ("clean",),
    "15 kinds": BENCHMARK_15,
    "19 kinds": kinds_of("c"),
    "12 non-noise": BENCHMARK_15[3:],
}
"""The cells of the figures whose gains are told."""
APART = "15 without resembled"
GAINS = (*OVER, APART)
"""Figures whose gains are told; the last leaves out the kinds that a row's training resembles."""


def read() -> list[Line]:
    """Return the lines of the protocol's finished runs."""
    return read_finished(RESULTS / "protocol.jsonl")


def select(lines: Sequence[Line], row: str, arch: str, epochs: int) -> dict[int, Line]:
    """Return a row's runs by seed."""
    wanted = (row, arch, epochs)
    return {line["seed"]: line for line in lines if (line["row"], line["arch"], line["epochs"]) == wanted}


def differences(one: dict[int, Line], other: dict[int, Line], figure: Figure) -> list[float]:
    """Return the paired differences by seed, in points."""
    return [figure(one[seed]) - figure(other[seed]) for seed in sorted(one.keys() & other.keys())]


def over_images(one: Line, other: Line, kinds: Sequence[str] = BENCHMARK_15) -> tuple[float, float, float]:
    """Return two runs' difference over these kinds and its bootstrap interval over images, in points.

    The kind `clean` is the images as they are.
    """
    answers = [per_image(line, kinds) for line in (one, other)]
    return _over_images(100 * (answers[0] - answers[1]))


def _over_images(found: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float, float]:
    count = len(found)
    # Image i is seen at severity i modulo 5.
    low, high = bootstrap(found, np.full(count, 1 / count), np.arange(count, dtype=np.int64) % 5)
    return float(found.mean()), low, high


def per_image(line: Line, kinds: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return each test image's share of correct answers over the kinds; each kind shows it once.

    Kinds of C-bar are read from the sealed bits, once these are opened.
    """
    if set(kinds) <= set(kinds_of("cbar")):
        if "cbar" not in line:
            raise SystemExit(f"C-bar of {line['bits']} is not opened")
        return unpack(RESULTS / "protocol" / "sealed" / Path(line["bits"]).name, kinds)
    return unpack(RESULTS / line["bits"], kinds)


def signed(values: Sequence[float]) -> str:
    """Return a mean difference with its interval, or without one where there is one seed."""
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:+.2f}"
    low, high = student_interval(values)
    return f"{mean(values):+.2f} ({low:+.2f} to {high:+.2f})"


def measured(runs: dict[int, Line], others: dict[int, Line], name: str) -> Gain | None:
    """Return two rows' difference: with its interval over seeds, or over images where they share one seed."""
    seeds = sorted(runs.keys() & others.keys())
    if not seeds:
        return None
    kinds = apart(runs[seeds[0]]) if name == APART else OVER[name]
    if len(seeds) == 1:
        return Gain(1, *over_images(runs[seeds[0]], others[seeds[0]], kinds))
    values = differences(runs, others, over(kinds) if name == APART else FIGURES[name])
    return Gain(len(values), mean(values), *student_interval(values))


def gain(runs: dict[int, Line], others: dict[int, Line], name: str) -> str:
    """Return the same as text: an interval over seeds in parentheses, one over images in brackets.

    A difference below the protocol's limit is called a tie, whatever its interval.
    """
    found = measured(runs, others, name)
    return "" if found is None else shown(found)


def shown(found: Gain) -> str:
    """Return a difference as text, called a tie where it is one."""
    return told(found, tie=is_tie(found.mean))


def told(found: Gain, *, tie: bool = False) -> str:
    """Return a difference as text: an interval over seeds in parentheses, one over images in brackets."""
    interval = f"{found.low:+.2f} to {found.high:+.2f}{', a tie' if tie else ''}"
    return f"{found.mean:+.2f} " + (f"[{interval}]" if found.seeds == 1 else f"({interval})")


def apart(line: Line) -> list[str]:
    """Return the kinds among the 15 that a row's training does not resemble."""
    seen = from_plain(line["config"]).resembles
    return [kind for kind in BENCHMARK_15 if kind not in seen]


def table(lines: Sequence[Line], arch: str, epochs: int) -> str:
    """Return the accuracies of one network and budget as Markdown."""
    heads = ("row", "seeds", *FIGURES, *FILTERS)
    text = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in ORDER:
        runs = select(lines, row, arch, epochs)
        if not runs:
            continue
        cells = []
        for figure in FIGURES.values():
            values = [figure(line) for line in runs.values()]
            cells.append(f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else ""))
        cells += [f"{mean(line[key] for line in runs.values()):.2f}" for key in FILTERS.values()]
        mark = " †" if elsewhere(runs, select(lines, "standard", arch, epochs)) else ""
        text.append(f"| {row}{mark} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(text)


def elsewhere(runs: dict[int, Line], others: dict[int, Line]) -> bool:
    """Return whether a run of a row was trained on another processor than the other row's of its seed.

    A processor that emulates bfloat16 is another one.
    """

    def place(line: Line) -> tuple[str, str | None]:
        return line["processor"], line.get("emulated")

    return any(place(run) != place(others[seed]) for seed, run in runs.items() if seed in others)


def is_tie(value: float) -> bool:
    """Return whether a difference in points is below the protocol's limit, whatever its interval."""
    return round(abs(value), 9) < TIE


def gains_table(lines: Sequence[Line], arch: str, epochs: int) -> str:
    """Return the gains over `standard` of one network and budget as Markdown."""
    heads = ("row", "n", *GAINS, "15 relative, %", "19 relative, %")
    text = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    standard = select(lines, "standard", arch, epochs)
    for row in ORDER[1:]:
        runs = select(lines, row, arch, epochs)
        seeds = sorted(runs.keys() & standard.keys())
        if not seeds:
            continue
        relative = [
            told(relative_gain(runs, standard, key, kinds))
            for key, kinds in (("average_15", BENCHMARK_15), ("average_19", kinds_of("c")))
        ]
        cells = [str(len(seeds)), *(gain(runs, standard, name) for name in GAINS), *relative]
        text.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(text)


def relative_gain(runs: dict[int, Line], others: dict[int, Line], key: str, kinds: Sequence[str]) -> Gain:
    """Return how much more accurate a row is than another, in percent of that one's accuracy."""
    seeds = sorted(runs.keys() & others.keys())
    values = [100 * (runs[seed][key] / others[seed][key] - 1) for seed in seeds]
    if len(seeds) > 1:
        return Gain(len(values), mean(values), *student_interval(values))
    one, other = (per_image(of[seeds[0]], kinds) for of in (runs, others))
    ratio = float(one.mean() / other.mean())
    # What each image adds to the ratio of two means (delta method).
    return Gain(1, *_over_images(100 * ((one - ratio * other) / other.mean() + ratio - 1)))


def witness(lines: Sequence[Line], arch: str, epochs: int) -> str:
    """Return C-bar of one network and budget and its gains over `standard` as Markdown, once it is opened."""
    lines = [line for line in lines if "cbar" in line]
    standard = select(lines, "standard", arch, epochs)
    if not standard:
        return "Not opened yet."
    heads = ["row", "seeds"] + [f"{name}{unit}" for name in BAR for unit in (", %", ", points")]
    text = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in ORDER:
        runs = select(lines, row, arch, epochs)
        if not runs:
            continue
        cells = [row, str(len(runs))]
        for kinds in BAR.values():
            of = _over_bar(kinds)
            cells.append(f"{mean(of(line) for line in runs.values()):.2f}")
            seeds = sorted(runs.keys() & standard.keys())
            if row == "standard" or not seeds:
                cells.append("")
                continue
            if len(seeds) == 1:
                found = Gain(1, *over_images(runs[seeds[0]], standard[seeds[0]], kinds))
            else:
                values = differences(runs, standard, of)
                found = Gain(len(values), mean(values), *student_interval(values))
            cells.append(shown(found))
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def witnesses(lines: Sequence[Line]) -> str:
    """Return C-bar of every network and budget as Markdown, once it is opened."""
    return _each(lines, BUDGETS, witness) if is_closed(lines) else "Not opened yet."


def longer(lines: Sequence[Line]) -> str:
    """Return accuracies and gains of the longer budgets, each under its name, as Markdown."""
    return _each(lines, LONGER, lambda *of: f"{table(*of)}\n\nGains over `standard`:\n\n{gains_table(*of)}")


def _each(
    lines: Sequence[Line],
    budgets: Sequence[tuple[str, int]],
    shown: Callable[[Sequence[Line], str, int], str],
) -> str:
    ran = {(line["arch"], line["epochs"]) for line in lines}
    parts = [
        f"`{arch}`, {epochs} epochs:\n\n"
        + (shown(lines, arch, epochs) if (arch, epochs) in ran else "Not run yet.")
        for arch, epochs in budgets
    ]
    return "\n\n".join(parts)


def _over_bar(kinds: Sequence[str]) -> Figure:
    return lambda line: 100 * mean(mean(line["cbar"][kind]) for kind in kinds)


def kept(lines: Sequence[Line]) -> str:
    """Return the accuracy of the networks whose weights are kept, in float32 and rounded to float16."""
    file = RESULTS / "kept_weights.jsonl"
    halves = [json.loads(text) for text in file.read_text().splitlines()] if file.exists() else []
    heads = ("file", "clean, float32", "float16", "15 kinds, float32", "float16")
    text = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for half in halves:
        whole = select(lines, half["row"], half["arch"], half["epochs"]).get(half["seed"])
        if whole is None:
            raise SystemExit(f"results/weights/{half['file']} is of no run in results/protocol.jsonl")
        figures = [one[key] for key in ("clean", "average_15") for one in (whole, half)]
        shown = " | ".join(f"{100 * value:.2f}" for value in figures)
        text.append(f"| `results/weights/{half['file']}` | {shown} |")
    return "\n".join(text)


def is_closed(lines: Sequence[Line]) -> bool:
    """Return whether C-bar is opened: no run follows, and what is there is reported as it is."""
    return any("cbar" in line for line in lines)


def is_enough(lines: Sequence[Line], seeds: int, planned_seeds: int) -> bool:
    """Return whether seeds suffice for a word: all planned ones, or two when no run follows."""
    return seeds >= planned_seeds or (is_closed(lines) and seeds >= 2)


def p_values(lines: Sequence[Line], *, whole: bool = False) -> list[float | None]:
    """Return the p-value of each planned contrast; None where fewer than two seeds have both rows.

    With `whole`, None also where seeds are missing that may still come.
    """
    found = []
    for one, other, epochs in CONTRASTS:
        pair = [select(lines, row, NARROW, epochs) for row in (one, other)]
        gains = differences(*pair, FIGURES["15 kinds"])
        is_there = not whole or is_enough(lines, len(gains), pairs(one, other, NARROW, epochs))
        found.append(float(stats.ttest_1samp(gains, 0.0).pvalue) if len(gains) > 1 and is_there else None)
    return found


def corrected(lines: Sequence[Line], *, whole: bool = False) -> list[float]:
    """Return these after Holm's correction over all planned contrasts: one without a p-value counts as 1."""
    return holm([1.0 if p is None else p for p in p_values(lines, whole=whole)])


def inferiority(clean: Gain) -> str:
    """Return at which of the protocol's margins a clean loss is non-inferior."""
    return ", ".join(f"{margin}: {'yes' if clean.low > -margin else 'no'}" for margin in MARGINS)


def contrasts(lines: Sequence[Line]) -> str:
    """Return the planned contrasts as Markdown, with Holm's correction over all of them."""
    rows: list[list[Any]] = []
    for (one, other, epochs), p in zip(CONTRASTS, p_values(lines), strict=True):
        pair = [select(lines, row, NARROW, epochs) for row in (one, other)]
        found, clean = (measured(*pair, name) for name in ("15 kinds", "clean"))
        name = f"{one} - {other}{' †' if elsewhere(*pair) else ''}"
        if found is None or clean is None:
            rows.append([name, epochs, 0, "not run", None, ""])
            continue
        said = f"{'one seed: ' if found.seeds == 1 else ''}{gain(*pair, '15 kinds')}"
        rows.append([name, epochs, found.seeds, said, p, f"{gain(*pair, 'clean')}; {inferiority(clean)}"])
    heads = ("contrast", "epochs", "n", "15 kinds, points", "p", "p, Holm", "clean; non-inferior at")
    text = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for (name, epochs, count, said, p, clean), adjusted in zip(rows, corrected(lines), strict=True):
        values = ("", "") if p is None else (f"{p:.2g}", f"{adjusted:.2g}")
        text.append(f"| {name} | {epochs} | {count} | {said} | {' | '.join(values)} | {clean} |")
    return "\n".join(text)


def dose(lines: Sequence[Line]) -> str:
    """Return accuracy by share and their rank correlation, with intervals over the seeds of all shares."""
    runs = {row: select(lines, row, NARROW, 12) for row in SHARES}
    seeds = sorted(set.intersection(*(set(found) for found in runs.values())))
    if not is_enough(lines, len(seeds), DOSE_SEEDS):
        there = f"seeds with every share: {len(seeds)} of {DOSE_SEEDS}"
        return f"Rank correlation of share and accuracy: not computed ({there})."

    def correlation(chosen: Sequence[int]) -> float:
        points = [(share, runs[row][seed]["average_15"]) for row, share in SHARES.items() for seed in chosen]
        return float(stats.spearmanr(*zip(*points, strict=True)).statistic)

    draws = np.random.default_rng(0).integers(0, len(seeds), (RESAMPLES, len(seeds)))
    found = [correlation([seeds[place] for place in draw]) for draw in draws]
    low, high = np.percentile(found, [2.5, 97.5])
    heads = ("share", "15 kinds", *FAMILIES)
    text = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row, share in SHARES.items():
        figures = [FIGURES[name] for name in heads[1:]]
        cells = [_mean_of([figure(runs[row][seed]) for seed in seeds]) for figure in figures]
        text.append(f"| {share} | {' | '.join(cells)} |")
    text += ["", "Rank correlation of share and accuracy over the 15 kinds: "]
    text[-1] += f"{correlation(seeds):.2f} ({low:.2f} to {high:.2f}, {len(seeds)} seeds)."
    return "\n".join(text)


def _mean_of(values: Sequence[float]) -> str:
    low, high = student_interval(values)
    return f"{mean(values):.2f} ({low:.2f} to {high:.2f})"


def dose_chart(lines: Sequence[Line]) -> alt.FacetChart:
    """Return accuracy against share: points are seeds, bars 95 % intervals, dashed a free first layer."""
    names = ("clean", "15 kinds", *FAMILIES)
    points, means, free = [], [], []
    for name in names:
        of = FIGURES[name]
        for row, share in SHARES.items():
            values = [of(line) for line in select(lines, row, NARROW, 12).values()]
            points += [{"share": share, "of": name, "accuracy": value} for value in values]
            if values:
                low, high = student_interval(values) if len(values) > 2 else (None, None)
                means.append({"share": share, "of": name, "mean": mean(values), "low": low, "high": high})
        values = [of(line) for line in select(lines, "standard", NARROW, 12).values()]
        free.append({"of": name, "free": mean(values)})
    x = alt.X("share:Q", title="share of low-frequency filters").scale(domain=(0, 1), padding=8)
    data = [{"layer": layer, **row} for layer, rows in enumerate((points, means, free)) for row in rows]
    base = alt.Chart()

    def accuracy(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title="accuracy, %").scale(zero=False)

    of_means = base.transform_filter("datum.layer == 1")
    layers = alt.layer(
        base.mark_rule(strokeDash=[4, 3], color=MUTED[0])
        .encode(y=accuracy("free"))
        .transform_filter("datum.layer == 2"),
        of_means.mark_line(opacity=0.7).encode(x=x, y=accuracy("mean")),
        of_means.mark_rule().encode(x=x, y=accuracy("low"), y2="high:Q"),
        base.mark_point(filled=True, size=40)
        .encode(x=x, y=accuracy("accuracy"))
        .transform_filter("datum.layer == 0"),
        data=alt.Data(values=data),
    )
    return (
        layers.properties(width=200, height=150)
        .facet(alt.Facet("of:N", sort=list(names), title=None), columns=3)
        .resolve_scale(y="independent")
    )


def arms_chart(lines: Sequence[Line]) -> Any:
    """Return clean against corrupted accuracy of every row: means over seeds, by network and budget."""
    drawn = []
    of = {(line["arch"], line["epochs"]) for line in lines}
    for arch, epochs in (budget for budget in BUDGETS if budget in of):
        points, bars = [], {}
        for row in dict.fromkeys(ORDER):
            runs = list(select(lines, row, arch, epochs).values())
            if runs:
                clean, corrupted = ([FIGURES[name](line) for line in runs] for name in ("clean", "15 kinds"))
                points.append(scatter.Named(row, mean(clean), mean(corrupted)))
                if len(runs) > 2:
                    bars[row] = student_interval(corrupted)
        drawn.append(
            scatter.scatter(
                points,
                x="clean accuracy, %",
                y="accuracy over the 15 kinds, %",
                title=f"{arch}, {epochs} epochs",
                bars=bars,
                width=360,
                height=280,
            )
        )
    return scatter.styled(alt.concat(*drawn, columns=2))


def main() -> None:
    """Print the analysis, or draw its picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dose", metavar="FILE", help="draw accuracy against share")
    parser.add_argument("--arms", metavar="FILE", help="draw corrupted against clean accuracy")
    given = parser.parse_args()
    lines = read()
    for file, chart in ((given.dose, dose_chart), (given.arms, arms_chart)):
        if file:
            chart(lines).save(file, scale_factor=2)
            return
    for arch, epochs in BUDGETS:
        if any((line["arch"], line["epochs"]) == (arch, epochs) for line in lines):
            print(f"## {arch}, {epochs} epochs\n\n{table(lines, arch, epochs)}\n")
            print(f"{gains_table(lines, arch, epochs)}\n")
    print(f"## Planned contrasts\n\n{contrasts(lines)}\n\n{dose(lines)}")


if __name__ == "__main__":
    main()
