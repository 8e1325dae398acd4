"""What the script of the pages does, driven in Chromium as a reader would."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from filterbands.probes import CorruptionSpectra
from filterbands.report.views import RING

SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def context(browser: Any) -> Iterator[Any]:
    opened = browser.new_context(viewport={"width": 1300, "height": 900})
    opened.grant_permissions(["clipboard-read", "clipboard-write"])
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def opened(context: Any) -> Iterator[Any]:
    """Return a function that opens a page anew, in a tab that no error may happen in."""
    tab, said = context.new_page(), []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(dialog.message))

    def show(page: Path) -> Any:
        tab.goto(page.as_uri())
        return tab

    yield show
    assert said == []


def test_the_legend_hides_a_network_everywhere_and_shows_it_again(opened, page: Path):
    tab = opened(page)
    tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    shown = (
        "[...document.querySelectorAll('main [data-network=\"{}\"]')]"
        ".filter(e => e.checkVisibility()).map(e => e.tagName)"
    )
    before = [tab.evaluate(shown.format(position)) for position in range(3)]
    assert {"path", "TABLE", "TH", "LI", "FIGURE", "DIV"} <= set(before[0])
    button = tab.locator(".legend li[data-network='0'] button").first
    button.focus()
    tab.keyboard.press("Enter")
    assert set(tab.evaluate(shown.format(0))) == {"LI"}
    assert tab.locator("main [data-network='0']:not(.legend li):visible").count() == 0
    assert {
        one.get_attribute("aria-pressed") for one in tab.locator(".legend li[data-network='0'] button").all()
    } == {"false"}
    assert [tab.evaluate(shown.format(position)) for position in (1, 2)] == before[1:]
    table = tab.locator("#accuracy .card table:not(.heat)")
    assert table.locator("tbody tr").first.locator("td:visible").count() == 2
    tab.get_by_role("button", name="Show all networks").click()
    assert [tab.evaluate(shown.format(position)) for position in range(3)] == before


def test_a_picked_reference_is_what_all_tables_compare_with(opened, page: Path):
    tab = opened(page)
    tab.get_by_label("Compare tables with").select_option("2")
    heads = tab.locator("#accuracy table:not(.heat) thead th")
    assert ["reference" in text for text in heads.all_inner_texts()] == [
        one.get_attribute("data-network") == "2" for one in heads.all()
    ]
    for row in tab.locator("#accuracy table:not(.heat) tbody tr").all():
        cells = row.locator("td").all()
        values = [float(cell.get_attribute("data-value")) for cell in cells]
        base = next(
            at for at, head in enumerate(heads.all()[1:]) if head.get_attribute("data-network") == "2"
        )
        for at, (cell, value) in enumerate(zip(cells, values, strict=True)):
            said = [text.replace("\N{MINUS SIGN}", "-") for text in cell.locator(".delta").all_inner_texts()]
            assert len(said) == (at != base)
            assert all(float(text) == pytest.approx(100 * (value - values[base]), abs=0.051) for text in said)


def test_a_kind_shows_its_pictures_its_spectrum_and_its_accuracy_by_severity(
    opened, page: Path, probe_page: Path, results
):
    tab = opened(page)
    button = tab.locator("#accuracy").get_by_role("button", name="fog").first
    button.click()
    dialog = tab.get_by_role("dialog")
    assert dialog.get_by_role("heading", level=2).inner_text().lower() == "fog"
    assert dialog.locator(".strip[data-kind=fog] img").count() == 2
    assert dialog.locator(".strip[data-kind=clean] img").count() == 1
    assert dialog.locator("svg.plot g").count() == 3
    rows = {
        row.locator("th").inner_text(): row.locator("td").all_inner_texts()
        for row in dialog.locator("tr").all()[1:]
    }
    for run, scores in zip(results.runs, results.scores, strict=True):
        (said,) = [texts for name, texts in rows.items() if run.name in name]
        for text, accuracy in zip(said, scores.kinds["fog"], strict=True):
            assert text.replace("\N{NO-BREAK SPACE}", " ") == (
                "\N{EN DASH}" if accuracy is None else f"{100 * accuracy:.1f} %"
            )
    tab.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert button.evaluate("e => e === document.activeElement")
    tab = opened(probe_page)
    tab.locator(".tools select").last.select_option("fog")
    tab.get_by_role("button", name="Look at it").click()
    assert tab.get_by_role("dialog").locator("figure[data-kind=fog] img").is_visible()
    assert "Low energy" in tab.get_by_role("dialog").inner_text()


def test_a_filter_is_enlarged_with_its_spectrum_and_its_curve_by_keyboard_alone(opened, page: Path):
    tab = opened(page)
    tiles = tab.locator(".tiles").first.locator("button")
    tiles.first.focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    dialog = tab.get_by_role("dialog")
    title = dialog.get_by_role("heading", level=2).inner_text()
    assert title == tiles.nth(1).locator("img").first.get_attribute("alt")
    assert [round(image.bounding_box()["width"]) for image in dialog.locator(".large img").all()] == [
        260,
        260,
    ]
    energy = float(re.findall(r"low energy ([\d.]+)", title)[0])
    x, y = map(
        float, re.findall(r"L([\d.]+),([\d.]+)", dialog.locator("svg.plot g path").get_attribute("d"))[19]
    )
    # The point at 0.40 cycles per pixel, the cutoff being 0.399.
    assert x == pytest.approx(44 + 300 * 0.8)
    assert (150 - y) / 140 == pytest.approx(energy, abs=0.02)
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


def test_tables_are_sorted_down_up_and_as_they_were(opened, page: Path):
    tab = opened(page)
    table = tab.locator("#glance table")

    def column():
        return [cell.inner_text() for cell in table.locator("tbody tr > :nth-child(4)").all()]

    before = column()
    head = table.get_by_role("button", name="Mean low energy")
    for order, turned in (("descending", True), ("ascending", False), (None, None)):
        head.click()
        assert table.locator("thead th").nth(3).get_attribute("aria-sort") == order
        assert column() == (before if order is None else sorted(before, key=float, reverse=turned))
    heat = tab.locator(".heat").first
    heat.get_by_role("button", name="mean").click()
    assert heat.locator(".family:visible").count() == 0
    means = [float(cell.inner_text()) for cell in heat.locator("td.mean").all()]
    assert means == sorted(means, reverse=True)


def test_a_table_is_copied_as_comma_separated_values_with_names_as_they_are(opened, page: Path, results):
    tab = opened(page)
    card = tab.locator("#accuracy .card", has_text="By kind of corruption").first
    card.get_by_role("button", name="Copy as CSV").click()
    card.get_by_role("button", name="Copied").wait_for()
    rows = list(csv.DictReader(io.StringIO(tab.evaluate("navigator.clipboard.readText()"))))
    assert [row["Kind"] for row in rows] == ["gaussian noise", "fog", "contrast"]
    for run, scores in zip(results.runs, results.scores, strict=True):
        name = next(key for key in rows[0] if run.name in key and "difference" not in key)
        assert name.endswith(", %")
        for row in rows:
            known = [one for one in scores.kinds[row["Kind"].replace(" ", "_")] if one is not None]
            assert float(row[name]) == pytest.approx(100 * sum(known) / len(known), abs=0.051)


def test_a_brushed_ring_tells_the_error_in_it_and_the_kinds_that_live_there(
    opened, probe_page: Path, networks, added: CorruptionSpectra
):
    tab = opened(probe_page)
    tab.locator("figure[data-errors] .spectrum").first.scroll_into_view_if_needed()
    box = tab.locator("figure[data-errors] .spectrum").first.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.move(middle[0] + 0.31 * box["width"], middle[1])
    tab.mouse.down()
    tab.mouse.move(middle[0] + 0.39 * box["width"], middle[1])
    tab.mouse.up()
    low, high = 15 * RING, 20 * RING
    said = tab.locator(".brush output")
    assert said.inner_text().startswith("From 0.30 to 0.40 cycles per pixel.")
    for one in networks:
        assert f"{100 * one.heatmap.mean_error(low, high):.1f} %" in said.inner_text().replace(
            "\N{NO-BREAK SPACE}", " "
        )
    spectra = {kind: added.spectra[kind, 3] for kind in added.kinds}
    expected = {kind: one.low_energy(high) - one.low_energy(low) for kind, one in spectra.items()}
    texts = [
        text.replace("\N{NO-BREAK SPACE}", " ").split() for text in tab.locator(".kinds li").all_inner_texts()
    ]
    shares = {"_".join(words[:-2]): float(words[-2]) for words in texts}
    assert {kind: round(100 * share, 1) for kind, share in expected.items()} == pytest.approx(
        shares, abs=0.11
    )
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    tab.get_by_label("To").focus()
    tab.keyboard.press("ArrowRight")
    assert said.inner_text().startswith("From 0.30 to 0.42 cycles")


@pytest.mark.parametrize("which", ["page", "probe_page", "spectra_page"])
def test_without_the_script_everything_is_there_and_no_control(browser, opened, request, which):
    page = request.getfixturevalue(which)
    silent = browser.new_context(java_script_enabled=False).new_page()
    silent.goto(page.as_uri())
    assert silent.locator("button, select, input, dialog").count() == 0
    assert not silent.locator("main .away").count()
    tab = opened(page)
    assert tab.locator("main button").count() > 0
    tab.evaluate("document.querySelectorAll('.brush, [data-do=copy]').forEach(one => one.remove())")
    assert tab.locator("main").text_content() == silent.locator("main").text_content()
    silent.context.close()


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "which", ["page", *(pytest.param(one, marks=pytest.mark.slow) for one in ("probe_page", "spectra_page"))]
)
def test_axe_finds_no_serious_violation(opened, request, which, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    tab = opened(request.getfixturevalue(which))
    tab.emulate_media(color_scheme=scheme)
    # A look through a page costs seconds, and dark differs in colors alone.
    for opener in (None, "main [data-do=kind]", ".tiles button")[: 3 if scheme == "light" else 1]:
        if opener is not None:
            if not tab.locator(opener).count():
                continue
            tab.locator(opener).first.click()
        found = axe.run(tab).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in SERIOUS] == []
        tab.keyboard.press("Escape")
    tab.emulate_media(color_scheme="null")


@pytest.mark.parametrize("which", ["page", "probe_page", "spectra_page"])
def test_every_control_is_reached_by_the_tab_key_and_shows_that_it_is(opened, request, which):
    tab = opened(request.getfixturevalue(which))
    controls = (
        "[...document.querySelectorAll('button, select, input, summary, nav a')]"
        ".filter(e => e.checkVisibility() && e.tabIndex >= 0)"
    )
    count = tab.evaluate(f"({controls}).length")
    assert tab.evaluate(f"({controls}).every(e => e.tabIndex === 0)")
    # Of the filters of a network one is reached by the key, the others from there by the arrows.
    for tiles in tab.locator(".tiles").all():
        assert tiles.locator("button:not([tabindex='-1'])").count() == 1
    reached = 0
    for _ in range(min(40, count)):
        tab.keyboard.press("Tab")
        outline = tab.evaluate("getComputedStyle(document.activeElement).outline")
        reached += "none" not in outline and "0px" not in outline
    assert reached == min(40, count)


def test_on_paper_all_is_open_light_and_without_controls(opened, page: Path):
    tab = opened(page)
    tab.emulate_media(media="print", color_scheme="dark")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details:not([open])").count() == 0
    assert not any(one.is_visible() for one in tab.locator("nav, .tools, [data-do=copy]").all())
    assert sum(map(int, tab.evaluate("getComputedStyle(document.body).color")[4:-1].split(", "))) < 384
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.locator("details:not([open])").count() > 0
    tab.emulate_media(media="null", color_scheme="null")
