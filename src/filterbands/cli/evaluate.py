"""`filterbands evaluate`: clean and corrupted accuracy."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..corruptions import PARAMETERS
from ..datasets import load_data
from ..engine import PRECISIONS, pick_device, set_threads
from ..models import Normalising
from ..robustness import EvaluateConfig, evaluate
from .corrupt import chosen_kinds
from .shared import Answer, ModelOptions, check_range, progress_bar, severities, three_numbers


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ModelOptions):
    """Measure clean and corrupted accuracy; only what the database lacks is computed."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A checkpoint file, a Run folder, timm:NAME, or module:function (which runs that code)."""
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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("--size", self.size, 0, 4096)
        check_range("--limit", self.limit, 0, math.inf)
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
    kinds: tuple[str, ...] | None = None
    if options.kinds:
        none = options.kinds == "none"
        kinds = () if none else chosen_kinds(options.kinds, parameters=options.parameters)
    set_threads(options.threads or None)
    config = EvaluateConfig(
        name=options.name or _name(options.model),
        kinds=kinds,
        severities=severities(options.severities),
        parameters=options.parameters,
        seed=options.seed,
        precision=options.precision,
        limit=options.limit or None,
        spread=options.spread,
        corrupted=options.corrupted or None,
        batch_size=options.batch_size or 500,
        device=str(pick_device(options.device)),
    )
    model = options.load(options.model)
    # Networks of our own normalise by themselves.
    own = isinstance(model, Normalising)
    with progress_bar("evaluate") as progress:
        scores = evaluate(
            model,
            load_data(options.data, split=options.split, size=options.size or None),
            config=config,
            db=options.db,
            mean=None if own else three_numbers("--mean", options.mean),
            std=None if own else three_numbers("--std", options.std),
            progress=progress,
        )
    return Answer(document=scores.to_json(), text=str(scores))


def _name(model: str) -> str:
    """Return the name of the run's folder or of the file; a spec names itself."""
    path = Path(model)
    return path.resolve().name if path.exists() else model
