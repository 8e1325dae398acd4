"""Charts as SVG: drawn by Altair and vl-convert, needing no script and nothing from the network.

Names of networks and layers reach Vega as values of the fields below, never as names of fields.
"""

import io
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt
from altair.utils.schemapi import debug_mode
from markupsafe import Markup
from torch import Tensor

from .style import GRID, INK, MUTED, RUN_COLORS
from .text import cleaned, fitted, percent, with_interval
from .views import Estimate

_SVG = "http://www.w3.org/2000/svg"
_WIDTH = 360
# Networks in a chart of lines: each color twice.
_MOST = 2 * len(RUN_COLORS)
# Around the bars: half of a dot at their ends, and the axis below.
_BARS = {"left": 4, "right": 4, "top": 2, "bottom": 22}
# Columns of a name over its bar. Vega would cut it to pixels, in the middle of a letter outside of 16 bits,
# and the renderer refuses the half.
_NAME = 32


Points = list[tuple[float, float]]
"""Of a line: pairs of x and y."""


class Bar(NamedTuple):
    """The accuracy of a network in a bar chart; its position gives the color."""

    position: int
    name: str
    estimate: Estimate
    dots: tuple[float, ...] = ()
    """Accuracies of single networks, of which the estimate is the mean."""


class Line(NamedTuple):
    """A line in a line chart; the position of its network gives the color, a pointer on it shows the name."""

    position: int
    name: str
    values: Points
    dashed: bool = False


class Axis(NamedTuple):
    """An axis of a line chart, its title with the unit."""

    title: str
    percent: bool = False
    """Whether it shows shares as percent."""
    whole: bool = False
    """Whether it shows whole numbers alone."""
    domain: tuple[float, float] | None = None
    """Its ends; those of the data where not given."""


def known(values: Iterable[tuple[float, float | None]]) -> Points:
    """Return the points that have a y."""
    return [(float(x), y) for x, y in values if y is not None]


def points(x: Tensor, y: Tensor) -> Points:
    """Return pairs of the values of two tensors."""
    return list(zip(x.tolist(), y.tolist(), strict=True))


def first_drawn(lines: Sequence[Line]) -> tuple[list[Line], str]:
    """Return the lines of the networks that a chart can show, and a sentence if others are left out.

    >>> lines = [Line(position, "net", [(0.0, 0.5)]) for position in range(60)]
    >>> len(first_drawn(lines)[0]), first_drawn(lines)[1]
    (16, 'The first 16 of 60 networks are drawn. ')
    """
    positions = list(dict.fromkeys(line.position for line in lines))
    if len(positions) <= _MOST:
        return list(lines), ""
    shown = set(positions[:_MOST])
    said = f"The first {_MOST} of {len(positions)} networks are drawn. "
    return [line for line in lines if line.position in shown], said


def span_note(axis: Axis) -> str:
    """Return a sentence on an axis whose ends are those of the data; nothing where its ends are given."""
    return "" if axis.domain is not None else "The vertical axis spans the data and need not start at 0."


# Altair checks each part of a chart against a schema, which takes much of the time of a page.
@debug_mode(False)
def bar_chart(bars: Sequence[Bar], *, label: str) -> Markup:
    """Return horizontal bars from 0 to 100 %, each under its name and figure, with its 95 % interval.

    An interval is cut to this range, and has no tick there. The label is for readers that do not see the
    chart.
    """
    said = [with_interval(bar.estimate).replace(" (", "  (") for bar in bars]
    rows = [
        {
            "row": row,
            "color": _color(bar.position),
            "name": fitted(cleaned(bar.name), _NAME),
            **bar.estimate.cut._asdict(),
            # An interval that goes on beyond the chart ends open.
            **{f"{end}_end": _if_drawn(getattr(bar.estimate, end)) for end in ("low", "high")},
            "dots": list(bar.dots),
            "zero": 0,
            "full": 1,
            "figure": said[row],
            "tip": f"{bar.position}|{cleaned(bar.name)}: {said[row]}",
        }
        for row, bar in enumerate(bars)
    ]
    y = alt.Y("row:O", axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0))
    x = alt.X(
        "zero:Q",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(
            format="%", values=[0, 0.25, 0.5, 0.75, 1], title=None, grid=False, ticks=False, domain=False
        ),
    )
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=y, description="tip:N")
    below = 9
    ground = base.mark_bar(height=12, yOffset=below, color=GRID[0], cornerRadius=3).encode(x=x, x2="full:Q")
    filled = base.mark_bar(height=12, yOffset=below, cornerRadius=3).encode(
        x=x, x2="value:Q", color=alt.Color("color:N", scale=None)
    )
    some = base.transform_filter("isValid(datum.low)")
    whisker = some.mark_rule(strokeWidth=2, yOffset=below, color=INK[0]).encode(x="low:Q", x2="high:Q")
    ends = [
        base.transform_filter(f"isValid(datum.{end})")
        .mark_tick(thickness=2, size=9, yOffset=below, color=INK[0])
        .encode(x=alt.X(f"{end}:Q"))
        for end in ("low_end", "high_end")
    ]
    text = {"baseline": "middle", "dy": -11, "fontSize": 12, "color": INK[0]}
    names = base.mark_text(align="left", limit=0, **text).encode(x=alt.value(0), text="name:N")
    figures = base.mark_text(align="right", **text).encode(x=alt.value("width"), text="figure:N")
    dots = base.transform_flatten(["dots"]).mark_circle(size=30, yOffset=below, color=INK[0], opacity=0.75)
    single = [dots.encode(x="dots:Q")] if any(bar.dots for bar in bars) else []
    chart = alt.layer(ground, filled, whisker, *ends, *single, names, figures)
    return _svg(chart, height=46 * len(bars), label=label, margins=_BARS)


@debug_mode(False)
def line_chart(
    lines: Sequence[Line], *, x: Axis, y: Axis, label: str, dots: bool = False, mark: float | None = None
) -> Markup:
    """Return lines over a common x; the label is for readers that do not see the chart.

    With `dots` each point is marked and has its figures as a tooltip. `mark` is the place of a vertical line.
    """
    rows = [
        {
            "series": number,
            "color": _color(line.position),
            "dash": "dashed" if line.dashed else "solid",
            "x": float(horizontal),
            # Sums of equal accuracies differ in their last digits, which an axis would magnify.
            "y": round(float(vertical), 9),
            "tip": f"{line.position}|{cleaned(line.name)}"
            + (f": {_value(vertical, y)} at {_value(horizontal, x)}" if dots else ""),
        }
        for number, line in enumerate(lines)
        for horizontal, vertical in line.values
    ]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("x:Q", **_drawn(x, [point[0] for line in lines for point in line.values])),
        y=alt.Y("y:Q", **_drawn(y, [point[1] for line in lines for point in line.values])),
        color=alt.Color("color:N", scale=None),
        detail="series:N",
    )
    dash = alt.StrokeDash(
        "dash:N", scale=alt.Scale(domain=["solid", "dashed"], range=[[1, 0], [4, 3]]), legend=None
    )
    layers: list[alt.Chart] = []
    if mark is not None:
        rule = alt.Chart(alt.InlineData(values=[{"x": mark}]))
        layers.append(rule.mark_rule(strokeDash=[2, 3], color=MUTED[0]).encode(x="x:Q"))
    layers.append(
        base.mark_line(strokeWidth=2, strokeJoin="round").encode(strokeDash=dash, description="tip:N")
    )
    if dots:
        layers.append(base.mark_circle(size=26, opacity=1).encode(description="tip:N"))
    return _svg(alt.layer(*layers), height=230, label=label)


def _if_drawn(end: float | None) -> float | None:
    return end if end is not None and 0 <= end <= 1 else None


def _color(position: int) -> str:
    return RUN_COLORS[position % len(RUN_COLORS)][0]


def _value(value: float, axis: Axis) -> str:
    if axis.percent:
        return percent(value)
    return f"{axis.title.lower()} {value:.0f}" if axis.whole else f"{value:.3g}"


def _drawn(axis: Axis, values: Sequence[float]) -> dict[str, Any]:
    """Return the scale and the axis of a channel with these values."""
    scale: dict[str, Any] = {"zero": False, "nice": not axis.whole}
    if axis.domain is not None:
        scale = {"domain": list(axis.domain), "nice": False}
    ticks: dict[str, Any] = {"tickCount": 5, **({"format": "%"} if axis.percent else {})}
    if axis.whole:
        # Vega puts ticks between whole numbers where there are few of them.
        low, high = axis.domain or (min(values), max(values))
        step = max(1, math.ceil((high - low) / 8))
        ticks = {"format": "d", "values": list(range(math.ceil(low), math.floor(high) + 1, step))}
    return {"scale": alt.Scale(**scale), "axis": alt.Axis(title=axis.title, **ticks)}


def _svg(
    chart: "alt.LayerChart | alt.FacetChart",
    *,
    height: int,
    label: str,
    margins: Mapping[str, int] | None = None,
) -> Markup:
    """Return the chart as SVG to stand inside the page; with margins they hold what is around its plot."""
    # Fitted, a plot with something beyond it would be narrower, and its axis another one than its neighbor's.
    fitted_in = alt.AutoSizeParams(type="fit", contains="padding")
    space: Mapping[str, Any] = margins or {"left": 0, "right": 0}
    finished = (
        chart.properties(
            width=_WIDTH - space["left"] - space["right"],
            height=height,
            autosize=alt.AutoSizeParams(type="none") if margins else fitted_in,
            padding=dict(space) if margins else 2,
        )
        .configure(background="transparent")
        .configure_view(stroke=None)
        .configure_axis(
            domainColor=GRID[0],
            gridColor=GRID[0],
            tickColor=GRID[0],
            labelColor=MUTED[0],
            titleColor=MUTED[0],
            labelFontSize=11,
            titleFontSize=11,
            titleFontWeight="normal",
            titlePadding=8,
            labelPadding=5,
        )
        .configure_axisX(grid=False)
    )
    buffer = io.StringIO()
    finished.save(buffer, format="svg")
    return _inline(buffer.getvalue(), label)


def _inline(svg: str, label: str) -> Markup:
    """Return Vega's SVG with one name for the whole, and a tooltip for each mark that describes itself.

    Markup is marked as safe here alone: an XML writer made all of it, and escaped each name in it.
    """
    ET.register_namespace("", _SVG)
    root = ET.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            hidden = child.get("opacity") == "0" or child.get("display") == "none"
            if hidden or child.get("class") == "background":
                parent.remove(child)
    for element in root.iter():
        tip = element.get("aria-label") if element.get("role") == "graphics-symbol" else None
        if tip and element.get("aria-roledescription") not in ("axis", "legend", "title"):
            # The script of the page hides a network's marks by its position.
            if marked := _MARKED.match(tip):
                element.set("data-network", marked[1])
            title = ET.Element(f"{{{_SVG}}}title")
            title.text = _MARKED.sub("", tip)
            element.insert(0, title)
        for name, value in list(element.attrib.items()):
            if name == "role" or name.startswith("aria-") or _DEFAULTS.get(name) == value:
                del element.attrib[name]
        for name in ("d", "transform", "x2", "y2"):
            if name in element.attrib:
                element.set(
                    name, _LONG_NUMBER.sub(lambda found: f"{float(found[0]):.2f}", element.attrib[name])
                )
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"class": "chart", "role": "img", "aria-label": cleaned(label)}
    return Markup(ET.tostring(root, encoding="unicode"))


# The tip of a mark begins with the position of its network, which Vega has no other place for.
_MARKED = re.compile(r"^(\d+)\|")
_DEFAULTS = {"opacity": "1", "stroke-width": "1"}
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
