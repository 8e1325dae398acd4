"""Comparisons of other images, cells and conditions: each has a heading, a table and a chart of its own."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from filterbands.evaluation import save_scores
from filterbands.report import write_report
from filterbands.report.accuracy import comparisons
from filterbands.report.charts import Axis, Line, first_drawn
from filterbands.report.gather import gather
from filterbands.report.glance import glances
from filterbands.report.layers import course
from filterbands.scores import Scores

LABELS = np.arange(60) % 10


def scores(name: str, labels: Any = LABELS, correct: int = 30, **more: Any) -> Scores:
    kinds = more.pop("kinds", ("fog", "contrast"))
    answers = np.where(np.arange(60) < correct, labels, (labels + 1) % 10)
    cells = {("clean", 0): labels, **{(kind, s): answers for kind in kinds for s in (1, 3)}}
    return Scores.from_predictions(labels, cells, name=name, **more)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of networks that were measured on two sets of images of one name, and otherwise apart."""
    db = tmp_path_factory.mktemp("mixed") / "r.db"
    turned = LABELS[::-1].copy()
    for found in (
        *(scores("a"), scores("b", correct=20)),
        *(scores("c", turned), scores("d", turned, kinds=("fog",))),
        *(scores("e", kinds=("fog",)), scores("f", seed=3), scores("g", precision="bfloat16")),
    ):
        save_scores(found, db)
    return db


def test_no_two_comparisons_of_a_report_have_one_heading_or_one_key(mixed: Path) -> None:
    report = gather([mixed], title="")
    groups = comparisons(report)
    told = {group.told: [row.recipe.name for row in group.rows] for group in groups}
    same = ", seed 0, precision float32"
    assert told == {
        same: ["a", "b"],
        f"{same}, other images #2": ["c"],
        f"{same}, other images #2, other cells #2": ["d"],
        f"{same}, other cells #2": ["e"],
        ", seed 3, precision float32": ["f"],
        ", seed 0, precision bfloat16": ["g"],
    }
    assert len({group.key for group in groups}) == 6
    made = glances(report, groups)
    assert [one.title for one in made] == [f"given{group.told}" for group in groups]


def test_columns_of_one_network_under_several_conditions_have_their_own_headings(tmp_path: Path) -> None:
    for seed in (0, 3):
        save_scores(scores("a", seed=seed), tmp_path / "r.db")
    report = gather([tmp_path / "r.db"], title="")
    (made, *_) = glances(report, comparisons(report))
    heads = [(head.text, head.under) for head in made.head]  # type: ignore[union-attr]
    assert len(heads) == len(set(heads))


@pytest.fixture
def tab(browser: Any, mixed: Path) -> Iterator[Any]:
    page = write_report([mixed], mixed.with_suffix(".html"))
    opened = browser.new_page()
    opened.goto(page.as_uri())
    yield opened
    opened.close()


def test_the_dialog_of_a_kind_has_a_chart_for_each_comparison(tab: Any) -> None:
    tab.locator("#accuracy").get_by_role("button", name="fog").first.click()
    dialog = tab.get_by_role("dialog")
    titles = [one for one in dialog.locator("h3").all_inner_texts() if one.startswith("Accuracy by severity")]
    assert len(titles) == len(set(titles)) == 6
    assert dialog.locator("svg.plot").count() == 6
    assert len(re.findall("<circle", dialog.locator("svg.plot").first.inner_html())) == 4


def test_charts_of_lines_say_which_networks_they_draw_and_that_their_axis_spans_the_data() -> None:
    lines = [Line(position // 2, "net", [(0.0, 0.5), (1.0, 0.6)]) for position in range(120)]
    found = [(line.position, line.name, line.values) for line in lines]
    for domain, note in (
        ((0.0, 1.0), ""),
        (None, "The vertical axis spans the data and need not start at 0."),
    ):
        (figure,) = course("t", found, x=Axis("Epoch"), y=Axis("Accuracy", domain=domain), label="")
        assert figure.note == f"The first 16 of 60 networks are drawn. {note}".strip()
        assert {f'data-network="{n}"' in figure.chart for n in range(16)} == {True}
        assert 'data-network="16"' not in figure.chart
    assert [len(first_drawn(lines[:count])[0]) for count in (32, 34)] == [32, 32]


def test_the_chart_by_severity_says_that_its_axis_is_cut(mixed: Path) -> None:
    figures = [group.figures[-1] for group in comparisons(gather([mixed], title=""))]
    assert {figure.title for figure in figures} == {"By severity"}
    assert all(figure.note.endswith("spans the data and need not start at 0.") for figure in figures)
