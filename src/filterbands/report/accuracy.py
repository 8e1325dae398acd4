"""Accuracy on clean and on corrupted images: which networks may be compared, and their charts and tables."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .charts import Axis, Bar, Line, bar_chart, known, line_chart
from .text import listed, percent, signed, spaced, with_interval
from .views import Average, Cell, Entry, Estimate, Figure, ReportView, ScoreView, Table

Accuracies = Sequence[float | None]
"""Of one kind, by severity; None where it was not measured."""


class Member(NamedTuple):
    """A network with its scores under the conditions of a comparison."""

    entry: Entry
    score: ScoreView

    @property
    def standing(self) -> float:
        """The accuracy that ranks it."""
        return (self.score.averages[0].estimate if self.score.averages else self.score.clean).value

    @property
    def families(self) -> list[tuple[str, dict[str, Accuracies]]]:
        """Its accuracies by family and kind, both in the order of their first appearance."""
        families: dict[str, dict[str, Accuracies]] = {}
        for kind, cells in self.score.kinds.items():
            families.setdefault(self.score.families.get(kind, "other"), {})[kind] = cells
        return list(families.items())

    @property
    def whole(self) -> list[str]:
        """The kinds that were measured at every severity at hand."""
        kinds, at_hand = self.score.kinds, self.score.severities
        return [kind for kind, row in kinds.items() if all(row[s - 1] is not None for s in at_hand)]

    @property
    def by_severity(self) -> Line:
        """Its mean accuracy at each severity, 0 being clean."""
        # With kinds that lack a severity the mean would jump there, whatever the network does.
        rows = [self.score.kinds[kind] for kind in self.whole]
        means = [(s, mean_at_hand([row[s - 1] for row in rows])) for s in self.score.severities]
        values = known([(0, self.score.clean.value), *means])
        return Line(self.entry.position, self.entry.name, values)


class Comparison(NamedTuple):
    """Networks measured under the same conditions: only these may be compared."""

    conditions: tuple[tuple[str, str], ...]
    members: tuple[Member, ...]
    """The networks, the reference first if it is one of them."""

    @property
    def names(self) -> list[tuple[int, str]]:
        """Positions and names of the networks."""
        return [(member.entry.position, member.entry.name) for member in self.members]

    @property
    def averages(self) -> tuple[Average, ...]:
        """The averages that all members have, with the figures of the first network."""
        return self.members[0].score.averages

    @property
    def ranked(self) -> list[Member]:
        """All but the first, the most accurate first."""
        return sorted(self.members[1:], key=lambda member: member.standing, reverse=True)

    @property
    def missing(self) -> list[str]:
        """Kinds for which no average is shown, since they lack a severity that others have."""
        first = self.members[0]
        return [] if self.averages else [kind for kind in first.score.kinds if kind not in first.whole]

    @property
    def figures(self) -> list[Figure]:
        """Clean accuracy, every average, and accuracy against severity."""
        scores = [member.score for member in self.members]
        figures = [self._bars("Clean images", "clean images", [score.clean for score in scores])]
        for place, average in enumerate(self.averages):
            said = f"corrupted images, {average.label}"
            note = f"{average.label[:1].upper()}{average.label[1:]}: {listed(average.kinds)}."
            estimates = [score.averages[place].estimate for score in scores]
            figures.append(self._bars(average.title, said, estimates, note))
        lines = [member.by_severity for member in self.members]
        if any(len(line.values) > 1 for line in lines):
            chart = line_chart(
                lines,
                x=Axis("Severity (0 is clean)", whole=True, domain=(0, 5)),
                y=Axis("Accuracy", percent=True),
                dots=True,
                label="Accuracy against severity, averaged over the kinds; the tables give every figure",
            )
            note = "Mean over the kinds measured at every one of these severities."
            figures.append(Figure("By severity", chart, note))
        return figures

    @property
    def table(self) -> Table:
        """Mean accuracy under every kind, and its difference from the first network's."""
        kinds = [kind for _, rows in self.members[0].families for kind in rows]
        tables = [member.score.kinds for member in self.members]
        return Table(
            "Accuracy by kind of corruption",
            ["Kind", *compared([member.entry.label for member in self.members])],
            [[Cell(spaced(kind), kind=kind), *accuracy_cells(kind, tables)] for kind in kinds],
        )

    def _bars(self, title: str, images: str, estimates: Sequence[Estimate], note: str = "") -> Figure:
        bars = [Bar(*named, estimate) for named, estimate in zip(self.names, estimates, strict=True)]
        said = "; ".join(f"{bar.name} {with_interval(bar.estimate)}" for bar in bars)
        return Figure(title, bar_chart(bars, label=f"Accuracy on {images}: {said}"), note)


def comparisons(report: ReportView) -> tuple[Comparison, ...]:
    """Return the scores by conditions, those with corruptions and with the most networks first."""
    groups: dict[tuple[tuple[tuple[str, str], ...], str], list[Member]] = {}
    for entry in report.entries:
        for score in entry.scores:
            groups.setdefault((score.conditions, score.key), []).append(Member(entry, score))
    found = [
        Comparison(conditions, tuple(sorted(each, key=lambda one: one.entry.position != report.reference)))
        for (conditions, _), each in groups.items()
    ]
    return tuple(sorted(found, key=lambda group: (not group.averages, -len(group.members))))


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
                percent(mean),
                beside="" if mean is None or first is None else signed(mean - first),
                value=mean,
            )
            for mean in others
        ),
    ]
