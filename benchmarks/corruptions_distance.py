"""How far our corruptions are from an original generator's, with draws of our own, kind by kind.

    python benchmarks/corruptions_distance.py --reference statistics.json --data cifar10:DIR [--set cbar]

The reference holds, for each of the 95 cells of CIFAR-10-C or the 50 of CIFAR-10-C-bar, means and standard
deviations over the first 1,000 test images of what the original generator made: mean squared change, mean
change of each channel, and the power of the change in 16 (or 8) rings of frequencies. Each of ours is
compared in standard errors of the difference of two means. No network is run. Writes
results/corruptions_distance.json or results/cbar_distance.json and prints a table.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from filterbands.corruptions import corrupt, kinds_of
from filterbands.datasets import load_data
from filterbands.fourier import power_spectrum, radius_grid

RESULTS = Path(__file__).parents[1] / "results"
FILES = {"c": "corruptions_distance.json", "cbar": "cbar_distance.json"}
# How many rings there are, and how wide they are in cycles per image.
RINGS = {"c": (16, math.sqrt(2)), "cbar": (8, math.sqrt(8))}
# Of these two libraries the one that ours is.
NAMES = {"jpeg_compression": "jpeg_compression@turbo"}
# Kinds that differ by less, in standard errors, draw nothing: there is no chance in them.
FIXED = 0.1


def main() -> None:
    """Compare all cells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--set", choices=tuple(FILES), default="c", dest="which")
    options = parser.parse_args()
    cells = json.loads(options.reference.read_text())["cells"]
    images = load_data(options.data, split="test").images[:1000]
    found: dict[str, Any] = {}
    squares: list[float] = []
    for kind in kinds_of(options.which):
        ratios, differences = compare(images, kind, cells[NAMES.get(kind, kind)], *RINGS[options.which])
        largest = max(map(abs, differences))
        found[kind] = {"mse_ratio": ratios, "largest_z": largest}
        squares += [] if largest < FIXED else [z * z for z in differences]
        print(f"{kind}: {largest:.2f}", flush=True)
    root = math.sqrt(sum(squares) / len(squares))
    document = {"kinds": found, "comparisons": len(squares), "rms_z": root}
    (RESULTS / FILES[options.which]).write_text(json.dumps(document, indent=1) + "\n")
    print(table(document))


def read(which: str) -> dict[str, Any]:
    """Return what was measured of a set of kinds."""
    found: dict[str, Any] = json.loads((RESULTS / FILES[which]).read_text())
    return found


def table(document: dict[str, Any]) -> str:
    """Return a row per kind as Markdown."""
    heads = (
        "kind",
        "mean squared change, ours / original, severity 1 to 5",
        "largest difference, standard errors",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for kind, found in document["kinds"].items():
        ratios = " · ".join(f"{ratio:.3f}" for ratio in found["mse_ratio"])
        lines.append(f"| `{kind}` | {ratios} | {found['largest_z']:.2f} |")
    compared, root = document["comparisons"], document["rms_z"]
    return "\n".join(
        [*lines, f"| root mean square of {compared:,} differences of random kinds | | {root:.2f} |"]
    )


def compare(
    images: Tensor, kind: str, cells: dict[str, dict[str, dict[str, list[float]]]], rings: int, width: float
) -> tuple[list[float], list[float]]:
    """Return the ratio of mean squared changes at each severity, and all differences in standard errors."""
    ratios, differences = [], []
    for severity in range(1, 6):
        original = cells[str(severity)]["seed0"]
        ours = statistics(images, corrupt(images, kind, severity=severity, seed=0), rings, width)
        for quantity, rows in ours.items():
            mean = original["power" if quantity == "power" else f"{quantity}_mean"]
            theirs = torch.tensor(mean, dtype=torch.float64).reshape(-1)
            spread = torch.tensor(original[f"{quantity}_std"], dtype=torch.float64).reshape(-1)
            error = ((spread.square() + rows.var(0)) / len(rows)).sqrt() + 1e-12
            # The reference is rounded to six digits.
            apart = (rows.mean(0) - theirs).abs() - 1e-5 * theirs.abs()
            differences += (apart.clamp(min=0) / error).tolist()
            if quantity == "mse":
                ratios.append(float(rows.mean() / theirs))
    return ratios, differences


def statistics(clean: Tensor, corrupted: Tensor, rings: int, width: float) -> dict[str, Tensor]:
    """Return a row an image: the mean square, each channel's mean, the power in rings of frequencies."""
    change = (corrupted.double() - clean) / 255
    power = power_spectrum(change).mean(1).flatten(1) / change[0, 0].numel()
    radius = radius_grid(*clean.shape[2:]) * clean.shape[2]
    # Some radii are equal to edges, which belong to the ring above.
    ring = (radius / width + 1e-6).long().clamp_(max=rings - 1).flatten()
    totals = torch.zeros(len(clean), rings, dtype=torch.float64).index_add_(1, ring, power)
    return {
        "mse": change.square().mean((1, 2, 3))[:, None],
        "signed": change.mean((2, 3)),
        "power": totals / torch.bincount(ring, minlength=rings),
    }


if __name__ == "__main__":
    main()
