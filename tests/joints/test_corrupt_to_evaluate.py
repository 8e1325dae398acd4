"""Images corrupted on disk give the same answers as images corrupted by `evaluate`, under other keys."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from filterbands.corruptions import CopyConfig, Machine, copy_arrays, copy_folders
from filterbands.datasets import ImageSet, list_images, load_data
from filterbands.evaluation import EvaluateConfig, Files, Store, evaluate, load_scores
from filterbands.scores import Scores

COPY = CopyConfig(kinds=("gaussian_noise", "fog", "pixelate", "sparkles"), severities=(2, 5), seed=7)
MADE = EvaluateConfig(kinds=COPY.kinds, severities=COPY.severities, seed=COPY.seed)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three classes of eight pictures, written by Pillow."""
    generator = np.random.default_rng(3)
    for label in ("ant", "bee", "cow"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(8):
            pixels = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            picture = Image.fromarray(pixels).resize((20, 16), Image.Resampling.BILINEAR)
            picture.save(tmp_path / "pictures" / label / f"{number}.png")
    return tmp_path / "pictures"


@pytest.fixture
def data(pictures: Path) -> ImageSet:
    """A part of the pictures, so that positions and numbers of images differ."""
    return load_data(f"folder:{pictures}").subset(torch.arange(23, 3, -1))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3)
    )


def _copied(data: ImageSet, folder: Path, *, workers: int = 1) -> EvaluateConfig:
    """Write a corrupted copy of the images and return the configuration that reads it."""
    folder.mkdir()
    copy_arrays(data, folder, COPY, machine=Machine(workers=workers, batch_size=7))
    return EvaluateConfig(corrupted=str(folder))


def _answers(scores: Scores) -> dict[tuple[str, int], tuple[list[int], list[bool]]]:
    named = {place: cell.predictions for place, cell in scores.cells.items()}
    return {
        place: ([] if named[place] is None else named[place].tolist(), cell.bits.tolist())
        for place, cell in scores.cells.items()
    }


def test_a_copy_on_disk_scores_as_images_corrupted_here(
    pictures: Path, data: ImageSet, network: nn.Module, tmp_path: Path
) -> None:
    config = _copied(load_data(f"folder:{pictures}"), tmp_path / "copy", workers=2)
    made, read = evaluate(network, data, config=MADE), evaluate(network, data, config=config)
    assert set(made.cells) == {("clean", 0), *((kind, s) for kind in COPY.kinds for s in COPY.severities)}
    assert _answers(read) == _answers(made)
    # If all cells had the same answers, the comparison would prove nothing.
    assert len({str(answers) for answers in _answers(made).values()}) > 4
    assert (read.folder, read.parameters) == (str(tmp_path / "copy"), "")
    assert (made.folder, made.parameters, made.seed) == ("", "cifar", 7)


def test_a_folder_copy_of_files_scores_as_images_corrupted_here(
    pictures: Path, network: nn.Module, tmp_path: Path
) -> None:
    files = list_images(pictures)
    (tmp_path / "copy").mkdir()
    copy_folders(files, tmp_path / "copy", COPY, name="pictures", split="test")
    made = evaluate(network, Files(files=files), config=MADE)
    for kind, severity in made.cells.keys() - {("clean", 0)}:
        cell = Files(files=list_images(tmp_path / "copy" / kind / str(severity)))
        read = evaluate(network, cell, config=EvaluateConfig(kinds=()))
        assert read.cells["clean", 0].bits.tolist() == made.cells[kind, severity].bits.tolist()


def test_both_ways_have_keys_of_their_own_and_come_back_from_one_database(
    pictures: Path, data: ImageSet, network: nn.Module, tmp_path: Path
) -> None:
    config, db = _copied(load_data(f"folder:{pictures}"), tmp_path / "copy"), tmp_path / "results.db"
    made = evaluate(network, data, config=MADE, db=db)
    with Store(db, readonly=True) as store:
        before = {cell.key: cell for cell, _ in store.cells()}
    read = evaluate(network, data, config=config, db=db)
    with Store(db, readonly=True) as store:
        after = {cell.key: cell for cell, _ in store.cells()}
    new = [cell for key, cell in after.items() if key not in before]
    cells = len(COPY.kinds) * len(COPY.severities)
    # The clean cell is the same one for both.
    assert len(before) == 1 + cells
    assert len(new) == cells
    assert {(cell.source != "", cell.parameters, cell.seed, cell.version) for cell in new} == {
        (True, "", 0, 0)
    }
    assert {cell.source for cell in before.values()} == {""}

    loaded = {scores.folder: scores for scores in load_scores(db)}
    assert set(loaded) == {"", str(tmp_path / "copy")}
    for direct in (made, read):
        assert _answers(loaded[direct.folder]) == _answers(direct)
        assert loaded[direct.folder].to_json() == direct.to_json()


def test_another_seed_of_a_copy_is_another_set_of_cells(
    pictures: Path, data: ImageSet, network: nn.Module, tmp_path: Path
) -> None:
    whole, db = load_data(f"folder:{pictures}"), tmp_path / "results.db"
    for seed in (7, 8):
        (tmp_path / str(seed)).mkdir()
        copy_arrays(whole, tmp_path / str(seed), replace(COPY, seed=seed))
        evaluate(network, data, config=EvaluateConfig(corrupted=str(tmp_path / str(seed))), db=db)
    first, second = load_scores(db)
    assert {first.folder, second.folder} == {str(tmp_path / "7"), str(tmp_path / "8")}
    same = {kind for kind, row in first.kinds.items() if row == second.kinds[kind]}
    assert "pixelate" in same
    assert _answers(first) != _answers(second)
    with Store(db, readonly=True) as store:
        sources = {(cell.kind, cell.source) for cell, _ in store.cells() if cell.source}
    # A deterministic kind has the same bytes under both seeds, and therefore the same cells.
    assert len(sources) == 2 * len(COPY.kinds) - 1
