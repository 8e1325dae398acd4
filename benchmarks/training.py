"""Images a second of the training loop beside a straightforward torch loop, and where a step's time goes.

    python benchmarks/training.py --arch fastnet --threads 2
    python benchmarks/training.py --arch fastnet --data cifar10:DIR --epochs 5      and the accuracy reached
    python benchmarks/training.py --arch fastnet --compile                          and compiled by torch

The peer is what one writes first: float32, NCHW, torch's own SGD, the same crops and flips an image at a time
in the data set, a DataLoader without workers. Same network, same batch, same schedule. Figures go to
results/training_speed.json.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from machine import machine
from torch import Tensor, nn

from filterbands.datasets import ImageSet, load_data
from filterbands.engine import pick_device, set_threads
from filterbands.models import load_model
from filterbands.training import TrainConfig, measure_step, train

RESULTS = Path(__file__).parents[1] / "results" / "training_speed.json"
PARTS = ("data", "augmentation", "forward", "backward", "update")


class Peer(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images with a random crop and flip each."""

    def __init__(self, data: ImageSet) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        image = F.pad(self.data.images[place].float() / 255, (4, 4, 4, 4), mode="reflect")
        height, width = self.data.images.shape[2:]
        down, right = torch.randint(0, 9, (2,)).tolist()
        image = image[:, down : down + height, right : right + width]
        return (image.flip(2) if torch.rand(()) < 0.5 else image), int(self.data.labels[place])


def peer(
    data: ImageSet, config: TrainConfig, device: str, epochs: int, steps: int = 0
) -> tuple[nn.Module, float]:
    """Train by the plain loop and return the network and its images a second."""
    torch.manual_seed(0)
    place = pick_device(device)
    model = load_model(arch=config.arch, classes=len(data.classes)).to(place)
    loader = torch.utils.data.DataLoader(Peer(data), config.batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate, momentum=0.9, nesterov=True)
    total, done, began = epochs * len(loader), 0, time.perf_counter()
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=max(total, steps) + 1, pct_start=0.2
    )
    for _ in range(epochs):
        for images, labels in loader:
            loss = F.cross_entropy(model(images.to(place)), labels.to(place), label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            done += 1
            if done == steps:
                break
    return model, done * config.batch_size / (time.perf_counter() - began)


@torch.no_grad()
def accuracy(model: nn.Module, data: ImageSet) -> float:
    """Return the share of images that are named right."""
    device = next(model.parameters()).device
    model.eval()
    hits = 0
    for start in range(0, len(data), 500):
        images = data.images[start : start + 500].to(device).float() / 255
        hits += int((model(images).argmax(dim=1).cpu() == data.labels[start : start + 500]).sum())
    return hits / len(data)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="fastnet")
    parser.add_argument("--data", default="planted")
    parser.add_argument("--method", default="standard")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=0, help="also train so long, and compare accuracies")
    parser.add_argument("--compile", action="store_true", help="also measure the network compiled by torch")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    set_threads(given.threads)
    rows = json.loads(given.results.read_text()) if given.results.exists() else {}
    rows[given.arch] = found = measure(given)
    given.results.write_text(json.dumps(rows, indent=1) + "\n")
    print(
        f"{given.arch}, {given.threads} threads: {found['images_per_second']:,.0f} images/s, the plain loop "
        f"{found['plain_loop_images_per_second']:,.0f}: {found['ratio']:.2f} times"
    )
    for name, share in found["shares_of_a_step"].items():
        print(f"  {name}: {100 * share:.1f} % of a step")
    if "compiled" in found:
        compiled = found["compiled"]
        print(f"  compiled: {compiled['ratio']:.2f} times as fast, after {compiled['seconds_before']:.0f} s")
    if "accuracies" in found:
        for name, (reached, seconds) in found["accuracies"].items():
            print(f"  {name}: {100 * reached:.2f} % of validation images after {seconds:.0f} s")


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Return images a second of both loops, the shares of a step, and accuracies where epochs are asked."""
    data = load_data(given.data, split="train")
    config = TrainConfig(arch=given.arch, method=given.method, data=given.data)
    described = machine(given.device)
    # The plain loop first: it has the process as torch leaves it.
    theirs = peer(data, config, given.device, 1, given.steps)[1]
    parts = measure_step(config, data, steps=given.steps, device=given.device)
    ours = config.batch_size / parts.total
    found = {
        "images_per_second": round(ours, 1),
        "plain_loop_images_per_second": round(theirs, 1),
        "ratio": round(ours / theirs, 3),
        "shares_of_a_step": {name: round(getattr(parts, name) / parts.total, 4) for name in PARTS},
        "threads": given.threads,
        "steps": given.steps,
        **described,
    }
    if given.compile:
        began = time.perf_counter()
        parts = measure_step(replace(config, compile=True), data, steps=given.steps, device=given.device)
        first = time.perf_counter() - began - given.steps * parts.total
        images = config.batch_size / parts.total
        found["compiled"] = {
            "images_per_second": round(images, 1),
            "ratio": round(images / ours, 3),
            "seconds_before": round(first, 1),
        }
    if given.epochs:
        found["epochs"], found["accuracies"] = given.epochs, accuracies(given, data)
    return found


def accuracies(given: argparse.Namespace, data: ImageSet) -> dict[str, tuple[float, float]]:
    """Return accuracy on validation images and seconds of training, of both loops."""
    test = load_data(given.data, split="validation")
    config = TrainConfig(arch=given.arch, method=given.method, data=given.data, epochs=given.epochs)
    with tempfile.TemporaryDirectory() as folder:
        run = train(config, Path(folder) / "run", device=given.device)
        ours = accuracy(load_model(run.folder), test), float(run.read()["seconds"])
    began = time.perf_counter()
    model, _ = peer(data, config, given.device, given.epochs)
    seconds = time.perf_counter() - began
    return {"ours": ours, "plain loop": (accuracy(model, test), seconds)}


if __name__ == "__main__":
    main()
