"""The Fourier heat map: how often a network errs when one frequency is added to what it sees."""

import logging
import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from .. import fourier, rng
from ..checks import hint
from ..evaluation import Data
from ..filters import EQUAL_AREA
from ..models import Named
from ..types import Progress
from .probe import Arrays, Probe, ProbeConfig, probing

_LOG = logging.getLogger(__name__)
_WORD = 64
# Waves x pixels of a whole map of 32 x 32, and what a map of larger images costs at most: as 1,000 such.
_WHOLE = 514 * 32 * 32
_COST = 1000 * _WHOLE
# At least as many frequencies are measured along a side, unless `step` says otherwise.
_ALONG = 8
# Batches from which on it is worth timing one.
_WORTH_TIMING = 20
# Of radii in single precision.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """Error rates of a network under a perturbation along every two-dimensional frequency."""

    error: Float[Tensor, "rows columns"]
    """Share of misclassified images at [c + i, d + j] for i vertical and j horizontal cycles per image, where
    c = height // 2 and d = width // 2. An even height h gives h + 1 rows, the first equal to the last; an odd
    height gives h. The same holds for columns. NaN where nothing was measured: see `step` and `reach`."""
    clean_error: float
    """Share of misclassified images without a perturbation."""
    norm: float
    """L2 norm of the perturbation in each channel."""
    size: tuple[int, int]
    """Height and width of the perturbed image or feature map."""
    layer: str
    """The module whose output was perturbed; empty for the input."""
    images: int
    """Number of images."""
    step: int = 1
    """One frequency in so many was measured in each direction, frequency zero among them."""
    reach: float | None = None
    """Largest radius measured, in cycles per pixel; None for all."""

    @property
    def radius(self) -> Float[Tensor, "rows columns"]:
        """The radius of every entry of `error`, cycles per pixel."""
        height, width = self.size
        return torch.hypot(_centered(height)[:, None] / height, _centered(width) / width)

    def mean_error(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return the mean error over measured distinct frequencies of radius above `low` and up to `high`.

        With `low` 0, frequency zero is included. NaN where no frequency lies in the range, where none of it
        was measured, or where a part of it lies beyond `reach`: its mean would be that of another range.
        """
        error, inside = self._distinct(low, high)
        rows, columns = self.size
        beyond = self.reach is not None and self.radius[:rows, :columns] > self.reach + _ROUNDING
        measured = error[inside & ~error.isnan()]
        if len(measured) == 0 or bool((inside & beyond).any()):
            return float("nan")
        return float(measured.mean())

    def measured(self, low: float = 0.0, high: float = 1.0) -> tuple[int, int]:
        """Return how many distinct frequencies of a range were measured, and how many there are."""
        error, inside = self._distinct(low, high)
        return int((inside & ~error.isnan()).sum()), int(inside.sum())

    def filled(self) -> Float[Tensor, "rows columns"]:
        """Return `error` where each frequency up to `reach` has the value of the nearest one on the grid."""
        height, width = self.size
        places = [_nearest(side, self.step) for side in (height, width)]
        found = self.error[places[0]][:, places[1]]
        if self.reach is None:
            return found
        return found.masked_fill(self.radius > self.reach + _ROUNDING, float("nan"))

    def _distinct(self, low: float, high: float) -> tuple[Tensor, Tensor]:
        rows, columns = self.size
        # For even sides the last row and column repeat the first.
        error, radius = self.error[:rows, :columns].double(), self.radius[:rows, :columns]
        return error, (radius <= high) & ((radius > low) | (low == 0))

    def to_json(self) -> dict[str, Any]:
        """Return plain values; None in place of NaN."""
        measured, frequencies = self.measured()
        return {
            "error": [[_or_none(value) for value in row] for row in self.error.tolist()],
            "clean_error": self.clean_error,
            "mean_error": _or_none(self.mean_error()),
            "low_error": _or_none(self.mean_error(0.0, EQUAL_AREA)),
            "high_error": _or_none(self.mean_error(EQUAL_AREA, 1.0)),
            "step": self.step,
            "radius": self.reach,
            "measured": measured,
            "frequencies": frequencies,
            "norm": self.norm,
            "size": list(self.size),
            "layer": self.layer,
            "images": self.images,
        }


def fourier_heatmap(
    model: Named,
    data: Data,
    *,
    norm: float,
    limit: int | None = None,
    layer: str = "",
    config: ProbeConfig | None = None,
    db: str | Path | None = None,
    progress: Progress | None = None,
) -> HeatMap:
    """Return a network's error under a perturbation along every two-dimensional Fourier basis image.

    The basis image of a frequency, scaled to `norm` and with a random sign per image and channel, is added to
    each image. The sum is clipped to [0, 1], as a camera would, before any normalization. Mirrored
    frequencies share their basis image, so that 514 of 32 x 32 are computed. The database keeps each finished
    row, and a stopped map continues from there.

    A whole map of 224 x 224 pixels has some 25,000 waves. Of images larger than 32 x 32, only one frequency
    in `config.step` is measured in each direction. By default the step is the smallest for which waves x
    images x pixels are at most those of a whole 32-pixel map of 1,000 images, but not above an eighth of the
    side. Such a bound, and the time of a map of more than a minute, are told in a line of the log.

    Args:
        model: As `evaluate` takes it.
        data: As `evaluate` takes them.
        norm: L2 norm of the perturbation in each channel, images in [0, 1]; above 0.
        limit: Take so many images, as `load_data` does.
        layer: Perturb the output of the module of this name instead of the image. The norm is then in units
            of that output, nothing is clipped, and a module that runs several times is perturbed each time.
        config: How the network is probed.
        db: Database that keeps finished rows; None keeps nothing.
        progress: Called with basis images done, basis images in all, and a name.

    Raises:
        ValueError: A norm that is not above 0, a module that does not exist or gives no feature map, a layer
            of a compiled network, or data and network that do not fit.

    Source: Yin et al. 2019, arXiv:1906.08988, section 2. The paper leaves the phase of a basis image and the
    clipping open: the phase here is that of a cosine, and the clipping is as above.

    >>> from filterbands import load_data, load_model
    >>> data = load_data("planted").subset(torch.arange(4))
    >>> fourier_heatmap(load_model(arch="fastnet"), data, norm=2.0).error.shape
    torch.Size([33, 33])
    """
    if not (np.isfinite(norm) and norm > 0):
        raise ValueError(f"norm needs a number above 0, the L2 norm in each channel, got {norm:g}")
    if layer and config is not None and config.compile:
        raise ValueError("compile takes the network as a whole, and layer looks into it; leave one out")
    added: list[Tensor] = []

    def perturb(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
        return output + added[0].to(output.dtype) if added else None

    with probing(model, data, limit=limit, config=config, db=db) as probe:
        perturbed = find_module(probe.network, layer)
        shape = _feature_shape(probe, perturbed, layer) if layer else probe.source.shape
        _, height, width = shape
        reach, step = probe.config.radius, probe.config.step
        rows = _frequencies(height, width, step or 1, reach)
        if step is None:
            step, rows = _affordable(probe, height, width, rows)
        total, done, told = sum(map(len, rows.values())), 0, False
        errors = torch.full((height, width), float("nan"), dtype=torch.float64)
        facts = {"probe": "heatmap", "norm": float(norm), "layer": layer, "shape": list(shape)}

        def compute(pairs: Tensor) -> Arrays:
            nonlocal told
            if not told:
                _tell_time(probe, total - done)
                told = True
            return _wrong(probe, added if layer else None, pairs, shape, float(norm))

        with perturbed.register_forward_hook(perturb) if layer else nullcontext():
            clean_error = float(probe.clean().double().mean())
            for i, columns in rows.items():
                pairs = torch.stack([torch.full_like(columns, i), columns], dim=1)
                part = {**facts, "row": i}
                if len(columns) < len(_row(height, width, i)):
                    part["columns"] = columns.tolist()
                found = probe.part(part, partial(compute, pairs), {"wrong": len(pairs)})["wrong"]
                rates = torch.from_numpy(np.asarray(found, dtype=np.float64)) / len(probe.images)
                errors[i % height, columns % width] = rates
                errors[-i % height, -columns % width] = rates
                done += len(columns)
                if progress is not None:
                    progress(done, total, "heat map")
        heat = HeatMap(
            error=errors[_centered(height) % height][:, _centered(width) % width].float(),
            clean_error=clean_error,
            norm=float(norm),
            size=(height, width),
            layer=layer,
            images=len(probe.images),
            step=step,
            reach=reach,
        )
        probe.record({**facts, "step": step, "reach": reach}, heat.to_json())
        return heat


def _centered(side: int) -> Int64[Tensor, " n"]:
    """Return the frequencies of a side around 0; an even one's first, -side / 2, is repeated as +side / 2."""
    return torch.arange(-(side // 2), side // 2 + 1)


def _row(height: int, width: int, i: int) -> Int64[Tensor, " n"]:
    """Return the columns of one of each pair of mirrored frequencies; some rows hold both."""
    return torch.arange(width // 2 + 1 if 2 * i % height == 0 else width)


def _frequencies(height: int, width: int, step: int, reach: float | None) -> Mapping[int, Tensor]:
    """Return the columns to measure of each row: one in `step` around frequency zero, up to a radius."""
    rows = {}
    for i in range(0, height // 2 + 1, step):
        columns = _row(height, width, i)
        signed = torch.where(columns > width // 2, columns - width, columns)
        radius = torch.hypot(torch.tensor(i / height), signed / width)
        wanted = (signed % step == 0) & (radius <= (math.inf if reach is None else reach) + _ROUNDING)
        if bool(wanted.any()):
            rows[i] = columns[wanted]
    return rows


def _affordable(
    probe: Probe, height: int, width: int, whole: Mapping[int, Tensor]
) -> tuple[int, Mapping[int, Tensor]]:
    """Return the smallest step whose map is affordable, and its frequencies; tell a step above 1."""
    _, rows_of_image, columns_of_image = probe.source.shape
    pixels, images = rows_of_image * columns_of_image, len(probe.images)
    step, rows = 1, whole
    while (
        (waves := sum(map(len, rows.values()))) * pixels > _WHOLE
        and waves * pixels * images > _COST
        and step < min(height, width) // _ALONG
    ):
        step += 1
        rows = _frequencies(height, width, step, probe.config.radius)
    if step > 1:
        _LOG.warning(
            "heat map: one frequency in %d in each direction is measured, %d of %d waves, because more would "
            "take long with %d images of %d x %d pixels; step=1 (--step 1) measures all, and a radius "
            "(--radius) or fewer images (--limit) allow a smaller step",
            *(step, waves, sum(map(len, whole.values())), images, rows_of_image, columns_of_image),
        )
    return step, rows


@torch.inference_mode()
def _tell_time(probe: Probe, waves: int) -> None:
    """Time one batch and tell how long these waves will take, if that is more than a minute."""
    passes, size = waves * len(probe.images), probe.config.batch_size
    if passes < _WORTH_TIMING * size:
        return
    batch = torch.arange(size, device=probe.images.device) % len(probe.images)
    began = time.perf_counter()
    probe.wrong(probe.floats()[batch], probe.labels[batch]).any().item()
    seconds = (time.perf_counter() - began) * passes / size
    if seconds > 60:
        _LOG.warning(
            "heat map: about %s for %s waves on %s images",
            *(timedelta(seconds=round(seconds)), f"{waves:,}", f"{len(probe.images):,}"),
        )


def _nearest(side: int, step: int) -> Int64[Tensor, " n"]:
    """Return for each place of a side of the map the nearest one whose frequency is a multiple of `step`."""
    last = side // 2 // step
    return (_centered(side) / step).round().clamp(-last, last).long() * step + side // 2


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


@torch.inference_mode()
def _wrong(
    probe: Probe,
    added: list[Tensor] | None,
    pairs: Int64[Tensor, "n 2"],
    shape: tuple[int, int, int],
    norm: float,
) -> Arrays:
    """Return how many images are misclassified under each frequency, which `added` takes to the hook."""
    channels, height, width = shape
    device = probe.images.device
    # Networks take the channels last, so that no batch has to be copied.
    images, labels = probe.floats().contiguous(memory_format=torch.channels_last), probe.labels
    basis = norm * fourier.fourier_basis(height, width, pairs[:, 0], pairs[:, 1]).to(device)
    key = rng.keys(probe.config.seed, "fourier_heatmap", index=probe.source.index)
    streams = (pairs[:, 0] * width + pairs[:, 1]).tolist()
    signs = torch.stack([_signs(key, channels, stream) for stream in streams]).to(device)
    count = len(images)
    counts = torch.zeros(len(pairs), dtype=torch.int64, device=device)
    # One loop over all pairs of basis and image, so that a few images still fill a batch.
    for item in torch.split(torch.arange(len(pairs) * count, device=device), probe.config.batch_size):
        which, image = item // count, item % count
        seen = images[image].contiguous(memory_format=torch.channels_last)
        sign, wave = signs[which, image][:, :, None, None], basis[which][:, None]
        if added is None:
            wrong = probe.wrong(seen.addcmul_(sign, wave).clamp_(0, 1), labels[image])
        else:
            added[:] = [sign * wave]
            wrong = probe.wrong(seen, labels[image])
            added.clear()
        counts.index_add_(0, which, wrong.long())
    return {"wrong": counts.cpu().numpy()}


def _signs(key: Int64[Tensor, " b"], channels: int, stream: int) -> Float[Tensor, "b c"]:
    """Return -1 or 1 for each image and channel."""
    words = rng.bits(key, -(-channels // _WORD), stream=stream)
    bits = (words[:, :, None] >> torch.arange(_WORD)) & 1
    return bits.flatten(1)[:, :channels].float() * 2 - 1


def find_module(model: nn.Module, name: str) -> nn.Module:
    """Return the module of a name.

    Raises:
        ValueError: There is none.

    >>> find_module(nn.Sequential(nn.ReLU()), "0")
    ReLU()
    """
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if name not in modules:
        near, known = hint(name, modules, closeness=0.4), ", ".join([*modules][1:9])
        raise ValueError(f"the network has no module {name!r}{near}; it has {known}, ...")
    return modules[name]


def _feature_shape(probe: Probe, module: nn.Module, layer: str) -> tuple[int, int, int]:
    """Return channels, height and width of what a module gives."""
    seen: list[Any] = []
    hook = module.register_forward_hook(lambda _, __, output: seen.append(output))
    with hook, torch.inference_mode():
        probe.outputs(probe.floats()[:2])
    shapes = {tuple(found.shape[1:]) if isinstance(found, Tensor) else type(found).__name__ for found in seen}
    if len(shapes) != 1 or not isinstance(seen[0], Tensor) or seen[0].ndim != 4:
        what = " and ".join(map(str, shapes)) or "nothing: it does not run"
        raise ValueError(
            f"layer needs a module that gives feature maps (b, c, h, w) of one size; {layer!r} gives {what}"
        )
    channels, height, width = seen[0].shape[1:]
    # Maps have the shape of the images, nearly always exactly.
    _, rows, columns = probe.source.shape
    if channels * columns == height * rows and height * columns != width * rows:
        raise ValueError(
            f"layer needs a module that gives feature maps (b, c, h, w); {layer!r} gives "
            f"{channels} x {height} x {width}, which seems to have its channels last; name another module"
        )
    return channels, height, width
