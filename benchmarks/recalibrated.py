"""What clean batch norm statistics do to networks whose training did not recalibrate them.

Trainings that perturb images by `spectral`, `modulate` or white noise end with batch norms recalibrated on an
epoch of clean training images; `standard` and the shares do not. For finished Runs of the protocol this
repeats that last step on `standard` and the like, evaluates the network again as docs/protocol.md says, and
appends both accuracies to results/recalibrated.jsonl.

    python benchmarks/recalibrated.py RUN [RUN ...]
"""

import argparse
import json
from pathlib import Path

import verdict
from collecting import check_versions, described
from machine import machine

from filterbands.control import recalibrate
from filterbands.datasets import load_data
from filterbands.engine import launch
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.models import load_model
from filterbands.run import Run
from filterbands.scores import BENCHMARK_15
from filterbands.training import from_plain
from filterbands.training.batches import Batches

RESULTS = Path(__file__).parents[1] / "results"
LINES = RESULTS / "recalibrated.jsonl"


def main() -> None:
    """Append a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    given = parser.parse_args()
    before = verdict.read()
    for folder in given.runs:
        run = Run(folder)
        made = described(run)
        config = from_plain(made["config"])
        of = (config.recipe, config.arch, config.epochs, config.seed)
        known = verdict.select(before, *of[:3])[config.seed]
        model = load_model(run.folder)
        fabric = launch(device="cpu", precision=run.precision, threads=1)
        batches = Batches.of(load_data(config.data, split=config.split), config, fabric.device)
        with fabric.autocast():
            recalibrate((batch.images for batch in batches.epoch(config.epochs + 1)), model)
        settings = EvaluateConfig(kinds=BENCHMARK_15, spread=True, precision=known["precision"])
        found = evaluate(model, load_data(config.data, split="test"), config=settings).to_json()
        line = {
            **dict(zip(("row", "arch", "epochs", "seed"), of, strict=True)),
            "clean": known["clean"],
            "average_15": known["average_15"],
            "clean_recalibrated": found["clean"]["accuracy"],
            "average_15_recalibrated": found["average_15"]["accuracy"],
            "kinds_recalibrated": found["kinds"],
            **machine(),
        }
        with LINES.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print({name: value for name, value in line.items() if name != "kinds_recalibrated"}, flush=True)


if __name__ == "__main__":
    check_versions()
    main()
