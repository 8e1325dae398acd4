"""What training keeps, the trajectory reads: `keep_every` to `trajectory` and `filterbands analyze RUN`."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from filterbands import load_data, train
from filterbands.cli import main
from filterbands.filters import analyze, trajectory
from filterbands.run import Run
from filterbands.training import RECIPES

EPOCHS = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("kept")
    data = load_data("planted").subset(torch.arange(64))
    np.savez(place / "few.npz", images=data.images.numpy(), labels=data.labels.numpy())
    config = replace(
        RECIPES["standard"](),
        data=f"npz:{place / 'few.npz'}",
        batch_size=32,
        epochs=EPOCHS,
        keep_every=1,
        precision="float32",
    )
    return train(config, place / "run")


def test_a_run_names_what_it_kept(run: Run) -> None:
    assert run.kept == tuple(run.weights_at(epoch) for epoch in range(1, EPOCHS + 1))
    assert all(file.exists() for file in (run.facts, run.log, run.weights, *run.kept))


@pytest.mark.parametrize("cutoff", [None, 0.3])
def test_the_trajectory_of_a_run_is_that_of_the_weights_it_kept(run: Run, cutoff: float | None) -> None:
    options = {} if cutoff is None else {"cutoff": cutoff}
    course = trajectory(run.folder, **options)
    assert len(course.layers) > 1
    for layer in course.layers:
        expected = [
            (epoch, analyze(run.weights_at(epoch), **options)[layer].mean_low_energy)
            for epoch in range(1, EPOCHS + 1)
        ]
        assert course.series(layer, "mean_low_energy") == [pair for pair in expected if pair[1] is not None]
    shares = [value for _, value in course.series("conv1", "mean_low_energy")]
    assert len(set(shares)) == EPOCHS


def test_analyze_tells_the_course_of_a_run_that_kept_weights(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(run.folder), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert tuple(document["trajectory"]) == trajectory(run.folder).rows
    assert [row["step"] for row in document["trajectory"] if row["layer"] == "conv1"] == [1, 2, 3]


def test_the_last_epoch_that_was_kept_is_what_the_log_says_of_it(run: Run) -> None:
    log = {record["epoch"]: record["first_layer"] for record in run.read_log()}
    for epoch, value in trajectory(run.folder).series("conv1", "low_energy"):
        assert value == pytest.approx(log[epoch]["low_energy"], abs=1e-6)


def test_without_kept_weights_the_log_tells_and_old_folders_are_read(run: Run, tmp_path: Path) -> None:
    for file in (run.facts, run.log):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert [step for step, _ in trajectory(tmp_path).series("conv1")] == [0, 1, 2, 3]
    (tmp_path / "checkpoints").mkdir()
    kept = tmp_path / "checkpoints" / "epoch-2.safetensors"
    kept.write_bytes(run.weights_at(2).read_bytes())
    assert {row["step"] for row in trajectory(tmp_path).rows} == {2}
