"""Draws the pictures of docs/mathematics.md and docs/robust.md, and computes a table of the former.

python docs/pictures/method.py filters      the eigenfilters of 3x3 kernels and their spectra
python docs/pictures/method.py knobs        what each strength of SpectralNoise does to one image
python docs/pictures/method.py mechanism    what filters answer to a clean and to a noisy image
python docs/pictures/method.py ratios --data cifar10:DIR [--images 1000]
                                            noise over signal in the responses of random filters,
                                            into results/noise_over_signal.json
"""

import argparse
import json

import numpy as np
import torch
import torch.nn.functional as F
from corruptions import IMAGES, arranged, coloured, enlarged, scene
from PIL import Image
from torch import Tensor

from filterbands.control import SpectralNoise
from filterbands.datasets import load_data
from filterbands.filters import EQUAL_AREA, eigenfilters, spans
from filterbands.fourier import kernel_power
from filterbands.version import git_revision

RESULTS = IMAGES.parents[1] / "results"
OFF = {"strength": 0.0, "gain": 0.0, "noise": 0.0, "clean": 0.0}
SPANS = {
    "all low": spans(3, 3)[0],
    "white": torch.eye(9, dtype=torch.float64),
    "all high": spans(3, 3)[1],
    "all high, literal": spans(3, 3, zero_mean=False)[1],
}


def main() -> None:
    """Write docs/images/method-WHAT.png, or print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("filters", "knobs", "mechanism", "ratios"))
    parser.add_argument("--data", default="planted")
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    if options.what == "ratios":
        images = load_data(options.data, split="train").images[: options.images]
        found = {"data": options.data.partition(":")[0], "images": len(images), "noise": 0.1}
        text = json.dumps({**found, "ratios": ratios(images), "git": git_revision()}, indent=1)
        (RESULTS / "noise_over_signal.json").write_text(text + "\n")
        print(text)
        return
    draw = {"filters": filters, "knobs": knobs, "mechanism": mechanism}[options.what]
    file = IMAGES / f"method-{options.what}.png"
    draw().quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
    print(file)


def filters() -> Image.Image:
    """Return each eigenfilter and the power spectrum below it, frequency zero in the centre."""
    values, vectors = eigenfilters(3, 3, cutoff=EQUAL_AREA)
    kernels = vectors.reshape(9, 3, 3)
    top = [enlarged(_grey(0.5 + 0.5 * kernel / kernel.abs().max()), 21) for kernel in kernels]
    power = kernel_power(kernels, size=63)
    below = [enlarged(coloured(each.clamp_min(1e-5).log10()), 1) for each in power]
    return arranged({"kernel": top, "spectrum": below}, [f"{float(value):.3f}" for value in values])


def knobs() -> Image.Image:
    """Return a row a strength, at 0, 1, 2 and 4 times its default, the same draw throughout."""
    own = SpectralNoise()
    defaults = {"strength": own.strength, "gain": own.gain, "noise": own.noise}
    rows = {}
    for name in (*defaults, "all three"):
        row = []
        for factor in (0.0, 1.0, 2.0, 4.0):
            changed = {each: factor * defaults[each] for each in defaults if name in (each, "all three")}
            row.append(_shown(_perturbed({**OFF, **changed}, seed=5)))
        rows[name] = row
    return arranged(rows, ["0", "default", "twice", "4 times"])


def mechanism() -> Image.Image:
    """Return the image, clean and with noise of 0.1, and what a random filter of each kind answers."""
    clean = _scene(64)
    generator = torch.Generator().manual_seed(0)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=generator)
    kernels = {}
    for name, span in list(SPANS.items())[:3]:
        kernels[name] = (
            (torch.randn(len(span), generator=generator).double() @ span).float().reshape(1, 1, 3, 3)
        )
    rows = {}
    for name, image in (("clean", clean), ("noise of 0.1", noisy)):
        row = [enlarged(_bytes(image[0]), 1)]
        for kernel in kernels.values():
            answer, reference = (
                F.conv2d(F.pad(part.mean(1, keepdim=True), (1,) * 4, mode="reflect"), kernel)[0, 0]
                for part in (image, clean)
            )
            scaled = 0.5 + (answer - reference.mean()) / (6 * reference.std())
            row.append(enlarged(_grey(scaled), 1))
        rows[name] = row
    return arranged(rows, ["image", *kernels])


def ratios(images: Tensor) -> dict[str, float]:
    """Return noise over signal, variances summed over filters drawn evenly from a span."""
    pixels = images.double() / 255
    patches = F.unfold(pixels.flatten(0, 1)[:, None], 3).movedim(1, 2).flatten(0, 1)
    covariance = torch.cov(patches.T)
    found = {}
    for name, span in SPANS.items():
        found[name] = 0.1**2 * len(span) / float(torch.trace(span @ covariance @ span.T))
    return found


def _perturbed(options: dict[str, object], *, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return SpectralNoise(**options)(_scene(32))[0]  # type: ignore[arg-type]


def _scene(side: int) -> Tensor:
    return torch.from_numpy(np.array(scene(side))).permute(2, 0, 1)[None].float() / 255


def _shown(image: Tensor) -> Image.Image:
    outside = ((image < -1e-6) | (image > 1 + 1e-6)).any(dim=0)
    pixels = _bytes(image)
    pixels[outside.numpy()] = (255, 0, 255)
    return enlarged(pixels, 2)


def _bytes(image: Tensor) -> np.ndarray:
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy().copy()


def _grey(values: Tensor) -> np.ndarray:
    return _bytes(values[None].expand(3, -1, -1))


if __name__ == "__main__":
    main()
