"""`filterbands analyze`: how low- or high-frequency every convolution's filters are."""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from ..filters import EQUAL_AREA, ModelSpectrum, analyze
from ..models import load_model
from .shared import Answer, ComputeOptions, check_arch

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True, kw_only=True)
class AnalyzeOptions(ComputeOptions):
    """Show how low- or high-frequency the filters of every convolution are."""

    models: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="MODEL ...")]
    """Checkpoint files, Run folders, timm:NAME, or module:function (which runs that code)."""
    arch: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    """Architecture; without it every tensor named like a weight is read as a convolution."""
    cutoff: Annotated[float, tyro.conf.arg(metavar="R")] = EQUAL_AREA
    """Radius between low and high, in cycles per pixel, up to 0.5."""
    layer: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    """Show this layer alone."""
    require: Annotated[str, tyro.conf.arg(metavar="EXPR")] = ""
    """Exit 1 unless it holds, say conv1.low_energy>0.7."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_arch(self.arch)
        if not self.models:
            raise ValueError("name a MODEL: a checkpoint, a Run folder, timm:NAME or module:function")
        if not 0 < self.cutoff <= 0.5:
            raise ValueError(f"--cutoff needs cycles per pixel above 0 and up to 0.5, got {self.cutoff:g}")


OPTIONS = AnalyzeOptions


def run(options: AnalyzeOptions) -> Answer:
    """Return the spectra of every model, and whether what is required holds."""
    requirement = _requirement(options.require) if options.require else None
    spectra = [(path, _spectrum(path, options)) for path in options.models]
    documents = []
    texts = []
    failures = []
    for path, spectrum in spectra:
        shown = [spectrum[options.layer]] if options.layer else list(spectrum)
        layers = [layer.to_json() for layer in shown]
        documents.append({"path": path, "cutoff": spectrum.cutoff, "layers": layers})
        texts.append(f"{path}\n{shown[0] if options.layer else spectrum}")
        if requirement is not None:
            failures += _failure(path, spectrum, *requirement)
    document = documents[0] if len(documents) == 1 else {"models": documents}
    return Answer(document=document, text="\n\n".join(texts + failures), code=1 if failures else 0)


def _spectrum(path: str, options: AnalyzeOptions) -> ModelSpectrum:
    if options.arch or ":" in path:
        return analyze(load_model(path, arch=options.arch or None), cutoff=options.cutoff)
    return analyze(path, cutoff=options.cutoff)


def _requirement(text: str) -> tuple[str, str, str, float]:
    found = re.fullmatch(r"\s*([\w.]+)\.(\w+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*", text)
    keys = ("low_share", "low_energy", "mean_low_energy", "centroid", "dead")
    if found is None or found[2] not in keys:
        raise ValueError(f"--require needs LAYER.KEY>NUMBER with KEY one of {', '.join(keys)}, got {text!r}")
    try:
        return found[1], found[2], found[3], float(found[4])
    except ValueError:
        raise ValueError(f"--require needs a number after {found[3]}, got {found[4]!r}") from None


def _failure(path: str, spectrum: ModelSpectrum, name: str, key: str, sign: str, bound: float) -> list[str]:
    value: Any = spectrum[name].to_json()[key]
    if value is not None and _COMPARISONS[sign](value, bound):
        return []
    figure = "nothing (no spatial spectrum)" if value is None else f"{value:.4g}"
    return [f"does not hold: {name}.{key}{sign}{bound:g} in {path}: it is {figure}"]
