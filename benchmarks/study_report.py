"""Recompute every number, table and picture of README and docs that comes from results/, without training.

    python benchmarks/study_report.py            writes what differs
    python benchmarks/study_report.py --check    writes nothing; exits 1 and names what differs

A page marks what is computed with comments, which its readers do not see:

    <!-- table: runs -->
    | network | recipe | ...
    <!-- end -->

    `spectral` gains <!--= methods/12 spectral-standard 15 -->+11.7<!--/--> points

The second form names a source of lines (`_source`), a row or the difference of two rows paired by seed, and
a figure. That is one of `FIGURES` or a kind of corruption, alone or with `:low` or `:high` (the ends of the
95 % interval of Student), `:sd`, `:min`, `:max` or `:n`. `<!--= file/NAME PATH FACTOR -->` is a number of
results/NAME.json times a factor, where PATH has the keys to it with dots between, and + for blanks in them.
The number keeps the decimals and the sign that stand there. A picture holds the sha256 of its specification,
so that it is compared without being drawn.
"""

import argparse
import hashlib
import io
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import analyze
import control_tables
import corruptions_distance
import decisions
import mutants
import network_probes
import performance_tables
import planted_sweep
import resnet20
import search
import shrink
import study_table
import train_cifar10
import verdict
from collecting import read_finished
from PIL import Image, PngImagePlugin

from filterbands.corruptions import CORRUPTIONS
from filterbands.scores import BENCHMARK_15, FAMILIES, student_interval
from filterbands.study import table as table_of_study

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
IMAGES = ROOT / "docs" / "images"
_SPECIFICATION = "Vega-Lite sha256"

Line = dict[str, Any]


def lines_of(*names: str) -> list[Line]:
    """Return the lines of results/NAME.jsonl, of several files one after the other."""
    return [line for name in names for line in read_finished(RESULTS / f"{name}.jsonl")]


def _study(*names: str) -> Callable[[], str]:
    return lambda: table_of_study(lines_of(*names))


def _control(epochs: int) -> Callable[[], str]:
    return lambda: control_tables.table([one for one in lines_of("control_study") if one["epochs"] == epochs])


def _protocol(name: str, arch: str, epochs: int) -> dict[str, Callable[[], str]]:
    return {
        f"protocol {name}": lambda: verdict.table(verdict.read(), arch, epochs),
        f"protocol {name} gains": lambda: verdict.gains_table(verdict.read(), arch, epochs),
    }


TABLES: Mapping[str, Callable[[], str]] = {
    "runs": lambda: train_cifar10.table(lines_of("runs")),
    "methods": _study("narrow_study", "narrow_best_study"),
    "variants": _study("narrow_variants_study"),
    "kinds of methods": lambda: study_table.kinds(lines_of("narrow_study", "narrow_best_study")),
    "gains of recipes": lambda: study_table.gains(
        lines_of("narrow_study", "narrow_best_study", "narrow_variants_study")
    ),
    "seeds needed": lambda: study_table.seeds(lines_of("narrow_study", "narrow_best_study")),
    "distance": lambda: corruptions_distance.table(corruptions_distance.read("c")),
    "distance cbar": lambda: corruptions_distance.table(corruptions_distance.read("cbar")),
    "resnet20 averages": lambda: resnet20.averages(*resnet20.read()),
    "resnet20 kinds": lambda: resnet20.kinds(resnet20.read()[0]),
    "control 12": _control(12),
    "control 40": _control(40),
    "control benchmark": lambda: control_tables.table(lines_of("control_benchmark")),
    "control noise": lambda: control_tables.matches(lines_of("control_study")),
    "planted effects": lambda: planted_sweep.effects(_planted()),
    "planted accuracies": lambda: planted_sweep.table(_planted()),
    "planted budgets": lambda: planted_sweep.table(
        [line for line in lines_of("planted_sweep") if (line["epochs"], line["amplitude"]) != (8, 1.0)]
    ),
    "public networks": lambda: analyze.networks_table(_file("public_spectra")),
    "public trajectory": lambda: analyze.trajectory_table(_file("public_spectra")),
    "noise over signal": lambda: performance_tables.table(
        ["filters", "noise of 0.1 over signal"],
        [[name, f"{value:.3g}"] for name, value in _file("noise_over_signal")["ratios"].items()],
    ),
    "shrink": lambda: shrink.table(_file("shrink")),
    "mutants": lambda: mutants.table(_file("mutants")),
    "heat maps": lambda: network_probes.heat_table(network_probes.read()),
    "passes": lambda: network_probes.pass_table(network_probes.read()),
    "corruption energies": lambda: network_probes.energy_table(network_probes.read()),
    "gains by frequency": lambda: network_probes.gain_table(network_probes.read()),
    "vulnerability": lambda: network_probes.vulnerability_table(network_probes.read()),
    "speed of analysis": performance_tables.analysis,
    "speed of heat maps": performance_tables.heat_map,
    "speed of evaluation": performance_tables.evaluation,
    "speed of training": performance_tables.training,
    "speed of kinds": lambda: performance_tables.kinds("c-32"),
    "speed of cbar kinds": lambda: performance_tables.kinds("cbar-32"),
    "speed of sets": performance_tables.sets,
    "speed of peers": performance_tables.peers,
    "precision": performance_tables.precision,
    "cost of methods": performance_tables.methods,
    "cost of controls": performance_tables.controls,
    "budgets": performance_tables.budgets,
    "torture": performance_tables.torture,
    **_protocol("full 6", verdict.FULL, 6),
    **_protocol("narrow 12", verdict.NARROW, 12),
    "protocol longer": lambda: verdict.longer(verdict.read()),
    "protocol cbar": lambda: verdict.witnesses(verdict.read()),
    "protocol not run": lambda: decisions.not_run(verdict.read()),
    "protocol words": lambda: decisions.table(verdict.read()),
    "protocol checks": lambda: decisions.checks(verdict.read()),
    "search 12": lambda: search.table(search.read(), 12),
    "search 40": lambda: search.table(search.read(), 40),
    "search finals": search.finals,
    "search learned": lambda: search.learned(search.read()),
    "protocol contrasts": lambda: decisions.guarded(verdict.read(), verdict.contrasts(verdict.read())),
    "kept weights": lambda: verdict.kept(verdict.read()),
    "protocol dose": lambda: verdict.dose(verdict.read()),
}
"""Every table by name."""

PICTURES: Mapping[str, Callable[[], Any]] = {
    "control.png": lambda: control_tables.chart(
        [line for line in lines_of("control_study") if line["epochs"] == 12]
    ),
    "study.png": lambda: study_table.chart(lines_of("narrow_study", "narrow_best_study")),
    "sensitivity-passes.png": lambda: network_probes.curves(network_probes.read()),
    "arms.png": lambda: verdict.arms_chart(verdict.read()),
    "dose.png": lambda: verdict.dose_chart(verdict.read()),
    "search.png": lambda: search.chart(search.read()),
    # Nothing to draw before the finalists' kinds are opened.
    **({"finals.png": lambda: search.finals_chart(search.read_opened())} if search.read_opened() else {}),
}
"""Every picture of docs/images that is a chart of results."""


def _file(name: str) -> Any:
    """Return what results/NAME.json holds."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def _planted() -> list[Line]:
    """Return the sweep's lines at the budget, strength and version of the images that the docs tell."""
    known = [line for line in lines_of("planted_sweep") if planted_sweep.version_of(line) == 1]
    return [line for line in known if (line["epochs"], line["amplitude"]) == (8, 1.0)]


def _source(name: str) -> list[Line]:
    """Return the lines of a source; all have a `row` and a `seed`."""
    kind, _, rest = name.partition("/")
    if kind == "protocol":
        arch, epochs = rest.split("/")
        found = [
            line for line in lines_of("protocol") if (line["arch"], line["epochs"]) == (arch, int(epochs))
        ]
    elif kind == "planted":
        band, amplitude, epochs = rest.split("/")
        wanted = (band, float(amplitude), int(epochs))
        known = [line for line in lines_of("planted_sweep") if planted_sweep.version_of(line) == 1]
        found = [line for line in known if (line["band"], line["amplitude"], line["epochs"]) == wanted]
    elif kind == "runs":
        found = [line for line in lines_of("runs") if line["arch"] == rest]
    elif kind == "search" and rest == "finals":
        # On test images; the kinds of these lines are those of validation.
        found = [{**line, "clean": line["test_clean"], "kinds": {}} for line in search.read_opened()]
    elif kind == "search":
        found = [line for line in search.read() if line["epochs"] == int(rest)]
    elif kind in ("control", "benchmark"):
        known = lines_of("control_study" if kind == "control" else "control_benchmark")
        found = [line for line in known if line["epochs"] == int(rest)]
    else:
        files = {
            "methods": ("narrow_study", "narrow_best_study"),
            "variants": ("narrow_variants_study",),
            "recipes": ("narrow_study", "narrow_best_study", "narrow_variants_study"),
            "narrow": ("narrow_study", "narrow_best_study", "narrow_variants_study"),
            "budget": ("budget_study", "budget_resnet20_study"),
            "order": ("order_study",),
            "recalibrated": ("recalibrated",),
        }
        found = lines_of(*files[kind])
    return [{**line, "row": line.get("row") or line.get("arm") or line["recipe"]} for line in found]


def _family(name: str) -> Callable[[Line], float]:
    return lambda line: _over([kind for kind in line["kinds"] if CORRUPTIONS[kind].family == name])(line)


def _over(kinds: Sequence[str]) -> Callable[[Line], float]:
    return lambda line: 100 * mean(mean(_present(line["kinds"][kind])) for kind in kinds)


def _present(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


FIGURES: Mapping[str, Callable[[Line], float]] = {
    "clean": lambda line: 100 * line["clean"],
    "clean_recalibrated": lambda line: 100 * line["clean_recalibrated"],
    "15_recalibrated": lambda line: 100 * line["average_15_recalibrated"],
    "accuracy": lambda line: 100 * line["accuracy"],
    "4": lambda line: 100 * line["extra_4"],
    "selection": lambda line: 100 * line["selection"],
    "15": lambda line: 100 * line["average_15"],
    "19": lambda line: 100 * line["average_19"],
    "12": _over(BENCHMARK_15[3:]),
    "cbar": lambda line: 100 * line["average_cbar"],
    "low_energy": lambda line: line["mean_low_energy"],
    "low_share": lambda line: line["low_share"],
    "minutes": lambda line: line["seconds"] / 60,
    **{name: _family(name) for name in FAMILIES},
}
"""Every figure of a line, accuracies in percent."""
_MARKED = re.compile(r"<!--= (\S+) (\S+) (\S+) -->([^<]*)<!--/-->")
# In Markdown a comment at the start of a line ends the paragraph.
_BREAKING = re.compile(r"^ *(?=<!--= )", re.MULTILINE)
_TABLE = re.compile(r"<!-- table: ([^>]+?) -->\n.*?<!-- end -->", re.DOTALL)


def number(source: str, rows: str, figure: str, shown: str) -> str:
    """Return the number that a mark stands for, in the form of the one that is shown.

    Raises:
        ValueError: There is no such source, row or figure, or no seed that both rows have.
    """
    if source == "words":
        return decisions.word_of(verdict.read(), rows)
    if source.startswith("file/"):
        at = _file(source.removeprefix("file/"))
        for key in rows.split("."):
            at = at[int(key) if isinstance(at, list) else key.replace("+", " ")]
        return _shown(float(figure) * at, shown)
    name, _, statistic = figure.partition(":")
    of = FIGURES.get(name) or _over([name])
    lines = _source(source)
    first, _, second = rows.partition("-")
    by_row = [{line["seed"]: of(line) for line in lines if line["row"] == row} for row in (first, second)]
    values = [
        value - (by_row[1][seed] if second else 0)
        for seed, value in sorted(by_row[0].items())
        if not second or seed in by_row[1]
    ]
    if not values:
        raise ValueError(f"{source} has no runs of {rows}")
    found: float = {
        "": lambda: mean(values),
        "low": lambda: student_interval(values)[0],
        "high": lambda: student_interval(values)[1],
        "sd": lambda: stdev(values),
        "min": lambda: min(values),
        "max": lambda: max(values),
        "n": lambda: len(values),
    }[statistic]()
    return _shown(found, shown)


def _shown(found: float, shown: str) -> str:
    """Return a number with the sign and the decimals of the one that is shown."""
    sign = "+" if shown.startswith("+") else ""
    decimals = len(shown.partition(".")[2])
    comma = "," if "," in shown else ""
    return f"{found:{sign}{comma}.{decimals}f}"


def rewritten(text: str) -> str:
    """Return a page with every marked number and table computed anew."""

    def table(match: re.Match[str]) -> str:
        if match[1] not in TABLES:
            raise ValueError(f"there is no table {match[1]!r}; there are {', '.join(TABLES)}")
        return f"<!-- table: {match[1]} -->\n\n{TABLES[match[1]]()}\n\n<!-- end -->"

    def marked(match: re.Match[str]) -> str:
        source, rows, figure, shown = match.groups()
        return f"<!--= {source} {rows} {figure} -->{number(source, rows, figure, shown)}<!--/-->"

    return _MARKED.sub(marked, _TABLE.sub(table, text))


def _digest(chart: Any) -> str:
    return hashlib.sha256(json.dumps(chart.to_dict(), sort_keys=True).encode()).hexdigest()


def draw(chart: Any, file: Path) -> None:
    """Write a chart as a small PNG that holds the sha256 of its specification."""
    buffer = io.BytesIO()
    chart.save(buffer, format="png", scale_factor=2)
    facts = PngImagePlugin.PngInfo()
    facts.add_text(_SPECIFICATION, _digest(chart))
    small = Image.open(buffer).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(file, optimize=True, pnginfo=facts)


def _is_drawn(chart: Any, file: Path) -> bool:
    if not file.exists():
        return False
    with Image.open(file) as image:
        return bool(image.info.get(_SPECIFICATION) == _digest(chart))


def main() -> None:
    """Write or compare every page and picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where something differs")
    given = parser.parse_args()
    differing = []
    count = 0
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text()
        count += len(_MARKED.findall(text)) + len(_TABLE.findall(text))
        now = rewritten(text)
        for match in _BREAKING.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            differing.append(
                f"{page.relative_to(ROOT)}:{line}: a mark may not begin a line; move a word before it"
            )
        if now != text:
            pairs = zip(text.splitlines(), now.splitlines(), strict=False)
            place = next((number for number, (was, is_now) in enumerate(pairs, 1) if was != is_now), 0)
            differing.append(f"{page.relative_to(ROOT)}:{place}")
            if not given.check:
                page.write_text(now)
    for name, chart in PICTURES.items():
        made = chart()
        if not _is_drawn(made, IMAGES / name):
            differing.append(f"docs/images/{name}")
            if not given.check:
                draw(made, IMAGES / name)
    print(f"{count} numbers and tables, {len(PICTURES)} pictures: {len(differing)} differ from results/")
    print("".join(f"  {place}\n" for place in differing), end="")
    sys.exit(1 if given.check and differing else 0)


if __name__ == "__main__":
    main()
