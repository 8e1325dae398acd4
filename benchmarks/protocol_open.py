"""Read the sealed C-bar bits of every protocol run into results/protocol.jsonl, once, when all runs are done.

Each line gets `cbar`, the accuracies by kind and severity, and `average_cbar`, their mean over all 10 kinds.
What is collected afterwards is never opened. Where runs that the study files name are missing, their number
has to be given, so that nobody opens by mistake.

    python benchmarks/protocol_open.py --all-runs-are-done [--not-run 12]
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from collecting import whole_kinds
from planned import planned, run_of
from protocol_collect import LINES, RESULTS

from filterbands.corruptions import kinds_of
from filterbands.disk import write_text


def missing(lines: Sequence[dict[str, Any]]) -> list[str]:
    """Return the planned runs that have no line."""
    there = set(map(run_of, lines))
    return [" ".join(map(str, run)) for run in planned() if run not in there]


def opened(line: dict[str, Any]) -> dict[str, Any]:
    """Return a run's line with C-bar."""
    found = whole_kinds(RESULTS / "protocol" / "sealed" / Path(line["bits"]).name, kinds_of("cbar"))
    of = {kind: [float(bits.mean()) for _, _, bits in parts] for kind, parts in found.items()}
    return {**line, "cbar": of, "average_cbar": mean(mean(values) for values in of.values())}


def main() -> None:
    """Open all runs, or none."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all-runs-are-done", action="store_true", required=True)
    parser.add_argument("--not-run", type=int, default=0, help="number of planned runs that stay undone")
    given = parser.parse_args()
    lines = [json.loads(text) for text in LINES.read_text().splitlines()]
    if any("cbar" in line for line in lines):
        raise SystemExit("C-bar was opened before; it is opened once")
    if len(undone := missing(lines)) != given.not_run:
        raise SystemExit(
            f"{len(undone)} planned runs have no line, and what is collected later is never opened: "
            f"{', '.join(undone)}; where these stay undone, say so with --not-run {len(undone)}"
        )
    found = [line if line.get("failed") else opened(line) for line in lines]
    write_text(LINES, "".join(json.dumps(line) + "\n" for line in found))
    print(f"{len(found)} runs opened; now python benchmarks/study_report.py")


if __name__ == "__main__":
    main()
