"""How far our C-bar is from the original generator's, with draws of our own, kind by kind.

    python benchmarks/cbar_distance.py --reference statistics.json --data cifar10:DIR

The reference holds, for each of 50 cells, means and standard deviations over the first 1,000 test images of
what the original generator of CIFAR-10-C-bar made: mean squared change, mean change of each channel, and the
power of the change in 8 rings of frequencies. Each of ours is compared in standard errors of the difference
of two means. No network is run. Writes results/cbar_distance.json and prints a table.
"""

import argparse
import json
import math
from pathlib import Path

import torch
from torch import Tensor

from filterbands.corruptions import corrupt, kinds_of
from filterbands.datasets import load_data
from filterbands.fourier import power_spectrum, radius_grid

RESULTS = Path(__file__).parents[1] / "results" / "cbar_distance.json"
RINGS = 8


def main() -> None:
    """Compare all cells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--data", required=True)
    options = parser.parse_args()
    cells = json.loads(options.reference.read_text())["cells"]
    images = load_data(options.data, split="test").images[:1000]
    found, squares = {}, []
    print("| kind | mean squared change, ours / original | largest difference, in standard errors |")
    print("|---|---|---|")
    for kind in kinds_of("cbar"):
        ratios, differences = compare(images, kind, cells[kind])
        largest = max(map(abs, differences))
        found[kind] = {"mse_ratio": ratios, "largest_z": largest}
        # What draws nothing has no chance in it.
        squares += [z * z for z in differences] if kind != "circular_motion_blur" else []
        print(f"| `{kind}` | {' · '.join(f'{value:.3f}' for value in ratios)} | {largest:.2f} |", flush=True)
    root = math.sqrt(sum(squares) / len(squares))
    print(f"{len(squares)} comparisons of random kinds: root mean square {root:.2f} standard errors")
    RESULTS.write_text(json.dumps({**found, "comparisons": len(squares), "rms_z": root}, indent=1) + "\n")


def compare(
    images: Tensor, kind: str, cells: dict[str, dict[str, dict[str, list[float]]]]
) -> tuple[list[float], list[float]]:
    """Return the ratio of mean squared changes at each severity, and all differences in standard errors."""
    ratios, differences = [], []
    for severity in range(1, 6):
        original = cells[str(severity)]["seed0"]
        for quantity, rows in statistics(images, corrupt(images, kind, severity=severity, seed=0)).items():
            mean = original["power" if quantity == "power" else f"{quantity}_mean"]
            theirs = torch.tensor(mean, dtype=torch.float64).reshape(-1)
            spread = torch.tensor(original[f"{quantity}_std"], dtype=torch.float64).reshape(-1)
            error = ((spread.square() + rows.var(0)) / len(rows)).sqrt() + 1e-12
            differences += ((rows.mean(0) - theirs) / error).tolist()
            if quantity == "mse":
                ratios.append(float(rows.mean() / theirs))
    return ratios, differences


def statistics(clean: Tensor, corrupted: Tensor) -> dict[str, Tensor]:
    """Return a row an image: the mean square, each channel's mean, the power in 8 rings of frequencies."""
    change = (corrupted.double() - clean) / 255
    power = power_spectrum(change).mean(1).flatten(1) / change[0, 0].numel()
    radius = radius_grid(*clean.shape[2:]) * clean.shape[2]
    # Edges at multiples of the square root of 8, to which some radii are equal.
    ring = (radius / math.sqrt(8) + 1e-6).long().clamp_(max=RINGS - 1).flatten()
    rings = torch.zeros(len(clean), RINGS, dtype=torch.float64).index_add_(1, ring, power)
    return {
        "mse": change.square().mean((1, 2, 3))[:, None],
        "signed": change.mean((2, 3)),
        "power": rings / torch.bincount(ring, minlength=RINGS),
    }


if __name__ == "__main__":
    main()
