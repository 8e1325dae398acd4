"""What `shrink` gains and loses without training: clean, under Gaussian noise and the four extra kinds.

    python benchmarks/shrink.py resnet20.safetensors --arch cifar_resnet20 --data cifar10:DIR \
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --noise 0.03 --limit 5000 --name ResNet-20
    python benchmarks/shrink.py small.pth --layers 16s2,32s2,128,64,10 --data cifar10:DIR \
        --noise 0.03,0.06,0.1 --name "Marabou medium"

Patches are taken from the first 1,000 images of `train`; accuracies are on `test`, where each image sees
every kind at one severity. --layers builds a plain network of 4x4 convolutions (filters, stride) and dense
layers with ReLU between, as some verified networks are.
"""

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import torch
from analyze import keep
from machine import machine
from torch import nn

from filterbands.control import shrink
from filterbands.datasets import load_data
from filterbands.engine import set_threads
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.models import load_model, read_weights

RESULTS = Path(__file__).parents[1] / "results" / "shrink.json"
KINDS = ("gaussian_noise", "speckle_noise", "gaussian_blur", "spatter", "saturate")


def plain_network(text: str, path: str) -> nn.Module:
    """Return a network of 4x4 convolutions without padding and dense layers, with a file's weights."""
    modules: list[nn.Module] = []
    channels, side, dense = 3, 32, 0
    for part in text.split(","):
        if "s" in part:
            filters, stride = map(int, part.split("s"))
            modules += [nn.Conv2d(channels, filters, 4, stride), nn.ReLU()]
            channels, side = filters, (side - 4) // stride + 1
        else:
            if not dense:
                modules.append(nn.Flatten())
            modules += [nn.Linear(dense or channels * side * side, int(part)), nn.ReLU()]
            dense = int(part)
    model = nn.Sequential(*modules[:-1])
    model.load_state_dict(read_weights(path))
    return model.eval()


def main() -> None:
    """Shrink at every level and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--arch", default="")
    parser.add_argument("--layers", default="")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--mean", default="")
    parser.add_argument("--std", default="")
    parser.add_argument("--noise", default="0.02,0.03,0.05")
    parser.add_argument("--images", type=int, default=1000, help="images whose patches are taken")
    parser.add_argument("--limit", type=int, default=0, help="score the first N images; 0 for all")
    parser.add_argument("--name", default="", help="what the network is called in results/shrink.json")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    set_threads(given.threads)
    if given.layers:
        model = plain_network(given.layers, given.model)
    else:
        mean, std = (tuple(map(float, text.split(","))) if text else None for text in (given.mean, given.std))
        model = load_model(given.model, arch=given.arch or None, mean=mean, std=std)
    seen = load_data(given.data, split="train").subset(torch.arange(given.images))
    test = load_data(given.data, split="test", limit=given.limit or None)
    facts, rows = machine(), []
    for level in (0.0, *map(float, given.noise.split(","))):
        network, taken = copy.deepcopy(model), 0.0
        if level:
            begun = time.perf_counter()
            shrink(network, seen, noise=level)
            taken = time.perf_counter() - begun
        scores = evaluate(network, test, config=EvaluateConfig(kinds=KINDS, spread=True)).to_json()
        kinds = {kind: sum(scores["kinds"][kind]) / 5 for kind in KINDS}
        rows.append(
            {"noise": level, "seconds": round(taken, 2), "clean": scores["clean"]["accuracy"], "kinds": kinds}
        )
    found = {given.name or given.model: {"images": len(test), "seen": given.images, "rows": rows, **facts}}
    if given.name:
        keep(RESULTS, found)
    print(table(found))


def table(found: dict[str, Any]) -> str:
    """Return a row per network and level as Markdown, in percent."""
    lines = [f"| network | noise | clean | {' | '.join(KINDS)} |", "|---" * (3 + len(KINDS)) + "|"]
    for name, network in found.items():
        for row in network["rows"]:
            figures = [row["clean"], *(row["kinds"][kind] for kind in KINDS)]
            level = f"{row['noise']:g}" if row["noise"] else "unchanged"
            lines.append(f"| {name} | {level} | {' | '.join(f'{100 * value:.2f}' for value in figures)} |")
    return "\n".join(lines)


def read() -> dict[str, Any]:
    """Return what was measured."""
    found: dict[str, Any] = json.loads(RESULTS.read_text())
    return found


if __name__ == "__main__":
    main()
