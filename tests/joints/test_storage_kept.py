"""A database of results is kept: no output replaces it, and no verb destroys what another one needs."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from filterbands.cli import main
from filterbands.corruptions import CopyConfig, copy_arrays, copy_folders
from filterbands.datasets import Reading, list_images, load_data
from filterbands.evaluation import EvaluateConfig, Files, Store, evaluate, load_scores, save_scores
from filterbands.scores import BENCHMARK_15, Scores
from filterbands.scores.scores import SEVERITIES

LABELS = np.arange(20) % 4


def _kept(db: Path, *names: str) -> None:
    places = [("clean", 0), *((kind, severity) for kind in BENCHMARK_15 for severity in SEVERITIES)]
    for name in names:
        save_scores(Scores.from_predictions(LABELS, dict.fromkeys(places, LABELS), name=name), db)


@pytest.mark.parametrize(
    "words",
    [
        ("results", "r.csv", "--export", "r.csv"),
        ("results", "r.csv", "--model", "net", "--robustbench", "r.csv"),
        ("report", "r.csv", "--out", "r.csv"),
    ],
)
def test_no_verb_replaces_the_database_that_it_reads(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    _kept(Path("r.csv"), "net")
    assert main(words) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "cannot write r.csv: it is a database, which would be lost; name another file" in line
    assert [scores.name for scores in load_scores("r.csv")] == ["net"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three classes of four pictures."""
    generator = np.random.default_rng(3)
    for label in ("ant", "bee", "cow"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(4):
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{number}.png")
    return tmp_path / "pictures"


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(768, 3))


def _files(folder: Path) -> Files:
    return Files(files=list_images(folder), reading=Reading(), name="folder:pictures")


def _at(done: int, act: Callable[[], object]) -> Callable[[int, int, str], None]:
    """Return a progress that does something after a number of cells."""

    def progress(cells: int, _: int, what: str) -> None:
        if cells == done and not what.startswith("reading"):
            act()

    return progress


@pytest.mark.parametrize("done", [1, 2])
def test_a_network_that_is_deleted_meanwhile_is_told(
    done: int, pictures: Path, network: nn.Module, tmp_path: Path
) -> None:
    db, config = tmp_path / "r.db", EvaluateConfig(kinds=("contrast",), severities=(1,), name="net")

    def delete() -> None:
        with Store(db) as other:
            other.delete("net")

    with pytest.raises(ValueError, match="were deleted meanwhile; run the same command again") as told:
        evaluate(network, _files(pictures), config=config, db=db, progress=_at(done, delete))
    assert "\n" not in str(told.value)
    assert evaluate(network, _files(pictures), config=config, db=db).kinds["contrast"][0] is not None


@pytest.mark.parametrize("layout", ["arrays", "folders"])
@pytest.mark.parametrize("keeps_time", [False, True])
def test_copies_that_change_during_an_evaluation_are_not_stored(
    layout: str, keeps_time: bool, pictures: Path, network: nn.Module, tmp_path: Path
) -> None:
    db, copy = tmp_path / "r.db", tmp_path / "copy"
    copy.mkdir()
    made = CopyConfig(kinds=("contrast", "pixelate"), severities=(3,))
    if layout == "arrays":
        copy_arrays(load_data(f"folder:{pictures}"), copy, made)
        file = copy / "pixelate.npy"
    else:
        copy_folders(list_images(pictures), copy, made, name="folder:pictures", split="test")
        file = copy / "pixelate" / "3" / "bee" / "1.png"
    before, times = file.read_bytes(), file.stat()
    other = before[:-1] + bytes([before[-1] ^ 1])
    if layout == "folders":
        other = file.with_name("2.png").read_bytes()

    def change() -> None:
        new = file.with_name("new")
        new.write_bytes(other)
        if keeps_time:
            os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
        new.replace(file)

    config = EvaluateConfig(corrupted=str(copy), name="net")
    with pytest.raises(ValueError, match=r"pixelate.* changed while it was read; run the same command again"):
        evaluate(network, _files(pictures), config=config, db=db, progress=_at(2, change))
    with Store(db, readonly=True) as store:
        assert [cell.kind for cell, _ in store.cells()] == ["clean", "contrast"]
    file.write_bytes(before)
    assert set(evaluate(network, _files(pictures), config=config, db=db).kinds) == {"contrast", "pixelate"}


def test_answers_among_other_classes_have_other_keys(pictures: Path, tmp_path: Path) -> None:
    """Of some files of a folder the choice is among the classes of all, of images among their own."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 3))
    with torch.no_grad():
        network[1].bias[2] += 100
    db, config = tmp_path / "r.db", EvaluateConfig(kinds=(), present_only=True, name="net")
    files, whole = _files(pictures), load_data(f"folder:{pictures}")
    few, held = Files(files=files.files.limited(1)), load_data(f"folder:{pictures}", limit=1)
    for data, named, precision in (
        (few, {2}, "float32, present only, 3 classes [0-9a-f]{8}"),
        (held, {0}, "float32, present only"),
        (files, {2}, "float32, present only"),
        (whole, {2}, "float32, present only"),
    ):
        scores = evaluate(network, data, config=config, db=db)
        found = scores.cells["clean", 0].predictions
        assert found is not None
        assert set(found.tolist()) == named
        assert re.fullmatch(precision, scores.precision)


def test_names_that_are_no_text_are_told_before_the_work(
    pictures: Path, network: nn.Module, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"name of the network needs to be text in UTF-8, got 'n\\udcff1'"):
        EvaluateConfig(name="n\udcff1")
    db, copy = tmp_path / "r.db", tmp_path / "cop\udcff"
    copy.mkdir()
    copy_arrays(load_data(f"folder:{pictures}"), copy, CopyConfig(kinds=("contrast",), severities=(3,)))
    with pytest.raises(ValueError, match="the folder of corrupted images needs to be text in UTF-8, got"):
        evaluate(network, _files(pictures), config=EvaluateConfig(corrupted=str(copy)), db=db)
    odd = Files(files=list_images(pictures), name="folder:\udcff")
    with pytest.raises(ValueError, match="the name of the data needs to be text in UTF-8, got"):
        evaluate(network, odd, config=EvaluateConfig(kinds=()), db=db)
    scores = Scores.from_predictions(LABELS, {("clean", 0): LABELS}, name="n\udcff1")
    with pytest.raises(ValueError, match="the name of the network needs to be text in UTF-8, got"):
        save_scores(scores, db)
    assert not db.exists()


@pytest.mark.parametrize("option", ["--model", "--delete", "--export", "--robustbench"])
def test_an_empty_option_is_no_option(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _kept(tmp_path / "r.db", "net")
    assert main(["results", str(tmp_path / "r.db"), option, ""]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"{option} needs a text, got an empty one" in line
    assert len(load_scores(tmp_path / "r.db")) == 1
