"""Pictures of the images: clean and corrupted examples, and those on which networks disagree most.

A random key chooses the images. They are corrupted anew from what the results record, and only where the
images given are, to the byte, those that were measured.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .. import rng
from ..corruptions import corrupt
from ..evaluation import Data, Source, as_source, named_images
from ..scores import Answers, Scores
from .accuracy import Comparison, Member
from .pictures import EXACT, image_picture
from .text import brief, cleaned, listed, spaced

_LOG = logging.getLogger(__name__)
_Positions = NDArray[np.int64]
Place = tuple[str, int]
"""A kind and a severity; `_CLEAN` for clean images."""

_CLEAN = ("clean", 0)
_BYTES = 300_000
"""What all pictures together may take of the page."""
_DISPUTED = 12
_OF_A_KIND = 2
# So many networks are named below a picture; of the others it is said how many are correct.
_NAMED = 6


class Answer(NamedTuple):
    """What a network says of an image."""

    position: int
    name: str
    answer: str
    correct: bool


class Shot(NamedTuple):
    """An image with what the networks say of it."""

    address: str
    alt: str
    about: str
    answers: Sequence[Answer]
    more: str
    """How many of the networks that are not named are correct."""
    exact: bool
    """Whether its pixels are to be told apart."""


class Gallery(NamedTuple):
    """What the section on images shows; only remarks where the images are not those of the results."""

    remarks: Sequence[str]
    names: Sequence[tuple[int, str]] = ()
    disputed: Sequence[tuple[Shot, Shot | None]] = ()
    """Clean images, and the corrupted ones that networks disagree on; None where that is the clean one."""
    strips: Sequence[tuple[str, str, Sequence[Shot]]] = ()
    """Titles, kinds and pictures at several severities."""
    lead: str = ""


def make_gallery(groups: Sequence[Comparison], data: Data) -> Gallery:
    """Return pictures for the first comparison that was measured on these images.

    Raises:
        ValueError: As for `as_source`.
    """
    for group in groups:
        source = _matching(group, data)
        if source is not None:
            return _Drawn(group, source).gallery()
    source = as_source(named_images(data) if isinstance(data, str) else data)
    found = f"{cleaned(source.name)} {source.split}, {len(source.labels):,} images"
    measured = sorted({", ".join(value for _, value in group.conditions[:3]) for group in groups})
    said = f"measured were {cleaned('; '.join(measured))}" if measured else "the sources hold no accuracies"
    why = (
        f"No pictures of images: the images given ({found}) are not those of the results ({said}). "
        "Give the same data, split, limit and size."
    )
    _LOG.warning("%s", why)
    return Gallery([why])


def _matching(group: Comparison, data: Data) -> Source | None:
    """Return the images of a comparison: the data, or as many of them as a limit takes; None for others."""
    scores = group.members[0].score.source
    if scores is None:
        return None
    held: Data = named_images(data) if isinstance(data, str) else data
    source = as_source(held)
    if source.fingerprint != scores.pixels and len(scores.labels) < len(source.labels):
        source = as_source(held, limit=len(scores.labels))
    return source if source.fingerprint == scores.pixels else None


class _Drawn:
    """The pictures of one comparison while they are made, within their share of the page."""

    def __init__(self, group: Comparison, source: Source) -> None:
        self.source = source
        self.members = [member for member in group.members if _predicts(member)]
        self.scores = _scores(group.members[0])
        self.left, self.missing = _BYTES, 0
        self.unmade: dict[str, str] = {}

    def gallery(self) -> Gallery:
        """Return all that is shown."""
        remarks = []
        if len(self.members) == 0:
            remarks.append(
                "The database keeps no predictions of these networks; it was made by an older version."
            )
        places = [place for place in self.scores.cells if place != _CLEAN]
        if places and not self.scores.parameters:
            remarks.append("Corrupted images were read from files and are not shown.")
            places = []
        disputed = [pair for pair in map(self._pair, self._disputed([_CLEAN, *places])) if pair is not None]
        strips = self._strips(places)
        if self.unmade:
            remarks.append(f"Not shown: {listed(list(self.unmade))}. {next(iter(self.unmade.values()))}")
        if self.missing:
            remarks.append(f"{self.missing} more pictures are left out to keep the page small.")
        names = [(member.entry.position, member.entry.name) for member in self.members]
        seed = f"They were corrupted again with the recorded seed, {self.scores.seed}." if places else ""
        return Gallery(remarks, names, disputed, strips, seed)

    def _strips(self, places: Sequence[Place]) -> list[tuple[str, str, list[Shot]]]:
        """Return the clean images and, of every kind, the same ones at up to three severities."""
        ends = self.scores.severities
        chosen = sorted({ends[0], ends[len(ends) // 2], ends[-1]}) if ends and places else []
        wanted = {
            severity: [(kind, severity) for kind in self.scores.kinds if (kind, severity) in places]
            for severity in chosen
        }
        every = [self.scores.cells[place].positions for each in wanted.values() for place in each]
        shared = _first(self.source, [self.scores.cells[_CLEAN].positions, *every])
        at: dict[int, int | None] = {
            severity: shared
            if shared is not None
            else _first(self.source, [self.scores.cells[p].positions for p in each])
            for severity, each in wanted.items()
        }
        used = dict.fromkeys(place for place in (at.values() if at else [shared]) if place is not None)
        clean = [shot for position in used if (shot := self._shot(_CLEAN, position, "clean")) is not None]
        found: dict[str, dict[int, Shot]] = {}
        # The highest severity of every kind comes first, for what the page may be too small for.
        for severity in sorted(chosen, key=lambda one: (one != chosen[-1], one != chosen[0])):
            for place in wanted[severity]:
                position = at[severity]
                shot = None if position is None else self._shot(place, position, f"severity {severity}")
                if shot is not None:
                    found.setdefault(place[0], {})[severity] = shot
        strips = [(spaced(kind), kind, [shots[s] for s in sorted(shots)]) for kind, shots in found.items()]
        return ([("clean", "clean", clean)] if clean else []) + strips

    def _disputed(self, places: Sequence[Place]) -> Iterator[tuple[Place, int]]:
        """Yield cells and positions of images on which the networks' answers differ most, ties by key."""
        candidates: list[tuple[int, int, Place, int]] = []
        for place in places:
            alike = self._answers(place)
            if len(alike) < 2:
                continue
            positions = next(iter(alike.values())).positions
            named = np.sort(
                np.stack([one.predictions for one in alike.values() if one.predictions is not None]), 0
            )
            answers = 1 + (named[1:] != named[:-1]).sum(axis=0)
            # Where nobody is correct, a difference says little.
            answers *= np.stack([one.bits for one in alike.values()]).any(axis=0)
            keys = _keys(self.source, positions, *place)
            best = np.lexsort((keys, -answers))[:_DISPUTED]
            candidates += [
                (-int(answers[n]), int(keys[n]), place, int(positions[n])) for n in best if answers[n] > 1
            ]
        images: set[int] = set()
        kinds: dict[str, int] = {}
        for _, _, place, position in sorted(candidates):
            if position not in images and kinds.get(place[0], 0) < _OF_A_KIND and len(images) < _DISPUTED:
                images.add(position)
                kinds[place[0]] = kinds.get(place[0], 0) + 1
                yield place, position

    def _pair(self, found: tuple[Place, int]) -> tuple[Shot, Shot | None] | None:
        place, position = found
        clean = self._shot(_CLEAN, position, "clean")
        said = f"{spaced(place[0])}, severity {place[1]}"
        corrupted = None if place == _CLEAN else self._shot(place, position, said)
        return None if clean is None or (corrupted is None and place != _CLEAN) else (clean, corrupted)

    def _answers(self, place: Place) -> dict[int, Answers]:
        """Return the answers of the networks that saw the same images in a cell, by their number here."""
        found = {n: _scores(member).cells.get(place) for n, member in enumerate(self.members)}
        there = {n: one for n, one in found.items() if one is not None and one.predictions is not None}
        first = next(iter(there.values()), None)
        return {
            n: one
            for n, one in there.items()
            if first is not None and np.array_equal(one.positions, first.positions)
        }

    def _shot(self, place: Place, position: int, about: str) -> Shot | None:
        """Return an image; None where it cannot be made, or the page has no room left."""
        kind, severity = place
        images = self.source.read(torch.tensor([position]))
        if place != _CLEAN and kind not in self.unmade:
            options: dict[str, Any] = {"seed": self.scores.seed, "parameters": self.scores.parameters}
            index = self.source.index[[position]]
            try:
                images = corrupt(images, kind, severity=severity, index=index, **options)
            except FileNotFoundError as error:
                # Textures that were there when the networks were evaluated.
                self.unmade[kind] = str(error)
        if kind in self.unmade:
            return None
        address = image_picture(images[0])
        if len(address) > self.left:
            self.missing += 1
            return None
        self.left -= len(address)
        truth = self._named(int(self.source.labels[position]))
        answers = list(self._said(place, position))
        rest = answers[_NAMED:]
        correct = sum(one.correct for one in rest)
        return Shot(
            address,
            f"Image of class {truth}, {about}",
            f"{about}, class {truth}" if place == _CLEAN else about,
            answers[:_NAMED],
            f"{correct} of {len(rest)} more correct" if rest else "",
            max(images.shape[2:]) <= EXACT,
        )

    def _said(self, place: Place, position: int) -> Iterator[Answer]:
        for number, answers in self._answers(place).items():
            at = np.flatnonzero(answers.positions == position)
            if len(at) and answers.predictions is not None:
                entry = self.members[number].entry
                named = self._named(int(answers.predictions[at[0]]))
                yield Answer(entry.position, entry.name, named, bool(answers.bits[at[0]]))

    def _named(self, label: int) -> str:
        classes = self.source.classes
        return brief(cleaned(classes[label]), 24) if label < len(classes) else f"class {label}"


def _scores(member: Member) -> Scores:
    if member.score.source is None:
        raise ValueError("a gallery needs scores with their answers")
    return member.score.source


def _predicts(member: Member) -> bool:
    cells: Mapping[Place, Answers] = _scores(member).cells
    return cells[_CLEAN].predictions is not None


def _keys(source: Source, positions: _Positions, *parts: str | int) -> _Positions:
    """Return the random keys by which images are chosen, for a purpose."""
    found: _Positions = rng.keys(
        0, "gallery", *parts, index=source.index[torch.from_numpy(positions)]
    ).numpy()
    return found


def _first(source: Source, cells: Sequence[_Positions]) -> int | None:
    """Return the image with the lowest key among those that all cells hold; None where there is none."""
    shared = cells[0]
    for positions in cells[1:]:
        shared = np.intersect1d(shared, positions)
    return int(shared[_keys(source, shared).argmin()]) if len(shared) else None
