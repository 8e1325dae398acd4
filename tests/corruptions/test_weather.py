"""Weather kinds: recorded draws give the recorded bytes, and the draws have the published law."""

from pathlib import Path

import pytest
import torch

from filterbands.corruptions import corrupt, textures, weather
from filterbands.corruptions.kinds import CIFAR


@pytest.mark.parametrize("severity", range(1, 6))
def test_fog_with_recorded_draws_equals_the_original(replay, severity: int) -> None:
    images, draws, original = replay("fog", severity)
    strength, decay = CIFAR["fog"][severity - 1]
    assert torch.equal(
        weather.cover_with_fog(images, weather.plasma(draws, decay=decay), strength=strength), original
    )


def test_plasma_spans_zero_to_one_and_is_periodic() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = [
        (torch.rand(4, 1 << n, 1 << n, generator=generator, dtype=torch.float64) - 0.5) * 200 / 3**n
        for n in range(6)
        for _ in range(3)
    ]
    plasma = weather.plasma(draws, decay=3)
    assert plasma.shape == (4, 64, 64)
    assert torch.equal(plasma.amin((1, 2)), torch.zeros(4).double())
    assert torch.equal(plasma.amax((1, 2)), torch.ones(4).double())
    inside = (plasma[:, :, 1:] - plasma[:, :, :-1]).abs().mean()
    across = (plasma[:, :, 0] - plasma[:, :, -1]).abs().mean()
    assert float(across) < 2 * float(inside)


@pytest.mark.parametrize("severity", range(1, 6))
def test_snow_with_recorded_draws_equals_the_original(replay, severity: int) -> None:
    images, (layer, degrees), original = replay("snow", severity)
    ours = weather.cover_with_snow(images, layer[:, None], degrees, CIFAR["snow"][severity - 1])
    assert torch.equal(ours, original)


@pytest.mark.parametrize("severity", range(1, 6))
def test_frost_with_recorded_draws_equals_the_original(replay, frost_textures: Path, severity: int) -> None:
    images, draws, original = replay("frost", severity)
    image_weight, frost_weight, scale = CIFAR["frost"][severity - 1]
    pixels, shapes = textures.load_textures(frost_textures, scale, 32, 32)
    parts = []
    for file, row, column in zip(*(draw.tolist() for draw in draws), strict=True):
        start, height, width = shapes[file].tolist()
        picture = pixels[:, start : start + height * width].reshape(3, height, width)
        parts.append(picture[:, row : row + 32, column : column + 32])
    ice = torch.stack(parts)
    ours = weather.mix_with_frost(images, ice, image_weight=image_weight, frost_weight=frost_weight)
    assert torch.equal(ours, original)


@pytest.mark.usefixtures("frost_textures")
def test_frost_draws_each_file_and_place_evenly() -> None:
    # Severity 1 on black leaves a fifth of the picture, which tells where it comes from.
    images = torch.zeros(2000, 3, 32, 32, dtype=torch.uint8)
    result = corrupt(images, "frost", severity=5, seed=0)
    pixels, shapes = textures.load_textures(textures.find_textures(), 0.2, 32, 32)
    black = torch.zeros_like(pixels)[None, :, :, None]
    faint = weather.mix_with_frost(black, pixels[None, :, :, None], image_weight=1, frost_weight=0.45)
    known = {}
    for file, (start, height, width) in enumerate(shapes.tolist()):
        picture = faint[0, :, start : start + height * width, 0].reshape(3, height, width)
        for row in range(height - 32):
            for column in range(width - 32):
                corner = picture[:, row : row + 4, column : column + 4].flatten()
                known.setdefault(tuple(corner.tolist()), (file, row / (height - 32), column / (width - 32)))
    places = torch.tensor([known[tuple(image[:, :4, :4].flatten().tolist())] for image in result])
    count = torch.bincount(places[:, 0].long(), minlength=5)
    # Files 2 and 3 are the same picture and are found as the first of them; five standard deviations.
    assert (count - torch.tensor([400, 800, 0, 400, 400])).abs().max() < 5 * 22
    assert (places[:, 1:].mean(0) - 0.5).abs().max() < 5 * 0.289 / 2000**0.5 + 0.02


def test_snow_streaks_fall_downwards_and_brighten() -> None:
    images = torch.full((8, 3, 64, 64), 60, dtype=torch.uint8)
    result = corrupt(images, "snow", severity=4, seed=0).double()
    assert float(result.min()) >= 60
    change = result[:, 0] - result[:, 0].mean((1, 2), keepdim=True)
    down = (change[:, 1:] * change[:, :-1]).mean()
    across = (change[:, :, 1:] * change[:, :, :-1]).mean()
    assert float(down) > 1.05 * float(across)
