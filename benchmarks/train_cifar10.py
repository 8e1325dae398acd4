"""Trains networks on CIFAR-10, evaluates them, and appends a line each to results/runs.jsonl.

    python benchmarks/train_cifar10.py --data cifar10:DIR fastnet:standard:0,1,2 fastnet:spectral:0
    python benchmarks/train_cifar10.py --table

Each job is ARCH:RECIPE:SEEDS. Runs lie in --runs and are resumed where they stopped; a run whose line is
there is skipped. Clean accuracy is on the 10,000 test images; of the corruptions each image sees every kind
at one severity (`--spread`), so that a kind's figures are over 10,000 images, 2,000 a severity.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from filterbands.corruptions import expand_kinds
from filterbands.datasets import load_data
from filterbands.engine import set_threads
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.models import load_model
from filterbands.training import RECIPES, train

RESULTS = Path(__file__).parents[1] / "results" / "runs.jsonl"
EPOCHS = {"fastnet": 11, "cifar_resnet18_narrow": 12}


def run_job(arch: str, recipe: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate one network and return its line."""
    config = replace(
        RECIPES[recipe](),
        arch=arch,
        seed=seed,
        epochs=EPOCHS.get(arch, 12),
        data=given.data,
        split="full_train",
    )
    folder = Path(given.runs) / f"{recipe}-{arch}-{seed}"
    run = train(config, folder, resume=folder.exists(), threads=given.threads)
    described = run.read()
    kinds = expand_kinds(["c" if given.frost else "all-but-frost"])
    settings = EvaluateConfig(name=run.name, kinds=kinds, spread=True, precision="bfloat16")
    test = load_data(given.data, split="test")
    model = load_model(run.folder)
    scores = evaluate(model, test, config=settings, db=Path(given.runs) / "results.db").to_json()
    exact = evaluate(model, test, config=EvaluateConfig(kinds=()))
    layer = run.read_log()[-1]["first_layer"]
    return {
        "recipe": recipe,
        "arch": arch,
        "data": "cifar10",
        "split": "full_train",
        "seed": seed,
        "epochs": config.epochs,
        "images": len(test),
        "clean": exact.clean,
        "average_15": None if scores["average_15"] is None else scores["average_15"]["accuracy"],
        "average_19": None if scores["average_19"] is None else scores["average_19"]["accuracy"],
        "average_at_hand": scores["average_at_hand"],
        "families": {name: value["accuracy"] for name, value in scores["families"].items()},
        "kinds": scores["kinds"],
        "evaluation": "spread, bfloat16; clean float32",
        "low_share": layer["low_share"],
        "mean_low_energy": layer["mean_low_energy"],
        "seconds": round(described["seconds"], 1),
        "cpu_seconds": round(described["cpu_seconds"], 1),
        "threads": described["threads"],
        "device": described["device"],
        "torch": described["torch"],
        "finished": described["finished"],
        "git": described["git"],
        "config": {**described["config"], "data": "cifar10"},
    }


def table(lines: list[dict[str, Any]]) -> str:
    """Return the lines as Markdown, mean and standard deviation over seeds."""
    rows = [
        "| network | recipe | seeds | clean | 15 kinds | 19 kinds | noise | blur | weather | digital |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for arch, recipe in dict.fromkeys((line["arch"], line["recipe"]) for line in lines):
        group = [line for line in lines if (line["arch"], line["recipe"]) == (arch, recipe)]
        cells = [_spread([line[name] for line in group]) for name in ("clean", "average_15", "average_19")]
        for family in ("noise", "blur", "weather", "digital"):
            cells.append(_spread([line["families"].get(family) for line in group]))
        rows.append(f"| `{arch}` | {recipe} | {len(group)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _spread(values: list[float | None]) -> str:
    present = [100 * value for value in values if value is not None]
    if not present:
        return "not measured"
    text = f"{mean(present):.2f}"
    return f"{text} ± {stdev(present):.2f}" if len(present) > 1 else text


def main() -> None:
    """Run the jobs that are missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jobs", nargs="*", metavar="ARCH:RECIPE:SEEDS")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--frost", action="store_true", help="the frost textures are at hand")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    given = parser.parse_args()
    set_threads(given.threads)
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    jobs = [tuple(job.split(":")) for job in given.jobs]
    for arch, recipe, seeds in jobs:
        for seed in map(int, seeds.split(",")):
            if any((line["arch"], line["recipe"], line["seed"]) == (arch, recipe, seed) for line in lines):
                continue
            lines.append(run_job(arch, recipe, seed, given))
            with RESULTS.open("a") as stream:
                stream.write(json.dumps(lines[-1]) + "\n")
            print(f"{arch} {recipe} {seed}: clean {100 * lines[-1]['clean']:.2f} %", flush=True)
    print(table(lines))


if __name__ == "__main__":
    main()
