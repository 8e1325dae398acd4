"""Every cell's statistics over 1,000 test images against the original's, with our own random numbers.

For each of the 95 cells: mean squared difference, mean difference of each channel, and the power of the
difference in 16 rings of frequencies, 1,900 comparisons in all. Each is the difference of two means over
the same 1,000 images with other draws, divided by its standard error as if the images were others: the
images being shared, a true difference of zero gives |z| below 4 all but always (6e-5 a comparison if the
draws alone varied, one in ten for the whole table; the original against itself stays below 2.4).
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from filterbands.corruptions import corrupt, kinds_of

LIMIT = 4.0


@pytest.fixture(scope="session")
def test_images(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    """The first 1,000 CIFAR-10 test images."""
    folder = tmp_path_factory.mktemp("cifar")
    subprocess.run(
        [sys.executable, shared / "cifar10" / "unpack.py", folder], check=True, capture_output=True
    )
    records = np.fromfile(next(folder.rglob("test_batch.bin")), np.uint8).reshape(-1, 3073)
    return torch.from_numpy(records[:1000, 1:].reshape(-1, 3, 32, 32).copy())


def statistics(clean: Tensor, corrupted: Tensor) -> dict[str, Tensor]:
    """Return a row an image: the mean square, each channel's mean, the power in 16 rings of frequencies."""
    difference = (corrupted.double() - clean) / 255
    power = torch.fft.fft2(difference).abs().square().div_(1024**2).mean(1).flatten(1)
    frequency = torch.fft.fftfreq(32) * 32
    ring = (torch.hypot(frequency[:, None], frequency[None]) / 2**0.5).long().clamp_(max=15).flatten()
    rings = torch.zeros(len(clean), 16, dtype=torch.float64).index_add_(1, ring, power)
    return {
        "mse": difference.square().mean((1, 2, 3))[:, None],
        "signed": difference.mean((2, 3)),
        "power": rings / torch.bincount(ring, minlength=16),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", kinds_of("c"))
def test_every_cell_has_the_original_s_statistics(kind: str, test_images: Tensor, shared: Path) -> None:
    cells = json.loads((shared / "reference_c" / "statistics.json").read_text())["cells"]
    name = "jpeg_compression@turbo" if kind == "jpeg_compression" else kind
    for severity in range(1, 6):
        original = cells[name][str(severity)]["seed0"]
        ours = statistics(test_images, corrupt(test_images, kind, severity=severity, seed=0))
        for quantity, rows in ours.items():
            key = quantity if quantity == "power" else f"{quantity}_mean"
            theirs = torch.tensor(original[key], dtype=torch.float64).reshape(-1)
            spread = torch.tensor(original[f"{quantity}_std"], dtype=torch.float64).reshape(-1)
            error = ((spread.square() + rows.var(0)) / len(rows)).sqrt() + 1e-12
            # The reference is rounded to six digits.
            z = ((rows.mean(0) - theirs).abs() - 1e-5 * theirs.abs()).clamp(min=0) / error
            assert float(z.max()) < LIMIT, (severity, quantity, z)
