"""A database of results is kept: no output replaces it, and no verb destroys what another one needs."""

from pathlib import Path

import numpy as np
import pytest

from filterbands.cli import main
from filterbands.evaluation import load_scores, save_scores
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
