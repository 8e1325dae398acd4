"""A bounded heat map: equal where it was measured, open about where it was not, small where it must be."""

import json
import logging
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from filterbands.datasets import ImageSet
from filterbands.probes import HeatMap, ProbeConfig, fourier_heatmap, heatmap


def images_of(count: int, height: int, width: int) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    return ImageSet(
        name="noise",
        split="test",
        images=torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator),
        labels=torch.randint(0, 3, (count,), generator=generator),
        classes=("a", "b", "c"),
        index=torch.arange(count),
    )


SEEN = [0]


class Counting(nn.Module):
    """Names the class of the largest of three products with fixed patterns; counts its images in `SEEN`."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.register_buffer("patterns", torch.randn(3, 3 * height * width))
        SEEN[0] = 0

    def forward(self, images: Tensor) -> Tensor:
        SEEN[0] += len(images)
        return (images - 0.5).flatten(1) @ self.patterns.T


SIZES = pytest.mark.parametrize(("height", "width"), [(16, 16), (10, 13)])


@SIZES
@pytest.mark.parametrize(("step", "radius"), [(2, None), (3, None), (None, 0.3), (2, 0.25)])
def test_what_is_measured_is_that_of_the_whole_map(
    height: int, width: int, step: int | None, radius: float | None
) -> None:
    model, data = Counting(height, width), images_of(12, height, width)
    whole = fourier_heatmap(model, data, norm=3.0)
    assert len(whole.error.unique()) > 3
    SEEN[0] = 0
    some = fourier_heatmap(model, data, norm=3.0, config=ProbeConfig(step=step, radius=radius))
    known = ~some.error.isnan()
    assert torch.equal(some.error[known], whole.error[known])
    vertical = torch.arange(-(height // 2), height // 2 + 1)[:, None]
    horizontal = torch.arange(-(width // 2), width // 2 + 1)
    on_grid = (vertical % (step or 1) == 0) & (horizontal % (step or 1) == 0)
    within = torch.hypot(vertical / height, horizontal / width) <= (radius or 1) + 1e-6
    assert torch.equal(known, on_grid & within)
    # Mirrored frequencies share their passes: two and twelve are for the outputs and the clean error.
    distinct = known[:height, :width]
    assert some.measured() == (int(distinct.sum()), height * width)
    assert SEEN[0] <= 12 * (int(distinct.sum()) // 2 + 5) + 2 + 12


@SIZES
def test_a_mean_is_of_measured_frequencies_and_none_where_a_part_lies_beyond(height: int, width: int) -> None:
    model, data = Counting(height, width), images_of(12, height, width)
    whole = fourier_heatmap(model, data, norm=3.0)
    for step in (1, 2):
        some = fourier_heatmap(model, data, norm=3.0, config=ProbeConfig(step=step, radius=0.3))
        for low, high in ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3)):
            inside = (some.radius <= high) & ((some.radius > low) | (low == 0)) & ~some.error.isnan()
            expected = float(some.error[:height, :width][inside[:height, :width]].double().mean())
            assert math.isclose(some.mean_error(low, high), expected, abs_tol=1e-12)
            if step == 1:
                assert some.mean_error(low, high) == whole.mean_error(low, high)
        assert math.isnan(some.mean_error(0.2, 0.4))
        assert math.isnan(some.mean_error())


def test_the_document_says_what_was_measured_and_has_no_nan() -> None:
    some = fourier_heatmap(
        Counting(16, 16), images_of(4, 16, 16), norm=3.0, config=ProbeConfig(step=2, radius=0.3)
    )
    document = json.loads(json.dumps(some.to_json(), allow_nan=False))
    assert (document["step"], document["radius"], document["frequencies"]) == (2, 0.3, 256)
    assert document["measured"] == some.measured()[0] == 21
    assert document["mean_error"] is document["high_error"] is None
    assert document["error"][0][0] is None
    assert document["error"][8][8] == float(some.error[8, 8])
    whole = fourier_heatmap(Counting(16, 16), images_of(4, 16, 16), norm=3.0).to_json()
    assert (whole["step"], whole["radius"], whole["measured"]) == (1, None, 256)


def test_a_picture_takes_the_nearest_measured_frequency() -> None:
    error = torch.full((9, 9), float("nan"))
    error[1::3, 1::3] = torch.tensor([[1.0, 2, 3], [4, 5, 4], [3, 2, 1]])
    found = HeatMap(error=error, clean_error=0.0, norm=1.0, size=(8, 8), layer="", images=1, step=3)
    expected = error[1::3, 1::3].repeat_interleave(3, 0).repeat_interleave(3, 1)
    assert torch.equal(found.filled(), expected)
    whole = fourier_heatmap(Counting(10, 13), images_of(4, 10, 13), norm=3.0)
    assert torch.equal(whole.filled(), whole.error)


@pytest.fixture
def costly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take 8 x 8 pixels for the size up to which maps are whole, and 20 such images for the budget."""
    monkeypatch.setattr(heatmap, "_WHOLE", 34 * 64)
    monkeypatch.setattr(heatmap, "_COST", 20 * 34 * 64)


def test_a_map_that_would_take_long_is_bounded_and_that_is_said(
    costly: None, caplog: pytest.LogCaptureFixture
) -> None:
    model = Counting(32, 32)
    with caplog.at_level(logging.WARNING):
        found = fourier_heatmap(model, images_of(1, 32, 32), norm=3.0)
    # 20 x 34 x 64 pixels allow 42 waves of 32 x 32: a step of 3 takes 61, one of 4 takes 34.
    assert (found.step, found.measured()[0], SEEN[0]) == (4, 64, 34 + 1 + 1)
    [line] = [record.getMessage() for record in caplog.records]
    assert "one frequency in 4 in each direction is measured, " in line
    assert "of 514 waves" in line
    assert "step=1 (--step 1) measures all" in line
    caplog.clear()
    # More images than can be afforded keep an eighth of the side.
    assert fourier_heatmap(model, images_of(40, 32, 32), norm=3.0).step == 4
    # Small images and an explicit step are not bounded.
    caplog.clear()
    assert fourier_heatmap(Counting(8, 8), images_of(90, 8, 8), norm=3.0).step == 1
    assert fourier_heatmap(model, images_of(2, 32, 32), norm=3.0, config=ProbeConfig(step=1)).step == 1
    assert not caplog.records


def test_a_whole_map_of_32_pixels_is_never_bounded() -> None:
    waves = sum(map(len, heatmap._frequencies(32, 32, 1, None).values()))
    assert waves * 32 * 32 == heatmap._WHOLE


def test_a_map_of_more_than_a_minute_says_how_long_it_takes_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(heatmap.time, "perf_counter", lambda: next(clock))
    data = images_of(10, 8, 8)
    fourier_heatmap(Counting(8, 8), data, norm=3.0, config=ProbeConfig(batch_size=10))
    # A batch of 10 images takes 10 seconds: 34 waves on 10 images are 34 batches.
    assert [record.getMessage() for record in caplog.records] == [
        "heat map: about 0:05:40 for 34 waves on 10 images"
    ]


def test_rows_of_a_whole_map_keep_their_keys_and_others_are_kept_apart(tmp_path: Path) -> None:
    model, data, db = Counting(16, 16), images_of(6, 16, 16), tmp_path / "r.db"
    some = {"config": ProbeConfig(step=2), "norm": 3.0, "db": db}
    first = fourier_heatmap(model, data, **some)
    whole = fourier_heatmap(model, data, norm=3.0, db=db)
    SEEN[0] = 0
    assert torch.equal(fourier_heatmap(model, data, **some).error.nan_to_num(9), first.error.nan_to_num(9))
    assert torch.equal(fourier_heatmap(model, data, norm=3.0, db=db).error, whole.error)
    # The first images are tried, and a few are run for the fingerprint; no map is made.
    assert SEEN[0] <= 2 * 8


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"step": 0}, "step needs a number from 1 to 2,147,483,647, got 0"),
        ({"radius": 0.0}, "radius needs cycles per pixel above 0 and up to 1, got 0"),
        ({"radius": math.nan}, "radius needs cycles per pixel"),
    ],
)
def test_bounds_out_of_range_are_refused(given: dict[str, float], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        ProbeConfig(**given)  # type: ignore[arg-type]
