"""How far our corruptions are from the original generator's, with draws of our own, kind by kind.

    python benchmarks/corruptions_distance.py --reference statistics.json --data cifar10:DIR

The reference holds, for each of 95 cells, means and standard deviations over the first 1,000 test images of
what the original generator of CIFAR-10-C made: mean squared change, mean change of each channel, and the
power of the change in 16 rings of frequencies. Each of ours is compared in standard errors of the difference
of two means. Writes results/corruptions_distance.json and prints a table.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from filterbands.corruptions import corrupt, kinds_of
from filterbands.datasets import load_data
from filterbands.fourier import power_spectrum, radius_grid

RESULTS = Path(__file__).parents[1] / "results" / "corruptions_distance.json"
RINGS = 16


def main() -> None:
    """Compare all cells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--data", required=True)
    options = parser.parse_args()
    cells = json.loads(options.reference.read_text())["cells"]
    images = load_data(options.data, split="test").images[:1000]
    found = {}
    print("| kind | mean squared change, ours / original | largest difference, in standard errors |")
    print("|---|---|---|")
    for kind in kinds_of("c"):
        name = "jpeg_compression@turbo" if kind == "jpeg_compression" else kind
        found[kind] = compare(images, kind, cells[name])
        ratios = " · ".join(f"{value:.3f}" for value in found[kind]["mse_ratio"])
        print(f"| `{kind}` | {ratios} | {found[kind]['largest_z']:.1f} |", flush=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def compare(
    images: Tensor, kind: str, cells: dict[str, dict[str, dict[str, list[float]]]]
) -> dict[str, object]:
    """Return the ratio of mean squared changes at each severity, and the largest of all differences."""
    ratio, largest = [], 0.0
    for severity in range(1, 6):
        original = cells[str(severity)]["seed0"]
        for quantity, rows in statistics(images, corrupt(images, kind, severity=severity, seed=0)).items():
            mean = original["power" if quantity == "power" else f"{quantity}_mean"]
            theirs = torch.tensor(mean, dtype=torch.float64).reshape(-1)
            spread = torch.tensor(original[f"{quantity}_std"], dtype=torch.float64).reshape(-1)
            error = ((spread.square() + rows.var(0)) / len(rows)).sqrt() + 1e-12
            # The reference is rounded to six digits.
            z = ((rows.mean(0) - theirs).abs() - 1e-5 * theirs.abs()).clamp(min=0) / error
            largest = max(largest, float(z.max()))
            if quantity == "mse":
                ratio.append(float(rows.mean() / theirs))
    return {"mse_ratio": ratio, "largest_z": largest}


def statistics(clean: Tensor, corrupted: Tensor) -> dict[str, Tensor]:
    """Return a row an image: the mean square, each channel's mean, the power in 16 rings of frequencies."""
    change = (corrupted.double() - clean) / 255
    power = power_spectrum(change).mean(1).flatten(1) / change[0, 0].numel()
    ring = (radius_grid(*clean.shape[2:]) * clean.shape[2] / 2**0.5).long().clamp_(max=RINGS - 1).flatten()
    rings = torch.zeros(len(clean), RINGS, dtype=torch.float64).index_add_(1, ring, power)
    return {
        "mse": change.square().mean((1, 2, 3))[:, None],
        "signed": change.mean((2, 3)),
        "power": rings / torch.bincount(ring, minlength=RINGS),
    }


if __name__ == "__main__":
    main()
