"""Integrals of the spectrum in one, two and three dimensions, against sums over fine grids."""

import math
import runpy
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from filterbands.filters.bands import EQUAL_AREA, cutoff_of, energy_matrix, line
from filterbands.filters.integrals import (
    autocorrelation,
    ball_kernel,
    centroid_kernel,
    direction_kernel,
    form_matrix,
    sphere_kernel,
    unaliased_kernel,
    wedge_kernel,
)

reference = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "reference.py")))

# Kernels of several kinds: size, dilation, stride.
GEOMETRIES = [
    ((3, 3), (1, 1), (1, 1)),
    ((3, 3), (2, 2), (2, 2)),
    ((5, 5), (1, 1), (2, 2)),
    ((2, 4), (1, 3), (2, 1)),
    ((1, 7), (1, 1), (1, 3)),
    ((7, 7), (1, 1), (4, 4)),
]


def white(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def form(weight: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    flat = weight.flatten(2)
    return ((flat @ matrix) * flat).sum(dim=(1, 2)) / flat.square().sum(dim=(1, 2))


@pytest.mark.parametrize(("size", "dilation", "stride"), GEOMETRIES)
def test_the_autocorrelation_gives_the_same_as_the_matrices(size, dilation, stride):
    weight = white(4, 3, *size, seed=2)
    lagged = autocorrelation(weight)
    energy = weight.square().sum(dim=(1, 2, 3))
    assert_close(lagged[:, lagged.shape[1] // 2], energy)
    pairs = [
        (ball_kernel(size, dilation, 0.3), energy_matrix(*size, cutoff=0.3, dilation=dilation)),
        *(
            (kernel, form_matrix(kernel, size))
            for kernel in (centroid_kernel(size, dilation), unaliased_kernel(size, dilation, stride))
        ),
    ]
    for kernel, matrix in pairs:
        assert_close(lagged @ kernel / energy, form(weight, matrix))


def test_the_power_on_a_circle_agrees_with_its_mean_over_directions():
    weight = white(1, 3, 4, 5, seed=3)
    power = autocorrelation(weight) @ sphere_kernel((4, 5), (1, 2), 0.31) / weight.square().sum()
    assert float(power) == pytest.approx(reference.ring_power(weight[0].numpy(), 0.31, (1, 2)), abs=1e-6)


def test_the_power_on_circles_adds_up_to_the_energy_of_the_disc():
    weight = white(1, 2, 5, 5, seed=4)
    lagged = autocorrelation(weight)[0]
    radii = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000 * 0.4
    power = torch.stack([lagged @ sphere_kernel((5, 5), (1, 1), float(radius)) for radius in radii])
    summed = float((2 * math.pi * radii * power).sum() * 0.4 / 2000)
    assert summed == pytest.approx(float(lagged @ ball_kernel((5, 5), (1, 1), 0.4)), rel=1e-5)


def grid_power(kernels, dilation, points):
    """Return the frequencies of a midpoint grid over the cube and one filter's power there, by definition."""
    frequency = (np.arange(points) + 0.5) / points - 0.5
    spectrum = 0.0
    for kernel in kernels:
        transform = kernel.astype(complex)
        for axis, step in enumerate(dilation):
            turn = np.exp(-2j * math.pi * np.outer(frequency, np.arange(kernel.shape[axis]) * step))
            transform = np.moveaxis(np.tensordot(turn, transform, axes=(1, axis)), 0, axis)
        spectrum = spectrum + np.abs(transform) ** 2
    return np.stack(np.meshgrid(*[frequency] * len(dilation), indexing="ij")), spectrum


# One dimension is summed finely; of three the grid is coarse, and its errors are those of the reference.
@pytest.mark.parametrize(
    ("size", "dilation", "stride", "points", "tolerance"),
    [
        ((5,), (1,), (2,), 20000, 1e-4),
        ((4,), (3,), (4,), 20000, 1e-4),
        ((3, 3, 3), (1, 1, 1), (2, 2, 2), 96, 2e-3),
        ((1, 3, 2), (1, 2, 1), (1, 2, 4), 96, 2e-3),
    ],
)
def test_lines_and_volumes_agree_with_sums_over_a_fine_grid(size, dilation, stride, points, tolerance):
    weight = white(1, 2, *size, seed=20)
    lagged = autocorrelation(weight)[0] / float(weight.square().sum())
    where, power = grid_power(weight[0].numpy(), dilation, points)
    radius, total = np.sqrt((where**2).sum(axis=0)), power.sum()
    for cutoff in (0.2, cutoff_of(EQUAL_AREA, len(size)), 0.5):
        expected = power[radius <= cutoff].sum() / total
        assert float(lagged @ ball_kernel(size, dilation, cutoff)) == pytest.approx(expected, abs=tolerance)
    expected = (radius * power).sum() / total
    assert float(lagged @ centroid_kernel(size, dilation)) == pytest.approx(expected, abs=1e-4)
    steps = np.array(stride).reshape(-1, *[1] * len(size))
    expected = power[(np.abs(where) <= 0.5 / steps).all(axis=0)].sum() / total
    kept = float(lagged @ unaliased_kernel(size, dilation, stride))
    assert kept == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_the_equal_area_cutoff_holds_half_of_all_frequencies_in_any_dimension(dimensions):
    assert line(cutoff_of(EQUAL_AREA, dimensions), dimensions) == pytest.approx(0.5)
    assert cutoff_of(0.3, dimensions) == 0.3


@pytest.mark.parametrize("dimensions", [1, 3])
def test_the_power_at_radii_adds_up_to_the_energy_of_the_ball(dimensions):
    size, ones = (3,) * dimensions, (1,) * dimensions
    lagged = autocorrelation(white(1, 2, *size, seed=21))[0]
    radii = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000 * 0.4
    shell = 2 * torch.ones_like(radii) if dimensions == 1 else 4 * math.pi * radii**2
    power = torch.stack([lagged @ sphere_kernel(size, ones, float(radius)) for radius in radii])
    assert float((shell * power).sum() * 0.4 / 2000) == pytest.approx(
        float(lagged @ ball_kernel(size, ones, 0.4)), rel=1e-5
    )


@pytest.mark.parametrize(("size", "dilation"), [((3, 3), (1, 1)), ((5, 2), (1, 3))])
def test_wedges_and_directions_agree_with_the_grid_and_add_up_to_the_disc(size, dilation):
    weight = white(1, 3, *size, seed=22)
    lagged = autocorrelation(weight)[0]
    u, v, power = reference.power(weight[0].numpy(), dilation, 1024)
    disc, total = np.hypot(u, v) <= 0.5, power.mean()
    angle = np.degrees(np.arctan2(u, v)) % 180
    wedges = {
        ((-22.5, 22.5),): (angle < 22.5) | (angle >= 157.5),
        ((67.5, 112.5),): (angle >= 67.5) & (angle < 112.5),
        ((22.5, 67.5), (112.5, 157.5)): (np.abs(angle - 45) < 22.5) | (np.abs(angle - 135) < 22.5),
    }
    energy = float(weight.square().sum())
    assert total == pytest.approx(energy)
    found = []
    for wedge, inside in wedges.items():
        found.append(float(lagged @ wedge_kernel(size, dilation, wedge)) / energy)
        assert found[-1] == pytest.approx(power[disc & inside].sum() / power.sum(), abs=1e-3)
    assert sum(found) == pytest.approx(float(lagged @ ball_kernel(size, dilation, 0.5)) / energy, abs=1e-7)
    for degrees in (0.0, 30.0, 135.0):
        near = disc & (np.abs((angle - degrees + 90) % 180 - 90) < 2)
        expected = power[near].sum() / near.sum() / energy
        measured = float(lagged @ direction_kernel(size, dilation, degrees)) / energy
        assert measured == pytest.approx(expected, rel=0.02)


def test_a_vertical_edge_has_horizontal_frequencies():
    from filterbands.filters import analyze

    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])[None, None]
    layer, turned = analyze({"a.weight": sobel})["a"], analyze({"a.weight": sobel.mT.contiguous()})["a"]
    assert layer.horizontal_energy > 0.5 > layer.vertical_energy
    assert turned.vertical_energy == pytest.approx(layer.horizontal_energy)
    assert layer.orientation.argmax() == 0
    assert turned.angles[int(turned.orientation.argmax())] == 90


@pytest.mark.parametrize(
    ("size", "dilation"), [((3,), (40,)), ((3, 5), (2, 1)), ((1, 40), (1, 1)), ((3, 2, 3), (1, 1, 2))]
)
def test_the_centroid_is_the_mean_radius_by_a_product_rule_of_many_points(size, dilation):
    # Each axis cut in two at frequency 0, so that the kink of the radius lies in a corner.
    nodes, weights = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(100))
    points = torch.cartesian_prod(*[(nodes + 1) / 4] * len(size)).reshape(-1, len(size))
    masses = torch.cartesian_prod(*[weights / 4] * len(size)).reshape(-1, len(size)).prod(dim=1)
    masses = 2 ** len(size) * masses * points.norm(dim=1)
    found = centroid_kernel(size, dilation).reshape([2 * side - 1 for side in size])
    for lag in ((0,) * len(size), (1,) * len(size), tuple(side - 1 for side in size)):
        lag = tuple(min(number, side - 1) for number, side in zip(lag, size, strict=True))
        turns = [torch.cos(2 * math.pi * points[:, i] * lag[i] * dilation[i]) for i in range(len(size))]
        expected = float((masses * torch.stack(turns).prod(dim=0)).sum())
        place = tuple(number + side - 1 for number, side in zip(lag, size, strict=True))
        assert float(found[place]) == pytest.approx(expected, abs=2e-6)


def test_long_kernels_and_wide_dilations_take_no_longer_than_their_lags():
    begun = time.process_time()
    centroid_kernel((1, 300), (1, 1))
    centroid_kernel((2,), (4096,))
    assert time.process_time() - begun < 2
