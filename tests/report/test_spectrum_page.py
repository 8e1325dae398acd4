"""The page of analyze: complete, safe, and honest about what is not there."""

import pytest
import torch
from torch import nn

from filterbands.filters import Trajectory, analyze
from filterbands.report import Analyzed, write_spectra


def spectrum(seed=0):
    torch.manual_seed(seed)
    return analyze(nn.ModuleDict({"<b>conv": nn.Conv2d(3, 8, 3), "deep": nn.Conv2d(8, 4, 3, stride=2)}))


def course(found):
    rows = [
        {"step": step, "checkpoint": "", **layer.to_row()}
        for step, one in enumerate(found)
        for layer in one.spectrum
    ]
    return Trajectory(rows=tuple(rows))


def test_names_are_text_and_every_layer_is_there(tmp_path):
    found = [Analyzed(path=f"<i>{seed}", spectrum=spectrum(seed)) for seed in range(2)]
    file = write_spectra(found, tmp_path / "page.html", together=course(found))
    page = file.read_text()
    assert "<i>" not in page
    assert "<b>conv" not in page
    assert "&lt;b&gt;conv" in page
    for words in ("Over training", "Orientation", "By depth", "Every layer", "By definition"):
        assert words in page
    assert "Input gradient" not in page


def test_networks_without_a_spectrum_have_a_page_that_says_so(tmp_path):
    pointwise = Analyzed(path="pointwise", spectrum=analyze(nn.Conv2d(3, 4, 1)))
    page = write_spectra([pointwise], tmp_path / "page.html").read_text()
    assert "no convolution larger than 1x1" in page


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="at least one network"):
        write_spectra([], tmp_path / "page.html")
    with pytest.raises(ValueError, match="no folder"):
        write_spectra([Analyzed(path="a", spectrum=spectrum())], tmp_path / "no" / "page.html")


def test_a_course_is_compared_with_white_filters_at_the_cutoff_that_was_asked_for(tmp_path):
    torch.manual_seed(0)
    found = [Analyzed(path=str(n), spectrum=analyze(nn.Conv2d(3, 8, 3), cutoff=0.2)) for n in range(2)]
    page = write_spectra(found, tmp_path / "p.html", together=course(found)).read_text()
    assert "White filters have 0.13." in page


def test_a_course_is_that_of_the_first_layer_with_a_spectrum(tmp_path):
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        found.append(
            Analyzed(
                path=f"epoch {seed}",
                spectrum=analyze(nn.ModuleDict({"mix": nn.Conv2d(3, 3, 1), "conv": nn.Conv2d(3, 8, 3)})),
            )
        )
    page = write_spectra(found, tmp_path / "page.html", together=course(found)).read_text()
    assert "Over training" in page
    assert "goes from" in page
