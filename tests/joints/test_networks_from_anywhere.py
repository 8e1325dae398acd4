"""Networks that were not trained here: from files, databases and probes to one page."""

import json
import logging
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from filterbands.cli.main import main
from filterbands.datasets import load_data
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.filters import Analyzed, analyze, steps_of_training
from filterbands.filters import course_of_all as course
from filterbands.models import describe, load_model, read_weights
from filterbands.probes import ProbeConfig, corruption_spectra, fourier_heatmap, pass_curves
from filterbands.report import write_report, write_spectra
from filterbands.report.gather import gather
from filterbands.run import Run

_FEW = ProbeConfig(radius=0.05)


@pytest.fixture(scope="module")
def data():
    return load_data("planted").subset(torch.arange(20))


@pytest.fixture
def known(tmp_path):
    """Return the file of a network that says which one it is."""
    torch.manual_seed(0)
    model = load_model(arch="fastnet")
    run = Run(tmp_path)
    run.write_weights(model.state_dict(), describe(model, arch="fastnet"))
    return run.weights.rename(tmp_path / "known.safetensors")


def test_everything_about_a_file_is_on_one_page(known, data, tmp_path):
    db, model = tmp_path / "r.db", load_model(known)
    evaluate(model, data, config=EvaluateConfig(name="theirs", kinds=("fog",), severities=(1,)), db=db)
    heat = fourier_heatmap(model, data, norm=2.0, config=ProbeConfig(radius=0.1), db=db)
    pass_curves(model, data, limit=4, db=db)
    corruption_spectra(data, kinds=["fog"], severities=[3], db=db)
    report = gather([known, db], title="")
    (entry,) = report.entries
    assert entry.name == "known.safetensors"
    assert len(entry.scores) == 1
    assert [type(one.found).__name__ for one in entry.probed] == ["HeatMap", "PassCurves"]
    page = write_report([known, db], tmp_path / "report.html").read_text()
    for anchor in ("accuracy", "filters", "sensitivity", "passes", "corruptions", "layers", "provenance"):
        assert f'<section id="{anchor}"' in page
        assert f'href="#{anchor}"' in page
    assert 'id="training"' not in page
    # A ring of the heat map tells which kinds live there.
    assert re.search(r'data-kind="fog"[^>]* data-shares="', page)
    assert "Measured on data <bdi>planted</bdi> &middot; split <bdi>test</bdi> &middot; images" in page
    assert f"{100 * heat.mean_error(0.0, 0.1):.1f}" in page
    # The database alone has what was evaluated and probed.
    alone = write_report([db], tmp_path / "alone.html").read_text()
    assert 'id="passes"' in alone
    assert 'id="filters"' not in alone


def test_a_network_of_others_has_its_results_whatever_the_size_of_its_images(tmp_path, monkeypatch):
    (tmp_path / "theirs_48.py").write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        torch.manual_seed(0)\n"
        "        self.conv = torch.nn.Conv2d(3, 10, 5)\n"
        "    def forward(self, x):\n        return self.conv(x).mean(dim=(2, 3))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    images, labels = torch.randint(0, 256, (6, 3, 48, 48), dtype=torch.uint8), torch.arange(6)
    config = EvaluateConfig(kinds=("contrast",), severities=(1,))
    evaluate("theirs_48:Net", (images, labels), config=config, db="r.db")
    (entry,) = gather(["theirs_48:Net", "r.db"], title="").entries
    assert len(entry.scores) == 1
    assert entry.filters is not None
    # So does one whose name in the database is another, if it was probed at that size.
    fourier_heatmap(load_model("theirs_48:Net"), (images, labels), norm=1.0, config=_FEW, db="p.db")
    evaluate(load_model("theirs_48:Net"), (images, labels), config=replace(config, name="x"), db="p.db")
    (entry,) = gather(["theirs_48:Net", "p.db"], title="").entries
    assert len(entry.scores) == len(entry.probed) == 1


def test_tensors_without_an_architecture_get_results_by_their_name_and_that_is_said(
    known, data, tmp_path, caplog
):
    file, db = tmp_path / "mine.pth", tmp_path / "r.db"
    torch.save({"state_dict": read_weights(known)}, file)
    config = EvaluateConfig(name="mine.pth", kinds=())
    evaluate(load_model(file, arch="fastnet"), data, config=config, db=db)
    with caplog.at_level(logging.WARNING):
        (entry,) = gather([file, db], title="").entries
    assert len(entry.scores) == 1
    assert entry.spectrum is not None
    assert entry.file["architecture"] == "not in the file: read as plain tensors"
    assert "mine.pth does not say which network it is: results of the name mine.pth" in caplog.text
    # Two networks of that name: which one is it?
    evaluate(load_model(arch="fastnet").eval(), data, config=config, db=db)
    with pytest.raises(ValueError, match=r"hold 2 networks of the name mine\.pth"):
        gather([file, db], title="")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_onnx_file_meets_its_scores_and_has_no_filters(data, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)).eval()
    file, db = tmp_path / "net.onnx", tmp_path / "r.db"
    torch.onnx.export(model, (torch.zeros(1, 3, 32, 32),), str(file), dynamo=False)
    evaluate(load_model(file), data, config=EvaluateConfig(name="onnx", kinds=()), db=db)
    (entry,) = gather([file, db], title="").entries
    assert (entry.name, len(entry.scores), entry.spectrum) == ("net.onnx", 1, None)


def test_a_folder_stands_for_all_that_is_in_it_and_what_is_no_network_is_said(known, tmp_path, caplog):
    torch.save({"labels": torch.arange(3)}, tmp_path / "labels.pt")
    (tmp_path / "notes.txt").write_text("nothing")
    with caplog.at_level(logging.WARNING):
        report = gather([tmp_path], title="")
    assert [entry.name for entry in report.entries] == ["known.safetensors"]
    assert "labels.pt is left out" in caplog.text
    with pytest.raises(ValueError, match=r"labels\.pt: there is no convolution here"):
        gather([tmp_path / "labels.pt"], title="")


def test_checkpoints_of_one_training_are_one_network_with_its_course(known, tmp_path, caplog):
    folder = tmp_path / "kept"
    folder.mkdir()
    for step in (1, 5, 20):
        torch.save(read_weights(known), folder / f"epoch_{step}.pt")
    with caplog.at_level(logging.WARNING):
        (entry,) = gather([folder], title="").entries
    assert entry.name == "epoch_20.pt"
    assert [record.epoch for record in entry.log] == [1, 5, 20]
    assert "3 checkpoints are shown as one training, steps 1 to 20" in caplog.text


def analyzed(*files):
    return [Analyzed(path=str(file), spectrum=analyze(file)) for file in files]


def test_two_files_are_two_networks_unless_their_names_are_steps(known, tmp_path, capsys, caplog):
    for name in ("a.pt", "b.pt", "seed_0.pt", "seed_1.pt", "ckpt_1.pt", "ckpt_20.pt"):
        torch.save(read_weights(known), tmp_path / name)
    for names in (("a.pt", "b.pt"), ("seed_0.pt", "seed_1.pt"), ("a.pt", "ckpt_1.pt")):
        assert course(analyzed(*(tmp_path / name for name in names))) is None
    found = course(analyzed(tmp_path / "ckpt_20.pt", tmp_path / "ckpt_1.pt"))
    assert found is not None
    assert [step for step, _ in found.series("conv1")] == [1, 20]
    page = tmp_path / "page.html"
    for names, is_course in ((("a.pt", "b.pt"), False), (("ckpt_1.pt", "ckpt_20.pt"), True)):
        words = [str(tmp_path / name) for name in names]
        caplog.clear()
        assert main(["analyze", *words, "--html", str(page), "--json"]) == 0
        out, _ = capsys.readouterr()
        assert ("trajectory" in json.loads(out)) == is_course
        assert ("Over training" in page.read_text()) == is_course
        # Networks are called by the ends of their paths.
        assert f"<bdi>{names[0]}</bdi>" in page.read_text()
        assert ("2 checkpoints are shown as steps 1 to 20 of one training" in caplog.text) == is_course


def test_runs_side_by_side_are_networks_and_the_files_of_one_run_are_steps(tmp_path):
    for name in ("standard-0", "standard-1"):
        (tmp_path / name).mkdir()
        run = Run(tmp_path / name)
        run.write({"config": {"epochs": 30}})
        for file in (run.weights_at(10), run.weights_at(20), run.weights):
            file.write_bytes(b"")
    assert steps_of_training([tmp_path / "standard-0", tmp_path / "standard-1"]) == {}
    assert sorted(steps_of_training([run.weights, *run.kept])) == [10, 20, 30]
    other = Run(tmp_path / "standard-0")
    assert steps_of_training([run.weights, other.weights]) == {}


def test_every_page_says_its_data_split_precision_and_images(known, data, tmp_path):
    db, model = tmp_path / "r.db", load_model(known)
    evaluate(model, data, config=EvaluateConfig(kinds=()), db=db)
    report = write_report([known, db], tmp_path / "report.html").read_text()
    page = write_spectra(analyzed(known), tmp_path / "spectra.html", data=data).read_text()
    for text in (report, page):
        head = text.partition("<main")[0]
        for said in ("data <bdi>planted", "split <bdi>test", "images <bdi>20<", "precision <bdi>float32"):
            assert said in head
    alone = write_spectra(analyzed(known), tmp_path / "spectra.html").read_text()
    assert "The weights alone were read: no images were used." in alone
    alone = write_report([known], tmp_path / "report.html").read_text()
    assert "The weights alone were read: no images were used." in alone
