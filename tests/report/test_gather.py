"""Sources found, read and put together."""

import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from filterbands.corruptions import kinds_of
from filterbands.evaluation import EvaluateConfig, Store, evaluate, score_predictions
from filterbands.filters import analyze
from filterbands.models import describe, load_model
from filterbands.report import Analyzed
from filterbands.report.accuracy import comparisons
from filterbands.report.first_layer import first_layers
from filterbands.report.gather import gather
from filterbands.report.report_page import render_report
from filterbands.report.scored import averages_of
from filterbands.report.text import number
from filterbands.run import Run
from filterbands.scores import BENCHMARK_15, EXTRA_4, compare


def test_runs_meet_their_scores_by_their_weights_whatever_the_names(results, tmp_path):
    renamed = shutil.copytree(results.runs[0], tmp_path / "renamed")
    report = gather([renamed, results.database], title="")
    assert report.entries[0].name == "renamed"
    assert len(report.entries) == 3
    assert all(len(entry.scores) == 1 for entry in report.entries)
    assert [entry.run is not None for entry in report.entries] == [True, False, False]


def test_a_network_that_is_named_twice_keeps_its_first_place(results):
    last = results.runs[-1]
    report = gather([last, *results.runs, results.database], title="")
    assert [entry.name for entry in report.entries] == [last.name, *(run.name for run in results.runs[:-1])]


def test_results_of_another_network_of_the_same_name_stay_apart(results, tmp_path):
    folder = shutil.copytree(results.runs[1], tmp_path / "plain")
    model = load_model(folder)
    model.get_submodule("conv1").weight.data.mul_(2)
    Run(folder).write_weights(model.state_dict(), describe(model, arch="fastnet"))
    report = gather([folder, results.database], title="")
    mine = report.entries[0]
    assert mine.run is not None
    assert mine.scores == ()
    names = [entry.name for entry in report.entries]
    assert len(names) == len(set(names)) == 4
    assert all(name.startswith("plain (") for name in (names[0], names[2]))


def test_the_reference_is_the_standard_recipe_and_differences_to_it_are_paired(results):
    report = gather([*results.runs, results.database], title="")
    assert [recipe.standard for recipe in report.recipes] == [False, True, False]
    assert comparisons(report)[0].rows[0].recipe.name == "plain"
    for entry, scores in zip(report.entries, results.scores, strict=True):
        (view,) = entry.scores
        clean, corrupted = view.gains
        if entry.name == "plain":
            assert clean is corrupted is None
            continue
        expected = compare(scores, results.scores[1], list(scores.kinds))
        assert corrupted is not None
        assert corrupted.value == expected.difference
        assert (corrupted.low, corrupted.high) == expected.ci95


def test_scores_under_other_conditions_are_not_compared(results, images, tmp_path):
    database = tmp_path / "other.db"
    config = EvaluateConfig(name="plain", kinds=("fog",), severities=(1,), seed=7)
    evaluate(load_model(results.runs[1]), images, config=config, db=database)
    report = gather([*results.runs, results.database, database], title="")
    text = render_report(report)
    assert len(report.entries[1].scores) == 2
    assert text.count("Measured on") == 2
    assert "the one kind at hand at severity 1" in text


def test_kinds_that_lack_a_severity_leave_no_average_and_stay_out_of_the_means(results, images, tmp_path):
    database = tmp_path / "partial.db"
    model = load_model(results.runs[1])
    for kinds, severities in ((("fog", "contrast"), (1, 2)), (("pixelate",), (1,))):
        config = EvaluateConfig(name="plain", kinds=kinds, severities=severities)
        evaluate(model, images, config=config, db=database)
    report = gather([database], title="")
    (score,) = report.entries[0].scores
    assert score.averages == ()
    (group,) = comparisons(report)
    values = group.rows[0].by_severity.values
    assert [severity for severity, _ in values] == [0, 1, 2]
    assert values[1][1] == pytest.approx((score.kinds["fog"][0] + score.kinds["contrast"][0]) / 2)
    assert "since some severities are missing: pixelate." in render_report(report)


def test_only_whole_averages_have_the_benchmarks_name(results, images):
    scores = results.scores[0]
    answers = scores.cells["clean", 0]

    def averages(kinds, severities=(1, 2, 3, 4, 5), resembled=frozenset()):
        cells = {("clean", 0): answers, **{(kind, s): answers for kind in kinds for s in severities}}
        found = averages_of(dataclasses.replace(scores, cells=cells), resembled)
        # Two cards of one page have two titles.
        assert len({item.title for item in found}) == len(found)
        return [item.label for item in found]

    whole = "average over the 15 benchmark kinds"
    assert averages(BENCHMARK_15) == [whole]
    assert averages(BENCHMARK_15 + EXTRA_4) == [whole, "average over all 19 kinds"]
    assert averages(BENCHMARK_15[:-1]) == ["average over the 14 kinds at hand"]
    assert averages(BENCHMARK_15, (1, 2)) == ["average over the 15 kinds at hand at severities 1, 2"]
    assert averages(()) == []
    beside = "average over the 12 of them that no training here resembles"
    noises = frozenset({"gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"})
    assert averages(BENCHMARK_15, resembled=noises) == [whole, beside]
    # The kinds of C-bar are in no other average.
    assert averages((*BENCHMARK_15[:2], *kinds_of("cbar"))) == ["average over the 2 kinds at hand"]
    assert averages(BENCHMARK_15[:2], resembled=noises) == ["average over the 2 kinds at hand"]


def test_what_a_training_resembles_is_left_out_for_all_that_are_compared(results, tmp_path):
    folder = shutil.copytree(results.runs[0], tmp_path / "noisy")
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**facts, "overlap": ["fog"]}))
    report = gather([folder, *results.runs[1:], results.database], title="")
    seen = [score for entry in report.entries for score in entry.scores if "fog" in score.kinds]
    assert {score.overlap for score in seen} == {("fog",), ()}
    for score in seen:
        assert score.averages[-1].title == "What no training resembles"
        assert "fog" not in score.averages[-1].kinds
    assert "training resembles fog" in render_report(report)


def test_an_unfinished_run_and_a_damaged_log_are_shown_as_far_as_they_go(results, tmp_path):
    folder = shutil.copytree(results.runs[0], tmp_path / "unfinished")
    (folder / "weights.safetensors").unlink()
    log = folder / "log.jsonl"
    more = '{"epoch": 4, "loss": NaN, "accuracy": null}\n{"epoch": 5, "accuracy": "high"}\n{"epo'
    log.write_text(log.read_text() + more)
    report = gather([folder], title="")
    (entry,) = report.entries
    assert entry.run is not None
    assert entry.spectrum is None
    assert [record.epoch for record in entry.log] == [0, 1, 2, 3, 4]
    assert entry.log[-1].loss is entry.log[-1].accuracy is None
    text = render_report(report)
    assert "First layer</h2>" not in text
    assert "Accuracy in training" in text


def test_a_database_alone_is_a_report(results, tmp_path):
    report = gather([results.database], title="")
    assert [entry.run for entry in report.entries] == [None, None, None]
    text = render_report(report)
    assert "By kind and severity" in text
    assert report.entries[0].name == "<script>alert(1)</script>"
    assert text.lower().count("<script") == 1
    assert "Nothing to show" not in text
    for missing in ("filters", "training", "layers", "sensitivity", "passes"):
        assert f'id="{missing}"' not in text
    with Store(tmp_path / "empty.db"):
        pass
    with pytest.raises(ValueError, match=r"there is nothing to report: .*empty\.db holds no results"):
        gather([tmp_path / "empty.db"], title="")


def test_no_network_is_run(results, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network was run")

    monkeypatch.setattr(torch.nn.Module, "__call__", refuse)
    gather([*results.runs, results.database], title="")


def test_eight_colors_and_names_serve_many_networks(results, tmp_path):
    # Without their weights, whose filters take seconds to draw.
    without = shutil.ignore_patterns("*.safetensors")
    folders = [
        shutil.copytree(results.runs[0], tmp_path / str(n) / "same", ignore=without) for n in range(10)
    ]
    report = gather(folders, title="")
    names = [entry.name for entry in report.entries]
    assert names == [f"same ({n})" for n in range(10)]
    text = render_report(report)
    assert "2 more" in text
    assert np.mean([name in text for name in names]) == 1


def test_a_failed_cell_is_named_with_its_reason(images, tmp_path):
    labels = images.labels.numpy()
    given = {("clean", 0): labels, ("fog", 1): labels, ("contrast", 1): labels}
    for name, change in (("whole", {}), ("failed", {("fog", 1): "the network gives <NaN>"})):
        score_predictions(images, given | change, name=name, db=tmp_path / "r.db")
    page = render_report(gather([tmp_path / "r.db"], title=""))
    assert "1 cell failed; <bdi>fog, severity 1</bdi>: <bdi>the network gives &lt;NaN&gt;</bdi>." in page


def test_kinds_of_cbar_are_in_no_mean_by_severity_where_there_are_others(images, tmp_path):
    labels = images.labels.numpy()
    wrong = (labels + 1) % len(images.classes)
    given = {("clean", 0): labels, ("fog", 1): labels, ("sparkles", 1): wrong}
    score_predictions(images, given, name="mine", db=tmp_path / "r.db")
    (group,) = comparisons(gather([tmp_path / "r.db"], title=""))
    assert group.rows[0].averages[0].estimate.value == 1
    assert group.rows[0].by_severity.values == [(0, 1), (1, 1)]


def test_nothing_is_not_less_than_nothing():
    assert number(-0.00001) == "0.000"
    assert number(-0.5, 1) == "\N{MINUS SIGN}0.5"


CODE = """
from torch import nn
def head():
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
def dilated():
    return nn.Sequential(nn.Conv2d(3, 16, 3, dilation=2), *head())
def transposed():
    return nn.Sequential(nn.ConvTranspose2d(3, 16, 4, 2), *head())
def plain():
    return nn.Sequential(nn.Conv2d(3, 16, 3), *head())
"""


def test_filters_that_are_not_used_as_they_are_stored_are_not_drawn(tmp_path, monkeypatch, caplog):
    (tmp_path / "of_the_report.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    for name, drawn in (("plain", True), ("dilated", False), ("transposed", False)):
        caplog.clear()
        report = gather([f"of_the_report:{name}"], title="")
        assert (first_layers(report) is not None) == drawn
        render_report(report)
        assert ("filters of 0 are not drawn" in caplog.text) == (not drawn)


def test_the_first_layer_of_a_file_without_an_order_is_the_one_that_sees_images(tmp_path):
    names = {"block1.layer.10.weight": 16, "block1.layer.2.weight": 16, "conv1.weight": 3}
    tensors = {name: torch.randn(16, inputs, 3, 3) for name, inputs in names.items()}
    save_file(tensors, tmp_path / "net.safetensors")
    spectrum = analyze(tmp_path / "net.safetensors")
    assert [layer.name for layer in spectrum] == ["conv1", "block1.layer.2", "block1.layer.10"]
    assert Analyzed(path="net", spectrum=spectrum).first.name == "conv1"
    (entry,) = gather([tmp_path / "net.safetensors"], title="").entries
    assert entry.filters.layer.name == "conv1"
