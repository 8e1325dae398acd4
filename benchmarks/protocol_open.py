"""Read the sealed C-bar bits of every protocol run into results/protocol.jsonl, once, when all runs are done.

Each line gets `cbar`, the accuracies by kind and severity, and `average_cbar`, their mean over all 10 kinds.

    python benchmarks/protocol_open.py --all-runs-are-done
"""

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

from collecting import cells
from protocol_collect import LINES, RESULTS

from filterbands.corruptions import kinds_of
from filterbands.disk import write_text


def opened(line: dict[str, Any]) -> dict[str, Any]:
    """Return a run's line with C-bar."""
    of: dict[str, list[float]] = {kind: [] for kind in kinds_of("cbar")}
    for kind, _, _, bits in cells(RESULTS / "protocol" / "sealed" / Path(line["bits"]).name):
        if kind in of:
            of[kind].append(float(bits.mean()))
    return {**line, "cbar": of, "average_cbar": mean(mean(values) for values in of.values())}


def main() -> None:
    """Open all runs, or none."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all-runs-are-done", action="store_true", required=True)
    parser.parse_args()
    lines = [json.loads(text) for text in LINES.read_text().splitlines()]
    if any("cbar" in line for line in lines):
        raise SystemExit("C-bar was opened before; it is opened once")
    found = [line if line.get("failed") else opened(line) for line in lines]
    write_text(LINES, "".join(json.dumps(line) + "\n" for line in found))
    print(f"{len(found)} runs opened; now python benchmarks/study_report.py")


if __name__ == "__main__":
    main()
