"""A limited folder, through the command line and Python: the same images of all classes, keys and scores."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from filterbands.cli import main
from filterbands.corruptions import CopyConfig, copy_arrays, copy_folders, corrupt
from filterbands.datasets import list_images, load_data
from filterbands.evaluation import EvaluateConfig, Files, as_source, evaluate, load_scores
from filterbands.probes import corruption_spectra, fourier_heatmap

CODE = """
import torch

def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(32, 4),
    )
"""
KINDS = ("gaussian_noise", "fog")
CONFIG = EvaluateConfig(kinds=KINDS, severities=(2, 5))


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "limited_net.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "limited_net:net"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four classes of 15 pictures, of 16 x 16 pixels."""
    generator = np.random.default_rng(3)
    for label in ("ant", "bee", "cow", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(15):
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{number:02}.png")
    return tmp_path / "pictures"


def _json(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    code = main([*map(str, words), "--json"])
    caught = capsys.readouterr()
    assert code == 0, caught.err
    document: dict[str, Any] = json.loads(caught.out)
    return document


class _Listed(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """A data set that counts how often an image is read."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels_, self.reads = images, labels, 0

    def __len__(self) -> int:
        return len(self.labels_)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        self.reads += 1
        return self.images[number], int(self.labels_[number])


class _WithTargets(_Listed):
    """As torchvision's: it lists its classes."""

    @property
    def targets(self) -> list[int]:
        return self.labels_.tolist()  # type: ignore[no-any-return]


def test_a_limited_folder_gives_the_same_images_keys_and_scores_at_both_ends(
    pictures: Path,
    net: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec, db = f"folder:{pictures}", tmp_path / "r.db"
    words = ["evaluate", net, "--data", spec, "--kinds", ",".join(KINDS), "--severities", "2,5"]
    told = _json(capsys, *words, "--limit", "10", "--db", db)
    assert "limit 10: 60 images are sorted by class; it takes the first of each class" in caplog.text
    whole = load_data(spec)
    limited = load_data(spec, limit=10)
    assert limited.index.tolist() == [0, 1, 2, 15, 16, 30, 31, 32, 45, 46]
    assert limited.labels.bincount().tolist() == [3, 2, 3, 2]
    assert torch.equal(limited.images, whole.images[limited.index])
    model = __import__("limited_net").net()
    in_turn = Files(files=list_images(pictures).limited(10))
    ways = {"loaded": limited, "files": in_turn, "whole": whole.limited(10)}
    for data in ways.values():
        made = evaluate(model, data, config=CONFIG, db=db)
        assert made.to_json()["kinds"] == told["kinds"]
        assert made.to_json()["clean"] == told["clean"]
    [row] = load_scores(db)
    assert row.pixels == limited.fingerprint() == as_source(whole, limit=10).fingerprint


def test_images_of_a_limited_set_have_the_noise_of_the_whole_set(pictures: Path, net: str) -> None:
    spec = f"folder:{pictures}"
    whole, limited = load_data(spec), load_data(spec, limit=10)
    made = corrupt(whole.images, "gaussian_noise", severity=5, seed=0)
    assert torch.equal(
        corrupt(limited.images, "gaussian_noise", severity=5, seed=0, index=limited.index),
        made[limited.index],
    )
    model = __import__(net.partition(":")[0]).net()
    scores, part = (evaluate(model, data, config=CONFIG) for data in (whole, limited))
    for cell, answers in part.cells.items():
        named = scores.cells[cell].predictions
        assert named is not None
        assert answers.predictions is not None
        assert answers.predictions.tolist() == named[limited.index.numpy()].tolist()


def test_every_kind_of_data_is_limited_alike(pictures: Path, tmp_path: Path) -> None:
    whole = load_data(f"folder:{pictures}")
    limited = whole.limited(10)
    np.savez(tmp_path / "s.npz", images=whole.images.numpy(), labels=whole.labels.numpy())
    assert load_data(f"npz:{tmp_path / 's.npz'}", limit=10).index.tolist() == limited.index.tolist()
    listing, counted = _WithTargets(whole.images, whole.labels), _Listed(whole.images, whole.labels)
    subset = torch.utils.data.Subset(listing, list(range(60)))
    for data in ((whole.images, whole.labels), listing, counted, subset):
        source = as_source(data, limit=10)
        assert source.index.tolist() == limited.index.tolist()
        assert source.labels.tolist() == limited.labels.tolist()
        assert torch.equal(source.read(torch.arange(10)), limited.images)
    # Where classes are listed, no other image is read for them; mixed ones need the first images alone.
    assert listing.reads < 60
    mixed = torch.arange(60) % 4
    counted = _Listed(whole.images, mixed)
    assert as_source(counted, limit=10).index.tolist() == list(range(10))
    assert counted.reads < 60
    assert as_source(counted).fingerprint == as_source((whole.images, mixed)).fingerprint


def test_probes_see_all_classes_of_a_limited_set(pictures: Path, net: str) -> None:
    spec = f"folder:{pictures}"
    model, whole = __import__(net.partition(":")[0]).net(), load_data(spec)
    for data, limit in ((whole, 8), (load_data(spec, limit=8), None)):
        assert fourier_heatmap(model, data, norm=2.0, limit=limit).clean_error == pytest.approx(
            1 - evaluate(model, whole.limited(8), config=EvaluateConfig(kinds=())).clean
        )
    given: dict[str, Any] = {"kinds": ["gaussian_noise"], "severities": [5]}
    one = corruption_spectra(whole, limit=8, **given)
    other = corruption_spectra(whole.limited(8), **given)
    assert torch.equal(*(found.spectra["gaussian_noise", 5].power for found in (one, other)))


def test_a_copy_of_a_limited_set_is_found_by_its_numbers(pictures: Path, net: str, tmp_path: Path) -> None:
    whole = load_data(f"folder:{pictures}")
    copy, model = CopyConfig(kinds=KINDS, severities=(2, 5)), __import__(net.partition(":")[0]).net()
    (tmp_path / "arrays").mkdir()
    copy_arrays(whole.limited(10), tmp_path / "arrays", copy)
    described = json.loads((tmp_path / "arrays" / "corrupt.json").read_text())
    assert described["index"] == whole.limited(10).index.tolist()
    read = EvaluateConfig(corrupted=str(tmp_path / "arrays"))
    for limit in (10, 6):
        data = whole.limited(limit)
        made, found = evaluate(model, data, config=CONFIG), evaluate(model, data, config=read)
        for cell, answers in made.cells.items():
            assert found.cells[cell].bits.tolist() == answers.bits.tolist()
    with pytest.raises(ValueError, match="10 images of the split, and not number 3; give the same limit"):
        evaluate(model, whole, config=read)


def test_a_folder_copy_of_a_limited_set_has_the_bytes_of_the_whole_copy(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["corrupt", f"folder:{pictures}", "--kinds", "gaussian_noise", "--severities", "5"]
    assert _json(capsys, *words, "--out", tmp_path / "part", "--limit", "10")["images"] == 10
    (tmp_path / "whole").mkdir()
    copy = CopyConfig(kinds=("gaussian_noise",), severities=(5,))
    copy_folders(list_images(pictures), tmp_path / "whole", copy, name="pictures", split="test")
    part = sorted((tmp_path / "part").rglob("*.png"))
    assert len(part) == 10
    for file in part:
        other = tmp_path / "whole" / file.relative_to(tmp_path / "part")
        assert np.array_equal(np.asarray(Image.open(file)), np.asarray(Image.open(other)))
