"""Draws the pictures of docs/corrupt.md and docs/studies/corruptions.md.

python docs/pictures/corruptions.py sheet      one drawn image under every kind and severity
python docs/pictures/corruptions.py spectra --data cifar10:DIR [--images 1000]
                                               mean power spectrum of (corrupted - clean)
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from filterbands.corruptions import corrupt, kinds_of
from filterbands.datasets import load_data
from filterbands.fourier import power_spectrum

IMAGES = Path(__file__).parents[1] / "images"
LABELS, GAP, HEAD = 150, 4, 20


def main() -> None:
    """Write docs/images/corruptions-sheet.png or corruptions-spectra.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("sheet", "spectra"))
    parser.add_argument("--data", default="planted")
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    if options.what == "sheet":
        picture = sheet()
    else:
        picture = spectra(load_data(options.data, split="test").images[: options.images])
    file = IMAGES / f"corruptions-{options.what}.png"
    picture.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
    print(file)


def sheet() -> Image.Image:
    """Return a row a kind: the clean image, then severities 1 to 5."""
    clean = torch.from_numpy(np.array(scene(32))).permute(2, 0, 1)[None]
    rows = {}
    for kind in kinds_of("c"):
        made = [corrupt(clean, kind, severity=severity, seed=0)[0] for severity in range(1, 6)]
        rows[kind] = [enlarged(image.permute(1, 2, 0).numpy(), 2) for image in (clean[0], *made)]
    return arranged(rows, ["clean", "1", "2", "3", "4", "5"])


def scene(side: int) -> Image.Image:
    """Return a house on a hill: flat areas, edges, a texture and strong colours."""
    big = Image.new("RGB", (256, 256))
    draw = ImageDraw.Draw(big)
    for row in range(256):
        draw.line((0, row, 256, row), fill=(110 + row // 3, 160 + row // 4, 235 - row // 8))
    draw.ellipse((186, 18, 236, 68), fill=(255, 225, 90))
    draw.ellipse((-90, 150, 346, 420), fill=(70, 140, 60))
    draw.rectangle((66, 104, 166, 196), fill=(205, 80, 60))
    for row in range(108, 196, 16):
        draw.line((66, row, 166, row), fill=(150, 50, 40), width=4)
    draw.polygon([(52, 106), (116, 46), (180, 106)], fill=(80, 60, 70))
    draw.rectangle((82, 122, 108, 148), fill=(250, 240, 200))
    draw.rectangle((126, 134, 152, 196), fill=(70, 45, 40))
    for column in range(0, 256, 16):
        draw.rectangle((column, 206, column + 8, 236), fill=(240, 235, 225))
    draw.rectangle((0, 216, 256, 222), fill=(240, 235, 225))
    return big.resize((side, side), Image.Resampling.BOX)


def spectra(images: Tensor) -> Image.Image:
    """Return a row a kind: log power of what severities 1 to 5 add, frequency zero in the center."""
    rows = {}
    clean = images.double() / 255
    for kind in kinds_of("c"):
        row = []
        for severity in range(1, 6):
            made = corrupt(images, kind, severity=severity, seed=0).double() / 255
            power = power_spectrum(made - clean).mean((0, 1))
            row.append(
                enlarged(
                    coloured(torch.roll(power, (power.shape[0] // 2, power.shape[1] // 2), (0, 1)).log10()), 2
                )
            )
        rows[kind] = row
    return arranged(rows, ["1", "2", "3", "4", "5"])


def coloured(log_power: Tensor) -> np.ndarray:
    """Return RGB bytes of log10 power from -5 (dark) to 1 (light), one scale for all kinds."""
    stops = np.array(
        [[13, 8, 60], [90, 20, 130], [200, 60, 90], [250, 150, 50], [252, 250, 190]], dtype=float
    )
    place = np.clip((log_power.numpy() + 5) / 6, 0, 1) * (len(stops) - 1)
    low = np.floor(place).clip(max=len(stops) - 2).astype(int)
    part = (place - low)[..., None]
    return ((1 - part) * stops[low] + part * stops[low + 1]).round().astype(np.uint8)


def enlarged(pixels: np.ndarray, factor: int) -> Image.Image:
    """Return a picture whose pixels are squares."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def arranged(rows: dict[str, list[Image.Image]], heads: list[str]) -> Image.Image:
    """Return pictures in rows, named on the left and above."""
    side = next(iter(rows.values()))[0].width
    size = (LABELS + len(heads) * (side + GAP), HEAD + len(rows) * (side + GAP))
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(13)
    for column, head in enumerate(heads):
        draw.text((LABELS + column * (side + GAP) + side / 2, 3), head, fill="black", font=font, anchor="ma")
    for number, (name, pictures) in enumerate(rows.items()):
        top = HEAD + number * (side + GAP)
        draw.text((4, top + side / 2), name, fill="black", font=font, anchor="lm")
        for column, picture in enumerate(pictures):
            page.paste(picture, (LABELS + column * (side + GAP), top))
    return page


if __name__ == "__main__":
    main()
