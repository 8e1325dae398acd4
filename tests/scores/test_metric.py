"""The metric against scores of the same predictions: in batches, processes, collections and Lightning."""

import json
import logging
import pickle
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from filterbands.scores import BENCHMARK_15, Scores
from filterbands.scores.scores import SEVERITIES

torchmetrics = pytest.importorskip("torchmetrics")
CorruptionAccuracy = import_module("filterbands.scores.metric").CorruptionAccuracy

TARGET = torch.arange(60) % 3
CLEAN = ("clean", 0)


def _predictions(places: Any) -> dict[tuple[str, int], torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    noise = {place: torch.randint(0, 3, (60,), generator=draw) for place in (CLEAN, *places)}
    return {
        place: torch.where(torch.rand(60, generator=draw) < 0.7, TARGET, other)
        for place, other in noise.items()
    }


def _updated(predictions: Any, *, batch: int = 25, shuffle: bool = False) -> Any:
    metric = CorruptionAccuracy()
    draw = torch.Generator().manual_seed(1)
    for (kind, severity), named in predictions.items():
        order = torch.randperm(60, generator=draw) if shuffle else torch.arange(60)
        for index in order.split(batch):
            more = {"index": index} if shuffle else {}
            metric.update(named[index], TARGET[index], kind=kind, severity=severity, **more)
    return metric


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_metric_collects_what_from_predictions_gives(shuffle: bool) -> None:
    predictions = _predictions((kind, severity) for kind in BENCHMARK_15 for severity in SEVERITIES)
    wanted = Scores.from_predictions(TARGET, predictions, name="net", seed=3)
    metric = _updated(predictions, shuffle=shuffle)
    assert metric.scores(name="net", seed=3).to_json() == wanted.to_json()
    found = metric.compute()
    names = {"clean", "average_15", "average_ex_noise", "average_at_hand", "mean_corruption_error"}
    assert set(found) == names
    for name, value in found.items():
        figure = getattr(wanted, name)
        figure = figure() if callable(figure) else figure
        assert float(value) == pytest.approx(getattr(figure, "accuracy", figure), abs=1e-6)


def test_logits_of_half_precision_are_taken_and_nan_marks_a_cell() -> None:
    predictions = _predictions([("fog", 3)])
    logits = {place: torch.eye(3)[named] for place, named in predictions.items()}
    halves = {place: values.half() for place, values in logits.items()}
    metric = CorruptionAccuracy()
    for (kind, severity), values in halves.items():
        metric.update(values, TARGET, kind=kind, severity=severity)
    wanted = Scores.from_predictions(TARGET, predictions, name="net")
    assert metric.scores(name="net").to_json() == wanted.to_json()
    halves["fog", 3][7, 0] = float("nan")
    metric.update(halves["fog", 3], TARGET, kind="fog", severity=4)
    scores = metric.scores(name="net")
    assert scores.failed == {("fog", 4): "the network gives NaN for 1 of 60 images"}
    # The cell that failed is one of those that an average over fog needs.
    assert set(metric.compute()) == {"clean"}


def test_it_resets_and_can_be_pickled_cloned_and_moved() -> None:
    predictions = _predictions([("fog", 3)])
    metric = _updated(predictions)
    wanted = metric.scores(name="net").to_json()
    for other in (pickle.loads(pickle.dumps(metric)), metric.clone(), metric.to("cpu").half()):
        assert other.scores(name="net").to_json() == wanted
        assert other.compute() == metric.compute()
    metric.reset()
    with pytest.raises(ValueError, match="no answers on clean images"):
        metric.scores(name="net")
    metric.update(TARGET, TARGET)
    assert float(metric.compute()["clean"]) == 1
    assert metric.scores(name="net").kinds == {}


def test_a_batch_has_its_own_value_and_a_collection_takes_the_metric() -> None:
    metric = CorruptionAccuracy()
    first = metric(TARGET[:10], TARGET[:10], kind="fog", severity=1)
    assert {name: float(value) for name, value in first.items()} == {"average_at_hand": 1}
    second = metric(1 - TARGET[10:40:3], TARGET[10:40:3], kind="fog", severity=1)
    assert float(second["average_at_hand"]) == 0
    assert float(metric.compute()["average_at_hand"]) == 0.5
    collection = torchmetrics.MetricCollection({"corrupted": CorruptionAccuracy()}, prefix="test_")
    collection.update(TARGET, TARGET, kind="clean", severity=0)
    assert float(collection.compute()["test_clean"]) == 1


def test_images_that_come_twice_count_once_and_other_predictions_are_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    index = torch.tensor([0, 1, 2, 3, 0])
    metric = CorruptionAccuracy()
    metric.update(TARGET[index], TARGET[index], index=index)
    assert len(metric.scores(name="net").labels) == 4
    assert not caplog.messages
    metric.update(1 - TARGET[:1], TARGET[:1], index=torch.tensor([0]))
    with caplog.at_level(logging.WARNING):
        assert metric.scores(name="net").clean == 1
    assert "clean 0: 1 images came again with other predictions" in caplog.text
    metric.update(TARGET[1:2], TARGET[1:2], index=torch.tensor([0]))
    with pytest.raises(ValueError, match="image 0 of clean 0 came with two targets"):
        metric.scores(name="net")


def test_the_images_of_a_subset_keep_their_numbers_and_a_spread_its_images() -> None:
    metric = CorruptionAccuracy()
    chosen = torch.arange(1000, 1060)
    metric.update(TARGET, TARGET, index=chosen)
    for severity in SEVERITIES:
        part = slice(severity - 1, None, 5)
        metric.update(TARGET[part], TARGET[part], kind="fog", severity=severity, index=chosen[part])
    scores = metric.scores(name="net")
    assert scores.cells["fog", 4].positions.tolist() == list(range(3, 60, 5))
    metric.update(TARGET[:1], TARGET[:1], kind="snow", severity=1, index=torch.tensor([7]))
    with pytest.raises(ValueError, match="image 7 of snow 1 is not among the clean images"):
        metric.scores(name="net")


def test_shuffled_batches_without_an_index_are_found_out() -> None:
    metric = CorruptionAccuracy()
    metric.update(TARGET, TARGET)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    metric.update(TARGET[order], TARGET[order], kind="fog", severity=1)
    with pytest.raises(ValueError, match="fog 1 has another target than on clean images; give every update"):
        metric.scores(name="net")
    metric.update(TARGET, TARGET, index=order)
    with pytest.raises(ValueError, match="some batches with index= and some without"):
        metric.compute()


@pytest.mark.parametrize(
    ("update", "line"),
    [
        ({"kind": "fogg", "severity": 1}, r"unknown kind 'fogg' \(did you mean fog\?\)"),
        ({"kind": "fog"}, "the severity of fog needs to be from 1 to 5, got 0"),
        ({"preds": TARGET[:9]}, "one value per image, got 9, 60 and 60"),
        ({"preds": TARGET.float()}, r"preds needs whole numbers .* or logits .*, got torch.float32"),
        ({"preds": TARGET - 1}, "preds needs numbers of at least 0, got -1"),
        ({"preds": torch.zeros(60, 1)}, "preds needs logits of at least 2 classes"),
        ({"target": TARGET.bool()}, "target needs whole numbers"),
        ({"index": TARGET.float()}, "index needs whole numbers"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_in_one_line(update: Any, line: str) -> None:
    metric = CorruptionAccuracy()
    with pytest.raises(ValueError, match=line):
        metric.update(**{"preds": TARGET, "target": TARGET, **update})
    with pytest.raises(ValueError, match="kinds needs names of corruptions without clean"):
        CorruptionAccuracy(kinds=["clean"])


def test_kinds_of_ones_own_are_named_at_the_start() -> None:
    metric = CorruptionAccuracy(kinds=["fog", "my own"])
    metric.update(TARGET, TARGET)
    metric.update(TARGET, TARGET, kind="my own", severity=2)
    assert metric.scores(name="net").kinds["my own"] == [None, 1, None, None, None]


def test_a_missing_torchmetrics_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.delitem(sys.modules, "filterbands.scores.metric")
    with pytest.raises(ImportError, match=r"needs the package torchmetrics; install filterbands\[metrics\]"):
        import_module("filterbands.scores.metric")


PROCESS = """
import json, sys, torch
from filterbands.scores.metric import CorruptionAccuracy
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
saved = torch.load(f"{folder}/given.pt")
metric, lonely = CorruptionAccuracy(), CorruptionAccuracy()
# As DistributedSampler does: every second image, and the first one again to fill up.
index = torch.cat([torch.arange(rank, 60, 2), torch.tensor([0])])
for (kind, severity), named in saved["predictions"].items():
    metric.update(named[index], saved["target"][index], kind=kind, severity=severity, index=index)
if rank == 0:
    lonely.update(saved["target"], saved["target"], index=torch.arange(60))
try:
    lonely.update(saved["target"], saved["target"])
    refused = ""
except ValueError as error:
    refused = str(error)
found = {name: float(value) for name, value in metric.compute().items()}
document = metric.scores(name="net").to_json()
again = {name: float(value) for name, value in metric.compute().items()}
answer = [found, again, document, len(lonely.scores(name="lonely").labels), refused]
print(json.dumps(answer))
"""


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one(tmp_path: Path) -> None:
    predictions = _predictions([("fog", 3), ("snow", 1)])
    torch.save({"predictions": predictions, "target": TARGET}, tmp_path / "given.pt")
    command = [sys.executable, "-W", "ignore", "-c", PROCESS]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    answers = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert answers[0] == answers[1]
    found, again, document, lonely, refused = answers[0]
    wanted = Scores.from_predictions(TARGET, predictions, name="net").to_json()
    assert document == json.loads(json.dumps(wanted))
    assert found == again
    assert found["clean"] == pytest.approx(wanted["clean"]["accuracy"])
    assert lonely == 60
    assert "needs index= where there are several processes" in refused


def test_lightning_logs_the_metric(tmp_path: Path) -> None:
    lightning = pytest.importorskip("pytorch_lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.metric = CorruptionAccuracy()

        def validation_step(self, batch: Any, _: int, dataloader_idx: int = 0) -> None:
            kind, severity = (CLEAN, ("fog", 3))[dataloader_idx]
            index, target = batch
            self.metric.update(target * (severity == 0), target, kind=kind, severity=severity, index=index)

        def on_validation_epoch_end(self) -> None:
            self.log_dict(self.metric.compute())
            self.metric.reset()

    data = torch.utils.data.TensorDataset(torch.arange(60), TARGET)
    loaders = [torch.utils.data.DataLoader(data, batch_size=25) for _ in range(2)]
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(accelerator="cpu", default_root_dir=tmp_path, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (found,) = trainer.validate(Module(), loaders, verbose=False)[:1]
    assert found == {"clean": 1.0, "average_at_hand": pytest.approx(1 / 3)}
    assert np.isfinite(list(found.values())).all()
