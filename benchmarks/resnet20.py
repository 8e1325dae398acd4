"""Evaluate the public ResNet-20 on 1,000 images, beside its accuracy on the original generator's images.

    python benchmarks/resnet20.py CHECKPOINT STATISTICS cifar10:DIR [--images 1000] [--table]

CHECKPOINT is resnet20-12fca82f of akamaster/pytorch_resnet_cifar10 (any format). STATISTICS is a JSON file
with `cells[kind][severity][seed0].resnet20_accuracy`, the network's accuracy on the first 1,000 test images
as the original CIFAR-10-C functions corrupt them, and `resnet20_summary`. Figures go to
results/resnet20_reference.json; `--table` prints what is there as Markdown.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch

from filterbands import load_data, load_model
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.scores import BENCHMARK_15, EXTRA_4, Scores

RESULTS = Path(__file__).parents[1] / "results" / "resnet20_reference.json"
# `filterbands evaluate --json` of the same network on all test images.
WHOLE = RESULTS.with_name("resnet20_full.json")
# Either JPEG library is right.
VARIANTS = {"jpeg_compression": ("jpeg_compression", "jpeg_compression@turbo")}


def main() -> None:
    """Evaluate, compare, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("statistics", nargs="?")
    parser.add_argument("data", nargs="?")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    if not options.table:
        if not options.data:
            parser.error("CHECKPOINT, STATISTICS and cifar10:DIR are needed")
        torch.set_num_threads(1)
        started = time.perf_counter()
        scores = run(options.checkpoint, options.data, images=options.images)
        found = beside(scores, json.loads(Path(options.statistics).read_text()))
        found["seconds"] = round(time.perf_counter() - started, 1)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(table(*read()))


def read() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what was measured on the first images, and on all."""
    return json.loads(RESULTS.read_text()), json.loads(WHOLE.read_text())


def run(checkpoint: str | Path, data: str, *, images: int) -> Scores:
    """Return the network's scores on the first images."""
    model = load_model(
        checkpoint, arch="cifar_resnet20", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    return evaluate(model, load_data(data, limit=images), config=EvaluateConfig(name="resnet20"))


def beside(scores: Scores, statistics: dict[str, Any]) -> dict[str, Any]:
    """Return our accuracies beside the reference's, cell by cell, and how many lie outside."""
    count = len(scores.labels)
    cells = {}
    for kind in BENCHMARK_15 + EXTRA_4:
        for severity in range(1, 6):
            ours = scores.cells[kind, severity].accuracy
            theirs = [
                statistics["cells"][name][str(severity)]["seed0"]["resnet20_accuracy"]
                for name in VARIANTS.get(kind, (kind,))
            ]
            nearest = min(theirs, key=lambda value, ours=ours: abs(value - ours))
            sigma = math.sqrt(nearest * (1 - nearest) / count)
            cells[f"{kind} {severity}"] = {
                "ours": ours,
                "reference": nearest,
                "sigmas": round((ours - nearest) / sigma, 2),
            }
    summary, averages = statistics["resnet20_summary"], {}
    for name, estimate, reference in (
        ("clean", scores.clean_estimate(), summary["clean"]),
        ("average_15", scores.average_15(), summary["mean15_seed0"]),
        ("average_19", scores.average_19(), summary["mean19_seed0"]),
    ):
        assert estimate is not None
        averages[name] = {**estimate.to_json(), "reference": reference}
    return {
        "images": count,
        "averages": averages,
        "outside_95": sum(abs(cell["sigmas"]) > 1.96 for cell in cells.values()),
        "outside_4_sigma": sum(abs(cell["sigmas"]) > 4 for cell in cells.values()),
        "cells": cells,
    }


def table(found: dict[str, Any], whole: dict[str, Any]) -> str:
    """Return all figures as Markdown."""
    outside = (
        f"{found['outside_95']} of {len(found['cells'])} cells outside the binomial 95 % interval at "
        f"{found['images']:,} images, {found['outside_4_sigma']} outside 4 sigma."
    )
    return f"{averages(found, whole)}\n\n{kinds(found)}\n\n{outside}"


def averages(found: dict[str, Any], whole: dict[str, Any]) -> str:
    """Return the averages of both numbers of images as Markdown."""
    heads = ("figure", "images", "images corrupted here", "95 % interval", "images of the original functions")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, reference in found["averages"].items():
        for count, entry in ((found["images"], reference), (whole["images"], whole[name])):
            low, high = (100 * end for end in entry["ci95"])
            theirs = f"{100 * reference['reference']:.2f}" if count == found["images"] else ""
            figures = (f"{count:,}", f"{100 * entry['accuracy']:.2f}", f"{low:.2f} to {high:.2f}", theirs)
            lines.append(f"| {name} | {' | '.join(figures)} |")
    return "\n".join(lines)


def kinds(found: dict[str, Any]) -> str:
    """Return a row per kind as Markdown."""
    lines = [
        "| kind | images corrupted here, mean of 5 severities | original | largest distance, sigmas |",
        "|---" * 4 + "|",
    ]
    for kind in BENCHMARK_15 + EXTRA_4:
        rows = [found["cells"][f"{kind} {severity}"] for severity in range(1, 6)]
        ours, theirs = (sum(row[name] for row in rows) / 5 for name in ("ours", "reference"))
        largest = max((row["sigmas"] for row in rows), key=abs)
        lines.append(f"| `{kind}` | {100 * ours:.1f} | {100 * theirs:.1f} | {largest:+.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
