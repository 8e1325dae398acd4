"""`filterbands demo`: robustness on real images, and what a network reads where that is known."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets import load_data
from ..disk import make_folder
from ..evaluation import EvaluateConfig, evaluate
from ..models import load_model
from ..report import write_report
from ..run import Run
from ..scores import Scores
from ..training import RECIPES, TrainConfig, train, with_settings
from .shared import Answer, DeviceOptions, OutFolder, progress_bar

NETWORKS = ("standard", "share_low", "spectral")
"""The recipes compared: a free first layer, share 1.0 of low filters, and perturbed power spectra."""
PLANTED = "planted:low=2,high=2"
"""Generated images whose class is written in a low and in a high band, at twice the usual strength."""
LIES = {"low": f"{PLANTED},low_agrees=0", "high": f"{PLANTED},high_agrees=0"}
"""Test images in which one of the two cues shows a wrong class."""
SETTINGS = {
    # A mirrored digit is no digit.
    "digits": ("data=digits", "split=full_train", "flip=false", "epochs=15"),
    "planted": (f"data={PLANTED}", "epochs=4"),
}
"""What each training changes in its recipe."""


@dataclass(frozen=True, kw_only=True)
class DemoOptions(DeviceOptions):
    """Train small networks on digits and on generated images, measure what they read, write a report."""

    out: OutFolder = "demo-output"
    """Folder for runs, results and report; what is finished there is kept."""
    batch_size: int = 0
    """Images at a time in evaluation; 0 leaves it to the verb. Training keeps its recipes' own."""


def run(options: DemoOptions) -> Answer:
    """Run the demo and return the lines that matter."""
    started = time.perf_counter()
    out = make_folder(options.out)
    digits: dict[str, dict[str, float]] = {}
    planted: dict[str, dict[str, float]] = {}
    for name in NETWORKS:
        scores = _scores(name, "digits", out, options, kinds=("all-but-frost",))
        found = scores.average_at_hand()
        assert found is not None
        digits[name] = {"clean": scores.clean, "corrupted": found.accuracy}
    for name in NETWORKS:
        planted[name] = {"clean": _scores(name, "planted", out, options).clean}
        for band, spec in LIES.items():
            planted[name][f"{band}_lies"] = _scores(name, "planted", out, options, spec=spec).clean
    folders = [_folder(out, data, name) for data in SETTINGS for name in NETWORKS]
    page = write_report(
        [*folders, out / "results.db"],
        out / "report.html",
        title="filterbands demo",
        data=load_data("digits"),
    )
    seconds = time.perf_counter() - started
    return Answer(
        document={"report": str(page), "digits": digits, "planted": planted, "seconds": seconds},
        text=_text(page, digits, planted, seconds),
    )


def _folder(out: Path, data: str, name: str) -> Path:
    return out / f"{data}-{name}"


def _trained(name: str, data: str, out: Path, options: DemoOptions) -> tuple[Run, TrainConfig]:
    """Train a network, or go on with it; a finished one is left as it is."""
    config = with_settings(RECIPES[name](), SETTINGS[data])
    folder = _folder(out, data, name)
    if sys.stderr.isatty() and not folder.exists():
        print(f"{data}: {name}", file=sys.stderr)  # noqa: T201
    with progress_bar("train") as progress:
        given: dict[str, Any] = {"device": options.device, "threads": options.threads or None}
        return train(config, folder, resume=folder.exists(), progress=progress, **given), config


def _scores(
    name: str,
    data: str,
    out: Path,
    options: DemoOptions,
    *,
    spec: str = "",
    kinds: tuple[str, ...] = (),
) -> Scores:
    """Return how a network does on the test images of its data, or of a spec."""
    done, config = _trained(name, data, out, options)
    usual = EvaluateConfig()
    settings = EvaluateConfig(
        name=done.name,
        # Frost needs textures that cannot come with the package.
        kinds=kinds,
        overlap=config.resembles or None,
        precision=done.precision,
        device=options.device,
        batch_size=options.batch_size or usual.batch_size,
    )
    with progress_bar("evaluate") as progress:
        return evaluate(
            load_model(done.folder),
            load_data(spec or config.data),
            config=settings,
            db=out / "results.db",
            progress=progress,
        )


def _text(
    page: Path, digits: dict[str, dict[str, float]], planted: dict[str, dict[str, float]], seconds: float
) -> str:
    heads = ("clean", "corrupted", "low cue lies", "high cue lies")
    lines = [f"{'accuracy, %':<12}{'digits':>26}{'generated images':>32}"]
    lines.append(f"{'':<12}" + "".join(f"{head:>14}" for head in heads))
    for name in NETWORKS:
        values = (*digits[name].values(), planted[name]["low_lies"], planted[name]["high_lies"])
        lines.append(f"{name:<12}" + "".join(f"{100 * value:>14.1f}" for value in values))
    gain = 100 * (digits["spectral"]["corrupted"] - digits["standard"]["corrupted"])
    kept = (100 * planted[name]["high_lies"] for name in ("share_low", "standard"))
    lines += [
        "",
        f"Perturbed power spectra (spectral) change the accuracy on corrupted digits by {gain:+.1f} points.",
        "Filters held low (share_low) read the low cue: where the high cue lies, they keep "
        "{:.0f} %, free filters {:.0f} %.".format(*kept),
        "What a network reads and how robust it is are two questions: no recipe here is best at both.",
        "These are small networks and one seed: docs/verdict.md says what holds on CIFAR-10.",
        "",
        f"report: {page}  ({seconds:.0f} s)",
        "next:   filterbands analyze YOUR_MODEL.pt",
    ]
    return "\n".join(lines)
