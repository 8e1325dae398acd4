"""Charts as SVG: drawn by Altair and vl-convert, needing no script and nothing from the network.

Names of networks and layers reach Vega as values of the fields below, never as names of fields.
"""

import io
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from .markup import cleaned, percent
from .style import GRID, INK, MUTED, RUN_COLOURS
from .views import Estimate

_SVG = "http://www.w3.org/2000/svg"
_WIDTH = 360


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """An accuracy in a bar chart."""

    position: int
    """The entry's position, which gives the colour."""
    name: str
    """The entry's name."""
    estimate: Estimate
    """The accuracy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line in a line chart."""

    position: int
    """The entry's position, which gives the colour."""
    name: str
    """What it is, shown where the pointer rests."""
    values: Sequence[tuple[float, float]]
    """Its points, (x, y)."""
    dashed: bool = False
    """Whether it is drawn dashed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis of a line chart."""

    title: str
    """What it shows, and the unit."""
    percent: bool = False
    """Whether it shows shares as percent."""
    whole: bool = False
    """Whether it shows whole numbers alone."""
    domain: tuple[float, float] | None = None
    """Its ends; those of the data where not given."""


def bar_chart(bars: Sequence[Bar], *, label: str) -> str:
    """Return horizontal bars from 0 to 100 %, each under its name and figure, with its 95 % interval.

    Args:
        bars: One bar a network.
        label: What it shows, for readers that do not see it.
    """
    rows = [
        {
            "row": row,
            "colour": _colour(bar.position),
            "name": cleaned(bar.name),
            "value": bar.estimate.value,
            "low": bar.estimate.low,
            "high": bar.estimate.high,
            "zero": 0,
            "full": 1,
            "figure": _figure(bar.estimate),
            "tip": f"{cleaned(bar.name)}: {_figure(bar.estimate)}",
        }
        for row, bar in enumerate(bars)
    ]
    data = _values(rows)
    y = alt.Y("row:O", axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0))
    x = alt.X(
        "zero:Q",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(
            format="%", values=[0, 0.25, 0.5, 0.75, 1], title=None, grid=False, ticks=False, domain=False
        ),
    )
    base = alt.Chart(data).encode(y=y)
    below = 9
    ground = base.mark_bar(height=12, yOffset=below, color=GRID[0], cornerRadius=3).encode(x=x, x2="full:Q")
    filled = base.mark_bar(height=12, yOffset=below, cornerRadius=3).encode(
        x=x, x2="value:Q", color=alt.Color("colour:N", scale=None), description="tip:N"
    )
    some = base.transform_filter("isValid(datum.low)")
    whisker = some.mark_rule(strokeWidth=2, yOffset=below, color=INK[0]).encode(x="low:Q", x2="high:Q")
    ends = [
        some.mark_tick(thickness=2, size=9, yOffset=below, color=INK[0]).encode(x=alt.X(f"{end}:Q"))
        for end in ("low", "high")
    ]
    text = {"baseline": "middle", "dy": -11, "fontSize": 12, "color": INK[0]}
    names = base.mark_text(align="left", limit=200, **text).encode(x=alt.value(0), text="name:N")
    figures = base.mark_text(align="right", **text).encode(x=alt.value("width"), text="figure:N")
    chart = alt.layer(ground, filled, whisker, *ends, names, figures)
    return _svg(chart, height=46 * len(bars) + 24, label=label)


def line_chart(
    lines: Sequence[Line], *, x: Axis, y: Axis, label: str, dots: bool = False, mark: float | None = None
) -> str:
    """Return lines over a common x.

    Args:
        lines: What to draw.
        x: The horizontal axis.
        y: The vertical axis.
        label: What it shows, for readers that do not see it.
        dots: Mark each point, with its figures where the pointer rests.
        mark: Where to draw a vertical line of reference.
    """
    rows = [
        {
            "series": number,
            "colour": _colour(line.position),
            "dash": "dashed" if line.dashed else "solid",
            "x": float(horizontal),
            "y": float(vertical),
            "tip": f"{cleaned(line.name)}: {_value(vertical, y)} at {_value(horizontal, x)}"
            if dots
            else cleaned(line.name),
        }
        for number, line in enumerate(lines)
        for horizontal, vertical in line.values
    ]
    base = alt.Chart(_values(rows)).encode(
        x=alt.X("x:Q", scale=_scale(x), axis=_axis(x, [point[0] for line in lines for point in line.values])),
        y=alt.Y("y:Q", scale=_scale(y), axis=_axis(y, [point[1] for line in lines for point in line.values])),
        color=alt.Color("colour:N", scale=None),
        detail="series:N",
    )
    dash = alt.StrokeDash(
        "dash:N", scale=alt.Scale(domain=["solid", "dashed"], range=[[1, 0], [4, 3]]), legend=None
    )
    layers: list[alt.Chart] = []
    if mark is not None:
        rule = alt.Chart(_values([{"x": mark}]))
        layers.append(rule.mark_rule(strokeDash=[2, 3], color=MUTED[0]).encode(x="x:Q"))
    layers.append(
        base.mark_line(strokeWidth=2, strokeJoin="round").encode(strokeDash=dash, description="tip:N")
    )
    if dots:
        layers.append(base.mark_circle(size=26, opacity=1).encode(description="tip:N"))
    return _svg(alt.layer(*layers), height=230, label=label)


def _colour(position: int) -> str:
    return RUN_COLOURS[position % len(RUN_COLOURS)][0]


def _figure(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return percent(estimate.value)
    return f"{percent(estimate.value)}  ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def _value(value: float, axis: Axis) -> str:
    if axis.percent:
        return percent(value)
    return f"{axis.title.lower()} {value:.0f}" if axis.whole else f"{value:.3g}"


def _scale(axis: Axis) -> alt.Scale:
    if axis.domain is not None:
        return alt.Scale(domain=list(axis.domain), nice=False)
    return alt.Scale(zero=False, nice=not axis.whole)


def _axis(axis: Axis, drawn: Sequence[float]) -> alt.Axis:
    if axis.whole:
        # Vega puts ticks between whole numbers where there are few of them.
        low, high = axis.domain or (min(drawn), max(drawn))
        step = max(1, math.ceil((high - low) / 8))
        ticks = list(range(math.ceil(low), math.floor(high) + 1, step))
        return alt.Axis(title=axis.title, format="d", values=ticks)
    if axis.percent:
        return alt.Axis(title=axis.title, format="%", tickCount=5)
    return alt.Axis(title=axis.title, tickCount=5)


def _values(rows: list[dict[str, Any]]) -> alt.InlineData:
    return alt.InlineData(values=rows)


def _svg(chart: "alt.LayerChart | alt.FacetChart", *, height: int, label: str) -> str:
    """Return the chart as SVG to stand inside the page."""
    finished = (
        chart.properties(
            width=_WIDTH,
            height=height,
            autosize=alt.AutoSizeParams(type="fit", contains="padding"),
            padding=2,
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


def _inline(svg: str, label: str) -> str:
    """Return Vega's SVG with one name for the whole, and a tooltip for each mark that describes itself."""
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
            title = ET.Element(f"{{{_SVG}}}title")
            title.text = tip
            element.insert(0, title)
        for name in [name for name in element.attrib if name == "role" or name.startswith("aria-")]:
            del element.attrib[name]
        for name in ("d", "transform", "x2", "y2"):
            if name in element.attrib:
                element.set(name, _LONG_NUMBER.sub(_rounded, element.attrib[name]))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"class": "chart", "role": "img", "aria-label": cleaned(label)}
    return ET.tostring(root, encoding="unicode")


_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")


def _rounded(match: "re.Match[str]") -> str:
    return f"{float(match.group()):.2f}"
