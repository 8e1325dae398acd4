"""How long a training step takes in bfloat16 relative to float32 on this machine.

    python benchmarks/precision.py --threads 2

Appends a line to results/precision.jsonl: per network the median ratio over rounds, in each of which both
precisions are measured, and what `precision=auto` picks here.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from machine import machine

from filterbands import load_data
from filterbands.engine import PRECISIONS, pick_device, pick_precision, set_threads
from filterbands.training import TrainConfig, measure_step

LINES = Path(__file__).parents[1] / "results" / "precision.jsonl"
NETWORKS = ("fastnet", "cifar_resnet18_narrow", "cifar_resnet18")


def main() -> None:
    """Measure and append."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args()
    set_threads(given.threads)
    data = load_data("planted").subset(torch.arange(given.batch))
    found = {}
    for arch in NETWORKS:
        config = TrainConfig(arch=arch, batch_size=given.batch)
        rounds = [
            {name: measure_step(replace(config, precision=name), data, steps=1).total for name in PRECISIONS}
            for _ in range(given.rounds)
        ]
        found[arch] = {
            "ratio": round(median(one["bfloat16"] / one["float32"] for one in rounds), 3),
            "seconds": {name: round(median(one[name] for one in rounds), 4) for name in PRECISIONS},
        }
    line = {
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": given.threads,
        "batch": given.batch,
        "rounds": given.rounds,
        "auto": pick_precision("auto", pick_device()),
        "networks": found,
        **machine(),
    }
    with LINES.open("a") as out:
        out.write(json.dumps(line) + "\n")
    print(json.dumps(line, indent=1))


if __name__ == "__main__":
    main()
