"""Draws the pictures of docs/studies/cbar.md.

python docs/pictures/cbar.py sheet             one drawn image under the ten kinds of CIFAR-10-C-bar
python docs/pictures/cbar.py imagenet          the same at 224 pixels under the ten of ImageNet-C-bar
python docs/pictures/cbar.py spectra --data cifar10:DIR [--images 1000]
                                               mean power spectrum of (corrupted - clean)
"""

import argparse

import numpy as np
import torch
from corruptions import IMAGES, arranged, coloured, enlarged, scene
from PIL import Image
from torch import Tensor

from filterbands.corruptions import corrupt, kinds_of
from filterbands.datasets import load_data
from filterbands.fourier import power_spectrum

SHOWN = 96
"""Side of the pictures of 224 pixels, made smaller by averaging."""


def main() -> None:
    """Write docs/images/cbar-sheet.png, cbar-imagenet.png or cbar-spectra.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("sheet", "imagenet", "spectra"))
    parser.add_argument("--data", default="planted")
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    if options.what == "spectra":
        picture = spectra(load_data(options.data, split="test").images[: options.images])
    else:
        picture = sheet("cifar") if options.what == "sheet" else sheet("imagenet")
    file = IMAGES / f"cbar-{options.what}.png"
    picture.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
    print(file)


def sheet(parameters: str) -> Image.Image:
    """Return a row a kind of a table of constants: the clean image, then severities 1 to 5."""
    side = 32 if parameters == "cifar" else 224
    clean = torch.from_numpy(np.array(scene(side))).permute(2, 0, 1)[None]
    rows = {}
    for kind in kinds_of("cbar", parameters=parameters):
        made = [
            corrupt(clean, kind, severity=severity, seed=0, parameters=parameters)[0]
            for severity in range(1, 6)
        ]
        rows[_title(kind)] = [_shown(image.permute(1, 2, 0).numpy()) for image in (clean[0], *made)]
    return arranged(rows, ["clean", "1", "2", "3", "4", "5"])


def spectra(images: Tensor) -> Image.Image:
    """Return a row a kind: log power of what severities 1 to 5 add, frequency zero in the centre."""
    rows = {}
    clean = images.double() / 255
    middle = (images.shape[2] // 2, images.shape[3] // 2)
    for kind in kinds_of("cbar"):
        row = []
        for severity in range(1, 6):
            made = corrupt(images, kind, severity=severity, seed=0).double() / 255
            power = power_spectrum(made - clean).mean((0, 1))
            row.append(enlarged(coloured(power.roll(middle, (0, 1)).log10()), 2))
        rows[_title(kind)] = row
    return arranged(rows, ["1", "2", "3", "4", "5"])


def _title(kind: str) -> str:
    """Return a name, long ones in two lines."""
    first, mark, last = kind.rpartition("_")
    return f"{first}{mark}\n{last}" if len(kind) > 20 else kind


def _shown(pixels: np.ndarray) -> Image.Image:
    if len(pixels) < SHOWN:
        return enlarged(pixels, 2)
    return Image.fromarray(np.ascontiguousarray(pixels)).resize((SHOWN, SHOWN), Image.Resampling.BOX)


if __name__ == "__main__":
    main()
