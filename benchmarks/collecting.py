"""What the collectors of finished study runs share: the facts of a run, and the loop that appends lines."""

import argparse
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from filterbands.run import Run

Line = dict[str, Any]


def described(run: Run) -> Line:
    """Return what a run says of itself; end where its revision was not clean."""
    found = run.read()
    if not found["git"] or found["git"].endswith("-dirty"):
        raise SystemExit(f"{run.folder}: trained at revision {found['git']}, which is not clean")
    return found


def facts(run: Run, line: Line) -> Line:
    """Return the figures of a run's first layer and what made it, for the end of a line."""
    found = described(run)
    return {
        "low_share": line["low_share"],
        "mean_low_energy": line["mean_low_energy"],
        "seconds": round(found["seconds"], 1),
        "cpu_seconds": round(found["cpu_seconds"], 1),
        "threads": found["threads"],
        "processor": found["device"],
        "date": date.fromtimestamp(run.weights.stat().st_mtime).isoformat(),
        "git": found["git"],
        "config": found["config"],
    }


def append_missing(
    lines: Path, doc: str, collect: Callable[[Path, Line], Line], said: Callable[[Line], str]
) -> None:
    """Append a line for every finished run of the folders on the command line that the file lacks."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    given = parser.parse_args()
    there = [json.loads(text) for text in lines.read_text().splitlines()] if lines.exists() else []
    known = {(line["row"], line["arch"], line["epochs"], line["seed"]) for line in there}
    for folder in given.folders:
        file = folder / "runs.jsonl"
        for text in file.read_text().splitlines() if file.exists() else []:
            line = json.loads(text)
            if (line["recipe"], line["arch"], line["epochs"], line["seed"]) not in known:
                collected = collect(folder, line)
                with lines.open("a") as stream:
                    stream.write(json.dumps(collected) + "\n")
                print(f"{collected['row']} {collected['seed']}: {said(collected)}", flush=True)
