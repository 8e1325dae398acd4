"""A run on disk: whole or not at all."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from filterbands.cli import main
from filterbands.disk import check_output, make_folder, write_weights, write_whole
from filterbands.run import RECORD, Run


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(file, fail)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write({"config": {"epochs": 3}})
    run.write_log([{"epoch": 0}, {"epoch": 1}])
    run.write_checkpoint({"epoch": 1, "network": {"w": torch.arange(3.0)}})
    assert run.read()["config"] == {"epochs": 3}
    assert [record["epoch"] for record in run.read_log()] == [0, 1]
    assert torch.equal(run.read_checkpoint()["network"]["w"], torch.arange(3.0))
    assert not run.finished
    run.write_weights({"w": torch.zeros(2)}, {"arch": "fastnet"})
    assert run.finished


def test_a_checkpoint_whose_storage_is_cut_is_not_filled_with_other_memory(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write_checkpoint({"network": {"a": torch.ones(10), "b": torch.ones(100)}})
    whole = tmp_path / "whole.pt"
    run.checkpoint.rename(whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(run.checkpoint, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name)[: 20 if name.endswith("data/0") else None])
    with pytest.raises(ValueError, match=r"claims more numbers for a storage, '0', .*remove it to"):
        run.read_checkpoint()


def test_a_log_line_cut_short_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"epoch": 0}\n{"epo')
    assert Run(tmp_path).read_log() == [{"epoch": 0}]


@pytest.mark.parametrize(
    "odd",
    [
        '{"epoch": 1, "loss": []}',
        '{"epoch": 1, "first_layer": {"low_energy": []}}',
        '{"epoch": 1, "first_layer": 3}',
        '{"epoch": {}}',
        "[]",
    ],
)
def test_a_log_ends_where_a_line_holds_something_else_than_figures(odd: str, tmp_path: Path) -> None:
    first = '{"epoch": 0, "loss": null, "first_layer": {"name": "a", "curve": [0.5], "low_share": 1}}'
    (tmp_path / "log.jsonl").write_text(f'{first}\n{odd}\n{{"epoch": 2}}\n')
    assert [record["epoch"] for record in Run(tmp_path).read_log()] == [0]


@pytest.mark.parametrize(
    "odd", [{"seconds": "1"}, {"seconds": None}, {"seconds": 1, "recalibrated": {"images": 1}}]
)
def test_the_record_of_a_finished_training_has_its_figures(odd: dict[str, object], tmp_path: Path) -> None:
    run = Run(tmp_path)
    layer = {"low_share": 0.5, "mean_low_energy": 0.5}
    run.write_log([{"epoch": 1, "loss": 1.0, "accuracy": 0.5, "first_layer": layer}])
    run.write({"config": {"epochs": 1}, "seconds": 1.0})
    assert run.last_epoch()["first_layer"] == layer
    run.write({"config": {"epochs": 1}, **odd})
    with pytest.raises(ValueError, match=r"run\.json is damaged.*; bring it back"):
        run.last_epoch()


@pytest.mark.parametrize("odd", [float("inf"), [1]])
@pytest.mark.parametrize("path", [path for paths in RECORD.values() for path in paths])
def test_a_record_of_other_types_is_named_by_every_reader(
    path: str, odd: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content: dict[str, Any] = {"config": {"recipe": "standard", "epochs": 1}, "data": {}}
    holder, _, name = path.rpartition(".")
    (content[holder] if holder else content)[name] = odd
    (tmp_path / "run.json").write_text(json.dumps(content))
    code = main(["report", str(tmp_path), "--out", str(tmp_path / "page.html")])
    told = capsys.readouterr().err
    try:
        Run(tmp_path).read()
    except ValueError:
        assert (code, told.count("\n")) == (2, 1)
        assert "run.json" in told
    else:
        assert code == 0


def test_folders_that_are_no_runs_say_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not a run"):
        Run(tmp_path).read()
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        Run(tmp_path).read()


def test_output_paths_are_checked_before_any_work(tmp_path: Path) -> None:
    assert check_output(tmp_path / "new.html") == tmp_path / "new.html"
    with pytest.raises(ValueError, match="no folder"):
        check_output(tmp_path / "missing" / "new.html")
    with pytest.raises(ValueError, match="it is a folder"):
        check_output(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write into the folder"):
        make_folder(tmp_path / "file" / "below")


def test_results_are_as_readable_as_any_file(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        write_weights(tmp_path / "w.safetensors", {"w": torch.zeros(1)}, {})
    finally:
        os.umask(mask)
    assert (tmp_path / "w.safetensors").stat().st_mode & 0o777 == 0o644


def test_a_run_names_the_weights_of_its_epochs_in_their_order(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.kept == ()
    for epoch in (10000, 20, 3):
        run.weights_at(epoch).touch()
    run.weights.touch()
    assert [file.name for file in run.kept] == [
        "weights-0003.safetensors",
        "weights-0020.safetensors",
        "weights-10000.safetensors",
    ]
