"""What each training method's augmentation costs, as a share of its training step.

python benchmarks/augmentation.py --arch cifar_resnet18 [--device cuda] [--methods prime,apr_sp] [--steps 5]

Images are random bytes of CIFAR's size: no operation's cost depends on what is seen. `beside standard` is the
whole step's time over that of plain training, which has one pass through the network where others have more.
Figures go to results/augmentation_cost.json.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from machine import machine

from filterbands.datasets import ImageSet
from filterbands.training import METHODS, RECIPES, measure_step

RESULTS = Path(__file__).parents[1] / "results" / "augmentation_cost.json"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="cifar_resnet18")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only print what is there")
    given = parser.parse_args()
    if not given.table:
        given.results.write_text(json.dumps(measure(given), indent=1) + "\n")
    print(table(json.loads(given.results.read_text())))


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Return the parts of every method's step, in seconds."""
    count = 2 * given.batch_size
    data = ImageSet(
        name="random",
        split="train",
        images=torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8),
        labels=torch.arange(count) % 10,
        classes=tuple(str(number) for number in range(10)),
        index=torch.arange(count),
    )
    seconds = {}
    for name in given.methods.split(","):
        config = replace(RECIPES[name](), arch=given.arch, batch_size=given.batch_size)
        parts = measure_step(config, data, steps=given.steps, device=given.device, threads=given.threads)
        seconds[name] = {**asdict(parts), "total": parts.total}
    settings = {name: getattr(given, name) for name in ("arch", "threads", "batch_size", "steps")}
    return {**settings, **machine(given.device), "seconds": seconds}


def table(found: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    seconds = found["seconds"]
    base = seconds["standard"]["total"] if "standard" in seconds else float("nan")
    lines = [
        f"| {found['arch']} | views | data ms | augmentation ms | step ms | share | beside standard |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, parts in seconds.items():
        total = parts["total"]
        lines.append(
            f"| {name} | {METHODS[name].views} | {1e3 * parts['data']:.1f} | "
            f"{1e3 * parts['augmentation']:.1f} | {1e3 * total:.1f} | "
            f"{100 * parts['augmentation'] / total:.1f} % | {total / base:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
