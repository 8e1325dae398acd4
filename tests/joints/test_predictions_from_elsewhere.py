"""What another program predicted on the same images, against what `evaluate` gives for the same network."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from filterbands.cli import main
from filterbands.corruptions import corrupt
from filterbands.datasets import ImageSet, load_data
from filterbands.disk import write_weights
from filterbands.evaluation import EvaluateConfig, evaluate, load_scores, score_predictions
from filterbands.models import load_model
from filterbands.report import write_report
from filterbands.scores import Scores, choose_baseline, compare, gate

KINDS = ("gaussian_noise", "contrast")
NAMES = ("name", "model")


class Elsewhere(nn.Module):
    """A network that no room made."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits


@pytest.fixture(scope="module")
def data() -> ImageSet:
    return load_data("planted", limit=60)


@pytest.fixture(scope="module")
def network(data: ImageSet) -> nn.Module:
    network = Elsewhere(len(data.classes))
    network(data.images[:1] / 255)
    return network.eval()


@pytest.fixture(scope="module")
def logits(data: ImageSet, network: nn.Module) -> dict[tuple[str, int], torch.Tensor]:
    """The loop of another program: corrupt, run, keep."""
    with torch.inference_mode():
        made = {("clean", 0): data.images} | {
            (kind, severity): corrupt(data.images, kind, severity=severity, seed=0, index=data.index)
            for kind in KINDS
            for severity in (1, 5)
        }
        return {place: network(images / 255) for place, images in made.items()}


def _without(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in (*NAMES, *keys)}


@pytest.mark.parametrize("spread", [False, True])
def test_stored_predictions_give_the_scores_that_evaluate_gives(
    data: ImageSet, network: nn.Module, spread: bool
) -> None:
    config = EvaluateConfig(kinds=KINDS, spread=spread, overlap=("noise",))
    wanted = evaluate(network, data, config=config)
    given: dict[Any, Any] = {
        place: (answers.positions, answers.predictions) for place, answers in wanted.cells.items()
    }
    alone = Scores.from_predictions(data.labels, given, name="mine", overlap=("noise",))
    assert _without(alone.to_json(), "data", "split") == _without(wanted.to_json(), "data", "split")
    scores = score_predictions(data, given, name="mine", overlap=("noise",))
    assert _without(scores.to_json()) == _without(wanted.to_json())
    assert scores.to_rows() == [row | {"name": "mine"} for row in wanted.to_rows()]
    assert compare(scores, wanted, ("clean", *KINDS)).ci95 == (0, 0)
    assert choose_baseline([wanted], wanted.name, scores) == wanted


def test_logits_of_another_loop_give_the_figures_of_evaluate(
    data: ImageSet, network: nn.Module, logits: dict[tuple[str, int], torch.Tensor]
) -> None:
    config = EvaluateConfig(kinds=KINDS, severities=(1, 5), logits=True)
    wanted = evaluate(network, data, config=config)
    scores = score_predictions(data, logits, name="mine")
    skip = "calibration_error"
    assert _without(scores.to_json(), skip) == _without(wanted.to_json(), skip)
    for kind, row in wanted.calibration_errors().items():
        there = [value for value in row if value is not None]
        found = [value for value in scores.calibration_errors()[kind] if value is not None]
        assert found == pytest.approx(there, abs=1e-6)


def test_the_metric_in_another_loop_gives_the_figures_of_evaluate(
    data: ImageSet, network: nn.Module, logits: dict[tuple[str, int], torch.Tensor]
) -> None:
    pytest.importorskip("torchmetrics")
    from filterbands.scores.metric import CorruptionAccuracy

    metric = CorruptionAccuracy()
    for (kind, severity), values in logits.items():
        for index in torch.randperm(60).split(16):
            metric.update(values[index], data.labels[index], kind=kind, severity=severity, index=index)
    wanted = evaluate(network, data, config=EvaluateConfig(kinds=KINDS, severities=(1, 5)))
    labels, predictions = metric.predictions()
    scores = score_predictions(data, predictions, labels=labels, name="mine")
    assert _without(scores.to_json()) == _without(wanted.to_json())
    assert gate(wanted, scores, max_drop=0).holds


def test_given_predictions_are_a_baseline_of_evaluate_and_stand_in_the_report(
    data: ImageSet,
    logits: dict[tuple[str, int], torch.Tensor],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    db, file = str(tmp_path / "r.db"), tmp_path / "p.npz"
    arrays = {
        kind if kind == "clean" else f"{kind}_{severity}": one for (kind, severity), one in logits.items()
    }
    np.savez(file, labels=data.labels, **arrays)
    add = ["results", db, "--add", str(file), "--name", "elsewhere", "--data", "planted", "--limit"]
    assert main([*add, "50"]) == 2
    assert "not those of planted (test, 50 images)" in capsys.readouterr().err
    assert main([*add, "60", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == load_scores(db)[0].to_json()
    weights = tmp_path / "net.safetensors"
    write_weights(weights, load_model(arch="fastnet").state_dict(), {"arch": "fastnet"})
    words = [
        "evaluate",
        str(weights),
        "--data",
        "planted",
        "--limit",
        "60",
        "--kinds",
        ",".join(KINDS),
        "--severities",
        "1,5",
    ]
    assert main([*words, "--db", db, "--baseline", "elsewhere", "--max-drop", "1", "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)["baseline"]
    one, two = load_scores(db)
    assert verdict["name"] == "elsewhere"
    assert verdict["corrupted"] == gate(two, one, max_drop=1).to_json()["corrupted"]
    write_report([db], tmp_path / "report.html")
    assert "elsewhere" in (tmp_path / "report.html").read_text()
