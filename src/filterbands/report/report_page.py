"""The page of `report`: what was compared, what came out, and what made it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..control import CENTERS
from ..disk import check_output
from ..evaluation import Data
from ..probes import Added, HeatMap, Probing
from .accuracy import Comparison, comparisons, mean_at_hand
from .charts import Axis, Line, line_chart, span_note
from .first_layer import first_layers
from .gallery import make_gallery
from .gather import gather
from .glance import glances
from .layers import by_depth, course, layers_table, recipes_of
from .page import render, write_page
from .probe_page import added_pictures
from .sensitivity import Found, probed_sections
from .text import spaced
from .views import Entry, Figure, Recipe, ReportView


def write_report(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    title: str = "Filters and robustness",
    data: Data | None = None,
) -> Path:
    """Write one HTML page about networks and their results, and return its path.

    The page is complete in itself: it loads nothing, from the network or the disk, and shows everything
    without its one script. It is written whole or not at all. It is made of what lies on disk; no network is
    run.

    Args:
        sources: In any mixture: Run folders; databases of results, with their probes; checkpoints and ONNX
            files; `timm:NAME`, `torchvision:NAME` or `module:function`, which runs that code; and folders
            of all these, such as that of a study. The networks are shown in this order, and compared with
            the first one of the recipe `standard`, else with the first. A checkpoint that does not say
            which network it is shows its filters alone, and gets results by its name.
        out: The file to write; its folder must exist.
        title: The heading.
        data: The images of the results, in any form that `evaluate` takes: the page shows some of them, clean
            and corrupted anew, with each network's answers. Other images than those of the results are not
            shown, and the page says why.

    Raises:
        FileNotFoundError: A source that does not exist.
        ValueError: A source of no known kind, a place that cannot be written, or a page of over 3 MB.

    >>> write_report([], "report.html")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: a report needs at least one source: a Run folder, ...
    """
    file = check_output(out, replaced=True)
    page = render_report(gather(sources, title=title), data)
    return write_page(file, page, of=f"report of {len(sources)} sources")


def render_report(report: ReportView, data: Data | None = None) -> str:
    """Return the page as HTML, with pictures of the images where they are given."""
    groups = comparisons(report)
    entries = report.entries
    measured = [(one.position, one.name, one.spectrum) for one in entries if one.spectrum is not None]
    trained = [entry for entry in entries if entry.run is not None]
    training, first = _training(trained), first_layers(report)
    probed = _probed(report)
    gallery = None if data is None else make_gallery(groups, data)
    present = {
        "accuracy": groups,
        "images": gallery,
        "filters": first,
        "sensitivity": probed["maps"],
        "passes": probed["passes"],
        "corruptions": report.added,
        "training": training,
        "layers": measured,
        "provenance": True,
        "guide": True,
    }
    return render(
        "report.html",
        title=report.title,
        report=report,
        entries=entries,
        sections={anchor: _SECTIONS[anchor] for anchor, content in present.items() if content},
        alike=_trained_alike(trained),
        groups=groups,
        gallery=gallery,
        answer=_answer(groups),
        glances=glances(report, groups),
        first=first,
        trained=recipes_of(report, trained),
        training=training,
        measured=recipes_of(report, [entry for entry in entries if entry.spectrum is not None]),
        depth=by_depth(measured),
        layers=[layers_table(*network, brief=True) for network in measured],
        facts=[_facts(entry) for entry in entries],
        added=[] if report.added is None else added_pictures(report.added.found),
        added_to=[] if report.added is None else _conditions_of(report.added),
        **probed,
    )


_SECTIONS = {
    "accuracy": "Accuracy",
    "images": "Images",
    "filters": "First layer",
    "sensitivity": "Sensitivity to frequencies",
    "passes": "Filtered images",
    "corruptions": "What corruptions add",
    "training": "Training",
    "layers": "Every layer",
    "provenance": "What was run",
    "guide": "How to read it",
}


def _answer(groups: Sequence[Comparison]) -> dict[str, Any]:
    """Return what the sentences at the top say: the best network, the one it is compared with, the others."""
    if not groups:
        return {"group": None}
    group = groups[0]
    reference, best = group.rows[0], group.ranked[0] if group.ranked else None
    found: dict[str, Any] = {"group": group, "reference": reference, "best": best}
    # The most accurate network is the subject, whether it is the reference or not.
    leads = best is not None and best.value >= reference.value
    subject, other = (best, reference) if leads and best is not None else (reference, best)
    gains = () if best is None else best.gains(reference)
    turned = [None if gain is None else gain if leads else gain.turned for gain in gains]
    found |= {"subject": subject, "other": other, "gains": turned}
    found["others"] = [(row, *row.gains(reference)) for row in group.ranked[1:7]]
    means = [(kind, mean_at_hand(cells)) for kind, cells in subject.kinds.items()]
    found["extremes"] = sorted(known_means(means), key=lambda pair: pair[1])
    shown = [row.recipe for row in (subject, other) if row is not None]
    low = [(recipe, _mean_low_energy(recipe)) for recipe in shown]
    found["low"] = [(recipe, value) for recipe, value in low if value is not None]
    return found


def known_means(means: Sequence[tuple[str, float | None]]) -> list[tuple[str, float]]:
    """Return the pairs that have a value."""
    return [(kind, value) for kind, value in means if value is not None]


def _mean_low_energy(recipe: Recipe) -> float | None:
    """Return the mean over seeds of the mean low energy of the first layer."""
    return mean_at_hand([entry.layer.mean_low_energy for entry in recipe.entries if entry.layer is not None])


def _trained_alike(trained: Sequence[Entry]) -> dict[str, Any]:
    """Return how many networks have a record of their training, and what it says of all of them."""
    said = [{**run.config, "data": run.data} for run in (entry.run for entry in trained) if run is not None]
    alike = {
        what: said[0].get(what) if said and all(one.get(what) == said[0].get(what) for one in said) else None
        for what in ("arch", "data", "epochs")
    }
    return {**alike, "count": len(said)}


def _probed(report: ReportView) -> dict[str, Any]:
    """Return what the sections on heat maps and on filtered images show, and all that was probed on."""
    found = [
        Found(entry.position, entry.name, _conditions(one), one.found)
        for entry in report.entries
        for one in entry.probed
    ]
    return {**probed_sections(found), "probed_on": list(dict.fromkeys(one.conditions for one in found))}


def _conditions(probing: Probing) -> tuple[tuple[str, str], ...]:
    facts = {"data": probing.data, "split": probing.split, "images": f"{probing.found.images:,}"}
    return (*facts.items(), ("precision", probing.precision))


def _conditions_of(added: Added) -> list[tuple[str, str]]:
    facts = [("data", added.data), ("split", added.split), ("images", f"{added.found.images:,}")]
    return [*facts, ("constants", added.parameters)]


def _training(trained: Sequence[Entry]) -> list[Figure]:
    """Return loss and accuracy against the epoch, of the runs that have a log."""
    figures = []
    for key, title, y in (
        ("loss", "Loss", Axis("Loss")),
        ("accuracy", "Accuracy in training", Axis("Accuracy", percent=True)),
    ):
        found = [
            (entry.position, entry.name, [(record.epoch, getattr(record, key)) for record in entry.log])
            for entry in trained
        ]
        figures += course(title, found, x=Axis("Epoch", whole=True), y=y, label=f"{title} against the epoch")
    return [*figures, *_learned(trained)]


def _learned(trained: Sequence[Entry]) -> list[Figure]:
    """Return the strengths of power spectra that were learned: by frequency, and against the epoch."""
    profiles, courses = [], []
    for entry in trained:
        log = [record for record in entry.log if record.strengths]
        if not log:
            continue
        first, last = log[0].strengths, log[-1].strengths
        profiles.append(
            Line(
                entry.position,
                f"{entry.name} before",
                list(zip(CENTERS, first["bands"], strict=True)),
                dashed=True,
            )
        )
        profiles.append(
            Line(entry.position, f"{entry.name} after", list(zip(CENTERS, last["bands"], strict=True)))
        )
        parts = [(f"gain at {center:.2f} cycles per pixel", "bands", at) for at, center in enumerate(CENTERS)]
        for what, key, at in (*parts, ("shared gain", "gain", 0), ("noise", "noise", 0)):
            if start := first[key][at]:
                values = [(float(record.epoch), record.strengths[key][at] / start) for record in log]
                courses.append(Line(entry.position, f"{entry.name} {what}", values, dashed=key != "bands"))
    if not profiles:
        return []
    deviation, strength = Axis("Standard deviation of the log gain"), Axis("Strength, 1 at the start")
    by_frequency = line_chart(
        profiles,
        x=Axis("Frequency in cycles per pixel"),
        y=deviation,
        dots=True,
        label="Learned strength of the random gains against the frequency",
    )
    over_training = line_chart(
        courses,
        x=Axis("Epoch", whole=True),
        y=strength,
        label="Learned strengths against the epoch, relative to the start",
    )
    return [
        Figure(
            "Learned power spectrum",
            by_frequency,
            f"Solid after training, dashed before. In nepers. {span_note(deviation)}",
        ),
        Figure(
            "Learned strengths over training",
            over_training,
            "Solid: the gain of each band. Dashed: the gain that all bands share, and the noise. "
            + span_note(strength),
        ),
    ]


def _facts(entry: Entry) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what made a network's results: headings with names and values."""
    blocks: list[tuple[str, Mapping[str, Any]]] = [("File", entry.file)] if entry.file else []
    if entry.run is not None:
        facts = {name: value for name, value in entry.run.facts.items() if name != "config"}
        blocks += [("Training", facts), ("Configuration", entry.run.config)]
    for score in entry.scores:
        kinds = ", ".join(map(spaced, score.kinds)) or "none"
        blocks.append(("Evaluation", {"name": score.name, **dict(score.conditions), "kinds": kinds}))
    for one in entry.probed:
        what = "Heat map" if isinstance(one.found, HeatMap) else "Filtered images"
        norm = {}
        if isinstance(one.found, HeatMap):
            norm = {"norm": f"{one.found.norm:g}", "layer": one.found.layer or "the image"}
        blocks.append((what, {**dict(_conditions(one)), **norm}))
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
