"""C-bar's fields equal the original for recorded draws, and a slow definition where none are recorded."""

import math

import pytest
import torch
from torch import Tensor

from filterbands.corruptions import cbar_fields, corrupt
from filterbands.corruptions.kinds import CIFAR_BAR

# Of a shape with rows unlike columns, so that axes cannot be exchanged unseen.
IMAGE = torch.arange(3 * 11 * 16).reshape(1, 3, 11, 16).mul(5).remainder(256).to(torch.uint8)


def _drawn(*numbers: float) -> Tensor:
    return torch.tensor([numbers], dtype=torch.float64)


@pytest.mark.parametrize("severity", range(1, 6))
def test_blue_noise_sample_with_recorded_draws_equals_the_original(replay_cbar, severity: int) -> None:
    images, (_, phases), original = replay_cbar("blue_noise_sample", severity)
    (threshold,) = CIFAR_BAR["blue_noise_sample"][severity - 1]
    assert torch.equal(cbar_fields.keep_pixels(images, phases[:, None], threshold=threshold), original)


@pytest.mark.parametrize("severity", range(1, 6))
def test_brownish_noise_with_recorded_draws_equals_the_original(replay_cbar, severity: int) -> None:
    images, (_, phases), original = replay_cbar("brownish_noise", severity)
    (strength,) = CIFAR_BAR["brownish_noise"][severity - 1]
    assert torch.equal(cbar_fields.add_clouds(images, phases, strength=strength), original)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 8), (8, 11), (7, 9)])
@pytest.mark.parametrize("color", ["blue", "brown"])
def test_noise_is_the_real_part_of_the_sum_of_its_waves(height: int, width: int, color: str) -> None:
    half = (width + 1) // 2
    phases = torch.rand(2, 1, height, half, generator=torch.Generator().manual_seed(0)).double() * 6.28
    rows, columns = torch.arange(height).double()[:, None], torch.arange(width).double()
    total = torch.zeros(2, height, width, dtype=torch.float64)
    side = min(height, width)
    for p in range(height):
        for q in range(width):
            mirrored = q >= half
            phase = phases[:, 0, height - 1 - p, width - 1 - q] if mirrored else phases[:, 0, p, q]
            down, across = (p - height // 2) / height, (q - width // 2) / width
            radius = side * math.hypot(down, across)
            amplitude = radius if color == "blue" else 1 / (1 + radius**2)
            angle = 2 * math.pi * (down * rows + across * columns) + phase[:, None, None]
            total += amplitude * angle.cos()
    expected = total / total.std((1, 2), correction=0, keepdim=True)
    ours = cbar_fields._colored_noise(phases, width, color)
    torch.testing.assert_close(ours[:, 0], expected, atol=1e-11, rtol=0)


def test_blue_noise_removes_the_share_of_a_normal_tail_but_never_two_of_its_pixels() -> None:
    images = torch.full((2000, 3, 32, 32), 200, dtype=torch.uint8)
    black = corrupt(images, "blue_noise_sample", severity=5, seed=0) == 0
    # The standard deviation of an image's share is below 0.01.
    assert float(black.double().mean()) == pytest.approx(0.107, abs=0.002)
    assert bool((black == black[:, :1]).all())
    often = black[:, 0].double().mean(0)
    # The field has twice the variance at two pixels and none at two others.
    assert float(often[[0, 16], [16, 0]].max()) == 0
    assert float(often[[0, 16], [0, 16]].min()) > 0.15


def test_brownish_noise_shifts_whole_channels() -> None:
    images = torch.full((500, 3, 32, 32), 128, dtype=torch.uint8)
    change = corrupt(images, "brownish_noise", severity=1, seed=0).double() - 127.5
    shift = change.mean((2, 3))
    # 0.70 standard deviations of 16 levels, and a total of 1.50 times their square.
    assert float(shift.square().mean().sqrt()) == pytest.approx(0.70 * 16, rel=0.06)
    assert float(change.square().mean()) == pytest.approx(1.5 * 256, rel=0.06)
    assert abs(float((shift[:, 0] * shift[:, 1]).mean())) < 20


def test_plane_waves_are_sines_of_column_and_row() -> None:
    ours = cbar_fields.add_wave(IMAGE, _drawn(0.7, -1.9, 2.0), strength=40)
    for y, x in ((0, 0), (3, 9), (10, 15)):
        wave = 40 * math.sin(0.7 * x - 1.9 * y + 2.0)
        assert ours[0, :, y, x].tolist() == [
            int(min(max(value + wave, 0), 255)) for value in IMAGE[0, :, y, x].tolist()
        ]


def test_rings_are_saws_of_a_wavy_distance() -> None:
    ours = cbar_fields.add_rings(IMAGE, _drawn(0.3, 0.6), _drawn(4.3, 1.2, 2.9), strength=100)
    for y, x in ((0, 0), (3, 9), (10, 15), (8, 2)):
        across, down = x - 0.3 * 16, y - 0.6 * 11
        distance = math.hypot(across, down) + 1.2 * math.sin(4.3 * math.atan2(across, down))
        saw = 100 * (distance % 2.9 / 2.9 - 0.5)
        assert ours[0, :, y, x].tolist() == [
            int(min(max(value + saw, 0), 255)) for value in IMAGE[0, :, y, x].tolist()
        ]


@pytest.mark.parametrize("iterations", [4, 6])
def test_plasma_is_three_sines_of_bent_coordinates(iterations: int) -> None:
    time, sharpness, scale = 7.0, 0.8, 0.15
    # Another image of the batch stops at another iteration.
    images = IMAGE.repeat(2, 1, 1, 1)
    counts = torch.tensor([iterations, 10 - iterations])
    motion = _drawn(time, sharpness, scale).repeat(2, 1)
    ours = cbar_fields.add_plasma(images, motion, counts, strength=64)
    for row, column in ((0, 0), (3, 9), (10, 15)):
        x, y, a, b, c = column / (scale * 11), row / (scale * 11), 1.0, 1.0, 1.0
        for _ in range(iterations):
            r0, r1 = math.cos(a * y + time / b) / c, math.sin(a * x + time / b) / c
            x, y = x + r0 - 0.3 * r1, y + r1 + 0.3 * r0
            a, b, c = a * 1.93, b * 1.15, c * (2.25 - sharpness)
        noise = (math.sin(x - time), math.sin((x + y + math.sin(time)) / 2), math.sin(y + time))
        expected = [
            int(min(max((1 - 64 / 255) * value + 64 * wave, 0), 255))
            for value, wave in zip(IMAGE[0, :, row, column].tolist(), noise, strict=True)
        ]
        assert ours[0, :, row, column].tolist() == expected


def _perlin(y: float, x: float, slopes: list[tuple[float, float]], table: list[int]) -> float:
    """Gradient noise at a point: four slopes, eased together along the row's coordinate first."""

    def ease(t: float) -> float:
        return 3 * t**2 - 2 * t**3

    top, left = int(y), int(x)
    down, across = y - top, x - left
    values = {}
    for i in (0, 1):
        for j in (0, 1):
            first = table[(top + i) & 255]
            steep = slopes[table[first + ((left + j) & 255)]]
            values[i, j] = steep[0] * (down - i) + steep[1] * (across - j)
    near = values[0, 0] + ease(down) * (values[1, 0] - values[0, 0])
    far = values[0, 1] + ease(down) * (values[1, 1] - values[0, 1])
    return 1.5 * (near + ease(across) * (far - near))


def test_perlin_noise_is_the_sum_of_five_octaves_of_gradient_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1, 3, 70, 40), generator=generator).to(torch.uint8)
    drawn = torch.randint(0, 512, (1, 514, 2), generator=generator)
    drawn[0, 3] = 256  # no direction
    swaps = torch.randint(0, 256, (1, 256), generator=generator)
    ours = cbar_fields.cover_with_turbulence(images, drawn, swaps, weight=0.44)

    table = list(range(256))
    for entry, other in zip(range(255, -1, -1), swaps[0].tolist(), strict=True):
        table[entry], table[other] = table[other], table[entry]
    slopes = []
    for pair in drawn[0].tolist():
        parts = [(number - 256) / 256 for number in pair]
        length = math.hypot(*parts) or 1.0
        slopes.append((parts[0] / length, parts[1] / length))
    for i in range(258):
        table.append(table[i])
        slopes[256 + i] = slopes[i]
    for y, x in ((0, 0), (5, 31), (32, 32), (69, 3), (47, 39)):
        total = sum(abs(_perlin(y / 32 * f, x / 32 * f, slopes, table)) / f for f in (1, 2, 4, 8, 16))
        cover = 255 * 0.44 * min(max(0.5 * total + 0.5, 0), 1)
        for channel in range(3):
            expected = min(0.56 * int(images[0, channel, y, x]) + cover, 255)
            assert abs(int(ours[0, channel, y, x]) - expected) <= 1


def test_the_table_of_perlin_noise_is_a_permutation() -> None:
    swaps = torch.randint(0, 256, (4, 256), generator=torch.Generator().manual_seed(1))
    table = cbar_fields._shuffled(swaps)[:, :256]
    assert torch.equal(table.sort(1).values, torch.arange(256).repeat(4, 1))
