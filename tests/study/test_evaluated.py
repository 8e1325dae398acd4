"""On what a study's rows are measured and how: anew where that changes, and said where they trained on it."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from filterbands.cli import main
from filterbands.evaluation import Store, evaluate
from filterbands.run import Run
from filterbands.scores import Scores
from filterbands.study import as_study, plan_study, read_lines, run_study, table
from filterbands.study.file import folder_of
from filterbands.study.lines import ImagesNow
from filterbands.training import TrainConfig, to_plain

run_module = importlib.import_module("filterbands.study.run")
SETTINGS = {"epochs": 1, "batch_size": 8, "precision": "float32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two classes in the folders train, val and test, and as many without such folders."""
    place = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for part in ("split/train", "split/val", "split/test", "flat"):
        for label in ("ant", "bee"):
            (place / part / label).mkdir(parents=True)
            for number in range(6):
                pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / part / label / f"{number}.png")
    return place


@pytest.fixture
def plain(folder: Path) -> dict[str, Any]:
    return {
        "data": f"folder:{folder / 'split'}",
        "recipes": ["standard"],
        "set": SETTINGS,
        "seeds": [0],
        "evaluate": {"split": "validation", "kinds": ["contrast"], "spread": False},
    }


def _line(config: TrainConfig) -> dict[str, Any]:
    """Return the line of a finished run, without what its evaluation was."""
    figures = ("clean", "average_15", "average_19", "robust", "seconds", "evaluation_seconds")
    about = {"name": folder_of(config), "recipe": config.recipe, "config": to_plain(config), "kinds": {}}
    return about | dict.fromkeys(figures, 0.5)


def _cells(out: Path) -> int:
    with Store(out / "results.db", readonly=True) as store:
        return len(list(store.cells()))


def test_a_line_of_another_evaluation_is_made_anew_from_its_run_and_never_pooled(
    plain: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    out, tuned = tmp_path / "out", {"name": "tuned", "recipe": "finetune", "from": "standard"}
    plain["recipes"] = ["standard", {**tuned, "set": {"epochs": 1}}]
    [old, old_tuned] = run_study(as_study(plain), out)
    finished = Run(out / "standard-fastnet-0").read()["finished"]
    # The folder may have moved since.
    out = out.rename(tmp_path / "moved")
    plain["evaluate"] = {"split": "test", "kinds": ["contrast", "brightness"], "spread": False}
    plain["seeds"] = [0, 1]
    (tmp_path / "study.json").write_text(json.dumps(plain))
    study = as_study(plain)
    assert main(["study", str(tmp_path / "study.json"), "--out", str(out), "--plan"]) == 0
    assert "4 of 4 runs to do" in capsys.readouterr().out
    assert "2 finished runs are evaluated anew: split was 'validation', now 'test', kinds was" in caplog.text
    lines = run_study(study, out)
    assert sorted(line["name"] for line in read_lines(out)) == sorted(line["name"] for line in lines)
    assert all(line["evaluation"]["split"] == "test" and len(line["kinds"]) == 2 for line in lines)
    assert Run(out / "standard-fastnet-0").read()["finished"] == finished
    assert table(lines).splitlines()[2].startswith("| standard | 2 | ")
    assert all(
        run_module.line_of(config, study, lines, out, ImagesNow(study, {})) for config in study.configs
    )
    # What the database holds is read again.
    count = _cells(out)
    plain |= {"evaluate": {"split": "validation", "kinds": ["contrast"], "spread": False}, "seeds": [0]}
    caplog.clear()
    again = run_study(as_study(plain), out)
    assert _cells(out) == count
    for line, before in zip(again, (old, old_tuned), strict=True):
        assert (line["clean"], line["kinds"]) == (before["clean"], before["kinds"])
    assert "evaluated anew" in caplog.text


@pytest.mark.parametrize(
    "damage",
    [
        {"clean": None, "seconds": "1"},
        {"kinds": {"contrast": [[], 0.5]}},
        {"kinds": {"zigzag": [0.5] * 5}},
        {"name": ["standard-fastnet-0"]},
        {"config": {"arch": 3}},
    ],
)
def test_a_damaged_line_is_made_anew(
    damage: dict[str, Any], plain: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.json").write_text(json.dumps(plain))
    words = ["study", str(tmp_path / "s.json"), "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    file, whole = tmp_path / "out" / "runs.jsonl", capsys.readouterr().out
    [line] = read_lines(tmp_path / "out")
    file.write_text(json.dumps(line | damage) + "\n")
    assert main([*words, "--plan"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == 1
    assert main(words) == 0
    caught = capsys.readouterr()
    [again] = read_lines(tmp_path / "out")
    assert {**again, "evaluation_seconds": 0} == {**line, "evaluation_seconds": 0}
    assert len(json.loads(caught.out)["runs"]) == len(json.loads(whole)["runs"]) == 1


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"kinds": ["brightness", "contrast"]}, True),
        ({"limit": None, "seed": 0}, True),
        ({"kinds": ["contrast"]}, False),
        ({"kinds": ["c"]}, False),
        ({"kinds": [["damaged"]]}, False),
        ({"split": "test"}, False),
        ({"spread": True}, False),
        ({"precision": "bfloat16"}, False),
        ({"limit": 4}, False),
        ({"seed": 1}, False),
    ],
)
def test_evaluations_are_equal_where_what_they_mean_is(
    change: dict[str, Any], same: bool, plain: dict[str, Any], tmp_path: Path
) -> None:
    plain["evaluate"]["kinds"] = ["contrast", "brightness"]
    study = as_study(plain)
    [config] = study.configs
    line = _line(config)
    said = {"split": "validation", "kinds": ["contrast", "brightness"], "spread": False, **change}
    for evaluation, found in ((None, True), ("spread, bfloat16", True), (said, same)):
        given = line if evaluation is None else {**line, "evaluation": evaluation}
        assert (run_module.line_of(config, study, [given], tmp_path, ImagesNow(study, {})) == given) is found


def test_the_sets_of_kinds_are_the_kinds_in_them(plain: dict[str, Any], tmp_path: Path) -> None:
    study = as_study({**plain, "evaluate": {"kinds": ["c"]}})
    [config] = study.configs
    line = _line(config)
    line["evaluation"] = {"split": "test", "kinds": list(study.evaluation.kinds or ())}
    assert run_module.line_of(config, study, [line], tmp_path, ImagesNow(study, {})) == line


@pytest.mark.parametrize(
    ("data", "change", "said"),
    [
        ("split", {}, []),
        ("split", {"evaluate": {}}, []),
        ("split", {"set": {"split": "full_train"}}, ["(split full_train): standard;"]),
        ("split", {"set": {"split": "test"}, "evaluate": {}}, ["(split test): standard;"]),
        (
            "split",
            {"grid": {"split": ["train", "full_train"]}},
            ["(split full_train): standard split=full_train;"],
        ),
        ("flat", {"evaluate": {}}, ["(split train): standard;"]),
        ("npz", {"evaluate": {}}, ["(split train): standard;"]),
        (
            "split",
            {
                "recipes": [
                    {"name": "seen", "recipe": "standard", "set": {"split": "full_train"}},
                    {"recipe": "finetune", "from": "seen"},
                    "gaussian",
                ]
            },
            ["(split full_train): seen, finetune;"],
        ),
        (
            "npz",
            {"evaluate": {}, "recipes": ["standard", "gaussian", "apr_s", "augmix", "trivial"]},
            ["(split train): standard, gaussian, apr_s and 2 others;"],
        ),
    ],
)
def test_rows_that_are_measured_on_what_they_train_on_are_said_once_before_work(
    data: str,
    change: dict[str, Any],
    said: list[str],
    plain: dict[str, Any],
    folder: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.arange(16) % 2)
    spec = f"npz:{tmp_path / 'a.npz'}" if data == "npz" else f"folder:{folder / data}"
    change = {**change, "set": {**SETTINGS, **change.get("set", {})}}
    study = as_study({**plain, "data": spec, "seeds": [0, 1], **change})
    run_module.load(study)
    found = [record.getMessage() for record in caplog.records if "trained on" in record.getMessage()]
    assert len(found) == len(said)
    for line, part in zip(found, said, strict=True):
        assert line.startswith(f"study: split {study.evaluate['split']} of {spec} has images")
        assert part in line


def test_a_study_says_it_once_and_so_does_one_whose_start_has_seen_the_images(
    plain: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    [line] = run_study(as_study({**plain, "set": {**SETTINGS, "split": "full_train"}}), tmp_path / "one")
    assert caplog.text.count("trained on") == 1
    caplog.clear()
    settings = {**SETTINGS, "init": str(tmp_path / "one" / line["name"])}
    file = tmp_path / "two.json"
    file.write_text(json.dumps({**plain, "recipes": ["finetune"], "set": settings}))
    assert main(["study", str(file), "--out", str(tmp_path / "two")]) == 0
    assert caplog.text.count("trained on") == 1
    assert "(split full_train): finetune;" in caplog.text


def test_a_row_resembles_what_it_started_from(plain: dict[str, Any], tmp_path: Path) -> None:
    tuned = {"recipe": "finetune", "from": "prime", "set": {"epochs": 1}}
    run_study(as_study({**plain, "recipes": ["prime", tuned]}), tmp_path)
    with Store(tmp_path / "results.db", readonly=True) as store:
        [model] = [model for model, names in store.names().items() if "finetune-fastnet-0" in names]
        overlap = store.overlaps()[model]
    assert {"elastic_transform", "saturate", "gaussian_noise"} <= {*overlap}
    assert list(overlap) == Run(tmp_path / "finetune-fastnet-0").read()["overlap"]


def test_a_cell_that_failed_is_in_the_line_and_in_no_average(
    plain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*given: Any, **options: Any) -> Scores:
        scores = evaluate(*given, **options)
        if not options["config"].name.endswith("-2"):
            return scores
        cells = {place: answers for place, answers in scores.cells.items() if place != ("contrast", 5)}
        return replace(scores, cells=cells, failed={("contrast", 5): "the network gave NaN"})

    monkeypatch.setattr(run_module, "evaluate", failing)
    said: list[str] = []
    plain |= {"seeds": [0, 1, 2], "evaluate": {**plain["evaluate"], "kinds": ["contrast", "fog"]}}
    study = as_study(plain)
    lines = run_study(study, tmp_path, progress=lambda *step: said.append(str(step[2])))
    assert [line["robust"] is None for line in lines] == [False, False, True]
    assert lines[2]["failed"] == [{"kind": "contrast", "severity": 5, "reason": "the network gave NaN"}]
    assert said[2].endswith(", 1 corrupted cells failed")
    # A line of an earlier version has the mean of the others, and does not say what failed.
    older = [{key: value for key, value in line.items() if key != "failed"} for line in lines]
    older[2]["robust"] = 0.5
    for shown in (lines, older):
        head, _, row = (text.split(" | ") for text in table(shown).splitlines())
        cells = dict(zip(head, row, strict=True))
        assert cells["seeds"] == "3"
        assert "(n =" not in cells["clean"]
        assert cells["all kinds asked for"].endswith(" (n = 2)")
        assert "(n =" not in cells["weather"]
        assert cells["digital"].endswith(" (n = 2)")
        assert cells["15 kinds"] == cells["noise"] == "not measured"
    assert table(lines[2:]).splitlines()[2].split(" | ")[-2] == "failed"
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in older))
    spread = plan_study(study, tmp_path).spread
    assert spread == pytest.approx(np.std([line["robust"] for line in lines[:2]], ddof=1))


def test_a_network_that_cannot_be_evaluated_does_not_stop_the_others(
    plain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*given: Any, **options: Any) -> Scores:
        if options["config"].name == "standard-fastnet-0":
            raise ValueError("on clean images the network gave NaN")
        return evaluate(*given, **options)

    monkeypatch.setattr(run_module, "evaluate", refusing)
    with pytest.raises(ValueError, match=r"1 of 2 runs failed, .* standard-fastnet-0: on clean images"):
        run_study(as_study({**plain, "seeds": [0, 1]}), tmp_path)
    assert [line["seed"] for line in read_lines(tmp_path)] == [1]
