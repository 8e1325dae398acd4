"""`filterbands study`: train and evaluate a grid of configurations and seeds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..study import Plan, StudyConfig, plan_study, read_study, run_study, table
from .shared import Answer, Options, check_range, progress_bar


@dataclass(frozen=True, kw_only=True)
class StudyOptions(Options):
    """Train and evaluate a grid of recipes, fields and seeds; what is finished is skipped."""

    file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")]
    """JSON: data, recipes, seeds, and set, grid, evaluate, name where wanted."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder of runs and results; ./study-NAME by default."""
    plan: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Only say what it will cost and which difference it can find."""
    workers: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Trainings at once."""
    ray: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = ""
    """A Ray cluster to train on: auto, HOST:PORT or local."""
    device: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"
    """auto (CUDA where there is one), cpu, cuda or cuda:N."""
    threads: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Torch threads of each worker; 0 leaves the setting as it is."""

    def __post_init__(self) -> None:
        check_range("--workers", self.workers, 1, 4096)
        check_range("--threads", self.threads, 0, 1024)


OPTIONS = StudyOptions


def run(options: StudyOptions) -> Answer:
    """Plan or run the study."""
    study = read_study(options.file)
    out = Path(options.out or f"study-{study.name}")
    given: dict[str, Any] = {
        "workers": options.workers,
        "threads": options.threads or None,
        "device": options.device,
    }
    with progress_bar("study", lines=not options.plan) as progress:
        if options.plan:
            plan = plan_study(study, out, progress=progress, **given)
            return Answer(document=_document(plan), text=_text(plan, study))
        lines = run_study(study, out, ray=options.ray or None, progress=progress, **given)
    return Answer(document={"study": study.name, "out": str(out), "runs": lines}, text=table(lines))


def _document(plan: Plan) -> dict[str, Any]:
    return {
        "runs": plan.runs,
        "missing": plan.missing,
        "hours": plan.hours,
        "seconds": {
            row: {"training": training, "evaluation": evaluation}
            for row, (training, evaluation) in plan.seconds.items()
        },
        "spread": plan.spread,
        "detectable": plan.detectable,
    }


def _text(plan: Plan, study: StudyConfig) -> str:
    rows = [
        f"  {row}: {training / 60:.1f} min training, {evaluation / 60:.1f} min evaluation a run"
        for row, (training, evaluation) in plan.seconds.items()
    ]
    if plan.detectable is None:
        said = "one seed: no difference between rows can be told from chance"
    else:
        said = (
            f"difference of two rows that it finds with chance 0.8: {100 * plan.detectable:.2f} points "
            f"(standard deviation over seeds {100 * plan.spread:.2f})"
        )
    return "\n".join(
        [f"{study.name}: {plan.missing} of {plan.runs} runs to do, about {plan.hours:.1f} hours", *rows, said]
    )
