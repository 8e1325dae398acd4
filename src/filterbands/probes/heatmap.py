"""The Fourier heat map: how often a network errs when one frequency is added to what it sees."""

from contextlib import nullcontext
from dataclasses import dataclass
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
from ..models import Named, opened
from ..types import Progress
from .probe import Arrays, Probe, ProbeConfig, probing

_WORD = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """Error rates of a network under a perturbation along every two-dimensional frequency."""

    error: Float[Tensor, "rows columns"]
    """Share of misclassified images at [c + i, d + j] for i vertical and j horizontal cycles per image, where
    c = height // 2 and d = width // 2. An even height h gives h + 1 rows, the first equal to the last; an odd
    height gives h. The same holds for columns."""
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

    @property
    def radius(self) -> Float[Tensor, "rows columns"]:
        """The radius of every entry of `error`, cycles per pixel."""
        height, width = self.size
        return torch.hypot(_centered(height)[:, None] / height, _centered(width) / width)

    def mean_error(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return the mean error over distinct frequencies whose radius is above `low` and up to `high`.

        With `low` 0, frequency zero is included. NaN where no frequency lies in the range.
        """
        rows, columns = self.size
        # For even sides the last row and column repeat the first.
        error, radius = self.error[:rows, :columns].double(), self.radius[:rows, :columns]
        inside = (radius <= high) & ((radius > low) | (low == 0))
        return float(error[inside].mean()) if bool(inside.any()) else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "error": self.error.tolist(),
            "clean_error": self.clean_error,
            "mean_error": self.mean_error(),
            "low_error": self.mean_error(0.0, EQUAL_AREA),
            "high_error": self.mean_error(EQUAL_AREA, 1.0),
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

    Args:
        model: As `evaluate` takes it.
        data: As `evaluate` takes them.
        norm: L2 norm of the perturbation in each channel, images in [0, 1]; above 0.
        limit: Take the first so many images.
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
    model = opened(model)
    if layer:
        find_module(model, layer)
        if config is not None and config.compile:
            raise ValueError("compile takes the network as a whole, and layer looks into it; leave one out")
    added: list[Tensor] = []

    def perturb(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
        return output + added[0].to(output.dtype) if added else None

    with probing(model, data, limit=limit, config=config, db=db) as probe:
        shape = _feature_shape(probe, model, layer) if layer else probe.source.shape
        _, height, width = shape
        # One of each pair of mirrored frequencies: a row that mirrors itself holds both of each pair.
        rows = {
            i: torch.arange(width // 2 + 1 if 2 * i % height == 0 else width) for i in range(height // 2 + 1)
        }
        total, done = sum(map(len, rows.values())), 0
        errors = torch.full((height, width), float("nan"), dtype=torch.float64)
        facts = {"probe": "heatmap", "norm": float(norm), "layer": layer, "shape": list(shape)}
        with find_module(model, layer).register_forward_hook(perturb) if layer else nullcontext():
            clean_error = float(probe.clean().double().mean())
            for i, columns in rows.items():
                pairs = torch.stack([torch.full_like(columns, i), columns], dim=1)
                compute = partial(_wrong, probe, added if layer else None, pairs, shape, float(norm))
                found = probe.part({**facts, "row": i}, compute)["wrong"]
                rates = torch.from_numpy(np.asarray(found, dtype=np.float64)) / len(probe.images)
                errors[i % height, columns % width] = rates
                errors[-i % height, -columns % width] = rates
                done += len(columns)
                if progress is not None:
                    progress(done, total, "heat map")
        return HeatMap(
            error=errors[_centered(height) % height][:, _centered(width) % width].float(),
            clean_error=clean_error,
            norm=float(norm),
            size=(height, width),
            layer=layer,
            images=len(probe.images),
        )


def _centered(side: int) -> Int64[Tensor, " n"]:
    """Return the frequencies of a side around 0; an even one's first, -side / 2, is repeated as +side / 2."""
    return torch.arange(-(side // 2), side // 2 + 1)


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


def _feature_shape(probe: Probe, model: nn.Module, layer: str) -> tuple[int, int, int]:
    seen: list[Any] = []
    hook = find_module(model, layer).register_forward_hook(lambda _, __, output: seen.append(output))
    with hook, torch.inference_mode():
        probe.outputs(probe.floats()[:2])
    shapes = {tuple(found.shape[1:]) if isinstance(found, Tensor) else type(found).__name__ for found in seen}
    if len(shapes) != 1 or not isinstance(seen[0], Tensor) or seen[0].ndim != 4:
        what = " and ".join(map(str, shapes)) or "nothing: it does not run"
        raise ValueError(
            f"layer needs a module that gives feature maps (b, c, h, w) of one size; {layer!r} gives {what}"
        )
    channels, height, width = seen[0].shape[1:]
    return channels, height, width
