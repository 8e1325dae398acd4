"""A study from its file through training, evaluation and the database to its table, killed and resumed."""

import json
import shutil
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest

from filterbands.evaluation import load_scores
from filterbands.report.accuracy import comparisons
from filterbands.report.gather import gather
from filterbands.run import Run
from filterbands.study import as_study, read_study, run_study, table


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A study of two rows on a file of random images, both written here by hand."""
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (32, 3, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=images, labels=np.arange(32) % 2)
    study = {
        "data": f"npz:{tmp_path / 'noise.npz'}",
        "recipes": ["standard", {"name": "both", "recipe": "apr_sp", "set": {"spectral.strength": 1.0}}],
        "set": {"epochs": 1, "batch_size": 16, "precision": "float32"},
        "seeds": [3],
        "evaluate": {"kinds": ["contrast"], "spread": False},
    }
    (tmp_path / "two.json").write_text(json.dumps(study))
    return tmp_path / "two.json"


def _without_times(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if "seconds" not in name} for line in lines]


def test_a_study_killed_before_its_last_line_ends_with_the_same_lines_and_table(
    file: Path, tmp_path: Path
) -> None:
    study, out = read_study(file), tmp_path / "out"
    lines = run_study(study, out)
    kept = (out / "runs.jsonl").read_text().splitlines()
    # As a kill between the last run's evaluation and its line leaves it, the line half written.
    (out / "runs.jsonl").write_text(kept[0] + "\n" + kept[1][:40])
    done: list[tuple[int, int]] = []
    again = run_study(study, out, progress=lambda *step: done.append(step[:2]))
    assert done == [(2, 2)]
    assert _without_times(again) == _without_times(lines)
    assert again[0] == lines[0] == json.loads(kept[0])
    assert [row.split(" | ")[:3] for row in table(again).splitlines()] == [
        row.split(" | ")[:3] for row in table(lines).splitlines()
    ]


def test_every_figure_of_the_table_is_that_of_the_database_and_the_runs(file: Path, tmp_path: Path) -> None:
    study, out = read_study(file), tmp_path / "out"
    lines = run_study(study, out)
    scores = {found.name: found for found in load_scores(out / "results.db")}
    rows = table(lines).splitlines()[2:]
    for line, row in zip(lines, rows, strict=True):
        found = scores[line["name"]]
        robust = mean(found.cells["contrast", severity].accuracy for severity in (1, 2, 3, 4, 5))
        assert line["clean"] == found.clean
        assert line["robust"] == pytest.approx(robust, abs=1e-12)
        assert row.startswith(f"| {line['recipe']} | 1 | {100 * found.clean:.2f} | ")
        assert f" | {100 * robust:.2f} | " in row
        run = Run(out / line["name"])
        assert run.read()["config"] == line["config"]
        assert run.read_log()[-1]["first_layer"]["mean_low_energy"] == line["mean_low_energy"]
    assert scores["both-fastnet-3"].overlap == ("defocus_blur", "gaussian_blur")


def test_lines_without_a_database_are_compared_on_the_same_images_and_cells_alone(
    file: Path, tmp_path: Path
) -> None:
    plain = json.loads(file.read_text())
    plain |= {"recipes": ["standard"], "evaluate": {**plain["evaluate"], "limit": 20}}
    with np.load(tmp_path / "noise.npz") as found:
        np.savez(tmp_path / "other.npz", images=255 - found["images"], labels=found["labels"])
        np.savez(tmp_path / "copy.npz", images=found["images"], labels=found["labels"])

    def studied(name: str, data: str, **evaluated: Any) -> Path:
        change = {"data": f"npz:{tmp_path / data}", "evaluate": {**plain["evaluate"], **evaluated}}
        [line] = run_study(as_study({**plain, **change, "seeds": [len(name)]}), tmp_path / name)
        # The line alone stays.
        (tmp_path / name / "results.db").unlink()
        shutil.rmtree(tmp_path / name / line["name"])
        return tmp_path / name

    def blocks(*folders: Path) -> list[int]:
        return sorted(len(group.members) for group in comparisons(gather(folders, title="")))

    one = studied("a", "noise.npz")
    assert blocks(one, studied("bb", "copy.npz")) == [2]
    assert blocks(one, studied("ccc", "other.npz")) == [1, 1]
    assert blocks(one, studied("dddd", "noise.npz", spread=True)) == [1, 1]
    # Lines of earlier versions have no fingerprint, and are told apart by where their images lie.
    for name in ("a", "bb"):
        line = json.loads((tmp_path / name / "runs.jsonl").read_text())
        del line["fingerprint"]
        (tmp_path / name / "runs.jsonl").write_text(json.dumps(line) + "\n")
    assert blocks(one, tmp_path / "bb") == [1, 1]
