"""What the docs state of filters as a law, for kernels of any size, cutoff, guard, geometry and precision."""

import inspect
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from filterbands.filters import (
    EQUAL_AREA,
    analyze,
    effective_first_layer,
    eigenfilters,
    energy_matrix,
    filters_low_energy,
    line,
    live_filters,
    spans,
)
from filterbands.filters.bands import check_kernel, cutoff_of

sizes = st.tuples(st.integers(1, 6), st.integers(1, 6)).filter(lambda size: math.prod(size) > 1)
cutoffs = st.floats(0.05, 0.5) | st.just(EQUAL_AREA)
guards = st.floats(0, 0.4)
seeds = st.integers(0, 2**31)


def white(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


@given(sizes, cutoffs, guards, st.booleans(), seeds)
@settings(max_examples=30)
def test_mixtures_of_a_span_are_on_its_side_by_the_guard_and_the_matrix_does_not_mix_the_spans(
    size, cutoff, guard, zero_mean, seed
):
    low, high = spans(*size, cutoff=cutoff, guard=guard, zero_mean=zero_mean)
    matrix = energy_matrix(*size, cutoff=cutoff)
    assert float((low @ matrix @ high.T).abs().sum()) < 1e-9
    assert float((low @ high.T).abs().sum()) < 1e-9
    for basis, sign in ((low, 1), (high, -1)):
        if len(basis):
            kernels = (white(20, 2, len(basis), seed=seed) @ basis).reshape(20, 2, *size)
            beyond = sign * (filters_low_energy(kernels, cutoff) - line(cutoff)) - guard
            assert float(beyond.min()) > -1e-8
            if zero_mean and sign < 0:
                assert_close(kernels.sum(dim=(2, 3)), torch.zeros(20, 2, dtype=torch.float64))


@given(sizes, cutoffs, seeds)
@settings(max_examples=20)
def test_without_guard_every_kernel_is_a_low_and_a_high_part_and_its_energy_is_mixed_by_their_proportion(
    size, cutoff, seed
):
    kernels = white(4, 2, *size, seed=seed)
    low, high = (
        (kernels.flatten(2) @ span.T @ span).reshape(kernels.shape)
        for span in spans(*size, cutoff=cutoff, guard=0, zero_mean=False)
    )
    assert_close(low + high, kernels)
    energies = [part.square().sum(dim=(1, 2, 3)) for part in (low, high)]
    a = energies[0] / (energies[0] + energies[1])
    mixed = a * filters_low_energy(low, cutoff) + (1 - a) * filters_low_energy(high, cutoff)
    assert_close(mixed, filters_low_energy(kernels, cutoff))


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3).filter(lambda size: math.prod(size) > 1),
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    st.integers(1, 4),
    cutoffs,
    seeds,
)
@settings(max_examples=30)
def test_low_energy_is_a_share_that_only_the_spectrum_matters_to(size, dtype, channels, cutoff, seed):
    weight = white(3, channels, *size, seed=seed, dtype=dtype)
    share = filters_low_energy(weight, cutoff)
    assert bool(((share >= -1e-6) & (share <= 1 + 1e-6)).all())
    assert share.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    close = {"atol": 2e-5, "rtol": 0}
    # Channels add up as powers: their order and their signs do not matter, nor does turning them together.
    assert_close(filters_low_energy(weight.flip(1), cutoff), share, **close)
    turn = torch.linalg.qr(white(channels, channels, seed=seed + 1))[0]
    turned = torch.einsum("dc,fc...->fd...", turn, weight.double())
    assert_close(filters_low_energy(turned, cutoff), share.double(), **close)
    assert_close(filters_low_energy(-4 * weight, cutoff), share, **close)
    # Filters are measured one by one.
    assert_close(filters_low_energy(weight[1:2], cutoff), share[1:2], **close)
    # A kernel turned by 90 degrees, or mirrored, has the same radii.
    axes = tuple(range(2, 2 + len(size)))
    assert_close(filters_low_energy(weight.flip(axes), cutoff), share, **close)
    if len(size) > 1:
        assert_close(filters_low_energy(weight.transpose(2, -1), cutoff), share, **close)


@given(sizes, st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), cutoffs, seeds)
@settings(max_examples=20)
def test_a_dilated_kernel_is_the_kernel_with_zeros_between_its_taps(
    size, vertical, horizontal, channels, cutoff, seed
):
    weight = white(2, channels, *size, seed=seed)
    wide = torch.zeros(
        *(2, channels, vertical * (size[0] - 1) + 1, horizontal * (size[1] - 1) + 1), dtype=torch.float64
    )
    wide[:, :, ::vertical, ::horizontal] = weight
    dilated = filters_low_energy(weight, cutoff, dilation=(vertical, horizontal))
    assert_close(dilated, filters_low_energy(wide, cutoff))


@given(sizes, cutoffs)
@settings(max_examples=20)
def test_eigenvalues_are_shares_and_each_eigenfilter_is_even_or_odd_in_either_axis(size, cutoff):
    values, vectors = eigenfilters(*size, cutoff=cutoff)
    assert bool(((values >= 0) & (values <= 1)).all())
    kernels = vectors.reshape(-1, *size)
    for axis in (1, 2):
        odd = (kernels.flip(axis) + kernels).abs().amax(dim=(1, 2))
        even = (kernels.flip(axis) - kernels).abs().amax(dim=(1, 2))
        assert float(torch.minimum(odd, even).max()) < 1e-9
    matrix = energy_matrix(*size, cutoff=cutoff)
    assert_close(matrix.diagonal(), torch.full((math.prod(size),), line(cutoff), dtype=torch.float64))
    assert_close(matrix, matrix.T)


@given(st.integers(1, 3), st.integers(2, 12), st.floats(-30, 30), seeds)
@settings(max_examples=20)
def test_a_filter_is_live_by_its_part_of_the_strongest_filters_energy_alone(channels, count, power, seed):
    weight = white(count, channels, 3, 3, seed=seed) * torch.logspace(0, -3, count)[:, None, None, None]
    energy = weight.square().sum(dim=(1, 2, 3))
    live = live_filters(weight)
    assert live.tolist() == (energy >= 1e-3 * energy.max()).tolist()
    assert live_filters(weight * 2.0 ** round(power)).tolist() == live.tolist()
    assert live_filters(weight.flip(0)).tolist() == live.flip(0).tolist()


@given(
    st.integers(1, 5), st.integers(1, 5), st.integers(2, 9), st.integers(1, 4), st.floats(0.15, 0.49), seeds
)
@settings(max_examples=15)
def test_figures_of_a_layer_are_consistent_shares_free_of_the_order_of_filters(
    kh, kw, filters, channels, cutoff, seed
):
    if kh * kw == 1:
        return
    weight = white(filters, channels, kh, kw, seed=seed, dtype=torch.float32)
    layer = analyze({"conv.weight": weight}, cutoff=cutoff)["conv"]
    energies = filters_low_energy(weight, cutoff)
    live = live_filters(weight)
    assert layer.dead == int((~live).sum())
    assert layer.low_share == pytest.approx(float((energies[live] >= line(cutoff)).double().mean()), abs=1e-9)
    assert layer.mean_low_energy == pytest.approx(float(energies[live].mean()), abs=1e-5)
    curve = torch.as_tensor(layer.curve)
    assert float(curve.diff().min()) > -1e-6
    assert float(curve.min()) > -1e-6
    assert float(curve.max()) < 1 + 1e-6
    total = layer.horizontal_energy + layer.vertical_energy + layer.diagonal_energy
    assert total == pytest.approx(1, abs=1e-5)
    assert 0 <= layer.zero_leak <= 1 + 1e-6
    assert 0 < layer.centroid < math.sqrt(0.5)
    turned = analyze({"conv.weight": weight.transpose(2, 3).flip(0)}, cutoff=cutoff)["conv"]
    assert turned.horizontal_energy == pytest.approx(layer.vertical_energy, abs=1e-5)
    for name in ("low_share", "low_energy", "mean_low_energy", "centroid", "zero_leak", "dead"):
        assert getattr(turned, name) == pytest.approx(getattr(layer, name), abs=1e-5), name


@given(st.integers(1, 4), st.integers(2, 5), st.integers(1, 3), st.integers(1, 4), seeds)
@settings(max_examples=15)
def test_a_stride_folds_a_share_that_rises_with_it_and_none_at_1(kh, kw, first, factor, seed):
    energies = []
    for stride in (1, first, first * factor):
        layer = nn.Conv2d(2, 4, (kh, kw), stride=stride)
        with torch.no_grad():
            layer.weight.copy_(white(4, 2, kh, kw, seed=seed))
        energies.append(analyze(layer)["weight"].aliased_energy)
    assert energies[0] == pytest.approx(0, abs=1e-6)
    assert energies[0] - 1e-6 <= energies[1] <= energies[2] + 1e-6
    assert energies[2] < 1


@given(
    st.sampled_from([(3, 3), (1, 3), (5, 3), (2, 2)]),
    st.sampled_from([(3, 3), (3, 1), (2, 4)]),
    st.booleans(),
    seeds,
)
@settings(max_examples=10)
def test_two_layers_as_one_answer_as_both_do_one_after_the_other(first, second, norm, seed):
    torch.manual_seed(seed % 1000)
    model = nn.Sequential(
        nn.Conv2d(2, 5, first, bias=False),
        nn.BatchNorm2d(5) if norm else nn.Identity(),
        nn.Conv2d(5, 4, second, bias=False),
    ).eval()
    if norm:
        model[1].running_var.uniform_(0.5, 2)
        model[1].weight.data.normal_()
    found = effective_first_layer(model)
    assert found.shape == (4, 2, first[0] + second[0] - 1, first[1] + second[1] - 1)
    delta = torch.zeros(2, 2, 15, 15)
    delta[0, 0, 7, 7] = delta[1, 1, 7, 7] = 1
    answers = model(delta).detach().transpose(0, 1)
    # The answer to a point is the kernel, mirrored, which has the same low energy.
    assert_close(
        torch.as_tensor(found.filters_low_energy).float(),
        filters_low_energy(answers),
        atol=1e-5,
        rtol=0,
    )


@given(st.floats(0.01, 0.5))
@settings(max_examples=10)
def test_the_default_cutoff_is_the_half_of_all_frequencies_in_any_dimension_and_others_are_themselves(cutoff):
    for dimensions in (1, 2, 3):
        assert line(cutoff_of(EQUAL_AREA, dimensions), dimensions) == pytest.approx(0.5, abs=1e-12)
        assert cutoff_of(cutoff, dimensions) == cutoff
    # The length, the area and the volume of the ball.
    expected = 2 * cutoff, math.pi * cutoff**2, 4 / 3 * math.pi * cutoff**3
    assert [line(cutoff, dimensions) for dimensions in (1, 2, 3)] == pytest.approx(expected)
    assert line(cutoff) == line(cutoff, 2)


@given(sizes, cutoffs, st.data())
@settings(max_examples=20)
def test_an_eigenfilter_at_the_guards_distance_of_the_line_belongs_to_its_span(size, cutoff, data):
    values, _ = eigenfilters(*size, cutoff=cutoff)
    middle = line(cutoff)
    value = float(values[data.draw(st.integers(0, len(values) - 1))])
    # Rounding up to 1e-9 decides nothing.
    for guard in {abs(value - middle), abs(value - middle) + 5e-10}:
        low, high = spans(*size, cutoff=cutoff, guard=guard, zero_mean=False)
        assert len(low) == int((values >= middle + guard - 1e-9).sum())
        assert len(high) == int(((values <= middle - guard + 1e-9) & (values < middle + guard - 1e-9)).sum())
        assert len(low if value >= middle - 1e-9 else high) > 0
    assert [one.tolist() for one in spans(*size)] == [
        one.tolist() for one in spans(*size, cutoff=EQUAL_AREA, guard=0.1, zero_mean=True)
    ]


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.ones(3, 3), r"needs weights of shape .*, got \(3, 3\)"),
        (torch.ones(1, 1, 1, 1, 2, 2), r"got \(1, 1, 1, 1, 2, 2\)"),
        (torch.ones(0, 3, 3, 3), r"got \(0, 3, 3, 3\)"),
        (torch.ones(2, 3, 3, 3, dtype=torch.complex64), "real floating-point weights, got torch.complex64"),
        (torch.ones(2, 3, 3, 3, dtype=torch.int64), "real floating-point weights, got torch.int64"),
        (torch.ones(2, 3, 1), "a 1x1 kernel has no spectrum"),
    ],
)
def test_weights_without_a_spectrum_are_refused(weight, message):
    # Outside of tests nothing checks the annotations before.
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(filters_low_energy)(weight)


@pytest.mark.parametrize("size", [(), (2, 2, 2, 2), (0,), (3, -1)])
def test_kernels_have_one_to_three_sides_and_a_dilation_per_side(size):
    with pytest.raises(ValueError, match="a kernel needs a side and a dilation of at least 1 per axis"):
        check_kernel(size)
    for dilation in ((1,), (1, 0), (1, 1, 1)):
        with pytest.raises(ValueError, match=f"got 3x3, dilation {re.escape(str(dilation))}"):
            check_kernel((3, 3), dilation)
    assert check_kernel((3, 1, 2)) == (1, 1, 1)
    assert check_kernel((1,), (4,)) == (4,)
