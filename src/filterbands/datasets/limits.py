"""Which images a limit takes: the first ones, or evenly many of each class where the labels are sorted."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ..types import Labels

_LOG = logging.getLogger(__name__)


def limited_positions(labels: Sequence[int] | Labels, limit: int | None) -> Int64[Tensor, " n"]:
    """Return the ascending positions of the images that a limit takes, at most so many.

    These are the first ones, unless the labels are sorted by class (`sorted_by_class`): then they are the
    first ones of each class, evenly many, which a warning says. Fewer images than classes are of classes that
    are spread over all. A larger limit contains the images of a smaller one.

    Args:
        labels: Classes of all images.
        limit: Number of images, at least 1; None for all.

    Raises:
        ValueError: The limit is below 1.

    >>> limited_positions([0, 1, 0, 1, 0, 1], 4).tolist(), limited_positions([0, 0, 0, 1, 1, 1], 4).tolist()
    ([0, 1, 2, 3], [0, 1, 3, 4])
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit needs a number of at least 1, got {limit}")
    known = torch.as_tensor(labels, dtype=torch.int64).cpu()
    if limit is None or limit >= len(known):
        return torch.arange(len(known))
    if not sorted_by_class(known):
        return torch.arange(limit)
    _, place, counts = np.unique(known.numpy(), return_inverse=True, return_counts=True)
    within = np.empty_like(place)
    by_class = place.argsort(kind="stable")
    within[by_class] = np.arange(len(place)) - (counts.cumsum() - counts)[place[by_class]]
    # Any first part of the numbers in the order of their reversed bits is spread over all of them.
    turn = np.argsort(sorted(range(len(counts)), key=lambda number: f"{number:032b}"[::-1]))
    chosen = np.sort((within * len(counts) + turn[place]).argsort()[:limit])
    if chosen[-1] >= limit:
        taken = np.unique(place[chosen], return_counts=True)[1]
        low, high = taken.min(), taken.max()
        each = f"{low}" if low == high else f"{low} to {high}"
        _LOG.warning(
            "limit %d: %d images are sorted by class; it takes the first of each class, %s of each of %d",
            *(limit, len(known), each, len(taken)),
        )
    return torch.from_numpy(chosen)


def sorted_by_class(labels: Labels) -> bool:
    """Return whether each class is in one block, or the labels change at most half as often as by chance.

    The latter holds for several sorted parts behind each other. Labels of a single class are not sorted.

    >>> sorted_by_class(torch.tensor([0, 0, 1, 1])), sorted_by_class(torch.tensor([0, 1, 0, 1]))
    (True, False)
    """
    counts = np.unique(labels.numpy(), return_counts=True)[1]
    changes = int((labels[1:] != labels[:-1]).sum())
    by_chance = len(labels) - int((counts**2).sum()) / max(1, len(labels))
    return len(counts) > 1 and (changes < len(counts) or 2 * changes <= by_chance)
