"""What probes say of the networks whose weights are kept: heat maps, passes, corruptions, vulnerability.

    FILTERBANDS_SHARED=... python benchmarks/network_probes.py maps --data cifar10:DIR [--images 300]
    python benchmarks/network_probes.py corruptions --data cifar10:DIR
    FILTERBANDS_SHARED=... python benchmarks/network_probes.py vulnerability

Each writes a key of results/network_probes.json, of which `study_report.py` makes the tables of
docs/frequencies.md and docs/studies/heatmaps.md. `maps` also draws docs/images/sensitivity-heatmaps.png.
The folder that FILTERBANDS_SHARED names has the public ResNet-20 in data/checkpoints.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import altair as alt
import numpy as np
import torch
from analyze import keep
from machine import machine
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from filterbands.datasets import load_data
from filterbands.engine import set_threads
from filterbands.filters import EQUAL_AREA
from filterbands.models import load_model
from filterbands.probes import (
    ProbeConfig,
    correlate,
    corruption_spectra,
    fourier_heatmap,
    pass_curves,
    vulnerability,
)

ROOT = Path(__file__).parents[1]
FILE = ROOT / "results" / "network_probes.json"
IMAGES = ROOT / "docs" / "images"
NORM, PRECISION = 4.0, "bfloat16"
NARROW = "cifar_resnet18_narrow"
ROWS = ("share_low", "share_0")
"""Rows of the protocol whose networks of seed 10 are in results/weights."""
BANDS = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.71))
GAINS = (
    ("protocol", NARROW, "share_low", "standard", 10),
    ("protocol", NARROW, "share_0", "standard", 10),
    ("runs", "fastnet", "share_low", "standard", 0),
    ("runs", "fastnet", "spectral_strong", "standard", 0),
)
"""File of lines, network, row, reference and seed of each comparison with the corruptions' low energy."""
# Dark blue to light yellow, even in lightness.
STOPS = ((13, 17, 43), (32, 52, 110), (30, 101, 140), (42, 149, 143), (121, 195, 130), (249, 239, 173))
SIDE, GAP, HEAD, FOOT = 198, 14, 44, 40


def networks() -> Iterator[tuple[str, nn.Module]]:
    """Yield names and networks."""
    for row in ROWS:
        file = ROOT / "results" / "weights" / f"{row}-{NARROW}-12-10.safetensors"
        yield row, load_model(file, arch=NARROW)
    file = Path(os.environ["FILTERBANDS_SHARED"], "data/checkpoints/akamaster/resnet20.safetensors")
    # The normalization that this public network expects.
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    yield "ResNet-20", load_model(file, arch="cifar_resnet20", mean=mean, std=std)


def measure_maps(spec: str, images: int) -> dict[str, Any]:
    """Return each network's misclassified images by wave, and its accuracy on filtered images."""
    data = load_data(spec, split="test")
    config = ProbeConfig(batch_size=100, precision=PRECISION)
    found = {}
    for name, model in networks():
        heat = fourier_heatmap(model, data, norm=NORM, limit=images, config=config)
        passes = pass_curves(model, data, limit=images, config=config)
        outermost = torch.cat([heat.error[0], heat.error[:, 0]])
        found[name] = {
            "clean_error": heat.clean_error,
            "rings": [heat.mean_error(low, high) for low, high in BANDS],
            "outermost": float(outermost.mean()),
            # A text per row of the map: a list would put every number on a line of the file.
            "misclassified": [
                " ".join(map(str, row)) for row in (heat.error * images).round().int().tolist()
            ],
            "radii": passes.radii.tolist(),
            "curves": {band: curve.tolist() for band, curve in passes.curves.items()},
            "reached": {f"{share:.0%}": reach for share, reach in passes.reached.items()},
            "phase_only": passes.phase_only,
            "amplitude_only": passes.amplitude_only,
        }
    return {"images": images, "norm": NORM, "precision": PRECISION, "networks": found}


def measure_corruptions(spec: str, images: int) -> dict[str, Any]:
    """Return the low energy of what each kind adds, mean over severities."""
    data = load_data(spec, split="test").subset(torch.arange(images))
    spectra = corruption_spectra(data)
    return {"images": images, "low_energy": {kind: spectra.low_energy(kind) for kind in spectra.kinds}}


def measure_vulnerability() -> dict[str, Any]:
    """Return each network's vulnerability by kind and severity beside its measured error."""
    lines = _lines("protocol")
    found = {}
    for name, model in networks():
        if name == "ResNet-20":
            kinds = json.loads((ROOT / "results" / "resnet20_full.json").read_text())["kinds"]
        else:
            kinds = next(line["kinds"] for line in lines if (line["row"], line["seed"]) == (name, 10))
        moved = vulnerability(model)
        cells = {
            kind: [[moved.whole[kind, severity], 1 - kinds[kind][severity - 1]] for severity in range(1, 6)]
            for kind in moved.kinds
        }
        found[name] = {"mean": moved.mean, "cells": cells}
    return {"networks": found}


def heat_table(found: dict[str, Any]) -> str:
    """Return the error of each network by range of radii, in percent."""
    measured = found["maps"]["networks"]
    rows = [f"| radius | {' | '.join(measured)} |", f"|---{'|---' * len(measured)}|"]

    def row(name: str, values: list[float]) -> None:
        rows.append(f"| {name} | {' | '.join(f'{100 * value:.1f}' for value in values)} |")

    row("no perturbation", [one["clean_error"] for one in measured.values()])
    for place, (low, high) in enumerate(BANDS):
        row(f"{low:g} to {high:g}", [one["rings"][place] for one in measured.values()])
    row("outermost row and column", [one["outermost"] for one in measured.values()])
    return "\n".join(rows)


def pass_table(found: dict[str, Any]) -> str:
    """Return what each network needs of an image: radii with intervals, accuracies in percent."""
    rows = [
        "| network | clean | 10 % radius | 90 % radius | phases alone | amplitudes alone |",
        "|---" * 6 + "|",
    ]
    for name, one in found["maps"]["networks"].items():
        reached = [
            "-" if reach is None else "{:.3f} ({:.3f} to {:.3f})".format(*reach)
            for reach in one["reached"].values()
        ]
        figures = (100 * (1 - one["clean_error"]), 100 * one["phase_only"], 100 * one["amplitude_only"])
        clean, phases, amplitudes = (f"{figure:.1f}" for figure in figures)
        rows.append(f"| {name} | {clean} | {' | '.join(reached)} | {phases} | {amplitudes} |")
    return "\n".join(rows)


def energy_table(found: dict[str, Any]) -> str:
    """Return the kinds from high to low, with the low energy of what they add."""
    energies = sorted(found["corruptions"]["low_energy"].items(), key=lambda entry: entry[1])
    rows = ["| kind | low energy |", "|---|---|"]
    return "\n".join(rows + [f"| `{kind}` | {energy:.2f} |" for kind, energy in energies])


def gain_table(found: dict[str, Any]) -> str:
    """Return rank correlations over kinds: the low energy of a kind and the gain under it."""
    by_energy = sorted(found["corruptions"]["low_energy"].items(), key=lambda entry: entry[1])
    energies = dict(by_energy)
    rows = ["| network | comparison | seed | rank correlation of gain and low energy |", "|---" * 4 + "|"]
    for file, arch, row, reference, seed in GAINS:
        one, other = (
            next(
                line["kinds"]
                for line in _lines(file)
                if (line.get("row") or line["recipe"], line["arch"], line["seed"]) == (name, arch, seed)
            )
            for name in (row, reference)
        )
        gains = [mean(one[kind]) - mean(other[kind]) for kind in energies]
        rows.append(
            f"| `{arch}` | {row} - {reference} | {seed} | {_correlation(list(energies.values()), gains)} |"
        )
    return "\n".join(rows)


def vulnerability_table(found: dict[str, Any]) -> str:
    """Return how the vulnerability of the first layer ranks kinds as the network's error does."""
    rows = [
        "| network | kinds | over kinds | over kinds and severities | vulnerability | mean error |",
        "|---" * 6 + "|",
    ]
    for name, one in found["vulnerability"]["networks"].items():
        cells = one["cells"]
        by_kind = [[mean(column) for column in zip(*pairs, strict=True)] for pairs in cells.values()]
        by_cell = [pair for pairs in cells.values() for pair in pairs]
        error = mean(error for _, error in by_kind)
        said = [_correlation(*map(list, zip(*pairs, strict=True))) for pairs in (by_kind, by_cell)]
        rows.append(
            f"| {name} | {len(cells)} | {' | '.join(said)} | {one['mean']:.3f} | {100 * error:.1f} % |"
        )
    return "\n".join(rows)


def curves(found: dict[str, Any]) -> alt.FacetChart:
    """Return accuracy under ideal low- and high-pass filters."""
    measured = found["maps"]["networks"]
    rows = [
        {"network": name, "filter": f"{band}-pass", "radius": radius, "accuracy": accuracy}
        for name, one in measured.items()
        for band in ("low", "high")
        for radius, accuracy in zip(one["radii"], one["curves"][f"{band}_ideal"], strict=True)
    ]
    base = alt.Chart(alt.Data(values=rows)).mark_line(point=True)
    return base.encode(
        x=alt.X("radius:Q", title="Radius, cycles per pixel"),
        y=alt.Y("accuracy:Q", title="Accuracy", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("network:N", sort=list(measured), title=None),
        facet=alt.Facet("filter:N", sort=["low-pass", "high-pass"], title=None),
    ).properties(width=280, height=220)


def drawn(found: dict[str, Any]) -> Image.Image:
    """Return the maps next to each other, from 0 to 100 % in one scale, with the cutoff as a circle."""
    maps = found["maps"]
    page = Image.new("RGB", (len(maps["networks"]) * (SIDE + GAP) + GAP, HEAD + SIDE + FOOT), "white")
    draw = ImageDraw.Draw(page)
    font, small = ImageFont.load_default(14), ImageFont.load_default(12)
    for number, (name, one) in enumerate(maps["networks"].items()):
        left = GAP + number * (SIDE + GAP)
        rows = [list(map(int, row.split())) for row in one["misclassified"]]
        error = torch.tensor(rows) / maps["images"]
        picture = Image.fromarray(_colored(error)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        page.paste(picture, (left, HEAD))
        draw.text((left + SIDE / 2, 8), name, fill="black", font=font, anchor="ma")
        said = f"mean {100 * float(error[:-1, :-1].mean()):.0f} %, clean {100 * one['clean_error']:.0f} %"
        draw.text((left + SIDE / 2, 26), said, fill="#555555", font=small, anchor="ma")
        reach = EQUAL_AREA * SIDE * 32 / 33
        center = (left + SIDE / 2, HEAD + SIDE / 2)
        draw.ellipse(
            (center[0] - reach, center[1] - reach, center[0] + reach, center[1] + reach), outline="white"
        )
    strip = Image.fromarray(_colored(torch.linspace(0, 1, 200)[None])).resize((200, 10))
    page.paste(strip, (GAP + 30, HEAD + SIDE + 16))
    draw.text((GAP, HEAD + SIDE + 14), "0 %", fill="black", font=small)
    draw.text((GAP + 238, HEAD + SIDE + 14), "100 % wrong", fill="black", font=small)
    return page


def read() -> dict[str, Any]:
    """Return what was measured."""
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def _colored(share: Tensor) -> np.ndarray:
    """Return RGB bytes of numbers in [0, 1]."""
    place = np.clip(share.numpy(), 0, 1) * (len(STOPS) - 1)
    channels = [np.interp(place, range(len(STOPS)), channel) for channel in zip(*STOPS, strict=True)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _correlation(one: list[float], other: list[float]) -> str:
    found = correlate(one, other)
    return "-" if found is None else f"{found.value:+.2f} ({found.ci95[0]:+.2f} to {found.ci95[1]:+.2f})"


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ROOT / "results" / f"{name}.jsonl").open()]


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("maps", "corruptions", "vulnerability"))
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--images", type=int, default=None, help="300 for maps, 200 for corruptions")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.what != "corruptions" and not os.environ.get("FILTERBANDS_SHARED"):
        parser.error("FILTERBANDS_SHARED does not name the folder that holds data/checkpoints")
    set_threads(given.threads)
    facts = machine()
    measured = {
        "maps": lambda: measure_maps(given.data, given.images or 300),
        "corruptions": lambda: measure_corruptions(given.data, given.images or 200),
        "vulnerability": measure_vulnerability,
    }[given.what]()
    keep(FILE, {given.what: {**measured, **facts}})
    if given.what == "maps":
        picture = drawn(read()).quantize(256, dither=Image.Dither.NONE)
        picture.save(IMAGES / "sensitivity-heatmaps.png", optimize=True)


if __name__ == "__main__":
    main()
