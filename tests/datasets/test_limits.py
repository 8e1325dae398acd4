"""A limit: the first images, or evenly many of each class where the labels are sorted."""

import logging
from itertools import pairwise

import numpy as np
import pytest
import torch

from filterbands.datasets import limited_positions, load_data, sorted_by_class

MIXED = torch.tensor(np.random.default_rng(0).integers(0, 10, 1000))
SORTED = torch.arange(10).repeat_interleave(100)


def test_a_limit_on_mixed_labels_is_the_first_images(caplog: pytest.LogCaptureFixture) -> None:
    assert limited_positions(MIXED, 20).tolist() == list(range(20))
    assert load_data("planted", limit=20).index.tolist() == list(range(20))
    assert not caplog.records


@pytest.mark.parametrize("labels", [SORTED, SORTED.flip(0), torch.cat([SORTED, SORTED])])
def test_a_limit_on_sorted_labels_takes_the_first_of_each_class_and_says_so(
    labels: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = limited_positions(labels, 20)
    assert labels[chosen].bincount().tolist() == [2] * 10
    assert chosen.diff().min() > 0
    for label in range(10):
        first = (labels == label).nonzero().flatten()[:2]
        assert set(first.tolist()) <= set(chosen.tolist())
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert f"limit 20: {len(labels)} images are sorted by class" in record.getMessage()
    assert "2 of each of 10" in record.getMessage()


def test_a_larger_limit_contains_the_images_of_a_smaller_one() -> None:
    sizes = torch.tensor([3, 40, 1, 17, 8])
    labels = torch.arange(5).repeat_interleave(sizes)
    taken = [set(limited_positions(labels, limit).tolist()) for limit in range(1, 80)]
    assert [len(one) for one in taken] == [min(limit, 69) for limit in range(1, 80)]
    assert all(small <= large for small, large in pairwise(taken))


def test_fewer_images_than_classes_are_spread_over_the_classes() -> None:
    classes = limited_positions(torch.arange(1000).repeat_interleave(50), 200) // 50
    assert len(classes.unique()) == 200
    assert classes.diff().max() <= 8
    assert classes.max() > 990


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (MIXED, False),
        (SORTED, True),
        (torch.zeros(9, dtype=torch.int64), False),
        (torch.arange(40) % 4, False),
        (torch.arange(6) % 3, False),
        # One in a hundred: long blocks of zeros are no order.
        (torch.tensor(np.random.default_rng(1).random(10_000) < 0.01).long(), False),
        (torch.zeros(0, dtype=torch.int64), False),
    ],
)
def test_labels_are_sorted_where_classes_are_in_blocks(labels: torch.Tensor, expected: bool) -> None:
    assert sorted_by_class(labels) == expected
