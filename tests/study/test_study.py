"""A study: every row and seed once, resumed where it stopped, its cost and its power told before."""

import hashlib
import importlib
import json
from pathlib import Path
from statistics import mean
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import t as student

from filterbands.cli import main
from filterbands.datasets import PlantedConfig, planted
from filterbands.disk import owned
from filterbands.run import Run
from filterbands.study import (
    StudyConfig,
    as_study,
    detectable,
    plan_study,
    read_lines,
    read_study,
    run_study,
    seed_spread,
    table,
)
from filterbands.training import TrainConfig

run_module = importlib.import_module("filterbands.study.run")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    data = planted(PlantedConfig(), split="validation").subset(torch.arange(64))
    file = tmp_path_factory.mktemp("data") / "tiny.npz"
    np.savez(file, images=data.images[:, :, 8:24, 8:24].numpy(), labels=data.labels.numpy())
    return {
        "name": "tiny",
        "data": f"npz:{file}",
        "recipes": ["standard", {"name": "mixed", "recipe": "apr_p", "set": {"spectral.strength": 1.0}}],
        "set": {"epochs": 1, "batch_size": 32},
        "seeds": [0, 1],
        "evaluate": {"kinds": ["contrast", "brightness"], "split": "train"},
    }


def test_rows_come_seed_by_seed_with_their_own_settings(plain: dict[str, Any]) -> None:
    study = as_study({**plain, "grid": {"share.low": [None, 1.0]}})
    assert [(config.recipe, config.seed) for config in study.configs] == [
        (f"{row} share.low={low}", seed)
        for seed in (0, 1)
        for row in ("standard", "mixed")
        for low in ("none", "1.0")
    ]
    mixed = study.configs[3]
    assert (mixed.method, mixed.spectral.strength, mixed.share.low) == ("apr_p", 1.0, 1.0)
    assert (mixed.epochs, mixed.batch_size, mixed.data) == (1, 32, plain["data"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recipe": []}, r"a study has no key 'recipe' \(did you mean recipes\?\)"),
        ({"recipes": ["standart"]}, r"unknown recipe 'standart' \(did you mean standard\?\)"),
        ({"recipes": []}, "recipes needs a list that is not empty"),
        ({"recipes": ["standard", "standard"]}, "two recipes have one name"),
        ({"set": {"epoch": 3}}, "did you mean epochs"),
        ({"set": []}, "set needs an object"),
        ({"seeds": [0, 0]}, "seeds needs different whole numbers"),
        ({"seeds": ["a"]}, "seeds needs different whole numbers"),
        ({"grid": {"epochs": 3}}, "grid.epochs needs a list of values"),
        ({"evaluate": {"kind": []}}, "did you mean kinds"),
        ({"evaluate": {"kinds": ["fogg"]}}, "unknown kind 'fogg'"),
        ({"evaluate": {"kinds": "fog"}}, "evaluate.kinds needs a list of names"),
        ({"evaluate": {"spread": "false"}}, "evaluate.spread needs true or false, got 'false'"),
        ({"evaluate": {"limit": 2.5}}, "evaluate.limit needs a number above 0 or null"),
        ({"evaluate": {"limit": True}}, "evaluate.limit needs a number above 0 or null"),
        ({"evaluate": {"seed": "0"}}, "evaluate.seed needs a whole number"),
        ({"evaluate": {"precision": 16}}, "evaluate.precision needs a text"),
        ({"seeds": [True, 2]}, "seeds needs different whole numbers"),
        ({"recipes": [{"name": 3, "recipe": "standard"}]}, "name of a recipe needs a text, got 3"),
        ({"recipes": [{"recipe": "standard", "set": 3}]}, "set of a recipe needs an object, got 3"),
        ({"grid": {"share.low": [None, "none"]}}, "grid.share.low has one value twice, none and none"),
        ({"grid": {"epochs": [1, "01"]}}, "grid.epochs has one value twice, 1 and 01"),
        ({"grid": {"epochs": [1] * 3}}, "grid.epochs has one value twice"),
        (
            {"grid": {f"f{n}": list(range(1000)) for n in range(4)}},
            "at most 10,000 trainings, got 4,000,000,000,000; split it",
        ),
        ({"seeds": list(range(10_001))}, "at most 10,000 trainings, got 20,002"),
        (
            {"recipes": [{"name": "a b", "recipe": "standard"}, {"name": "a_b", "recipe": "standard"}]},
            "rows 'a b' and 'a_b' would share the folder a_b-fastnet-0; rename one",
        ),
        (
            {"recipes": ["standard", {"name": "Standard", "recipe": "standard"}]},
            "rows 'standard' and 'Standard' would share the folder",
        ),
        ({"recipes": [{"name": "a" * 300, "recipe": "standard"}]}, "too long for a folder: 'aaa"),
        ({"name": "x/../../escaped"}, "name is a part of a folder's name"),
        ({"set": {"data": "planted"}}, "set cannot have data, which belongs to the key data, whose images"),
        ({"grid": {"data": ["digits", "planted"]}}, "grid cannot have data, which belongs to the key data"),
        ({"grid": {" seed ": [1, 2]}}, "grid cannot have seed, which belongs to the key seeds"),
        ({"set": {"recipe": "mine"}}, "set cannot have recipe, which belongs to the key recipes, where name"),
        (
            {"recipes": [{"recipe": "standard", "set": {"seed": 3}}]},
            "set of a recipe cannot have seed, which belongs to the key seeds",
        ),
        ({"recipes": ["finetune"]}, "row 'finetune' has the recipe finetune, .* name it as \"from\": a row"),
        (
            {"recipes": [{"name": "tuned", "recipe": "finetune"}], "grid": {"share.low": [None, 1.0]}},
            "row 'tuned' has the recipe finetune, which starts from a trained network",
        ),
        (
            {"recipes": ["finetune"], "grid": {"init": ["", "a.pt"]}},
            "row 'finetune' has the recipe finetune, which starts from a trained network",
        ),
        (
            {"recipes": ["standard", {"recipe": "finetune", "from": "standard", "set": {"init": "a.pt"}}]},
            "row 'finetune' starts from 'standard' and from init 'a.pt'; leave one out",
        ),
        (
            {
                "recipes": [
                    "standard",
                    {"recipe": "finetune", "from": "standard", "set": {"arch": "cifar_resnet20"}},
                ]
            },
            "row 'finetune' has arch cifar_resnet20 and starts from 'standard', which has fastnet",
        ),
        (
            {"recipes": [{"recipe": "standard", "set": {"epochs": 5}}], "grid": {"epochs": [1, 2]}},
            "row 'standard' and grid both set epochs, and the grid would win; leave it out of one",
        ),
        ({"grid": {"epochs": [1, 2], "epochs ": [3, 4]}}, "grid has epochs twice"),
    ],
)
def test_a_mistake_in_the_file_gets_one_line(
    change: dict[str, Any], said: str, plain: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "study.json"
    file.write_text(json.dumps({**plain, **change}))
    with pytest.raises(ValueError, match=said) as error:
        read_study(file)
    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)


def test_finetune_starts_from_a_row_or_from_a_file(plain: dict[str, Any]) -> None:
    tuned = {"name": "tuned", "recipe": "finetune", "set": {"init": "a.pt"}}
    study = as_study({**plain, "recipes": ["standard", {"recipe": "finetune", "from": "standard"}, tuned]})
    assert [config.init for config in study.configs[:3]] == ["", "", "a.pt"]


def test_a_study_writes_in_its_folder_alone(plain: dict[str, Any], tmp_path: Path) -> None:
    row = {"name": "x/../../escaped", "recipe": "standard"}
    study = as_study({**plain, "recipes": [row], "seeds": [0], "evaluate": {"kinds": [], "split": "train"}})
    run_study(study, tmp_path / "out" / "study")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["study"]
    assert (tmp_path / "out" / "study" / "x_.._.._escaped-fastnet-0" / "run.json").exists()
    with owned(tmp_path / "out" / "study"), pytest.raises(ValueError, match="another process is writing"):
        run_study(study, tmp_path / "out" / "study")


def test_files_that_are_no_study_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_study(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("not json")
    with pytest.raises(ValueError, match="is not JSON"):
        read_study(tmp_path / "text.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ValueError, match="a study needs an object"):
        read_study(tmp_path / "list.json")


def test_a_study_is_finished_row_by_row_and_not_done_twice(
    plain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = as_study(plain)
    seen: list[str] = []

    def stop(done: int, total: int, what: str) -> None:
        seen.append(what)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study, tmp_path, progress=stop)
    assert [line["recipe"] for line in read_lines(tmp_path)] == ["standard", "mixed"]
    lines = run_study(study, tmp_path)
    assert [(line["recipe"], line["seed"]) for line in lines] == [
        ("standard", 0),
        ("mixed", 0),
        ("standard", 1),
        ("mixed", 1),
    ]
    for line in lines:
        assert 0 <= line["clean"] <= 1
        assert 0 <= line["robust"] <= 1
        assert line["average_15"] is None
        assert set(line["kinds"]) == {"contrast", "brightness"}
    monkeypatch.setattr(run_module, "train", None)
    assert run_study(study, tmp_path) == lines
    text = table(lines)
    assert "| mixed | 2 |" in text
    cells = next(row for row in text.splitlines() if row.startswith("| mixed")).split(" | ")
    assert cells[6:8] == ["not measured", "not measured"]  # noise and blur
    for cell, kind in zip(cells[8:10], ("brightness", "contrast"), strict=True):
        values = [100 * mean(line["kinds"][kind]) for line in lines if line["recipe"] == "mixed"]
        assert cell.startswith(f"{mean(values):.2f} ±")
    # A line that a kill cut short is done again.
    file = tmp_path / "runs.jsonl"
    file.write_text(file.read_text()[:-20])
    assert len(read_lines(tmp_path)) == 3
    other = as_study({**plain, "set": {"epochs": 2, "batch_size": 32}})
    with pytest.raises(ValueError, match="holds standard-fastnet-0 with another epochs"):
        run_study(other, tmp_path)


def test_lines_of_an_older_version_are_done_and_of_another_training_are_refused(
    plain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = as_study({**plain, "recipes": ["standard"], "seeds": [0]})
    [line] = run_study(study, tmp_path)
    monkeypatch.setattr(run_module, "train", None)
    older = {**line["config"], "lookahead": 0, "optimizer": "sgd", "sync_batch_norm": False}
    del older["white_noise"], older["share"]["random"]
    (tmp_path / "runs.jsonl").write_text(json.dumps({**line, "config": older}) + "\n")
    assert [found["clean"] for found in run_study(study, tmp_path)] == [line["clean"]]
    (tmp_path / "runs.jsonl").write_text(json.dumps({**line, "config": {**older, "lookahead": 5}}) + "\n")
    with pytest.raises(ValueError, match="this version has no lookahead and cannot read 5"):
        run_study(study, tmp_path)


def test_a_row_starts_from_the_weights_of_another_of_the_same_seed(
    plain: dict[str, Any], tmp_path: Path
) -> None:
    tuned = {"name": "tuned", "recipe": "finetune", "from": "standard", "set": {"epochs": 1}}
    study = as_study({**plain, "recipes": [tuned, "standard"]})
    lines = run_study(study, tmp_path / "out")
    assert [line["recipe"] for line in lines] == ["tuned", "standard", "tuned", "standard"]
    for line in lines[::2]:
        run, start = (
            Run(tmp_path / "out" / f"{row}-fastnet-{line['seed']}") for row in ("tuned", "standard")
        )
        assert run.read()["init"] == hashlib.sha256(start.weights.read_bytes()).hexdigest()
    # The folder may move: what is finished stays finished.
    (tmp_path / "out").rename(tmp_path / "moved")
    assert run_study(study, tmp_path / "moved") == lines
    with pytest.raises(ValueError, match="from needs a row that itself starts from no other, got 'tuned'"):
        as_study({**plain, "recipes": ["standard", tuned, {**tuned, "name": "again", "from": "tuned"}]})


def test_a_row_that_starts_from_another_one_now_is_another_row(plain: dict[str, Any], tmp_path: Path) -> None:
    other = {"name": "other", "recipe": "standard", "set": {"flip": False}}
    tuned = {"name": "tuned", "recipe": "finetune", "from": "standard", "set": {"epochs": 1}}
    rows = ["standard", other, tuned]
    run_study(as_study({**plain, "recipes": rows, "seeds": [0]}), tmp_path)
    changed = as_study({**plain, "recipes": [*rows[:2], {**tuned, "from": "other"}], "seeds": [0]})
    with pytest.raises(ValueError, match="holds tuned-fastnet-0 with another start"):
        run_study(changed, tmp_path)


def test_a_killed_row_that_starts_from_another_goes_on_in_a_folder_of_another_name(
    plain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = {"name": "tuned", "recipe": "finetune", "from": "standard", "set": {"epochs": 3}}
    study = as_study({**plain, "recipes": ["standard", tuned], "seeds": [0]})
    monkeypatch.chdir(tmp_path)
    train = run_module.train

    def killed(config: Any, place: Path, **given: Any) -> Run:
        def stop(done: int, total: int, what: str) -> None:
            if config.recipe == "tuned" and done > 2 * total // 3:
                raise KeyboardInterrupt

        found: Run = train(config, place, progress=stop, **given)
        return found

    monkeypatch.setattr(run_module, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        run_study(study, "out")
    assert Run(tmp_path / "out" / "tuned-fastnet-0").checkpoint.exists()
    monkeypatch.setattr(run_module, "train", train)
    (tmp_path / "out").rename(tmp_path / "moved")
    assert [line["recipe"] for line in run_study(study, tmp_path / "moved")] == ["standard", "tuned"]


def test_seeds_of_other_images_or_precisions_do_not_enter_one_mean(
    plain: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "own.npz"
    with np.load(plain["data"].removeprefix("npz:")) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    np.savez(file, images=images, labels=labels)
    fixed = {**plain["set"], "precision": "float32"}
    given = {**plain, "data": f"npz:{file}", "recipes": ["standard"], "set": fixed}
    run_study(as_study({**given, "seeds": [0]}), tmp_path / "out")
    (line,) = read_lines(tmp_path / "out")
    record = tmp_path / "out" / "runs.jsonl"
    record.write_text(json.dumps({**line, "training_precision": "bfloat16"}) + "\n")
    with pytest.raises(ValueError, match="trained in bfloat16, and its other seeds would be in float32"):
        run_study(as_study(given), tmp_path / "out")
    record.write_text(json.dumps(line) + "\n")
    np.savez(file, images=255 - images, labels=labels)
    with pytest.raises(ValueError, match=r"trained on other images than npz:.* holds now; bring those back"):
        run_study(as_study(given), tmp_path / "out")
    # What is finished stays readable.
    assert run_study(as_study({**given, "seeds": [0]}), tmp_path / "out") == [line]


class Own:
    """A study of one row and a seed whose images can change, and the folder of its finished run."""

    def __init__(self, plain: dict[str, Any], place: Path) -> None:
        with np.load(plain["data"].removeprefix("npz:")) as arrays:
            self.images, self.labels = arrays["images"], arrays["labels"]
        self.file, self.out, self.record = place / "own.npz", place / "out", place / "out" / "runs.jsonl"
        self.put(self.images)
        settings = {**plain["set"], "precision": "float32"}
        rows = {"recipes": ["standard"], "seeds": [0], "set": settings}
        self.plain = {**plain, "data": f"npz:{self.file}", **rows}
        self.evaluate = {"kinds": [], "split": "train"}
        self.lines = self.run(evaluate=self.evaluate)

    def put(self, images: Any) -> None:
        np.savez(self.file, images=images, labels=self.labels)

    def study(self, **change: Any) -> StudyConfig:
        return as_study({**self.plain, "evaluate": self.evaluate, **change})

    def run(self, **change: Any) -> list[dict[str, Any]]:
        return run_study(self.study(**change), self.out)


@pytest.fixture
def own(plain: dict[str, Any], tmp_path: Path) -> Own:
    return Own(plain, tmp_path)


def test_rows_seeds_and_evaluations_of_other_images_do_not_enter_one_table(own: Own) -> None:
    own.put(255 - own.images)
    trained = r"out has standard-fastnet-0, trained on other images than npz:.* holds now; bring those back"
    kinds = {**own.evaluate, "kinds": ["brightness"]}
    for change in ({"recipes": ["standard", "apr_p"]}, {"seeds": [0, 1], "evaluate": kinds}):
        with pytest.raises(ValueError, match=trained):
            own.run(**change)
    # What is finished stays readable.
    assert own.run() == own.lines
    own.record.unlink()
    with pytest.raises(ValueError, match=trained):
        own.run(seeds=[0, 1])
    assert [path.name for path in own.out.iterdir() if path.is_dir()] == ["standard-fastnet-0"]
    # A training of which nothing is kept begins anew, with the images that are there.
    Run(own.out / "standard-fastnet-0").weights.unlink()
    [line] = own.run()
    assert line["fingerprint"] != own.lines[0]["fingerprint"]


def test_rows_measured_on_other_images_do_not_enter_one_table(own: Own) -> None:
    line = {**own.lines[0], "fingerprint": "0" * 64}
    own.record.write_text(json.dumps(line) + "\n")
    measured = "standard-fastnet-0, measured on other images"
    with pytest.raises(ValueError, match=measured):
        own.run(recipes=["standard", "apr_p"])
    # A line that is made anew is measured on the images of now.
    [again] = own.run(evaluate={**own.evaluate, "kinds": ["brightness"]})
    assert again["fingerprint"] == own.lines[0]["fingerprint"]


def test_seeds_of_another_precision_are_refused_also_where_the_line_is_lost(own: Own) -> None:
    own.record.unlink()
    run = Run(own.out / "standard-fastnet-0")
    run.write({**run.read(), "precision": "bfloat16"})
    with pytest.raises(ValueError, match="trained in bfloat16, and its other seeds would be in float32; set"):
        own.run(seeds=[0, 1])


def test_seeds_that_start_from_other_weights_do_not_enter_one_mean(own: Own, tmp_path: Path) -> None:
    start, first = tmp_path / "w.safetensors", Run(own.out / "standard-fastnet-0").weights
    start.write_bytes(first.read_bytes())
    tuned = {"recipes": [{"name": "tuned", "recipe": "standard", "set": {"init": str(start)}}]}
    [line] = own.run(**tuned)
    start.write_bytes(Run(own.out / "tuned-fastnet-0").weights.read_bytes())
    own.record.unlink()
    with pytest.raises(
        ValueError,
        match=r"has tuned-fastnet-0, which started from other weights than .*w\.safetensors holds now",
    ):
        own.run(**tuned, seeds=[0, 1])
    start.write_bytes(first.read_bytes())
    assert {**own.run(**tuned)[0], "evaluation_seconds": 0} == {**line, "evaluation_seconds": 0}


def test_a_study_goes_on_where_its_images_lie_at_another_place(
    own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.file = own.file.rename(tmp_path / "moved.npz")
    moved = {"data": f"npz:{own.file}"}
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "train", None)
        assert own.run(**moved) == own.lines
    assert plan_study(own.study(**moved), own.out).missing == 0
    # Without its line, the run is measured again.
    own.record.unlink()
    assert own.run(**moved)[0]["clean"] == own.lines[0]["clean"]
    # Figures on other images are not those of the images there.
    own.record.write_text(json.dumps({**own.lines[0], "fingerprint": "0" * 64}) + "\n")
    with pytest.raises(ValueError, match="holds standard-fastnet-0 with another data"):
        own.run(**moved)
    own.record.write_text(json.dumps(own.lines[0]) + "\n")
    own.put(255 - own.images)
    with pytest.raises(ValueError, match="holds standard-fastnet-0 with another data"):
        own.run(**moved)


def test_what_cannot_be_trained_is_refused_before_the_first_training(
    plain: dict[str, Any], tmp_path: Path
) -> None:
    for change, said in (
        ({"init": str(tmp_path / "none.pt")}, "row 'last' starts from init .*, and there is no such file"),
        ({"init": "timm:resnet18"}, "init needs a file or a Run, got timm:resnet18; save its weights"),
        ({"crop": 40}, "crop needs less than the images' side of 16 pixels, got 40"),
    ):
        rows = ["standard", {"name": "last", "recipe": "standard", "set": change}]
        with pytest.raises(ValueError, match=said):
            run_study(as_study({**plain, "recipes": rows}), tmp_path / "out")
        assert not [*(tmp_path / "out").glob("*/run.json")]


def test_workers_share_no_run_in_the_plan(plain: dict[str, Any], tmp_path: Path) -> None:
    study = as_study({**plain, "recipes": ["standard"], "seeds": [0]})
    plan = plan_study(study, tmp_path / "none", workers=8)
    assert plan.hours == pytest.approx(sum(plan.seconds["standard"]) / 3600)


def test_a_run_that_fails_does_not_stop_the_others(plain: dict[str, Any], tmp_path: Path) -> None:
    broken = {"name": "broken", "recipe": "standard", "set": {"learning_rate": 1e9, "epochs": 3}}
    study = as_study({**plain, "recipes": [broken, "standard"], "seeds": [0]})
    with pytest.raises(ValueError, match="1 of 2 runs failed, the others are kept: broken-fastnet-0"):
        run_study(study, tmp_path)
    assert [line["recipe"] for line in read_lines(tmp_path)] == ["standard"]


def test_memory_that_runs_out_in_one_row_does_not_stop_the_others(
    plain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run_module.train

    def train(config: TrainConfig, *given: Any, **more: Any) -> Run:
        if config.recipe == "large":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried\nto allocate 2 GiB")
        found: Run = real(config, *given, **more)
        return found

    monkeypatch.setattr(run_module, "train", train)
    study = as_study(
        {**plain, "recipes": [{"name": "large", "recipe": "standard"}, "standard"], "seeds": [0]}
    )
    said = "1 of 2 runs failed, the others are kept: large-fastnet-0.*CUDA out of memory. Tried to allocate"
    with pytest.raises(ValueError, match=said):
        run_study(study, tmp_path)
    assert [line["recipe"] for line in read_lines(tmp_path)] == ["standard"]


@pytest.mark.slow
def test_workers_find_what_one_finds(plain: dict[str, Any], tmp_path: Path) -> None:
    study = as_study(plain)
    one = run_study(study, tmp_path / "one", threads=1)
    two = run_study(study, tmp_path / "two", workers=2, threads=1)
    for ours, theirs in zip(one, two, strict=True):
        assert (ours["clean"], ours["kinds"]) == (theirs["clean"], theirs["kinds"])


def test_the_plan_says_what_is_missing(plain: dict[str, Any], tmp_path: Path) -> None:
    study = as_study(plain)
    plan = plan_study(study, tmp_path / "none")
    assert (plan.runs, plan.missing) == (4, 4)
    assert set(plan.seconds) == {"standard", "mixed"}
    assert plan.hours == pytest.approx(2 * sum(sum(parts) for parts in plan.seconds.values()) / 3600)
    assert plan.spread == 0.003
    assert plan.detectable == detectable(2, 0.003)
    assert not (tmp_path / "none").exists()


def test_the_detectable_difference_is_that_of_students_law() -> None:
    for seeds in (2, 3, 5, 20):
        factor = student.ppf(0.975, 2 * seeds - 2) + student.ppf(0.8, 2 * seeds - 2)
        assert detectable(seeds, 0.004) == pytest.approx(factor * 0.004 * (2 / seeds) ** 0.5, rel=1e-12)
    assert detectable(1, 0.004) is None


def test_the_spread_is_pooled_over_rows() -> None:
    lines = [
        {"recipe": row, "robust": value} for row, value in (("a", 0.1), ("a", 0.3), ("b", 0.5), ("b", 0.5))
    ]
    assert seed_spread(lines) == pytest.approx((0.02 / 2) ** 0.5)
    assert seed_spread(lines[1:3]) is None


def test_a_study_without_a_terminal_says_a_line_for_every_run(
    plain: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps({**plain, "recipes": ["standard"]}))
    assert main(["study", str(file), "--out", str(tmp_path / "out"), "--json"]) == 0
    caught = capsys.readouterr()
    said = [line for line in caught.err.splitlines() if line.startswith("study: ")]
    assert [line.partition(" after ")[0] for line in said] == ["study: 1 of 2", "study: 2 of 2"]
    assert "standard-fastnet-1: clean" in said[1]
    assert len(json.loads(caught.out)["runs"]) == 2


BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("file", sorted(BENCHMARKS.glob("*_study.json")), ids=lambda file: file.stem)
def test_the_studies_of_this_project_are_readable_and_named_as_their_files(file: Path) -> None:
    assert f"{read_study(file).name}_study" == file.stem


@pytest.mark.parametrize(
    "file",
    sorted(file for room in ("protocol", "search") for file in (BENCHMARKS / room).glob("*.json")),
    ids=lambda file: file.stem,
)
def test_the_studies_of_the_protocol_and_of_the_search_are_readable(file: Path) -> None:
    assert read_study(file).name.removeprefix("search_") == file.stem


def test_the_hours_are_steps_of_all_epochs(
    plain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_module = importlib.import_module("filterbands.study.plan")
    monkeypatch.setattr(plan_module, "measure_step", lambda *_, **__: SimpleNamespace(total=2.0))
    three = as_study({**plain, "recipes": ["standard"], "set": {"epochs": 3, "batch_size": 32}})
    # Two batches of 32 among 64 images.
    assert plan_study(three, tmp_path / "none").seconds["standard"][0] == 2.0 * 3 * 2
