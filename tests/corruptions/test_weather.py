"""Weather kinds: recorded draws give the recorded bytes."""

import pytest
import torch

from filterbands.corruptions import weather
from filterbands.corruptions.constants import CIFAR


@pytest.mark.parametrize("severity", range(1, 6))
def test_fog_of_recorded_draws_is_the_original_s(replay, severity: int) -> None:
    images, draws, original = replay("fog", severity)
    strength, decay = CIFAR["fog"][severity - 1]
    assert torch.equal(
        weather.cover_with_fog(images, weather.plasma(draws, decay=decay), strength=strength), original
    )


def test_plasma_spans_zero_to_one_and_goes_on_at_its_borders() -> None:
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
