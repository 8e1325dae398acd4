"""Where the label lies in one band, does control of the first layer help or hurt as the theory says?

Trains networks on `planted` with the class written in the low or in the high band alone, with a free first
layer and with all of its filters held in the low or in the high span, the high one zero-mean or literal, over
amplitudes of the cue and budgets; prints tables and appends every finished cell to
results/planted_sweep.jsonl. A rerun skips what is there.

    python benchmarks/planted_sweep.py                     the sweep, seed 0
    python benchmarks/planted_sweep.py --amplitudes 0.5 --epochs 4 --seeds 0,1,2,3,4 --all-arms
    python benchmarks/planted_sweep.py --table
"""

import argparse
import json
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from filterbands.datasets import PLANTED_VERSION, load_data
from filterbands.models import load_model
from filterbands.scores import student_interval
from filterbands.training import RECIPES, TrainConfig, train, with_settings
from filterbands.version import git_revision

RESULTS = Path(__file__).parents[1] / "results" / "planted_sweep.jsonl"
SPECS = {"low": "planted:low={:g},high=0", "high": "planted:low=0,high={:g}"}
ARMS = ("standard", "share_low", "share_high", "share_high_literal")
# What the theory says is hurt: filters without the band that the label is in.
OPPOSED = {"low": ("standard", "share_high", "share_high_literal"), "high": ("standard", "share_low")}


def accuracy(weights: Path, spec: str) -> float:
    """Return the share of the test images that the network names right."""
    model = load_model(weights)
    data = load_data(spec, split="test")
    with torch.inference_mode():
        logits = torch.cat([model(part.float() / 255) for part in data.images.split(500)])
    return float((logits.argmax(dim=1) == data.labels).float().mean())


def version_of(line: dict[str, Any]) -> int:
    """Return the version of the images that a line of results is about."""
    return int(line.get("planted_version", 1))


def recipe(arm: str) -> TrainConfig:
    """Return the training of an arm; `_literal` keeps the gain of high filters at frequency zero."""
    config = RECIPES[arm.removesuffix("_literal")]()
    return with_settings(config, ["share.zero_mean=false"]) if arm.endswith("_literal") else config


def run_cell(cell: dict[str, Any], threads: int) -> dict[str, Any]:
    """Train one network and return the cell with what it gave."""
    spec = SPECS[cell["band"]].format(cell["amplitude"])
    config = replace(recipe(cell["arm"]), data=spec, epochs=cell["epochs"], seed=cell["seed"])
    with tempfile.TemporaryDirectory() as folder:
        run = train(config, Path(folder) / "run", threads=threads)
        described = run.read()
        return {
            **cell,
            "planted_version": PLANTED_VERSION,
            "accuracy": accuracy(run.weights, spec),
            "seconds": round(described["seconds"], 1),
            "cpu_seconds": round(described["cpu_seconds"], 1),
            "device": described["device"],
            "threads": threads,
            "git": git_revision(),
            "date": date.today().isoformat(),
        }


def main() -> None:
    """Run the cells that are missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--amplitudes", default="0.25,0.5,1")
    parser.add_argument("--epochs", default="4")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--bands", default="low,high")
    parser.add_argument("--all-arms", action="store_true", help="also the arm that is not hurt")
    parser.add_argument("--table", action="store_true", help="only print the tables of what is there")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    version = max(map(version_of, lines), default=PLANTED_VERSION) if given.table else PLANTED_VERSION
    done = [line for line in lines if version_of(line) == version]
    cells = [
        {"band": band, "amplitude": float(amplitude), "epochs": int(epochs), "arm": arm, "seed": int(seed)}
        for band in given.bands.split(",")
        for amplitude in given.amplitudes.split(",")
        for epochs in given.epochs.split(",")
        for seed in given.seeds.split(",")
        for arm in (ARMS if given.all_arms else OPPOSED[band])
    ]
    for cell in [] if given.table else cells:
        if any(all(row[name] == value for name, value in cell.items()) for row in done):
            continue
        row = run_cell(cell, given.threads)
        done.append(row)
        with RESULTS.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        print(
            f"{row['band']:<5} {row['amplitude']:<5g} {row['arm']:<11} {100 * row['accuracy']:.1f} %",
            flush=True,
        )
    print()
    print(table(done))
    print()
    print(effects(done))


def table(rows: list[dict[str, Any]]) -> str:
    """Return the accuracies as Markdown, a figure a seed in each cell."""
    lines = [
        "| label in the | amplitude | epochs | seeds | free | all low | all high | all high, literal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    keys = sorted({(row["band"], row["amplitude"], row["epochs"]) for row in rows})
    for band, amplitude, epochs in keys:
        here = [r for r in rows if (r["band"], r["amplitude"], r["epochs"]) == (band, amplitude, epochs)]
        texts = []
        for arm in ARMS:
            values = [100 * row["accuracy"] for row in here if row["arm"] == arm]
            texts.append(", ".join(f"{value:.1f}" for value in values) or "-")
        seeds = len({row["seed"] for row in here})
        lines.append(f"| {band} band | {amplitude:g} | {epochs} | {seeds} | {' | '.join(texts)} |")
    return "\n".join(lines)


def effects(rows: list[dict[str, Any]]) -> str:
    """Return what holding the filters does to accuracy, in points: paired by seed, with 95 % intervals."""
    lines = [
        "| label in the | amplitude | epochs | held | seeds | effect, points | 95 % interval |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = sorted({(row["band"], row["amplitude"], row["epochs"], row["arm"]) for row in rows})
    for band, amplitude, epochs, arm in keys:
        if arm == "standard":
            continue
        here = [r for r in rows if (r["band"], r["amplitude"], r["epochs"]) == (band, amplitude, epochs)]
        free = {row["seed"]: row["accuracy"] for row in here if row["arm"] == "standard"}
        gains = [
            100 * (row["accuracy"] - free[row["seed"]])
            for row in here
            if row["arm"] == arm and row["seed"] in free
        ]
        if not gains:
            continue
        interval = "one seed"
        if len(gains) > 1:
            low, high = student_interval(gains)
            interval = f"{low:+.1f} to {high:+.1f}"
        lines.append(
            f"| {band} band | {amplitude:g} | {epochs} | {arm} | {len(gains)} | {mean(gains):+.1f} | "
            f"{interval} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
