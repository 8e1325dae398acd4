"""Heat maps and pass curves in the report: like with like, each figure with what it was made on."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from filterbands.probes import HeatMap, PassCurves, Probing
from filterbands.report.report_page import render_report
from filterbands.report.sensitivity import Found, probed_sections
from filterbands.report.views import RING, Entry, Recipe, ReportView

DIGITS = (("data", "digits"), ("images", "20"))
OTHER = (("data", "other"), ("images", "20"))


def heat(error: float = 0.5, *, norm: float = 4.0, layer: str = "", reach: float | None = None) -> HeatMap:
    values = torch.full((33, 33), error)
    found = HeatMap(
        error=values, clean_error=0.1, norm=norm, size=(32, 32), layer=layer, images=20, reach=reach
    )
    if reach is not None:
        values[found.radius > reach] = float("nan")
    return found


def passes() -> PassCurves:
    radii = torch.linspace(0.1, 0.7, 7)
    curves = {f"{band}_{shape}": radii for band in ("low", "high") for shape in ("ideal", "gaussian")}
    reached = {0.1: None, 0.9: (0.3, 0.2, 0.4)}
    return PassCurves(
        radii=radii, curves=curves, clean=0.9, phase_only=0.5, amplitude_only=0.2, reached=reached, images=20
    )


def report(*probes: tuple[str, str, HeatMap | PassCurves]) -> str:
    """Return the page of networks with a probe each: name, data set, and what was found."""
    recipes = [
        Recipe(
            position,
            name,
            (
                Entry(
                    position,
                    name,
                    probed=(
                        Probing(
                            model=name, name=name, data=data, split="test", precision="float32", found=found
                        ),
                    ),
                ),
            ),
        )
        for position, (name, data, found) in enumerate(probes)
    ]
    return render_report(ReportView("t", tuple(recipes)))


def test_probes_of_other_conditions_norms_and_layers_stand_apart() -> None:
    found = [
        Found(0, "a", DIGITS, heat()),
        Found(1, "b", DIGITS, heat()),
        Found(2, "c", OTHER, heat()),
        Found(3, "d", DIGITS, heat(norm=8.0)),
        Found(4, "e", DIGITS, heat(layer="conv1")),
        Found(0, "a", DIGITS, passes()),
        Found(0, "a", OTHER, passes()),
    ]
    made = probed_sections(found)
    named = [[picture.label.text for picture in group.pictures] for group in made["maps"]]
    assert named == [["a", "b"], ["c"], ["d"], ["e"]]
    assert [group.title for group in made["maps"]] == [
        "data digits, norm 4, layer the image",
        "data other, norm 4, layer the image",
        "data digits, norm 8, layer the image",
        "data digits, norm 4, layer conv1",
    ]
    assert [[head.text for head in group.table.head[1:]] for group in made["maps"]] == named
    assert [group.title for group in made["passes"]] == ["data digits", "data other"]
    # Those that were all probed alike need no headings.
    (alone,) = probed_sections(found[:2])["maps"]
    assert alone.title == ""


def test_the_page_says_of_each_group_and_at_the_top_what_was_probed() -> None:
    page = report(("a", "digits", heat()), ("b", "other", heat()), ("c", "other", passes()))
    text = re.sub(r"<[^>]+>", "", page)
    for data in ("digits", "other"):
        said = f"data {data} &middot; split test &middot; images 20 &middot; precision float32"
        assert f"Measured on {said} &middot; norm 4 &middot; layer the image" in text
        assert said in text.partition("Sensitivity to frequencies")[0]
    assert page.count("<h3><bdi>data ") == 2
    assert page.count('aria-label="Mean error by radius, data other"') == 1


def test_a_ring_beyond_the_reach_of_a_map_is_not_measured_and_the_names_are_those_of_the_maps(
    browser: Any, tmp_path: Path
) -> None:
    entries = [("standard-0", heat(0.25)), ("standard-1", heat(0.5, reach=0.15))]
    file = tmp_path / "p.html"
    file.write_text(report(*((name, "digits", found) for name, found in entries), ("c", "other", heat(0.75))))
    tab = browser.new_page()
    tab.goto(file.as_uri())
    # A card of other conditions has its own sliders.
    assert tab.locator(".brush").count() == 2
    brush = tab.locator(".brush").first
    for high, second in ((0.14, "50.0 %"), (0.72, "not measured")):
        slider = brush.get_by_label("To")
        slider.evaluate(f"e => {{ e.value = {high}; e.dispatchEvent(new Event('input')); }}")
        said = brush.locator("output").inner_text().replace("\N{NO-BREAK SPACE}", " ")
        assert said == (
            f"From 0.00 to {high:.2f} cycles per pixel. Mean error: "
            f"standard-0 (norm 4, 20 images) 25.0 %, "
            f"standard-1 (norm 4, 20 images, 69 of 1,024 frequencies measured) {second}."
        )
    tab.close()


@pytest.mark.parametrize("reach", [None, 0.15, 0.16, 0.5])
def test_the_reach_of_a_map_is_that_up_to_which_it_has_mean_errors(reach: float | None) -> None:
    (group,) = probed_sections([Found(0, "a", DIGITS, heat(reach=reach))])["maps"]
    radius = float(group.pictures[0].rings["reach"])
    found = heat(reach=reach)
    assert not math.isnan(found.mean_error(0.0, radius))
    assert radius == pytest.approx(0.72) or math.isnan(found.mean_error(0.0, radius + RING))
