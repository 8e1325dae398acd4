"""1,797 real images that come with the package: handwritten digits, enlarged to 32 pixels."""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from ..types import Images, Labels
from .imageset import ImageSet, check_split

_FILE = Path(__file__).with_name("digits.npz")
_SIDE = 32
# Image i is of the split at place i modulo 8.
_PLACES = {"train": (0, 2, 4, 5, 6), "validation": (1,), "test": (3, 7)}


def digits(*, split: str = "test") -> ImageSet:
    """Return handwritten digits, gray, white on black, as 3x32x32 bytes.

    The images have 8x8 pixels of 17 levels. They are enlarged bilinearly in whole numbers, so that they are
    the same bytes on every machine. Of every eight images five are `train`, one is `validation` and two are
    `test`.

    Args:
        split: `train` (1,123 images), `validation` (225), `full_train` (both) or `test` (449).

    Source: Alpaydin, Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, doi:10.24432/C50P49, test set; CC BY 4.0.

    >>> data = digits(split="validation")
    >>> tuple(data.images.shape), data.classes[:3]
    ((225, 3, 32, 32), ('0', '1', '2'))
    """
    check_split("digits", split)
    images, labels = _read()
    places = [place for name, own in _PLACES.items() if split in (name, "full_train") for place in own]
    if split == "full_train":
        places = [place for place in places if place not in _PLACES["test"]]
    chosen = torch.isin(torch.arange(len(labels)) % 8, torch.tensor(places)).nonzero()[:, 0]
    return ImageSet(
        name="digits",
        split=split,
        images=images[chosen].expand(-1, 3, -1, -1).contiguous(),
        labels=labels[chosen],
        classes=tuple(map(str, range(10))),
        index=torch.arange(len(chosen)),
    )


@cache
def _read() -> tuple[Images, Labels]:
    """Return all images, of one channel, and their labels."""
    with np.load(_FILE, allow_pickle=False) as file:
        levels, labels = file["images"].astype(np.int64), file["labels"].astype(np.int64)
    weights = _weights(levels.shape[1])
    # Weights are eighths along each axis and levels sixteenths: in all 1,024ths, rounded to nearest.
    enlarged = (weights @ levels @ weights.T * 255 + 512) // 1024
    return torch.from_numpy(enlarged.astype(np.uint8))[:, None], torch.from_numpy(labels)


def _weights(side: int) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    """Return what each pixel of a row gives to each pixel of the enlarged row, in eighths."""
    weights = np.zeros((_SIDE, side), dtype=np.int64)
    factor = _SIDE // side
    for pixel in range(_SIDE):
        # Twice the distance, in enlarged pixels, from the center of the first pixel.
        offset = 2 * pixel + 1 - factor
        before, part = divmod(offset, 2 * factor)
        for place, weight in ((before, 2 * factor - part), (before + 1, part)):
            weights[pixel, min(max(place, 0), side - 1)] += weight
    return weights
