"""What scores were measured on and with: what two of them must share to be compared."""

from collections.abc import Iterable
from hashlib import sha256

import numpy as np

from .answers import GIVEN, Place
from .scores import Scores

PRESENT_ONLY = "present only"
"""Ends the precision of scores whose network chose among the classes that the data contain alone."""

_UNKNOWN = "not known"


def conditions(scores: Scores) -> tuple[tuple[str, str], ...]:
    """Return the conditions of a measurement as names and values, those of the corrupted images with them.

    >>> given = {("clean", 0): [0, 1], ("fog", 3): [0, 0]}
    >>> dict(conditions(Scores.from_predictions([0, 1], given, name="mine", seed=7)))["seed"]
    '7'
    """
    facts = [("data", scores.data), ("split", scores.split), ("images", f"{len(scores.labels):,}")]
    if scores.severities:
        levels = ", ".join(map(str, scores.severities))
        facts += [("kinds", str(len(scores.kinds))), ("severities", levels), *_corruptions(scores).items()]
        if (each := images_per_cell(scores)) < len(scores.labels):
            facts += [("images per severity", f"{each:,}")]
    return (*facts, ("precision", scores.precision))


def key_of(scores: Scores) -> str:
    """Return a digest of the conditions, the images and their classes, and the measured cells.

    Scores of one key were measured alike in every respect.
    """
    facts = repr((conditions(scores), scores.pixels, sorted(scores.cells)))
    return sha256(scores.labels.tobytes() + facts.encode("utf-8", "surrogatepass")).hexdigest()


def images_per_cell(scores: Scores) -> int:
    """Return how many images the smallest corrupted cell has; that of the clean ones where there is none."""
    sizes = (len(answers.positions) for (_, severity), answers in scores.cells.items() if severity)
    return min(sizes, default=len(scores.labels))


def shared_cells(first: Scores, second: Scores) -> list[Place]:
    """Return the cells that both have, in the order of the first."""
    return [cell for cell in first.cells if cell in second.cells]


def unlike(first: Scores, second: Scores, cells: Iterable[Place]) -> str:
    """Return why the answers in these cells cannot be compared; an empty text if they can.

    A cell that one of them lacks is no reason, nor is another precision. A folder that is not known, as that
    of predictions made elsewhere, is taken to be the other's.
    """
    both = f"{first.name} and {second.name}"
    same = (first.data, first.split, first.pixels) == (second.data, second.split, second.pixels)
    if first.pixels and second.pixels:
        # Of the same pixels, a database knows the name and split alone that came first.
        same = first.pixels == second.pixels
    if not same or not np.array_equal(first.labels, second.labels):
        return f"{both} were not evaluated on the same images"
    if is_present_only(first) != is_present_only(second):
        few, all_of = (first, second) if is_present_only(first) else (second, first)
        return (
            f"{few.name} chose among the classes of the images alone (--present-only), {all_of.name} among "
            "all that it knows"
        )
    corrupted = [cell for cell in cells if cell[1]]
    if corrupted and (difference := _other_corruptions(first, second)):
        return f"{both} saw other corrupted images: {difference}"
    for kind, severity in corrupted:
        one, two = first.cells.get((kind, severity)), second.cells.get((kind, severity))
        if one is not None and two is not None and not np.array_equal(one.positions, two.positions):
            return (
                f"{both} saw different images at {kind} {severity}: one of them was spread over severities "
                "(--spread), the other was not"
            )
    return ""


def check_alike(first: Scores, second: Scores, cells: Iterable[Place]) -> None:
    """Raise ValueError if the answers in these cells cannot be compared; see `unlike`."""
    if reason := unlike(first, second, cells):
        raise ValueError(f"{reason}; evaluate both with the same options")


def unlike_probed(
    scores: Scores, *, data: str, split: str, pixels: str = "", parameters: str = "", seed: int | None = None
) -> str:
    """Return what tells the images of scores from probed ones; an empty text if nothing known does.

    Images are the same if their pixels are, or the name of data set and split. What is empty is not known;
    neither are the seed and constants of copies read from files, and images of predictions made elsewhere.

    >>> mine = Scores.from_predictions([0, 1], {("clean", 0): [0, 1]}, name="mine")
    >>> unlike_probed(mine, data="cifar10", split="test")
    ''
    """
    is_same = (scores.data, scores.split) == (data, split) or (bool(pixels) and scores.pixels == pixels)
    if data and not is_same and not scores.pixels.startswith(GIVEN):
        return f"{scores.data} ({scores.split}) instead of {data} ({split})"
    if parameters and scores.parameters and scores.parameters != parameters:
        return f"the constants {scores.parameters} instead of {parameters}"
    if seed is not None and scores.parameters and scores.seed != seed:
        return f"seed {scores.seed} instead of {seed}"
    return ""


def is_present_only(scores: Scores) -> bool:
    """Return whether the network chose among the classes that the data contain alone."""
    return PRESENT_ONLY in scores.precision.split(", ")


def _corruptions(scores: Scores) -> dict[str, str]:
    """Return what made the corrupted images; copies on disk have a seed and constants of their own."""
    if scores.parameters:
        return {"seed": str(scores.seed), "constants": scores.parameters}
    return {"folder": scores.folder or _UNKNOWN}


def _other_corruptions(first: Scores, second: Scores) -> str:
    one, two = _corruptions(first), _corruptions(second)
    if one.keys() != two.keys():
        files, made = (second, first) if first.parameters else (first, second)
        return f"those of {files.name} were read from files, those of {made.name} were made here"
    pairs = [(name, value, two[name]) for name, value in one.items() if _UNKNOWN not in (value, two[name])]
    return " and ".join(f"{name} {value} against {other}" for name, value, other in pairs if value != other)
