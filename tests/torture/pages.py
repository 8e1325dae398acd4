"""Hostile names of networks and folders in reports, opened in Chromium; nothing where it is missing."""

import json
import random
import shutil
from collections.abc import Generator
from pathlib import Path

from .running import command, fault
from .stock import Stock

CHROMIUM = Path("/usr/bin/chromium")
NAMES = (
    "<script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    "</title></style></svg><svg onload=window.hit=1>",
    '" onmouseover="window.hit=1" x="',
    "javascript:window.hit=1",
    "{{ 7*7 }}{% raw %}{{datum}}",
    "]]><!--",
    "&lt;b&gt;&#x202e;",
    "\U0001f600" * 20,
    "\U0001f469\u200d\U0001f4bb" * 9,
    "\u202eevil\u2066",
    "\x1b[31m\x07",
    "a" * 10_000,
    "\u0301" * 200,
    "=1+1",
    "__proto__",
    "\u0000",
)


def attack(stock: Stock, work: Path, seed: int, tries: int) -> Generator[str, None, None]:
    """Yield what is wrong with each page, or nothing."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return
    if not CHROMIUM.exists():
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        try:
            for number in range(tries):
                rng, place = random.Random(f"{seed} {number}"), work / f"{number:05d}"
                place.mkdir()
                names = [NAMES[(number + seed) % len(NAMES)], "".join(rng.sample(NAMES[:10], 2))]
                yield _page(names, stock, place, browser)
        finally:
            browser.close()


def _page(names: list[str], stock: Stock, place: Path, browser: object) -> str:
    sources = [place / "a", place / "b"]
    for source, name in zip(sources, names, strict=True):
        shutil.copytree(stock.run, source)
        facts = json.loads((source / "run.json").read_text())
        facts["config"]["recipe"] = facts["data"]["name"] = name
        (source / "run.json").write_text(json.dumps(facts))
    words = ["evaluate", str(sources[0]), "--data", f"npz:{stock.images}", "--kinds", "none"]
    plain = names[0].replace("\0", "")
    first = command(*words, "--db", str(place / "r.db"), "--name", plain, folder=place)
    page = place / "r.html"
    second = command("report", *map(str, sources), str(place / "r.db"), "--out", str(page), folder=place)
    if told := fault(first) or fault(second):
        return f"{names[0][:60]!r}: {told}"
    if second.code:
        return f"{names[0][:60]!r}: exit {second.code}: {second.err[-300:]}"
    context = browser.new_context(viewport={"width": 1000, "height": 800})  # type: ignore[attr-defined]
    opened, faults = context.new_page(), []
    opened.on("dialog", lambda _: faults.append("a dialog"))
    opened.on("pageerror", lambda error: faults.append(f"an error: {error}"))
    opened.on("request", lambda one: one.url.startswith(("file:", "data:")) or faults.append(one.url))
    opened.goto(page.as_uri())
    if opened.evaluate("window.hit === 1"):
        faults.append("a script was run")
    if opened.evaluate("document.documentElement.scrollWidth > 1000"):
        faults.append("the page is wider than the window")
    context.close()
    return f"{names[0][:60]!r}: {', '.join(faults)}" if faults else ""
