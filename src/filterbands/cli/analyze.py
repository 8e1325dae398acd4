"""`filterbands analyze`: how low- or high-frequency every convolution's filters are."""

import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import nn

from ..datasets import SPLITS, ImageSet, load_data
from ..disk import check_output, check_table, write_table
from ..engine import pick_device, set_threads
from ..filters import (
    EQUAL_AREA,
    FIGURES,
    GradientSpectrum,
    LayerSpectrum,
    ModelSpectrum,
    Trajectory,
    analyze,
    course_of,
    effective_first_layer,
    input_gradient_spectrum,
    rows_of,
    steps_of,
)
from ..models import ARCHITECTURES, find_checkpoints, read_checkpoint
from ..run import Run
from .shared import Answer, ModelOptions, check_arch, check_range, three_numbers

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True, kw_only=True)
class AnalyzeOptions(ModelOptions):
    """Show how low- or high-frequency the filters of every convolution are."""

    models: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="MODEL ...")]
    """Checkpoints, Runs, folders or globs of them, timm:NAME, torchvision:NAME, or module:function (which
    runs that code)."""
    cutoff: Annotated[float, tyro.conf.arg(metavar="R")] = EQUAL_AREA
    """Radius between low and high, in cycles per pixel, up to 0.5."""
    fold_batch_norm: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Scale each filter by the batch norm behind it; needs the network, so --arch for plain weights."""
    data: Annotated[str, tyro.conf.arg(metavar="SPEC")] = ""
    """Images for the response low energy and the input gradient: planted, cifar10:DIR, folder:DIR ..."""
    split: Annotated[str, tyro.conf.arg(metavar="NAME")] = "test"
    """Which of them."""
    limit: Annotated[int, tyro.conf.arg(metavar="N")] = 2000
    """How many of them, the first ones; 0 for all."""
    layer: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    """Show this layer alone."""
    require: Annotated[str, tyro.conf.arg(metavar="EXPR")] = ""
    """Exit 1 unless it holds, say "conv1.low_energy>0.7"; several are separated by commas."""
    html: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Write a page with tables and curves."""
    table: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Write a row a model and layer: .csv, .json, or .parquet."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_arch(self.arch)
        if not self.models:
            raise ValueError("name a MODEL: a checkpoint, a Run folder, timm:NAME or module:function")
        if not 0 < self.cutoff <= 0.5:
            raise ValueError(f"--cutoff needs cycles per pixel above 0 and up to 0.5, got {self.cutoff:g}")
        check_range("--limit", self.limit, 0, math.inf)
        if self.split not in SPLITS:
            raise ValueError(f"--split needs one of {', '.join(SPLITS)}, got {self.split!r}")
        three_numbers("--mean", self.mean)
        three_numbers("--std", self.std)


OPTIONS = AnalyzeOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One model and all that was measured of it."""

    path: str
    spectrum: ModelSpectrum
    effective: LayerSpectrum | None
    gradient: GradientSpectrum | None
    history: Trajectory | None

    def to_json(self, shown: list[LayerSpectrum]) -> dict[str, Any]:
        return {
            "path": self.path,
            **self.spectrum.to_json(),
            "layers": [layer.to_json() for layer in shown],
            "effective_first_layer": None if self.effective is None else self.effective.to_json(),
            "input_gradient": None if self.gradient is None else self.gradient.to_json(),
            **({} if self.history is None else self.history.to_json()),
        }


def run(options: AnalyzeOptions) -> Answer:
    """Return the spectra of every model, and whether what is required holds."""
    set_threads(options.threads or None)
    requirements = [_requirement(part) for part in options.require.split(",")] if options.require else []
    if options.html:
        check_output(options.html)
    if options.table:
        check_table(options.table)
    paths = [path for model in options.models for path in _expanded(model)]
    data = _data(options)
    found = [_measured(path, options, data) for path in paths]
    documents, texts, failures = [], [], []
    for one in found:
        shown = [one.spectrum[options.layer]] if options.layer else list(one.spectrum)
        documents.append(one.to_json(shown))
        texts.append("\n".join(_told(one, shown[0] if options.layer else one.spectrum)))
        for requirement in requirements:
            failures += _failure(one, *requirement)
    together = _together(found)
    # A folder of checkpoints is read for its course, not for a hundred tables.
    if together is not None and len(options.models) < len(paths):
        texts = [str(_of_layer(together, options.layer or _first(found[-1].spectrum)))]
    if options.html:
        # Altair takes longer to load than most files to analyze.
        from ..report import Analyzed, write_spectra

        pages = [
            Analyzed(
                path=one.path,
                spectrum=one.spectrum,
                effective=one.effective,
                gradient=one.gradient,
                history=one.history,
            )
            for one in found
        ]
        write_spectra(pages, options.html, together=together)
    if options.table:
        write_table(_rows(found, options.layer), options.table)
    document = documents[0] if len(documents) == 1 else {"models": documents}
    if together is not None:
        document = {**document, **together.to_json()}
    return Answer(document=document, text="\n\n".join(texts + failures), code=1 if failures else 0)


def _is_code(path: str) -> bool:
    return ":" in path and not Path(path).exists()


def _expanded(model: str) -> list[str]:
    return [model] if _is_code(model) else [str(path) for path in find_checkpoints(model)]


def _data(options: AnalyzeOptions) -> ImageSet | None:
    if not options.data:
        return None
    data = load_data(options.data, split=options.split)
    return data.subset(torch.arange(min(options.limit, len(data)))) if options.limit else data


def _network(path: str, options: AnalyzeOptions) -> nn.Module | None:
    """Return the network, where it is known which one it is."""
    if options.arch or _is_code(path) or read_checkpoint(path)[1].get("arch") in ARCHITECTURES:
        return options.load(path)
    if options.mean or options.std:
        raise ValueError(f"--mean and --std need to know which network {path} is; name it with --arch")
    return None


def _measured(path: str, options: AnalyzeOptions, data: ImageSet | None) -> _Found:
    network = _network(path, options)
    if network is not None and data is not None:
        network = network.to(pick_device(options.device))
    spectrum = analyze(
        path if network is None else network,
        cutoff=options.cutoff,
        fold_batch_norm=options.fold_batch_norm,
        data=data,
    )
    return _Found(
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


def _told(one: _Found, what: ModelSpectrum | LayerSpectrum) -> Iterator[str]:
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


def _together(found: list[_Found]) -> Trajectory | None:
    """Return the models as steps of one training, where all have the same layers."""
    kinds = {tuple((layer.name, layer.shape) for layer in one.spectrum) for one in found}
    if len(found) < 2 or len(kinds) > 1:
        return None
    by_path = {one.path: one.spectrum for one in found}
    if len(by_path) < len(found):
        return None
    rows = [
        row
        for step, path in steps_of([Path(one.path) for one in found])
        for row in rows_of(by_path[str(path)], step=step, checkpoint=str(path))
    ]
    return Trajectory(rows=tuple(rows))


def _first(spectrum: ModelSpectrum) -> str:
    return next((layer.name for layer in spectrum.spatial), spectrum.layers[0].name)


def _of_layer(whole: Trajectory, layer: str) -> Trajectory:
    return Trajectory(rows=tuple(row for row in whole.rows if row["layer"] == layer))


def _rows(found: list[_Found], layer: str) -> list[dict[str, Any]]:
    return [
        {"model": one.path, **measured.to_row()}
        for one in found
        for measured in one.spectrum
        if layer in ("", measured.name)
    ]


def _requirement(text: str) -> tuple[str, str, str, float]:
    found = re.fullmatch(r"\s*([\w.]+)\.(\w+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*", text)
    keys = [*(name for name, figure in FIGURES.items() if len(figure.ends) == 1), "dead"]
    if found is None or found[2] not in keys:
        raise ValueError(f"--require needs LAYER.KEY>NUMBER with KEY one of {', '.join(keys)}, got {text!r}")
    try:
        return found[1], found[2], found[3], float(found[4])
    except ValueError:
        raise ValueError(f"--require needs a number after {found[3]}, got {found[4]!r}") from None


def _failure(one: _Found, name: str, key: str, sign: str, bound: float) -> list[str]:
    value = getattr(one.spectrum[name], key)
    if value is not None and _COMPARISONS[sign](value, bound):
        return []
    needs_data = key in FIGURES and FIGURES[key].needs_data
    why = "nothing (it needs --data)" if needs_data else "nothing (there is none here)"
    figure = why if value is None else f"{value:.4g}"
    return [f"does not hold: {name}.{key}{sign}{bound:g} in {one.path}: it is {figure}"]
