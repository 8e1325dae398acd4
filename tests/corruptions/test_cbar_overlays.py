"""C-bar's overlays equal the original for recorded draws; keyed draws have the same distribution."""

import math

import pytest
import torch
from torch import Tensor

from filterbands.corruptions import cbar_overlays, corrupt
from filterbands.corruptions.kinds import CIFAR_BAR

GRAY = torch.full((256, 3, 32, 32), 60, dtype=torch.uint8)


@pytest.mark.parametrize("severity", range(1, 6))
def test_checkerboard_cutout_with_recorded_draws_equals_the_original(replay_cbar, severity: int) -> None:
    images, (turn, side, _, grid), original = replay_cbar("checkerboard_cutout", severity)
    (share,) = CIFAR_BAR["checkerboard_cutout"][severity - 1]
    board = torch.stack([turn, side], 1)
    assert torch.equal(cbar_overlays.cut_cells(images, board, grid, share=share), original)


@pytest.mark.parametrize("severity", range(1, 6))
def test_inverse_sparkles_with_recorded_draws_equals_the_original(replay_cbar, severity: int) -> None:
    images, (center, _, count, spread), original = replay_cbar("inverse_sparkles", severity)
    (exponent,) = CIFAR_BAR["inverse_sparkles"][severity - 1]
    star = cbar_overlays.Stars(centers=center[:, None], counts=count.long()[:, None], spread=spread[:, None])
    assert torch.equal(cbar_overlays.bleach(images, star, exponent=exponent), original)


@pytest.mark.parametrize("severity", range(1, 6))
def test_sparkles_with_recorded_draws_equals_the_original(replay_cbar, severity: int) -> None:
    images, (centers, _, counts, spread), original = replay_cbar("sparkles", severity)
    (radius,) = CIFAR_BAR["sparkles"][severity - 1]
    stars = cbar_overlays.Stars(centers=centers / 32, counts=counts.long(), spread=spread)
    assert torch.equal(cbar_overlays.add_stars(images, stars, radius=radius), original)


@pytest.mark.parametrize("severity", range(1, 6))
def test_lines_with_recorded_draws_equals_the_original(replay_cbar, severity: int) -> None:
    images, (mean, spread, _, places), original = replay_cbar("lines", severity)
    assert torch.equal(cbar_overlays.draw_lines(images, mean, spread, places), original)


def _line_by_walking(image: Tensor, ends: tuple[int, int, int, int]) -> Tensor:
    """A line pixel by pixel: weight 1 - distance within the ends' rectangle, the fraction dropped."""
    top, left, bottom, right = ends
    image = image.clone()
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            down, along = bottom - top, right - left
            distance = abs((x - left) * down - (y - top) * along) / max(math.hypot(down, along), 1)
            inside = min(top, bottom) <= y <= max(top, bottom) and min(left, right) <= x <= max(left, right)
            if inside and distance < 1:
                weight = 1 - distance
                for channel in range(3):
                    value = (1 - weight) * int(image[channel, y, x]) + weight * 128
                    image[channel, y, x] = int(value)
    return image


def test_lines_run_from_end_to_end_through_their_point_one_after_the_other() -> None:
    image = torch.arange(3 * 9 * 14).reshape(3, 9, 14).mul(7).remainder(256).to(torch.uint8)
    mean, spread = torch.tensor([0.7], dtype=torch.float64), torch.tensor([0.4], dtype=torch.float64)
    places = torch.tensor([[[0.4, 0.5, 0.1], [0.7, 0.2, 0.8]]], dtype=torch.float64)
    expected = image
    for row, column, place in places[0].tolist():
        angle = 0.7 + 2 * math.pi * 0.4 * (place - 0.5)
        ends = [
            int(start + sign * 14 * part)
            for sign in (-1, 1)
            for start, part in ((9 * row, math.cos(angle)), (14 * column, math.sin(angle)))
        ]
        expected = _line_by_walking(expected, (ends[0], ends[1], ends[2], ends[3]))
    assert torch.equal(cbar_overlays.draw_lines(image[None], mean, spread, places)[0], expected)
    assert not torch.equal(expected, image)


@pytest.mark.parametrize(("severity", "share"), [(1, 0.05), (3, 0.15), (5, 0.25)])
def test_checkerboard_cutout_takes_half_its_share_of_the_pixels_to_gray(severity: int, share: float) -> None:
    result = corrupt(GRAY, "checkerboard_cutout", severity=severity, seed=0)
    assert set(result.unique().tolist()) == {60, 128}
    cut = (result[:, 0] == 128).double().mean((1, 2))
    # About 20 cells an image: standard error below 0.006.
    assert float(cut.mean()) == pytest.approx(share, abs=0.02)
    assert bool((result == result[:, :1]).all())


def test_sparkles_brighten_every_pixel_and_inverse_sparkles_leave_the_middle_of_the_star() -> None:
    bright = corrupt(GRAY, "sparkles", severity=5, seed=0)
    assert int(bright.min()) >= 60
    star = corrupt(GRAY, "inverse_sparkles", severity=5, seed=0).double()
    assert float(star[:, :, 8:24, 8:24].mean()) < float(star[:, :, :4].mean()) < 255


def test_there_are_as_many_lines_as_the_side_is_long() -> None:
    few = corrupt(GRAY[:32], "lines", severity=1, seed=0) != 60
    many = corrupt(GRAY[:32], "lines", severity=5, seed=0) != 60
    # One line of 32 pixels and eight; pixels of two lines count once.
    assert 32 / 1024 < float(few.double().mean()) < 96 / 1024
    assert float(many.double().mean()) == pytest.approx(0.38, abs=0.06)
