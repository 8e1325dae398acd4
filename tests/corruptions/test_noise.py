"""Noise kinds: recorded draws give the recorded bytes, and our own draws have the published law."""

import pytest
import torch

from filterbands.corruptions import corrupt, noise


@pytest.mark.parametrize("severity", range(1, 6))
def test_gaussian_noise_of_recorded_draws_is_the_original_s(replay, severity: int) -> None:
    images, (drawn,), original = replay("gaussian_noise", severity)
    assert torch.equal(noise.add_noise(images, drawn), original)


@pytest.mark.parametrize("severity", range(1, 6))
def test_impulse_noise_of_recorded_draws_is_the_original_s(replay, severity: int) -> None:
    images, (replaced, salt), original = replay("impulse_noise", severity)
    assert torch.equal(noise.replace_values(images, replaced, salt=salt), original)


def test_gaussian_noise_has_the_standard_deviation_of_its_table() -> None:
    images = torch.full((64, 3, 32, 32), 128, dtype=torch.uint8)
    change = corrupt(images, "gaussian_noise", severity=3, seed=0).double() - 128
    # Cutting the fraction shifts by half a level and adds a variance of 1/12.
    assert abs(float(change.mean()) + 0.5) < 0.2
    assert abs(float(change.std()) / 255 - 0.08) < 0.0005


def test_impulse_noise_replaces_its_share_one_channel_at_a_time_by_both_colours() -> None:
    images = torch.full((64, 3, 32, 32), 128, dtype=torch.uint8)
    result = corrupt(images, "impulse_noise", severity=5, seed=0)
    black, white = (result == 0).double().mean(), (result == 255).double().mean()
    # 196,608 values: the standard deviation of either share is 0.0004.
    assert abs(float(black) - 0.035) < 0.002
    assert abs(float(white) - 0.035) < 0.002
    assert float(((result != 128).sum(1) == 3).double().mean()) < 0.002
