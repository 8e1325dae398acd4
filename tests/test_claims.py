"""What the library is for, shown on images whose bands are known; slow."""

from dataclasses import replace
from pathlib import Path

import pytest

from filterbands.datasets import load_data
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.models import load_model
from filterbands.training import RECIPES, train


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("spec", "opposed"), [("planted:high=0", "share_high"), ("planted:low=0", "share_low")]
)
def test_filters_without_the_band_of_the_label_cost_more_than_5_points(
    spec: str, opposed: str, seed: int, tmp_path: Path
) -> None:
    # Every free network finds the label in 8 epochs, not in 4: results/planted_sweep.jsonl.
    clean = {}
    for recipe in ("standard", opposed):
        config = replace(RECIPES[recipe](), data=spec, epochs=8, seed=seed)
        run = train(config, tmp_path / recipe)
        scores = evaluate(load_model(run.folder), load_data(spec), config=EvaluateConfig(kinds=()))
        clean[recipe] = scores.clean
    assert clean["standard"] - clean[opposed] > 0.05
