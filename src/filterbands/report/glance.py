"""The tables at the top: every recipe with its accuracy, its first layer and its cost, by data set."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .accuracy import Comparison, Member, Standing, over_seeds
from .text import duration, interval, number, percent
from .views import Cell, Entry, Estimate, Recipe, ReportView, Row, ScoreView


class GlanceRow(NamedTuple):
    """A recipe, and the single networks of it where it has several seeds."""

    cells: Row
    single: Sequence[Row]


class Glance(NamedTuple):
    """A table of networks that were measured on the same images."""

    label: str
    title: str
    """The data sets; empty where there is one table alone."""
    head: Row
    rows: Sequence[GlanceRow]
    numeric: int = 1

    @property
    def opens(self) -> bool:
        """Whether a row has single networks."""
        return any(row.single for row in self.rows)


def glances(report: ReportView, groups: Sequence[Comparison]) -> list[Glance]:
    """Return a table for the networks of every data set; those without scores have one of their own."""
    # Networks that share a comparison, directly or through others, share a table.
    parts: list[tuple[set[int], list[Comparison]]] = []
    for group in groups:
        members, shared = {row.recipe.position for row in group.rows}, [group]
        apart = []
        for positions, known in parts:
            if positions & members:
                members, shared = members | positions, [*known, *shared]
            else:
                apart.append((positions, known))
        parts = [*apart, (members, shared)]
    parts.sort(key=lambda part: groups.index(part[1][0]))
    rest = {recipe.position for recipe in report.recipes}.difference(*(members for members, _ in parts))
    if rest:
        parts.append((rest, []))
    titles = _titles([shared for _, shared in parts]) if len(parts) > 1 else [""]
    return [
        _glance([recipe for recipe in report.recipes if recipe.position in members], shared, title)
        for (members, shared), title in zip(parts, titles, strict=True)
    ]


def _titles(parts: Sequence[Sequence[Comparison]]) -> list[str]:
    """Return the data sets of each table; of several tables of the same ones also what tells them apart."""
    named = []
    for groups in parts:
        data = list(dict.fromkeys(group.data for group in groups))
        named.append(", ".join(_shortly(name, data) for name in data) or "Not evaluated")
    return [
        name + (groups[0].told if groups and named.count(name) > 1 else "")
        for name, groups in zip(named, parts, strict=True)
    ]


def _glance(recipes: Sequence[Recipe], groups: Sequence[Comparison], title: str) -> Glance:
    data = list(dict.fromkeys(group.data for group in groups))
    has_layer = any(entry.layer is not None for recipe in recipes for entry in recipe.entries)
    has_time = any(_seconds(entry) is not None for recipe in recipes for entry in recipe.entries)
    head = [Cell("Network")]
    for group in groups:
        short = _shortly(group.data, data)
        # Clean images of two comparisons may be the same, and their columns are two.
        alike = [other for other in groups if other.data == group.data]
        under = short if len(data) > 1 else "accuracy"
        head.append(Cell("Clean", under=under + (group.told if len(alike) > 1 else "")))
        if group.averages:
            of = f"{short}, " if len(data) > 1 else ""
            head.append(Cell("Corrupted", under=of + group.averages[0].label + group.told))
    if has_layer:
        head += [Cell("Mean low energy", under="first layer"), Cell("Low share", under="first layer")]
    if has_time:
        head.append(Cell("Training", under="per network" if _any_seeds(recipes) else ""))

    lines = [
        [_ends([of(member.score) for row in group.rows for member in row.members]) for of in figures]
        for group in groups
        for figures in [_FIGURES[: 1 + bool(group.averages)]]
    ]

    def cells(name: Cell, entries: Sequence[Entry], standings: Sequence[Standing | None]) -> Row:
        row = [name]
        for group, standing, ends in zip(groups, standings, lines, strict=True):
            for of, line in zip(_FIGURES[: 1 + bool(group.averages)], ends, strict=True):
                row.append(Cell(percent(None)) if standing is None else _accuracy(standing, of, line))
        layers = [entry.layer for entry in entries if entry.layer is not None]
        if has_layer:
            energies = [one.mean_low_energy for one in layers if one.mean_low_energy is not None]
            shares = [one.low_share for one in layers if one.low_share is not None]
            energy, share = _mean(energies), _mean(shares)
            row += [Cell(number(energy), value=energy), Cell(percent(share), value=share)]
        if has_time:
            seconds = _mean([s for s in map(_seconds, entries) if s is not None])
            row.append(Cell(duration(seconds), value=seconds))
        return row

    rows = []
    for recipe in recipes:
        standings = [
            next((row for row in group.rows if row.recipe.position == recipe.position), None)
            for group in groups
        ]
        single = [
            cells(entry.label, [entry], [_only(entry, standing) for standing in standings])
            for entry in recipe.entries
            if len(recipe.entries) > 1
        ]
        rows.append(GlanceRow(cells(recipe.label, recipe.entries, standings), single))
    label = "The networks at a glance" + (f": {title}" if title else "")
    return Glance(label, title, head, rows)


def _shortly(name: str, names: Sequence[str]) -> str:
    """Return the name of a data set; of a variant of the first one only how it differs."""
    return name.removeprefix(f"{names[0]},") if name != names[0] else name


def _only(entry: Entry, standing: Standing | None) -> Standing | None:
    """Return what one network reached."""
    members: tuple[Member, ...] = () if standing is None else standing.members
    mine = tuple(member for member in members if member.entry is entry)
    return standing._replace(members=mine) if standing is not None and mine else None


def _any_seeds(recipes: Sequence[Recipe]) -> bool:
    return any(len(recipe.entries) > 1 for recipe in recipes)


def _seconds(entry: Entry) -> float | None:
    seconds = None if entry.run is None else entry.run.facts.get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else None


def _mean(values: Sequence[float]) -> float | None:
    return over_seeds([Estimate(value) for value in values]).value if values else None


# The figures of a network that have a column.
_FIGURES: tuple[Callable[[ScoreView | Standing], Estimate], ...] = (
    lambda of: of.clean,
    lambda of: of.averages[0].estimate,
)


def _ends(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """Return the lowest and the highest value: the line that the dots of a column share."""
    values = [estimate.value for estimate in estimates]
    return min(values), max(values)


def _accuracy(
    standing: Standing, of: Callable[[ScoreView | Standing], Estimate], ends: tuple[float, float]
) -> Cell:
    """Return an accuracy with its interval, and where there are several seeds with a dot for each."""
    dots = tuple(of(member.score).value for member in standing.members)
    estimate = of(standing)
    return Cell(
        percent(estimate.value),
        under=interval(estimate.cut),
        value=estimate.value,
        dots=dots if len(dots) > 1 else (),
        ends=ends,
    )
