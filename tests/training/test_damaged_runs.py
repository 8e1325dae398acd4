"""A Run folder that two trainings share, or of which files are cut or missing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from filterbands.cli import main
from filterbands.disk import owned
from filterbands.run import EPOCHS, Run
from filterbands.training import TrainConfig, train


@pytest.fixture(scope="module")
def config(config_of: Callable[[str], TrainConfig]) -> TrainConfig:
    return replace(config_of("standard"), epochs=2)


def test_two_trainings_cannot_write_one_run(config: TrainConfig, tmp_path: Path) -> None:
    with owned(tmp_path), pytest.raises(ValueError, match="another process is writing into"):
        train(config, tmp_path)
    assert not list(tmp_path.iterdir())
    run = train(config, tmp_path)
    assert not list(run.folder.glob(".*"))


def test_a_finished_run_with_damaged_weights_is_not_called_finished(
    config: TrainConfig, tmp_path: Path
) -> None:
    run = train(config, tmp_path)
    whole = run.weights.read_bytes()
    for content in (b"", whole[:9], whole[:-1]):
        run.weights.write_bytes(content)
        with pytest.raises(ValueError, match=r"weights\.safetensors.*or train anew in another folder"):
            train(config, tmp_path, resume=True)


def test_a_checkpoint_that_a_kill_left_in_a_finished_run_goes(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, unlink = Run(tmp_path), Path.unlink

    def killed(file: Path, *, missing_ok: bool = False) -> None:
        if file == run.checkpoint:
            raise KeyboardInterrupt
        unlink(file, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path)
    assert run.finished
    whole = run.weights.read_bytes()
    run.weights.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="or train anew in another folder"):
        train(config, tmp_path, resume=True)
    assert run.checkpoint.exists()
    run.weights.write_bytes(whole)
    assert train(config, tmp_path, resume=True).finished
    assert not run.checkpoint.exists()


def test_a_checkpoint_that_is_cut_or_of_something_else_gets_one_line(
    config: TrainConfig, tmp_path: Path
) -> None:
    def stop(record: object) -> None:
        if run.checkpoint.exists():
            raise KeyboardInterrupt

    run = Run(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, on_epoch=stop)
    whole = run.checkpoint.read_bytes()
    for content in (b"", whole[:100], whole[: len(whole) // 2], whole[:-10], b"\x80\x02}q\x00."):
        run.checkpoint.write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged .*; remove it to train anew"):
            train(config, tmp_path, resume=True)
    for odd in ({}, {"epoch": "1"}, {"epoch": 1, "records": []}):
        torch.save(odd, run.checkpoint)
        with pytest.raises(ValueError, match=r"checkpoint\.pt is not this training's, or is damaged"):
            train(config, tmp_path, resume=True)
    run.checkpoint.unlink()
    assert train(config, tmp_path, resume=True).finished


def test_a_log_that_is_cut_or_endless_gets_one_line(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(config, tmp_path / "run")
    words = ["train", "standard", "--out", str(run.folder), "--resume", "--data", config.data, "--seed=5"]
    for name in ("batch_size", "epochs", "precision"):
        words += ["--set", f"{name}={getattr(config, name)}"]
    assert main(words) == 0
    lines = run.log.read_text().splitlines(keepends=True)
    for content in ("", "".join(lines[:-1]), "".join(lines)[:-5], lines[0]):
        run.log.write_text(content)
        assert main(words) == 2
        assert "is missing or cut: it ends before epoch 2" in capsys.readouterr().err
    run.log.unlink()
    assert main(words) == 2
    run.log.write_text("{}\n" * (EPOCHS + 2))
    with pytest.raises(ValueError, match="more than 100,000 epochs"):
        run.read_log()


@pytest.mark.parametrize("content", ["[]", '{"config": 3}', "{", "[" * 100_000, "\udcff"])
def test_a_record_that_is_none_gets_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"run\.json is "):
        Run(tmp_path).read()
    (tmp_path / "run.json").write_text(json.dumps({"config": {}}))
    assert Run(tmp_path).read() == {"config": {}}
