"""The runs that the protocol's study files name: what is to be there before a word is read."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from filterbands.study import read_study

STUDIES = Path(__file__).parent / "protocol"
Of = tuple[str, str, int, int]


def planned() -> list[Of]:
    """Return row, network, epochs and seed of every run that the study files name."""
    return list(_planned())


@cache
def _planned() -> tuple[Of, ...]:
    studies = [read_study(file) for file in sorted(STUDIES.glob("*.json"))]
    found = (
        (config.recipe, config.arch, config.epochs, config.seed)
        for study in studies
        for config in study.configs
    )
    return tuple(dict.fromkeys(found))


def pairs(row: str, other: str, arch: str, epochs: int) -> int:
    """Return how many seeds both rows are planned with, at one network and budget."""
    seeds = [{seed for *of, seed in _planned() if of == [name, arch, epochs]} for name in (row, other)]
    return len(set.intersection(*seeds))


def run_of(line: Mapping[str, Any]) -> Of:
    """Return row, network, epochs and seed of a line."""
    return line["row"], line["arch"], line["epochs"], line["seed"]


def grouped(runs: Iterable[Of]) -> dict[tuple[str, int], dict[str, list[int]]]:
    """Return the seeds of runs by network and epochs, and by row."""
    found: dict[tuple[str, int], dict[str, list[int]]] = {}
    for row, arch, epochs, seed in runs:
        found.setdefault((arch, epochs), {}).setdefault(row, []).append(seed)
    return found


def seeds_of(seeds: Sequence[int]) -> str:
    """Return seeds as text, those in a row as a range.

    >>> seeds_of([10, 11, 12, 15])
    '10 to 12, 15'
    """
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
