"""The page around the sections: its head, the headline, what was run, how to read it."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..version import __version__
from .accuracy import Comparison, accuracy_section, comparisons, sentences
from .first_layer import filters_section
from .markup import chip, cleaned, duration, escaped, interval, joined, number, percent, section, shown, table
from .networks import layers_section, training_section
from .style import style_sheet
from .views import Entry, Estimate, ReportView

# Nothing may be loaded or run, whatever a name holds that slipped through.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_SECTIONS = (
    ("accuracy", "Accuracy"),
    ("filters", "First layer"),
    ("training", "Training"),
    ("layers", "Every layer"),
    ("provenance", "What was run"),
    ("guide", "How to read it"),
)
_NAMED = 8


def render(report: ReportView) -> str:
    """Return the whole page as HTML."""
    groups = comparisons(report)
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title in _SECTIONS)
    title = escaped(report.title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta name="generator" content="filterbands {escaped(__version__)}">'
        f"<title>{title}</title><style>{style_sheet()}</style></head>\n<body>"
        '<a class="skip" href="#main">Skip to the results</a>'
        f'<header><p class="kicker">filterbands report</p><h1>{title}</h1>'
        f'<div class="headline">{_headline(report, groups)}</div></header>\n'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main id="main">'
        f"{_overview(report, groups)}\n{accuracy_section(groups)}\n{filters_section(report)}\n"
        f"{training_section(report)}\n{layers_section(report)}\n{_provenance(report)}\n{_GUIDE}"
        f"</main>\n<footer><p>Written by filterbands {escaped(__version__)} from results on disk. "
        "This page loads nothing and runs no script.</p></footer></body></html>\n"
    )


def _headline(report: ReportView, groups: tuple[Comparison, ...]) -> str:
    names = [chip(position, entry.name) for position, entry in enumerate(report.entries)]
    if len(names) > _NAMED:
        names = [*names[:_NAMED], f"{len(names) - _NAMED} more"]
    what = "One network" if len(names) == 1 else "Compared"
    trained = _trained_alike(report)
    said = [f'<p class="quiet">{what}: {joined(names)}{f", {trained}" if trained else ""}.</p>']
    if groups:
        said.append(sentences(groups[0]))
    layers = [
        f"{number(entry.run.layer.mean_low_energy, 2)} in {shown(entry.name)}"
        for entry in report.entries
        if entry.run is not None and entry.run.layer is not None
    ]
    if layers:
        said.append(
            f"<p>Mean low energy of the first layer: {joined(layers[:_NAMED])}. "
            '<span class="quiet">More is more low-frequency.</span></p>'
        )
    if groups:
        said.append(
            '<p class="note">In brackets: 95&nbsp;% intervals over the test images, of differences for '
            "the same images. They say nothing of how another seed would have trained.</p>"
        )
    return "".join(said)


def _trained_alike(report: ReportView) -> str:
    """Return how the networks were trained, as far as it is the same for all."""
    runs = [entry.run.facts for entry in report.entries if entry.run is not None]
    if not runs or len(runs) < len(report.entries):
        return ""
    configs = [_mapping(facts.get("config")) for facts in runs]

    def common(values: list[Any]) -> Any:
        return values[0] if all(value == values[0] for value in values) else None

    parts = []
    if arch := common([config.get("arch") for config in configs]):
        parts.append(f"{shown(arch)} networks" if len(runs) > 1 else f"a {shown(arch)} network")
    if data := common([_mapping(facts.get("data")) for facts in runs]):
        images = data.get("images")
        count = f" ({images:,} images)" if isinstance(images, int) else ""
        parts.append(f"trained on {shown(data.get('name', 'unknown data'))}{count}")
    if epochs := common([config.get("epochs") for config in configs]):
        parts.append(f"for {escaped(epochs)} epoch{'' if epochs == 1 else 's'}")
    return " ".join(parts)


def _overview(report: ReportView, groups: tuple[Comparison, ...]) -> str:
    scores = {member.position: member.score for member in groups[0].members} if groups else {}
    average = groups[0].average if groups else None
    rows = []
    for position, entry in enumerate(report.entries):
        score = scores.get(position)
        layer = entry.run.layer if entry.run is not None else None
        mine = score.averages[0].estimate if score is not None and score.averages else None
        rows.append(
            [
                chip(position, entry.name),
                _cell(score.clean if score is not None else None),
                _cell(mine),
                number(layer.mean_low_energy if layer is not None else None),
                percent(layer.low_share if layer is not None else None),
                duration(_seconds(entry)),
            ]
        )
    corrupted = "Corrupted"
    if average is not None:
        corrupted += f'<span class="sub">{escaped(average.label)}</span>'
    head = [
        "Network",
        'Clean<span class="sub">accuracy</span>',
        corrupted,
        'Mean low energy<span class="sub">first layer</span>',
        'Low share<span class="sub">first layer</span>',
        "Training",
    ]
    inside = table(head, rows, caption="", label="The networks at a glance")
    return f'<section id="glance" aria-label="At a glance"><div class="card">{inside}</div></section>'


def _seconds(entry: Entry) -> float | None:
    seconds = entry.run.facts.get("seconds") if entry.run is not None else None
    return float(seconds) if isinstance(seconds, int | float) else None


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return percent(None)
    ends = interval(estimate)
    return percent(estimate.value) + (f'<span class="sub">{ends}</span>' if ends else "")


def _provenance(report: ReportView) -> str:
    lead = "Everything that made these results, as it was recorded."
    cards = "".join(
        f'<div class="card"><details{" open" if len(report.entries) == 1 else ""}>'
        f"<summary>{chip(position, entry.name)}</summary>{_facts(entry)}</details></div>"
        for position, entry in enumerate(report.entries)
    )
    return section("provenance", "What was run", lead, cards)


def _facts(entry: Entry) -> str:
    blocks = []
    if entry.run is not None:
        facts = dict(entry.run.facts)
        config = facts.pop("config", {})
        blocks.append(f"<h4>Training</h4>{_list(facts)}<h4>Configuration</h4>{_list(_mapping(config))}")
    for score in entry.scores:
        kinds = ", ".join(kind.replace("_", " ") for kind in score.kinds)
        facts = {"name": score.name, **dict(score.conditions), "kinds": kinds or "none"}
        blocks.append(f"<h4>Evaluation</h4>{_list(facts)}")
    return "".join(blocks)


def _list(facts: Mapping[str, Any]) -> str:
    pairs = (f"<div><dt>{shown(name)}</dt><dd>{shown(value)}</dd></div>" for name, value in _flat(facts))
    return f'<dl class="facts">{"".join(pairs)}</dl>'


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested facts as dotted names with their values in words."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            words = {None: "none", True: "yes", False: "no"}
            said = words[value] if value is None or isinstance(value, bool) else cleaned(str(value))
            yield f"{prefix}{name}", said


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


_GUIDE = section(
    "guide",
    "How to read it",
    "The words of this page, each in a sentence.",
    """<dl class="guide">
<dt>Low energy, &rho;</dt><dd>The share of a filter&rsquo;s power spectrum within the cutoff radius.
A delta and, on average, a white filter have 0.50 at the default cutoff, a box 0.90, a Laplacian 0.18.</dd>
<dt>Cutoff</dt><dd>1/√(2π) = 0.399 cycles per pixel unless said otherwise: its disc covers half of all
frequencies.</dd>
<dt>Mean low energy</dt><dd>The mean of &rho; over the live filters of a layer, whatever their scale.</dd>
<dt>Low share</dt><dd>The share of live filters with at least half of their energy within the cutoff: a count,
which hides how far from the line they are. &ldquo;By chance&rdquo; is where it lies for 95 % of layers of
white filters.</dd>
<dt>Dead filter</dt><dd>One with less than a thousandth of the energy of the layer&rsquo;s strongest.</dd>
<dt>Interval</dt><dd>Where the accuracy would lie in 95 % of test sets of this size. It says nothing about
another training with another seed.</dd>
<dt>Average</dt><dd>The mean over the kinds and severities that were measured. The benchmark&rsquo;s own
average is over 15 kinds at all 5 severities; one over fewer is called by their number.</dd>
</dl>""",
)
