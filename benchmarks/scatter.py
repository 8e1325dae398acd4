"""A picture of named points: one accuracy or gain against another, with the names where they hide nothing."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import altair as alt

from filterbands.report.style import GRID, INK, MUTED, RUN_COLORS

_TEXT = 10
# Of a letter of that size on average, and of a line, in pixels.
_LETTER, _LINE = 5.1, 11
_POINT = 5
PASSES = {1: "one pass a step", 2: "two passes", 3: "three passes"}
"""Groups of rows by passes per step."""


class Named(NamedTuple):
    """A point with a name; a group has a color, and `seeds` are the runs that the point is the mean of."""

    name: str
    x: float
    y: float
    group: str = ""
    seeds: Sequence[tuple[float, float]] = ()


def scatter(
    points: Sequence[Named],
    *,
    x: str,
    y: str,
    title: str = "",
    joined: Sequence[tuple[float, float]] = (),
    bars: Mapping[str, tuple[float, float]] | None = None,
    width: int = 560,
    height: int = 380,
) -> alt.LayerChart:
    """Return the points with their names, and a line through those in `joined`.

    Args:
        points: The points; each name stands beside its point, above or below, where no other is.
        x: Title of the axis across.
        y: Title of the axis upwards.
        title: What the whole picture is of.
        joined: Points of a dashed line, from left to right.
        bars: Ends of a bar upwards, by name.
        width: Width of the plot in pixels.
        height: Height of the plot in pixels.
    """
    all_x = [at for point in points for at in (point.x, *(one[0] for one in point.seeds))]
    all_y = [at for point in points for at in (point.y, *(one[1] for one in point.seeds))]
    bars = bars or {}
    all_y += [end for ends in bars.values() for end in ends]
    across, up = (_domain(values) for values in (all_x, all_y))

    def pixel(point: tuple[float, float]) -> tuple[float, float]:
        return (
            width * (point[0] - across[0]) / (across[1] - across[0]),
            height * (up[1] - point[1]) / (up[1] - up[0]),
        )

    # Between the points of a line there are others that names keep off.
    dots = [pixel(one) for point in points for one in point.seeds]
    for (x1, y1), (x2, y2) in pairwise(pixel(one) for one in joined):
        parts = max(1, int(max(abs(x2 - x1), abs(y2 - y1)) / _POINT))
        dots += [(x1 + (x2 - x1) * part / parts, y1 + (y2 - y1) * part / parts) for part in range(parts)]
    places = _placed([(point.name, *pixel((point.x, point.y))) for point in points], dots, width, height)
    labels = [
        {
            "name": point.name,
            "x": across[0] + left / width * (across[1] - across[0]),
            "y": up[1] - middle / height * (up[1] - up[0]),
        }
        for point, (left, middle) in zip(points, places, strict=True)
    ]
    groups = [group for group in PASSES.values() if group in {point.group for point in points}]
    colors = [light for light, _ in RUN_COLORS[: len(groups)]] + [MUTED[0] if groups else RUN_COLORS[0][0]]
    color = alt.Color("group:N", title=None).scale(domain=[*groups, ""], range=colors)
    color = color.legend(orient="bottom", symbolOpacity=1, values=groups) if groups else color.legend(None)
    at_x = alt.X("x:Q", title=x).scale(domain=across, nice=False)
    at_y = alt.Y("y:Q", title=y).scale(domain=up, nice=False)

    def of(values: Sequence[Any]) -> alt.Chart:
        return alt.Chart(alt.Data(values=list(values))).encode(x=at_x, y=at_y)

    ends = [
        {"x": point.x, "y": bars[point.name][0], "y2": bars[point.name][1]}
        for point in points
        if point.name in bars
    ]
    seeds = [{"x": one[0], "y": one[1], "group": point.group} for point in points for one in point.seeds]
    means = [{"x": point.x, "y": point.y, "group": point.group} for point in points]
    drawn = (
        of([{"x": one[0], "y": one[1]} for one in joined]).mark_line(color=MUTED[0], strokeDash=[4, 3]),
        of(ends).mark_rule(color=MUTED[0]).encode(y2="y2:Q"),
        of(seeds).mark_point(filled=True, size=14, opacity=0.6).encode(color=color),
        of(means).mark_point(filled=True, size=55, opacity=1).encode(color=color),
        of(labels).mark_text(align="left", fontSize=_TEXT, color=INK[0]).encode(text="name:N"),
    )
    return alt.layer(*drawn).properties(width=width, height=height, title=title)


def styled(chart: Any) -> Any:
    """Return a whole picture with the style of the others."""
    return (
        chart.configure_axis(gridColor=GRID[0], labelFontSize=11, titleFontSize=12)
        .configure_legend(labelFontSize=12)
        .configure_title(fontSize=12, fontWeight="normal")
    )


def _domain(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    edge = 0.06 * (high - low) or 1.0
    return low - edge, high + edge


def _placed(
    points: Sequence[tuple[str, float, float]],
    dots: Sequence[tuple[float, float]],
    width: float,
    height: float,
) -> list[tuple[float, float]]:
    """Return the left end and the middle of every name in pixels, where it meets the least."""
    taken = [(x - _POINT, y - _POINT, x + _POINT, y + _POINT) for _, x, y in points]
    taken += [(x - 2, y - 2, x + 2, y + 2) for x, y in dots]
    places = []
    for name, x, y in points:
        wide = _LETTER * len(name)
        tries = []
        for away in (0, _LINE, 2 * _LINE, 3 * _LINE):
            for down in dict.fromkeys((-away, away)):
                tries += [(x + _POINT + 2, y + down), (x - _POINT - 2 - wide, y + down)]
                if away:
                    tries.append((x - wide / 2, y + down))
        boxes = [(left, middle - _LINE / 2, left + wide, middle + _LINE / 2) for left, middle in tries]
        costs = [
            sum(_shared(box, other) for other in taken) + 100 * _outside(box, width, height) for box in boxes
        ]
        best = min(range(len(tries)), key=lambda place: (costs[place], place))
        taken.append(boxes[best])
        places.append(tries[best])
    return places


Box = tuple[float, float, float, float]


def _shared(one: Box, other: Box) -> float:
    """Return the area that two boxes share."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, across) * max(0.0, down)


def _outside(box: Box, width: float, height: float) -> float:
    """Return by how many pixels a box leaves the plot."""
    return sum(max(0.0, over) for over in (-box[0], -box[1], box[2] - width, box[3] - height))
