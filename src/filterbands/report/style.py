"""The colors of what is drawn, on light and on dark pages."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]
"""Red, green and blue, from 0 to 255."""

RUN_COLORS: tuple[tuple[str, str], ...] = (
    ("#2f6690", "#7db8e0"),
    ("#c4502f", "#f2977a"),
    ("#1f8a70", "#5ecdb2"),
    ("#7a4f9a", "#c09de0"),
    ("#9a7209", "#e2bd58"),
    ("#b3407a", "#f08fc2"),
    ("#5f7318", "#b2c562"),
    ("#5d6873", "#abb5c0"),
)
"""What tells networks apart, on light and on dark; after eight they repeat."""

INK = ("#20262d", "#e7eaed")
"""Text in charts."""
MUTED = ("#5c6670", "#a3adb7")
"""Labels of axes."""
GRID = ("#e6e8eb", "#31383f")
"""Grid lines, and the ground that a bar fills."""

HEAT: tuple[tuple[Color, Color, Color], ...] = (
    ((250, 240, 230), (138, 190, 201), (24, 91, 122)),
    ((58, 44, 40), (36, 92, 110), (150, 214, 226)),
)
"""One hue from pale to full, on light and on dark: a higher share is further from the color of the page."""


def heat_colors(anchors: tuple[Color, Color, Color]) -> list[tuple[str, str]]:
    """Return eleven pairs of a ground, as red, green and blue, and the text color that contrasts more."""
    colors = ramp(anchors, 11).tolist()
    return [(",".join(map(str, each)), "#000" if luminance(each) > 0.179 else "#fff") for each in colors]


def ramp(anchors: Sequence[Color], count: int) -> NDArray[np.uint8]:
    """Return so many colors, as rows, from the first anchor to the last, straight between two anchors."""
    where = np.linspace(0, len(anchors) - 1, count)
    channels = [np.interp(where, range(len(anchors)), channel) for channel in zip(*anchors, strict=True)]
    colors: NDArray[np.uint8] = np.stack(channels, axis=1).round().astype(np.uint8)
    return colors


def luminance(color: list[int]) -> float:
    """Return the relative luminance of WCAG 2; black and white text contrast equally at 0.18."""
    parts = [value / 255 for value in color]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
