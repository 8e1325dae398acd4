"""`filterbands analyze`: shows how low- or high-frequency the filters of every convolution are."""

import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor, nn

from ..datasets import ImageSet
from ..disk import check_output, check_table, write_table
from ..engine import at_a_time
from ..filters import (
    EQUAL_AREA,
    FIGURES,
    Analyzed,
    LayerSpectrum,
    ModelSpectrum,
    Trajectory,
    analyze,
    course_of,
    course_of_all,
    effective_first_layer,
    input_gradient_spectrum,
)
from ..models import find_checkpoints, is_named, read_checkpoint, trusted_arch
from ..run import Run
from .shared import Answer, DeviceOptions, ImageOptions, NetworkOptions, names_of, progress_bar

_COMPARISONS: dict[str, Any] = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


_IMAGES = 2000


@dataclass(frozen=True, kw_only=True)
class AnalyzeOptions(DeviceOptions):
    """Show how low- or high-frequency the filters of every convolution are."""

    models: tyro.conf.Positional[tuple[str, ...]]
    """Checkpoints, Runs, folders or globs of them, timm:NAME, torchvision:NAME, or module:function (which
    runs that code)."""
    network: NetworkOptions = field(default_factory=NetworkOptions)
    """The network, and what it expects of its images."""
    cutoff: float = EQUAL_AREA
    """Radius between low and high, in cycles per pixel, up to 0.5."""
    fold_batch_norm: bool = False
    """Scale each filter by the batch norm behind it; needs the network, so --arch for plain weights."""
    data: str | None = None
    """Images for the response low energy and the input gradient: planted, cifar10:DIR, folder:DIR ..."""
    images: ImageOptions = field(default_factory=lambda: ImageOptions(limit=_IMAGES))
    """Which images of the data set are taken."""
    layer: str | None = None
    """Show this layer alone; a page (--html) shows all."""
    require: str | None = None
    """Exit 1 unless this holds, for example "conv1.low_energy>0.7"; separate several by commas."""
    html: str | None = None
    """Write a page with tables and curves."""
    table: str | None = None
    """Write one row per model and layer: .csv, .json, or .parquet."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.models:
            raise ValueError("name a MODEL: a checkpoint, a Run folder, timm:NAME or module:function")
        self.images.check_used(self.data, ImageOptions(limit=_IMAGES))
        if self.batch_size and self.data is None:
            raise ValueError("--batch-size changes nothing without --data; leave it out")
        if not 0 < self.cutoff <= 0.5:
            raise ValueError(f"--cutoff needs cycles per pixel above 0 and up to 0.5, got {self.cutoff:g}")


@progress_bar("analyze")
def run(options: AnalyzeOptions) -> Answer:
    """Return the spectra of every model, and whether what is required holds."""
    device = options.start(options.device)
    requirements = [_requirement(part) for part in options.require.split(",")] if options.require else []
    if options.html:
        check_output(options.html, replaced=True)
    if options.table:
        check_table(options.table)
    paths = [path for model in options.models for path in _expanded(model)]
    data = options.images.load(options.data, networks=options.network.specs(*paths)) if options.data else None
    with at_a_time(options.batch_size):
        found = [_measured(path, options, data, device) for path in paths]
    documents, texts, failures = [], [], []
    required: list[dict[str, Any]] = []
    for one in found:
        shown = [one.spectrum[options.layer]] if options.layer else list(one.spectrum)
        documents.append({**one.to_json(), "layers": [layer.to_json() for layer in shown]})
        texts.append("\n".join(_told(one, shown[0] if options.layer else one.spectrum)))
        for requirement in requirements:
            required.append(_required(one, *requirement))
            failures += _failure(required[-1], requirement[1])
    together = course_of_all(found)
    # Of a folder of checkpoints the course is shown, not a hundred tables.
    if together is not None and len(options.models) < len(paths):
        spectrum = found[-1].spectrum
        layer = options.layer or next(one.name for one in (*spectrum.spatial, *spectrum.layers))
        rows = tuple(row for row in together.rows if row["layer"] == layer)
        texts = [str(Trajectory(rows=rows))]
    if options.html:
        # Loading Altair takes longer than analyzing most files.
        from ..report import write_spectra

        named = [replace(one, path=name) for one, name in zip(found, names_of(paths), strict=True)]
        write_spectra(named, options.html, together=together, data=data)
    if options.table:
        measured = [(one.path, layer) for one in found for layer in one.spectrum]
        kept = [(path, layer) for path, layer in measured if options.layer in (None, layer.name)]
        write_table([{"model": path, **layer.to_row()} for path, layer in kept], options.table)
    document = documents[0] if len(documents) == 1 else {"models": documents}
    if together is not None:
        document = {**document, **together.to_json()}
    if required:
        document = {**document, "required": required}
    return Answer(document=document, text="\n\n".join(texts + failures), code=1 if failures else 0)


def _expanded(model: str) -> list[str]:
    return [model] if is_named(model) else [str(path) for path in find_checkpoints(model)]


def _opened(path: str, options: AnalyzeOptions) -> nn.Module | dict[str, Tensor]:
    """Return the network; its tensors where nothing says which architecture they are of."""
    given = options.network
    if is_named(path) or given.arch:
        return given.load(path)
    weights, metadata = read_checkpoint(path, key=given.key)
    if trusted_arch(metadata) is not None:
        return given.load(path)
    if given.mean or given.std or given.prefix is not None:
        raise ValueError(
            f"--mean, --std and --prefix need to know which network {path} is; name it with --arch"
        )
    return weights


def _measured(path: str, options: AnalyzeOptions, data: ImageSet | None, device: torch.device) -> Analyzed:
    opened = _opened(path, options)
    network = opened if isinstance(opened, nn.Module) else None
    if network is not None and data is not None:
        network = network.to(device)
    spectrum = analyze(
        opened,
        cutoff=options.cutoff,
        fold_batch_norm=options.fold_batch_norm,
        data=data,
    )
    return Analyzed(
        path=path,
        spectrum=spectrum,
        effective=None if network is None else _effective(network, options.cutoff),
        gradient=None
        if network is None or data is None
        else input_gradient_spectrum(network, data, cutoff=options.cutoff),
        history=course_of(Run(Path(path)), cutoff=options.cutoff),
    )


def _effective(network: nn.Module, cutoff: float) -> LayerSpectrum | None:
    planar = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    spatial = [place for place, module in enumerate(planar) if max(module.kernel_size) > 1]
    if not spatial:
        return None
    first, *behind = planar[spatial[0] :]
    if not any(module.in_channels == first.out_channels for module in behind):
        return None
    return effective_first_layer(network, cutoff=cutoff)


def _told(one: Analyzed, what: ModelSpectrum | LayerSpectrum) -> Iterator[str]:
    yield f"{one.path}\n{what}"
    if isinstance(what, ModelSpectrum):
        effective = one.effective
        if effective is not None and effective.mean_low_energy is not None:
            yield (
                f"composed linearly, {effective.name}: low energy {effective.low_energy:.3f}, "
                f"mean {effective.mean_low_energy:.3f}, centroid {effective.centroid:.3f}"
            )
        if one.gradient is not None:
            yield str(one.gradient)
        if one.history is not None:
            yield str(one.history)


def _requirement(text: str) -> tuple[str, str, str, float]:
    found = re.fullmatch(r"\s*([\w.]+)\.(\w+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*", text)
    keys = [*(name for name, figure in FIGURES.items() if len(figure.ends) == 1), "dead"]
    if found is None or found[2] not in keys:
        raise ValueError(f"--require needs LAYER.KEY>NUMBER with KEY one of {', '.join(keys)}, got {text!r}")
    try:
        return found[1], found[2], found[3], float(found[4])
    except ValueError:
        raise ValueError(f"--require needs a number after {found[3]}, got {found[4]!r}") from None


def _required(one: Analyzed, name: str, key: str, sign: str, bound: float) -> dict[str, Any]:
    value = getattr(one.spectrum[name], key)
    holds = value is not None and _COMPARISONS[sign](value, bound)
    return {"model": one.path, "condition": f"{name}.{key}{sign}{bound:g}", "value": value, "holds": holds}


def _failure(required: dict[str, Any], key: str) -> list[str]:
    if required["holds"]:
        return []
    value = required["value"]
    needs_data = key in FIGURES and FIGURES[key].needs_data
    why = "nothing (it needs --data)" if needs_data else "nothing (there is none here)"
    figure = why if value is None else f"{value:.4g}"
    return [f"does not hold: {required['condition']} in {required['model']}: it is {figure}"]
