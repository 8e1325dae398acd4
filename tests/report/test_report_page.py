"""The written page: complete in itself, safe, true to the results."""

import base64
import dataclasses
import hashlib
import re
import sqlite3
from html.parser import HTMLParser
from pathlib import Path

import pytest

from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.models import load_model
from filterbands.report import page as written
from filterbands.report import write_report

SOURCE = Path(written.__file__).parent
LOADING = ("link", "iframe", "object", "embed", "base", "form", "video", "audio", "source")
POLICY = (
    "default-src 'none'; script-src 'sha256-{}'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)


class Reader(HTMLParser):
    """Keeps every tag with its attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def reader(page: Path) -> Reader:
    return Reader(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("which", ["page", "probe_page", "spectra_page"])
def test_every_page_may_run_the_one_script_and_nothing_else(request, which):
    text = request.getfixturevalue(which).read_text(encoding="utf-8")
    (script,) = re.findall(r"<script[^>]*>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policies = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policies == [POLICY.format(digest)]
    source = (SOURCE / "templates" / "explore.js").read_text()
    assert len(source.splitlines()) < 300
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|\beval\b|\bFunction\b|document\.write|fetch\(", source
    )


def test_the_page_loads_nothing(page, reader):
    assert not [tag for tag, _ in reader.tags if tag in LOADING]
    assert [attributes for tag, attributes in reader.tags if tag == "script"] == [{}]
    for _, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("src") or "data:image/png;base64,").startswith("data:image/png;base64,")
        assert (attributes.get("href") or "#").startswith("#")
        assert attributes.get("xlink:href") is None
    assert not re.search(r"url\(|@import", page.read_text(encoding="utf-8"))
    assert page.stat().st_size < written.LARGEST


def test_names_are_shown_as_they_are_and_never_as_markup(page, reader, results):
    text = page.read_text(encoding="utf-8")
    assert text.lower().count("<script") == 1
    assert "<b>" not in text
    assert "<i>" not in text
    for run in results.runs:
        assert run.name in reader.texts
        assert any(run.name in (svg.get("aria-label") or "") for svg in reader.of("svg"))


def test_markup_is_trusted_in_one_place_and_the_policy_stands_once():
    templates = "".join(file.read_text() for file in (SOURCE / "templates").iterdir())
    assert templates.count("default-src") == 1
    assert not re.search(r"\|\s*safe|autoescape", templates)
    marked = [file.name for file in SOURCE.glob("*.py") for _ in re.findall(r"\bMarkup\(", file.read_text())]
    assert marked == ["charts.py"]
    assert not [
        file.name for file in SOURCE.glob("*.py") if re.search(r"</\w|<(p|div|td)\b", file.read_text())
    ]


def test_every_picture_and_chart_says_what_it_is_and_every_table_has_headers(reader):
    assert all(image.get("alt") for image in reader.of("img"))
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in reader.of("svg"))
    assert all(header.get("scope") for header in reader.of("th"))
    scrolling = [box for box in reader.of("div") if box.get("class") == "scroll"]
    assert scrolling
    assert all(box.get("tabindex") == "0" and box.get("aria-label") for box in scrolling)


def test_the_figures_are_those_of_the_scores(reader, results):
    text = "".join(reader.texts).replace("\N{NO-BREAK SPACE}", " ")
    for scores in results.scores:
        average, clean = scores.average_at_hand(), scores.clean_estimate()
        for estimate in (average, clean):
            low, high = estimate.ci95
            ends = f"({100 * low:.1f} to {100 * high:.1f})"
            assert f"{100 * estimate.accuracy:.1f} %  {ends}" in text


def test_an_average_over_fewer_kinds_is_called_by_their_number_and_lists_them(reader):
    text = "".join(reader.texts)
    assert "Average over the 3 kinds at hand at severities 1, 5: gaussian noise, fog and contrast." in text
    assert "over the 15" not in text


def test_what_was_run_is_all_there(reader):
    text = "".join(reader.texts)
    for said in ("0123456789ab-dirty", "f1" * 32, "share.low", "data.fingerprint", "precision", "seed"):
        assert said in text


def test_filters_are_sorted_by_low_energy_and_dead_ones_come_last(page):
    for card in page.read_text(encoding="utf-8").split('<ul class="tiles">')[1:]:
        energies = re.findall(r'<span class="rho">([\d.]+)( dead)?</span>', card.partition("</ul>")[0])
        live = [float(energy) for energy, dead in energies if not dead]
        assert len(energies) == 24
        assert [bool(dead) for _, dead in energies] == [False] * 23 + [True]
        assert live == sorted(live, reverse=True)


def test_the_same_results_give_the_same_bytes(results, images, page, tmp_path):
    again = write_report(
        [*results.runs, results.database], tmp_path / "a.html", title="Title <script>alert(1)<", data=images
    )
    assert again.read_bytes() == page.read_bytes()


def test_it_is_written_whole_or_not_at_all(results, tmp_path, monkeypatch):
    out = tmp_path / "report.html"
    out.write_text("before")
    monkeypatch.setattr(written, "LARGEST", 1000)
    with pytest.raises(ValueError, match=r"of 1 sources would have 0\.\d MB, .* fewer sources"):
        write_report([results.runs[0]], out)
    assert out.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_missing_folder_is_an_error_and_is_not_made(results, tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere; create it first"):
        write_report([results.database], tmp_path / "nowhere" / "report.html")
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_source_is_refused_in_one_line(results, tmp_path):
    out = tmp_path / "report.html"
    text, other, empty = tmp_path / "notes.txt", tmp_path / "other.db", tmp_path / "empty"
    empty.mkdir()
    text.write_text("nothing")
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    for sources, kind, said in (
        ([], ValueError, "a report needs at least one source: a Run folder, .* got none"),
        ([tmp_path / "missing"], FileNotFoundError, "no such source of a report: .*missing"),
        ([text], ValueError, "notes.txt is none of a Run folder, .*: expected safetensors"),
        ([other], ValueError, "other.db is not a database of results"),
        ([empty], ValueError, "empty is no source of a report: it holds none of a Run folder"),
    ):
        with pytest.raises(kind, match=said) as caught:
            write_report(sources, out)
        assert "\n" not in str(caught.value)
    assert not out.exists()


def test_the_answer_stands_first_with_its_figures(results, page):
    text = page.read_text(encoding="utf-8").partition('class="headline">')[2].partition("</p>")[0]
    said = re.sub(r"<[^>]+>", "", text).replace("&nbsp;", " ").replace("\N{NO-BREAK SPACE}", " ")
    others = [results.scores[0], results.scores[2]]
    best = max(others, key=lambda scores: scores.average_at_hand().accuracy)
    average = best.average_at_hand().accuracy
    gain = 100 * (average - results.scores[1].average_at_hand().accuracy)
    assert f"is correct on {100 * average:.1f} % of corrupted images (average over the 3 kinds" in said
    size = f"{abs(gain):.1f}"
    assert (f"{size} points {'more' if gain > 0 else 'less'}" if size != "0.0" else "the same (95 %") in said
    assert f"On clean images it is correct on {100 * best.clean_estimate().accuracy:.1f} %" in said
    assert "The mean low energy of its first layer is" in said


def test_networks_of_two_data_sets_have_a_table_each(results, images, tmp_path):
    other = dataclasses.replace(images, name="other", images=images.images.flip(0))
    database = tmp_path / "other.db"
    config = EvaluateConfig(name="theirs", kinds=("fog",), severities=(1,))
    evaluate(load_model(arch="fastnet").eval(), other, config=config, db=database)
    page = write_report([results.database, database], tmp_path / "report.html").read_text()
    assert 'aria-label="The networks at a glance: noise &lt;b&gt;"' in page
    assert 'aria-label="The networks at a glance: other"' in page
