"""`filterbands results`: what its lines say that an average is over."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from filterbands.cli import main
from filterbands.corruptions import kinds_of
from filterbands.evaluation import save_scores
from filterbands.scores import SEVERITIES, Scores

LABELS = np.arange(20) % 2


def listed(
    places: Iterable[tuple[str, int]], right: dict[str, int], folder: Path, capsys: pytest.CaptureFixture[str]
) -> str:
    """Return the line of a network that has so many correct answers under each kind."""
    given = {(kind, s): np.where(np.arange(20) < right[kind], LABELS, 1 - LABELS) for kind, s in places}
    scores = Scores.from_predictions(LABELS, {("clean", 0): LABELS, **given}, name="net")
    save_scores(scores, folder / "r.db")
    assert main(["results", str(folder / "r.db")]) == 0
    return capsys.readouterr().out.strip()


def test_a_line_names_the_severities_of_an_average_over_some_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = listed([("fog", 1), ("fog", 5)], {"fog": 15}, tmp_path, capsys)
    assert "  1 kind at hand at severities 1, 5 75.00 %" in line


def test_a_line_names_no_severities_where_all_five_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {"fog": 15, "contrast": 5}
    line = listed([(kind, s) for kind in kinds for s in SEVERITIES], kinds, tmp_path, capsys)
    assert "  2 kinds at hand 50.00 %" in line


def test_an_average_at_hand_counts_its_own_kinds_and_that_of_c_bar_has_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {"fog": 15, "contrast": 5, **dict.fromkeys(kinds_of("cbar"), 8)}
    line = listed([(kind, s) for kind in kinds for s in SEVERITIES], kinds, tmp_path, capsys)
    assert "  2 kinds at hand 50.00 %  C-bar's 10 kinds 40.00 %" in line


def test_c_bar_alone_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = dict.fromkeys(kinds_of("cbar"), 8)
    line = listed([(kind, s) for kind in kinds for s in SEVERITIES], kinds, tmp_path, capsys)
    assert "  C-bar's 10 kinds 40.00 %" in line
    assert "at hand" not in line
