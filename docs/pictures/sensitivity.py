"""Draws the pictures and prints the tables of docs/sensitivity.md.

python docs/pictures/sensitivity.py maps --data cifar10:DIR --db FILE NAME=PATH ...
                                   heat maps and pass curves of networks; PATH may end with @ARCH
python docs/pictures/sensitivity.py agreement --runs DIR
                                   how vulnerability without inference ranks kinds and networks of
                                   results/runs.jsonl, whose Run folders lie in DIR
"""

import argparse
import io
import json
from collections.abc import Iterable
from pathlib import Path

import altair as alt
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from filterbands.datasets import load_data
from filterbands.filters import EQUAL_AREA
from filterbands.models import load_model
from filterbands.probes import (
    HeatMap,
    PassCurves,
    ProbeConfig,
    correlate,
    fourier_heatmap,
    pass_curves,
    vulnerability,
)

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
BANDS = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.71))
# Dark blue to light yellow, even in lightness.
STOPS = ((13, 17, 43), (32, 52, 110), (30, 101, 140), (42, 149, 143), (121, 195, 130), (249, 239, 173))
SIDE, GAP, HEAD, FOOT = 198, 14, 44, 40


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("maps", "agreement"))
    parser.add_argument("networks", nargs="*", metavar="NAME=PATH")
    parser.add_argument("--data", default="planted")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--norm", type=float, default=4.0)
    parser.add_argument("--db", default=None)
    parser.add_argument("--runs", default="local/runs")
    given = parser.parse_intermixed_args()
    if given.what == "maps":
        maps(given)
    else:
        agreement(Path(given.runs))


def maps(given: argparse.Namespace) -> None:
    """Write sensitivity-heatmaps.png and sensitivity-passes.png, and print two tables."""
    data = load_data(given.data, split="test")
    config = ProbeConfig(batch_size=250, precision=given.precision)
    heats, passes = {}, {}
    for name, model in opened(given.networks):
        heats[name] = fourier_heatmap(
            model, data, norm=given.norm, limit=given.images, config=config, db=given.db
        )
        passes[name] = pass_curves(model, data, limit=given.images, config=config, db=given.db)
    picture = drawn(heats)
    picture.quantize(256, dither=Image.Dither.NONE).save(IMAGES / "sensitivity-heatmaps.png", optimize=True)
    buffer = io.BytesIO()
    curves(passes).save(buffer, format="png", scale_factor=2)
    small = Image.open(buffer).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    small.save(IMAGES / "sensitivity-passes.png", optimize=True)
    print(f"{given.images} images, norm {given.norm:g}, {given.precision}\n")
    print(f"| radius | {' | '.join(heats)} |\n|---{'|---' * len(heats)}|")
    clean = " | ".join(f"{100 * heat.clean_error:.1f}" for heat in heats.values())
    print(f"| no perturbation | {clean} |")
    for low, high in BANDS:
        cells = " | ".join(f"{100 * heat.mean_error(low, high):.1f}" for heat in heats.values())
        print(f"| {low:g} to {high:g} | {cells} |")
    outermost = (torch.cat([heat.error[0], heat.error[:, 0]]).mean() for heat in heats.values())
    print(f"| outermost row and column | {' | '.join(f'{100 * float(mean):.1f}' for mean in outermost)} |")
    print("\n| network | clean | 10 % radius | 90 % radius | phases alone | amplitudes alone |")
    print("|---|---|---|---|---|---|")
    for name, found in passes.items():
        reached = [told(found.reached[share]) for share in (0.1, 0.9)]
        rest = f"{100 * found.phase_only:.1f} | {100 * found.amplitude_only:.1f}"
        print(f"| {name} | {100 * found.clean:.1f} | {reached[0]} | {reached[1]} | {rest} |")


def told(reach: tuple[float, float, float] | None) -> str:
    """Return a radius with its interval."""
    return "-" if reach is None else f"{reach[0]:.3f} ({reach[1]:.3f} to {reach[2]:.3f})"


def opened(networks: Iterable[str]) -> Iterable[tuple[str, nn.Module]]:
    """Yield names and networks from NAME=PATH or NAME=PATH@ARCH."""
    for network in networks:
        name, _, place = network.partition("=")
        path, _, arch = place.partition("@")
        yield name, load_model(path, arch=arch or None)


def drawn(heats: dict[str, HeatMap]) -> Image.Image:
    """Return the maps side by side, from 0 to 100 % in one scale, with the cutoff as a circle."""
    width = len(heats) * (SIDE + GAP) + GAP
    page = Image.new("RGB", (width, HEAD + SIDE + FOOT), "white")
    draw = ImageDraw.Draw(page)
    font, small = ImageFont.load_default(14), ImageFont.load_default(12)
    for number, (name, heat) in enumerate(heats.items()):
        left = GAP + number * (SIDE + GAP)
        picture = Image.fromarray(coloured(heat.error.numpy())).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        page.paste(picture, (left, HEAD))
        draw.text((left + SIDE / 2, 8), name, fill="black", font=font, anchor="ma")
        said = f"mean {100 * heat.mean_error():.0f} %, clean {100 * heat.clean_error:.0f} %"
        draw.text((left + SIDE / 2, 26), said, fill="#555555", font=small, anchor="ma")
        reach = EQUAL_AREA * SIDE * 32 / 33
        centre = (left + SIDE / 2, HEAD + SIDE / 2)
        box = (centre[0] - reach, centre[1] - reach, centre[0] + reach, centre[1] + reach)
        draw.ellipse(box, outline="white")
    strip = Image.fromarray(coloured(np.linspace(0, 1, 200)[None])).resize((200, 10))
    page.paste(strip, (GAP + 30, HEAD + SIDE + 16))
    draw.text((GAP, HEAD + SIDE + 14), "0 %", fill="black", font=small)
    draw.text((GAP + 238, HEAD + SIDE + 14), "100 % wrong", fill="black", font=small)
    return page


def coloured(share: np.ndarray) -> np.ndarray:
    """Return RGB bytes of numbers in [0, 1]."""
    place = np.clip(share, 0, 1) * (len(STOPS) - 1)
    channels = [np.interp(place, range(len(STOPS)), channel) for channel in zip(*STOPS, strict=True)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def curves(passes: dict[str, PassCurves]) -> alt.FacetChart:
    """Return accuracy under ideal low- and high-pass filters."""
    rows = [
        {"network": name, "filter": f"{band}-pass", "radius": radius, "accuracy": accuracy}
        for name, found in passes.items()
        for band in ("low", "high")
        for radius, accuracy in zip(found.radii.tolist(), found.curves[f"{band}_ideal"].tolist(), strict=True)
    ]
    base = alt.Chart(alt.InlineData(values=rows)).mark_line(point=True)
    return base.encode(
        x=alt.X("radius:Q", title="Radius, cycles per pixel"),
        y=alt.Y("accuracy:Q", title="Accuracy", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("network:N", sort=list(passes), title=None),
        facet=alt.Facet("filter:N", sort=["low-pass", "high-pass"], title=None),
    ).properties(width=280, height=220)


def agreement(runs: Path) -> None:
    """Print how vulnerability ranks kinds within each network, and networks within the mean over kinds."""
    lines = [json.loads(line) for line in (ROOT / "results" / "runs.jsonl").read_text().splitlines()]
    print("| network | kinds | over kinds | over kinds and severities | vulnerability | mean error |")
    print("|---|---|---|---|---|---|")
    figures = []
    for line in lines:
        folder = runs / f"{line['recipe']}-{line['arch']}-{line['seed']}"
        if not (folder / "weights.safetensors").exists():
            continue
        moved = vulnerability(load_model(folder))
        measured = {kind: 1 - np.mean(line["kinds"][kind]) for kind in moved.kinds if kind in line["kinds"]}
        kinds = list(measured)
        by_kind = correlate([moved.of_kind(kind) for kind in kinds], list(measured.values()))
        cells = [(kind, severity) for kind, severity in moved.whole if kind in measured]
        by_cell = correlate(
            [moved.whole[cell] for cell in cells],
            [1 - line["kinds"][kind][severity - 1] for kind, severity in cells],
        )
        error = float(np.mean(list(measured.values())))
        figures.append((line["arch"], moved.mean, error))
        said = [
            "-" if found is None else f"{found.value:+.2f} ({found.ci95[0]:+.2f} to {found.ci95[1]:+.2f})"
            for found in (by_kind, by_cell)
        ]
        facts = (folder.name, str(len(kinds)), *said, f"{moved.mean:.3f}", f"{100 * error:.1f} %")
        print(f"| {' | '.join(facts)} |")
    for arch in sorted({arch for arch, _, _ in figures}):
        those = [(moved, error) for name, moved, error in figures if name == arch]
        found = correlate(*zip(*those, strict=True)) if len(those) > 1 else None
        said = "fewer than five networks" if found is None else f"{found.value:+.2f} {found.ci95}"
        print(f"\nover {len(those)} networks of {arch}: {said}")
    found = correlate([moved for _, moved, _ in figures], [error for _, _, error in figures])
    if found is not None:
        print(f"\nover all {found.items} networks: {found.value:+.2f}, 95 % interval {found.ci95}")


if __name__ == "__main__":
    main()
