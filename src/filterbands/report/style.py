"""The colours of what is drawn, on light and on dark pages, and the style sheet."""

from importlib.resources import files

RUN_COLOURS: tuple[tuple[str, str], ...] = (
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
"""Grid lines, and the ground a bar fills."""

# One hue from pale to full, and the same turned over for dark pages, so that more is always further from it.
_HEAT_LIGHT = ((250, 240, 230), (138, 190, 201), (24, 91, 122))
_HEAT_DARK = ((58, 44, 40), (36, 92, 110), (150, 214, 226))


def style_sheet() -> str:
    """Return the style of the page."""
    # The charts carry their light colours themselves, so that a chart saved from the page stays whole.
    pairs = (INK, MUTED, GRID, *RUN_COLOURS)
    dark_charts = "".join(
        f'svg.chart [fill="{light}"]{{fill:{dark}}}svg.chart [stroke="{light}"]{{stroke:{dark}}}'
        for light, dark in pairs
    )
    dots = "".join(f".run{n}{{color:{light}}}" for n, (light, _) in enumerate(RUN_COLOURS))
    dark_dots = "".join(f".run{n}{{color:{dark}}}" for n, (_, dark) in enumerate(RUN_COLOURS))
    heat, dark_heat = _heat(_HEAT_LIGHT), _heat(_HEAT_DARK)
    dark = f"{dark_charts}{dark_dots}{dark_heat}"
    sheet = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    return f"{sheet}{dots}{heat}@media (prefers-color-scheme:dark){{{dark}}}"


def _heat(anchors: tuple[tuple[int, int, int], ...]) -> str:
    """Return eleven classes h0 to h10, each with the text colour that contrasts more."""
    rules = []
    for step in range(11):
        where = step / 10 * (len(anchors) - 1)
        left = min(int(where), len(anchors) - 2)
        part = where - left
        colour = [round(a + part * (b - a)) for a, b in zip(anchors[left], anchors[left + 1], strict=True)]
        text = "#000" if _luminance(colour) > 0.179 else "#fff"
        rules.append(f".h{step}{{background:rgb({','.join(map(str, colour))});color:{text}}}")
    return "".join(rules)


def _luminance(colour: list[int]) -> float:
    """Return the relative luminance of WCAG 2; black and white text contrast equally at 0.18."""
    parts = [value / 255 for value in colour]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
