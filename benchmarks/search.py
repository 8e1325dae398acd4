"""Tables and the picture of the recipe search (docs/search.md), from results/search.jsonl, without training.

python benchmarks/search.py                   both tables, as Markdown
python benchmarks/search.py --candidates      writes the study of 40 epochs, by the rules of docs/search.md
python benchmarks/search.py --finalists       writes that of the finalists' other seeds, when candidates ran
python benchmarks/search.py --open            opens the finalists' 15 kinds, when all of these ran
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import altair as alt
import scatter
from collecting import read_finished, unpack
from verdict import elsewhere, signed

from filterbands.control import PROFILE, SpectralNoise
from filterbands.scores import BENCHMARK_15
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
SHORT, LONG = 12, 40
SEED, OTHER_SEEDS = 100, (101, 102)
"""Epochs and seed by which all is chosen, and the seeds that finalists get as well."""
ALLOWED: Mapping[int, float] = {SHORT: 1.0, LONG: 0.3}
"""Clean loss in points that costs nothing in the rank, by epochs."""
PENALTY = 3.0
SHOWN = 2.5
"""Clean loss in points beyond which the picture names a row alone."""
GOAL = (14.0, 0.3)
"""The gain over the 15 kinds and the clean loss that the search is for, in points."""

Line = dict[str, Any]


def read() -> list[Line]:
    """Return the lines of the finished runs."""
    return [line for line in read_finished(RESULTS / "search.jsonl") if "of" not in line]


def failed(epochs: int, seed: int = SEED) -> set[str]:
    """Return the rows whose loss became NaN or infinite at a seed: they ran, and have no figures."""
    file = RESULTS / "search.jsonl"
    lines = [json.loads(text) for text in file.read_text().splitlines()] if file.exists() else []
    return {
        line["row"]
        for line in lines
        if line.get("failed") and (line["epochs"], line["seed"]) == (epochs, seed)
    }


def read_opened() -> list[Line]:
    """Return the lines of the finalists under their names, with the 15 kinds; `of` is their row."""
    return [line for line in read_finished(RESULTS / "search.jsonl") if "of" in line]


def sealed(row: str, epochs: int, seed: int) -> Path:
    """Return the file of a run's bits on test images."""
    return RESULTS / "search" / "sealed" / f"{row}-{epochs}-{seed}.npz"


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
    # A row's accuracies and gains are of the same seeds: those that `standard` has.
    seeds = {line["seed"] for line in lines if line["row"] == "standard"}
    alone = [line for line in lines if line["seed"] not in seeds]
    lines = [line for line in lines if line["seed"] in seeds]
    if not lines:
        return "No runs yet."
    rows = {line["row"]: gains(lines, line["row"], epochs) for line in lines}
    # The deciding seed alone gives the rank.
    deciding = [line for line in lines if line["seed"] == SEED]
    ranks = {row: rank(found, epochs) for row in rows if (found := gains(deciding, row, epochs))}
    order = sorted(ranks, key=lambda row: -ranks[row])
    standard = {line["seed"]: line for line in lines if line["row"] == "standard"}
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
        f"rank, seed {SEED}",
    )
    text = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in order:
        runs = [line for line in lines if line["row"] == row]
        by_seed = {line["seed"]: line for line in runs}
        of_clean, of_selection = ([pair[place] for pair in rows[row]] for place in (0, 1))
        cells = [
            f"`{row}`"
            + (" *" if resembled(runs[0]) else "")
            + (" †" if elsewhere(by_seed, standard) else ""),
            str(runs[0]["passes"]),
            f"{ratios[row]:.2f}" if row in ratios else "",
            str(len(runs)),
            f"{100 * mean(line['clean'] for line in runs):.2f}",
            f"{100 * mean(selection(line['kinds'], without=resembled(line)) for line in runs):.2f}",
            *(("", "", "") if row == "standard" else (signed(of_clean), signed(of_selection))),
            *(() if row == "standard" else (f"{ranks[row]:.2f}",)),
        ]
        text.append(f"| {' | '.join(cells)} |")
    if alone:
        left = ", ".join(f"`{line['row']}` {line['seed']}" for line in alone)
        text += ["", f"Left out, since `standard` has no such seed: {left}."]
    return "\n".join(text)


def finals() -> str:
    """Return the finalists on test images as Markdown, with gains over `standard` paired by seed."""
    lines = read_opened()
    if not lines:
        return "Not opened yet."
    standard = {line["seed"]: line for line in lines if line["row"] == "standard"}
    heads = ("name", "row", "passes", "seeds", "clean, %", "15 kinds, %", "clean, points", "15 kinds, points")
    text = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in dict.fromkeys(line["row"] for line in lines):
        runs = {line["seed"]: line for line in lines if line["row"] == name}
        first = next(iter(runs.values()))
        shown = [f"`{name}`", f"`{first['of']}`", str(first["passes"]), str(len(runs))]
        shown += [
            f"{100 * mean(line[key] for line in runs.values()):.2f}" for key in ("test_clean", "average_15")
        ]
        if name != "standard":
            shown += [
                signed([100 * (line[key] - standard[seed][key]) for seed, line in runs.items()])
                for key in ("test_clean", "average_15")
            ]
        else:
            shown += ["", ""]
        text.append(f"| {' | '.join(shown)} |")
    return "\n".join(text)


def learned(lines: Sequence[Line]) -> str:
    """Return what the learned strengths ended at, by row and seed, as Markdown."""
    rows = [line for line in lines if "spectral" in line]
    rows.sort(key=lambda line: (line["row"], line["epochs"], line["seed"]))
    ends = [("start", "", "", SpectralNoise().strengths())]
    ends += [(f"`{line['row']}`", str(line["epochs"]), str(line["seed"]), line["spectral"]) for line in rows]
    heads = (
        "row",
        "epochs",
        "seed",
        *(f"band {band + 1}" for band in range(len(PROFILE))),
        "shared gain",
        "noise",
    )
    text = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row, epochs, seed, found in ends:
        cells = [f"{value:.3f}" for name in ("bands", "gain", "noise") for value in found[name]]
        text.append(f"| {' | '.join([row, epochs, seed, *cells])} |")
    for row, length in dict.fromkeys((line["row"], line["epochs"]) for line in rows):
        found = [line["spectral"] for line in rows if (line["row"], line["epochs"]) == (row, length)]
        if len(found) > 1:
            most = f"{_spread(found):.1f} %"
            said = (
                f"Between {len(found)} seeds of `{row}` at {length} epochs no strength differs by more than"
            )
            text += ["", f"{said} {most}."]
    return "\n".join(text)


def _spread(found: Sequence[Mapping[str, Sequence[float]]]) -> float:
    """Return how far the largest of a strength lies above the smallest, in percent, at most."""
    strengths = zip(*([*one["bands"], *one["gain"], *one["noise"]] for one in found), strict=True)
    return 100 * max(max(values) / min(values) - 1 for values in strengths)


def chart(lines: Sequence[Line]) -> Any:
    """Return gain against clean change by budget: what can be had, and at how many passes."""
    drawn = []
    for epochs in sorted({line["epochs"] for line in lines}):
        of = [line for line in lines if line["epochs"] == epochs]
        points = []
        for row in dict.fromkeys(line["row"] for line in of if line["row"] != "standard"):
            if found := gains(of, row, epochs):
                clean, gain = (mean(values) for values in zip(*found, strict=True))
                passes = next(line["passes"] for line in of if line["row"] == row)
                points.append(scatter.Named(row, clean, gain, scatter.PASSES[passes]))
        far = [point for point in points if -point.x > SHOWN]
        near = [point for point in points if point not in far]
        if not near:
            # Nothing but `standard` so far, or nothing that the picture can hold.
            continue
        left = ", ".join(f"{point.name} ({point.x:.1f}, {point.y:+.1f})" for point in far)
        drawn.append(
            scatter.scatter(
                near,
                x="change in clean accuracy, points",
                y="gain in the selection score, points",
                title=f"{epochs} epochs" + (f"; further left: {left}" if left else ""),
                joined=frontier([(point.x, point.y) for point in near]),
            )
        )
    return scatter.styled(alt.vconcat(*drawn))


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points of which none has both more clean accuracy and more gain, by clean accuracy."""
    return [
        one
        for one in sorted(set(points))
        if not any(other != one and other[0] >= one[0] and other[1] >= one[1] for other in points)
    ]


def finals_chart(lines: Sequence[Line]) -> Any:
    """Return the finalists' gain over the 15 kinds against their clean change, and what was hoped for.

    A large point is the mean of a row's seeds, a small one a seed; the line joins the best means.
    """
    standard = {line["seed"]: line for line in lines if line["row"] == "standard"}
    points = []
    for row in dict.fromkeys(line["row"] for line in lines if line["row"] != "standard"):
        runs = [line for line in lines if line["row"] == row]
        clean, gain = (
            [100 * (line[key] - standard[line["seed"]][key]) for line in runs]
            for key in ("test_clean", "average_15")
        )
        seeds = list(zip(clean, gain, strict=True)) if len(runs) > 1 else []
        group = scatter.PASSES[runs[0]["passes"]]
        points.append(scatter.Named(row, mean(clean), mean(gain), group, seeds))
    hoped = scatter.Named("hoped for", -GOAL[1], GOAL[0])
    return scatter.styled(
        scatter.scatter(
            [*points, hoped],
            x="change in clean accuracy, points",
            y="gain over the 15 kinds, points",
            joined=frontier([(point.x, point.y) for point in points]),
        )
    )


def _best(lines: Sequence[Line], epochs: int, count: int, belongs: Callable[[Line], bool]) -> list[str]:
    """Return the rows of the highest ranks at the deciding seed."""
    made = {
        line["row"]: line
        for line in lines
        if (line["epochs"], line["seed"]) == (epochs, SEED) and line["row"] != "standard" and belongs(line)
    }
    own = [line for line in lines if line["seed"] == SEED]
    return sorted(made, key=lambda row: -rank(gains(own, row, epochs), epochs))[:count]


def _is_plain(line: Line, method: str) -> bool:
    config = from_plain(line["config"])
    return config.method == method and not config.spectral.on


def _is_gaussian(line: Line) -> bool:
    return _is_plain(line, "standard") and line["config"]["white_noise"] > 0


def _passes(count: int) -> Callable[[Line], bool]:
    return lambda line: line["passes"] == count


def candidates(lines: Sequence[Line]) -> list[str]:
    """Return the rows that go from 12 to 40 epochs, `standard` first, by their ranks and the rules alone."""
    found = ["standard"]
    for passes, count in ((1, 4), (2, 1), (3, 1)):
        found += _best(lines, SHORT, count, _passes(passes))
    found += _best(lines, SHORT, 1, _is_gaussian)
    found += _best(lines, SHORT, 1, lambda line: _is_plain(line, "trivial"))
    return list(dict.fromkeys(found))


def finalists(lines: Sequence[Line]) -> dict[str, str]:
    """Return the rows of 40 epochs whose 15 kinds are opened, by the names that they get."""
    lost = failed(LONG)
    missing = [row for row in candidates(lines) if row not in lost and not gains(lines, row, LONG)]
    if missing:
        raise SystemExit(f"finalists are drawn when all candidates ran; not run yet: {', '.join(missing)}")
    belongs = {
        "best_one_pass": _passes(1),
        "gaussian_matched": _is_gaussian,
        "trivial": lambda line: _is_plain(line, "trivial"),
        "best_two_pass": _passes(2),
        "best_three_pass": _passes(3),
    }
    found = {name: _best(lines, LONG, 1, rule) for name, rule in belongs.items()}
    return {"standard": "standard", **{name: rows[0] for name, rows in found.items() if rows}}


def several(found: Mapping[str, str]) -> list[str]:
    """Return the finalists that get three seeds."""
    names = ("standard", "best_one_pass", "gaussian_matched", "trivial")
    return list(dict.fromkeys(found[name] for name in names if name in found))


def opened(lines: Sequence[Line]) -> list[Line]:
    """Return the finalists' lines under their names, with the 15 kinds read from the sealed bits."""
    found = finalists(lines)
    of = {(line["row"], line["epochs"], line["seed"]): line for line in lines}
    missing = [
        f"{row} {seed}"
        for row in several(found)
        for seed in OTHER_SEEDS
        if (row, LONG, seed) not in of and row not in failed(LONG, seed)
    ]
    if missing:
        raise SystemExit(f"the 15 kinds are opened when all finalists ran; not run yet: {', '.join(missing)}")
    made = []
    for name, row in found.items():
        for seed in (SEED, *OTHER_SEEDS):
            if (row, LONG, seed) in of:
                bits = sealed(row, LONG, seed)
                average, clean = (float(unpack(bits, kinds).mean()) for kinds in (BENCHMARK_15, ("clean",)))
                made.append(
                    {
                        **of[row, LONG, seed],
                        "row": name,
                        "of": row,
                        "average_15": average,
                        "test_clean": clean,
                    }
                )
    return made


def study_of(name: str, rows: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Return the study of 40 epochs of some rows of the studies of 12."""
    studies = [json.loads(file.read_text()) for file in sorted((HERE / "search").glob("*_12.json"))]
    known = {
        row if isinstance(row, str) else row["name"]: row for study in studies for row in study["recipes"]
    }
    return {
        **studies[0],
        "name": f"search_{name}_{LONG}",
        "recipes": [known[row] for row in rows],
        "set": {**studies[0]["set"], "epochs": LONG, "ema": 0.995},
        "seeds": list(seeds),
    }


def _write_study(name: str, rows: Sequence[str], seeds: Sequence[int]) -> None:
    file = HERE / "search" / f"{name}_{LONG}.json"
    file.write_text(json.dumps(study_of(name, rows, seeds), indent=2) + "\n")
    print(", ".join(rows))


def main() -> None:
    """Print the tables, write the study of the candidates or finalists, or open the finalists' kinds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group()
    for name in ("--candidates", "--finalists", "--open"):
        what.add_argument(name, action="store_true")
    given, lines = parser.parse_args(), read()
    if given.candidates:
        _write_study("candidates", candidates(lines), [SEED])
    elif given.finalists:
        _write_study("finalists", several(finalists(lines)), OTHER_SEEDS)
    elif given.open:
        if read_opened():
            raise SystemExit("the 15 kinds were opened before; they are opened once")
        with (RESULTS / "search.jsonl").open("a") as stream:
            stream.writelines(json.dumps(line) + "\n" for line in opened(lines))
    else:
        for epochs in ALLOWED:
            print(f"## {epochs} epochs\n\n{table(lines, epochs)}\n")
        print(f"## Finalists\n\n{finals()}")


if __name__ == "__main__":
    main()
