"""The command line: one clear line for a mistake, one JSON document on request, frozen flags."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from filterbands.cli import VERBS, main
from filterbands.cli.parsing import field_names
from filterbands.evaluation import Store


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    caught = capsys.readouterr()
    return code, caught.out, caught.err


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    file = tmp_path / "model.safetensors"
    save_file({"conv1.weight": torch.randn(8, 3, 3, 3), "fc.weight": torch.randn(4, 8)}, file)
    return file


# What others rely on, besides --traceback. A flag that is added belongs here; one that goes breaks somebody's
# script.
FILES = "background class_order classes crop exif interpolation resize size"
FLAGS = {
    "demo": "batch_size device json out threads",
    "analyze": "arch batch_size cutoff data device fold_batch_norm html json key layer limit mean models "
    f"prefix require split std table threads {FILES}",
    "train": "batch_size data device json out recipe resume seed set size split tensorboard threads",
    "bake": "arch batch_size device json key mean model out prefix std threads",
    "shrink": "arch batch_size budget data device images json key mean model noise out prefix size std "
    "threads",
    "corrupt": "batch_size device jpeg85 json kinds limit out parameters seed severities spec split "
    f"threads workers {FILES}",
    "evaluate": "arch baseline batch_size compile corrupted data db device json key kinds limit logits "
    "max_drop mean model name overlap parameters precision prefix present_only ray seed severities split "
    f"spread std threads workers {FILES}",
    "results": f"add data db delete export json limit model name parameters robustbench seed split {FILES}",
    "probe": "arch batch_size compile data db device html json key layer limit mean models norm only "
    f"parameters precision prefix radius seed split std step threads {FILES}",
    "study": "device file json out plan ray threads workers",
    "report": f"data json limit out sources split {FILES}",
    "data": "folder json name",
}


@pytest.mark.parametrize("verb", VERBS)
def test_flags_are_those_that_others_rely_on(verb: str) -> None:
    options = get_type_hints(import_module(f"filterbands.cli.{verb}").run)["options"]
    assert sorted(field_names(options)) == sorted([*FLAGS[verb].split(), "traceback"])


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = _run(capsys, verb, "--help")
    assert code == 0
    assert f"filterbands {verb}" in out
    assert not err
    positional = {"models", "model", "recipe", "spec", "db", "file", "sources", "folder", "name"}
    for flag in {name.replace("_", "-") for name in FLAGS[verb].split() if name not in positional}:
        assert f"--{flag}" in out
    for nothing in ("(default: '')", "(default: False)", "(default: None)", "(default: )", "None is"):
        assert nothing not in out


def test_version_and_usage(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "--version")
    assert (code, out.startswith("filterbands 0.")) == (0, True)
    code, out, _ = _run(capsys)
    assert code == 0
    assert all(verb in out for verb in VERBS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("analyse x", "did you mean analyze?"),
        ("results r.db --add p.npz", "--add FILE and --name NAME, of the network that made it, go together"),
        ("results r.db --data planted", "--data is for --add"),
        ("analyze", "name a MODEL"),
        ("analyze nowhere.pt", "no such file: nowhere.pt"),
        ("analyze {model} --cutoff 0.9", "--cutoff needs cycles per pixel above 0 and up to 0.5, got 0.9"),
        ("analyze {model} --cutoff nan", "--cutoff needs"),
        ("analyze {model} --cutof 0.3", "did you mean --cutoff?"),
        ("analyze {model} --layer conv2", "there are conv1"),
        ("analyze {model} --arch fastnets", "unknown architecture 'fastnets' (did you mean fastnet?"),
        ("analyze {model} --require conv1>3", "--require needs LAYER.KEY>NUMBER"),
        ("analyze {empty}", "not a finished run"),
        ("analyze {model} --require conv1.low_energy>0.1,conv1.nothing>3", "KEY one of low_share"),
        ("analyze {model} --data nothing", "unknown data 'nothing'"),
        ("analyze {model} --limit -1", "--limit needs"),
        ("analyze {model} --split tset", "--split needs one of train"),
        ("analyze {model} --mean 0,0,0", "name it with --arch"),
        ("analyze {model} --fold-batch-norm", "fold_batch_norm needs the network"),
        ("analyze {model} --table {folder}/t.txt", "ends in .csv, .json, .parquet, got t.txt"),
        ("analyze {model} --html {folder}/no/page.html", "there is no folder"),
        ("analyze {folder}/*.pt", "no checkpoint fits"),
        ("analyze {text}", "is not a checkpoint"),
        ("train", "RECIPE is missing"),
        ("train nothing", "unknown recipe 'nothing'; known are standard"),
        ("train standard --set epochs", "--set needs field=value"),
        ("train standard --set epoch=3", "did you mean epochs?"),
        ("train standard --set epochs=x", "needs a whole number"),
        ("train share_low --set share.low=1.5", "share.low needs a number in [0, 1], got 1.5"),
        ("train standard --set arch=resnet", "unknown arch 'resnet'"),
        ("train standard --threads -1", "--threads needs a number"),
        ("train standard --out {text}/run", "cannot write into the folder"),
        ("train standard --data cifar10:{folder} --out {folder}/r", "is not cifar10"),
        ("train standard --data nothing --out {folder}/r", "unknown data 'nothing'"),
        ("bake {model} --out {folder}/no/x.safetensors", "there is no folder"),
        ("bake {model} --arch fastnet --out {folder}/x.safetensors", "does not fit fastnet: it lacks"),
        ("bake {model} --arch fastnet", "--out FILE is missing"),
        ("corrupt planted --out {folder}/c --kinds fogg", "unknown kind 'fogg'"),
        ("corrupt planted --out {folder}/c --severities 6", "--severities needs numbers from 1 to 5"),
        ("corrupt planted --out {folder}/c --limit -3", "--limit needs a number of at least 0, got -3"),
        ("corrupt planted --out {folder}/c --parameters cifer", "--parameters needs cifar or imagenet"),
        (
            "evaluate {model} --arch fastnet --std 0,0,0",
            "--std needs 3 numbers above 0 (red, green, blue), or 1 for all channels, got (0.0",
        ),
        ("evaluate {model} --arch fastnet --mean 1,2", "--mean needs 3 numbers"),
        ("evaluate {model} --arch fastnet --limit -3", "--limit needs"),
        ("evaluate {model} --arch fastnet --severities 0", "--severities needs"),
        ("evaluate {model} --arch fastnet --kinds fogg", "unknown kind 'fogg'"),
        (
            "evaluate {model} --arch fastnet --kinds none --severities 1",
            "--severities is of corrupted",
        ),
        (
            "train standard --data digits --set data=planted",
            "--data and --set data= set one field",
        ),
        ("train standard --seed 3 --set seed=4", "--seed and --set seed= set one field"),
        ("train standard --batch-size 64 --set batch_size=32", "--batch-size and --set batch_size= set one"),
        ("evaluate {model} --arch fastnet --data planted", "does not fit fastnet"),
        ("evaluate {model} --arch fastnet", "--data SPEC is missing: {model} is no Run"),
        ("evaluate {model} --data planted", "--arch"),
        ("evaluate {model} --workers x", "--workers needs a whole number, got 'x'"),
        ("evaluate {model} --workers", "--workers N needs a value"),
        ("evaluate {model} --severities 1,x", "--severities needs whole numbers separated by commas, got"),
        ("evaluate {model} more", "more is more than the verb takes"),
        ("corrupt --kinds fog", "SPEC and --out DIR are missing"),
        ("corrupt planted --out {folder}/c --jpeg85", "jpeg85 is the last step of ImageNet-C"),
        ("probe", "name a MODEL"),
        ("probe {model} --norm 0", "--norm needs a number above 0"),
        ("probe {model} --norm -2", "--norm needs a number above 0"),
        ("probe {model} --only heat", "--only knows no 'heat'"),
        ("probe {model} --limit -1", "--limit needs"),
        ("probe {model} --data planted --db {folder}/r.db", "--arch"),
        ("probe {model} --db {folder}/r.db", "--data SPEC is missing: {model} is no Run"),
        ("probe {model} --parameters cifer", "--parameters needs cifar or imagenet, got 'cifer'"),
        ("shrink {model} --out {folder}/s.safetensors", "--data SPEC is missing: {model} is no Run"),
        ("probe {model} --db {folder}/no/r.db", "there is no folder"),
        ("probe {model} --db {folder}/r.db --html {folder}/no/p.html", "there is no folder"),
        ("report --out {folder}/r.html", "name at least one SOURCE"),
        ("report {folder}/none --out {folder}/r.html", "none"),
        ("data cifar11", "known are cifar10, cifar100, frost"),
        ("data list {folder}", "data list shows the cache"),
        ("analyze {model} --limit 3", "options of images, such as --split and --limit, need --data SPEC"),
        ("report {model} --out {folder}/r.html --split train", "need --data SPEC"),
        ("probe {model} --only gradient --norm 7", "--norm: of the heat map alone; name heatmap in --only"),
        ("probe {model} --only passes --step 2 --radius 0.2", "--step and --radius: of the heat map alone"),
        ("probe {model} --only gradient --parameters imagenet", "--parameters is of corruptions and vuln"),
        ("shrink {model} --out {folder}/s.st --noise 0.1 --budget 0.1", "--noise and --budget exclude each"),
        ("results {folder}/r.db --model a --export {folder}/e.csv", "--model lists one network"),
        ("results {folder}/r.db --split train", "need --data SPEC"),
        ("results {folder}/r.db --seed 7", "--parameters and --seed are for --add"),
    ],
)
def test_a_mistake_gets_one_clear_line_and_exit_2(
    words: str, message: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text"
    text.write_text("these are words, not weights")
    empty = tmp_path / "empty"
    empty.mkdir()
    places = {"model": checkpoint, "folder": tmp_path, "text": text, "empty": empty}
    filled = [word.format(**places) for word in words.split()]
    code, out, err = _run(capsys, *filled)
    assert code == 2
    assert not out
    assert message.format(**places) in err
    assert err.startswith("filterbands")
    assert err.count("\n") == 1


def test_json_is_one_document_with_the_contracts_keys(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = _run(capsys, "analyze", str(checkpoint), "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert set(document) >= {"cutoff", "layers"}
    assert set(document["layers"][0]) >= {
        "name", "shape", "filters", "dead", "low_share", "low_share_chance", "low_energy",
        "mean_low_energy", "centroid", "filters_low_energy",
    }  # fmt: skip
    assert len(document["layers"][0]["filters_low_energy"]) == 8
    _, out, _ = _run(capsys, "analyze", str(checkpoint), str(checkpoint), "--json")
    assert [model["path"] for model in json.loads(out)["models"]] == [str(checkpoint)] * 2


def test_what_is_required_and_does_not_hold_exits_1(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(capsys, "analyze", str(checkpoint), "--require", "conv1.low_energy>0.01")[0] == 0
    code, out, _ = _run(capsys, "analyze", str(checkpoint), "--require", "conv1.low_energy>0.99")
    assert code == 1
    assert "does not hold: conv1.low_energy>0.99" in out


@pytest.mark.slow
def test_train_bake_and_analyze_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--set", "epochs=1", "--set", "precision=float32", "--split", "test"]
    code, out, err = _run(capsys, "train", "share_low", *settings, "--out", str(tmp_path / "r"), "--json")
    assert code == 0
    assert err == ""
    assert json.loads(out)["config"]["epochs"] == 1
    code, _, err = _run(capsys, "train", "share_low", *settings, "--out", str(tmp_path / "r"))
    assert code == 2
    assert "already holds a run" in err
    assert _run(capsys, "train", "share_low", *settings, "--out", str(tmp_path / "r"), "--resume")[0] == 0
    file = tmp_path / "plain.safetensors"
    assert _run(capsys, "bake", str(tmp_path / "r"), "--out", str(file))[0] == 0
    for model in (str(tmp_path / "r"), str(file)):
        assert _run(capsys, "analyze", model, "--require", "conv1.low_share>=1")[0] == 0


def test_a_checkpoint_saved_in_training_is_folded_and_its_figures_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from filterbands.control import bake, set_share
    from filterbands.models import load_model

    model = load_model(arch="fastnet")
    set_share(model.conv1, low=0.75)
    torch.save(model.state_dict(), tmp_path / "held.pt")
    out = tmp_path / "plain.safetensors"
    words = ["bake", str(tmp_path / "held.pt"), "--arch", "fastnet", "--out", str(out)]
    code, text, err = _run(capsys, *words, "--json")
    document = json.loads(text)
    assert (code, err) == (0, "")
    assert (document["folded"], document["first_layer"]["low_share"]) == (["conv1.weight"], 0.75)
    torch.testing.assert_close(load_model(out).state_dict(), bake(model.eval()).state_dict())
    assert "conv1 has low share 0.750" in _run(capsys, *words)[1]
    code, _, err = _run(capsys, *words[:2], "--arch", "cifar_resnet20", *words[4:])
    assert code == 2
    assert err.startswith(f"filterbands bake: {tmp_path / 'held.pt'} does not fit cifar_resnet20")


@pytest.mark.slow
def test_shrink_writes_a_network_and_says_what_it_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from filterbands.models import describe, load_model

    torch.manual_seed(0)
    model, file, out = load_model(arch="fastnet"), tmp_path / "m.safetensors", tmp_path / "s.safetensors"
    save_file(model.state_dict(), file, metadata=describe(model, arch="fastnet"))
    words = ["shrink", str(file), "--data", "planted", "--images", "50", "--out", str(out)]
    code, text, err = _run(capsys, *words, "--noise", "0.1", "--json")
    document = json.loads(text)
    # A busy machine takes more than the half minute after which a line says that it is at work.
    assert (code, err.replace("shrink: at work for 0:00:30\n", "")) == (0, "")
    assert document["noise"] == document["clean"]["noise"] == 0.1
    assert document["clean"]["drop"] == document["clean"]["before"] - document["clean"]["after"]
    assert document["mean_low_energy"][1] > document["mean_low_energy"][0]
    assert load_model(out).conv1.weight.norm() < model.conv1.weight.norm()
    assert _run(capsys, *words, "--noise", "2")[0] == 2
    verb, held = import_module("filterbands.cli.shrink"), list[str]()
    choose = verb.choose_noise

    def chosen(*given: Any, **options: Any) -> Any:
        held.append(given[2].split)
        return choose(*given, **options)

    monkeypatch.setattr(verb, "choose_noise", chosen)
    assert _run(capsys, *words, "--budget", "0.9")[0] == 0
    # A budget is not spent on the images on which its cost is shown.
    assert held == ["validation"]


@pytest.mark.slow
def test_corrupt_writes_the_published_layout_and_keeps_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    words = ["corrupt", "planted", "--out", str(tmp_path / "c"), "--limit", "20", "--severities", "2,4"]
    assert _run(capsys, *words, "--kinds", "contrast")[0] == 0
    before = (tmp_path / "c" / "contrast.npy").stat().st_mtime_ns
    code, out, _ = _run(capsys, *words, "--kinds", "contrast,brightness", "--json")
    assert code == 0
    assert json.loads(out)["written"] == ["brightness"]
    assert (tmp_path / "c" / "contrast.npy").stat().st_mtime_ns == before
    rows = np.load(tmp_path / "c" / "brightness.npy", allow_pickle=False)
    assert (rows.dtype, rows.shape) == (np.uint8, (40, 32, 32, 3))
    assert len(np.load(tmp_path / "c" / "labels.npy")) == 40
    assert json.loads((tmp_path / "c" / "corrupt.json").read_text())["severities"] == [2, 4]
    code, _, err = _run(capsys, *words, "--kinds", "contrast", "--seed", "1")
    assert code == 2
    assert "seed was 0, now 1" in err


def test_a_reader_that_has_had_enough_is_no_error(checkpoint: Path) -> None:
    command = f"{sys.executable} -m filterbands analyze {checkpoint} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(checkpoint)
    assert done.stderr == ""


def test_train_writes_events_for_tensorboard(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    reading = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed (extra tensorboard)",
    )
    numbers = np.random.default_rng(0)
    images = numbers.integers(0, 256, (64, 3, 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(64) % 4)
    words = ["train", "standard", "--data", f"npz:{tmp_path / 'set.npz'}", "--out", str(tmp_path / "run")]
    sizes = ["--batch-size", "32", "--set", "epochs=2", "--set", "precision=float32"]
    assert _run(capsys, *words, *sizes, "--tensorboard")[0] == 0
    events = reading.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2]
    assert [event.step for event in events.Scalars("mean_low_energy")] == [0, 1, 2]
    assert _run(capsys, *words, *sizes, "--tensorboard")[0] == 2


@pytest.mark.parametrize(
    "command",
    [
        "report {model} --out {db}",
        "probe {model} --arch fastnet --data digits --limit 20 --html {db}",
        "analyze {model} --html {db}",
        "bake {model} --arch fastnet --out {db}",
    ],
)
def test_no_verb_writes_over_a_database(
    command: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.db"
    with Store(file):
        pass
    before = file.read_bytes()
    assert main(command.format(model=checkpoint, db=file).split()) == 2
    assert "database" in capsys.readouterr().err
    assert file.read_bytes() == before
