"""The pages as a reader sees them: in Chromium, where it is installed."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on the path")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_is_readable_and_silent(browser, page: Path, width, scheme):
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(dialog.message))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert tab.title().startswith("Title <script>")
    for what in ("h1", ".headline strong", "svg.chart", ".tiles img", ".heat", "#layers table"):
        assert tab.locator(what).first.is_visible()
    # Wide things scroll in boxes of their own, never the page.
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    ground, ink = (
        tab.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color")
    )
    dark = [sum(map(int, text[4:-1].split(", "))) < 384 for text in (ground, ink)]
    assert dark == [scheme == "dark", scheme == "light"]
    names = tab.locator("svg.chart text").filter(has_text="alert(1)").first
    assert (sum(map(int, names.evaluate("e => getComputedStyle(e).fill")[4:-1].split(", "))) < 384) == (
        scheme == "light"
    )
    tab.close()


@pytest.mark.parametrize("which", ["page", "probe_page", "spectra_page"])
def test_no_page_is_wider_than_a_telephone_and_no_caption_runs_into_the_next(browser, request, which):
    tab = browser.new_page(viewport={"width": 390, "height": 900})
    tab.goto(request.getfixturevalue(which).as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    wide = "[...document.querySelectorAll('figcaption')].filter(e => e.scrollWidth > e.clientWidth).length"
    assert tab.evaluate(wide) == 0
    tab.close()


def test_a_name_that_turns_its_direction_turns_nothing_after_it(browser, page: Path):
    tab = browser.new_page(viewport={"width": 1400, "height": 900})
    tab.goto(page.as_uri())
    # Each letter of the text after the name stands to the right of the one before it.
    left = """() => {
        const names = [...document.querySelectorAll('.headline bdi')];
        const name = names.find(e => e.textContent.includes('\u202e'));
        const text = name.closest('p, li').querySelector('strong').firstChild;
        return [0, 1, 2].map(at => {
            const range = document.createRange();
            range.setStart(text, at);
            range.setEnd(text, at + 1);
            return range.getBoundingClientRect().left;
        });
    }"""
    places = tab.evaluate(left)
    assert places == sorted(places)
    assert len(set(places)) == 3
    tab.close()
