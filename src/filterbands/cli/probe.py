"""`filterbands probe`: shows which frequencies a network looks at."""

import logging
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tyro
from torch import nn

from ..checks import hint
from ..corruptions import PARAMETERS, parameters_for
from ..datasets import ImageSet
from ..disk import check_output
from ..evaluation import Store, load_scores, model_fingerprint
from ..filters import LayerSpectrum, analyze
from ..models import OnnxNetwork
from ..probes import (
    ProbeConfig,
    Vulnerability,
    cifar10_moments,
    corruption_spectra,
    find_module,
    fourier_heatmap,
    gradient_spectrum,
    pass_curves,
    patch_moments,
    vulnerability,
)
from ..report import Probed, write_probe_page
from ..scores import Scores, key_of, unlike_probed
from .shared import (
    Answer,
    ComputeOptions,
    ImageOptions,
    NetworkOptions,
    SpecOfRun,
    names_of,
    progress_bar,
)

PARTS = ("heatmap", "passes", "gradient", "corruptions", "vulnerability")
"""What is probed, in order."""
_WITH_WEIGHTS = ("gradient", "vulnerability")
_LOG = logging.getLogger(__name__)


_NORM = 4.0


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(ComputeOptions):
    """Show which frequencies a network looks at: Fourier heat map, filtered images, what corruptions add."""

    models: tyro.conf.Positional[tuple[str, ...]]
    """Checkpoints, ONNX files, Run folders, timm:NAME, torchvision:NAME, or module:function (which runs that
    code)."""
    network: NetworkOptions = field(default_factory=NetworkOptions)
    """The network, and what it expects of its images."""
    data: SpecOfRun = None
    images: ImageOptions = field(default_factory=lambda: ImageOptions(limit=200))
    """Which images of the data set are taken."""
    config: ProbeConfig = field(default_factory=lambda: ProbeConfig(device="auto"))
    """How the network is probed."""
    norm: float = _NORM
    """L2 norm of the perturbation of the heat map in each color channel, images in [0, 1]."""
    layer: str = ""
    """Perturb the output of this module instead of the image."""
    parameters: str | None = None
    """Table of constants: cifar or imagenet; by default cifar up to 64 pixels, imagenet above."""
    only: tuple[str, ...] = PARTS
    """Parts to compute, of heatmap, passes, gradient, corruptions and vulnerability."""
    db: str = "results.db"
    """Database of finished parts; accuracies for the page are read from it too."""
    html: str | None = None
    """Write a page that shows the networks next to each other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.norm) and self.norm > 0):
            raise ValueError(f"--norm needs a number above 0, got {self.norm:g}")
        if self.parameters not in (None, *PARAMETERS):
            raise ValueError(f"--parameters needs {' or '.join(PARAMETERS)}, got {self.parameters!r}")
        if unknown := [part for part in self.only if part not in PARTS]:
            near = hint(unknown[0], PARTS)
            raise ValueError(f"--only knows no {unknown[0]!r}{near}; parts are {', '.join(PARTS)}")
        of_map = {"--norm": self.norm != _NORM, "--layer": bool(self.layer)}
        of_map |= {f"--{name}": getattr(self.config, name) is not None for name in ("step", "radius")}
        if "heatmap" not in self.only and any(of_map.values()):
            named = " and ".join(flag for flag, given in of_map.items() if given)
            raise ValueError(
                f"{named}: of the heat map alone; name heatmap in --only, or leave out what is of it"
            )
        if self.parameters is not None and not {"corruptions", "vulnerability"} & set(self.only):
            raise ValueError(
                "--parameters is of corruptions and vulnerability; name one of them in --only, or leave it "
                "out"
            )
        if not self.models:
            raise ValueError("name a MODEL (filterbands probe --help shows the options)")


def run(options: ProbeOptions) -> Answer:
    """Probe every network and return what was found."""
    page = check_output(options.html, replaced=True) if options.html else None
    check_output(options.db)
    options.start(options.config.device)
    spec, images = options.images.of(options.data, options.models)
    networks = [options.network.load(model) for model in options.models]
    _check_onnx(options, networks)
    for network in networks if options.layer else ():
        find_module(network, options.layer)
    data = images.load(spec, networks=options.network.specs(*options.models))
    if {"corruptions", "vulnerability"} & set(options.only):
        options = replace(options, parameters=parameters_for(options.parameters, *data.images.shape[2:]))
    added = None
    if "corruptions" in options.only:
        with progress_bar("corruptions") as progress:
            shown: dict[str, Any] = {"parameters": options.parameters, "progress": progress}
            added = corruption_spectra(data, seed=options.config.seed, db=options.db, **shown)
    _, channels, height, width = data.images.shape
    prints = [model_fingerprint(network, shape=(channels, height, width)) for network in networks]
    measured = {} if page is None else _measured(options, data, prints)
    probed = [
        _probed(options, name, network, data, fingerprint, measured.get(fingerprint))
        for name, network, fingerprint in zip(names_of(options.models), networks, prints, strict=True)
    ]
    if page is not None:
        conditions = {"data": data.name, "split": data.split, "images": f"{len(data):,}"}
        conditions |= {"seed": str(options.config.seed), "precision": options.config.precision}
        if added is not None:
            conditions["constants"] = str(options.parameters)
        write_probe_page(probed, page, corruptions=added, conditions=conditions)
    documents: list[dict[str, Any]] = [{"model": entry.name} for entry in probed]
    for entry, document in zip(probed, documents, strict=True):
        for part in ("heatmap", "passes", "gradient", "vulnerability"):
            found = getattr(entry, part)
            document[part] = None if found is None else found.to_json()
    common: dict[str, Any] = {
        "data": data.name,
        "split": data.split,
        "corruptions": None if added is None else added.to_json(),
        "page": None if page is None else str(page),
    }
    whole = {**common, "models": documents} if len(documents) > 1 else {**documents[0], **common}
    texts = [_text(entry) for entry in probed]
    if added is not None:
        texts.append("low-frequency energy of what corruptions add, mean over severities")
        for kind in sorted(added.kinds, key=added.low_energy):
            texts[-1] += f"\n  {kind:<26}{added.low_energy(kind):6.3f}"
    if page is not None:
        texts.append(f"page: {page}")
    return Answer(document=whole, text="\n\n".join(texts))


def _check_onnx(options: ProbeOptions, networks: list[nn.Module]) -> None:
    """Raise ValueError for what was asked for by name and ONNX files lack; else say what is left out."""
    named = [model for model, network in zip(options.models, networks, strict=True) if _is_onnx(network)]
    if named and options.config.compile:
        raise ValueError("--compile is for networks of torch; onnxruntime has compiled an ONNX file already")
    if named and set(_WITH_WEIGHTS) & set(options.only):
        what = f"{named[0]} is an ONNX file, which gives no gradient and no filters"
        if options.only != PARTS:
            raise ValueError(f"{what}; leave {' and '.join(_WITH_WEIGHTS)} out of --only")
        _LOG.warning("%s: %s are left out", what, " and ".join(_WITH_WEIGHTS))


def _is_onnx(network: nn.Module) -> bool:
    return any(isinstance(module, OnnxNetwork) for module in network.modules())


def _probed(
    options: ProbeOptions,
    name: str,
    model: nn.Module,
    data: ImageSet,
    fingerprint: str,
    scores: Scores | None,
) -> Probed:
    parts, layer = set(options.only), None
    if _is_onnx(model):
        parts -= set(_WITH_WEIGHTS)
    else:
        layer = next((found for found in analyze(model) if found.filters_low_energy is not None), None)
    moved, why = _vulnerability(options, model, layer, data) if "vulnerability" in parts else (None, "")
    if {"heatmap", "passes"} & parts:
        with Store(options.db) as store:
            # `report` finds what was probed by the network; a name that is there stays.
            if fingerprint not in store.names():
                store.add_model(fingerprint, name)
    with progress_bar(f"probe {name}") as progress:
        given: dict[str, Any] = {"config": options.config, "db": options.db}
        shown = {**given, "progress": progress}
        return Probed(
            name=name,
            heatmap=fourier_heatmap(model, data, norm=options.norm, layer=options.layer, **shown)
            if "heatmap" in parts
            else None,
            passes=pass_curves(model, data, **shown) if "passes" in parts else None,
            gradient=gradient_spectrum(model, data, **given) if "gradient" in parts else None,
            vulnerability=moved,
            why=why,
            layer=layer,
            scores=scores,
        )


def _vulnerability(
    options: ProbeOptions, model: nn.Module, layer: LayerSpectrum | None, data: ImageSet
) -> tuple[Vulnerability | None, str]:
    """Return how much corruptions change the first layer, or why that cannot be computed."""
    if layer is None or len(layer.shape) != 4:
        return None, "no two-dimensional convolution was measured"
    kernel = (layer.shape[2], layer.shape[3])
    moments = cifar10_moments()
    try:
        if data.name != moments.name or kernel != moments.kernel or options.parameters != "cifar":
            given: dict[str, Any] = {"parameters": options.parameters, "seed": options.config.seed}
            # At 224 pixels this takes minutes.
            with progress_bar("patches") as progress:
                moments = patch_moments(data, kernel=kernel, db=options.db, progress=progress, **given)
        return vulnerability(model, moments, images=data.images[:2].float() / 255), ""
    except ValueError as error:
        return None, str(error)


def _measured(options: ProbeOptions, data: ImageSet, models: list[str]) -> dict[str, Scores]:
    """Return the scores of networks that the database has: those that the most of them share with the first.

    They are of the probed images or of their data set's split, and of the corruptions' seed and constants.
    Of several such sets those over the most images and kinds count; a network without them has its own
    largest ones.
    """
    if not Path(options.db).exists():
        return {}
    with Store(options.db):
        # What a full disk has left empty gets its tables.
        pass
    every = [one for one in load_scores(options.db) if one.model in models and len(one.cells) > 1]
    probed: dict[str, Any] = {"data": data.name, "split": data.split, "pixels": data.fingerprint()}
    probed |= {"parameters": options.parameters or "", "seed": options.config.seed}
    known = [one for one in every if not unlike_probed(one, **probed)]
    if {"corruptions", "vulnerability"} & set(options.only):
        for model in dict.fromkeys(models):
            others = [one for one in every if one.model == model]
            if others and not any(one.model == model for one in known):
                has = "; ".join(dict.fromkeys(map(_made_of, others)))
                wanted = f"{data.name} ({data.split}), seed {options.config.seed}"
                wanted += f", constants {options.parameters}" if options.parameters else ""
                _LOG.warning(
                    "%s has no accuracies of %s under the probed corruptions (%s): the page has none; there "
                    "are those on %s",
                    *(options.db, others[0].name, wanted, has),
                )
    # Of sets of one size the first counts, so it comes last.
    known.reverse()
    known.sort(key=lambda scores: len(scores.cells) * len(scores.labels))
    sets: dict[str, dict[str, Scores]] = {}
    for scores in known:
        sets.setdefault(key_of(scores), {})[scores.model] = scores
    # The last one of a size is the largest.
    largest_last = sorted(sets.values(), key=lambda one: (models[0] in one, len(one)))
    return {scores.model: scores for scores in known} | (largest_last[-1] if largest_last else {})


def _made_of(scores: Scores) -> str:
    made = f"seed {scores.seed}, constants {scores.parameters}" if scores.parameters else "copies"
    return f"{scores.data} ({scores.split}), {made}"


def _text(entry: Probed) -> str:
    lines = [entry.name]
    if (heat := entry.heatmap) is not None:
        where = f"at {heat.layer}" if heat.layer else "in each channel"
        measured, frequencies = heat.measured()
        some = measured < frequencies
        lines.append(
            f"  error under one frequency, norm {heat.norm:g} {where}, {heat.images:,} images: "
            f"{_percent(heat.mean_error())} (without: {_percent(heat.clean_error)})"
            + (f"; {measured:,} of {frequencies:,} frequencies measured" if some else "")
        )
        for low, high in ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.71)):
            of = "  ({:,} of {:,})".format(*heat.measured(low, high)) if some else ""
            lines.append(f"    radius {low:.2f} to {high:.2f}  {_percent(heat.mean_error(low, high)):>7}{of}")
    if (passes := entry.passes) is not None:
        lines.append(
            f"  accuracy: {100 * passes.clean:.1f} %, with phases alone {100 * passes.phase_only:.1f} %, "
            f"with amplitudes alone {100 * passes.amplitude_only:.1f} %"
        )
        for share, reach in passes.reached.items():
            if reach is not None:
                lines.append(
                    f"    {100 * share:.0f} % of its gain over guessing needs radii up to {reach[0]:.3f} "
                    f"({reach[1]:.3f} to {reach[2]:.3f})"
                )
    if entry.gradient is not None:
        lines.append(f"  low-frequency energy of the loss's gradient: {entry.gradient.low_energy():.3f}")
    if (moved := entry.vulnerability) is not None:
        ranked = sorted(moved.kinds, key=moved.of_kind, reverse=True)
        lines.append(
            f"  corruption over image in {moved.layer}'s answers: {moved.mean:.3f} on average; most: "
            + ", ".join(f"{kind} {moved.of_kind(kind):.2f}" for kind in ranked[:3])
        )
    elif entry.why:
        lines.append(f"  vulnerability: not computed: {entry.why}")
    return "\n".join(lines)


def _percent(error: float) -> str:
    return "not measured" if math.isnan(error) else f"{100 * error:.1f} %"
