"""The page of `report`: what was compared, what came out, and what made it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..disk import check_output
from ..evaluation import Data
from .accuracy import Comparison, comparisons
from .charts import Axis
from .first_layer import first_layers
from .gallery import make_gallery
from .gather import gather
from .layers import by_depth, course, having, layers_table
from .page import render, write_page
from .text import duration, interval, number, percent, spaced
from .views import Cell, Entry, Estimate, Figure, ReportView, Row, Table


def write_report(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    title: str = "Filters and robustness",
    data: Data | None = None,
) -> Path:
    """Write one HTML page about runs and their results, and return its path.

    The page is complete in itself: it loads nothing, from the network or the disk, and shows everything
    without its one script. It is written whole or not at all. It is made of what lies on disk; no network is
    run.

    Args:
        sources: Run folders and databases of results, in any mixture. The networks are shown in this
            order, and compared with the first one of the recipe `standard`, else with the first.
        out: The file to write; its folder must exist.
        title: The heading.
        data: The images of the results, in any form that `evaluate` takes: the page shows some of them, clean
            and corrupted anew, with each network's answers. Other images than those of the results are not
            shown, and the page says why.

    Raises:
        FileNotFoundError: A source that does not exist.
        ValueError: A source that is neither, a place that cannot be written, or a page of over 3 MB.

    >>> write_report([], "report.html")
    Traceback (most recent call last):
    ValueError: a report needs at least one Run folder or database of results, got none
    """
    file = check_output(out)
    page = render_report(gather(sources, title=title), data)
    return write_page(file, page, of=f"report of {len(sources)} sources")


def render_report(report: ReportView, data: Data | None = None) -> str:
    """Return the page as HTML, with pictures of the images where they are given."""
    groups = comparisons(report)
    measured = having((entry.name, entry.spectrum) for entry in report.entries)
    return render(
        "report.html",
        title=report.title,
        entries=report.entries,
        alike=_trained_alike(report),
        groups=groups,
        gallery=None if data is None else make_gallery(groups, data),
        overview=_overview(report, groups),
        first=first_layers(report),
        trained=having((entry.name, entry.run) for entry in report.entries),
        training=_training(report),
        measured=measured,
        depth=by_depth(measured),
        layers=[layers_table(*network, brief=True) for network in measured],
        facts=[_facts(entry) for entry in report.entries],
    )


def _trained_alike(report: ReportView) -> dict[str, Any]:
    """Return how the networks were trained, as far as it is the same for all."""
    said = [
        {} if run is None else {**run.config, "data": run.data}
        for run in (entry.run for entry in report.entries)
    ]
    return {
        what: said[0].get(what) if all(one.get(what) == said[0].get(what) for one in said) else None
        for what in ("arch", "data", "epochs")
    }


def _overview(report: ReportView, groups: Sequence[Comparison]) -> Table:
    scores = {member.entry.position: member.score for member in groups[0].members} if groups else {}
    averages = groups[0].averages if groups else ()
    head = [
        Cell("Network"),
        Cell("Clean", under="accuracy"),
        Cell("Corrupted", under=averages[0].label if averages else ""),
        Cell("Mean low energy", under="first layer"),
        Cell("Low share", under="first layer"),
        Cell("Training"),
    ]
    rows: list[Row] = []
    for entry in report.entries:
        score, layer = scores.get(entry.position), entry.layer
        told = None if entry.run is None else entry.run.facts.get("seconds")
        seconds = float(told) if isinstance(told, int | float) else None
        rows.append(
            [
                entry.label,
                _accuracy(score.clean if score else None),
                _accuracy(score.averages[0].estimate if score and score.averages else None),
                number(layer.mean_low_energy if layer else None),
                percent(layer.low_share if layer else None),
                Cell(duration(seconds), value=seconds),
            ]
        )
    return Table("The networks at a glance", head, rows)


def _accuracy(estimate: Estimate | None) -> Cell:
    if estimate is None:
        return Cell(percent(None))
    return Cell(percent(estimate.value), under=interval(estimate))


def _training(report: ReportView) -> list[Figure]:
    """Return loss and accuracy against the epoch, of the runs that have a log."""
    figures = []
    for key, title, y in (
        ("loss", "Loss", Axis("Loss")),
        ("accuracy", "Accuracy in training", Axis("Accuracy", percent=True)),
    ):
        found = [
            (entry.position, entry.name, [(record.epoch, getattr(record, key)) for record in entry.run.log])
            for entry in report.entries
            if entry.run is not None
        ]
        figures += course(title, found, x=Axis("Epoch", whole=True), y=y, label=f"{title} against the epoch")
    return figures


def _facts(entry: Entry) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what made a network's results: headings with names and values."""
    blocks: list[tuple[str, Mapping[str, Any]]] = []
    if entry.run is not None:
        facts = {name: value for name, value in entry.run.facts.items() if name != "config"}
        blocks += [("Training", facts), ("Configuration", entry.run.config)]
    for score in entry.scores:
        kinds = ", ".join(map(spaced, score.kinds)) or "none"
        blocks.append(("Evaluation", {"name": score.name, **dict(score.conditions), "kinds": kinds}))
    return [(heading, list(_flat(facts))) for heading, facts in blocks]


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested facts as dotted names with their values in words."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            words = {None: "none", True: "yes", False: "no"}
            said = words[value] if value is None or isinstance(value, bool) else str(value)
            yield f"{prefix}{name}", said
