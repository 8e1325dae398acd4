"""What `analyze` costs, and what it says of trained networks from public projects.

    python benchmarks/analyze.py speed              a network of ResNet-50's size, in a process of its own
    python benchmarks/analyze.py logger             SpectrumLogger against a training step
    FILTERBANDS_SHARED=... python benchmarks/analyze.py networks [--cifar DIR]

`speed` and `logger` write results/analyze_speed.json, a key each; `networks` writes
results/public_spectra.json and prints two tables of docs/frequencies.md. One thread throughout.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from filterbands import SpectrumLogger, load_data, load_model
from filterbands.filters import analyze, input_gradient_spectrum, trajectory
from filterbands.models import read_weights
from filterbands.version import git_revision

RESULTS = Path(__file__).parents[1] / "results"
CIFAR_MEAN = (0.4914, 0.4824, 0.4467)
# Name, file, and what the network subtracts from images in [0, 1] and divides them by.
NETWORKS = (
    ("ResNet-20", "akamaster/resnet20.safetensors", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("Marabou medium", "verified/marabou_cifar10_cifar_marabou_medium.pth", (0, 0, 0), (1, 1, 1)),
    ("SDP CNN-A mix", "verified/sdp_cifar_cnn_a_mix.model", CIFAR_MEAN, (0.2471, 0.2435, 0.2616)),
    ("ERAN conv small", "verified/eran_cifar_conv_small_pgd.pth", CIFAR_MEAN, (0.2023, 0.1994, 0.2010)),
)
# As their projects and the notes beside the files say: accuracy on clean images, and under PGD at 8/255.
TRAINING = {
    "ResNet-20": "standard, 91.7 %",
    "Marabou medium": "standard, 70.6 %, under attack 0.7 %",
    "SDP CNN-A mix": "robust, 76.0 %, under attack 8.4 %",
    "ERAN conv small": "adversarial, 63.0 %, under attack 17.9 %",
}


def resnet50_shapes() -> list[tuple[int, int, int, int]]:
    """Return (filters, channels, kernel, stride) of the 53 convolutions of ResNet-50.

    Source: He, Zhang, Ren, Sun 2016, arXiv:1512.03385, table 1, strides in the 3x3 layers.
    """
    shapes, channels = [(64, 3, 7, 2)], 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            step = stride if block == 0 else 1
            shapes += [(width, channels, 1, 1), (width, width, 3, step), (4 * width, width, 1, 1)]
            if block == 0:
                shapes.append((4 * width, channels, 1, step))
            channels = 4 * width
    return shapes


def peak_megabytes() -> int:
    """Return the most memory that this process had so far.

    Where Linux says it itself: what `getrusage` gives is at least that of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1e3)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def measure_speed() -> dict[str, Any]:
    """Return seconds and megabytes of analysing such a network in this process, the first time and again."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(c, f, k, stride=s, bias=False) for f, c, k, s in resnet50_shapes()]
    network = nn.Sequential(*layers)
    weights = sum(layer.weight.numel() for layer in layers)
    before = peak_megabytes()
    seconds = []
    for _ in range(6):
        begun = time.perf_counter()
        analyze(network)
        seconds.append(time.perf_counter() - begun)
    return {
        "convolutions": len(layers),
        "weights": weights,
        "first_seconds": round(seconds[0], 3),
        "seconds": round(statistics.median(seconds[1:]), 3),
        "megabytes_before": before,
        "megabytes": peak_megabytes(),
    }


def measure_logger(steps: int, batch: int, every: int) -> dict[str, Any]:
    """Return the seconds of a training step and of the logger's part of it, in one run."""
    torch.manual_seed(0)
    model = load_model(arch="cifar_resnet18_narrow")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, labels = torch.rand(batch, 3, 32, 32), torch.randint(10, (batch,))
    found: dict[str, Any] = {"arch": "cifar_resnet18_narrow", "batch": batch, "every": every, "steps": steps}
    loggers = {which: SpectrumLogger(model, layers=which, every=1) for which in ("first", "all")}
    step_seconds, spent = [], {which: logger.seconds for which, logger in loggers.items()}
    for _ in range(steps):
        begun = time.perf_counter()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        step_seconds.append(time.perf_counter() - begun)
        for logger in loggers.values():
            logger.step()
    step = statistics.median(step_seconds)
    found["step_seconds"] = round(step, 4)
    for which, logger in loggers.items():
        record = (logger.seconds - spent[which]) / steps
        found[which] = {
            "record_seconds": round(record, 5),
            "share_of_a_step": round(record / every / step, 6),
        }
    return found


def measure_networks(shared: Path, cifar: str) -> dict[str, Any]:
    """Return what is said of the public networks' first layers, and of the trajectory."""
    folder = shared / "data" / "checkpoints"
    data = load_data(f"cifar10:{cifar}").subset(torch.arange(2000)) if cifar else None
    rows = []
    for name, file, mean, std in NETWORKS:
        shift, scale = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (mean, std))
        images = None if data is None else (data.images.float() / 255 - shift) / scale
        first = analyze(read_weights(folder / file), data=images).spatial[0]
        row = {"network": name, "training": TRAINING[name], **first.to_row()}
        if first.sensitivity is not None and first.colour is not None:
            row["readings"] = first.sensitivity.to_json()
            row["colour"] = first.to_json()["colour"]
        if data is not None and name == "ResNet-20":
            model = load_model(folder / file, arch="cifar_resnet20", mean=mean, std=std)
            row["input_gradient"] = input_gradient_spectrum(model, data).to_json()
        rows.append(row)
    course = trajectory(folder / "caffe")
    kept = [row for row in course.rows if row["layer"] == "conv1"]
    for row in kept:
        row["checkpoint"] = Path(row["checkpoint"]).name
    return {"networks": rows, "trajectory": kept}


def networks_table(found: dict[str, Any]) -> str:
    """Return the first layers of the public networks as Markdown."""
    lines = [
        "| network | training | filters | low share | by chance | low energy | mean | at 0.282 | at 0.489 "
        "| centroid | leak at 0 | response |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["networks"]:
        narrow, _, wide = (reading["mean_low_energy"] for reading in row["readings"]["readings"])
        chance = f"{row['low_share_chance_low']:.2f} to {row['low_share_chance_high']:.2f}"
        figures = (row["low_energy"], row["mean_low_energy"], narrow, wide, row["centroid"], row["zero_leak"])
        lines.append(
            f"| {row['network']} | {row['training']} | {row['shape']}, {row['dead']} dead "
            f"| {row['low_share']:.3f} | {chance} | {' | '.join(map(_shown, figures))} "
            f"| {_shown(row['response_low_energy'])} |"
        )
    return "\n".join(lines)


def trajectory_table(found: dict[str, Any]) -> str:
    """Return the figures of one training over its steps as Markdown."""
    lines = ["| step | low share | low energy | mean | centroid | leak at 0 |", "|---" * 6 + "|"]
    keys = ("low_share", "low_energy", "mean_low_energy", "centroid", "zero_leak")
    for row in found["trajectory"]:
        lines.append(f"| {row['step']:,} | {' | '.join(_shown(row[key]) for key in keys)} |")
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def keep(file: Path, found: dict[str, Any]) -> None:
    """Put results into a file beside what it holds."""
    whole = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**whole, **found}, indent=1) + "\n")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("speed", "logger", "networks"))
    parser.add_argument("--cifar", default="", help="folder of CIFAR-10, for responses and gradients")
    parser.add_argument("--steps", type=int, default=20, help="training steps that logger times")
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--every", type=int, default=100, help="steps between records")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    facts = {
        "git": git_revision(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    if options.what == "speed" and options.here:
        print(json.dumps(measure_speed()))
    elif options.what == "speed":
        # A fresh process, so that the memory is that of this alone.
        command = [sys.executable, __file__, "speed", "--here"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        keep(RESULTS / "analyze_speed.json", {"resnet50": {**json.loads(done.stdout), **facts}})
        print(done.stdout)
    elif options.what == "logger":
        found = measure_logger(options.steps, options.batch, options.every)
        keep(RESULTS / "analyze_speed.json", {"logger": {**found, **facts}})
        print(json.dumps(found, indent=1))
    else:
        shared = os.environ.get("FILTERBANDS_SHARED", "")
        if not (Path(shared) / "data" / "checkpoints").is_dir():
            parser.error("FILTERBANDS_SHARED does not name a folder that holds data/checkpoints")
        found = measure_networks(Path(shared), options.cifar)
        keep(RESULTS / "public_spectra.json", {**found, **facts})
        print(f"{networks_table(found)}\n\n{trajectory_table(found)}")


if __name__ == "__main__":
    main()
