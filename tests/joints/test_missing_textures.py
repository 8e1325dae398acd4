"""A user without the textures of frost: what works does, what cannot is refused before any work."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from filterbands.cli import main
from filterbands.corruptions import CopyConfig, Corrupting, copy_arrays, textures
from filterbands.datasets import load_data
from filterbands.disk import write_weights
from filterbands.models import load_model


@pytest.fixture(autouse=True)
def _no_textures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(textures, "_installed_folder", lambda: None)


@pytest.fixture
def images(tmp_path: Path) -> str:
    drawn = np.random.default_rng(0).integers(0, 256, (20, 3, 16, 16), np.uint8)
    np.savez(tmp_path / "few.npz", images=drawn, labels=np.arange(20) % 10)
    return f"npz:{tmp_path / 'few.npz'}"


def test_probe_shows_the_other_kinds_and_says_so(
    images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "net.safetensors"
    write_weights(weights, dict(load_model(arch="fastnet").state_dict()), {"arch": "fastnet"})
    words = ["probe", str(weights), "--data", images, "--db", str(tmp_path / "r.db"), "--limit", "2"]
    assert main([*words, "--only", "corruptions,vulnerability", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    for part in ("corruptions", "vulnerability"):
        kinds = document[part]["kinds"]
        assert len(kinds) == 18
        assert "frost" not in kinds
    assert "frost is left out: its textures are not there; `filterbands data frost` gets them" in caplog.text


@pytest.mark.parametrize("kinds", [{}, {"kinds": ["frost"]}])
def test_a_study_is_refused_before_its_first_training(
    kinds: dict[str, list[str]], images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated = {"split": "train", "spread": False, **kinds}
    study = {"data": images, "recipes": ["standard"], "seeds": [0], "evaluate": evaluated}
    study["set"] = {"epochs": 1, "batch_size": 10, "precision": "float32"}
    (tmp_path / "study.json").write_text(json.dumps(study))
    assert main(["study", str(tmp_path / "study.json"), "--out", str(tmp_path / "out")]) == 2
    assert "frost needs six texture files" in capsys.readouterr().err
    assert not (tmp_path / "out" / "standard-0").exists()
    assert not [*(tmp_path / "out").glob("*/run.json")]


def test_what_will_need_them_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="frost needs six texture files"):
        Corrupting(["fog", "frost"])
    (tmp_path / "out").mkdir()
    data = load_data("planted", limit=4)
    with pytest.raises(FileNotFoundError, match="frost needs six texture files"):
        copy_arrays(data, tmp_path / "out", CopyConfig(kinds=("fog", "frost")))
    assert not list((tmp_path / "out").glob("*.npy"))
    assert Corrupting("all-but-frost").kinds
