"""`filterbands shrink`: folds the best linear denoiser of a patch into a trained network."""

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import tyro

from ..control import CleanCost, choose_noise, clean_cost, shrink
from ..datasets import ImageSet, load_data
from ..disk import check_output, write_weights
from ..filters import analyze
from ..models import describe, read_checkpoint
from .shared import Answer, DeviceOptions, NetworkOptions, OutFile, Spec, check_range, progress_bar


@dataclass(frozen=True, kw_only=True)
class ShrinkOptions(DeviceOptions):
    """Make a trained network robust to noise without training, and show the cost on clean images.

    The covariance of patches is taken from the `train` split, a budget is spent on `validation`, and the
    cost is shown on `test`.
    """

    model: tyro.conf.Positional[str]
    """A checkpoint file or a Run folder."""
    network: NetworkOptions = field(default_factory=NetworkOptions)
    """The network, and what it expects of its images."""
    data: Spec
    out: OutFile
    """The .safetensors file to write."""
    noise: float = 0.03
    """Standard deviation of the noise to be ready for, in units of [0, 1]."""
    budget: float = 0.0
    """Choose the largest noise that costs at most this much clean accuracy (0.005 is half a point)."""
    images: int = 1000
    """Images whose patches are taken, the first of the training split."""
    size: int = 0
    """Side in pixels to which images of folder:DIR are resized and cropped; 0 takes them as they are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.noise <= 1:
            raise ValueError(f"--noise needs a number above 0 and up to 1, got {self.noise:g}")
        if not 0 <= self.budget < 1:
            raise ValueError(f"--budget needs a share of accuracy from 0 to below 1, got {self.budget:g}")
        check_range("--images", self.images, 1, math.inf)
        check_range("--size", self.size, 0, 4096)


@progress_bar("shrink")
def run(options: ShrinkOptions) -> Answer:
    """Shrink, write the weights, and return the clean cost."""
    out = check_output(options.out)
    device = options.start(options.device)
    seen, test = _images(options, "train", limit=options.images), _images(options, "test")
    model = options.network.load(options.model).to(device)
    known = read_checkpoint(options.model)[1]
    arch = options.network.arch or known.get("arch", "")
    noise, trials = options.noise, tuple[CleanCost, ...]()
    if options.budget:
        noise, trials = choose_noise(model, seen, _images(options, "validation"), budget=options.budget)
    before = copy.deepcopy(model)
    shrink(model, seen, noise=noise)
    cost = clean_cost(before, model, test, noise=noise)
    write_weights(out, model.state_dict(), describe(model, arch=arch))
    energies = [next(iter(analyze(network))).mean_low_energy for network in (before, model)]
    document: dict[str, Any] = {
        "out": str(out),
        "arch": arch,
        "noise": noise,
        "images": len(seen),
        "mean_low_energy": energies,
        "clean": _plain(cost),
        "trials": [_plain(trial) for trial in trials],
    }
    lines = [f"  tried on validation: {trial}" for trial in trials]
    low = " -> ".join(f"{energy:.3f}" for energy in energies if energy is not None)
    lines.append(f"{out}: {cost}; mean low energy of the first layer {low}")
    return Answer(document=document, text="\n".join(lines))


def _images(options: ShrinkOptions, split: str, *, limit: int | None = None) -> ImageSet:
    return load_data(options.data, split=split, size=options.size or None, limit=limit)


def _plain(cost: CleanCost) -> dict[str, Any]:
    return {name: getattr(cost, name) for name in ("noise", "images", "before", "after", "drop", "margin")}
