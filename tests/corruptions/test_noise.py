"""Noise kinds: recorded draws give the recorded bytes, and our own draws have the published law."""

import numpy as np
import pytest
import torch
from scipy import stats

from filterbands.corruptions import corrupt, noise
from filterbands.corruptions.kinds import CIFAR


@pytest.mark.parametrize("severity", range(1, 6))
def test_gaussian_noise_with_recorded_draws_equals_the_original(replay, severity: int) -> None:
    images, (drawn,), original = replay("gaussian_noise", severity)
    assert torch.equal(noise.add_noise(images, drawn), original)


@pytest.mark.parametrize("severity", range(1, 6))
def test_impulse_noise_with_recorded_draws_equals_the_original(replay, severity: int) -> None:
    images, (replaced, salt), original = replay("impulse_noise", severity)
    assert torch.equal(noise.replace_values(images, replaced, salt=salt), original)


def test_gaussian_noise_has_the_standard_deviation_of_its_table() -> None:
    images = torch.full((64, 3, 32, 32), 128, dtype=torch.uint8)
    change = corrupt(images, "gaussian_noise", severity=3, seed=0).double() - 128
    # Cutting the fraction shifts by half a level and adds a variance of 1/12.
    assert abs(float(change.mean()) + 0.5) < 0.2
    assert abs(float(change.std()) / 255 - 0.08) < 0.0005


def test_impulse_noise_replaces_its_share_one_channel_at_a_time_by_both_colors() -> None:
    images = torch.full((64, 3, 32, 32), 128, dtype=torch.uint8)
    result = corrupt(images, "impulse_noise", severity=5, seed=0)
    black, white = (result == 0).double().mean(), (result == 255).double().mean()
    # 196,608 values: the standard deviation of either share is 0.0004.
    assert abs(float(black) - 0.035) < 0.002
    assert abs(float(white) - 0.035) < 0.002
    assert float(((result != 128).sum(1) == 3).double().mean()) < 0.002


@pytest.mark.parametrize("severity", range(1, 6))
def test_shot_noise_with_recorded_counts_equals_the_original(replay, severity: int) -> None:
    _, (counts,), original = replay("shot_noise", severity)
    assert torch.equal(noise.expose(counts, photons=CIFAR["shot_noise"][severity - 1][0]), original)


@pytest.mark.parametrize("severity", range(1, 6))
def test_speckle_noise_with_recorded_draws_equals_the_original(replay, severity: int) -> None:
    images, (drawn,), original = replay("speckle_noise", severity)
    assert torch.equal(noise.add_noise_in_proportion(images, drawn), original)


@pytest.mark.parametrize("photons", [500, 75, 3])
def test_photon_tables_hold_poisson_s_law(photons: float) -> None:
    threshold, outcome = noise.photon_table(photons)
    columns = len(threshold) // 256
    bits = 32 - (columns.bit_length() - 1)
    kept = (threshold.double().numpy() + 2.0 ** (bits - 1)) / 2.0**bits / columns
    counts = torch.arange(2000)
    for byte in (0, 1, 60, 255):
        row = slice(byte * columns, (byte + 1) * columns)
        law = np.bincount(outcome[: len(threshold)][row], weights=kept[row], minlength=256)
        law += np.bincount(outcome[len(threshold) :][row], weights=1 / columns - kept[row], minlength=256)
        poisson = stats.poisson.pmf(counts.numpy(), byte / 255 * photons)
        expected = np.bincount(noise.expose(counts, photons=photons), weights=poisson, minlength=256)
        assert np.abs(law - expected).max() < 1e-8


@pytest.mark.parametrize("photons", [500, 60, 12, 3])
def test_photon_tables_do_not_depend_on_the_last_bits_of_a_logarithm(
    photons: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = torch.lgamma
    threshold, outcome = noise.photon_table(photons)
    noise.photon_table.cache_clear()
    generator = torch.Generator().manual_seed(0)

    def rounded_otherwise(values: torch.Tensor) -> torch.Tensor:
        ulps = torch.randint(-1, 2, values.shape, generator=generator)
        return plain(values) * (1 + ulps * 2.0**-52)

    monkeypatch.setattr(torch, "lgamma", rounded_otherwise)
    other_threshold, other_outcome = noise.photon_table(photons)
    noise.photon_table.cache_clear()
    assert torch.equal(other_outcome, outcome)
    assert int((other_threshold.long() - threshold.long()).abs().max()) <= 1


def test_shot_noise_has_poisson_s_mean_and_variance() -> None:
    images = torch.full((64, 3, 32, 32), 100, dtype=torch.uint8)
    counts = corrupt(images, "shot_noise", severity=5, seed=0).double().mul(50 / 255).sub(1e-9).ceil()
    mean = 50 * 100 / 255
    assert float(counts.mean()) == pytest.approx(mean, abs=5 * (mean / 196608) ** 0.5)
    assert float(counts.var()) == pytest.approx(mean, rel=0.02)


def test_speckle_noise_leaves_black_and_grows_with_the_value() -> None:
    images = torch.tensor([0, 64, 128], dtype=torch.uint8)[None, :, None, None].repeat(8, 1, 64, 64)
    result = corrupt(images, "speckle_noise", severity=3, seed=0).double()
    assert float(result[:, 0].max()) == 0
    spread = result.std((0, 2, 3)) / 255
    assert spread[1:].tolist() == pytest.approx([0.12 * 64 / 255, 0.12 * 128 / 255], rel=0.02)
