"""`filterbands probe`: which frequencies a network looks at."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from torch import nn

from ..datasets import ImageSet, load_data
from ..disk import check_output
from ..engine import PRECISIONS, pick_device, set_threads
from ..evaluation import load_scores, model_fingerprint
from ..filters import LayerSpectrum, analyze
from ..models import Normalising
from ..probes import (
    CorruptionSpectra,
    HeatMap,
    PassCurves,
    ProbeConfig,
    Spectrum,
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
from ..scores import Scores
from .shared import Answer, ModelOptions, check_range, listed, progress_bar, three_numbers

PARTS = ("heatmap", "passes", "gradient", "corruptions", "vulnerability")
"""What is probed, in order."""


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(ModelOptions):
    """Show which frequencies a network looks at: Fourier heat map, filtered images, what corruptions add."""

    models: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="MODEL")] = ()
    """Checkpoint files, Run folders, timm:NAME, or module:function (which runs that code)."""
    data: Annotated[str, tyro.conf.arg(metavar="SPEC")] = "planted"
    """planted, cifar10:DIR, cifar100:DIR, folder:DIR or npz:FILE."""
    split: Annotated[str, tyro.conf.arg(metavar="NAME")] = "test"
    """train, validation, full_train or test."""
    norm: Annotated[float, tyro.conf.arg(metavar="X")] = 4.0
    """L2 norm of the heat map's perturbation in each colour channel, images in [0, 1]."""
    layer: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    """Perturb this module's output instead of the image."""
    only: Annotated[str, tyro.conf.arg(metavar="A,B")] = ""
    """Of heatmap, passes, gradient, corruptions and vulnerability; all by default."""
    limit: Annotated[int, tyro.conf.arg(metavar="N")] = 200
    """Take the first N images; 0 for all."""
    size: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Side in pixels that images of folder:DIR are brought to; 0 takes them as they are."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Seed of signs, phases and random kinds."""
    precision: Annotated[str, tyro.conf.arg(metavar="float32|bfloat16")] = "float32"
    """Precision of the network."""
    compile: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Compile the network for the heat map and the filtered images; pays above a few hundred images."""
    db: Annotated[str, tyro.conf.arg(metavar="FILE")] = "results.db"
    """Database that finished parts are kept in, and that accuracies for the page are read from."""
    html: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Write a page on which the networks stand side by side."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.norm) and self.norm > 0):
            raise ValueError(f"--norm needs a number above 0, got {self.norm:g}")
        check_range("--limit", self.limit, 0, math.inf)
        check_range("--size", self.size, 0, 4096)
        three_numbers("--mean", self.mean)
        three_numbers("--std", self.std)
        if self.precision not in PRECISIONS:
            raise ValueError(f"--precision needs {' or '.join(PRECISIONS)}, got {self.precision!r}")
        if unknown := [part for part in listed(self.only) if part not in PARTS]:
            raise ValueError(f"--only knows no {unknown[0]!r}; parts are {', '.join(PARTS)}")


OPTIONS = ProbeOptions


def run(options: ProbeOptions) -> Answer:
    """Probe every network and return what was found."""
    if not options.models:
        raise ValueError("name a MODEL (filterbands probe --help shows the options)")
    page = check_output(options.html) if options.html else None
    check_output(options.db)
    set_threads(options.threads or None)
    pick_device(options.device)
    parts = listed(options.only) or PARTS
    networks = [options.load(model) for model in options.models]
    for network in networks if options.layer else ():
        find_module(network, options.layer)
    data = load_data(options.data, split=options.split, size=options.size or None)
    added = _spectra(options, data) if "corruptions" in parts else None
    measured = _measured(options)
    names = _names(options.models)
    probed = [
        _probed(options, name, network, data, parts, measured)
        for name, network in zip(names, networks, strict=True)
    ]
    if page is not None:
        write_probe_page(probed, page, corruptions=added)
    documents = [_document(entry) for entry in probed]
    common: dict[str, Any] = {
        "data": data.name,
        "split": data.split,
        "corruptions": None if added is None else added.to_json(),
        "page": None if page is None else str(page),
    }
    document = {**common, "models": documents} if len(documents) > 1 else {**documents[0], **common}
    texts = [_text(entry) for entry in probed]
    if added is not None:
        texts.append(_added_text(added))
    if page is not None:
        texts.append(f"page: {page}")
    return Answer(document=document, text="\n\n".join(texts))


def _spectra(options: ProbeOptions, data: ImageSet) -> CorruptionSpectra:
    with progress_bar("corruptions") as progress:
        return corruption_spectra(
            data,
            seed=options.seed,
            limit=options.limit or None,
            db=options.db,
            progress=progress,
        )


def _probed(
    options: ProbeOptions,
    name: str,
    model: nn.Module,
    data: ImageSet,
    parts: tuple[str, ...],
    measured: dict[str, Scores],
) -> Probed:
    own = isinstance(model, Normalising)
    mean = None if own else three_numbers("--mean", options.mean)
    std = None if own else three_numbers("--std", options.std)
    config = ProbeConfig(
        mean=mean,
        std=std,
        seed=options.seed,
        precision=options.precision,
        compile=options.compile,
        batch_size=options.batch_size or 250,
        device=str(pick_device(options.device)),
    )
    limit = options.limit or None
    heat: HeatMap | None = None
    moved: Vulnerability | None = None
    passes: PassCurves | None = None
    gradient: Spectrum | None = None
    with progress_bar(f"probe {name}") as progress:
        if "heatmap" in parts:
            heat = fourier_heatmap(
                model,
                data,
                norm=options.norm,
                limit=limit,
                layer=options.layer,
                config=config,
                db=options.db,
                progress=progress,
            )
        if "passes" in parts:
            passes = pass_curves(model, data, limit=limit, config=config, db=options.db, progress=progress)
        if "gradient" in parts:
            gradient = gradient_spectrum(model, data, limit=limit, config=config, db=options.db)
        spectra = (found for found in analyze(model) if found.filters_low_energy is not None)
        layer = next(spectra, None)
        why = ""
        if "vulnerability" in parts:
            moved, why = _vulnerability(options, model, layer, data, std)
    return Probed(
        name=name,
        heatmap=heat,
        passes=passes,
        gradient=gradient,
        vulnerability=moved,
        why=why,
        layer=layer,
        scores=measured.get(model_fingerprint(model)),
    )


def _vulnerability(
    options: ProbeOptions,
    model: nn.Module,
    layer: LayerSpectrum | None,
    data: ImageSet,
    std: tuple[float, ...] | None,
) -> tuple[Vulnerability | None, str]:
    """Return how corruptions move the first layer, or why that cannot be said."""
    if layer is None or len(layer.shape) != 4:
        return None, "no two-dimensional convolution was measured"
    kernel = (layer.shape[2], layer.shape[3])
    moments = cifar10_moments()
    try:
        if data.name != moments.name or kernel != moments.kernel:
            limit = options.limit or None
            moments = patch_moments(data, kernel=kernel, seed=options.seed, limit=limit, db=options.db)
        return vulnerability(model, moments, std=std, images=data.images[:2].float() / 255), ""
    except ValueError as error:
        return None, str(error)


def _measured(options: ProbeOptions) -> dict[str, Scores]:
    """Return, by network, the scores in the database; those over the most images."""
    if not Path(options.db).exists():
        return {}
    found: dict[str, Scores] = {}
    for scores in load_scores(options.db):
        known = found.get(scores.model)
        if known is None or len(scores.kinds) * len(scores.labels) > len(known.kinds) * len(known.labels):
            found[scores.model] = scores
    return found


def _names(models: tuple[str, ...]) -> list[str]:
    """Return what to call the networks: the ends of their paths where these differ."""
    short = [Path(model).name if Path(model).exists() else model for model in models]
    return short if len(set(short)) == len(short) else list(models)


def _document(entry: Probed) -> dict[str, Any]:
    found = {
        "heatmap": entry.heatmap,
        "passes": entry.passes,
        "gradient": entry.gradient,
        "vulnerability": entry.vulnerability,
    }
    plain: dict[str, Any] = {"model": entry.name}
    plain |= {part: None if value is None else value.to_json() for part, value in found.items()}
    return plain


def _text(entry: Probed) -> str:
    lines = [entry.name]
    if (heat := entry.heatmap) is not None:
        where = f"at {heat.layer}" if heat.layer else "in each channel"
        lines.append(
            f"  error under one frequency, norm {heat.norm:g} {where}, {heat.images:,} images: "
            f"{100 * heat.mean_error():.1f} % (without: {100 * heat.clean_error:.1f} %)"
        )
        for low, high in ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.71)):
            error = heat.mean_error(low, high)
            lines.append(f"    radius {low:.2f} to {high:.2f}  {100 * error:5.1f} %")
    if (passes := entry.passes) is not None:
        lines.append(
            f"  accuracy: {100 * passes.clean:.1f} %, with phases alone {100 * passes.phase_only:.1f} %, "
            f"with amplitudes alone {100 * passes.amplitude_only:.1f} %"
        )
        for share, reach in passes.reached.items():
            if reach is not None:
                lines.append(
                    f"    {100 * share:.0f} % of what it knows needs radii up to {reach[0]:.3f} "
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


def _added_text(added: CorruptionSpectra) -> str:
    lines = ["low-frequency energy of what corruptions add, mean over severities"]
    ranked = sorted(added.kinds, key=added.low_energy)
    lines += [f"  {kind:<26}{added.low_energy(kind):6.3f}" for kind in ranked]
    return "\n".join(lines)
