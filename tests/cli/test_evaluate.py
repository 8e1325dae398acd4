"""`filterbands evaluate` and `results` from end to end: a baseline, Ctrl-C, own arrays, exports."""

import importlib
import json
import sqlite3
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from filterbands import load_model
from filterbands.cli import evaluate as verb
from filterbands.cli import main
from filterbands.datasets import load_data
from filterbands.disk import write_weights
from filterbands.evaluation import Store, load_scores
from filterbands.evaluation.rows import Outcome


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    caught = capsys.readouterr()
    return code, caught.out, caught.err


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    torch.manual_seed(0)
    file = tmp_path / "net.safetensors"
    write_weights(file, load_model(arch="fastnet").state_dict(), {"arch": "fastnet"})
    db = str(tmp_path / "r.db")
    return [
        "evaluate",
        str(file),
        "--data",
        "planted",
        "--limit",
        "40",
        "--kinds",
        "fog,contrast",
        "--severities",
        "1,5",
        "--db",
        db,
    ]


def test_a_baseline_that_is_met_exits_0_and_one_that_is_not_exits_1(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(capsys, *words, "--name", "base")[0] == 0
    code, out, _ = _run(capsys, *words, "--name", "base", "--baseline", "base", "--json")
    verdict = json.loads(out)["baseline"]
    assert (code, verdict["holds"], verdict["corrupted"]["difference"]) == (0, True, 0)
    # The same rows as those of a network that is always right.
    with Store(tmp_path / "r.db") as store:
        store.add_model("p", "perfect")
        for cell, outcome in list(store.cells()):
            store.put(replace(cell, model="p"), Outcome(bits=np.ones_like(outcome.bits), seconds=0.0))
        store.delete("base")
    code, out, _ = _run(capsys, *words, "--name", "new", "--baseline", "perfect", "--max-drop", "0.01")
    assert code == 1
    assert "against perfect, a drop of 1 points allowed:" in out
    assert "does not hold" in out
    assert "fog" in out
    assert _run(capsys, *words, "--baseline", "perfect", "--max-drop", "1")[0] == 0


@pytest.mark.slow
def test_a_candidate_with_the_weights_of_the_baseline_leaves_it_its_name(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = str(tmp_path / "r.db")
    assert _run(capsys, *words, "--name", "main")[0] == 0
    for name in ("candidate", "main", "candidate"):
        code, out, _ = _run(capsys, *words, "--name", name, "--baseline", "main", "--json")
        found = json.loads(out)
        assert (code, found["name"], found["baseline"]["holds"]) == (0, name, True)
    assert [(entry.name, entry.other_names) for entry in load_scores(db)] == [("main", ("candidate",))]
    assert "also named candidate" in _run(capsys, "results", db)[1]
    for name in ("main", "candidate"):
        document = json.loads(_run(capsys, "results", db, "--model", name, "--json")[1])
        assert [entry["name"] for entry in document["results"]] == [name]
    code, out, _ = _run(capsys, "results", db, "--delete", "candidate")
    assert (code, out) == (
        0,
        f"{db}: deleted 0 results of candidate; the network has other names and keeps its results: main\n",
    )
    code, _, error = _run(capsys, *words, "--baseline", "candidate")
    assert (code, "--baseline 'candidate' is not in" in error) == (2, True)


def test_a_record_that_names_no_kinds_leaves_what_was_said_of_the_network(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("cli.evaluate", "evaluation.evaluate"):
        monkeypatch.setattr(importlib.import_module(f"filterbands.{module}"), "known_overlap", lambda _: ())
    assert _run(capsys, *words, "--overlap", "fog")[0] == 0
    assert _run(capsys, *words)[0] == 0
    assert [scores.overlap for scores in load_scores(tmp_path / "r.db")] == [("fog",)]


OPAQUE = """
from filterbands import load_model
class Opaque:
    def __reduce_ex__(self, _):
        raise TypeError
def net():
    net = load_model(arch="fastnet")
    net.opaque = Opaque()
    return net
"""


@pytest.mark.slow
def test_a_retrained_file_leaves_the_baseline_its_name(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, name = tmp_path / "net.safetensors", "net.safetensors"
    words[words.index("--kinds") + 1] = "none"
    del words[words.index("--severities") : words.index("--severities") + 2]
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(40) ** 2 // 160)
    words[words.index("planted")] = f"npz:{tmp_path / 'x.npz'}"
    assert _run(capsys, *words)[0] == 0
    (before,) = load_scores(tmp_path / "r.db")
    torch.manual_seed(2)
    write_weights(file, load_model(arch="fastnet").state_dict(), {"arch": "fastnet"})
    for more in ((), ("--name", name)):
        code, _, error = _run(capsys, *words, "--baseline", name, *more)
        assert (code, error.count("\n")) == (2, 1)
        assert f"is another network than the baseline '{name}', and would be listed under the same" in error
    assert [scores.model for scores in load_scores(tmp_path / "r.db")] == [before.model]
    # Also where the file was evaluated without a baseline, so that two networks have its name.
    assert _run(capsys, *words)[0] == 0
    code, out, _ = _run(capsys, *words, "--baseline", name, "--max-drop", "1", "--json")
    gain = json.loads(out)["clean"]["accuracy"] - before.clean
    assert (code, json.loads(out)["baseline"]["clean"]["difference"]) == (0, pytest.approx(gain))
    assert gain
    # A network that is another one each time.
    (tmp_path / "opaque_net.py").write_text(OPAQUE)
    monkeypatch.syspath_prepend(tmp_path)
    words[1] = "opaque_net:net"
    assert _run(capsys, *words)[0] == 0
    assert "is another network than the baseline" in _run(capsys, *words, "--baseline", words[1])[2]


def test_damaged_rows_give_no_figure_and_are_computed_anew(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    db = str(tmp_path / "r.db")
    _, whole, _ = _run(capsys, *words, "--json")
    connection = sqlite3.connect(db)
    connection.execute("UPDATE cells SET bits = X'00' WHERE kind = 'fog' AND severity = 5")
    connection.commit()
    connection.close()
    code, out, _ = _run(capsys, "results", db, "--json")
    assert code == 0
    assert "fog 5 of net.safetensors is left out, since its row in the database is damaged: 1" in caplog.text
    [found] = json.loads(out)["results"]
    assert found["kinds"]["fog"][4] is None
    assert [(cell["kind"], cell["severity"]) for cell in found["failed"]] == [("fog", 5)]
    code, again, _ = _run(capsys, *words, "--json")
    assert (code, "fog 5 was computed anew, since its row" in caplog.text) == (0, True)
    assert json.loads(again)["kinds"] == json.loads(whole)["kinds"]


def test_a_database_that_is_deleted_under_evaluate_exits_2(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete(*_: Any) -> None:
        (tmp_path / "r.db").unlink(missing_ok=True)

    monkeypatch.setattr(verb, "progress_bar", lambda _: nullcontext(delete))
    code, _, error = _run(capsys, *words)
    assert (code, "was deleted or replaced while results were written" in error) == (2, True)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--baseline", "nobody"], "--baseline 'nobody' is not in"),
        (["--max-drop", "0.1"], "--max-drop needs --baseline NAME"),
        (["--baseline", "x", "--max-drop", "2"], "--max-drop needs a share from 0 to 1, got 2"),
        (["--workers", "0"], "--workers needs a number from 1 to 1024, got 0"),
        (["--overlap", "nose"], "overlap needs kinds or families"),
        (["--kinds", "fogg"], "fogg"),
    ],
)
def test_mistakes_are_told_before_anything_is_computed(
    words: list[str], more: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = _run(capsys, *words, *more)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert line in err


def test_ctrl_c_says_what_is_there_and_how_to_go_on(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = verb.evaluate

    def interrupted(*arguments: object, progress, **options: object) -> object:
        def stop(done: int, total: int, what: str) -> None:
            progress(done, total, what)
            if done == 3:
                raise KeyboardInterrupt

        return whole(*arguments, progress=stop, **options)

    monkeypatch.setattr(verb, "evaluate", interrupted)
    code, _, err = _run(capsys, *words)
    assert code == 130
    assert f"3 of 5 cells are in {tmp_path / 'r.db'}; the same command goes on from there" in err
    monkeypatch.undo()
    assert _run(capsys, *words)[0] == 0
    assert len(load_scores(tmp_path / "r.db")[0].cells) == 5


def test_arrays_of_kinds_unknown_here_are_read_and_stand_in_no_named_average(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load_data("planted")
    folder = tmp_path / "c"
    folder.mkdir()
    images = data.images[:40].permute(0, 2, 3, 1).numpy()
    np.save(folder / "labels.npy", np.tile(data.labels[:40].numpy().astype(np.uint8), 5))
    np.save(folder / "my_own_kind.npy", np.concatenate([images] * 5))
    start, flags = words[:6], words[-2:]
    code, out, err = _run(
        capsys, *start, *flags, "--corrupted", str(folder), "--kinds", "my_own_kind", "--json"
    )
    assert code == 0, err
    document = json.loads(out)
    assert list(document["kinds"]) == ["my_own_kind"]
    assert document["kinds"]["my_own_kind"] == [document["clean"]["accuracy"]] * 5
    assert document["average_15"] is None
    assert document["average_cbar"] is None
    assert document["folder"] == str(folder)


def test_results_are_listed_and_written_for_others(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(capsys, *words, "--name", "net", "--overlap", "contrast", "--logits")[0] == 0
    db = words[-1]
    code, out, _ = _run(capsys, "results", db, "--export", str(tmp_path / "r.csv"))
    assert (code, out.strip()) == (0, f"{tmp_path / 'r.csv'}: 5 results")
    code, out, _ = _run(capsys, "results", db, "--model", "net", "--json")
    (found,) = json.loads(out)["results"]
    assert found["calibration_error"]["clean"][0] is not None
    code, _, err = _run(capsys, "results", db, "--model", "net", "--robustbench", str(tmp_path / "e.json"))
    assert code == 2
    assert "needs one set of all 75 cells" in err
    code, _, err = _run(capsys, "results", db, "--robustbench", str(tmp_path / "e.json"))
    assert "--robustbench needs --model NAME" in err


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "(run.json) is damaged and does not say its images; name them"),
        ({"data": 3}, "run.json is damaged: its config.data needs text, got 3; bring it back"),
        ({"data": "planted", "size": []}, "its config.size needs a whole number, got []; bring it back"),
    ],
)
def test_a_run_whose_record_does_not_say_its_images_asks_for_them(
    config: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_weights(
        tmp_path / "weights.safetensors", load_model(arch="fastnet").state_dict(), {"arch": "fastnet"}
    )
    (tmp_path / "run.json").write_text(json.dumps({"config": config}))
    code, _, err = _run(capsys, "evaluate", str(tmp_path), "--kinds", "none")
    assert code == 2
    assert said in err


def test_a_database_that_cannot_be_is_refused_before_any_image_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Neither the network nor the images exist: the output is looked at first.
    words = ["evaluate", str(tmp_path / "none.pt"), "--data", "folder:none", "--db", str(tmp_path)]
    assert main(words) == 2
    assert f"{tmp_path}: it is a folder" in capsys.readouterr().err
