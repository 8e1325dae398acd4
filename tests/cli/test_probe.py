"""`filterbands probe`: one document, kept parts, a page."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from filterbands.cli import main
from filterbands.datasets import load_data
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.models import describe, load_model


@pytest.fixture
def network(tmp_path: Path) -> str:
    torch.manual_seed(0)
    model = load_model(arch="fastnet")
    file = tmp_path / "net.safetensors"
    save_file(dict(model.state_dict()), file, metadata=describe(model, arch="fastnet"))
    return str(file)


def test_probe_gives_one_document_and_goes_on_from_the_database(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "probe",
        network,
        "--data",
        "planted",
        "--limit",
        "1",
        "--norm",
        "3",
        "--db",
        str(tmp_path / "r.db"),
        "--json",
    ]
    assert main([*words, "--only", "heatmap,passes,gradient,vulnerability"]) == 0
    caught = capsys.readouterr()
    document = json.loads(caught.out)
    assert caught.err == ""
    assert document["heatmap"]["norm"] == 3
    assert len(document["heatmap"]["error"]) == 33
    assert document["corruptions"] is None
    assert len(document["passes"]["curves"]["band_gaussian"]) == 16
    assert 0 <= document["gradient"]["low_energy"] <= 1
    assert len(document["vulnerability"]["kinds"]) == 19
    assert main([*words, "--only", "heatmap,passes,gradient,vulnerability"]) == 0
    assert json.loads(capsys.readouterr().out) == document


def test_two_networks_stand_on_one_page(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "p.html"
    words = ["probe", network, network, "--data", "planted", "--limit", "2", "--only", "gradient"]
    assert main([*words, "--html", str(page), "--db", str(tmp_path / "r.db")]) == 0
    assert str(page) in capsys.readouterr().out
    assert page.read_text().startswith("<!doctype html>")
    assert main([*words, "--only", "heatmap", "--layer", "conv9", "--db", str(tmp_path / "r.db")]) == 2
    assert "no module 'conv9'" in capsys.readouterr().err


def test_a_bounded_map_is_told_as_such_in_words_and_on_the_page(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "p.html"
    words = [
        "probe",
        network,
        "--data",
        "planted",
        "--limit",
        "1",
        "--only",
        "heatmap",
        "--db",
        str(tmp_path / "r.db"),
    ]
    assert main([*words, "--step", "4", "--radius", "0.35", "--html", str(page)]) == 0
    out = capsys.readouterr().out
    assert "21 of 1,024 frequencies measured" in out
    assert "radius 0.40 to 0.50  not measured  (0 of " in out
    text = page.read_text()
    assert "21 of 1,024 frequencies measured" in text
    assert "not measured" in text
    assert main([*words, "--radius", "2"]) == 2
    assert "--radius needs cycles per pixel above 0 and up to 1, got 2" in capsys.readouterr().err


def test_a_page_has_accuracies_of_the_probed_data_and_seed_alone(
    network: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page, db = tmp_path / "p.html", str(tmp_path / "r.db")
    more = EvaluateConfig(kinds=("fog", "contrast"), severities=(3,), seed=7)
    evaluate(network, load_data("planted:seed=1", limit=8), config=more, db=db)
    words = ["probe", network, "--data", "planted", "--limit", "2", "--only", "corruptions", "--db", db]
    words += ["--html", str(page)]
    assert main(words) == 0
    assert "r.db has no accuracies of net.safetensors under the probed corruptions (planted" in caplog.text
    assert "there are those on planted:seed=1 (test), seed 7, constants cifar" in caplog.text
    caplog.clear()
    assert "Accuracies were measured" not in page.read_text()
    # The others are of more images and kinds.
    evaluate(network, load_data("planted", limit=4), config=replace(more, kinds=("fog",), seed=0), db=db)
    assert main(words) == 0
    assert "accuracies" not in caplog.text
    text = re.sub(r"<[^>]+>", "", page.read_text().partition("Accuracies were measured")[2])
    assert text.startswith(" on data planted &middot; split test &middot; images 4 ")
