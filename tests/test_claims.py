"""What the library is for, shown on images whose bands are known and on digits; slow."""

from dataclasses import replace
from pathlib import Path

import pytest

from filterbands.cli.demo import LIES, SETTINGS
from filterbands.datasets import load_data
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.models import load_model
from filterbands.scores import Scores
from filterbands.training import RECIPES, train, with_settings


def _of_demo(name: str, data: str, seed: int, out: Path) -> Path:
    """Train a network of the demo with another seed."""
    config = replace(with_settings(RECIPES[name](), SETTINGS[data]), seed=seed)
    return train(config, out / f"{data}-{name}").folder


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


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_demo_shows_perturbed_spectra_ahead_on_corrupted_digits(seed: int, tmp_path: Path) -> None:
    found: dict[str, Scores] = {}
    for name in ("standard", "spectral"):
        model = load_model(_of_demo(name, "digits", seed, tmp_path))
        config = EvaluateConfig(kinds=("all-but-frost",), spread=True)
        found[name] = evaluate(model, load_data("digits"), config=config)
    corrupted = {name: scores.average_at_hand() for name, scores in found.items()}
    assert corrupted["spectral"] is not None
    assert corrupted["standard"] is not None
    assert corrupted["spectral"].accuracy - corrupted["standard"].accuracy > 0.02
    assert found["spectral"].clean - found["standard"].clean > -0.02


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_demo_shows_that_filters_held_low_read_the_low_cue(seed: int, tmp_path: Path) -> None:
    kept = {}
    for name in ("standard", "share_low"):
        model = load_model(_of_demo(name, "planted", seed, tmp_path))
        config = EvaluateConfig(kinds=())
        kept[name] = evaluate(model, load_data(LIES["high"]), config=config).clean
    assert kept["share_low"] - kept["standard"] > 0.2
