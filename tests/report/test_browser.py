"""The pages as a reader sees them: in Chromium, where it is installed."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from filterbands.datasets import ImageSet
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.filters import analyze
from filterbands.models import load_model
from filterbands.report import Analyzed, Probed, write_probe_page, write_report, write_spectra


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


@pytest.mark.parametrize(
    "which", ["page", *(pytest.param(one, marks=pytest.mark.slow) for one in ("probe_page", "spectra_page"))]
)
def test_no_page_is_wider_than_a_telephone_and_no_caption_runs_into_the_next(browser, request, which):
    tab = browser.new_page(viewport={"width": 390, "height": 900})
    tab.goto(request.getfixturevalue(which).as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    wide = "[...document.querySelectorAll('figcaption')].filter(e => e.scrollWidth > e.clientWidth).length"
    assert tab.evaluate(wide) == 0
    tab.close()


HOSTILE = (
    "</title></style></script><script>alert(1)</script><img src=x onerror=alert(2)>",
    '"]}\';alert(3)//\' onclick="alert(4)" {{ 1 + 1 }} ${1 + 1}',
    "one\nline\rand\tanother\x00",
    "right\u202eleft\u2066open",
    "long" * 2500,
    "no" + "\u0301" * 300 + " " * 50 + "=1+1",
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of all kinds on networks, layers, classes and data with such names."""
    folder = tmp_path_factory.mktemp("hostile")
    generator = torch.Generator().manual_seed(0)
    data = ImageSet(
        name=HOSTILE[0],
        split="test",
        images=torch.randint(0, 256, (12, 3, 16, 16), generator=generator, dtype=torch.uint8),
        labels=torch.arange(12) % 10,
        classes=tuple((*HOSTILE, *HOSTILE)[n] + str(n) for n in range(10)),
        index=torch.arange(12),
    )
    probed, found = [], []
    for seed, name in enumerate(HOSTILE):
        torch.manual_seed(seed)
        model = load_model(arch="fastnet")
        config = EvaluateConfig(name=name, kinds=("fog", "contrast"), severities=(3,))
        scores = evaluate(model, data, config=config, db=folder / "results.db")
        spectrum = analyze(nn.ModuleDict({"x": nn.Conv2d(3, 4, 3)}))
        probed.append(Probed(name=name, layer=next(iter(spectrum)), scores=scores))
        layers = {f"{name[:2000]}{seed}".replace(".", ""): nn.Conv2d(3, 4, 3)}
        found.append(Analyzed(path=name, spectrum=analyze(nn.ModuleDict(layers))))
    return {
        "report": write_report([folder / "results.db"], folder / "report.html", title=HOSTILE[4], data=data),
        "probe": write_probe_page(probed, folder / "probe.html", title=HOSTILE[0]),
        "analyze": write_spectra(found, folder / "analyze.html", title=HOSTILE[2]),
    }


@pytest.mark.parametrize("which", ["report", "probe", "analyze"])
def test_names_run_nothing_are_shown_as_they_are_and_widen_no_page(browser, hostile, which):
    said: list[str] = []
    tab = browser.new_page(viewport={"width": 390, "height": 900})
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(dialog.message))
    tab.goto(hostile[which].as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    for width in (390, 1300):
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.evaluate("document.documentElement.scrollWidth") == width
    text = tab.evaluate("document.body.textContent")
    for name in (*HOSTILE[:2], "one\u240aline\u240dand\u2409another\u2400", HOSTILE[3], "long" * 18):
        assert name in text
    assert len(tab.locator("legend, .legend li").first.inner_text()) < 120
    if which == "report":
        assert HOSTILE[4] in text
        tab.locator("main [data-do=kind]").first.click()
        assert tab.evaluate("document.documentElement.scrollWidth") == 1300
        assert tab.evaluate(
            "document.querySelector('dialog').scrollWidth <= document.querySelector('dialog').clientWidth"
        )
    for button in tab.locator("[data-do=copy]").all()[:3]:
        button.dispatch_event("click")
    tab.evaluate("document.querySelectorAll('[data-do=sort], [data-do=network]').forEach(one => one.click())")
    assert said == []
    assert tab.locator("script").count() == 1
    assert tab.locator("img[src=x]").count() == 0
    tab.close()


def test_wide_tables_scroll_and_show_that_they_do(browser, page: Path):
    tab = browser.new_page(viewport={"width": 390, "height": 900})
    tab.goto(page.as_uri())
    box = tab.locator("#glance .scroll")
    assert box.evaluate("e => e.scrollWidth > e.clientWidth")
    box.scroll_into_view_if_needed()
    place = box.bounding_box()
    strip = {"x": place["x"] + place["width"] - 6, "y": place["y"] + 4, "width": 6, "height": 4}

    def shade() -> float:
        # Nothing of the table is in the corner: what is drawn there is the shadow alone.
        return float(np.asarray(Image.open(io.BytesIO(tab.screenshot(clip=strip))).convert("L")).mean())

    more = shade()
    box.evaluate("e => { e.scrollLeft = e.scrollWidth; }")
    assert more < shade() - 5
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
