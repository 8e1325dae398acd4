"""Limits are checked before memory is taken; what is nested, huge or of another type gets one line."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from filterbands.cli import main
from filterbands.datasets import load_data, read_arrays
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.models import load_model, read_weights, zoo

Told = Callable[..., str]
DEEP = "[" * 100_000


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Run a command line that is a mistake and return its one line."""

    def run(*words: object) -> str:
        assert main([str(word) for word in words]) == 2, capsys.readouterr().err
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        return line

    return run


def test_labels_of_predictions_and_of_arrays_have_the_limit_of_classes(tmp_path: Path, told: Told) -> None:
    np.savez(tmp_path / "p.npz", clean=np.array([0, 1]), labels=np.array([0, 900_000_000]))
    line = told("results", tmp_path / "r.db", "--add", tmp_path / "p.npz", "--name", "x")
    assert "x needs labels that are class numbers below the limit of 1,000,000, got 900,000,000" in line
    images, labels = np.zeros((2, 3, 8, 8), np.uint8), np.array([0, 900_000_000])
    with pytest.raises(ValueError, match="class numbers below the limit of 1,000,000, got 900,000,000"):
        evaluate(load_model(arch="fastnet"), (images, labels), config=EvaluateConfig(kinds=()))


def test_names_of_classes_have_a_limit(tmp_path: Path, told: Told) -> None:
    names = np.zeros(1_000_001, "<U1")
    images = np.zeros((2, 3, 8, 8), np.uint8)
    np.savez_compressed(tmp_path / "d.npz", images=images, labels=np.array([0, 1]), classes=names)
    line = told("corrupt", f"npz:{tmp_path / 'd.npz'}", "--out", tmp_path / "c", "--kinds", "fog")
    assert "classes must be at least 2 names, one per class, and at most 1,000,000" in line


def zeros(file: Path, name: str, size: int, *, times: int = 1) -> Path:
    """Write an archive of `times` arrays of zeros, `size` bytes each, which shrink to a thousandth."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(times):
            with archive.open(f"{name}{number or ''}.npy", "w", force_zip64=True) as stream:
                head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},), }}"
                stream.write(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode())
                for _ in range(size >> 24):
                    stream.write(bytes(1 << 24))
    return file


def test_arrays_are_unpacked_up_to_a_limit(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filterbands.disk._UNPACKED", 1 << 25)
    small, large = zeros(tmp_path / "a.npz", "a", 1 << 24), zeros(tmp_path / "b.npz", "x", 1 << 24, times=2)
    assert read_arrays(small)["a"].size == read_weights(small)["a"].numel() == 1 << 24
    limits = "its contents would take 32.0 MiB, more than the limits of 32.0 MiB and of 20 times the "
    assert limits in told("analyze", large)
    assert limits in told("corrupt", f"npz:{large}", "--out", tmp_path / "c", "--kinds", "fog")
    # What does not shrink much is not limited.
    monkeypatch.setattr("filterbands.disk._UNPACKED", 1)
    noise = np.random.default_rng(0).integers(0, 16, (4, 3, 64, 64), np.uint8)
    np.savez_compressed(tmp_path / "n.npz", images=noise, labels=np.arange(4))
    assert load_data(f"npz:{tmp_path / 'n.npz'}").images.shape == (4, 3, 64, 64)
    torch.save({"a": torch.randn(50)}, tmp_path / "n.pt")
    assert read_weights(tmp_path / "n.pt")["a"].shape == (50,)
    with (
        zipfile.ZipFile(tmp_path / "n.pt") as archive,
        zipfile.ZipFile(tmp_path / "z.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in archive.namelist():
            packed.writestr(name, archive.read(name) + bytes(1 << 20 if name.endswith("data/0") else 0))
    assert "z.pt is truncated or damaged (its contents would take" in told("analyze", tmp_path / "z.pt")


def test_a_small_file_that_says_it_is_a_giant_is_refused_before_that_is_made(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def create_model(name: str, *, pretrained: bool, num_classes: int = 10) -> nn.Module:
        layer = nn.Linear(1 << 13, 1 << 13)
        made.append(layer.weight.device.type)
        return nn.Sequential(nn.Conv2d(3, 4, 3), layer)

    package = SimpleNamespace(is_model=bool, list_models=list, create_model=create_model)
    monkeypatch.setattr(zoo, "_package", lambda _: package)
    weights, metadata = {"0.weight": torch.ones(4, 3, 3, 3)}, {"arch": "timm:giant"}
    save_file(weights, tmp_path / "w.safetensors", metadata=metadata)
    line = told("evaluate", tmp_path / "w.safetensors", "--data", "planted")
    assert "says that its network is timm:giant, which has 67,117,168 numbers, and holds 108; copy it" in line
    assert set(made) == {"meta"}


@pytest.mark.parametrize("mean", [DEEP, f"[{'9' * 400}]", "[" + "9" * 5000 + "]", '["a"]', "3", "{}x"])
def test_odd_metadata_of_weights_are_told(mean: str, tmp_path: Path, told: Told) -> None:
    weights = dict(load_model(arch="fastnet").state_dict())
    save_file(weights, tmp_path / "w.safetensors", metadata={"arch": "fastnet", "mean": mean})
    line = told("evaluate", tmp_path / "w.safetensors", "--data", "planted")
    assert "says a mean that is no list of numbers" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (DEEP, "is nested too deeply"),
        ('{"a":' * 100_000, "is nested too deeply"),
        ("[" + DEEP, "is nested too deeply"),
        ("[" + "9" * 5000 + "]", "classes: "),
        ("[1]", "has no name for output 0"),
        ("a\n" * 1_000_001, "more than the limit of 1,000,000"),
    ],
)
def test_odd_files_of_class_names_are_told(text: str, said: str, tmp_path: Path, told: Told) -> None:
    for name in ("a", "b"):
        (tmp_path / "f" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "f" / name / "1.png")
    (tmp_path / "names").write_text(text)
    given = ("--classes", tmp_path / "names", "--out", tmp_path / "c", "--kinds", "fog")
    assert said in told("corrupt", f"folder:{tmp_path / 'f'}", *given)


def test_files_of_class_names_and_lines_of_studies_have_a_size(tmp_path: Path, told: Told) -> None:
    study = tmp_path / "study"
    study.mkdir()
    for file in (tmp_path / "names", study / "runs.jsonl"):
        with file.open("wb") as stream:
            stream.truncate((64 << 20) + 1)
    (tmp_path / "f" / "a").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "f" / "a" / "1.png")
    given = ("--classes", tmp_path / "names", "--out", tmp_path / "c", "--kinds", "fog")
    assert "more than the limit of 64.0 MiB" in told("corrupt", f"folder:{tmp_path / 'f'}", *given)
    assert "more than the limit of 64.0 MiB" in told("report", study, "--out", tmp_path / "r.html")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("kinds", {"fog": row}) for row in ([], [0.5], [0.5] * 6, "x", [2.0] * 5, ["0.5"] * 5, [True] * 5)),
        *(("kinds", odd) for odd in ("x", 3, [0.5])),
        *(("clean", odd) for odd in ("0.5", 1.5, float("nan"), None, [])),
        *(("average_15", odd) for odd in ("x", -1, 1e300, [])),
        *((name, odd) for name in ("evaluation", "config", "images", "name") for odd in (3, "x", [], None)),
    ],
)
def test_a_damaged_line_of_a_study_gives_no_other_figure(
    name: str, value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line: dict[str, Any] = {
        "name": "standard-0",
        "config": {"recipe": "standard", "seed": 0, "data": "planted"},
        "data": "planted",
        "images": 100,
        "clean": 0.8125,
        "robust": 0.375,
        "kinds": {"fog": [0.5, 0.4375, 0.375, 0.3125, 0.25]},
        "evaluation": {"split": "test", "seed": 0, "precision": "float32"},
    }
    (tmp_path / "runs.jsonl").write_text(json.dumps({**line, name: value}) + "\n")
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "r.html")]) in (0, 2)
    assert "nobody foresaw" not in capsys.readouterr().err
    if (tmp_path / "r.html").exists() and name in ("clean", "kinds"):
        page = (tmp_path / "r.html").read_text()
        assert ("81.2" in page) == (name != "clean")
        assert "37.5" not in page


@pytest.mark.parametrize(
    ("verb", "value"),
    [
        ("evaluate", "9" * 400),
        *(
            pytest.param(verb, "9" * digits, marks=pytest.mark.slow)
            for verb in ("probe", "evaluate", "corrupt", "shrink", "analyze")
            for digits in (20, 400)
            if (verb, digits) != ("evaluate", 400)
        ),
    ],
)
def test_huge_whole_numbers_end_no_verb_unforeseen(
    verb: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(load_model(arch="fastnet").state_dict(), tmp_path / "w.pt")
    np.savez(tmp_path / "d.npz", images=np.zeros((4, 3, 8, 8), np.uint8), labels=np.arange(4))
    data, model = f"npz:{tmp_path / 'd.npz'}", [str(tmp_path / "w.pt"), "--arch", "fastnet"]
    db = ["--db", str(tmp_path / "r.db")]
    lines = {
        "probe": ["probe", *model, "--data", data, *db, "--only", "heatmap"],
        "evaluate": ["evaluate", *model, "--data", data, *db, "--kinds", "none"],
        "corrupt": ["corrupt", data, "--out", str(tmp_path / "c"), "--kinds", "contrast", "--workers", "1"],
        "shrink": ["shrink", *model, "--data", data, "--out", str(tmp_path / "s.safetensors")],
        "analyze": ["analyze", *model, "--data", data],
    }
    flags = {
        "probe": ("batch-size", "limit", "step", "radius", "norm", "threads", "seed"),
        "evaluate": ("batch-size", "limit", "seed", "workers", "threads", "severities"),
        "corrupt": ("batch-size", "limit", "seed", "severities", "workers", "size"),
        "shrink": ("limit", "noise", "threads", "batch-size"),
        "analyze": ("limit", "cutoff", "threads"),
    }
    for flag in flags[verb]:
        code = main([*lines[verb], f"--{flag}", value])
        said = capsys.readouterr().err
        assert (code in (0, 2), "nobody foresaw" in said) == (True, False), (flag, code, said)
