"""Keyed random numbers: the published generator, uniform, independent across keys, streams and images."""

import math

import pytest
import torch
from scipy import stats

from filterbands import rng


def test_words_are_splitmix64_s() -> None:
    # First outputs of the reference implementation (prng.di.unimi.it/splitmix64.c) for seed 1234567.
    words = rng.bits(torch.tensor([1234567]), 5)[0].tolist()
    assert [word % 2**64 for word in words] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_numbers_do_not_depend_on_batch_count_or_order() -> None:
    key = rng.keys(3, "a", 1, index=torch.arange(500))
    assert torch.equal(rng.bits(key, 300)[17:18, :7], rng.bits(key[17:18], 7))
    assert torch.equal(rng.normal(key, (3, 32)).flip(0), rng.normal(key.flip(0), (3, 32)))
    assert torch.equal(rng.uniform(key, (50,))[:, :20], rng.uniform(key, (20,)))
    for draw in (rng.uniform, rng.normal):
        alone = torch.cat([draw(key[i : i + 1], (5, 7)) for i in range(40)])
        assert torch.equal(draw(key, (5, 7))[:40], alone)


def test_seed_parts_and_index_all_change_the_key() -> None:
    index = torch.arange(1000)
    keys = [
        rng.keys(seed, *parts, index=index)
        for seed, parts in [
            (0, ("fog", 1)),
            (1, ("fog", 1)),
            (0, ("fog", 2)),
            (0, ("fog", "1")),
            (0, ("fog1",)),
        ]
    ]
    assert len(torch.cat(keys).unique()) == 5000


def test_bits_are_even_in_every_place() -> None:
    words = rng.bits(rng.keys(0, "bits", index=torch.arange(256)), 256).flatten()
    for place in range(64):
        ones = int((words >> place & 1).sum())
        assert abs(ones - 32768) < 5 * 128, place  # five standard deviations


@pytest.mark.parametrize("axis", ["images", "counters", "streams"])
def test_uniforms_are_uniform_and_uncorrelated_along_every_axis(axis: str) -> None:
    n = 1 << 16
    if axis == "images":
        value = rng.uniform(rng.keys(0, "u", index=torch.arange(n)), ())
    elif axis == "counters":
        value = rng.uniform(rng.keys(0, "u", index=torch.arange(1)), (n,))[0]
    else:
        key = rng.keys(0, "u", index=torch.arange(64))
        value = torch.cat([rng.uniform(key, (), stream=stream) for stream in range(n // 64)])
    assert float(value.min()) >= 0
    assert float(value.max()) < 1
    assert stats.kstest(value.double().numpy(), "uniform").pvalue > 1e-4
    centered = value.double() - 0.5
    for lag in (1, 2, 3, 32):
        correlation = float((centered[lag:] * centered[:-lag]).mean() * 12)
        assert abs(correlation) < 5 / math.sqrt(n), lag
    pairs = torch.histogramdd(torch.stack([value[::2], value[1::2]], 1), bins=[16, 16], range=[0, 1, 0, 1])
    assert stats.chisquare(pairs.hist.flatten().numpy()).pvalue > 1e-4


def test_normals_are_normal_and_their_pairs_independent() -> None:
    key = rng.keys(0, "n", index=torch.arange(64))
    value = rng.normal(key, (2048,)).double()
    assert stats.kstest(value.flatten().numpy(), "norm").pvalue > 1e-4
    assert stats.kurtosis(value.flatten().numpy()) == pytest.approx(0, abs=5 * math.sqrt(24 / 2**17))
    # Box and Muller's two normals of a pair, and their squares, which a bad angle would tie together.
    first, second = value[:, :1024], value[:, 1024:]
    bound = 5 / math.sqrt(first.numel())
    assert abs(float((first * second).mean())) < bound
    assert abs(float(((first**2 - 1) * (second**2 - 1)).mean()) / 2) < bound


def test_normals_of_odd_counts_and_no_shape() -> None:
    key = rng.keys(0, "n", index=torch.arange(3))
    assert rng.normal(key, (5,)).shape == (3, 5)
    assert rng.normal(key, ()).shape == (3,)
    assert rng.normal(key[:0], (2, 2)).shape == (0, 2, 2)


@pytest.mark.parametrize(("low", "high"), [(0, 2), (-4, 4), (0, 5), (3, 1000)])
def test_integers_fill_their_range_evenly(low: int, high: int) -> None:
    value = rng.integers(rng.keys(0, "i", index=torch.arange(100)), low, high, (997,)).flatten()
    count = torch.bincount(value - low, minlength=high - low)
    assert len(count) == high - low
    assert stats.chisquare(count.numpy()).pvalue > 1e-4
