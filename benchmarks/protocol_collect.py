"""Copy the finished runs of protocol studies into results/protocol.jsonl, with the bits of every cell.

Reads folders that `filterbands study benchmarks/protocol/NAME.json --out DIR` fills (docs/protocol.md). For
each finished run that is not in results/protocol.jsonl yet it appends a line, and writes

    results/protocol/bits/NAME.npz    per-image bits of the clean cell and of the 19 kinds
    results/protocol/sealed/NAME.npz  those of C-bar, evaluated here; nothing of them is printed or averaged

A run of a revision that was not clean is refused. Lines of runs that `emulated_bfloat16.py` computed say so.

    python benchmarks/protocol_collect.py DIR [DIR ...]
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from collecting import append_missing, check_versions, described, facts, pack

from filterbands.corruptions import kinds_of
from filterbands.datasets import load_data
from filterbands.disk import write_weights
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.models import load_model, read_weights
from filterbands.run import Run

RESULTS = Path(__file__).parents[1] / "results"
LINES = RESULTS / "protocol.jsonl"
# Networks whose weights are kept in half precision, as rows and epochs; always of this seed.
KEPT_SEED = 10
KEPT_ARCH = "cifar_resnet18_narrow"
KEPT = {("share_0", 12), ("share_low", 12)}
KEPT_EPOCHS = 40


def collect(folder: Path, line: dict[str, Any]) -> dict[str, Any]:
    """Evaluate a run, all of it from the study's database but C-bar, and return its line."""
    run = Run(folder / line["name"])
    made = described(run)
    model = load_model(run.folder)
    test = load_data(made["config"]["data"], split="test")
    config = EvaluateConfig(
        name=line["name"], kinds=kinds_of("c"), spread=True, precision=line["evaluation"]["precision"]
    )
    row, epochs, seed = line["recipe"], line["epochs"], line["seed"]
    name = f"{row}-{line['arch']}-{epochs}-{seed}"
    scores = evaluate(model, test, config=config, db=folder / "results.db")
    pack(scores, RESULTS / "protocol" / "bits" / f"{name}.npz")
    sealed = evaluate(model, test, config=replace(config, kinds=kinds_of("cbar")))
    pack(sealed, RESULTS / "protocol" / "sealed" / f"{name}.npz")
    is_small = line["arch"] == KEPT_ARCH
    if is_small and seed == KEPT_SEED and ((row, epochs) in KEPT or epochs == KEPT_EPOCHS):
        kept = RESULTS / "weights" / f"{name}.safetensors"
        kept.parent.mkdir(parents=True, exist_ok=True)
        weights = sorted(read_weights(run.weights).items())
        halves = {key: value.half() if value.is_floating_point() else value for key, value in weights}
        write_weights(kept, halves, {"arch": line["arch"]})
    found = scores.to_json()
    return {
        "row": row,
        "arch": line["arch"],
        "epochs": epochs,
        "seed": seed,
        "clean": found["clean"]["accuracy"],
        "average_15": found["average_15"]["accuracy"],
        "average_19": found["average_19"]["accuracy"],
        "average_cbar": None,
        "bits": f"protocol/bits/{name}.npz",
        "kinds": found["kinds"],
        "precision": found["precision"],
        **facts(run, line),
    }


def main() -> None:
    """Append what is missing."""
    append_missing(
        LINES,
        __doc__,
        collect,
        lambda _: "collected",
    )


if __name__ == "__main__":
    check_versions()
    main()
