"""Time a whole evaluation against its parts, and what statistics cost.

    python benchmarks/evaluate.py [--data SPEC] [--images 10000] [--arch fastnet] [--threads N] [--workers N]
                                  [--severities 1,2,3,4,5] [--table]

In one run, on the same machine and threads: making the corrupted images of the benchmark's 15 kinds alone,
the bare network on as many images, and `evaluate`, which does both into a database. The ratio is evaluate to
the sum of the parts. Figures go to results/evaluate_speed.json.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine

from filterbands import corrupt, evaluate, load_data, load_model
from filterbands.evaluation import EvaluateConfig
from filterbands.scores import BENCHMARK_15, compare_kinds

RESULTS = Path(__file__).parents[1] / "results" / "evaluate_speed.json"
BATCH = 500


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="planted")
    parser.add_argument("--images", type=int, default=10000)
    parser.add_argument("--arch", default="fastnet")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--severities", default="1,2,3,4,5")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    if not options.table:
        RESULTS.write_text(json.dumps(measure(options), indent=1) + "\n")
    print(table(json.loads(RESULTS.read_text())))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return seconds of the parts and of the whole."""
    torch.set_num_threads(options.threads)
    described = machine()
    torch.manual_seed(0)
    data = load_data(options.data)
    data = data.subset(torch.arange(options.images) % len(data))
    severities = tuple(int(part) for part in options.severities.split(","))
    model = load_model(arch=options.arch).eval()
    making = _making(data, severities)
    with torch.inference_mode():
        model(torch.zeros(BATCH, *data.images.shape[1:]).contiguous(memory_format=torch.channels_last))
        started = time.perf_counter()
        for _ in range(len(BENCHMARK_15) * len(severities)):
            for batch in torch.split(data.images, BATCH):
                floats = batch.float().div_(255).contiguous(memory_format=torch.channels_last)
                model(floats).argmax(dim=1)
    inference = time.perf_counter() - started
    config = EvaluateConfig(
        kinds=BENCHMARK_15, severities=severities, batch_size=BATCH, workers=options.workers
    )
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        scores = evaluate(model, data, config=config, db=Path(folder) / "r.db")
        whole = time.perf_counter() - started
    started = time.perf_counter()
    scores.to_json()
    statistics = time.perf_counter() - started
    started = time.perf_counter()
    compare_kinds(scores, scores)
    comparison = time.perf_counter() - started
    return {
        "images": len(data),
        "cells": len(BENCHMARK_15) * len(severities),
        "arch": options.arch,
        "threads": options.threads,
        "workers": options.workers,
        **described,
        "seconds": {
            "making": making,
            "inference": inference,
            "evaluate": whole,
            "scores with intervals": statistics,
            "comparison of 15 kinds": comparison,
        },
        "ratio_to_sum": whole / (making + inference),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _making(data: Any, severities: tuple[int, ...]) -> float:
    started = time.perf_counter()
    for kind in BENCHMARK_15:
        for severity in severities:
            for start in range(0, len(data), 1000):
                part = slice(start, start + 1000)
                corrupt(data.images[part], kind, severity=severity, seed=0, index=data.index[part])
    return time.perf_counter() - started


def table(found: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = [
        f"{found['cells']} cells x {found['images']:,} images, {found['arch']}, {found['threads']} threads, "
        f"{found['workers']} workers, {found['cores']} cores, load {found['load']:.1f}",
        "",
        "| | seconds |",
        "|---|---|",
    ]
    lines += [f"| {name} | {seconds:.1f} |" for name, seconds in found["seconds"].items()]
    lines += [
        "",
        f"evaluate takes {found['ratio_to_sum']:.2f} of making and inference together; "
        f"peak memory {found['peak_mib']:.0f} MiB.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
