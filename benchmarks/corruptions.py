"""Time every kind of corruption, the whole command, and peers in one run.

    python benchmarks/corruptions.py [--kinds c|cbar|a,b] [--size PIXELS] [--images N]
                                     [--peers PYTHON] [--command SPEC] [--table]

Figures go to results/corruptions_speed.json. Kinds are timed in processor time of one thread, on `--images`
images at once. `--peers` names the Python of an environment with
`pip install imagecorruptions-imaug==1.1.5 corrupt-tta==0.1.7`; they take one image at a time and know the
constants of ImageNet-C alone, so they stand beside ours with the same constants. `--command` times
`filterbands corrupt SPEC`, start-up and writing included, on 1,000 images and on all, two workers; `made`
stands for `--images` generated ones. `as_run` is how many times as long a peer's one process takes an image.
"""

import argparse
import datetime
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from filterbands import rng
from filterbands.corruptions import corrupt, expand_kinds
from filterbands.datasets import load_data
from filterbands.engine import device_name

RESULTS = Path(__file__).parents[1] / "results" / "corruptions_speed.json"
PEERS = {"imagecorruptions-imaug 1.1.5": "imagecorruptions", "corrupt-tta 0.1.7": "corrupt_tta"}
PEER_IMAGES = 10


def main() -> None:
    """Print tables and merge the figures into the results, a block a size and set of kinds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kinds", default="c")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--peers", metavar="PYTHON")
    parser.add_argument("--command", metavar="SPEC")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not options.table:
        name = f"{options.kinds}-{options.size}"
        found[name] = measure(options)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print("\n\n".join(table(name, block) for name, block in found.items()))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return one block of figures."""
    torch.set_num_threads(1)
    table = "imagenet" if options.size >= 128 else "cifar"
    kinds = expand_kinds(options.kinds.split(","), parameters=table)
    images = smooth_images(options.images, options.size)
    block: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "cpu": device_name(torch.device("cpu")),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "images": options.images,
        "size": options.size,
        "parameters": table,
        "ms_per_image": {kind: times(images, kind, table) for kind in kinds},
    }
    block["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    block["core_seconds_of_10000"] = 10 * sum(map(sum, block["ms_per_image"].values()))
    if options.command:
        block["command_seconds"], block["command_images"] = commands(options, table)
    if options.peers:
        few = smooth_images(PEER_IMAGES, options.size)
        ours = block["ms_per_image"]
        if table != "imagenet":
            ours = {kind: times(images, kind, "imagenet") for kind in kinds}
        block["ms_per_image_imagenet"] = ours
        block["peers"] = {name: peer(options.peers, module, few, kinds) for name, module in PEERS.items()}
        block["ratios"] = {name: ratio(ours, theirs) for name, theirs in block["peers"].items()}
        if options.command:
            one = 1000 * block["command_seconds"]["all"] / (block["command_images"] * 5 * len(kinds))
            block["as_run"] = {name: mean(theirs) / one for name, theirs in block["peers"].items()}
    return block


def times(images: torch.Tensor, kind: str, table: str) -> list[float]:
    """Return milliseconds an image at severities 1 to 5, the shorter of two runs."""
    row = []
    for severity in range(1, 6):
        corrupt(images[:1], kind, severity=severity, seed=0, parameters=table)  # fills its tables
        runs = []
        for _ in range(2):
            start = time.process_time()
            corrupt(images, kind, severity=severity, seed=0, parameters=table)
            runs.append(1000 * (time.process_time() - start) / len(images))
        row.append(min(runs))
    print(f"{kind:26}" + "".join(f"{value:9.3f}" for value in row), file=sys.stderr, flush=True)
    return row


def commands(options: argparse.Namespace, table: str) -> tuple[dict[str, float], int]:
    """Return seconds of the whole command on 1,000 images and on all, and how many all are."""
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        spec = options.command
        if spec == "made":
            spec = f"npz:{folder}/made.npz"
            made = smooth_images(options.images, options.size).numpy()
            np.savez(f"{folder}/made.npz", images=made, labels=np.arange(len(made)) % 10)
        count = len(load_data(spec, split="test"))
        for limit in (1000, 0) if count > 1000 else (0,):
            words = [sys.executable, "-m", "filterbands", "corrupt", spec, "--out", f"{folder}/{limit}"]
            words += ["--kinds", options.kinds, "--parameters", table, "--workers", "2"]
            words += ["--limit", str(limit)] if limit else []
            start = time.perf_counter()
            subprocess.run(words, check=True, stdout=sys.stderr)
            seconds[str(limit) if limit else "all"] = time.perf_counter() - start
            shutil.rmtree(f"{folder}/{limit}")
    return seconds, count


def peer(python: str, module: str, images: torch.Tensor, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Return a peer's milliseconds an image, from a process of its environment."""
    script = Path(__file__).with_name("corruptions_peer.py")
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file, images.permute(0, 2, 3, 1).contiguous().numpy())
        file.flush()
        words = [python, str(script), module, file.name, ",".join(kinds)]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    times: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return times


def ratio(ours: dict[str, list[float]], theirs: dict[str, list[float | None]]) -> dict[str, Any]:
    """Return how many times longer the peer takes, over the cells that it can make."""
    cells = [
        (mine, their)
        for kind, row in theirs.items()
        for mine, their in zip(ours[kind], row, strict=True)
        if their is not None
    ]
    failed = [kind for kind, row in theirs.items() if None in row]
    total = sum(their for _, their in cells) / sum(mine for mine, _ in cells)
    return {"times": total, "cells": len(cells), "kinds_that_fail": failed}


def mean(table: dict[str, list[float | None]]) -> float:
    """Return the mean of the cells that are there."""
    cells = [value for row in table.values() for value in row if value is not None]
    return sum(cells) / len(cells)


def smooth_images(count: int, size: int) -> torch.Tensor:
    """Return images with the statistics that matter for time: smooth, coloured, with flat areas."""
    coarse = rng.uniform(rng.keys(0, "benchmark", index=torch.arange(count)), (3, 8, 8))
    images = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return images.mul(320).sub(32).clamp(0, 255).to(torch.uint8)


def table(name: str, block: dict[str, Any]) -> str:
    """Return a block as Markdown."""
    ours = (
        f"{name}: {block['images']} images of {block['size']} pixels, constants `{block['parameters']}`; one "
        f"thread of {block['cpu']}, {block['date']}; 10,000 images take "
        f"{block['core_seconds_of_10000']:.1f} s of one core; peak {block['peak_gib']:.2f} GiB"
    )
    command = [
        f"command, {key} images: {value:.1f} s" for key, value in block.get("command_seconds", {}).items()
    ]
    peers = [
        f"{peer}: {value['times']:.1f} times longer over {value['cells']} cells; "
        f"fails at {', '.join(value['kinds_that_fail']) or 'none'}"
        for peer, value in block.get("ratios", {}).items()
    ]
    peers += [
        f"{peer}: {value:.1f} times the command on two cores"
        for peer, value in block.get("as_run", {}).items()
    ]
    lines = [
        ours,
        *command,
        *peers,
        "",
        "| kind | ms for 1,000 images at severity 1 to 5 |",
        "|---|---|",
    ]
    for kind, row in block["ms_per_image"].items():
        lines.append(f"| `{kind}` | {' · '.join(f'{1000 * value:.0f}' for value in row)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
