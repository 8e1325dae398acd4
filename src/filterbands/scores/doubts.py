"""Doubts: signs in the answers to clean images that an accuracy is not what it seems."""

import numpy as np

from .statistics import Bits, Integers

# An order of classes counts as found if it is right this often, and so many times as often as the given one.
_FITS, _TIMES = 0.5, 3
# Images that it must be tested on, and entries of the largest table of answers.
_FEWEST, _LARGEST = 10, 1 << 24


def guessing(labels: Integers) -> float:
    """Return the accuracy of naming the largest class for every image.

    >>> guessing(np.array([0, 0, 0, 1]))
    0.75
    """
    return float(np.unique(labels, return_counts=True)[1].max()) / len(labels)


def doubts(labels: Integers, predictions: Integers | None, bits: Bits, low: float) -> tuple[str, ...]:
    """Return a sentence for each reason to doubt the accuracy on clean images.

    Args:
        labels: Class of each image.
        predictions: The class that the network names for each image; None if it is not known.
        bits: Whether it is right.
        low: Lower end of the interval of the accuracy.

    >>> doubts(np.array([0, 0]), np.array([0, 0]), np.array([True, True]), 0.2)[0]
    'all 2 images are of class 0: an accuracy needs images of every class'
    """
    classes = np.unique(labels)
    count, accuracy = len(labels), float(bits.mean())
    if len(classes) == 1:
        images = f"all {count:,} images are" if count > 1 else "the one image is"
        return (f"{images} of class {classes[0]}: an accuracy needs images of every class",)
    if predictions is not None and len(np.unique(predictions)) == 1:
        return (
            f"the network names class {predictions[0]} for all {count:,} images: look at its normalization "
            "(--mean, --std) and at its weights",
        )
    other = None if predictions is None else _under_another_order(labels, predictions)
    if other is not None and other > _FITS and other >= _TIMES * accuracy:
        return (
            f"the network's answers fit the labels under another order of classes: {100 * other:.1f} % "
            f"instead of {100 * accuracy:.1f} %; give the data the order that the network was trained with",
        )
    chance = guessing(labels)
    if low <= chance:
        return (
            f"an accuracy of {100 * accuracy:.2f} % is not above guessing ({100 * chance:.2f} %) beyond its "
            "interval: is the normalization, the class order or the data set right?",
        )
    return ()


def _under_another_order(labels: Integers, predictions: Integers) -> float | None:
    """Return the accuracy under the order of classes that fits best; None if there is no need to look for it.

    The order is found on every other image of each class, and tested on the rest: one that is found on few
    images fits these whatever the network names.
    """
    from scipy.optimize import linear_sum_assignment

    wanted, truth = np.unique(labels, return_inverse=True)
    named, answer = np.unique(predictions, return_inverse=True)
    by_class = np.argsort(truth, kind="stable")
    first = np.searchsorted(truth[by_class], truth[by_class])
    tested = np.empty(len(labels), dtype=np.bool_)
    tested[by_class] = (np.arange(len(labels)) - first) % 2 == 1
    right = float((labels == predictions).mean())
    if tested.sum() < _FEWEST or _TIMES * right > 1 or len(wanted) * len(named) > _LARGEST:
        return None
    table = np.zeros((len(wanted), len(named)), dtype=np.int64)
    np.add.at(table, (truth[~tested], answer[~tested]), 1)
    rows, columns = linear_sum_assignment(table, maximize=True)
    order = np.full(len(wanted), -1)
    order[rows] = columns
    return float((order[truth[tested]] == answer[tested]).mean())
