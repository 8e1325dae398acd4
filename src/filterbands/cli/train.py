"""`filterbands train`: train a network by a recipe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..checks import hint
from ..engine import is_first_process
from ..training import RECIPES, check_start, train, with_settings
from .shared import Answer, DeviceOptions, check_range, progress_bar


@dataclass(frozen=True, kw_only=True)
class TrainOptions(DeviceOptions):
    """Train a network by a recipe into a Run folder."""

    recipe: tyro.conf.Positional[str]
    """standard, gaussian, augmix, apr_sp, spectral ...: each method has a recipe of its name."""
    data: str | None = None
    """planted, digits, cifar10:DIR, cifar100:DIR, folder:DIR or npz:FILE; the recipe's own by default."""
    split: str | None = None
    """train, validation, full_train or test; the recipe's own by default."""
    size: int = 0
    """Side in pixels to which images of folder:DIR are resized and cropped; the recipe's own by default."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Change a field of the recipe, say arch=cifar_resnet18 or share.low=0.5; may be repeated."""
    seed: int = 0
    """Seed of weights, order, crops and draws."""
    out: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    """The Run folder; ./runs/RECIPE-ARCH-SEED by default."""
    resume: bool = False
    """Continue a killed run where it stopped."""
    tensorboard: bool = False
    """Also write TensorBoard events into RUN/tensorboard, once per epoch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("--size", self.size, 0, 4096)


def run(options: TrainOptions) -> Answer:
    """Train, and return the record of the run."""
    if options.recipe not in RECIPES:
        near = hint(options.recipe, RECIPES)
        raise ValueError(f"unknown recipe {options.recipe!r}{near}; known are {', '.join(RECIPES)}")
    given = {name: getattr(options, name) for name in ("data", "split", "size", "batch_size", "seed")}
    settings = {name: value for name, value in given.items() if value}
    fields = [setting.partition("=")[0] for setting in options.set]
    if twice := [name for name in settings if name in fields]:
        flag = f"--{twice[0].replace('_', '-')}"
        raise ValueError(f"{flag} and --set {twice[0]}= set one field; give it once")
    flags = [f"{name}={value}" for name, value in settings.items()]
    config = with_settings(RECIPES[options.recipe](), [*flags, *options.set])
    # The name that results are listed under may be another.
    check_start(options.recipe, config)
    arch = config.arch.replace(":", "-")
    out = Path(options.out or f"runs/{config.recipe}-{arch}-{config.seed}")
    with progress_bar("train") as progress, _board(out, wanted=options.tensorboard) as on_epoch:
        done = train(
            config,
            out,
            resume=options.resume,
            device=options.device,
            threads=options.threads or None,
            progress=progress,
            on_epoch=on_epoch,
        )
    last = done.last_epoch()
    description = done.read()
    layer = last["first_layer"]
    epochs = "1 epoch" if config.epochs == 1 else f"{config.epochs} epochs"
    text = (
        f"{done.folder}: {epochs} in {description['seconds']:.0f} s, "
        f"loss {last['loss']:.3f}, accuracy in training {100 * last['accuracy']:.1f} %\n"
        f"first layer: low share {layer['low_share']:.2f}, mean low energy {layer['mean_low_energy']:.3f}"
    )
    if "recalibrated" in description:
        figures = description["recalibrated"]
        before, after = (100 * figures[f"accuracy_{when}"] for when in ("before", "after"))
        text += (
            f"\nbatch norms recalibrated on {figures['images']:,} clean images: "
            f"{before:.1f} -> {after:.1f} % of training images right"
        )
    # Only one of the processes that torchrun started answers.
    document = {"run": str(done.folder), **description, "last": last}
    return Answer(document=document, text=text, shown=is_first_process())


@contextmanager
def _board(out: Path, *, wanted: bool) -> Iterator[Callable[[dict[str, Any]], None] | None]:
    """Yield a function that writes a record of the log for TensorBoard; None unless wanted."""
    if not wanted or not is_first_process():
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            "--tensorboard needs the package tensorboard; install filterbands[tensorboard]"
        ) from None
    # A writer creates the folder, which `train` may refuse before the first record.
    writers: list[Any] = []

    def on_epoch(record: dict[str, Any]) -> None:
        if not writers:
            writers.append(SummaryWriter(out / "tensorboard"))
        layer = record["first_layer"]
        figures = {"loss": record.get("loss"), "accuracy in training": record.get("accuracy")}
        figures |= {name: layer[name] for name in ("mean_low_energy", "low_energy", "low_share")}
        for name, value in figures.items():
            if value is not None:
                writers[0].add_scalar(name, value, record["epoch"])
        writers[0].flush()

    try:
        yield on_epoch
    finally:
        for writer in writers:
            writer.close()
