"""What chance gives, against drawn filters, drawn layers and quantiles."""

import math

import pytest
import torch

from filterbands.filters import filters_low_energy
from filterbands.filters.bands import EQUAL_AREA, cutoff_of, line
from filterbands.filters.chance import chance_centroid, chance_interval, chance_moments, chance_of_low


def white(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("channels", "spread"), [(3, 0.09), (64, 0.02)])
def test_white_filters_have_half_of_their_energy_below_within_the_published_spread(channels, spread):
    mean, deviation = chance_moments((3, 3), channels)
    assert mean == pytest.approx(0.5)
    assert round(deviation, 2) == spread
    share = filters_low_energy(white(20000, channels, 3, 3, seed=8))
    assert float(share.mean()) == pytest.approx(mean, abs=3 * deviation / math.sqrt(20000))
    assert float(share.std()) == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize(
    ("size", "channels", "cutoff", "dilation"),
    [
        ((3, 3), 3, EQUAL_AREA, (1, 1)),
        ((3, 3), 1, 0.1, (1, 1)),
        ((1, 2), 1, 0.3, (1, 1)),
        ((5, 5), 2, 0.25, (1, 1)),
        ((3, 3), 1, 0.4, (2, 3)),
    ],
)
def test_the_chance_of_being_low_is_that_of_drawn_filters(size, channels, cutoff, dilation):
    probability = chance_of_low(size, channels, cutoff=cutoff, dilation=dilation)
    share = filters_low_energy(white(400000, channels, *size, seed=9), cutoff, dilation=dilation)
    drawn = float((share >= line(cutoff)).double().mean())
    assert drawn == pytest.approx(probability, abs=3 * math.sqrt(0.25 / 400000))


def test_two_taps_and_wide_layers_are_low_by_chance_half_of_the_time():
    assert chance_of_low((1, 2), 1) == pytest.approx(0.5, abs=1e-9)
    assert chance_of_low((3, 3), 2048) == pytest.approx(0.5, abs=2e-3)


@pytest.mark.parametrize(
    ("shape", "layers"),
    [
        ((16, 3, 3, 3), 2000),
        ((64, 3, 7, 7), 400),
        ((64, 64, 3, 3), 150),
        pytest.param((64, 3, 7, 7), 4000, marks=pytest.mark.slow),
        pytest.param((64, 64, 3, 3), 4000, marks=pytest.mark.slow),
    ],
)
def test_the_chance_interval_covers_from_94_to_99_percent_of_white_layers(shape, layers):
    filters, channels, *size = shape
    probability = chance_of_low(tuple(size), channels)
    low, high = chance_interval(filters, probability)
    # What it covers is known: counts are binomial, and the interval is that of their quantiles.
    mass = [
        math.comb(filters, count) * probability**count * (1 - probability) ** (filters - count)
        for count in range(round(low * filters), round(high * filters) + 1)
    ]
    assert 0.94 <= sum(mass) <= 0.99
    generator = torch.Generator().manual_seed(10)
    inside = 0
    for _ in range(layers // 50):
        weight = torch.randn(50 * filters, *shape[1:], generator=generator)
        share = (filters_low_energy(weight) >= 0.5).reshape(50, filters).double().mean(dim=1)
        inside += int(((share >= low - 1e-9) & (share <= high + 1e-9)).sum())
    # Of few layers chance moves the share itself, by three standard deviations at most.
    slack = 0 if layers >= 2000 else 3 * math.sqrt(0.05 * 0.95 / layers)
    assert 0.94 - slack <= inside / layers <= 0.99 + slack


def test_chance_intervals_are_golden_binomial_quantiles():
    # Quantiles at 2.5 and 97.5 % of Binomial(64, 1/2) and Binomial(14, 1/2).
    assert chance_interval(64, 0.5) == (24 / 64, 40 / 64)
    assert chance_interval(14, 0.5) == (3 / 14, 11 / 14)
    assert chance_interval(5, 0.5) == (0.0, 1.0)
    assert chance_interval(10, 1.0) == (1.0, 1.0)
    assert chance_interval(10, 0.0) == (0.0, 0.0)


@pytest.mark.parametrize("size", [(5,), (3, 3, 3), (1, 3, 3)])
def test_chance_of_other_dimensions_is_that_of_drawn_filters(size):
    weight = white(60000, 2, *size, seed=12)
    for cutoff in (EQUAL_AREA, 0.2):
        share = filters_low_energy(weight, cutoff)
        middle, deviation = chance_moments(size, 2, cutoff=cutoff)
        assert float(share.mean()) == pytest.approx(middle, abs=4 * deviation / math.sqrt(60000))
        assert float(share.std()) == pytest.approx(deviation, rel=0.03)
        drawn = float((share >= line(cutoff_of(cutoff, len(size)), len(size))).double().mean())
        chance = chance_of_low(size, 2, cutoff=cutoff)
        assert drawn == pytest.approx(chance, abs=3 * math.sqrt(0.25 / 60000))


def test_the_centroid_of_white_filters_has_its_moments():
    from filterbands.filters import analyze

    layer = analyze({"a.weight": white(20000, 3, 3, 3, seed=13)})["a"]
    middle, deviation = chance_centroid((3, 3), 3)
    assert middle == pytest.approx(0.3826, abs=5e-5)
    assert layer.centroid == pytest.approx(middle, abs=4 * deviation / math.sqrt(20000))
    assert float(layer.filters_centroid.std()) == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: chance_of_low((3, 3), 0), "channels"),
        (lambda: chance_moments((3, 3), 0), "channels"),
        (lambda: chance_centroid((0, 3), 1), "0x3"),
        (lambda: chance_interval(0, 0.5), "at least 1 filter"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
