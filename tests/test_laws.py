"""What the docstrings state of keyed numbers and Fourier transforms as a law, for any key, shape and size."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from filterbands import fourier, rng

seeds = st.integers(-(2**70), 2**70)
parts = st.lists(st.text(max_size=5) | st.integers(-9, 2**40), max_size=3)
shapes = st.lists(st.integers(1, 5), max_size=3).map(tuple)
sides = st.integers(2, 13)
small_seeds = st.integers(0, 2**31)


@given(
    seeds,
    parts,
    st.lists(st.integers(0, 2**62), min_size=1, max_size=8),
    shapes,
    st.integers(0, 9),
    st.data(),
)
@settings(max_examples=30)
def test_numbers_depend_on_their_key_alone_and_more_of_them_begin_with_fewer(
    seed, names, index, shape, stream, data
):
    keys = rng.keys(seed, *names, index=torch.tensor(index))
    chosen = torch.tensor(data.draw(st.lists(st.integers(0, len(index) - 1), min_size=1, max_size=9)))
    assert torch.equal(rng.keys(seed, *names, index=torch.tensor(index)[chosen]), keys[chosen])
    for draw in (
        lambda key: rng.uniform(key, shape, stream=stream),
        lambda key: rng.normal(key, shape, stream=stream),
        lambda key: rng.integers(key, -3, 8, shape, stream=stream),
        lambda key: rng.bits(key, 7, stream=stream),
    ):
        assert torch.equal(draw(keys[chosen]), draw(keys)[chosen])
    assert torch.equal(rng.bits(keys, 40, stream=stream)[:, :13], rng.bits(keys, 13, stream=stream))
    assert torch.equal(
        rng.uniform(keys, (40,), stream=stream)[:, :13], rng.uniform(keys, (13,), stream=stream)
    )


@given(seeds, parts, st.integers(0, 2**40), st.integers(0, 9), st.integers(1, 9), small_seeds)
@settings(max_examples=30)
def test_any_integer_type_gives_one_key_and_other_seeds_parts_indices_and_streams_other_numbers(
    seed, names, number, stream, further, value
):
    index = torch.tensor([number])
    key = rng.keys(seed, *names, index=index)
    others = [
        rng.keys(seed + further, *names, index=index),
        rng.keys(seed, *names, "more", index=index),
        rng.keys(seed, *names, index=index + further),
    ]
    assert all(not torch.equal(rng.bits(other, 4), rng.bits(key, 4)) for other in others)
    assert not torch.equal(rng.bits(key, 4, stream=stream), rng.bits(key, 4, stream=stream + further))
    for kind in (np.int64, np.uint32, torch.tensor):
        assert torch.equal(
            rng.keys(kind(value), "a", kind(3), index=index), rng.keys(value, "a", 3, index=index)
        )
    # A number and its text are different parts.
    assert not torch.equal(rng.keys(seed, 3, index=index), rng.keys(seed, "3", index=index))


@given(seeds, st.integers(-(2**20), 2**20), st.integers(1, 2**20), shapes)
@settings(max_examples=30)
def test_numbers_lie_in_their_ranges_on_their_grids(seed, low, count, shape):
    key = rng.keys(seed, "ranges", index=torch.arange(20))
    uniform = rng.uniform(key, shape)
    assert uniform.dtype == torch.float32
    assert tuple(uniform.shape) == (20, *shape)
    assert bool(((uniform >= 0) & (uniform < 1)).all())
    assert torch.equal((uniform * 2**24).round(), uniform * 2**24)
    whole = rng.integers(key, low, low + count, shape)
    assert bool(((whole >= low) & (whole < low + count)).all())
    normal, exact = rng.normal(key, shape), rng.normal(key, shape, dtype=torch.float64)
    assert float(normal.abs().max()) <= 5.77
    assert_close(normal.double(), exact, atol=2e-6, rtol=0)


def test_a_stream_that_is_not_named_is_the_first():
    key = rng.keys(0, "streams", index=torch.arange(3))
    for draw in (
        rng.uniform,
        rng.normal,
        lambda *given, **named: rng.integers(given[0], 0, 99, given[1], **named),
    ):
        assert torch.equal(draw(key, (5,)), draw(key, (5,), stream=0))
        assert not torch.equal(draw(key, (5,)), draw(key, (5,), stream=1))
    assert torch.equal(rng.bits(key, 3), rng.bits(key, 3, stream=0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_are_finite_and_at_most_5_77_at_the_ends_of_the_range_of_bits(monkeypatch, dtype):
    ends = torch.tensor([-(2**31), -(2**31), 2**31 - 1, 2**31 - 1, 0, 2**30], dtype=torch.int32)
    monkeypatch.setattr(rng, "_halves", lambda _, count, **__: ends[torch.arange(count) % 6][None])
    for count in (1, 2, 3, 4, 6, 9, 12):
        drawn = rng.normal(torch.tensor([5]), (count,), dtype=dtype)
        assert bool(drawn.isfinite().all())
        assert float(drawn.abs().max()) <= 5.77
    uniform = rng.uniform(torch.tensor([5]), (6,))
    assert float(uniform.min()) == 0
    assert float(uniform.max()) == 1 - 2**-24


def arrays(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(sides, sides, st.integers(1, 3), small_seeds)
@settings(max_examples=20)
def test_power_adds_up_and_knows_no_place_and_no_sign(height, width, count, seed):
    images = arrays((count, height, width), seed)
    power = fourier.power_spectrum(images)
    assert_close(power.mean(dim=(1, 2)), images.square().mean(dim=(1, 2)))
    assert_close(fourier.power_spectrum(-images.roll((3, 1), (1, 2))), power)
    assert_close(fourier.power_spectrum(3 * images), 9 * power)
    radius = fourier.radius_grid(height, width)
    assert float(radius[0, 0]) == 0
    assert float(radius.max()) <= np.sqrt(0.5) + 1e-6
    assert torch.equal(fourier.radius_grid(height, width, half=True), radius[:, : width // 2 + 1])
    assert fourier.centered(radius)[height // 2, width // 2] == 0


@given(sides, sides, small_seeds)
@settings(max_examples=20)
def test_gains_compose_commute_with_shifts_and_leave_the_mean_where_they_are_1_at_zero(height, width, seed):
    images = arrays((2, 3, height, width), seed)
    # Gains of the radius alone: equal at a frequency and at its mirror image.
    radius = fourier.radius_grid(height, width, half=True, dtype=torch.float64)
    first, second = 2 + torch.cos(9 * radius), 1 + torch.sin(5 * radius)
    both = fourier.filter_images(fourier.filter_images(images, first[None, None]), second[None, None])
    assert_close(both, fourier.filter_images(images, (first * second)[None, None]))
    moved = fourier.filter_images(images.roll(2, -1), first[None, None])
    assert_close(moved, fourier.filter_images(images, first[None, None]).roll(2, -1))
    kept = fourier.filter_images(images, (first / first[0, 0])[None, None])
    assert_close(kept.mean(dim=(2, 3)), images.mean(dim=(2, 3)))


@given(sides, sides, st.integers(-20, 20), st.integers(-20, 20), st.integers(1, 6))
@settings(max_examples=20)
def test_a_wave_has_unit_norm_is_its_mirror_image_and_is_orthogonal_to_other_waves(
    height, width, i, j, further
):
    vertical, horizontal = torch.tensor([i, -i, i + height, i + further]), torch.tensor([j, -j, j - width, j])
    waves = fourier.fourier_basis(height, width, vertical, horizontal)
    assert_close(waves.flatten(1).norm(dim=1), torch.ones(4))
    assert torch.equal(waves[0], waves[1])
    assert torch.equal(waves[0], waves[2])
    same = further % height == 0 or ((2 * i + further) % height == 0 and 2 * j % width == 0)
    product = float((waves[0] * waves[3]).sum())
    assert abs(product) == pytest.approx(1 if same else 0, abs=1e-5)


@given(sides, sides, st.booleans(), small_seeds)
@settings(max_examples=20)
def test_amplitudes_are_swapped_for_those_of_the_other_and_for_ones_own_nothing_changes(
    height, width, across, seed
):
    one, other = arrays((2, 3, height, width), seed), arrays((2, 3, height, width), seed + 1)
    assert_close(fourier.swap_amplitude(one, one, across_channels=across), one)
    if not across:
        swapped = fourier.swap_amplitude(one, other)
        assert_close(fourier.power_spectrum(swapped), fourier.power_spectrum(other), atol=1e-8, rtol=1e-6)
        assert_close(fourier.swap_amplitude(swapped, one), one, atol=1e-6, rtol=1e-6)
    mean = torch.fft.rfft2(fourier.amplitude_image(one))[0]
    expected = torch.fft.rfft2(one).abs().mean(dim=0)
    assert_close(mean, expected.to(mean.dtype), atol=1e-6, rtol=1e-6)
