"""C-bar's lenses equal the original for recorded draws, and a slow definition where none are recorded."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from filterbands.corruptions import cbar_lenses, corrupt
from filterbands.corruptions.kinds import CIFAR_BAR

# Of a shape with rows unlike columns, so that axes cannot be exchanged unseen.
IMAGE = torch.randint(0, 256, (1, 3, 20, 26), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize("severity", range(1, 6))
def test_pinch_and_twirl_with_recorded_draws_equals_the_original(replay_cbar, severity: int) -> None:
    images, (signs,), original = replay_cbar("pinch_and_twirl", severity)
    degrees, amount = CIFAR_BAR["pinch_and_twirl"][severity - 1]
    blocks = signs.long().reshape(-1, 3, 3)
    ours = cbar_lenses.pinch(images, blocks, degrees=degrees, amount=amount, side=10)
    assert torch.equal(ours, original)


@pytest.mark.parametrize("severity", range(1, 6))
def test_ripple_with_recorded_draws_equals_the_original(replay_cbar, severity: int) -> None:
    images, (lengths, phases), original = replay_cbar("ripple", severity)
    (amplitude,) = CIFAR_BAR["ripple"][severity - 1]
    assert torch.equal(cbar_lenses.press(images, lengths, phases, amplitude=amplitude), original)


@pytest.mark.parametrize("severity", range(1, 6))
def test_chromatic_aberration_with_recorded_draws_equals_the_original(replay_cbar, severity: int) -> None:
    images, (order,), original = replay_cbar("transverse_chromatic_abberation", severity)
    (excess,) = CIFAR_BAR["transverse_chromatic_abberation"][severity - 1]
    assert torch.equal(cbar_lenses.enlarge_channels(images, order.long(), excess=excess), original)


@pytest.mark.parametrize("images", ["clean", "edge_clean"])
def test_circular_motion_blur_is_the_original_s_flat_images_included(cifar_cbar, images: str) -> None:
    clean = torch.from_numpy(cifar_cbar[images]).permute(0, 3, 1, 2)
    name = "circular_motion_blur" + ("_edge" if images == "edge_clean" else "")
    for severity in range(1, 6):
        ours = corrupt(clean, "circular_motion_blur", severity=severity, seed=0)
        assert np.array_equal(ours.permute(0, 2, 3, 1).numpy(), cifar_cbar[name][severity - 1])


def test_chromatic_aberration_of_edge_images_is_the_original_s(cifar_cbar) -> None:
    clean = torch.from_numpy(cifar_cbar["edge_clean"]).permute(0, 3, 1, 2).contiguous()
    order = torch.arange(3).repeat(len(clean), 1)
    for severity, (excess,) in enumerate(CIFAR_BAR["transverse_chromatic_abberation"]):
        ours = cbar_lenses.enlarge_channels(clean, order, excess=excess).permute(0, 2, 3, 1).numpy()
        assert np.array_equal(ours, cifar_cbar["transverse_chromatic_abberation_edge"][severity])


@pytest.mark.parametrize("size", [(20, 26), (70, 61)])
def test_circular_motion_blur_of_any_size_is_a_weighted_mean_of_scipy_s_rotations(
    size: tuple[int, int],
) -> None:
    image = torch.randint(0, 256, (1, 3, *size), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    unit = image[0].permute(1, 2, 0).numpy().astype(np.float32) / np.float32(255)
    total, weights = np.zeros_like(unit), 0.0
    for number in range(21):
        share = number / 10 - 1
        weight = math.exp(-2 * share**2)
        total += np.float32(weight) * ndimage.rotate(unit, 9 * share, reshape=False)
        weights += weight
    expected = (np.clip(total / np.float32(weights), 0, 1) * np.float32(255)).astype(np.uint8)
    ours = corrupt(image, "circular_motion_blur", severity=5, seed=0)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - expected).max() <= 1
    assert (ours != expected).mean() < 1e-3


def test_pinch_leaves_pixels_outside_cells_and_its_directions_differ() -> None:
    images = IMAGE.new_zeros(1, 3, 32, 32) + torch.arange(32, dtype=torch.uint8) * 8
    one = cbar_lenses.pinch(images, torch.ones(1, 3, 3).long(), degrees=90, amount=0.5, side=10)
    other = cbar_lenses.pinch(images, -torch.ones(1, 3, 3).long(), degrees=90, amount=0.5, side=10)
    assert torch.equal(one[:, :, 30:], images[:, :, 30:])
    assert torch.equal(one[:, :, :, 30:], images[:, :, :, 30:])
    # 68 pixels of each of the nine cells move.
    assert 0 < int((one[0, 0] != images[0, 0]).sum()) <= 612
    assert not torch.equal(one, other)


def _black_bilinear(image: np.ndarray, y: float, x: float) -> float:
    def at(row: int, column: int) -> float:
        inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
        return float(image[row, column]) if inside else 0.0

    top, left = math.floor(y), math.floor(x)
    down, across = y - top, x - left
    upper = at(top, left) * (1 - across) + at(top, left + 1) * across
    lower = at(top + 1, left) * (1 - across) + at(top + 1, left + 1) * across
    return upper * (1 - down) + lower * down


def test_images_are_read_between_pixels_and_black_outside() -> None:
    generator = torch.Generator().manual_seed(1)
    place = torch.rand(1, 2, 20, 26, generator=generator).double() * 40 - 8
    place[0, :, 0, 0] = torch.tensor([-1e6, 1e6])
    place[0, :, 0, 1] = torch.tensor([19.0, 25.0])
    pixels = torch.stack(torch.meshgrid(torch.arange(20), torch.arange(26), indexing="ij"))
    ours = cbar_lenses.read(IMAGE.double(), place - pixels)
    for y, x in ((0, 0), (0, 1), (7, 3), (19, 25), (12, 12), (4, 20)):
        expected = _black_bilinear(IMAGE[0, 1].numpy(), *place[0, :, y, x].tolist())
        assert float(ours[0, 1, y, x]) == pytest.approx(expected, abs=1e-9)


def test_caustic_refraction_bends_and_lights_by_the_slope_of_its_pattern() -> None:
    h, w, time, period, lens, light = 20, 26, 1.3, 0.9 * 20, 0.16, 0.64
    pattern = np.empty((h, w))
    for row in range(h):
        for column in range(w):
            p = [2 * math.pi * (place / period % 1) - 250 for place in (row, column)]
            i, c = list(p), 1.0
            for n in range(1, 6):
                t = time * (1 - 3.5 / n)
                i = [
                    p[0] + math.cos(t - i[0]) + math.sin(t + i[1]),
                    p[1] + math.sin(t - i[1]) + math.cos(t + i[0]),
                ]
                c += 1 / math.hypot(0.005 * p[0] / math.sin(i[0] + t), 0.005 * p[1] / math.cos(i[1] + t))
            pattern[row, column] = min(abs(1.17 - (c / 5) ** 1.4) ** 8, 1)
    wide = np.pad(ndimage.gaussian_filter(pattern, 1), 1)
    ours = cbar_lenses.refract(
        IMAGE,
        torch.tensor([time], dtype=torch.float64),
        torch.tensor([0.9], dtype=torch.float64),
        lens=lens,
        lighting=light,
    )
    moved = 0
    for row in range(h):
        for column in range(w):
            a = wide[row + 2, column + 1] - wide[row, column + 1]
            b = wide[row + 1, column + 2] - wide[row + 1, column]
            cosine = 1 / math.sqrt(a * a + b * b + 1)
            dy = dx = 0.0
            if cosine < 0.999:
                th = math.acos(cosine)
                length = lens * 20 * math.sin(th - math.asin(math.sin(th) / 4)) / math.hypot(a, b)
                dy, dx = round(a * length, 3), round(b * length, 3)
                moved += 1
            for channel in range(3):
                value = _black_bilinear(IMAGE[0, channel].numpy() / 255, row + dy, column + dx)
                level = 255 * min(max(value + light * (a - b), 0), 1)
                # A constant of six digits in the original's 2 pi, steep trigonometry, float32.
                assert abs(int(ours[0, channel, row, column]) - level) < 1.05
    assert moved > 50
