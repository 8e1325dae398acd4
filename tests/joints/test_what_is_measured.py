"""Which images and which constants a verb takes where nothing says so."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from filterbands.cli import main
from filterbands.corruptions import CopyConfig, corrupt, parameters_for
from filterbands.datasets import load_data
from filterbands.disk import write_weights
from filterbands.evaluation import EvaluateConfig, evaluate, load_scores
from filterbands.models import known_size, load_model, read_weights
from filterbands.probes import (
    ProbeConfig,
    cifar10_moments,
    corruption_spectra,
    fourier_heatmap,
    gradient_spectrum,
    pass_curves,
    read_probed,
)
from filterbands.run import Run
from filterbands.training import TrainConfig, train

SETTINGS: dict[str, Any] = {"arch": "fastnet", "epochs": 1, "batch_size": 8, "precision": "float32"}


def _make(folder: Path, parts: tuple[str, ...], *, size: int, each: int = 6) -> str:
    generator = np.random.default_rng(0)
    for part in parts:
        for label in ("ant", "bee"):
            (folder / part / label).mkdir(parents=True)
            for number in range(each):
                pixels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / label / f"{number}.png")
    return f"folder:{folder}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training on a folder with splits, at half the size of its pictures."""
    folder = tmp_path_factory.mktemp("trained")
    data = _make(folder / "pictures", ("train", "test"), size=32)
    return train(TrainConfig(data=data, size=16, **SETTINGS), folder / "run").folder


def _json(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    code = main([*map(str, words), "--json"])
    caught = capsys.readouterr()
    assert code == 0, caught.err
    document: dict[str, Any] = json.loads(caught.out)
    return document


def test_a_run_means_its_own_images_in_every_folder(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for place, size in (("one", 16), ("two", 18)):
        _make(tmp_path / place / "photos", ("train", "test", "val"), size=size)
    monkeypatch.chdir(tmp_path / "one")
    words = ["--set", "arch=fastnet", "--set", "epochs=1", "--batch-size", "8", "--out", "runs/x"]
    assert main(["train", "standard", "--data", "folder:photos", "--split", "full_train", *words]) == 0
    capsys.readouterr()
    same = ["--kinds", "none", "--db", str(tmp_path / "r.db")]
    _json(capsys, "evaluate", "runs/x", *same)
    assert "images: folder:photos, split test" in caplog.text

    # The folder of the same name here is another one.
    monkeypatch.chdir(tmp_path / "two")
    run, own, others = tmp_path / "one/runs/x", f"folder:{tmp_path / 'one/photos'}", "folder:photos"
    caplog.clear()
    _json(capsys, "evaluate", run, *same)
    assert f"images: {own}, split test" in caplog.text
    caplog.clear()
    for spec, seen in ((own, True), (others, False)):
        assert main(["evaluate", str(run), "--data", spec, "--split", "validation", *same]) == 0
        assert ("was trained on these images" in caplog.text) is seen
        caplog.clear()

    record = json.loads((run / "run.json").read_text())
    (tmp_path / "one/photos").rename(tmp_path / "one/pictures")
    assert main(["evaluate", str(run), *same]) == 2
    assert "which is not there; name its images where they are now" in capsys.readouterr().err
    # A record of before, which did not say it.
    del record["data"]["place"]
    (run / "run.json").write_text(json.dumps(record))
    assert main(["evaluate", str(run), *same]) == 2
    assert "does not say in which folder folder:photos was" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parts", "split", "seen"),
    [
        (("train", "test"), "test", False),
        (("train", "test"), "train", True),
        (("train", "test", "val"), "validation", False),
        (("",), "test", True),
    ],
)
def test_images_that_a_run_was_trained_on_are_said_where_they_are_named(
    parts: tuple[str, ...],
    split: str,
    seen: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = _make(tmp_path / "pictures", parts, size=16)
    run = train(TrainConfig(data=spec, **SETTINGS), tmp_path / "run").folder
    # The same folder, written in another way.
    monkeypatch.chdir(tmp_path)
    words = ["--data", "folder:run/../pictures", "--split", split, "--kinds", "none", "--db", "r.db"]
    assert main(["evaluate", str(run), *words]) == 0
    assert ("was trained on these images" in caplog.text) == seen


@pytest.mark.parametrize(("split", "seen"), [("validation", True), ("train", True), ("test", False)])
def test_full_train_holds_train_and_validation(
    split: str, seen: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = _make(tmp_path / "pictures", ("train", "val", "test"), size=16)
    run = train(TrainConfig(data=spec, split="full_train", **SETTINGS), tmp_path / "run").folder
    words = ["--data", spec, "--split", split, "--kinds", "none", "--db", str(tmp_path / "r.db")]
    assert main(["evaluate", str(run), *words]) == 0
    assert ("was trained on these images" in caplog.text) == seen


def test_a_run_is_measured_on_what_it_was_trained_on(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    spec = f"folder:{run.parent / 'pictures'}"
    told = _json(capsys, "evaluate", run, "--kinds", "fog", "--db", tmp_path / "r.db")
    said = f"images: {spec}, split test, at 16 pixels; {run} was trained on its split train"
    assert [record.getMessage() for record in caplog.records] == [said]
    data = load_data(spec, split="test", size=16)
    made = evaluate(load_model(run), data, config=EvaluateConfig(kinds=("fog",)))
    assert (told["clean"], told["kinds"]) == (made.to_json()["clean"], made.to_json()["kinds"])
    assert load_scores(tmp_path / "r.db")[0].pixels == data.fingerprint()
    part = ["--only", "gradient", "--db", tmp_path / "p.db"]
    assert _json(capsys, "probe", run, run, *part)["data"] == data.name
    shrunk = _json(capsys, "shrink", run, "--images", "4", "--out", tmp_path / "s.safetensors")
    assert (shrunk["images"], shrunk["clean"]["images"]) == (4, len(data))


def test_images_that_are_named_come_in_the_size_of_the_training(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    spec, db = f"folder:{run.parent / 'pictures'}", tmp_path / "r.db"
    small, large = (load_data(spec, split="test", size=size).fingerprint() for size in (16, 32))
    words = ["--data", spec, "--kinds", "none", "--db", db]
    _json(capsys, "evaluate", run, *words)
    assert [scores.pixels for scores in load_scores(db)] == [small]
    assert f"cropped to 16 pixels, bilinear, as {run} expects them" in caplog.text
    for file in (run, run / "weights.safetensors"):
        assert evaluate(file, spec, config=EvaluateConfig(kinds=())).pixels == small
    _json(capsys, "evaluate", run / "weights.safetensors", "--arch", "fastnet", *words)
    assert {scores.pixels for scores in load_scores(db)} == {small}
    caplog.clear()
    for size in (["--size", "32"], ["--resize", "32"], ["--crop", "32"]):
        _json(capsys, "evaluate", run, *words, *size)
    assert {scores.pixels for scores in load_scores(db)} == {small, large}
    assert "expects them" not in caplog.text
    for verb in (["shrink", run, "--out", tmp_path / "s.safetensors"], ["analyze", run, "--split", "test"]):
        caplog.clear()
        _json(capsys, *verb, "--data", spec)
        assert caplog.text.count(f"as {run} expects them") == 1
    given: dict[str, Any] = {"config": ProbeConfig(batch_size=8)}
    one, other = (gradient_spectrum(run, data, **given) for data in (spec, load_data(spec, size=16)))
    assert torch.equal(one.power, other.power)
    caplog.clear()
    heat = fourier_heatmap(
        run, spec, norm=1.0, config=ProbeConfig(batch_size=8, radius=0.1), db=tmp_path / "p.db"
    )
    assert heat.size == (16, 16)
    assert heat.clean_error == pytest.approx(1 - pass_curves(run, spec, **given).clean)
    assert caplog.text.count(f"as {run} expects them") == 2
    assert [probed.name for probed in read_probed(tmp_path / "p.db")] == ["run"]


@pytest.mark.parametrize("way", ["bake", "shrink", "copy"])
def test_a_file_written_from_a_run_keeps_the_size_of_its_images(run: Path, tmp_path: Path, way: str) -> None:
    spec, file = f"folder:{run.parent / 'pictures'}", tmp_path / "net.safetensors"
    if way == "copy":
        file.write_bytes((run / "weights.safetensors").read_bytes())
    else:
        images = ["--data", spec, "--images", "4"] if way == "shrink" else []
        assert main([way, str(run), "--out", str(file), *images]) == 0
    small = load_data(spec, split="test", size=16).fingerprint()
    assert evaluate(file, spec, config=EvaluateConfig(kinds=())).pixels == small


@pytest.mark.parametrize("text", ["[1", "-3", "99999", "true", '"16"'])
def test_a_size_that_makes_no_sense_is_no_size(run: Path, tmp_path: Path, text: str) -> None:
    file = tmp_path / "net.safetensors"
    write_weights(file, read_weights(run / "weights.safetensors"), {"arch": "fastnet", "trained_size": text})
    assert known_size(file) == 0


def test_a_run_on_a_file_of_arrays_is_said_to_have_seen_them_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    for name in ("seen", "copy"):
        np.savez(tmp_path / f"{name}.npz", images=pixels, labels=np.arange(16) % 2)
    np.savez(tmp_path / "new.npz", images=255 - pixels, labels=np.arange(16) % 2)
    monkeypatch.chdir(tmp_path)
    train(TrainConfig(data="npz:seen.npz", keep_every=1, **SETTINGS), "run")
    none = EvaluateConfig(kinds=())

    def said(model: str, data: Any) -> int:
        caplog.clear()
        evaluate(model, data, config=none)
        return caplog.text.count(f"{model} was trained on these images")

    def told(model: str, spec: str) -> int:
        caplog.clear()
        assert main(["evaluate", model, "--data", spec, "--kinds", "none", "--db", "r.db"]) == 0
        return caplog.text.count(f"{model} was trained on these images")

    for model in ("run", "run/weights.safetensors", "run/weights-0001.safetensors"):
        assert said(model, "npz:seen.npz") == told(model, f"npz:{tmp_path}/run/../seen.npz") == 1
        assert said(model, "npz:new.npz") == told(model, "npz:new.npz") == 0
    # By its bytes, whatever it is called.
    assert said("run", "npz:copy.npz") == said("run", load_data("npz:copy.npz")) == 1
    (tmp_path / "elsewhere.safetensors").write_bytes((tmp_path / "run/weights.safetensors").read_bytes())
    assert said("elsewhere.safetensors", "npz:seen.npz") == 1
    # What a training starts from has seen its images too.
    train(TrainConfig(data="npz:new.npz", init="run/weights.safetensors", **SETTINGS), "tuned")
    assert Run(Path("tuned")).read()["trained_before"] == [
        {"data": f"npz:{tmp_path / 'seen.npz'}", "split": "train"}
    ]
    assert [said("tuned", f"npz:{name}.npz") for name in ("seen", "new")] == [1, 1]


def test_runs_that_do_not_say_the_same_need_data(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_part = _make(tmp_path / "one", (".",), size=16)
    other = train(TrainConfig(data=one_part, **SETTINGS), tmp_path / "other").folder
    images = {"images": np.zeros((8, 16, 16, 3), dtype=np.uint8), "labels": np.arange(8) % 2}
    np.savez(tmp_path / "s.npz", **images)
    third = train(TrainConfig(data=f"npz:{tmp_path / 's.npz'}", **SETTINGS), tmp_path / "third").folder
    for words, said in (
        (["probe", run, other, "--split", "train"], f"{run} on folder:"),
        (["evaluate", other], f"has no test images but those that {other} was trained on"),
        (["evaluate", third], f"has no test images but those that {third} was trained on"),
        (["probe", run, run / "weights.safetensors"], "weights.safetensors is no Run"),
    ):
        assert main([*map(str, words), "--db", str(tmp_path / "r.db")]) == 2
        err = capsys.readouterr().err
        assert "--data SPEC is missing" in err
        assert said in err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("size", "expected"), [((32, 32), "cifar"), ((64, 64), "cifar"), ((64, 65), "imagenet")]
)
def test_the_constants_are_those_of_the_size_and_imagenet_s_are_said(
    size: tuple[int, int], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert parameters_for(None, *size) == expected
    assert ("constants of imagenet" in caplog.text) == (expected == "imagenet")
    caplog.clear()
    assert parameters_for("cifar", *size) == "cifar"
    assert not caplog.records


def test_large_images_get_the_constants_of_imagenet_at_every_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    spec = _make(tmp_path / "large", (".",), size=72)
    data, model = load_data(spec), load_model(arch="fastnet", classes=2)
    fog = EvaluateConfig(kinds=("fog",))
    default, named = (
        evaluate(model, data, config=config)
        for config in (fog, EvaluateConfig(kinds=("fog",), parameters="imagenet"))
    )
    assert default.parameters == named.parameters == "imagenet"
    assert default.kinds == named.kinds
    assert caplog.text.count("constants of imagenet") == 1
    caplog.clear()
    assert evaluate(model, data, config=EvaluateConfig(kinds=())).kinds == {}
    assert not caplog.records
    given: dict[str, Any] = {"kinds": ["contrast"], "severities": [3]}
    one, other = (corruption_spectra(data, **given, **more) for more in ({}, {"parameters": "imagenet"}))
    assert torch.equal(*(found.spectra["contrast", 3].power for found in (one, other)))
    words = ["corrupt", spec, "--kinds", "contrast,cbar", "--severities", "3", "--out", tmp_path / "copy"]
    told = _json(capsys, *words)
    assert told["parameters"] == "imagenet"
    assert "plasma_noise" in told["written"]
    with Image.open(tmp_path / "copy" / "contrast" / "3" / "ant" / "0.png") as image:
        made = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert torch.equal(
        made, corrupt(data.images[:1], "contrast", severity=3, seed=0, parameters="imagenet")[0]
    )


@pytest.mark.slow
def test_probe_takes_the_constants_that_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filterbands.cli.probe.cifar10_moments", lambda: _renamed())
    torch.manual_seed(0)
    torch.save(load_model(arch="fastnet").state_dict(), tmp_path / "net.pt")
    words = ["probe", tmp_path / "net.pt", "--arch", "fastnet", "--data", "planted", "--limit", "8"]
    words += ["--only", "vulnerability", "--db", tmp_path / "r.db"]
    shipped = _json(capsys, *words)["vulnerability"]
    named = _json(capsys, *words, "--parameters", "cifar")["vulnerability"]
    other = _json(capsys, *words, "--parameters", "imagenet")["vulnerability"]
    assert shipped == named
    # The shipped moments are of the constants of cifar alone.
    assert other["mean"] > 1.5 * shipped["mean"]


def _renamed() -> Any:
    from dataclasses import replace

    return replace(cifar10_moments(), name="planted")


def test_a_config_without_constants_leaves_the_sets_that_depend_on_them() -> None:
    assert EvaluateConfig(kinds=("cbar", "fog")).kinds == ("cbar", "fog")
    assert CopyConfig().kinds == CopyConfig(parameters="cifar").kinds
    assert CopyConfig(kinds=("cbar",)).at_size(32, 32) == CopyConfig(kinds=("cbar",), parameters="cifar")
    with pytest.raises(ValueError, match="unknown kind 'fogg'"):
        EvaluateConfig(kinds=("fogg",))
    with pytest.raises(ValueError, match="'lines' has no constants in parameters 'imagenet'"):
        CopyConfig(kinds=("lines",)).at_size(224, 224)
