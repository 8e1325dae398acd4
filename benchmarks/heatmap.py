"""Times the Fourier heat map of cifar_resnet20 against bare forward passes and a loop over loaders.

python benchmarks/heatmap.py [--data SPEC] [--images 1000] [--threads N] [--device NAME]

One run times, in turn, on the same machine:
  ours      the whole map: 514 basis images, every image; in float32 and in bfloat16, and both compiled
            (the seconds of compiling among them)
  bare      514 forward passes over the images and nothing else, in batches of the same size and layout
  loop      for each of the 544 frequencies of a half plane, one pass over the data set through a DataLoader
            that converts, perturbs and normalizes each image by itself, as the public tool
            (gatheluck/FourierHeatmap, fhmap/fourier/heatmap.py) does, with its batch of 512 and 8 workers;
            measured on a tenth of the frequencies and scaled up. It has no decoding of images and no
            preparation of the data set for each frequency, which the tool has besides.
Figures go to results/heatmap_speed.json.
"""

import argparse
import json
import random
import time
from dataclasses import replace
from pathlib import Path

import torch
from machine import machine
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from filterbands.datasets import load_data
from filterbands.engine import PRECISIONS, keep_memory, pick_device, set_threads
from filterbands.models import load_model
from filterbands.probes import HeatMap, ProbeConfig, fourier_heatmap

RESULTS = Path(__file__).parents[1] / "results" / "heatmap_speed.json"
NORM = 4.0
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DISTINCT = 514


class Perturbed(Dataset[tuple[Tensor, int]]):
    """Images of which each is perturbed when its turn comes."""

    def __init__(self, images: Tensor, labels: Tensor, wave: Tensor) -> None:
        self.images, self.labels, self.wave = images, labels, wave
        self.mean = torch.tensor(MEAN)[:, None, None]
        self.std = torch.tensor(STD)[:, None, None]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        image = self.images[number].float() / 255
        sign = torch.tensor([random.randrange(-1, 2, 2) for _ in range(3)])[:, None, None]
        noisy = (image + sign * NORM * self.wave).clamp(0, 1)
        return (noisy - self.mean) / self.std, int(self.labels[number])


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="planted")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int, default=250)
    parser.add_argument("--workers", type=int, default=8, help="of the loop's loader")
    parser.add_argument("--weights", default="", help="a trained network's; random ones take the same time")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--share", type=int, default=10, help="the loop is measured on one frequency in N")
    given = parser.parse_args()
    set_threads(given.threads)
    keep_memory()
    device = pick_device(given.device)
    torch.manual_seed(0)
    # Trained networks of this name that are public take ImageNet's normalisation.
    model = load_model(given.weights or None, arch="cifar_resnet20", mean=MEAN, std=STD).to(device)
    data = load_data(given.data, split="test")
    data = data.subset(torch.arange(min(given.images, len(data))))
    config = ProbeConfig(batch_size=given.batch_size, device=str(device))
    fourier_heatmap(model, data, norm=NORM, limit=2, config=config)
    load = machine(str(device))
    seconds = {}
    started = time.perf_counter()
    exact = fourier_heatmap(model, data, norm=NORM, config=config)
    seconds["ours"] = _since(started, device)
    started = time.perf_counter()
    bare(model, data.images.to(device), given.batch_size)
    seconds["bare"] = _since(started, device)
    started = time.perf_counter()
    rounded = fourier_heatmap(model, data, norm=NORM, config=replace(config, precision="bfloat16"))
    seconds["ours in bfloat16"] = _since(started, device)
    compiled = {}
    for precision in PRECISIONS:
        started = time.perf_counter()
        settings = replace(config, precision=precision, compile=True)
        compiled[precision] = fourier_heatmap(model, data, norm=NORM, config=settings)
        seconds[f"ours compiled in {precision}"] = _since(started, device)
    loop, frequencies = looped(model, data.images, data.labels, given)
    seconds["loop"] = loop
    found = {
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "over_bare": round(seconds["ours"] / seconds["bare"], 3),
        "faster_than_loop": round(seconds["loop"] / seconds["ours"], 2),
        "faster_than_loop_in_bfloat16": round(seconds["loop"] / seconds["ours in bfloat16"], 2),
        **{
            f"faster_than_loop_compiled_in_{precision}": round(
                seconds["loop"] / seconds[f"ours compiled in {precision}"], 2
            )
            for precision in PRECISIONS
        },
        "largest_difference_in_bfloat16": _farthest(rounded, exact),
        "largest_difference_compiled": {name: _farthest(found, exact) for name, found in compiled.items()},
        "loop_measured_on": frequencies,
        "images": len(data),
        "threads": given.threads,
        **load,
    }
    given.results.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def _farthest(one: HeatMap, other: HeatMap) -> float:
    return round(float((one.error - other.error).abs().max()), 4)


def _since(started: float, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


@torch.inference_mode()
def bare(model: nn.Module, images: Tensor, batch_size: int) -> None:
    """Run the network as often as the distinct frequencies need it, on batches that lie ready."""
    floats = (images.float() / 255).contiguous(memory_format=torch.channels_last)
    for _ in range(DISTINCT):
        for batch in torch.split(floats, batch_size):
            model(batch).argmax(dim=1)


@torch.inference_mode()
def looped(model: nn.Module, images: Tensor, labels: Tensor, given: argparse.Namespace) -> tuple[float, int]:
    """Return the seconds of a loop over all frequencies, from a part of them, and how many were run."""
    height, width = images.shape[2:]
    pairs = [(i, j) for i in range(-(height // 2), height // 2) for j in range(width // 2 + 1)]
    chosen = pairs[:: given.share]
    device = next(model.parameters()).device
    # The loader normalizes already.
    model.mean.zero_()
    model.std.fill_(1)
    started = time.perf_counter()
    for i, j in chosen:
        spectrum = torch.zeros(height, width, dtype=torch.complex64)
        spectrum[i % height, j % width] = spectrum[-i % height, -j % width] = 1
        wave = torch.fft.ifft2(spectrum).real
        dataset = Perturbed(images, labels, wave / wave.norm())
        wrong = 0
        for batch, truth in DataLoader(dataset, batch_size=512, num_workers=given.workers):
            wrong += int((model(batch.to(device)).argmax(dim=1).cpu() != truth).sum())
    return (time.perf_counter() - started) * len(pairs) / len(chosen), len(chosen)


if __name__ == "__main__":
    main()
