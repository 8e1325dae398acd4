"""Clean and corrupted accuracy side by side, and the sentences that sum it up."""

from collections.abc import Sequence
from dataclasses import dataclass

from .charts import Axis, Bar, Line, bar_chart, line_chart
from .markup import (
    chip,
    escaped,
    figure,
    interval,
    joined,
    legend,
    nothing,
    percent,
    points,
    scroller,
    section,
    shown,
    signed,
    table,
    with_interval,
)
from .views import Average, Entry, Estimate, ReportView, ScoreView

_SEVERITIES = range(1, 6)
_IN_WORDS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A network with its scores under the conditions of a comparison."""

    position: int
    """The entry's position."""
    entry: Entry
    """The network."""
    score: ScoreView
    """How it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Networks measured under the same conditions: only these may be compared."""

    conditions: tuple[tuple[str, str], ...]
    """What they share."""
    members: tuple[Member, ...]
    """The networks, the reference first if it is one of them."""

    @property
    def average(self) -> Average | None:
        """The average that all members have, the first network's as an example of it."""
        averages = self.members[0].score.averages
        return averages[0] if averages else None


def comparisons(report: ReportView) -> tuple[Comparison, ...]:
    """Return the scores by conditions, those with corruptions and with the most networks first."""
    groups: dict[tuple[tuple[tuple[str, str], ...], str], list[Member]] = {}
    for position, entry in enumerate(report.entries):
        for score in entry.scores:
            member = Member(position=position, entry=entry, score=score)
            groups.setdefault((score.conditions, score.key), []).append(member)
    found = [
        Comparison(
            conditions=conditions,
            members=tuple(sorted(members, key=lambda member: member.position != report.reference)),
        )
        for (conditions, _), members in groups.items()
    ]
    return tuple(sorted(found, key=lambda group: (group.average is None, -len(group.members))))


def sentences(comparison: Comparison) -> str:
    """Return what came out, as HTML paragraphs: the first network, and the others against it."""
    first, *others = comparison.members
    average = comparison.average
    facts = []
    if first.score.clean is not None:
        facts.append(f"{with_interval(first.score.clean)} of clean images right")
    if average is not None:
        right = "of corrupted ones" if facts else "of corrupted images right"
        facts.append(f"{with_interval(average.estimate)} {right} ({escaped(average.label)})")
    name = f"<strong>{shown(first.entry.name)}</strong>"
    ranked = sorted(others, key=_standing, reverse=True)
    against = " Against it:" if ranked else ""
    opening = f"<p>{name} gets {' and '.join(facts)}.{against}</p>" if facts else ""
    items = "".join(f"<li>{_against(member, first)}</li>" for member in ranked[:_IN_WORDS])
    listed = f"<ul>{items}</ul>" if items else ""
    rest = len(ranked) - _IN_WORDS
    more = f'<p class="quiet">{rest} more are in the table below.</p>' if rest > 0 else ""
    return f"{opening}{listed}{more}"


def _standing(member: Member) -> float:
    score = member.score
    if score.averages:
        return score.averages[0].estimate.value
    return -1.0 if score.clean is None else score.clean.value


def _against(member: Member, first: Member) -> str:
    score, base = member.score, first.score
    parts = []
    if score.averages and base.averages:
        mine, theirs = score.averages[0].estimate, base.averages[0].estimate
        parts.append(_change(mine, theirs, score.gains[1], "on corrupted images"))
    if score.clean is not None and base.clean is not None:
        where = "on clean ones" if parts else "on clean images"
        parts.append(_change(score.clean, base.clean, score.gains[0], where))
    return f"{chip(member.position, member.entry.name)}: {'; '.join(parts)}."


def _change(mine: Estimate, theirs: Estimate, gain: Estimate | None, where: str) -> str:
    """Return a difference in words, and whether it is more than chance would give."""
    said, rest = points(mine.value - theirs.value), f"{where}, to {percent(mine.value)}"
    if gain is not None and gain.low is not None and gain.high is not None:
        clear = "" if gain.low > 0 or gain.high < 0 else ": no clear difference"
        return f"<strong>{points(gain.value)}</strong> ({interval(gain)}{clear}) {rest}"
    if mine.low is None or mine.high is None or theirs.low is None or theirs.high is None:
        return f"<strong>{said}</strong> {rest}"
    apart = mine.low > theirs.high or mine.high < theirs.low
    return f"<strong>{said}</strong>{'' if apart else ' (the intervals overlap)'} {rest}"


def accuracy_section(groups: Sequence[Comparison]) -> str:
    """Return the section: one block for every set of conditions."""
    lead = (
        "How often each network is right, on clean images and on corrupted ones. Whiskers and brackets are "
        "95&nbsp;% intervals over the test images."
    )
    if not groups:
        return section("accuracy", "Accuracy", lead, nothing("no database of results was named"))
    blocks = "".join(_block(group, several=len(groups) > 1) for group in groups)
    return section("accuracy", "Accuracy", lead, blocks)


def _block(group: Comparison, *, several: bool) -> str:
    members = group.members
    setting = " &middot; ".join(f"{escaped(what)} {shown(value)}" for what, value in group.conditions)
    heading = f"<h3>{_title(group)}</h3>" if several else ""
    names = legend([(member.position, member.entry.name) for member in members])
    parts = [f'{heading}<p class="note">Measured on {setting}</p>{names}']
    charts = []
    bars = [_bar(member, member.score.clean) for member in members if member.score.clean is not None]
    if bars:
        charts.append(
            figure("Clean images", bar_chart(bars, label=_spoken("Accuracy on clean images", bars)))
        )
    for number, average in enumerate(members[0].score.averages):
        bars = [
            _bar(member, member.score.averages[number].estimate)
            for member in members
            if len(member.score.averages) > number
        ]
        label = _spoken(f"Accuracy on corrupted images, {average.label}", bars)
        said = f"{average.label[:1].upper()}{average.label[1:]}: {_listed(average.kinds)}."
        charts.append(figure(average.title, bar_chart(bars, label=label), escaped(said)))
    lines = [_by_severity(member) for member in members]
    if any(len(line.values) > 1 for line in lines):
        chart = line_chart(
            [line for line in lines if line.values],
            x=Axis(title="Severity (0 is clean)", whole=True, domain=(0, 5)),
            y=Axis(title="Accuracy", percent=True),
            dots=True,
            label="Accuracy against severity, averaged over the kinds; the tables give every figure",
        )
        note = "Mean over the kinds measured at every one of these severities."
        charts.append(figure("By severity", chart, note))
    parts.append(f'<div class="grid">{"".join(charts)}</div>')
    for member in members:
        if member.score.overlap:
            said = f"training resembles {_listed(member.score.overlap)}: its accuracy there is no surprise."
            parts.append(f'<p class="note">{chip(member.position, member.entry.name)}: {escaped(said)}</p>')
    missing = [kind for kind in members[0].score.kinds if kind not in _whole(members[0].score)]
    if missing and not members[0].score.averages:
        said = f"No average is shown, since some severities were not measured: {_listed(missing)}."
        parts.append(f'<p class="note">{escaped(said)}</p>')
    if any(member.score.kinds for member in members):
        if len(members) > 1:
            parts.append(figure("By kind of corruption", _kinds_table(members), _KINDS_NOTE))
        parts.append("<h3>By kind and severity</h3>")
        parts.append(f'<div class="grid">{"".join(_heat_map(member) for member in members)}</div>')
    return "".join(parts)


_KINDS_NOTE = "Mean over the severities that were measured; in grey the difference to the first, in points."


def _title(group: Comparison) -> str:
    return joined([shown(member.entry.name) for member in group.members])


def _listed(kinds: Sequence[str]) -> str:
    return joined([kind.replace("_", " ") for kind in kinds])


def _bar(member: Member, estimate: Estimate) -> Bar:
    return Bar(position=member.position, name=member.entry.name, estimate=estimate)


def _spoken(what: str, bars: Sequence[Bar]) -> str:
    return f"{what}: " + "; ".join(f"{bar.name} {with_interval(bar.estimate)}" for bar in bars)


def _severities(score: ScoreView) -> list[int]:
    """Return the severities at which any kind was measured."""
    return [s for s in _SEVERITIES if any(row[s - 1] is not None for row in score.kinds.values())]


def _whole(score: ScoreView) -> list[str]:
    """Return the kinds that were measured at every severity at hand."""
    severities = _severities(score)
    return [kind for kind, row in score.kinds.items() if all(row[s - 1] is not None for s in severities)]


def _by_severity(member: Member) -> Line:
    score = member.score
    values = [] if score.clean is None else [(0.0, score.clean.value)]
    # Of kinds that lack a severity the mean would jump there for no reason of the network's.
    rows = [score.kinds[kind] for kind in _whole(score)]
    for severity in _severities(score):
        mean = _mean([row[severity - 1] for row in rows])
        if mean is not None:
            values.append((float(severity), mean))
    return Line(position=member.position, name=member.entry.name, values=values)


def _mean(cells: Sequence[float | None]) -> float | None:
    measured = [cell for cell in cells if cell is not None]
    return sum(measured) / len(measured) if measured else None


def _by_family(score: ScoreView) -> list[tuple[str, list[str]]]:
    """Return the kinds by family, both in the order of their first appearance."""
    families: dict[str, list[str]] = {}
    for kind in score.kinds:
        families.setdefault(score.families.get(kind, "other"), []).append(kind)
    return list(families.items())


def _kinds_table(members: Sequence[Member]) -> str:
    first = members[0].score
    rows = []
    for _, kinds in _by_family(first):
        for kind in kinds:
            base = _mean(first.kinds[kind])
            cells = [_kind_name(kind), percent(base)]
            for member in members[1:]:
                mean = _mean(member.score.kinds.get(kind, ()))
                cell = percent(mean)
                if mean is not None and base is not None:
                    cell += f' <span class="delta">{signed(mean - base)}</span>'
                cells.append(cell)
            rows.append(cells)
    head = ["Kind", *(chip(member.position, member.entry.name) for member in members)]
    return table(head, rows, caption="", label="Accuracy by kind of corruption")


def _heat_map(member: Member) -> str:
    body = []
    for family, kinds in _by_family(member.score):
        body.append(f'<tr class="family"><th colspan="7" scope="colgroup">{escaped(family)}</th></tr>')
        for kind in kinds:
            cells = member.score.kinds[kind]
            mean = _mean(cells)
            body.append(
                f'<tr><th scope="row">{_kind_name(kind)}</th>'
                + "".join(_heat_cell(cell) for cell in cells)
                + f'<td class="mean">{"&ndash;" if mean is None else f"{100 * mean:.1f}"}</td></tr>'
            )
    head = "".join(f'<th scope="col">{severity}</th>' for severity in _SEVERITIES)
    inside = (
        f'<table class="heat"><thead><tr><th scope="col">Severity</th>{head}<th scope="col">mean</th></tr>'
        f"</thead><tbody>{''.join(body)}</tbody></table>"
    )
    name = member.entry.name
    boxed = scroller(inside, label=f"Accuracy in percent of {name}, by kind and severity")
    return figure(chip(member.position, name), boxed, "Accuracy in percent, coloured from 0 to 100.")


def _heat_cell(cell: float | None) -> str:
    if cell is None:
        return '<td class="missing" title="not measured">&ndash;</td>'
    return f'<td class="h{round(10 * min(max(cell, 0.0), 1.0))}">{100 * cell:.0f}</td>'


def _kind_name(kind: str) -> str:
    return shown(kind.replace("_", " "))
