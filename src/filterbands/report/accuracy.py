"""Accuracy on clean and on corrupted images: which networks may be compared, and their charts and tables."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import PurePath
from statistics import mean
from typing import NamedTuple

from ..scores import student_interval
from .charts import Axis, Bar, Line, bar_chart, first_drawn, known, line_chart, span_note
from .text import brief, listed, percent, signed, spaced, with_interval
from .views import Average, Cell, Entry, Estimate, Figure, Recipe, ReportView, ScoreView, Table

Accuracies = Sequence[float | None]
"""Of one kind, by severity; None where it was not measured."""


class Member(NamedTuple):
    """A network with its scores under the conditions of a comparison."""

    entry: Entry
    score: ScoreView


class Standing(NamedTuple):
    """A recipe in a comparison: one network, or the mean of networks that differ in the seed alone."""

    recipe: Recipe
    members: tuple[Member, ...]

    @property
    def label(self) -> Cell:
        """Its name behind its color, and the number of its seeds."""
        return self.recipe._replace(entries=tuple(member.entry for member in self.members)).label

    @property
    def clean(self) -> Estimate:
        """Accuracy on clean images."""
        return over_seeds([member.score.clean for member in self.members])

    @property
    def averages(self) -> tuple[Average, ...]:
        """The averages over corruptions, as means over the seeds."""
        return tuple(
            average._replace(
                estimate=over_seeds([member.score.averages[place].estimate for member in self.members])
            )
            for place, average in enumerate(self.members[0].score.averages)
        )

    @property
    def value(self) -> float:
        """The accuracy that ranks it."""
        return (self.averages[0].estimate if self.averages else self.clean).value

    @property
    def kinds(self) -> dict[str, Accuracies]:
        """Mean accuracy over the seeds, by kind and severity."""
        tables = [member.score.kinds for member in self.members]
        return {
            kind: [mean_at_hand(cells) for cells in zip(*(table[kind] for table in tables), strict=True)]
            for kind in tables[0]
        }

    @property
    def families(self) -> list[tuple[str, dict[str, Accuracies]]]:
        """Its accuracies by family and kind, both in the order of their first appearance."""
        families: dict[str, dict[str, Accuracies]] = {}
        for kind, cells in self.kinds.items():
            families.setdefault(self.members[0].score.families.get(kind, "other"), {})[kind] = cells
        return list(families.items())

    @property
    def whole(self) -> list[str]:
        """The kinds that were measured at every severity at hand."""
        at_hand = self.members[0].score.severities
        return [kind for kind, row in self.kinds.items() if all(row[s - 1] is not None for s in at_hand)]

    @property
    def by_severity(self) -> Line:
        """Its mean accuracy at each severity, 0 being clean."""
        # With kinds that lack a severity the mean would jump there, whatever the network does.
        kinds, families = self.kinds, self.members[0].score.families
        # As in the averages, those of C-bar count only where there are no others.
        counted = [kind for kind in self.whole if families.get(kind) != "cbar"] or self.whole
        rows = [kinds[kind] for kind in counted]
        means = [(s, mean_at_hand([row[s - 1] for row in rows])) for s in self.members[0].score.severities]
        values = known([(0, self.clean.value), *means])
        return Line(self.recipe.position, self.recipe.name, values)

    def gains(self, other: "Standing") -> tuple[Estimate, Estimate | None]:
        """Return its differences from another one: on clean images, and of the first average.

        Between two networks they are paired by image; between recipes of the same seeds, by seed.
        """
        if len(self.members) == len(other.members) == 1:
            (clean, corrupted), theirs = self.members[0].score.gains, other.members[0].score.gains
            # It was paired with the one that has no gains.
            if clean is not None and theirs[0] is None:
                return clean, corrupted
        parts = [[(one.clean, two.clean) for one, two in self._pairs(other)]]
        if self.averages:
            parts.append(
                [(one.averages[0].estimate, two.averages[0].estimate) for one, two in self._pairs(other)]
            )
        whole = [self.clean.value - other.clean.value, self.value - other.value]
        found = [
            over_seeds([Estimate(one.value - two.value) for one, two in pairs])
            if len(pairs) > 1
            else Estimate(difference)
            for pairs, difference in zip(parts, whole, strict=False)
        ]
        return found[0], found[1] if self.averages else None

    def _pairs(self, other: "Standing") -> list[tuple[ScoreView, ScoreView]]:
        """Return the scores of both by seed; none unless both have the same seeds."""
        mine, theirs = ({one.entry.seed: one.score for one in row.members} for row in (self, other))
        return [(score, theirs[seed]) for seed, score in mine.items()] if mine.keys() == theirs.keys() else []


class Comparison(NamedTuple):
    """Networks measured under the same conditions: only these may be compared."""

    conditions: tuple[tuple[str, str], ...]
    rows: tuple[Standing, ...]
    """The recipes, the reference first."""
    key: str = ""
    """What no other comparison of the report has."""
    told: str = ""
    """After the name of the data set, each after a comma, what tells it from the others of these data."""

    @property
    def data(self) -> str:
        """The data set."""
        return dict(self.conditions).get("data", "")

    @property
    def images(self) -> str:
        """What tells its test images from others; empty where that is not known."""
        return self.rows[0].members[0].score.images

    @property
    def members(self) -> list[Member]:
        """All networks."""
        return [member for row in self.rows for member in row.members]

    @property
    def names(self) -> list[tuple[int, str]]:
        """Positions and names of the recipes."""
        return [(row.recipe.position, row.recipe.name) for row in self.rows]

    @property
    def averages(self) -> tuple[Average, ...]:
        """The averages that all have, with the figures of the first."""
        return self.rows[0].averages

    @property
    def several(self) -> bool:
        """Whether a recipe has several seeds."""
        return any(len(row.members) > 1 for row in self.rows)

    @property
    def ranked(self) -> list[Standing]:
        """All but the first, the most accurate first."""
        return sorted(self.rows[1:], key=lambda row: row.value, reverse=True)

    @property
    def missing(self) -> list[str]:
        """Kinds for which no average is shown, since they lack a severity that others have."""
        first = self.rows[0]
        return [] if self.averages else [kind for kind in first.kinds if kind not in first.whole]

    @property
    def figures(self) -> list[Figure]:
        """Clean accuracy, every average, and accuracy against severity."""
        scores = [[member.score for member in row.members] for row in self.rows]
        clean = [[score.clean.value for score in row] for row in scores]
        figures = [self._bars("Clean images", "clean images", [row.clean for row in self.rows], clean)]
        for place, average in enumerate(self.averages):
            said = f"corrupted images, {average.label}"
            note = f"{average.label[:1].upper()}{average.label[1:]}: {listed(average.kinds)}."
            estimates = [row.averages[place].estimate for row in self.rows]
            single = [[score.averages[place].estimate.value for score in row] for row in scores]
            figures.append(self._bars(average.title, said, estimates, single, note))
        lines = [row.by_severity for row in self.rows]
        if any(len(line.values) > 1 for line in lines):
            shown, said = first_drawn(lines)
            y = Axis("Accuracy", percent=True)
            chart = line_chart(
                shown,
                x=Axis("Severity (0 is clean)", whole=True, domain=(0, 5)),
                y=y,
                dots=True,
                label="Accuracy against severity, averaged over the kinds; the tables give every figure",
            )
            note = f"Mean over the kinds measured at every one of these severities. {said}{span_note(y)}"
            figures.append(Figure("By severity", chart, note))
        return figures

    @property
    def table(self) -> Table:
        """Mean accuracy under every kind, and its difference from the first network's."""
        kinds = [kind for _, rows in self.rows[0].families for kind in rows]
        tables = [row.kinds for row in self.rows]
        return Table(
            "Accuracy by kind of corruption",
            ["Kind", *compared([row.label for row in self.rows])],
            [[Cell(spaced(kind), kind=kind), *accuracy_cells(kind, tables)] for kind in kinds],
        )

    def _bars(
        self,
        title: str,
        images: str,
        estimates: Sequence[Estimate],
        single: Sequence[Sequence[float]],
        note: str = "",
    ) -> Figure:
        bars = [
            Bar(*named, estimate, tuple(each) if len(each) > 1 else ())
            for named, estimate, each in zip(self.names, estimates, single, strict=True)
        ]
        said = "; ".join(f"{bar.name} {with_interval(bar.estimate)}" for bar in bars)
        dots = "Dots are single seeds. " if self.several else ""
        return Figure(title, bar_chart(bars, label=f"Accuracy on {images}: {said}"), f"{dots}{note}")


def comparisons(report: ReportView) -> tuple[Comparison, ...]:
    """Return the scores by conditions, those with corruptions and with the most networks first.

    A network counts once under the same conditions.
    """
    groups: dict[tuple[tuple[tuple[str, str], ...], str], dict[int, list[Member]]] = {}
    # The standard recipe comes first: it is what the others are compared with.
    order = sorted(report.recipes, key=lambda recipe: not recipe.standard)
    for recipe in order:
        for entry in recipe.entries:
            for score in entry.scores:
                rows = groups.setdefault((score.conditions, score.key), {})
                members = rows.setdefault(recipe.position, [])
                # What was measured twice is no second seed.
                if not any(member.entry is entry for member in members):
                    members.append(Member(entry, score))
    found = [
        Comparison(
            conditions,
            tuple(Standing(report.recipes[position], tuple(each)) for position, each in rows.items()),
            sha256(repr((conditions, key)).encode("utf-8", "surrogatepass")).hexdigest()[:16],
        )
        for (conditions, key), rows in groups.items()
    ]
    found.sort(key=lambda group: (not group.averages, -len(group.members)))
    named = _apart(found, [_told(group, found) for group in found], _other_images)
    named = _apart(found, named, _other_cells)
    return tuple(group._replace(told=told) for group, told in zip(found, named, strict=True))


def _apart(
    groups: Sequence[Comparison], texts: Sequence[str], more: Callable[[Sequence[Comparison]], Sequence[str]]
) -> list[str]:
    """Return the texts, each with more where several groups of one data set share it."""
    alike: dict[tuple[str, str], list[Comparison]] = {}
    for group, text in zip(groups, texts, strict=True):
        alike.setdefault((group.data, text), []).append(group)
    added = {
        group.key: words for same in alike.values() for group, words in zip(same, more(same), strict=True)
    }
    return [text + added[group.key] for group, text in zip(groups, texts, strict=True)]


def _other_images(groups: Sequence[Comparison]) -> list[str]:
    """Return the number of each group's test images, as they first appear; nothing for the first ones."""
    images = [group.images for group in groups]
    order = ["", *dict.fromkeys(filter(None, images))]
    return [f", other images #{place}" if (place := order.index(one)) > 1 else "" for one in images]


def _other_cells(groups: Sequence[Comparison]) -> list[str]:
    """Return the number of each group, but for the first; that images differ too may not be known."""
    what = "cells" if all(group.images for group in groups) else "images or cells"
    return [f", other {what} #{number}" if number > 1 else "" for number, _ in enumerate(groups, start=1)]


def _told(group: Comparison, groups: Sequence[Comparison]) -> str:
    """Return, each after a comma, the conditions that other corrupted images of the data do not share."""
    others = [dict(other.conditions) for other in groups if other.averages and other.data == group.data]
    return "".join(
        f", {what} {brief('/'.join(PurePath(value).parts[-2:]) if what == 'folder' else value, 40)}"
        for what, value in group.conditions
        # Kinds and severities stand in the names of the averages.
        if what not in ("kinds", "severities") and any(other.get(what) != value for other in others)
    )


def over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of estimates with Student's 95 % interval; a single one as it is."""
    if len(estimates) == 1:
        return estimates[0]
    values = [estimate.value for estimate in estimates]
    return Estimate(mean(values), *student_interval(values))


def mean_at_hand(cells: Accuracies) -> float | None:
    """Return the mean of those that were measured; None where none was."""
    measured = [cell for cell in cells if cell is not None]
    return sum(measured) / len(measured) if measured else None


def compared(networks: Sequence[Cell]) -> list[Cell]:
    """Return the heads of columns whose first network is the reference of the others."""
    first, *others = networks
    return [first._replace(under="reference") if others else first, *others]


def accuracy_cells(kind: str, tables: Sequence[Mapping[str, Accuracies]]) -> list[Cell]:
    """Return every network's mean accuracy under a kind, and its difference from the first network's."""
    first, *others = [mean_at_hand(table.get(kind, ())) for table in tables]
    return [
        Cell(percent(first), value=first),
        *(
            Cell(
                percent(share),
                beside="" if share is None or first is None else signed(share - first),
                value=share,
            )
            for share in others
        ),
    ]
