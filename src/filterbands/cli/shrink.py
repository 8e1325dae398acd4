"""`filterbands shrink`: folds the best linear denoiser of a patch into a trained network."""

import copy
import logging
import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import tyro

from ..control import CleanCost, choose_noise, clean_cost, shrink
from ..datasets import Reading, load_data
from ..disk import check_output, write_weights
from ..engine import at_a_time
from ..evaluation import has_seen, reading_for
from ..filters import analyze
from ..models import is_onnx, read_checkpoint
from .shared import (
    Answer,
    DeviceOptions,
    NetworkOptions,
    OutFile,
    SpecOfRun,
    check_range,
    data_of,
    progress_bar,
)

_LOG = logging.getLogger(__name__)
_NOISE = 0.03


@dataclass(frozen=True, kw_only=True)
class ShrinkOptions(DeviceOptions):
    """Make a trained network robust to noise without training, and show the cost on clean images.

    The covariance of patches is taken from the `train` split, a budget is spent on `validation`, and the
    cost is shown on `test`.
    """

    model: tyro.conf.Positional[str]
    """A checkpoint, a Run, timm:NAME, torchvision:NAME, or module:function (which runs that code)."""
    network: NetworkOptions = field(default_factory=NetworkOptions)
    """The network, and what it expects of its images."""
    data: SpecOfRun = None
    out: OutFile
    """The .safetensors file to write."""
    noise: float | None = None
    """Standard deviation of the noise to be ready for, in units of [0, 1]; 0.03 by default."""
    budget: float = 0.0
    """Choose the largest noise that costs at most this much clean accuracy (0.005 is half a point)."""
    images: int = 1000
    """Images of the training split whose patches are taken; evenly many of each class if sorted by class."""
    size: int = 0
    """Side in pixels to which images of folder:DIR are resized and cropped; 0 takes that of the network's
    training, where it is known."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise is not None and self.budget:
            raise ValueError("--noise and --budget exclude each other: a budget chooses the noise")
        if self.noise is not None and not 0 < self.noise <= 1:
            raise ValueError(f"--noise needs a number above 0 and up to 1, got {self.noise:g}")
        if not 0 <= self.budget < 1:
            raise ValueError(f"--budget needs a share of accuracy from 0 to below 1, got {self.budget:g}")
        check_range("--images", self.images, 1, math.inf)
        Reading(size=self.size)


@progress_bar("shrink")
def run(options: ShrinkOptions) -> Answer:
    """Shrink, write the weights, and return the clean cost."""
    with at_a_time(options.batch_size):
        return _shrunk(options)


def _shrunk(options: ShrinkOptions) -> Answer:
    out = check_output(options.out, replaced=True)
    given = Reading(size=options.size)
    spec, reading = data_of(options.data, [options.model], split="test", reading=given)
    reading = reading_for(spec, options.network.specs(options.model), reading)
    device = options.start(options.device)
    images = partial(load_data, spec, reading=reading)
    seen, test = images(split="train", limit=options.images), images(split="test")
    if is_onnx(options.model):
        # Refused: the line says that weights are needed by name.
        read_checkpoint(options.model)
    model = options.network.load(options.model).to(device)
    noise, trials = _NOISE if options.noise is None else options.noise, tuple[CleanCost, ...]()
    if options.budget:
        if has_seen(options.model, spec, "validation"):
            _LOG.warning(
                "%s was trained on the validation images on which the budget is spent, and may lose more on "
                "others; the cost on test images stands below",
                options.model,
            )
        noise, trials = choose_noise(model, seen, images(split="validation"), budget=options.budget)
    before = copy.deepcopy(model)
    shrink(model, seen, noise=noise)
    cost = clean_cost(before, model, test, noise=noise)
    metadata = options.network.described(model, options.model)
    write_weights(out, model.state_dict(), metadata)
    energies = [
        next((layer.mean_low_energy for layer in analyze(network).spatial), None)
        for network in (before, model)
    ]
    document: dict[str, Any] = {
        "out": str(out),
        "arch": metadata["arch"],
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


def _plain(cost: CleanCost) -> dict[str, Any]:
    return {name: getattr(cost, name) for name in ("noise", "images", "before", "after", "drop", "margin")}
