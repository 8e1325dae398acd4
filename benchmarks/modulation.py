"""What control, modulation and perturbed spectra cost: the time of a training step, paired in one run.

    python benchmarks/modulation.py --archs cifar_resnet18,cifar_resnet18_narrow --threads 2

Each round times one step (forward, backward, SGD) of every variant on the same batch, in an order that
turns, so that a machine that is busy for a while is so for all. The overhead is the median over rounds of the
ratio to the plain step of the same round, with its middle half beside it. At inference a baked network is the
plain one, which is checked of its layers, parameters and outputs. Figures go to
results/modulation_overhead.json.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
import torch.nn.functional as F
from machine import machine
from torch import nn

from filterbands.control import SpectralNoise, bake, modulate, set_share
from filterbands.engine import keep_memory, set_threads
from filterbands.models import load_model

RESULTS = Path(__file__).parents[1] / "results" / "modulation_overhead.json"


def _plain(model: nn.Module) -> nn.Module:
    return model


def _share(model: nn.Module) -> nn.Module:
    set_share(model.get_submodule("conv1"), low=0.75)
    return model


def _modulated(model: nn.Module) -> nn.Module:
    modulate(model.get_submodule("conv1"))
    return model


def _eigen(model: nn.Module) -> nn.Module:
    modulate(model.get_submodule("conv1"), bands="eigen")
    return model


def _noisy(model: nn.Module) -> nn.Module:
    return nn.Sequential(SpectralNoise(strength=1.0, gain=1.0, noise=0.06, clean=0.4), model)


VARIANTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": _plain,
    "set_share": _share,
    "modulate": _modulated,
    'modulate(bands="eigen")': _eigen,
    "SpectralNoise": _noisy,
}


class Step:
    """One training step of a network, to be timed."""

    def __init__(self, network: nn.Module, precision: str, batch: int, device: str) -> None:
        self.network = network.to(device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.01, momentum=0.9)
        self.images = torch.rand(batch, 3, 32, 32, device=device)
        self.labels = torch.randint(0, 10, (batch,), device=device)
        self.device, self.mixed = device, precision == "bfloat16"

    def seconds(self) -> float:
        """Take the step and return how long it took."""
        begun = time.perf_counter()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.mixed):
            loss = F.cross_entropy(self.network(self.images), self.labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun


def overheads(arch: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each variant of one network: times, and percent above the plain step's."""
    torch.manual_seed(0)
    base = load_model(arch=arch)
    steps = {
        name: Step(make(copy.deepcopy(base)), given.precision, given.batch, given.device)
        for name, make in VARIANTS.items()
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    for number in range(given.rounds + 2):
        for name in order:
            taken = steps[name].seconds()
            if number >= 2:
                times[name].append(taken)
        order = order[1:] + order[:1]
    rows = []
    for name, seconds in times.items():
        ratios = [100 * (taken / plain - 1) for taken, plain in zip(seconds, times["plain"], strict=True)]
        low, middle, high = (round(value, 2) for value in quantiles(ratios, n=4))
        row = {"arch": arch, "first_layer": name, "milliseconds": round(1000 * median(seconds), 1)}
        rows.append({**row, "overhead_percent": middle, "middle_half": [low, high]})
    return rows


def inference(arch: str, given: argparse.Namespace) -> dict[str, Any]:
    """Return how a baked network's outputs and time differ from the plain one's."""
    torch.manual_seed(0)
    plain = load_model(arch=arch).to(given.device).eval()
    images = torch.rand(given.batch, 3, 32, 32, device=given.device)
    controlled = copy.deepcopy(plain)
    set_share(controlled.get_submodule("conv1"), low=0.75)
    with torch.inference_mode():
        before = controlled(images)
        baked = bake(controlled)
        difference = float((baked(images) - before).abs().max() / before.abs().max())
        assert [type(module) for module in baked.modules()] == [type(module) for module in plain.modules()]
        assert [p.shape for p in baked.parameters()] == [p.shape for p in plain.parameters()]
        ratios = []
        for _ in range(given.rounds):
            taken = []
            for network in (plain, baked):
                begun = time.perf_counter()
                network(images)
                if given.device == "cuda":
                    torch.cuda.synchronize()
                taken.append(time.perf_counter() - begun)
            ratios.append(100 * (taken[1] / taken[0] - 1))
    return {
        "arch": arch,
        "largest_relative_difference": difference,
        "overhead_percent": round(median(ratios), 2),
    }


def table(found: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = [
        f"{found['batch']} images a step, {found['precision']}, {found['threads']} threads, "
        f"{found['rounds']} rounds, load {found['load']}",
        "",
        "| network | first layer | ms a step | overhead, median (middle half) |",
        "|---|---|---|---|",
    ]
    for row in found["steps"]:
        low, high = row["middle_half"]
        change = f"{row['overhead_percent']:+.1f} % ({low:+.1f} to {high:+.1f})"
        change = "" if row["first_layer"] == "plain" else change
        lines.append(f"| `{row['arch']}` | {row['first_layer']} | {row['milliseconds']:.1f} | {change} |")
    lines.append("")
    for row in found["inference"]:
        lines.append(
            f"`{row['arch']}` baked: the same layers and parameters, outputs within "
            f"{row['largest_relative_difference']:.1e}, inference {row['overhead_percent']:+.1f} % of the "
            "plain network's time"
        )
    return "\n".join(lines)


def main() -> None:
    """Time and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archs", default="cifar_resnet18,cifar_resnet18_narrow")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only print what is there")
    given = parser.parse_args()
    if not given.table:
        set_threads(given.threads)
        keep_memory()
        archs = given.archs.split(",")
        found = {
            **{name: getattr(given, name) for name in ("batch", "precision", "threads", "rounds")},
            **machine(given.device),
            "steps": [row for arch in archs for row in overheads(arch, given)],
            "inference": [inference(arch, given) for arch in archs],
        }
        given.results.write_text(json.dumps(found, indent=1) + "\n")
    print(table(json.loads(given.results.read_text())))


if __name__ == "__main__":
    main()
