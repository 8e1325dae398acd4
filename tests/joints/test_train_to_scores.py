"""From a config through a Run and a database to scores: the same numbers in memory and on disk."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from filterbands import engine
from filterbands.cli import main
from filterbands.datasets import load_data
from filterbands.evaluation import EvaluateConfig, Store, evaluate, load_scores
from filterbands.models import load_model, read_weights
from filterbands.run import Run
from filterbands.training import METHODS, RECIPES, TrainConfig, train, with_settings

SETTINGS = EvaluateConfig(name="trained", kinds=("fog", "gaussian_noise"), severities=(1, 5))


class StoppedError(Exception):
    """Raised in the middle of a training."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A training on a file of 48 images of three colors, written by NumPy alone."""
    generator = np.random.default_rng(0)
    labels = np.arange(48) % 3
    images = generator.integers(0, 100, (48, 3, 16, 16), dtype=np.uint8)
    images[np.arange(48), labels] += 120
    file = tmp_path_factory.mktemp("data") / "colors.npz"
    np.savez(file, images=images, labels=labels)
    settings = ["epochs=3", "batch_size=16", "seed=4", "spectral.strength=1", "share.low=0.75", "ema=0.5"]
    return with_settings(TrainConfig(data=f"npz:{file}", precision="float32"), settings)


def stop_at(step: int) -> Callable[[int, int, str], None]:
    def progress(done: int, total: int, what: str) -> None:
        if done == step:
            raise StoppedError

    return progress


@pytest.mark.parametrize("is_fast", [True, False])
def test_a_training_ends_in_the_precision_that_it_began_in(
    is_fast: bool, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(config, precision="auto")
    began_in, other = ("bfloat16", "float32")[:: 1 if is_fast else -1]
    monkeypatch.setattr(engine, "_computes_in_bfloat16", lambda _: is_fast)
    whole = train(plain, tmp_path / "whole")
    assert whole.read()["precision"] == began_in
    with pytest.raises(StoppedError):
        train(plain, tmp_path / "run", progress=stop_at(7))
    # The processor on which it goes on is of another kind.
    monkeypatch.setattr(engine, "_computes_in_bfloat16", lambda _: not is_fast)
    run = train(plain, tmp_path / "run", resume=True)
    assert run.read()["precision"] == began_in
    one, two = (read_weights(there.weights) for there in (whole, run))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert train(plain, tmp_path / "new").read()["precision"] == other
    # Records of before this entry have the precision in their config alone.
    record = json.loads((run.folder / "run.json").read_text())
    old = {**record, "config": {**record["config"], "precision": other}}
    del old["precision"]
    (run.folder / "run.json").write_text(json.dumps(old))
    assert (whole.precision, run.precision) == (began_in, other)
    # A run that was begun in one by name is finished for one who asks for none.
    named = replace(config, precision=began_in)
    assert train(
        replace(named, precision="auto"), train(named, tmp_path / "named").folder, resume=True
    ).finished


def test_scores_of_a_trained_network_are_the_same_in_memory_and_in_the_file(
    config: TrainConfig, tmp_path: Path
) -> None:
    run = train(config, tmp_path / "run")
    data, db = load_data(config.data, split="test"), tmp_path / "r.db"
    made = evaluate(load_model(run.folder), data, config=replace(SETTINGS, overlap=config.resembles), db=db)
    [kept] = load_scores(db)
    assert kept.to_json() == made.to_json()
    assert (kept.name, kept.overlap, kept.labels.tolist()) == (
        "trained",
        config.resembles,
        data.labels.tolist(),
    )
    assert set(kept.cells) == {("clean", 0), *((kind, s) for kind in SETTINGS.kinds or () for s in (1, 5))}
    for cell, answers in made.cells.items():
        assert kept.cells[cell].bits.tolist() == answers.bits.tolist()
    # The clean accuracy is that of the network on its images, computed here by hand.
    model = load_model(run.weights).eval()
    with torch.no_grad():
        right = model(data.images.float() / 255).argmax(dim=1) == data.labels
    assert made.clean == float(right.double().mean())
    assert made.clean > 0.5


def test_a_run_stopped_and_resumed_fills_no_new_cell(config: TrainConfig, tmp_path: Path) -> None:
    whole = train(config, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(config, tmp_path / "stopped", progress=stop_at(5))
    assert not Run(tmp_path / "stopped").finished
    resumed = train(config, tmp_path / "stopped", resume=True)
    data, db = load_data(config.data, split="test"), tmp_path / "r.db"
    first = evaluate(load_model(whole.folder), data, config=SETTINGS, db=db)
    done: list[int] = []
    second = evaluate(
        load_model(resumed.folder), data, config=SETTINGS, db=db, progress=lambda *step: done.append(step[0])
    )
    # Weights equal to the bit have one fingerprint, so that every cell is already there.
    assert done == []
    assert second.to_json() == first.to_json()
    with Store(db, readonly=True) as store:
        assert len(list(store.cells())) == 5


def test_other_weights_are_another_network_to_the_database(config: TrainConfig, tmp_path: Path) -> None:
    run = train(replace(config, epochs=1), tmp_path / "run")
    data, db = load_data(config.data, split="test"), tmp_path / "r.db"
    model = load_model(run.folder)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.get_submodule("linear").bias[0] += 1e-3  # type: ignore[index, operator]
    clean = replace(SETTINGS, kinds=())
    evaluate(model, data, config=clean, db=db)
    evaluate(other, data, config=replace(clean, name="other"), db=db)
    assert sorted(scores.name for scores in load_scores(db)) == ["other", "trained"]


def test_a_network_resembles_what_it_started_from_in_the_record_and_in_the_scores(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", config.data, "--set", "epochs=1", "--set", "batch_size=16"]
    prime = [*METHODS["prime"].resembles]
    assert main(["train", "prime", *words, "--out", str(tmp_path / "prime")]) == 0
    for number, start in enumerate(("prime", "prime/weights.safetensors")):
        run = tmp_path / f"tuned{number}"
        tuned = ["train", "finetune", *words, "--set", f"init={tmp_path / start}", "--out", str(run)]
        assert main(tuned) == 0
        own = RECIPES["finetune"]().resembles
        expected = [*own, *(kind for kind in prime if kind not in own)]
        assert "elastic_transform" in expected
        assert Run(run).read()["overlap"] == expected
    capsys.readouterr()
    db = str(tmp_path / "r.db")
    for model in (run, run / "weights.safetensors"):
        evaluated = ["evaluate", str(model), "--data", config.data, "--kinds", "saturate,snow", "--db", db]
        assert main([*evaluated, "--json"]) == 0
        capsys.readouterr()
        assert load_scores(db)[0].overlap == tuple(expected)


@pytest.mark.parametrize("more", [[], ["--set", "recipe=mine"]])
def test_finetune_without_a_start_is_refused_whatever_it_is_called(
    more: list[str], config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "finetune", "--data", config.data, *more, "--out", str(tmp_path / "run")]) == 2
    assert "finetune starts from a trained network; name it with --set init=FILE" in capsys.readouterr().err
    assert not (tmp_path / "run" / "run.json").exists()
