"""A folder of pictures of a user: one is damaged, all differ in size; from the command line to the files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from filterbands.cli import main
from filterbands.datasets import list_images
from filterbands.run import Run


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(4):
            pixels = generator.integers(0, 256, (36 + 4 * number, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def test_a_copy_that_met_a_damaged_picture_is_made_by_the_next_try(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, out = pictures / "dog" / "3.png", tmp_path / "copy"
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    words = ["corrupt", f"folder:{pictures}", "--out", str(out), "--kinds", "contrast", "--severities", "1,3"]
    assert main(words) == 2
    assert str(bad) in capsys.readouterr().err
    assert not [path for path in out.rglob("*") if not path.name.startswith(".")]
    bad.write_bytes(whole)
    assert main(words) == 0
    assert len(list_images(out / "contrast" / "3").paths) == 8
    # What is finished is kept by a third call, and binds it.
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["written"] == []
    assert main([*words, "--seed", "1"]) == 2


def test_a_training_on_pictures_of_other_sizes_takes_a_size_and_records_it(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "standard", "--data", f"folder:{pictures}", "--split", "test", "--batch-size", "4"]
    words += ["--set", "epochs=1", "--set", "precision=float32", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "--size" in capsys.readouterr().err
    assert main([*words, "--size", "32"]) == 0
    assert Run(tmp_path / "run").read()["config"]["size"] == 32
    assert main([*words, "--size", "32", "--resume"]) == 0
    capsys.readouterr()
    assert main([*words, "--size", "36", "--resume"]) == 2
    assert "size was 32, now 36" in capsys.readouterr().err
    assert main([*words, "--size", "-1"]) == 2
    assert "--size needs a number from 0 to 4096" in capsys.readouterr().err
