"""filterbands analyze: many models, images, a page, a table, and what must hold."""

import csv
import importlib.util
import json
import sys

import pytest
import torch
from safetensors.torch import save_file

from filterbands import load_model
from filterbands.cli import main
from filterbands.filters import response
from filterbands.models import describe, run_on


def _run(capsys, *words):
    code = main([str(word) for word in words])
    caught = capsys.readouterr()
    return code, caught.out, caught.err


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "kept"
    inside.mkdir()
    generator = torch.Generator().manual_seed(0)
    for step in (9, 10, 100):
        weight = torch.randn(8, 3, 3, 3, generator=generator)
        save_file({"conv1.weight": weight}, inside / f"iter_{step}.safetensors")
    return inside


@pytest.fixture
def network(tmp_path):
    torch.manual_seed(0)
    model = load_model(arch="fastnet")
    save_file(model.state_dict(), tmp_path / "net.safetensors", metadata=describe(model, arch="fastnet"))
    return tmp_path / "net.safetensors"


def test_a_folder_is_read_as_the_course_of_one_network(folder, capsys):
    code, out, _ = _run(capsys, "analyze", folder)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["step", "9", "10", "100"]
    _, out, _ = _run(capsys, "analyze", folder / "iter_1*", "--json")
    document = json.loads(out)
    assert [row["step"] for row in document["trajectory"]] == [10, 100]
    assert document["models"][0]["path"].endswith("iter_10.safetensors")
    code, out, _ = _run(capsys, "analyze", folder, "--require", "conv1.low_energy>0.99")
    assert code == 1
    assert out.count("does not hold") == 3


def test_a_table_has_a_row_a_model_and_layer(folder, tmp_path, capsys):
    for ending in ("csv", "json"):
        assert _run(capsys, "analyze", folder, "--table", tmp_path / f"t.{ending}")[0] == 0
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    again = json.loads((tmp_path / "t.json").read_text())
    assert [row["layer"] for row in rows] == ["conv1"] * 3
    assert [float(row["low_energy"]) for row in rows] == [row["low_energy"] for row in again]


def test_parquet_is_written_where_pyarrow_is(folder, tmp_path, capsys, monkeypatch):
    if importlib.util.find_spec("pyarrow"):
        assert _run(capsys, "analyze", folder, "--table", tmp_path / "t.parquet")[0] == 0
        assert (tmp_path / "t.parquet").read_bytes()[:4] == b"PAR1"
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = _run(capsys, "analyze", folder, "--table", tmp_path / "u.parquet")
    assert code == 2
    assert "needs the package pyarrow" in err


def test_images_give_the_response_and_the_gradient_of_a_known_network(network, tmp_path, capsys):
    words = ["analyze", network, "--data", "planted", "--limit", "40", "--json"]
    code, out, _ = _run(capsys, *words, "--html", tmp_path / "page.html")
    document = json.loads(out)
    assert code == 0
    assert 0 < document["layers"][0]["response_low_energy"] < 1
    assert document["input_gradient"]["images"] == 40
    assert document["effective_first_layer"]["name"] == "conv1 -> group1.conv1"
    page = (tmp_path / "page.html").read_text()
    for said in ("Input gradient", "Cumulative curve", "Orientation", "By definition", "group3.conv2"):
        assert said in page
    assert page.count("<script") == 1
    _, out, _ = _run(capsys, "analyze", network, "--json", "--fold-batch-norm")
    assert json.loads(out)["layers"][0]["batch_norm"] == "bn1"


def test_every_part_of_what_is_required_must_hold(network, capsys):
    both = "conv1.low_energy>0.1, group1.conv1.dead<1"
    assert _run(capsys, "analyze", network, "--require", both)[0] == 0
    code, out, _ = _run(capsys, "analyze", network, "--json", "--require", both)
    assert [entry["holds"] for entry in json.loads(out)["required"]] == [True, True]
    code, out, _ = _run(capsys, "analyze", network, "--json", "--require", "conv1.low_energy>0.99")
    (entry,) = json.loads(out)["required"]
    assert (code, entry["holds"], entry["condition"]) == (1, False, "conv1.low_energy>0.99")
    assert 0 < entry["value"] < 0.99
    code, out, _ = _run(capsys, "analyze", network, "--require", "conv1.low_energy>0.1,conv1.centroid<0.1")
    assert code == 1
    assert "does not hold: conv1.centroid<0.1" in out
    code, out, _ = _run(capsys, "analyze", network, "--require", "conv1.response_low_energy>0.1")
    assert code == 1
    assert "it needs --data" in out


@pytest.mark.slow
def test_a_run_tells_its_course(tmp_path, capsys):
    settings = ["--set", "epochs=1", "--set", "precision=float32", "--split", "test"]
    assert _run(capsys, "train", "standard", *settings, "--out", tmp_path / "run")[0] == 0
    _, out, _ = _run(capsys, "analyze", tmp_path / "run", "--json", "--layer", "conv1")
    document = json.loads(out)
    assert [row["step"] for row in document["trajectory"]] == [0, 1]
    last = document["trajectory"][-1]["mean_low_energy"]
    assert document["layers"][0]["mean_low_energy"] == pytest.approx(last, abs=1e-6)


def test_images_are_taken_so_many_at_a_time_as_said(capsys, monkeypatch):
    taken = set()

    def noted(model, images):
        taken.add(len(images))
        return run_on(model, images)

    monkeypatch.setattr(response, "run_on", noted)
    words = (
        "analyze",
        'filterbands:load_model(arch="fastnet")',
        "--data",
        "planted",
        "--limit",
        "60",
        "--json",
    )
    shares = []
    for more, sizes in (((), {60}), (("--batch-size", "7"), {7, 4})):
        torch.manual_seed(0)
        code, out, _ = _run(capsys, *words, *more)
        assert (code, taken) == (0, sizes)
        shares.append(json.loads(out)["layers"][0]["response_low_energy"])
        taken.clear()
    assert shares[1] == pytest.approx(shares[0], rel=1e-6)
    code, _, err = _run(capsys, *words[:2], "--batch-size", "7")
    assert (code, "--batch-size changes nothing without --data" in err) == (2, True)
