"""How long a training step on a CPU takes with huge pages relative to without (Linux, glibc 2.35 or newer).

    python benchmarks/huge_pages.py --rounds 9

Each round starts a process with GLIBC_TUNABLES=glibc.malloc.hugetlb=1 and one without, in turns first.
Figures go to results/huge_pages.json.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from machine import machine

RESULTS = Path(__file__).parents[1] / "results" / "huge_pages.json"
TUNABLES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
STEPS = """
import sys
from filterbands import load_data
from filterbands.training import TrainConfig, measure_step

config = TrainConfig(arch=sys.argv[1], batch_size=int(sys.argv[2]), precision=sys.argv[3])
print(measure_step(config, load_data("planted"), steps=int(sys.argv[4]), device="cpu", threads=1).total)
"""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="cifar_resnet18_narrow")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    arguments = [given.arch, str(given.batch), given.precision, str(given.steps)]

    def seconds(more: dict[str, str]) -> float:
        command = [sys.executable, "-c", STEPS, *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
        return float(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)

    ratios = []
    for number in range(given.rounds):
        order = (TUNABLES, {}) if number % 2 else ({}, TUNABLES)
        found = {bool(more): seconds(more) for more in order}
        ratios.append(found[True] / found[False])
        print(f"round {number + 1}: {ratios[-1]:.3f}", flush=True)
    line = {**vars(given), "ratio": round(median(ratios), 3), "ratios": [round(one, 3) for one in ratios]}
    RESULTS.write_text(json.dumps({**line, **machine()}, indent=1) + "\n")
    print(f"with huge pages a step takes {median(ratios):.2f} times as long as without")


if __name__ == "__main__":
    main()
