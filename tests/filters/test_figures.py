"""The table of figures: one row is all that a figure needs."""

import csv
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from filterbands import SpectrumLogger
from filterbands.cli import main
from filterbands.filters import FIGURES, Figure, analyze, trajectory


def network() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"conv1": nn.Conv2d(3, 8, 3), "point": nn.Conv2d(8, 2, 1)})


@pytest.fixture
def name(monkeypatch):
    """A figure that one row adds: the energy beyond a quarter of a cycle per pixel."""
    figure = Figure("high energy", lambda layer: 1 - layer.inside(0.25), unit="filters", of_network=True)
    monkeypatch.setitem(FIGURES, "high_energy", figure)
    return "high_energy"


def test_a_row_adds_a_figure_to_what_a_layer_and_a_network_say(name):
    spectrum = analyze(network())
    layer, value = spectrum["conv1"], spectrum["conv1"].high_energy
    expected = 1 - analyze(network(), cutoff=0.25)["conv1"].filters_low_energy
    torch.testing.assert_close(layer.filters_high_energy, expected)
    assert value == pytest.approx(float(expected.mean()))
    assert spectrum["point"].high_energy is None
    assert layer.to_json()[name] == layer.to_row()[name] == value
    assert spectrum.high_energy == spectrum.to_json()["network"][name] == value
    assert layer.filter_rows()[2][name] == float(expected[2])
    for text in (str(layer), str(spectrum), layer._repr_html_(), spectrum._repr_html_()):
        assert "high energy" in text
        assert f"{value:.3f}" in text


def test_a_row_adds_a_figure_to_the_course_of_a_training(name, tmp_path):
    for step in (1, 2):
        save_file(network().state_dict(), tmp_path / f"step_{step}.safetensors")
    course = trajectory(tmp_path)
    value = analyze(network())["conv1"].high_energy
    assert course.series("conv1", name) == [(1, value), (2, value)]
    for text in (str(course), course._repr_html_()):
        assert name in text
        assert f"{value:.3f}" in text
    assert SpectrumLogger(network()).trajectory.series("conv1", name) == [(0, value)]


def test_a_row_adds_a_figure_to_the_command_line_and_its_page(name, tmp_path, capsys):
    save_file(network().state_dict(), tmp_path / "net.safetensors")
    words = ["analyze", str(tmp_path / "net.safetensors"), "--table", str(tmp_path / "t.csv")]
    words += ["--html", str(tmp_path / "page.html"), "--json"]
    assert main(words) == 0
    value = json.loads(capsys.readouterr().out)["layers"][0][name]
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert float(rows[0][name]) == value
    page = (tmp_path / "page.html").read_text()
    assert "High energy" in page
    assert f"{100 * value:.1f}\N{NO-BREAK SPACE}%" in page
    assert main([*words, "--require", "conv1.high_energy<=1"]) == 0
    assert main([*words, "--require", "conv1.high_energy>1"]) == 1


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_where_the_table_says(name):
    figure, spectrum = FIGURES[name], analyze(network())
    layer = spectrum["conv1"]
    assert name in layer.to_json()
    assert {name + end for end in figure.ends} <= set(layer.to_row())
    is_known = getattr(layer, name) is not None
    assert is_known != (figure.needs_data or (name == "aliased_energy" and layer.stride is None))
    assert (figure.label in str(spectrum).split("\n")[1]) == (is_known and "text" not in figure.left_out)
    assert (name in str(SpectrumLogger(network()).trajectory)) == ("course" not in figure.left_out)
    assert (getattr(layer, f"filters_{name}") is not None) == (figure.each is not None and is_known)
    if figure.of_network:
        assert getattr(spectrum, name) == getattr(layer, name)
    else:
        with pytest.raises(AttributeError, match="look at one of its layers"):
            getattr(spectrum, name)


@pytest.mark.parametrize("name", [name for name, figure in FIGURES.items() if figure.white is not None])
def test_white_filters_have_what_the_table_says(name):
    weight = torch.randn(20000, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    layer = analyze({"a.weight": weight})["a"]
    assert getattr(layer, name) == pytest.approx(FIGURES[name].white, abs=0.01)


def test_a_figure_that_is_not_there_is_named():
    with pytest.raises(AttributeError, match="no 'low_shares'; its figures are low_share, "):
        _ = analyze(network())["conv1"].low_shares


def test_the_heading_is_that_of_the_layers_dimensions():
    assert str(analyze(nn.Conv1d(3, 8, 9))).startswith(
        "low: within 0.2500 cycles per pixel, where a white filter has 0.500"
    )
    both = str(analyze(nn.Sequential(nn.Conv1d(3, 8, 9), nn.Conv2d(8, 3, 3)), cutoff=0.3)).partition("\n")[0]
    assert "of 1-D layers within 0.3000" in both
    assert "0.600 of its energy; of 2-D layers within 0.3000" in both


def test_images_out_of_range_are_refused():
    with pytest.raises(
        ValueError, match=r"data needs bytes, or floats in .* got floats up to 255; divide bytes by 255"
    ):
        analyze(nn.Conv2d(3, 8, 3), data=torch.tensor([0.0, 255.0]).expand(1, 3, 8, 2).repeat(1, 1, 1, 4))


def test_a_network_in_bfloat16_responds_to_images_as_in_float32():
    torch.manual_seed(0)
    layer, images = nn.Conv2d(3, 8, 3).bfloat16(), torch.rand(2, 3, 16, 16)
    half = analyze(layer, data=images)["weight"].response_low_energy
    assert half == pytest.approx(analyze(layer.float(), data=images)["weight"].response_low_energy, abs=0.01)
