"""Score the finished runs of the recipe search and append them to results/search.jsonl (docs/search.md).

Reads folders that `filterbands study benchmarks/search/NAME.json --out DIR` fills. The validation images
under the study's kinds come from its database; the five kinds of ImageNet-C-bar alone are computed here and
kept there. A run of a revision that was not clean is refused.

    python benchmarks/search_collect.py DIR [DIR ...]
"""

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

import search

from filterbands.datasets import load_data
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.models import load_model
from filterbands.run import Run
from filterbands.training import METHODS

LINES = Path(__file__).parents[1] / "results" / "search.jsonl"


def collect(folder: Path, line: dict[str, Any]) -> dict[str, Any]:
    """Return the line of a finished run."""
    run = Run(folder / line["name"])
    described = run.read()
    if not described["git"] or described["git"].endswith("-dirty"):
        raise SystemExit(f"{run.folder}: trained at revision {described['git']}, which is not clean")
    config = EvaluateConfig(
        name=line["name"],
        kinds=search.BAR,
        parameters="imagenet",
        spread=True,
        precision=line["evaluation"]["precision"],
    )
    data = load_data(described["config"]["data"], split="validation")
    model = load_model(run.folder)
    bar = evaluate(model, data, config=config, db=folder / "results.db").to_json()["kinds"]
    kinds = {**line["kinds"], **bar}
    shown = (*search.OWN, *search.BAR, "speckle_noise", "gaussian_blur")
    front = run.last_epoch().get("spectral")
    return {
        "row": line["recipe"],
        "arch": line["arch"],
        "epochs": line["epochs"],
        "seed": line["seed"],
        "passes": METHODS[described["config"]["method"]].views,
        "clean": line["clean"],
        "selection": search.selection(kinds),
        "average_15": None,
        "kinds": {kind: kinds[kind] for kind in shown},
        **({} if front is None else {"spectral": front}),
        "low_share": line["low_share"],
        "mean_low_energy": line["mean_low_energy"],
        "seconds": round(described["seconds"], 1),
        "cpu_seconds": round(described["cpu_seconds"], 1),
        "threads": described["threads"],
        "processor": described["device"],
        "date": date.fromtimestamp(run.weights.stat().st_mtime).isoformat(),
        "git": described["git"],
        "config": described["config"],
    }


def main() -> None:
    """Append what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    given = parser.parse_args()
    there = [json.loads(text) for text in LINES.read_text().splitlines()] if LINES.exists() else []
    known = {(line["row"], line["arch"], line["epochs"], line["seed"]) for line in there}
    for folder in given.folders:
        file = folder / "runs.jsonl"
        for text in file.read_text().splitlines() if file.exists() else []:
            line = json.loads(text)
            if (line["recipe"], line["arch"], line["epochs"], line["seed"]) not in known:
                collected = collect(folder, line)
                with LINES.open("a") as stream:
                    stream.write(json.dumps(collected) + "\n")
                print(
                    f"{collected['row']} {collected['seed']}: {100 * collected['clean']:.2f} clean, "
                    f"{100 * collected['selection']:.2f} selection",
                    flush=True,
                )


if __name__ == "__main__":
    main()
