"""The mathematics of low and high, against slow sums, properties and golden values."""

import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from filterbands.filters.bands import (
    EQUAL_AREA,
    eigenfilters,
    energy_matrix,
    filters_low_energy,
    line,
    spans,
)
from filterbands.filters.chance import chance_of_low
from filterbands.filters.integrals import centroid_kernel, form_matrix, unaliased_kernel

reference = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "reference.py")))

SIZES = [(3, 3), (5, 5), (7, 7), (2, 2), (4, 3), (1, 3), (3, 5)]
# Kernels of several kinds: size, dilation, stride.
GEOMETRIES = [
    ((3, 3), (1, 1), (1, 1)),
    ((3, 3), (2, 2), (2, 2)),
    ((5, 5), (1, 1), (2, 2)),
    ((2, 4), (1, 3), (2, 1)),
    ((1, 7), (1, 1), (1, 3)),
    ((7, 7), (1, 1), (4, 4)),
]
NAMED = {
    "box": [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
    "binomial": [[1, 2, 1], [2, 4, 2], [1, 2, 1]],
    "Sobel": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "delta": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "Laplacian": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    "checkerboard": [[1, -1, 1], [-1, 1, -1], [1, -1, 1]],
}
# Integrals of the analytic spectra, to three digits.
NAMED_ENERGY = {
    "box": (0.895, 0.813),
    "binomial": (0.990, 0.783),
    "Sobel": (0.886, 0.348),
    "delta": (0.500, 0.196),
    "Laplacian": (0.184, 0.016),
    "checkerboard": (0.052, 0.005),
}

kernel_sides = st.integers(1, 6)
cutoffs = st.floats(0.02, 0.5)
seeds = st.integers(0, 2**31)


def white(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def form(weight: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    flat = weight.flatten(2)
    return ((flat @ matrix) * flat).sum(dim=(1, 2)) / flat.square().sum(dim=(1, 2))


def test_the_disc_of_the_default_cutoff_covers_half_of_the_frequency_square():
    assert line(EQUAL_AREA) == pytest.approx(0.5, abs=1e-15)


@pytest.mark.parametrize("name", NAMED)
def test_named_filters_have_their_golden_energy_at_two_cutoffs(name):
    weight = torch.tensor(NAMED[name], dtype=torch.float64)[None, None]
    for cutoff, expected in zip((EQUAL_AREA, 0.25), NAMED_ENERGY[name], strict=True):
        assert float(filters_low_energy(weight, cutoff)) == pytest.approx(expected, abs=6e-4)


def test_eigenvalues_of_3x3_are_golden():
    golden = [0.994, 0.897, 0.897, 0.634, 0.367, 0.352, 0.166, 0.166, 0.027]
    values, _ = eigenfilters(3, 3, cutoff=EQUAL_AREA)
    assert_close(values, torch.tensor(golden, dtype=torch.float64), atol=6e-4, rtol=0)


@pytest.mark.parametrize(("side", "low", "above", "below"), [(5, 13, 0.571, 0.311), (7, 24, 0.520, 0.428)])
def test_larger_kernels_crowd_the_line(side, low, above, below):
    values, _ = eigenfilters(side, side, cutoff=EQUAL_AREA)
    assert int((values >= 0.5).sum()) == low
    assert float(values[low - 1]) == pytest.approx(above, abs=6e-4)
    assert float(values[low]) == pytest.approx(below, abs=6e-4)


@pytest.mark.parametrize(("size", "dilation", "stride"), GEOMETRIES)
def test_every_form_agrees_with_sums_over_a_fine_grid(size, dilation, stride):
    weight = white(2, 3, *size, seed=1)
    kernels = weight[0].numpy()
    for cutoff in (0.15, EQUAL_AREA, 0.5):
        expected = reference.low_energy(kernels, cutoff, dilation)
        assert float(
            form(weight, energy_matrix(*size, cutoff=cutoff, dilation=dilation))[0]
        ) == pytest.approx(expected, abs=1e-3)
        assert float(filters_low_energy(weight, cutoff, dilation=dilation)[0]) == pytest.approx(
            expected, abs=1e-3
        )
    assert float(form(weight, form_matrix(centroid_kernel(size, dilation), size))[0]) == pytest.approx(
        reference.centroid(kernels, dilation), abs=1e-5
    )
    kept = form(weight, form_matrix(unaliased_kernel(size, dilation, stride), size))[0]
    # An odd stride's square does not end on a cell of the grid.
    assert 1 - float(kept) == pytest.approx(reference.aliased_energy(kernels, stride, dilation), abs=3e-3)


def test_a_stride_of_1_aliases_nothing():
    matrix = form_matrix(unaliased_kernel((4, 3), (1, 1), (1, 1)), (4, 3))
    assert_close(matrix, torch.eye(12, dtype=torch.float64))


def test_the_centroid_of_large_kernels_is_exact():
    # Far taps make the integrand turn quickly; a delta's spectrum is flat wherever it stands.
    weight = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    weight[0, 0, 0, 0], weight[0, 0, 30, 30] = 1, -1
    matrix = form_matrix(centroid_kernel((31, 31), (1, 1)), (31, 31))
    assert float(form(weight, matrix)) == pytest.approx(
        reference.centroid(weight[0].numpy(), size=1024), abs=1e-5
    )


@given(kernel_sides, kernel_sides, cutoffs, seeds)
@settings(max_examples=40)
def test_low_energy_is_free_of_sign_scale_and_place(kh, kw, cutoff, seed):
    if kh * kw == 1:
        return
    weight = white(2, 3, kh, kw, seed=seed)
    share = filters_low_energy(weight, cutoff)
    assert_close(filters_low_energy(-weight, cutoff), share)
    assert_close(filters_low_energy(weight * 1e-170, cutoff), share)
    assert_close(filters_low_energy(weight.flip(2), cutoff), share)
    shifted = torch.nn.functional.pad(weight, (2, 1, 0, 3))
    assert_close(filters_low_energy(shifted, cutoff), share)
    assert bool(((share >= 0) & (share <= 1)).all())


@given(kernel_sides, kernel_sides, cutoffs, cutoffs, seeds)
@settings(max_examples=40)
def test_low_energy_rises_with_the_cutoff(kh, kw, first, second, seed):
    if kh * kw == 1:
        return
    weight = white(3, 2, kh, kw, seed=seed)
    below, above = (filters_low_energy(weight, cutoff) for cutoff in sorted((first, second)))
    assert bool((above >= below - 1e-12).all())


@given(kernel_sides, kernel_sides, cutoffs)
@settings(max_examples=40)
def test_eigenfilters_are_an_orthonormal_basis_and_their_energies_average_to_the_line(kh, kw, cutoff):
    values, vectors = eigenfilters(kh, kw, cutoff=cutoff)
    assert_close(vectors @ vectors.T, torch.eye(kh * kw, dtype=torch.float64))
    matrix = energy_matrix(kh, kw, cutoff=cutoff)
    assert_close(vectors @ matrix @ vectors.T, torch.diag(values))
    assert bool((values.diff() <= 1e-9).all())
    assert float(values.mean()) == pytest.approx(line(cutoff))


def test_eigenfilters_do_not_mix_horizontal_and_vertical_edges():
    _, vectors = eigenfilters(3, 3, cutoff=EQUAL_AREA)
    first, second = vectors[1:3].reshape(2, 3, 3)
    assert_close(first, first.flip(0))
    assert_close(first, -first.flip(1))
    assert_close(second, first.T)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cutoff", [EQUAL_AREA, 0.25])
@pytest.mark.parametrize("guard", [0.0, 0.1])
def test_every_filter_of_a_span_is_on_its_side_of_the_line_by_the_guard(size, cutoff, guard):
    middle = line(cutoff)
    for zero_mean in (True, False):
        low, high = spans(*size, cutoff=cutoff, guard=guard, zero_mean=zero_mean)
        for basis in (low, high):
            assert_close(basis @ basis.T, torch.eye(len(basis), dtype=torch.float64))
        assert_close(low @ high.T, torch.zeros(len(low), len(high), dtype=torch.float64))
        for basis, seed in ((low, 5), (high, 6)):
            mixed = (white(200, len(basis), seed=seed) @ basis).reshape(200, 1, *size)
            if len(basis):
                share = filters_low_energy(mixed, cutoff)
                on_its_side = share >= middle + guard if basis is low else share <= middle - guard
                assert bool((on_its_side | ((share - middle).abs() - guard).abs().lt(1e-9)).all())
            if basis is high and zero_mean:
                assert_close(mixed.sum(dim=(1, 2, 3)), torch.zeros(200, dtype=torch.float64))


@pytest.mark.parametrize(
    ("side", "guard", "zero_mean", "counts"),
    [
        (3, 0.1, True, (4, 4)),
        (3, 0.0, False, (4, 5)),
        (5, 0.1, False, (11, 12)),
        (5, 0.0, False, (13, 12)),
        (7, 0.1, True, (22, 20)),
        (1, 0.1, True, (0, 0)),
    ],
)
def test_spans_have_their_dimensions(side, guard, zero_mean, counts):
    low, high = spans(side, side, guard=guard, zero_mean=zero_mean)
    assert (len(low), len(high)) == counts


@pytest.mark.parametrize("size", SIZES)
def test_without_guard_the_spans_fill_the_space_and_zero_mean_takes_one_dimension_at_most(size):
    low, high = spans(*size, guard=0.0, zero_mean=False)
    assert len(low) + len(high) == size[0] * size[1]
    _, cut = spans(*size, guard=0.0, zero_mean=True)
    assert len(high) - len(cut) == int(high.sum(dim=1).abs().max() > 1e-9)
    # What was cut off is what had a mean: everything that is left lies in the span as it was.
    assert_close(cut @ high.T @ high, cut)


def test_the_literal_high_span_of_3x3_keeps_gain_at_frequency_zero():
    # The largest gain of a unit filter at frequency zero is 9; of the literal high span it is 1.18^2.
    _, high = spans(3, 3, zero_mean=False)
    assert float(high.sum(dim=1).square().sum() / 9) == pytest.approx(0.155, abs=6e-4)


def test_spans_are_copies_and_stay_whole_when_changed():
    energy_matrix(3, 3, cutoff=EQUAL_AREA).zero_()
    for tensor in (*eigenfilters(3, 3, cutoff=EQUAL_AREA), *spans(3, 3, zero_mean=False)):
        tensor.zero_()
    assert float(eigenfilters(3, 3, cutoff=EQUAL_AREA)[0][0]) == pytest.approx(0.994, abs=6e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_gradient_of_low_energy_is_right(dtype):
    weight = white(2, 2, 3, 3, seed=7)
    assert torch.autograd.gradcheck(
        lambda w: filters_low_energy(w, 0.3), weight.clone().requires_grad_(), atol=1e-6
    )
    leaf = weight.to(dtype).requires_grad_()
    filters_low_energy(leaf).sum().backward()
    # The share does not change along the filter itself.
    assert_close((leaf.grad * leaf).sum(), torch.zeros((), dtype=dtype), atol=1e-6, rtol=0)


def test_a_filter_of_zeros_has_the_line_and_a_gradient_of_zero():
    weight = torch.zeros(2, 1, 3, 3, requires_grad=True)
    share = filters_low_energy(weight)
    share.sum().backward()
    assert_close(share.detach(), torch.full((2,), 0.5))
    assert_close(weight.grad, torch.zeros(2, 1, 3, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_floats_are_measured_in_float32(dtype):
    share = filters_low_energy(torch.ones(1, 1, 3, 3, dtype=dtype))
    assert share.dtype == torch.float32
    assert float(share) == pytest.approx(0.895, abs=6e-4)


def test_what_is_remembered_under_inference_mode_serves_training():
    with torch.inference_mode(), torch.device("meta"):
        spans(6, 5, cutoff=0.123)
        chance_of_low((6, 5), 2, cutoff=0.123)
    weight = white(2, 1, 6, 5).requires_grad_()
    filters_low_energy(weight, 0.123).sum().backward()
    assert bool(weight.grad.isfinite().all())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: line(0.0), r"cutoff .* 0\.0"),
        (lambda: energy_matrix(3, 3, cutoff=0.51), r"cutoff .* 0\.51"),
        (lambda: energy_matrix(3, 3, cutoff=math.nan), "cutoff .* nan"),
        (lambda: energy_matrix(0, 3, cutoff=0.3), "0x3"),
        (lambda: energy_matrix(3, 3, cutoff=0.3, dilation=(0, 1)), r"dilation \(0, 1\)"),
        (lambda: spans(3, 3, guard=-0.1), r"guard .* -0\.1"),
        (lambda: spans(3, 3, guard=1.0), r"guard .* 1\.0"),
        (lambda: filters_low_energy(torch.ones(2, 3, 1, 1)), "1x1"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
