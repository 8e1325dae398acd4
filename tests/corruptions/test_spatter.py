"""spatter: recorded draws give the recorded bytes, and its parts against slow definitions."""

import numpy as np
import pytest
import torch

from filterbands.corruptions import spatter
from filterbands.corruptions.kinds import CIFAR


@pytest.mark.parametrize("severity", range(1, 6))
def test_spatter_with_recorded_draws_equals_the_original(replay, severity: int) -> None:
    images, (noise,), original = replay("spatter", severity)
    ours = spatter.cover_with_drops(images, noise[:, None], CIFAR["spatter"][severity - 1])
    difference = (ours.int() - original.int()).abs()
    # The original's SciPy smoothed mud's mask in another order: one value of severity 4 is a level apart.
    assert int(difference.max()) <= 1
    assert float((difference > 0).double().mean()) <= 1e-4


def test_distances_are_the_shortest_paths_of_the_five_by_five_mask() -> None:
    generator = np.random.default_rng(0)
    found = generator.random((3, 1, 14, 26)) < np.array([0.05, 0.01, 0.0])[:, None, None, None]
    ours = spatter.distances(torch.from_numpy(found)).numpy() / 65536
    for i in range(3):
        ys, xs = np.nonzero(found[i, 0])
        for y in range(14):
            for x in range(26):
                long, short = np.maximum(abs(ys - y), abs(xs - x)), np.minimum(abs(ys - y), abs(xs - x))
                knight = np.minimum(short, long - short)
                rest = np.where(2 * short > long, 1.4 * (short - knight), 1.0 * (long - 2 * knight))
                nearest = (2.1969 * knight + rest).min() if len(ys) else 99
                assert min(ours[i, 0, y, x], 20) == pytest.approx(min(nearest, 20), abs=1e-3)


def test_edges_of_a_bright_square_are_thin_and_closed() -> None:
    layer = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    layer[:, :, 5:11, 5:11] = 200
    found = spatter.edges(layer)[0, 0]
    assert int(found.sum()) == pytest.approx(20, abs=4)
    assert not found[:4].any()
    assert not found[7:9, 7:9].any()


def test_weak_ridges_are_edges_only_where_a_strong_one_reaches_them() -> None:
    layer = torch.zeros(2, 1, 12, 12, dtype=torch.uint8)
    layer[:, :, :, 6:] = 30  # Sobel 120: between the thresholds
    layer[1, :, :3, 6:] = 90  # Sobel 360: above both
    found = spatter.edges(layer)
    assert not found[0].any()
    assert found[1, 0, 8:, 5:7].any(1).all()


def test_equalize_spreads_the_histogram() -> None:
    layer = torch.tensor([3, 3, 3, 3, 5, 5, 7, 9] * 8, dtype=torch.uint8).reshape(1, 1, 8, 8)
    table = dict(zip(layer.flatten().tolist(), spatter.equalize(layer).flatten().tolist(), strict=True))
    assert table == {3: 0, 5: 128, 7: 191, 9: 255}
    flat = torch.full((1, 1, 8, 8), 20, dtype=torch.uint8)
    assert torch.equal(spatter.equalize(flat), flat)
