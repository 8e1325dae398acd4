"""What the collectors of finished study runs share: the facts of a run, and the loop that appends lines."""

import argparse
import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

from filterbands.run import Run
from filterbands.study import read_lines

Line = dict[str, Any]


def read_finished(file: Path) -> list[Line]:
    """Return the lines of a file of results but those of failed runs; none where there is no file."""
    lines = [json.loads(text) for text in file.read_text().splitlines()] if file.exists() else []
    return [line for line in lines if not line.get("failed")]


def described(run: Run) -> Line:
    """Return what a run says of itself; end where its revision was not clean."""
    found = run.read()
    if not found["git"] or found["git"].endswith("-dirty"):
        raise SystemExit(f"{run.folder}: trained at revision {found['git']}, which is not clean")
    if "revisions" in found:
        raise SystemExit(
            f"{run.folder}: trained by several revisions, {', '.join(map(str, found['revisions']))}"
        )
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
        "recalibrated": found.get("recalibrated"),
        "config": found["config"],
    }


def append_missing(
    lines: Path, doc: str, collect: Callable[[Path, Line], Line], said: Callable[[Line], str]
) -> None:
    """Append a line for every run of the folders on the command line that the file lacks.

    A run whose loss became NaN or infinite gets one as well: `failed` is true, and it has no figures.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    given = parser.parse_args()
    there = [json.loads(text) for text in lines.read_text().splitlines()] if lines.exists() else []
    known = {(line["row"], line["arch"], line["epochs"], line["seed"]) for line in there}
    for folder in given.folders:
        for line in [*read_lines(folder), *_failed(folder)]:
            of = (line["recipe"], line["arch"], line["epochs"], line["seed"])
            if of in known:
                continue
            known.add(of)
            failed = line.get("failed", False)
            collected = {"row": line.pop("recipe"), **line} if failed else collect(folder, line)
            with lines.open("a") as stream:
                stream.write(json.dumps(collected) + "\n")
            print(f"{of[0]} {of[3]}: {'failed' if failed else said(collected)}", flush=True)


def _failed(folder: Path) -> Iterator[Line]:
    """Yield what identifies the runs of a study's folder whose loss became NaN or infinite."""
    for place in sorted(folder.iterdir()):
        run = Run(place)
        if run.exists and not run.finished and run.failure(0).exists():
            config = run.read()["config"]
            of = {name: config[name] for name in ("recipe", "arch", "epochs", "seed")}
            yield {**of, "failed": True, "git": run.read()["git"], "config": config}
