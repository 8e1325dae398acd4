"""elastic_transform: recorded draws give the recorded bytes, at the border as well."""

import numpy as np
import pytest
import torch

from filterbands.corruptions import elastic
from filterbands.corruptions.kinds import CIFAR


@pytest.mark.parametrize("severity", range(1, 6))
def test_elastic_transform_with_recorded_draws_equals_the_original(replay, severity: int) -> None:
    images, (jitter, right, down), original = replay("elastic_transform", severity)
    strength, sigma, _ = CIFAR["elastic_transform"][severity - 1]
    fields = torch.stack([right, down], 1) if strength > 0 else None
    assert torch.equal(elastic.deform(images, jitter, fields, strength=strength, sigma=sigma), original)


def test_no_jitter_and_no_field_change_nothing() -> None:
    images = torch.randint(
        0, 256, (2, 3, 12, 17), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    assert torch.equal(elastic.deform(images, torch.zeros(2, 3, 2), None, strength=0, sigma=0), images)
    fields = torch.zeros(2, 2, 12, 17, dtype=torch.float64)
    assert torch.equal(elastic.deform(images, torch.zeros(2, 3, 2), fields, strength=9, sigma=1), images)


def test_equal_jitter_of_all_points_shifts_the_image() -> None:
    images = torch.randint(
        0, 256, (1, 3, 12, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    jitter = torch.tensor([2.0, -1.0]).expand(1, 3, 2)
    moved = elastic.deform(images, jitter, None, strength=0, sigma=0)
    assert torch.equal(moved[:, :, :-1, 2:], images[:, :, 1:, :-2])


def test_the_border_folds_as_scipy_s_did_before_1_6() -> None:
    line = np.arange(8.0)
    place = torch.tensor([-0.25, -1.0, -3.5, 7.25, 8.0, 10.5, 16.75, 3.5], dtype=torch.float64)
    first, second, share = elastic._fold(place[None, None], 8)
    value = line[first[0, 0]] * (1 - share[0, 0].numpy()) + line[second[0, 0]] * share[0, 0].numpy()
    # Within a pixel of the border: 1 + c, and 2 (n - 1) - c; further out, half a pixel's reflection.
    assert value.tolist() == [0.75, 0.0, 2.5, 6.75, 7.0, 4.5, 0.75, 3.5]
