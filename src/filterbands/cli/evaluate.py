"""`filterbands evaluate`: clean and corrupted accuracy."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..corruptions import CORRUPTIONS, PARAMETERS, expand_kinds
from ..datasets import ImageSet, list_images, load_data
from ..engine import PRECISIONS, pick_device, set_threads
from ..evaluation import EvaluateConfig, Files, OnnxNetwork, Store, evaluate, is_onnx, load_scores
from ..models import Normalising
from ..run import Run
from ..scores import choose_baseline, gate, place_among_published
from .shared import Answer, ModelOptions, check_range, listed, progress_bar, severities, three_numbers


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ModelOptions):
    """Measure clean and corrupted accuracy; only what the database lacks is computed."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A checkpoint or ONNX file, a Run folder, timm:NAME, or module:function (which runs that code)."""
    data: Annotated[str, tyro.conf.arg(metavar="SPEC")] = "planted"
    """planted, cifar10:DIR, cifar100:DIR, folder:DIR or npz:FILE."""
    split: Annotated[str, tyro.conf.arg(metavar="NAME")] = "test"
    """train, validation, full_train or test."""
    corrupted: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder of arrays in the published layout, read instead of corrupting here."""
    parameters: Annotated[str, tyro.conf.arg(metavar="cifar|imagenet")] = "cifar"
    """Table of constants."""
    kinds: Annotated[str, tyro.conf.arg(metavar="A,B")] = ""
    """Kinds; all 19 by default; all-but-frost needs no textures; cbar: C-bar's ten; none: clean alone."""
    severities: Annotated[str, tyro.conf.arg(metavar="1,2")] = "1,2,3,4,5"
    """Severities from 1 to 5."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Seed of the random kinds."""
    precision: Annotated[str, tyro.conf.arg(metavar="float32|bfloat16")] = "float32"
    """Precision of the network."""
    compile: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Compile the network first, some ten seconds; pays for many images of a deep network."""
    db: Annotated[str, tyro.conf.arg(metavar="FILE")] = "results.db"
    """Database of results."""
    name: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    """Name to list the results under; the run's or file's own by default."""
    size: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Side in pixels that images of folder:DIR are brought to; 0 takes them as they are."""
    limit: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Take the first N images; 0 for all."""
    spread: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Each image at one severity a kind, a fifth of the cost."""
    logits: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Keep the logits too, for calibration errors."""
    overlap: Annotated[str, tyro.conf.arg(metavar="A,B")] = ""
    """Kinds or families (noise, blur, ...) that the training resembles; a Run may know its own."""
    workers: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Processes that share the cells."""
    ray: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = ""
    """A Ray cluster that shares them instead: auto, HOST:PORT or local."""
    baseline: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    """Exit 1 where this network of the database, on the same images, is better beyond --max-drop."""
    max_drop: Annotated[float, tyro.conf.arg(metavar="X")] = 0.0
    """Drop from the baseline that is allowed, a share: 0.01 is a point."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("--size", self.size, 0, 4096)
        check_range("--limit", self.limit, 0, math.inf)
        check_range("--workers", self.workers, 1, 1024)
        check_range("--max-drop", self.max_drop, 0, 1, what="a share")
        if self.max_drop and not self.baseline:
            raise ValueError("--max-drop needs --baseline NAME, the network to compare with")
        severities(self.severities)
        three_numbers("--mean", self.mean)
        three_numbers("--std", self.std)
        for flag, value, known in (
            ("--parameters", self.parameters, PARAMETERS),
            ("--precision", self.precision, PRECISIONS),
        ):
            if value not in known:
                raise ValueError(f"{flag} needs {' or '.join(known)}, got {value!r}")


OPTIONS = EvaluateOptions


def run(options: EvaluateOptions) -> Answer:
    """Evaluate and return the scores."""
    kinds = _kinds(options)
    set_threads(options.threads or None)
    config = EvaluateConfig(
        name=options.name or _name(options.model),
        kinds=kinds,
        severities=severities(options.severities),
        parameters=options.parameters,
        seed=options.seed,
        precision=options.precision,
        compile=options.compile,
        limit=options.limit or None,
        spread=options.spread,
        corrupted=options.corrupted or None,
        logits=options.logits,
        overlap=listed(options.overlap) or _known_overlap(options.model),
        batch_size=options.batch_size or 500,
        device=str(pick_device(options.device)),
        workers=options.workers,
        ray=options.ray or None,
    )
    if options.baseline:
        _check_baseline(options)
    if options.compile and is_onnx(options.model):
        raise ValueError("--compile is for networks of torch; onnxruntime has compiled an ONNX file already")
    model = OnnxNetwork(options.model) if is_onnx(options.model) else options.load(options.model)
    # Networks of our own normalise by themselves.
    own = isinstance(model, Normalising)
    cells = [0, 0]
    with progress_bar("evaluate") as bar:

        def progress(done: int, total: int, what: str) -> None:
            cells[:] = [done, total]
            if bar is not None:
                bar(done, total, what)

        try:
            scores = evaluate(
                model,
                _data(options),
                config=config,
                db=options.db,
                mean=None if own else three_numbers("--mean", options.mean),
                std=None if own else three_numbers("--std", options.std),
                progress=progress,
            )
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
        baseline = choose_baseline(load_scores(options.db), options.baseline, scores)
        verdict = gate(scores, baseline, max_drop=options.max_drop)
        document["baseline"] = verdict.to_json()
        text += f"\n\n{verdict}"
        code = 0 if verdict.holds else 1
    return Answer(document=document, text=text, code=code)


def _kinds(options: EvaluateOptions) -> tuple[str, ...] | None:
    """Return the kinds asked for; of arrays on disk, kinds unknown here may be among them."""
    if not options.kinds or options.kinds == "none":
        return () if options.kinds else None
    if not options.corrupted:
        return expand_kinds(listed(options.kinds), parameters=options.parameters)
    known = ("c", "cbar", "all-but-frost", *CORRUPTIONS)
    return tuple(
        kind
        for name in listed(options.kinds)
        for kind in (expand_kinds([name], parameters=options.parameters) if name in known else (name,))
    )


def _data(options: EvaluateOptions) -> ImageSet | Files:
    """Return the images; those of a folder are read when their turn comes, since they may fill memory."""
    kind, _, place = options.data.partition(":")
    if kind != "folder" or not place:
        return load_data(options.data, split=options.split, size=options.size or None)
    folder = Path(place).expanduser()
    return Files(
        files=list_images(folder, split=options.split),
        name=f"folder:{folder.resolve().name}",
        split=options.split,
        size=options.size or None,
    )


def _check_baseline(options: EvaluateOptions) -> None:
    """Refuse a baseline that is not there before anything is computed."""
    names: list[str] = []
    if Path(options.db).exists():
        with Store(options.db, readonly=True) as store:
            names = sorted(set(store.models().values()))
    if options.baseline not in names:
        raise ValueError(
            f"--baseline {options.baseline!r} is not in {options.db}; there are results of "
            f"{', '.join(names) or 'no network'}; evaluate it first, with --name {options.baseline}"
        )


def _name(model: str) -> str:
    """Return the name of the run's folder or of the file; a spec names itself."""
    path = Path(model)
    return path.resolve().name if path.exists() else model


def _known_overlap(model: str) -> tuple[str, ...] | None:
    """Return what a run's own record says of it; None where there is none."""
    path = Path(model)
    if not (path / "run.json").is_file():
        return None
    found = Run(path).read().get("overlap")
    return tuple(map(str, found)) if isinstance(found, list) else None
