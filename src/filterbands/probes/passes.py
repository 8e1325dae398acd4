"""Pass curves: accuracy of a network when only some frequencies of the images are left."""

import math
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .. import fourier, rng
from ..evaluation import Data
from ..models import Named
from ..scores import RESAMPLES, Answers, estimate_of, guessing
from ..types import FloatImages, Progress
from .probe import ProbeConfig, probing

STEPS = 16
"""Number of radii of a curve."""
CORNER = 0.5**0.5
"""The largest radius, in cycles per pixel, where a low-pass filter removes nothing."""
BANDS = ("low", "high", "band")
"""Pass bands of a filter: up to a radius, beyond it, or the ring that ends there."""
SHAPES = ("ideal", "gaussian")
"""Edges of a filter: sharp, or a Gaussian whose gain at the radius is one half."""

# Share of the resamples that may lack a gain; beyond it an end of the interval would be one without.
_WITHOUT_GAIN = 0.025


@dataclass(frozen=True, slots=True, kw_only=True)
class PassCurves:
    """Accuracy on filtered images."""

    radii: Float[Tensor, " r"]
    """Cutoff radii in cycles per pixel, equally spaced; the last is the corner of the frequency square."""
    curves: dict[str, Float[Tensor, " r"]]
    """Accuracy at each radius, by `low`, `high` and `band`, each followed by `_ideal` or `_gaussian`."""
    clean: float
    """Accuracy on the images themselves."""
    phase_only: float
    """Accuracy on images with their own phases and the mean amplitudes of all."""
    amplitude_only: float
    """Accuracy on images with their own amplitudes and random phases."""
    reached: dict[float, tuple[float, float, float] | None]
    """Radius that an ideal low-pass filter needs for 10 % and for 90 % of the gain of clean accuracy over
    guessing, with the 95 % interval over images. Guessing names the largest class among the images. None
    where the interval of the clean accuracy does not lie above it, or where too few resamples have a gain."""
    images: int
    """Number of images."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "radii": self.radii.tolist(),
            "curves": {name: curve.tolist() for name, curve in self.curves.items()},
            "clean": self.clean,
            "phase_only": self.phase_only,
            "amplitude_only": self.amplitude_only,
            "reached": {
                f"{share:g}": None if found is None else {"radius": found[0], "ci95": list(found[1:])}
                for share, found in self.reached.items()
            },
            "images": self.images,
        }


def pass_curves(
    model: Named,
    data: Data,
    *,
    limit: int | None = None,
    config: ProbeConfig | None = None,
    db: str | Path | None = None,
    progress: Progress | None = None,
) -> PassCurves:
    """Return a network's accuracy on filtered images.

    Low-, high- and band-pass filters, ideal and Gaussian, are applied at 16 radii each; two more figures are
    for images with their phases or their amplitudes alone. Filters are circular and keep the mean of each
    channel, so that an image is left, which is clipped to [0, 1]. `progress` is called with filters done,
    filters in all, and a name; all other arguments are as for `fourier_heatmap`.

    Raises:
        ValueError: Data and network that do not fit.

    >>> from filterbands import load_data, load_model
    >>> data = load_data("planted").subset(torch.arange(4))
    >>> len(pass_curves(load_model(arch="fastnet"), data).curves["low_ideal"])
    16
    """
    with probing(model, data, limit=limit, config=config, db=db) as probe:
        radii = torch.arange(1, STEPS + 1, dtype=torch.float64) * (CORNER / STEPS)
        names = [f"{band}_{shape}" for shape in SHAPES for band in BANDS]
        parts = [("phase_only", 0), ("amplitude_only", 0), *product(names, range(STEPS))]
        mean = fourier.amplitude_image(probe.floats())
        clean = ~probe.clean().numpy()
        right: dict[str, list[Bool[Tensor, " n"]]] = {}
        for number, (name, step) in enumerate(parts):
            wanted = {"probe": "passes", "filter": name, "step": str(step)}
            if name == "amplitude_only":
                # Parts of before had no random phases at 96 pixels and more.
                wanted["version"] = "2"
            change = partial(_filtered, name, step, mean, probe.config.seed)
            right.setdefault(name, []).append(~probe.misclassified(wanted, change))
            if progress is not None:
                progress(number + 1, len(parts), name.replace("_", " "))
        labels, positions = probe.source.labels.numpy(), np.arange(len(clean))
        chance = guessing(labels)
        learned = estimate_of([Answers(positions=positions, bits=clean)], labels).ci95[0] > chance
        curves = {name: torch.stack(bits).float().mean(dim=1) for name, bits in right.items()}
        low = torch.stack(right["low_ideal"]).numpy()
        found = PassCurves(
            radii=radii.float(),
            curves={name: curves[name] for name in names},
            clean=float(clean.mean()),
            phase_only=float(curves["phase_only"]),
            amplitude_only=float(curves["amplitude_only"]),
            reached={
                share: reached(low, clean, radii.numpy(), share, chance) if learned else None
                for share in (0.1, 0.9)
            },
            images=len(clean),
        )
        probe.record({"probe": "passes"}, found.to_json())
        return found


def pass_gain(name: str, step: int, height: int, width: int) -> Float[Tensor, "h v"]:
    """Return the gain of a filter, such as `low_ideal`, on the half grid of `rfft2`; 1 at frequency zero."""
    band, _, shape = name.partition("_")
    radius = fourier.radius_grid(height, width, half=True)
    width_of_ring = CORNER / STEPS
    inner, outer = step * width_of_ring, (step + 1) * width_of_ring
    if shape == "ideal":
        # The corner's own radius is rounded in either direction.
        low = (radius <= outer + 1e-6).float()
        ring = low * (radius > inner + 1e-6)
    else:
        low = torch.exp2(-((radius / outer) ** 2))
        ring = torch.exp2(-(((radius - (inner + outer) / 2) / (width_of_ring / 2)) ** 2))
    gain = {"low": low, "high": 1 - low, "band": ring}[band]
    gain[0, 0] = 1
    return gain


def _filtered(
    name: str, step: int, mean: Tensor, seed: int, images: FloatImages, index: Tensor
) -> FloatImages:
    height, width = images.shape[2:]
    if name == "phase_only":
        return fourier.swap_amplitude(images, mean.expand_as(images))
    if name == "amplitude_only":
        noise = rng.normal(rng.keys(seed, "amplitude_only", index=index), (1, height, width))
        # A positive mean has phase zero: the image keeps its own. Channels share the phases. The mean lies
        # eight standard deviations above 0 and no higher: beside a large one, all else counts as 0.
        shared = (noise.to(images.device) + 8 / math.sqrt(height * width)).expand_as(images)
        return fourier.swap_amplitude(shared, images)
    gain = pass_gain(name, step, height, width).to(images.device)
    return fourier.filter_images(images, gain[None, None])


def reached(
    right: np.ndarray[Any, np.dtype[np.bool_]],
    clean: np.ndarray[Any, np.dtype[np.bool_]],
    radii: np.ndarray[Any, np.dtype[np.float64]],
    share: float,
    chance: float,
) -> tuple[float, float, float] | None:
    """Return the radius at which a low-pass curve reaches a share of the gain over guessing (with interval).

    The radius lies on the line between the two steps around the first crossing. The interval is the 95 %
    percentile bootstrap over images (1,000 resamples). `right` (radii, images) and `clean` (images) say
    which images are classified correctly, filtered and unfiltered; `radii` ascend; `chance` is the accuracy
    of guessing. None where there is no gain, be it in the images or in more than 2.5 % of the resamples.
    """
    radius = _crossing(right.mean(axis=1)[None], clean.mean()[None], radii, share, chance)[0]
    if np.isnan(radius):
        return None
    count = len(clean)
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES // 100):
        weights = generator.multinomial(count, np.full(count, 1 / count), size=100) / count
        drawn.append(_crossing(weights @ right.T, weights @ clean, radii, share, chance))
    crossings = np.concatenate(drawn)
    if np.isnan(crossings).mean() > _WITHOUT_GAIN:
        return None
    low, high = np.nanpercentile(crossings, [2.5, 97.5])
    return float(radius), float(low), float(high)


def _crossing(
    curves: np.ndarray[Any, np.dtype[np.float64]],
    clean: np.ndarray[Any, np.dtype[np.float64]],
    radii: np.ndarray[Any, np.dtype[np.float64]],
    share: float,
    chance: float,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return, for each curve, the radius of its first crossing; NaN where there is nothing to reach."""
    # Frequency zero alone, before the first radius, is taken for guessing.
    whole = np.concatenate([np.full((len(curves), 1), chance), curves], axis=1)
    places = np.concatenate([[0.0], radii])
    target = chance + share * (clean - chance)
    above = whole[:, 1:] >= target[:, None]
    step = above.argmax(axis=1)
    rows = np.arange(len(curves))
    left, right = whole[rows, step], whole[rows, step + 1]
    part = np.where(right > left, (target - left) / np.where(right > left, right - left, 1), 1.0)
    radius = places[step] + part.clip(0, 1) * (places[step + 1] - places[step])
    found: np.ndarray[Any, np.dtype[np.float64]] = np.where(
        above.any(axis=1) & (clean > chance), radius, np.nan
    )
    return found
