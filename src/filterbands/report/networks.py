"""Training curves, and every convolution of the networks."""

from collections.abc import Sequence

from ..filters import FIGURES, Figure, LayerSpectrum
from .charts import Axis, Line, line_chart
from .markup import chip, escaped, figure, legend, nothing, number, percent, section, shown, table
from .views import ReportView, RunView


def training_section(report: ReportView) -> str:
    """Return the section on training: loss and accuracy against the epoch."""
    lead = "How training went. Accuracy here is that on the training images, as augmented."
    runs = [(n, entry) for n, entry in enumerate(report.entries) if entry.run is not None]
    charts = []
    for loss, title, axis in (
        (True, "Loss", Axis(title="Loss")),
        (False, "Accuracy in training", Axis(title="Accuracy", percent=True)),
    ):
        lines = [
            Line(position=position, name=entry.name, values=_logged(entry.run, loss=loss))
            for position, entry in runs
            if entry.run is not None and _logged(entry.run, loss=loss)
        ]
        if lines:
            label = f"{title} against the epoch"
            chart = line_chart(lines, x=Axis(title="Epoch", whole=True), y=axis, dots=True, label=label)
            charts.append(figure(title, chart))
    if not charts:
        return section("training", "Training", lead, nothing("no run with a log"))
    body = f'{legend([(item[0], item[1].name) for item in runs])}<div class="grid">{"".join(charts)}</div>'
    return section("training", "Training", lead, body)


def _logged(run: RunView, *, loss: bool) -> list[tuple[float, float]]:
    values = [(record.epoch, record.loss if loss else record.accuracy) for record in run.log]
    return [(float(epoch), value) for epoch, value in values if value is not None]


def layers_section(report: ReportView) -> str:
    """Return the section on every convolution: mean low energy by depth, and the tables."""
    lead = (
        "Every convolution of the final networks. In deep layers white filters lie so close to the line that "
        "a count near one half says nothing: compare the share with what chance gives."
    )
    runs = [
        (n, entry, entry.run.spectrum)
        for n, entry in enumerate(report.entries)
        if entry.run is not None and entry.run.spectrum is not None
    ]
    if not runs:
        return section("layers", "Every layer", lead, nothing("no finished run"))
    lines = []
    for position, entry, spectrum in runs:
        values = [
            (float(place), layer.mean_low_energy)
            for place, layer in enumerate(spectrum, start=1)
            if layer.mean_low_energy is not None
        ]
        if values:
            lines.append(Line(position=position, name=entry.name, values=values))
    parts = [legend([(item[0], item[1].name) for item in runs])]
    if any(len(line.values) > 1 for line in lines):
        chart = line_chart(
            lines,
            x=Axis(title="Convolution, from the input on", whole=True),
            y=Axis(title="Mean low energy", percent=True),
            dots=True,
            label="Mean low energy of every convolution in the order of the network",
        )
        parts.append(f'<div class="grid">{figure("By depth", chart)}</div>')
    for place, (position, entry, spectrum) in enumerate(runs):
        parts.append(layers_card(position, entry.name, list(spectrum), opened=place == 0, brief=True))
    return section("layers", "Every layer", lead, "".join(parts))


def layers_card(
    position: int, name: str, layers: Sequence[LayerSpectrum], *, opened: bool, brief: bool = False
) -> str:
    """Return a network's convolutions as a table that folds, with what is noted of them.

    Args:
        position: Its place among the networks.
        name: What it is called.
        layers: Its convolutions.
        opened: Whether the table is unfolded at first.
        brief: Show only the figures that tell networks apart.
    """
    shown_figures = {
        key: figure for key, figure in FIGURES.items() if not (brief and "comparison" in figure.left_out)
    }
    head = ["Layer", "Shape", "Dead", *(figure.label.capitalize() for figure in shown_figures.values())]
    rows = [
        [
            f"<code>{escaped(layer.name)}</code>",
            "&times;".join(str(side) for side in layer.shape),
            str(layer.dead),
            *(_cell(figure, layer.figures.get(key)) for key, figure in shown_figures.items()),
        ]
        for layer in layers
    ]
    inside = table(head, rows, caption="", label=f"Convolutions of {name}", numeric=2)
    notes = sorted({layer.note for layer in layers if layer.note})
    below = f'<p class="note">Notes: {shown("; ".join(notes))}.</p>' if notes else ""
    summary = f"<summary>{chip(position, name)}</summary>"
    opening = " open" if opened else ""
    return f'<div class="card"><details{opening}>{summary}{inside}{below}</details></div>'


def _cell(figure: Figure, value: float | tuple[float, float] | None) -> str:
    if isinstance(value, tuple):
        return f"{100 * value[0]:.0f} to {percent(value[1], 0)}"
    if len(figure.ends) > 1:
        return "&ndash;"
    return percent(value) if figure.unit == "filters" else number(value)
