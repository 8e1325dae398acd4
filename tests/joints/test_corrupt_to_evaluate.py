"""Images corrupted on disk give the same answers as images corrupted by `evaluate`, under other keys."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from filterbands.corruptions import CopyConfig, Machine, copy_arrays, copy_folders
from filterbands.datasets import ImageSet, PlantedConfig, list_images, load_data, planted
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


def test_gray_images_have_the_same_scores_from_disk_and_from_arrays(data: ImageSet, tmp_path: Path) -> None:
    gray = replace(data, images=data.images[:, :1].contiguous())
    network = nn.Sequential(nn.Conv2d(1, 8, 5), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3))
    config = _copied(gray, tmp_path / "copy")
    assert np.load(tmp_path / "copy" / "fog.npy").shape == (2 * len(gray), 16, 20, 1)
    made, read = evaluate(network, gray, config=MADE), evaluate(network, gray, config=config)
    assert _answers(read) == _answers(made)
    last = gray.images.permute(0, 2, 3, 1).numpy()
    given = evaluate(network, (last, gray.labels), config=replace(MADE, kinds=("pixelate",)))
    assert given.cells["pixelate", 5].bits.tolist() == made.cells["pixelate", 5].bits.tolist()
    with pytest.raises(ValueError, match=r"of gray ones add the channel, images\[:, None\]"):
        evaluate(network, (last[..., 0], gray.labels), config=MADE)


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


def _record(folder: Path, **changes: object) -> None:
    """Write the record of a copy anew; None takes an entry away."""
    record = {**json.loads((folder / "corrupt.json").read_text()), **changes}
    left = {name: value for name, value in record.items() if value is not None}
    (folder / "corrupt.json").write_text(json.dumps(left))


def test_a_copy_of_other_images_with_the_same_labels_is_refused_or_said(
    network: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, other = planted(images=30), planted(PlantedConfig(low=2, high=2), images=30)
    assert torch.equal(data.labels, other.labels)
    network = nn.Sequential(*network[:-1], nn.Linear(32, 10))  # type: ignore[index]
    config = _copied(data, tmp_path / "copy")
    with pytest.raises(ValueError, match=r"corrupted copy of planted \(test\) with other images, labels"):
        evaluate(network, other, config=config)
    evaluate(network, data, config=config)
    few = torch.arange(10)
    evaluate(network, data.subset(few), config=config)
    # The same images, given without names of classes, and a part of them.
    arrays = data.images, data.labels
    evaluate(network, (data.images[:10], data.labels[:10]), config=config)
    assert not caplog.messages
    evaluate(network, arrays, config=config)
    evaluate(network, other.subset(few), config=config)
    start = f"{tmp_path / 'copy'} is a corrupted copy of planted (test); whether it is one of "
    said = [line.removeprefix(start).partition(" cannot")[0] for line in caplog.messages]
    assert said == ["arrays (given)", "planted:low=2,high=2 (test)"]
    # A copy that others made, or an early version, has no record of its images.
    _record(tmp_path / "copy", data=None, split=None, fingerprint=None)
    evaluate(network, other, config=config)
    assert len(caplog.messages) == 2


def test_a_folder_copy_of_other_files_with_the_same_names_is_refused_or_said(
    pictures: Path, network: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files, copy = list_images(pictures), tmp_path / "copy"
    copy.mkdir()
    copy_folders(files, copy, COPY, name="folder:pictures", split="test")
    config, name = EvaluateConfig(corrupted=str(copy)), "folder:others"
    evaluate(network, Files(files=files, name=name), config=config)
    assert not caplog.messages
    evaluate(network, Files(files=files.limited(6), name=name), config=config)
    assert "copy of folder:pictures (test); whether it is one of folder:others (test)" in caplog.text
    for path in files.paths:
        with Image.open(path) as picture:
            picture.rotate(180).save(path)
    with pytest.raises(ValueError, match=r"copy of folder:pictures \(test\) with other images, labels or"):
        evaluate(network, Files(files=files, name=name), config=config)
    # Earlier versions recorded names and sizes alone.
    _record(copy, contents=None)
    evaluate(network, Files(files=files, name="folder:pictures"), config=config)


def test_a_pipe_among_the_copies_is_refused_and_not_waited_for(
    pictures: Path, network: nn.Module, tmp_path: Path
) -> None:
    files, copy = list_images(pictures), tmp_path / "copy"
    copy.mkdir()
    copy_folders(files, copy, COPY, name="folder:pictures", split="test")
    pipe = copy / "fog" / "5" / "bee" / "3.png"
    pipe.unlink()
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match=r"3\.png is a pipe, not a file"):
        evaluate(network, Files(files=files), config=EvaluateConfig(corrupted=str(copy)))
    (pictures / "cow" / "7.png").unlink()
    os.mkfifo(pictures / "cow" / "7.png")
    (tmp_path / "new").mkdir()
    with pytest.raises(ValueError, match=r"7\.png is a pipe, not a file"):
        copy_folders(files, tmp_path / "new", COPY, name="folder:pictures", split="test")


def test_the_set_of_cbar_means_the_kinds_of_it_that_a_folder_has(
    data: ImageSet, network: nn.Module, tmp_path: Path
) -> None:
    config = _copied(data, tmp_path / "copy")
    scores = evaluate(network, data, config=replace(config, kinds=("cbar", "fog")))
    assert list(scores.kinds) == ["fog", "sparkles"]
    (tmp_path / "copy" / "sparkles.npy").unlink()
    with pytest.raises(ValueError, match="has none of the kinds of cbar; leave it out of kinds"):
        evaluate(network, data, config=replace(config, kinds=("cbar",)))
