"""From a trained run and a database to the pages: their figures are those that the rooms below give."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from filterbands.datasets import ImageSet, load_data
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.filters import ModelSpectrum, analyze
from filterbands.models import load_model
from filterbands.probes import ProbeConfig, corruption_spectra, fourier_heatmap, pass_curves
from filterbands.report import Analyzed, Probed, write_probe_page, write_report, write_spectra
from filterbands.run import Run
from filterbands.scores import Scores
from filterbands.training import RECIPES, train

KINDS = ("gaussian_noise", "contrast")
DASH, SPACE = "\N{EN DASH}", "\N{NO-BREAK SPACE}"


class Tables(HTMLParser):
    """Keeps the cells of every table, as lists of texts, by the label of the table."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.rows: dict[str, list[list[list[str]]]] = {}
        self.name, self.inside = "", False
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "div" and dict(attrs).get("role") == "region":
            self.name = str(dict(attrs)["aria-label"])
            self.rows[self.name] = []
        elif tag == "tr":
            self.rows[self.name].append([])
        elif tag in ("td", "th"):
            self.rows[self.name][-1].append([])
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside and data.strip(f" \n{SPACE}\N{BLACK CIRCLE}"):
            self.rows[self.name][-1][-1].append(data.replace(SPACE, " ").strip())

    def row(self, table: str, first: str) -> list[list[str]]:
        """Return the other cells of the row whose first cell says this."""
        (found,) = [row[1:] for row in self.rows[table] if row[0] and row[0][-1] == first]
        return found


class Results(NamedTuple):
    run: Run
    data: ImageSet
    database: Path
    scores: Scores
    spectrum: ModelSpectrum


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("results")
    images = load_data("planted", split="validation").subset(torch.arange(960))
    np.savez(folder / "few.npz", images=images.images.numpy(), labels=images.labels.numpy())
    config = replace(RECIPES["standard"](), data=f"npz:{folder / 'few.npz'}", epochs=1, batch_size=32)
    run = train(replace(config, learning_rate=0.1, precision="float32"), folder / "trained")
    data = load_data("planted").subset(torch.arange(60))
    model = load_model(run.folder)
    scores = evaluate(
        model,
        data,
        config=EvaluateConfig(name=run.name, kinds=KINDS, severities=(1, 3)),
        db=folder / "results.db",
    )
    return Results(run, data, folder / "results.db", scores, analyze(model))


def percent(share: float | None, digits: int = 1) -> str:
    return DASH if share is None else f"{100 * share:.{digits}f} %"


def number(value: float | None, digits: int = 3) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def with_ends(found: dict[str, object], digits: int = 1) -> list[str]:
    low, high = (f"{100 * end:.{digits}f}" for end in found["ci95"])
    return [percent(found["accuracy"], digits), f"{low} to {high}"]


def test_the_report_shows_the_warnings_of_the_scores(results: Results, tmp_path: Path) -> None:
    model, one_class = load_model(results.run.folder), results.data.labels == results.data.labels[0]
    data = results.data.subset(one_class.nonzero().flatten())
    config = EvaluateConfig(name="alone", kinds=())
    [warning] = evaluate(model, data, config=config, db=tmp_path / "r.db").warnings
    page = write_report([tmp_path / "r.db"], tmp_path / "report.html").read_text()
    assert f"warning: <bdi>{warning}</bdi>." in page


def test_the_report_has_the_figures_of_the_scores_and_of_analyze(results: Results, tmp_path: Path) -> None:
    page = write_report([results.run.folder, results.database], tmp_path / "report.html")
    tables, document = Tables(page), results.scores.to_json()
    assert 0.0 < document["clean"]["accuracy"] < 1.0
    glance = tables.row("The networks at a glance", results.run.name)
    first = results.spectrum["conv1"]
    assert glance[:2] == [with_ends(document["clean"]), with_ends(document["average_at_hand"])]
    assert glance[2:4] == [[number(first.mean_low_energy)], [percent(first.low_share)]]
    heat = f"Accuracy in percent of {results.run.name}, by kind and severity"
    for kind, row in document["kinds"].items():
        measured = [share for share in row if share is not None]
        assert len(measured) == 2
        cells = [[DASH if share is None else f"{100 * share:.0f}"] for share in row]
        mean = [f"{100 * sum(measured) / len(measured):.1f}"]
        assert tables.row(heat, kind.replace("_", " ")) == [*cells, mean]
    layers = tables.rows[f"Convolutions of {results.run.name}"]
    assert [row[0][0] for row in layers[1:]] == [layer.name for layer in results.spectrum]
    for layer, row in zip(results.spectrum, layers[1:], strict=True):
        said = dict(zip((cell[0] for cell in layers[0]), (cell[0] for cell in row), strict=True))
        assert said["Low share"] == percent(layer.low_share)
        assert said["Low energy"] == number(layer.low_energy)
        assert said["Mean low energy"] == number(layer.mean_low_energy)
        assert said["Centroid"] == number(layer.centroid)
    text = page.read_text(encoding="utf-8")
    for recorded in ("npz:few", str(results.run.read()["data"]["fingerprint"]), results.scores.data):
        assert recorded in text


def test_the_page_of_analyze_has_the_same_figures_as_the_report(results: Results, tmp_path: Path) -> None:
    out = tmp_path / "analyze.html"
    page = write_spectra([Analyzed(path=results.run.name, spectrum=results.spectrum)], out)
    mine = Tables(page).rows[f"Convolutions of {results.run.name}"]
    report = write_report([results.run.folder], tmp_path / "report.html")
    theirs = Tables(report).rows[f"Convolutions of {results.run.name}"]
    columns = [mine[0].index(head) for head in theirs[0]]
    assert [[row[column] for column in columns] for row in mine] == theirs


def test_the_probe_page_has_the_figures_of_the_probes_and_of_the_scores(
    results: Results, tmp_path: Path
) -> None:
    model = load_model(results.run.folder)
    heat = fourier_heatmap(model, results.data, norm=0.5, limit=40, config=ProbeConfig(radius=0.15))
    passes = pass_curves(model, results.data, limit=40)
    added = corruption_spectra(results.data, kinds=KINDS, severities=[3], limit=10)
    probed = Probed(
        name=results.run.name,
        heatmap=heat,
        passes=passes,
        layer=results.spectrum["conv1"],
        scores=results.scores,
    )
    tables = Tables(write_probe_page([probed], tmp_path / "probe.html", corruptions=added))
    document, known = heat.to_json(), passes.to_json()
    assert 0.0 < document["clean_error"] < 1.0
    assert tables.row("Mean error by radius", "no perturbation") == [[percent(document["clean_error"])]]
    assert tables.row("Mean error by radius", "0 to 0.1") == [[percent(heat.mean_error(0.0, 0.1))]]
    clean, _, _, phases, amplitudes = tables.row("Pass curves", results.run.name)
    assert [clean, phases, amplitudes] == [
        [percent(known[key])] for key in ("clean", "phase_only", "amplitude_only")
    ]
    for kind, row in results.scores.to_json()["kinds"].items():
        measured = [share for share in row if share is not None]
        expected = [[number(added.low_energy(kind))], [percent(sum(measured) / len(measured))]]
        assert tables.row("Accuracy by kind, ordered by frequency", kind.replace("_", " ")) == expected
