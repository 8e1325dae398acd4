"""`filterbands evaluate`: measures clean and corrupted accuracy."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import tyro
from torch import nn

from ..datasets import ImageSet, read_images
from ..disk import check_output
from ..evaluation import (
    EvaluateConfig,
    Files,
    Store,
    evaluate,
    is_onnx,
    load_scores,
    model_fingerprint,
)
from ..models import known_overlap
from ..scores import choose_baseline, gate, place_among_published
from .shared import (
    Answer,
    ComputeOptions,
    ImageOptions,
    NetworkOptions,
    SpecOfRun,
    check_range,
    name_of,
    progress_bar,
)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ComputeOptions):
    """Measure clean and corrupted accuracy; only what the database lacks is computed."""

    model: tyro.conf.Positional[str]
    """A checkpoint or ONNX file, a Run folder, timm:NAME, torchvision:NAME, or module:function (which runs
    that code)."""
    network: NetworkOptions = field(default_factory=NetworkOptions)
    """The network, and what it expects of its images."""
    data: SpecOfRun = None
    images: ImageOptions = field(default_factory=ImageOptions)
    """Which images of the data set are taken."""
    config: EvaluateConfig = field(default_factory=lambda: EvaluateConfig(device="auto"))
    """How the network is evaluated."""
    db: str = "results.db"
    """Database of results."""
    baseline: str | None = None
    """Exit 1 where this network of the database, on the same images, is better beyond --max-drop."""
    max_drop: float = 0.0
    """Drop from the baseline that is allowed, a share: 0.01 is a percentage point."""
    threads: int = 0
    """Threads of torch's operations, which several workers share; 0 leaves the setting as it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("--max-drop", self.max_drop, 0, 1, what="a share")
        if self.max_drop and not self.baseline:
            raise ValueError("--max-drop needs --baseline NAME, the network to compare with")
        if self.config.kinds == () and self.config.severities != EvaluateConfig().severities:
            raise ValueError("--severities is of corrupted images, of which --kinds none makes none")


def run(options: EvaluateOptions) -> Answer:
    """Evaluate and return the scores."""
    options.start(options.config.device)
    check_output(options.db)
    if options.baseline:
        _check_baseline(options.baseline, options.db)
    config = replace(
        options.config,
        name=options.config.name or name_of(options.model),
        overlap=(known_overlap(options.model) or None)
        if options.config.overlap is None
        else options.config.overlap,
    )
    if options.config.compile and is_onnx(options.model):
        raise ValueError("--compile is for networks of torch; onnxruntime has compiled an ONNX file already")
    spec, images = options.images.of(options.data, [options.model])
    model = options.network.load(options.model)
    cells = [0, 0]
    with progress_bar("evaluate") as bar:

        def progress(done: int, total: int, what: str) -> None:
            cells[:] = [done, total]
            if bar is not None:
                bar(done, total, what)

        try:
            data = images.in_turn(spec, networks=options.network.specs(options.model))
            if options.baseline and config.name == options.baseline:
                _check_same(options.baseline, options, model, data)
            scores = evaluate(model, data, config=config, db=options.db, progress=progress)
        except KeyboardInterrupt:
            print(  # noqa: T201
                f"filterbands evaluate: {cells[0]} of {cells[1] or 'its'} cells are in {options.db}; "
                "the same command goes on from there",
                file=sys.stderr,
            )
            raise
    document, text, code = scores.to_json(), str(scores), 0
    if place := place_among_published(scores):
        document["published"] = place.to_json()
        text += f"\n\n{place}"
    if options.baseline:
        baseline = choose_baseline(load_scores(options.db, folder=scores.folder), options.baseline, scores)
        verdict = gate(scores, baseline, max_drop=options.max_drop)
        document["baseline"] = verdict.to_json()
        text += f"\n\n{verdict}"
        code = 0 if verdict.holds else 1
    return Answer(document=document, text=text, code=code)


def _check_baseline(baseline: str, db: str) -> None:
    """Raise ValueError for a baseline that is not in the database, before anything is computed."""
    names: list[str] = []
    if Path(db).exists():
        with Store(db, readonly=True) as store:
            names = sorted({name for names in store.names().values() for name in names})
    if baseline not in names:
        raise ValueError(
            f"--baseline {baseline!r} is not in {db}; there are results of "
            f"{', '.join(names) or 'no network'}; evaluate it first, with --name {baseline}"
        )


def _check_same(name: str, options: EvaluateOptions, network: nn.Module, data: ImageSet | Files) -> None:
    """Raise ValueError where another network than the baseline would be listed under its name."""
    with Store(options.db, readonly=True) as store:
        baselines = {one for one, names in store.names().items() if name in names}
    if isinstance(data, Files):
        first = read_images(data.files.paths[:1], reading=data.reading)
    else:
        first = data.images[:1]
    _, channels, height, width = first.shape
    if model_fingerprint(network, shape=(channels, height, width)) not in baselines:
        raise ValueError(
            f"{options.model} is another network than the baseline {name!r}, and would be listed under the "
            "same name; give it one of its own with --name NEW"
        )
