"""What a step of every row of the recipe search that ran takes, beside a step of `standard` in the same run.

    python benchmarks/search_cost.py [--rounds 5] [--threads 1]

Rows take turns, so that what else the machine does slows all of them. The ratio is the median over the rounds
of a row's step over the `standard` step of its round. Figures go to results/search_cost.json.
"""

import argparse
import json
from pathlib import Path
from statistics import median

import search
from machine import machine

from filterbands.datasets import load_data
from filterbands.study import read_study
from filterbands.training import TrainConfig, measure_step

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "search_cost.json"


def rows() -> dict[str, TrainConfig]:
    """Return the configs of the rows at 12 epochs that ran, `standard` first."""
    studies = [read_study(file) for file in sorted((HERE / "search").glob("*_12.json"))]
    ran = {line["row"] for line in search.read()}
    configs = [config for study in studies for config in study.configs]
    found = {config.recipe: config for config in configs if config.recipe in ran}
    return {"standard": found.pop("standard"), **found}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    data = load_data("cifar10", split="validation")
    configs = rows()
    ratios: dict[str, list[float]] = {name: [] for name in configs}
    for _ in range(given.rounds):
        seconds = {
            name: measure_step(config, data, steps=2, device="cpu", threads=given.threads).total
            for name, config in configs.items()
        }
        for name, taken in seconds.items():
            ratios[name].append(taken / seconds["standard"])
    found = {name: round(median(values), 3) for name, values in ratios.items()}
    settings = {"rounds": given.rounds, "threads": given.threads}
    RESULTS.write_text(json.dumps({**settings, **machine(), "ratios": found}, indent=1) + "\n")
    for name, ratio in found.items():
        print(f"{name:24} {ratio:.2f}")


if __name__ == "__main__":
    main()
