"""Evaluate the half-precision weights of results/weights/ as the protocol's networks were evaluated.

Each file is a copy of a network of results/protocol.jsonl, rounded to float16. Its clean accuracy and that
over the 15 and 19 kinds are appended to results/kept_weights.jsonl where they are missing. The docs show them
beside those of the float32 network.

    python benchmarks/kept_weights.py
"""

import json
from pathlib import Path

from collecting import check_versions
from machine import machine

import filterbands as fb
from filterbands.evaluation import EvaluateConfig

RESULTS = Path(__file__).parents[1] / "results"
LINES = RESULTS / "kept_weights.jsonl"


def main() -> None:
    """Append what is missing."""
    there = [json.loads(text) for text in LINES.read_text().splitlines()] if LINES.exists() else []
    known = {line["file"] for line in there}
    config = EvaluateConfig(spread=True, precision="bfloat16")
    for file in sorted((RESULTS / "weights").glob("*.safetensors")):
        if file.name in known:
            continue
        scores = fb.evaluate(fb.load_model(file), fb.load_data("cifar10", split="test"), config=config)
        found = scores.to_json()
        row, arch, epochs, seed = file.stem.rsplit("-", 3)
        line = {
            "file": file.name,
            "row": row,
            "arch": arch,
            "epochs": int(epochs),
            "seed": int(seed),
            "clean": found["clean"]["accuracy"],
            "average_15": found["average_15"]["accuracy"],
            "average_19": found["average_19"]["accuracy"],
            "precision": found["precision"],
            **machine(),
        }
        with LINES.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print(f"{file.name}: {line['clean']:.4f} clean, {line['average_15']:.4f} on 15", flush=True)


if __name__ == "__main__":
    check_versions()
    main()
