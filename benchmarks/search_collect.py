"""Score the finished runs of the recipe search and append them to results/search.jsonl (docs/search.md).

Reads folders that `filterbands study benchmarks/search/NAME.json --out DIR` fills. The validation images
under the study's kinds come from its database; the five kinds of ImageNet-C-bar alone are computed here and
kept there. A run of a revision that was not clean is refused.

Of a run of 40 epochs the 15 kinds on test images are computed as well, since its weights are not kept. Their
bits are written unread to results/search/sealed; `python benchmarks/search.py --open` opens the finalists'.

    python benchmarks/search_collect.py DIR [DIR ...]
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import search
from collecting import append_missing, check_versions, described, facts, pack

from filterbands.datasets import load_data
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.models import load_model
from filterbands.run import Run
from filterbands.scores import BENCHMARK_15
from filterbands.training import METHODS

LINES = Path(__file__).parents[1] / "results" / "search.jsonl"


def collect(folder: Path, line: dict[str, Any]) -> dict[str, Any]:
    """Return the line of a finished run."""
    run = Run(folder / line["name"])
    made = described(run)
    config = EvaluateConfig(
        name=line["name"],
        kinds=search.BAR,
        parameters="imagenet",
        spread=True,
        precision=line["evaluation"]["precision"],
    )
    data = load_data(made["config"]["data"], split="validation")
    model = load_model(run.folder)
    bar = evaluate(model, data, config=config, db=folder / "results.db").to_json()["kinds"]
    kinds = {**line["kinds"], **bar}
    if line["epochs"] == search.LONG:
        test = load_data(made["config"]["data"], split="test")
        own = replace(config, kinds=BENCHMARK_15, parameters="cifar")
        of = (line["recipe"], line["epochs"], line["seed"])
        pack(evaluate(model, test, config=own), search.sealed(*of))
    shown = (*search.OWN, *search.BAR, "speckle_noise", "gaussian_blur")
    front = run.last_epoch().get("spectral")
    return {
        "row": line["recipe"],
        "arch": line["arch"],
        "epochs": line["epochs"],
        "seed": line["seed"],
        "passes": METHODS[made["config"]["method"]].views,
        "clean": line["clean"],
        "selection": search.selection(kinds),
        "average_15": None,
        "kinds": {kind: kinds[kind] for kind in shown},
        **({} if front is None else {"spectral": front}),
        **facts(run, line),
    }


def main() -> None:
    """Append what is missing."""
    append_missing(
        LINES,
        __doc__,
        collect,
        lambda line: f"{100 * line['clean']:.2f} clean, {100 * line['selection']:.2f} selection",
    )


if __name__ == "__main__":
    check_versions()
    main()
