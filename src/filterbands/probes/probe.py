"""What the probes of a network share: their config, the images that they use, the parts that are kept.

A probe measures which frequencies a network looks at: `heatmap` adds one frequency to the images, `passes`
filters them, `spectra` has the spectra of corruptions and of gradients, and `vulnerability` measures how
corruptions move the filters of the first layer.
"""

import contextlib
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .. import fourier
from ..checks import seed_number, whole_number
from ..disk import DAMAGED, check_arrays
from ..engine import PRECISIONS, Compiled, pick_precision
from ..evaluation import (
    Data,
    Source,
    Store,
    as_source,
    check_outputs,
    check_seen,
    logits_of,
    model_fingerprint,
    running_on,
)
from ..filters import EQUAL_AREA, rank_correlations
from ..models import Named, name_of, opened
from ..scores import RESAMPLES
from ..types import FloatImages, Images

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]
"""What a probe's finished part consists of, by name."""

_BYTES_AT_ONCE = 1 << 30
# Images at a time, or frequencies along a side, are never more.
_MOST = (1 << 31) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeConfig:
    """How a network is probed.

    What the network subtracts from the images and divides them by is part of the network: see `load_model`.

    >>> ProbeConfig(precision="bfloat16").batch_size
    250
    """

    seed: int = 0
    """Seed of signs, phases and random kinds."""
    precision: str = "float32"
    """Precision of the network: float32, or bfloat16 by autocast."""
    compile: bool = False
    """Compile the network first, some ten seconds; pays for heat maps of more than a few hundred images."""
    radius: float | None = None
    """Heat map: measure frequencies up to this radius in cycles per pixel; by default all."""
    step: int | None = None
    """Heat map: measure one frequency in so many in each direction; by default 1 up to 32 x 32 pixels, else
    as few as keep waves x images x pixels below those of a whole 32-pixel map of 1,000 images."""
    batch_size: int = 250
    """Images the network takes at a time; no part of a result."""
    device: str | None = None
    """Device: auto (CUDA where there is one), cpu, cuda or cuda:N; without one, where the network is."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", seed_number(self.seed))
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision needs {' or '.join(PRECISIONS)}, got {self.precision!r}")
        for name in ("batch_size", "step"):
            value = getattr(self, name)
            if value is None:
                continue
            object.__setattr__(self, name, value := whole_number(name, value))
            if not 1 <= value <= _MOST:
                raise ValueError(f"{name} needs a number from 1 to {_MOST:,}, got {value}")
        if self.radius is not None and not 0 < self.radius <= 1:
            raise ValueError(f"radius needs cycles per pixel above 0 and up to 1, got {self.radius:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """Power over frequencies, and what it adds up to."""

    power: Float[Tensor, "h w"]
    """Mean |DFT|^2 / (h w) over images and channels, frequency zero in the center, (h // 2, w // 2)."""

    @property
    def radii(self) -> Float[Tensor, " r"]:
        """Middles of the rings of `profile`, cycles per pixel; the first is frequency zero alone."""
        return _rings(*self.power.shape)[1]

    @property
    def profile(self) -> Float[Tensor, " r"]:
        """Mean power in rings of width 1 / min(h, w), out to the corner."""
        ring, _ = _rings(*self.power.shape)
        total = torch.bincount(ring, self.power.double().flatten())
        mean: Tensor = total / torch.bincount(ring).clamp_min(1)
        return mean

    @property
    def total(self) -> float:
        """Mean square of a value."""
        return float(self.power.double().mean())

    def low_energy(self, cutoff: float = EQUAL_AREA) -> float:
        """Return the share of the power at radii up to `cutoff`; 0 where there is no power."""
        power = self.power.double()
        radius = fourier.centered(fourier.radius_grid(*power.shape))
        return float(power[radius <= cutoff].sum() / power.sum().clamp_min(1e-300))

    def to_json(self) -> dict[str, Any]:
        """Return plain values: the profile and what it adds up to, not the map."""
        return {
            "low_energy": self.low_energy(),
            "total": self.total,
            "radii": self.radii.tolist(),
            "profile": self.profile.tolist(),
        }


def _rings(height: int, width: int) -> tuple[Tensor, Tensor]:
    radius = fourier.centered(fourier.radius_grid(height, width)).flatten()
    step = 1 / min(height, width)
    # Where one side is longer, its lowest frequencies are nearer to zero than half a ring.
    ring = torch.where(radius > 0, (radius / step).round().long().clamp_min(1), 0)
    return ring, torch.arange(int(ring.max()) + 1) * step


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A network in evaluation mode and the images that it is probed with, both on one device."""

    network: nn.Module
    """Takes floats in [0, 1]."""
    source: Source
    """The images' own facts."""
    images: Images
    """Bytes, on the device."""
    config: ProbeConfig
    """As it was asked for."""
    facts: Mapping[str, Any]
    """What every result depends on."""
    store: Store | None
    """Where finished parts are kept."""
    name: str = ""
    """What the network is called, where a text named it."""
    compiled: Compiled | None = None
    """What runs in the network's place where nothing looks into it."""

    @property
    def labels(self) -> Tensor:
        """The images' classes, on their device."""
        return self.source.labels.to(self.images.device)

    def floats(self) -> FloatImages:
        """Return the images in [0, 1]."""
        return self.images.float().div_(255)

    def batches(self) -> Iterator[tuple[FloatImages, Tensor, Tensor]]:
        """Yield images in [0, 1], their labels and their indices, `batch_size` at a time."""
        # Autograd keeps labels for a gradient, and refuses those that were made in inference mode.
        whole = (self.images, self.labels.clone(), self.source.index)
        parts = (torch.split(part, self.config.batch_size) for part in whole)
        for images, labels, index in zip(*parts, strict=True):
            yield images.float().div_(255), labels, index

    @torch.inference_mode()
    def wrong(self, images: FloatImages, labels: Tensor) -> Bool[Tensor, " b"]:
        """Return which of these images are misclassified."""
        return self.outputs(images, self.compiled or self.network).argmax(dim=1) != labels

    def misclassified(
        self, what: Mapping[str, Any], change: Callable[[FloatImages, Tensor], FloatImages]
    ) -> Bool[Tensor, " n"]:
        """Return which images are misclassified after a change, a function of images and indices."""

        def compute() -> Arrays:
            wrong = [
                self.wrong(change(images, index).clamp(0, 1), labels)
                for images, labels, index in self.batches()
            ]
            return {"wrong": np.packbits(torch.cat(wrong).cpu().numpy())}

        packed = self.part(what, compute, {"wrong": (len(self.images) + 7) // 8})["wrong"]
        bits = np.unpackbits(packed, count=len(self.images))
        return torch.from_numpy(bits.astype(bool))

    def clean(self) -> Bool[Tensor, " n"]:
        """Return which of the images themselves are misclassified."""
        return self.misclassified({"probe": "clean"}, lambda images, _: images)

    def outputs(
        self, images: FloatImages, run: Callable[[Tensor], Tensor] | None = None
    ) -> Float[Tensor, "b classes"]:
        """Return the logits of images in [0, 1]; raise ValueError where the network gives NaN."""
        found = logits_of(run or self.network, images, self.config.precision)
        if bool(found.isnan().any()):
            raise ValueError("the network gives NaN for the probed images; look for weights that overflowed")
        return found

    def part(
        self,
        what: Mapping[str, Any],
        compute: Callable[[], Arrays],
        sizes: Mapping[str, int] | None = None,
    ) -> Arrays:
        """Return a part of a probe: what the database holds of it, else what is computed and kept there."""
        return kept(self.store, {**self.facts, **what}, compute, sizes)

    def record(self, what: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Keep what a finished probe found, as plain values, for those who know the network alone.

        `what` has the probe's name as `probe`, and all that the result depends on beside `facts`.
        """
        if self.store is not None:
            about = {"name": self.name, "data": self.source.name, "split": self.source.split}
            document = {**self.facts, **about, "probe": what["probe"], "found": found}
            key = sha256(json.dumps({"record": True, **self.facts, **what}, sort_keys=True).encode())
            self.store.put_record(key.hexdigest(), self.facts["model"], json.dumps(document).encode())


def kept(
    store: Store | None,
    facts: Mapping[str, Any],
    compute: Callable[[], Arrays],
    sizes: Mapping[str, int] | None = None,
) -> Arrays:
    """Return what the database holds for these facts; what it lacks is computed and kept there.

    `sizes` says how many values each array has; parts of before schema 3 have no checksum.
    """
    if store is None:
        return compute()
    key = key_of_part(facts)
    content = store.probed(key)
    if content is not None:
        with contextlib.suppress(ValueError):
            found = read_arrays(content)
            if {name: found[name].size for name in sizes or () if name in found} == (sizes or {}):
                return found
    arrays = compute()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    store.put_probed(key, str(facts.get("probe", "")), buffer.getvalue())
    return arrays


def key_of_part(facts: Mapping[str, Any]) -> str:
    """Return the key under which a part that depends on these facts is kept."""
    return sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()


def read_arrays(content: bytes) -> Arrays:
    """Return the arrays of a part that a database holds; raise ValueError where it holds something else."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            check_arrays(archive)
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            return dict(found)
    except DAMAGED as error:
        raise ValueError(f"a part of a probe holds something else: {error}") from None


@contextlib.contextmanager
def probing(
    model: Named,
    data: Data,
    *,
    limit: int | None = None,
    config: ProbeConfig | None = None,
    db: str | Path | None = None,
) -> Iterator[Probe]:
    """Yield a network ready to be probed; afterwards it is as it was, modes and device."""
    networks = [] if isinstance(model, nn.Module) else [str(model)]
    model = opened(model)
    config = ProbeConfig() if config is None else config
    source = as_source(data, limit=limit, networks=networks)
    for network in networks:
        check_seen(network, data, source)
    size = len(source.labels) * int(np.prod(source.shape))
    if size > _BYTES_AT_ONCE:
        raise ValueError(
            f"a probe holds its images in memory, at most {_BYTES_AT_ONCE >> 30} GiB, got "
            f"{len(source.labels):,} of shape {source.shape}; set a limit (--limit)"
        )
    with running_on(model, config.device) as device, contextlib.ExitStack() as stack:
        pick_precision(config.precision, device)
        facts = {
            "data": source.fingerprint,
            "seed": config.seed,
            # Compiled code rounds differently, so that its parts are parts of their own.
            "precision": config.precision + (", compiled" if config.compile else ""),
        }
        compiled = Compiled(model, config.batch_size) if config.compile else None
        if compiled is not None:
            stack.callback(compiled.forget)
        probe = Probe(
            network=model,
            source=source,
            images=source.read(torch.arange(len(source.labels))).to(device),
            config=config,
            facts=facts,
            store=stack.enter_context(Store(db)) if db is not None else None,
            name=name_of(networks[0]) if networks else "",
            compiled=compiled,
        )
        check_outputs(source, lambda images: probe.outputs(images.float().div_(255)), device)
        if db is not None:
            facts["model"] = model_fingerprint(model, shape=source.shape)
        yield probe


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation of two lists, ties at their mean rank; NaN where one is constant.

    >>> rank_correlation([1, 2, 3], [10, 20, 15])
    0.5
    """
    pair = torch.from_numpy(np.array([first, second], dtype=np.float64))
    return round(float(rank_correlations(pair)[0, 1]), 12)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCorrelation:
    """Spearman's correlation over items, with its interval over resampled items."""

    value: float
    """In [-1, 1]."""
    ci95: tuple[float, float]
    """95 % percentile bootstrap over the items."""
    items: int
    """How many."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"value": self.value, "ci95": list(self.ci95), "items": self.items}


def correlate(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> RankCorrelation | None:
    """Return the rank correlation of two lists with its interval; None of fewer than 5 items or a constant.

    Args:
        first: One number per item.
        second: The same items in the same order.
        seed: Of the bootstrap's draws.

    Raises:
        ValueError: Lists of different lengths, or a number that is NaN or infinite.

    >>> correlate(range(9), range(9)).value
    1.0
    """
    if len(first) != len(second):
        raise ValueError(f"correlate needs lists of one length, got {len(first)} and {len(second)}")
    if not np.isfinite(np.array([first, second], dtype=np.float64)).all():
        raise ValueError(
            "correlate needs finite numbers, got NaN or infinity; leave out these items in both lists"
        )
    value = rank_correlation(first, second) if len(first) >= 5 else math.nan
    if np.isnan(value):
        return None
    pair, items = np.array([first, second], dtype=np.float64), len(first)
    resamples = np.random.default_rng(seed).integers(0, items, (RESAMPLES, items))
    drawn = [rank_correlation(*pair[:, chosen].tolist()) for chosen in resamples]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return RankCorrelation(value=value, ci95=(float(low), float(high)), items=items)
