"""`filterbands study`: train and evaluate a grid of configurations and seeds."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..study import Plan, StudyConfig, plan_study, read_study, run_study, table
from .shared import Answer, ComputeOptions, check_range, progress_bar


@dataclass(frozen=True, kw_only=True)
class StudyOptions(ComputeOptions):
    """Train and evaluate a grid of recipes, fields and seeds; what is finished is skipped."""

    file: tyro.conf.Positional[str]
    """JSON: data, recipes, seeds, and set, grid, evaluate, name where wanted."""
    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of runs and results; ./study-NAME by default."""
    plan: bool = False
    """Only show the cost of the study and the difference that it can detect."""
    workers: int = 1
    """Trainings at once."""
    threads: int = 0
    """Threads of torch's operations in each process; 0 leaves the setting as it is, and gives each of several
    workers one."""
    ray: str | None = None
    """A Ray cluster to train on: auto, HOST:PORT or local."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("--workers", self.workers, 1, 4096)


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
            pairs = plan.seconds.items()
            seconds = {row: {"training": train, "evaluation": test} for row, (train, test) in pairs}
            return Answer(document={**asdict(plan), "seconds": seconds}, text=_text(plan, study))
        lines = run_study(study, out, ray=options.ray, progress=progress, **given)
    return Answer(document={"study": study.name, "out": str(out), "runs": lines}, text=table(lines))


def _text(plan: Plan, study: StudyConfig) -> str:
    rows = [
        f"  {row}: {training / 60:.1f} min training, {evaluation / 60:.1f} min evaluation a run"
        for row, (training, evaluation) in plan.seconds.items()
    ]
    if plan.detectable is None:
        said = "one seed: no difference between rows can be separated from chance"
    else:
        said = (
            f"difference of two rows that it finds with chance 0.8: {100 * plan.detectable:.2f} points "
            f"(standard deviation over seeds {100 * plan.spread:.2f})"
        )
    return "\n".join(
        [f"{study.name}: {plan.missing} of {plan.runs} runs to do, about {plan.hours:.1f} hours", *rows, said]
    )
