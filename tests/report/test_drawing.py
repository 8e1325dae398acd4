"""Charts, pictures and colors."""

import base64
import io
import re
import xml.etree.ElementTree as ET
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from filterbands.filters import analyze
from filterbands.report.charts import Axis, Bar, Line, bar_chart, line_chart
from filterbands.report.first_layer import rings
from filterbands.report.page import render
from filterbands.report.pictures import filter_picture, kernels_power, spectrum_picture
from filterbands.report.style import GRID, INK, MUTED, RUN_COLORS, luminance
from filterbands.report.text import fitted
from filterbands.report.views import Estimate

HOSTILE = "</title><script>alert(1)</script>\"]}' {{datum}} \x00\ud800 网络"
CARDS = ("#ffffff", "#1a1e23")


def decoded(address: str) -> Image.Image:
    head, _, body = address.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def contrast(one: list[int], other: list[int]) -> float:
    """WCAG 2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def channels(color: str) -> list[int]:
    full = color if len(color) == 7 else "#" + "".join(2 * letter for letter in color[1:])
    return [int(full[start : start + 2], 16) for start in (1, 3, 5)]


@cache
def charts() -> list[str]:
    bars = [
        Bar(position=0, name=HOSTILE, estimate=Estimate(0.5, 0.4, 0.6)),
        Bar(position=9, name="no interval", estimate=Estimate(0.25)),
    ]
    lines = [
        Line(position=0, name=HOSTILE, values=[(0.0, 0.1), (1.0, 0.9)]),
        Line(position=1, name="one point", values=[(1.0, 0.5)], dashed=True),
    ]
    x, y = Axis(title="Epoch", whole=True), Axis(title="Accuracy", percent=True)
    drawn = line_chart(lines, x=x, y=y, label=HOSTILE, dots=True, mark=0.4)
    return [bar_chart(bars, label=HOSTILE), drawn, line_chart(lines, x=x, y=y, label="")]


@pytest.mark.parametrize("svg", charts())
def test_charts_hold_names_as_text_alone(svg):
    root = ET.fromstring(svg)
    assert {element.tag.partition("}")[2] for element in root.iter()} <= {
        "svg",
        "g",
        "path",
        "line",
        "text",
        "title",
    }
    assert "alert(1)" in svg
    assert not [name for element in root.iter() for name in element.attrib if "href" in name]
    assert any("alert(1)" in (element.text or "") for element in root.iter() if element.tag.endswith("title"))


@pytest.mark.parametrize("svg", charts())
def test_every_color_of_a_chart_has_a_dark_counterpart(svg):
    drawn = set(re.findall(r'(?:fill|stroke)="(#[^"]+|\w+)"', svg)) - {"none", "transparent"}
    assert drawn <= {light for light, _ in (INK, MUTED, GRID, *RUN_COLORS)}
    for light in drawn:
        assert f'svg.chart [fill="{light}"]' in render("style.css")


def test_a_bar_ends_where_its_figure_says_and_its_interval_around_it():
    svg = bar_chart([Bar(position=0, name="a", estimate=Estimate(0.5, 0.25, 0.75))], label="")
    paths = {
        path.get("fill"): [float(value) for value in re.findall(r"-?[\d.]+", path.get("d") or "")]
        for path in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}path")
    }
    full, half = (max(paths[color][0::2]) for color in (GRID[0], RUN_COLORS[0][0]))
    assert half == pytest.approx(full / 2, abs=3)
    assert "50.0" in svg


def _places(svg: str) -> tuple[dict[str, float], list[str]]:
    """Return where the ground begins and ends and where the labels of the axis stand, and all texts."""
    root = ET.fromstring(svg)
    paths = [one for one in root.iter("{http://www.w3.org/2000/svg}path") if one.get("fill") == GRID[0]]
    ground = [float(value) for value in re.findall(r"-?[\d.]+", paths[0].get("d") or "")]
    texts = {one.text or "": one.get("transform") for one in root.iter("{http://www.w3.org/2000/svg}text")}
    return {"width": max(ground[0::2]), "view": float(root.attrib["viewBox"].split()[2])}, [
        f"{text} {place}" for text, place in texts.items() if text.endswith("%")
    ]


@pytest.mark.parametrize(("low", "high"), [(0.724, 1.106), (-0.616, 0.866), (-1.8, 3.2), (0.0, 1.0)])
def test_an_interval_beyond_the_range_of_an_accuracy_is_cut_and_ends_open(low, high):
    def drawn(estimate):
        return bar_chart([Bar(position=0, name="net", estimate=estimate, dots=(0.6, 0.7))], label="")

    inside, beyond = drawn(Estimate(0.65, 0.6, 0.7)), drawn(Estimate(0.65, low, high))
    assert _places(beyond) == _places(inside)
    ticks = [svg.count(f'fill="{INK[0]}"') for svg in (inside, beyond)]
    assert ticks[0] - ticks[1] == (low < 0) + (high > 1)
    ends = f"({100 * max(low, 0):.1f} to {100 * min(high, 1):.1f})"
    assert f"65.0 %  {ends}" in beyond.replace("\N{NO-BREAK SPACE}", " ")


def test_accuracies_that_differ_in_the_last_digit_alone_are_one_tick():
    line = Line(position=0, name="a", values=[(0.0, 0.1), (1.0, 0.1 + 3e-17), (5.0, (0.1 + 0.1 + 0.1) / 3)])
    svg = line_chart(
        [line], x=Axis(title="", domain=(0, 5)), y=Axis(title="Accuracy", percent=True), label=""
    )
    assert re.findall(r">([\d.]+%)<", svg) == ["10%"]


def test_every_tooltip_of_a_bar_chart_is_a_name_with_its_figure():
    svg = bar_chart([Bar(position=0, name="a", estimate=Estimate(0.5, 0.25, 0.75))], label="")
    tips = [title.text for title in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}title")]
    assert len(tips) >= 5
    assert {tip.replace("\N{NO-BREAK SPACE}", " ") for tip in tips} == {"a: 50.0 %  (25.0 to 75.0)"}


def test_text_and_colors_contrast_enough_on_light_and_on_dark():
    for card, colors in zip(CARDS, zip(*RUN_COLORS, strict=True), strict=True):
        assert min(contrast(channels(color), channels(card)) for color in colors) >= 3
    for position, card in enumerate(CARDS):
        for pair in (INK, MUTED):
            assert contrast(channels(pair[position]), channels(card)) >= 4.5
    cells = re.findall(r"\.h\d+\{background:rgb\(([\d,]+)\);color:(#\w+)\}", render("heat.css"))
    assert len(cells) == 22
    for ground, text in cells:
        assert contrast([int(value) for value in ground.split(",")], channels(text)) >= 4.5


def test_a_filter_is_drawn_pixel_by_pixel_with_zero_gray():
    kernel = torch.zeros(3, 3, 3)
    kernel[0, 0, 0], kernel[2, 1, 2] = 2.0, -1.0
    picture = decoded(filter_picture(kernel))
    assert picture.size == (48, 48)
    cells = np.asarray(picture)[8::16, 8::16]
    assert np.array_equal(np.asarray(picture), cells.repeat(16, 0).repeat(16, 1))
    assert cells[0, 0].tolist() == [255, 128, 128]
    assert cells[1, 2].tolist() == [128, 128, 64]
    assert cells[2, 2].tolist() == [128, 128, 128]


@pytest.mark.parametrize("shape", [(1, 3, 3), (3, 1, 5), (3, 7, 7), (64, 3, 3), (3, 60, 60), (2, 2, 2)])
def test_filters_of_every_shape_and_of_zeros_are_drawn(shape):
    for kernel in (torch.zeros(shape), torch.randn(shape)):
        assert min(decoded(filter_picture(kernel)).size) >= 9
        (power,) = kernels_power(kernel[None])
        assert decoded(spectrum_picture(power, peak=float(power.max()))).size[0] >= 33


def test_a_spectrum_has_mean_one_its_center_at_frequency_zero_and_light_where_strong():
    box, delta = torch.ones(1, 3, 3), torch.zeros(1, 3, 3)
    delta[0, 1, 1] = 5.0
    of_box, of_delta = kernels_power(torch.stack([box, delta]))
    torch.testing.assert_close(of_delta, torch.ones(33, 33, dtype=torch.float64))
    # |sum of the taps|^2 over their energy: 81 / 9.
    assert float(of_box[16, 16]) == pytest.approx(9.0)
    assert float(of_box.mean()) == pytest.approx(1.0)
    pixels = np.asarray(decoded(spectrum_picture(of_box, peak=9.0)).convert("L")).astype(int)
    assert pixels[16, 16] == pixels.max()
    assert (pixels[0, 0], pixels[16, 16]) == pytest.approx((17, 237), abs=8)


def test_the_profile_before_training_is_the_slope_of_the_logged_curve():
    layer = analyze({"conv1.weight": torch.randn(16, 3, 3, 3, generator=torch.Generator().manual_seed(1))})[
        "conv1"
    ]
    assert layer.curve is not None
    assert layer.profile is not None
    found_rings = rings([(0.0, 0.0), *zip(layer.radii.tolist(), layer.curve.tolist(), strict=True)])
    found = np.interp(
        layer.radii[1:-1].numpy(), [radius for radius, _ in found_rings], [power for _, power in found_rings]
    )
    np.testing.assert_allclose(found, layer.profile[1:-1].numpy(), atol=2e-3)


def test_what_was_not_measured_is_transparent():
    values = torch.linspace(0, 1, 81).reshape(9, 9)
    values[0] = float("nan")
    picture = decoded(spectrum_picture(values, peak=1.0)).convert("RGBA")
    assert {picture.getpixel((place, 0))[3] for place in range(9)} == {0}
    assert {picture.getpixel((place, row))[3] for place in range(9) for row in range(1, 9)} == {255}
    # No number lies beyond the palette, where browsers and libraries differ.
    numbers = decoded(spectrum_picture(values, peak=1.0))
    assert int(np.asarray(numbers).max()) < len(numbers.getpalette()) // 3


@pytest.mark.parametrize(
    "name", ["\U0001f600" * 40, "a" + "\U0001f469\u200d\U0001f4bb" * 20, "网" * 40, "e\u0301" * 99]
)
def test_a_name_is_cut_between_letters(name: str) -> None:
    drawn = bar_chart([Bar(0, name, Estimate(0.5))], label="names")
    assert "\N{HORIZONTAL ELLIPSIS}" in drawn
    cut = fitted(name, 32)
    assert name.startswith(cut[:-1])
    assert cut[-2] != "\u200d"
    # Half of a pair could not be encoded.
    drawn.encode()
