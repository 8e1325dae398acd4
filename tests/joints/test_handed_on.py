"""What one room hands to the next: what is known of a training, whose results are whose, a node's cells."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import filterbands as fb
from filterbands.cli import main
from filterbands.corruptions import CORRUPTIONS
from filterbands.datasets import load_data
from filterbands.evaluation import EvaluateConfig, evaluate, load_scores
from filterbands.filters import trajectory
from filterbands.models import known_overlap, known_trainings, load_model
from filterbands.probes import vulnerability
from filterbands.report.gather import gather
from filterbands.run import Run
from filterbands.study import StudyConfig, as_study, run_study
from filterbands.training import RECIPES, TrainConfig, train

study_run = __import__("filterbands.study.run", fromlist=["run"])


def _config(recipe: str, **changed: Any) -> TrainConfig:
    return replace(RECIPES[recipe](), data="planted", split="validation", epochs=1, **changed)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Run whose training resembles noise, with the weights of its epoch."""
    return train(_config("gaussian", keep_every=1), tmp_path_factory.mktemp("runs") / "noisy").folder


@pytest.mark.parametrize(
    ("verb", "name"), [("bake", "plain.safetensors"), ("shrink", "plain.safetensors"), ("bake", "plain.pt")]
)
def test_a_file_written_from_a_run_knows_what_its_training_resembled_and_saw(
    noisy: Path, tmp_path: Path, verb: str, name: str
) -> None:
    file = tmp_path / name
    images = ["--data", "planted", "--noise", "0.05"] if verb == "shrink" else []
    assert main([verb, str(noisy), "--out", str(file), *images]) == 0
    assert known_overlap(file) == known_overlap(noisy)
    assert "gaussian_noise" in (known_overlap(file) or ())
    assert known_trainings(file) == known_trainings(noisy)
    scores = evaluate(str(file), load_data("planted", limit=4), config=EvaluateConfig(kinds=()))
    assert "gaussian_noise" in scores.overlap
    # A training from there resembles it too.
    after = train(_config("standard", init=str(file)), tmp_path / "after")
    assert "gaussian_noise" in after.read()["overlap"]
    assert after.read()["trained_before"] == [
        {"data": data, "split": split} for data, split in known_trainings(noisy)
    ]


def test_what_a_file_says_of_its_training_is_not_believed_where_it_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    for text in ("[1", "3", '{"a": 1}', "[" * 100_000):
        save_file({"a": torch.zeros(1)}, file, metadata={"overlap": text, "trainings": text})
        assert known_overlap(file) is None
        assert known_trainings(file) == ()
    file.write_bytes(b"no weights")
    assert known_overlap(file) is None
    torch.save({"a": torch.zeros(1)}, file)
    assert known_overlap(file) is None


def test_weights_that_a_user_put_into_a_run_are_none_that_it_kept(noisy: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(noisy, tmp_path / "run")
    for name in ("weights-best.safetensors", "weights-0001-copy2.safetensors"):
        shutil.copy(folder / "weights-0001.safetensors", folder / name)
    assert [file.name for file in Run(folder).kept] == ["weights-0001.safetensors"]
    assert main(["analyze", str(folder)]) == 0
    steps = [[step for step, _ in trajectory(one).series("conv1")] for one in (folder, noisy)]
    assert steps[0] == steps[1]


def test_results_of_the_name_of_a_run_without_weights_are_said_to_be_taken_for_its_own(
    noisy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = tmp_path / "results.db"
    config = EvaluateConfig(name="same", kinds=())
    evaluate(load_model(arch="fastnet"), load_data("planted", limit=4), config=config, db=database)
    unfinished = Run(tmp_path / "same")
    unfinished.folder.mkdir()
    unfinished.write(Run(noisy).read() | {"finished": None})
    gather([unfinished.folder, database], title="")
    assert "same has no weights: results of the name same are taken to be of it" in caplog.text


def test_a_network_behind_another_convolution_is_said_to_see_other_patches(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 8, 3))
    for images in (None, torch.rand(1, 3, 16, 16)):
        caplog.clear()
        vulnerability(network, images=images)
        assert "0 comes before 1, so that 1 sees other patches" in caplog.text


class _SharedNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.norm = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(self.two(self.norm(self.one(images)))).mean((2, 3))


def test_a_norm_of_several_layers_is_not_shrunk() -> None:
    network = _SharedNorm().eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"norms of the first layer's own: norm reads one and two"):
        fb.shrink(network, torch.rand(40, 3, 12, 12))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_workers_say_that_held_layers_are_baked_first() -> None:
    model = load_model(arch="fastnet")
    fb.set_share(model.conv1, low=1.0)
    with pytest.raises(ValueError, match=r"cannot be sent to workers while layers of it are held.*bake"):
        evaluate(model, load_data("planted", limit=4), config=EvaluateConfig(kinds=("contrast",), workers=2))


def test_what_a_function_of_the_user_draws_after_an_epoch_changes_no_training(tmp_path: Path) -> None:
    config = replace(_config("spectral"), epochs=2, precision="float32")
    plain, drawing = (
        train(config, tmp_path / name, on_epoch=on_epoch)
        for name, on_epoch in (("plain", None), ("drawing", lambda _: torch.randperm(10)))
    )
    both = [load_model(run.folder).state_dict() for run in (plain, drawing)]
    assert all(torch.equal(both[0][name], both[1][name]) for name in both[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_other_types_are_evaluated_as_they_are(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.Linear(8, 10))
    data, config = load_data("planted", limit=40), EvaluateConfig(kinds=())
    expected = evaluate(network, data, config=config).clean
    assert evaluate(network.to(dtype), data, config=config).clean == pytest.approx(expected, abs=0.06)


def _study() -> StudyConfig:
    return as_study(
        {
            "data": "planted",
            "recipes": ["standard"],
            "seeds": [0, 1],
            "set": {"epochs": 1, "split": "validation", "precision": "float32"},
            "evaluate": {"kinds": ["contrast", "shot_noise"], "limit": 8},
        }
    )


def _one_by_one(work: Callable[[Any], Any], jobs: Any, **_: Any) -> Iterator[tuple[int, Any]]:
    for number, job in enumerate(jobs):
        yield number, work(job)


def test_nodes_of_a_cluster_send_their_cells_and_one_process_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = run_study(_study(), "here", device="cpu")
    monkeypatch.setattr(study_run, "run_jobs", _one_by_one)
    asked = []

    def watched(*given: Any, db: Path, **named: Any) -> Any:
        asked.append(db)
        return evaluate(*given, db=db, **named)

    monkeypatch.setattr(study_run, "evaluate", watched)
    there = run_study(_study(), "there", ray="auto", device="cpu")
    assert [line["kinds"] for line in there] == [line["kinds"] for line in here]
    assert (tmp_path / "there" / "results.db") not in asked
    files = [tmp_path / place / "results.db" for place in ("here", "there")]
    scores = [{one.name: one for one in load_scores(file)} for file in files]
    assert scores[0].keys() == scores[1].keys()
    for name, one in scores[0].items():
        assert one.cells.keys() == scores[1][name].cells.keys()
        for cell, answers in one.cells.items():
            assert np.array_equal(answers.bits, scores[1][name].cells[cell].bits)
    text = (tmp_path / "there" / "runs.jsonl").read_text()
    assert "cells" not in json.loads(text.splitlines()[0])


def test_a_node_without_the_folder_of_the_study_trains_nothing(tmp_path: Path) -> None:
    study = _study()
    job = (study.configs[0], "cpu")
    with pytest.raises(ValueError, match=r"a node of the cluster has no folder .*nowhere"):
        study_run._run_apart(job, folder=str(tmp_path / "nowhere"), study=study, threads=None)
    assert not (tmp_path / "nowhere").exists()


def test_a_study_evaluates_anew_what_another_version_of_a_kind_was_measured_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = run_study(_study(), tmp_path / "out", device="cpu")
    assert CORRUPTIONS["shot_noise"].version == 2
    assert [line["versions"] for line in lines] == [{"shot_noise": 2}] * 2
    file = tmp_path / "out" / "runs.jsonl"
    old = [line | {"kinds": {**line["kinds"], "shot_noise": [0.1] * 5}} for line in lines]
    for line in old:
        del line["versions"]
    file.write_text("".join(json.dumps(line) + "\n" for line in old))
    again = run_study(_study(), tmp_path / "out", device="cpu")
    assert "2 finished runs are evaluated anew: versions was {}, now {'shot_noise': 2}" in caplog.text
    assert [line["kinds"] for line in again] == [line["kinds"] for line in lines]
