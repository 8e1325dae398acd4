"""Generated images whose class is visible in two known frequency bands."""

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from .. import fourier, rng
from ..checks import hint
from ..types import FloatImages, Keys, Labels
from .imageset import ImageSet, check_split

PLANTED_VERSION = 2
"""Increased when any image changes; those of version 1 depended on the number of threads."""
SIZE = 32
"""Side of the images, in pixels."""
LOW_BAND = (0.0, 0.1)
"""Radii of the frequencies of the low cue, both ends included, in cycles per pixel."""
HIGH_BAND = (0.4, 0.5)
"""Radii of the frequencies of the high cue, both ends included, in cycles per pixel."""
LOW_PEAK = 0.06
"""Largest deviation of a low cue of amplitude 1, on images in [0, 1]."""
HIGH_PEAK = 0.06
"""Largest deviation of a high cue of amplitude 1."""

_SIZES = {"train": 8_000, "validation": 2_000, "test": 2_000}
_SHAPES = ("disc", "ring", "horizontal", "vertical", "diagonal")
# The largest deviation is 1 in both, so that an amplitude has the same meaning in both.
_HUES = {"warm": (1.0, 0.3, -0.5), "cool": (-0.5, 0.3, 1.0)}
_CLASSES = tuple(
    f"{hue} {shape}, {10 * (5 * warmth + number)} degrees"
    for warmth, hue in enumerate(_HUES)
    for number, shape in enumerate(_SHAPES)
)
_CORRELATION = 0.95
_TEXTURE_RADIUS = 0.45
_TEXTURE_SIGMA = 5.0
_BRIGHTNESS_SPREAD = 0.05
_CHUNK = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedConfig:
    """Knobs of `planted`; by default the class is clearly visible in both bands."""

    seed: int = 0
    """Any integer; another seed gives other images of the same kind."""
    low: float = 1.0
    """Amplitude of the low cue, in units of `LOW_PEAK`; 0 switches it off."""
    high: float = 1.0
    """Amplitude of the high cue, in units of `HIGH_PEAK`; 0 switches it off."""
    low_agrees: float = 1.0
    """Probability that the low cue shows the label; otherwise it shows one of the nine other classes."""
    high_agrees: float = 1.0
    """The same for the high cue; a cue that is independent of the label has 0.1."""
    background: float = 0.2
    """Largest deviation of the background; each image reaches it."""

    def __post_init__(self) -> None:
        for name in ("low", "high", "background"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"planted needs {name} of at least 0, got {value:g}")
        for name in ("low_agrees", "high_agrees"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"planted needs {name} in [0, 1], a probability, got {value:g}")
        reach = self.background + self.low * LOW_PEAK + self.high * HIGH_PEAK + _BRIGHTNESS_SPREAD
        if reach > 0.5 + 1e-9:
            raise ValueError(
                f"planted would leave [0, 1]: background + {LOW_PEAK:g} low + {HIGH_PEAK:g} high + "
                f"{_BRIGHTNESS_SPREAD:g} must be at most 0.5, got {reach:.3g}; lower one of them"
            )

    @property
    def spec(self) -> str:
        """The spec that `load_data` turns into these knobs: `planted`, and each knob unlike its default."""
        knobs = [
            f"{field.name}={_shortest(getattr(self, field.name))}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return ":".join(["planted", ",".join(knobs)]) if knobs else "planted"


def _shortest(value: float) -> str:
    """Return the shortest text that is read as this number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def read_knobs(text: str) -> PlantedConfig:
    """Return the knobs of a text such as `low=1,high=0,seed=3`; other knobs keep their defaults.

    Raises:
        ValueError: A knob is unknown or repeated, or its value is not a number or out of range.

    >>> read_knobs("high=0").spec
    'planted:high=0'
    """
    known = {field.name: int if field.type is int else float for field in fields(PlantedConfig)}
    values: dict[str, float] = {}
    for part in text.split(",") if text.strip() else []:
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if name not in known:
            near = hint(name, known)
            raise ValueError(f"planted has no knob {name!r}{near}; knobs are {', '.join(known)}")
        if name in values:
            raise ValueError(f"planted got the knob {name} twice; give it once")
        try:
            values[name] = known[name](number)
        except ValueError:
            what = "a whole number" if known[name] is int else "a number"
            came = repr(number) if equals else "nothing"
            raise ValueError(f"planted needs {what} for {name}, got {came}; write {name}=...") from None
    return PlantedConfig(**values)  # type: ignore[arg-type]


def planted(
    config: PlantedConfig | None = None, *, split: str = "test", images: int | None = None
) -> ImageSet:
    """Return generated 32x32 color images of 10 classes that are visible in a low and in a high band.

    The images have these properties by construction:

    - *Low cue*, r <= 0.1 cycles per pixel: a soft shape (disc, ring, horizontal, vertical or diagonal
      bar) in a warm or a cool color, at a random place and size. Class c has shape c mod 5; classes below 5
      are warm.
    - *High cue*, r in [0.4, 0.5]: a gray grating of radius 0.45 under a soft envelope, with random phase
      and place. The wave of class c is at 10 c degrees to the horizontal axis. It is mirrored in half of the
      images, so that a flip does not change the class.
    - A mask on the DFT of the image (periodic) limits each cue to its band, so that it is exactly zero
      outside. Its largest deviation is `low * LOW_PEAK` or `high * HIGH_PEAK` times a strength. The strength
      is drawn for each image and cue in [1/4, 1], so that some images are easy and some are hard.
    - *Background*: Gaussian noise of random phase with a power of 1/r^2 up to the corners. Its colors
      correlate at 0.95 as in natural images, and its largest deviation is `background`. By default its RMS
      is 0.058; 49 % of its power is in the low band and 7 % in the high band (RMS 0.041 and 0.015). The RMS
      of the cues at strength 1 is 0.012 (low; 30 % of the energy is at frequency zero) and 0.014 (high).
    - The mean brightness of an image is drawn in 0.5 +- 0.05.
    - All pixels are in [0, 1], so that nothing is clipped and no energy leaks between bands. Rounding to
      bytes adds nearly white noise of 1/sqrt(12) gray levels.
    - Background, places and phases do not depend on knobs or labels, so that two configurations of one seed
      differ in the cues alone.

    Image i depends on the seed, the split and i alone: not on the number of images, of threads, or on the
    processor. All steps are in float64, so that processors differ by less than 10^-12 gray levels before
    the only rounding, to bytes; of the default images, no pixel is that near to where it would round
    differently. This is version 2 (`PLANTED_VERSION`): version 1 was in float32, and some pixels of its
    images differ by one gray level.

    Args:
        config: The knobs; None uses the defaults.
        split: `train` (8,000), `validation` (2,000), `full_train` (both, in this order) or `test` (2,000).
        images: Number of images, from the first on; None uses the number of the split. A larger number is
            allowed except for `full_train`.

    Raises:
        ValueError: The split is unknown, or the number of images is out of range.

    >>> data = planted(PlantedConfig(high=0), split="train", images=5)
    >>> data.name, tuple(data.images.shape)
    ('planted:high=0', (5, 3, 32, 32))
    """
    config = PlantedConfig() if config is None else config
    check_split("planted", split)
    parts = ("train", "validation") if split == "full_train" else (split,)
    total = sum(_SIZES[part] for part in parts)
    count = total if images is None else images
    if count < 1 or (len(parts) > 1 and count > total):
        upper = f" and at most {total:,} of {split}" if len(parts) > 1 else ""
        raise ValueError(f"planted needs at least 1 image{upper}, got {count:,}")
    pixels = torch.empty(count, 3, SIZE, SIZE, dtype=torch.uint8)
    labels = torch.empty(count, dtype=torch.int64)
    done = 0
    for part in parts:
        left = count - done if part == parts[-1] else min(count - done, _SIZES[part])
        for start in range(0, left, _CHUNK):
            chunk = torch.arange(start, min(start + _CHUNK, left))
            key = rng.keys(config.seed, "planted", part, index=chunk)
            where = slice(done, done + len(chunk))
            labels[where] = rng.integers(key, 0, 10, (), stream=0)
            pixels[where] = _draw(key, labels[where], config).mul_(255).round_().to(torch.uint8)
            done += len(chunk)
    return ImageSet(
        name=config.spec,
        split=split,
        images=pixels,
        labels=labels,
        classes=_CLASSES,
        index=torch.arange(count),
    )


def _draw(key: Keys, labels: Labels, config: PlantedConfig) -> FloatImages:
    """Return the images of these keys and labels before rounding."""
    out = _background(key, stream=1).mul_(config.background)
    brightness = _uniform(key, (1, 1, 1), stream=2)
    out += 0.5 + _BRIGHTNESS_SPREAD * (2 * brightness - 1)
    if config.low:
        shown = _shown(key, labels, config.low_agrees, stream=3)
        out += _low_cue(key, shown, stream=4) * (config.low * LOW_PEAK * _strength(key, stream=5))
    if config.high:
        shown = _shown(key, labels, config.high_agrees, stream=6)
        out += _high_cue(key, shown, stream=7) * (config.high * HIGH_PEAK * _strength(key, stream=8))
    return out


def _shown(key: Keys, labels: Labels, agrees: float, *, stream: int) -> Labels:
    """Return the class that a cue shows: the label with probability `agrees`, else any other class."""
    draw = rng.uniform(key, (2,), stream=stream)
    other = (labels + 1 + (draw[:, 1] * 9).long()) % 10
    return torch.where(draw[:, 0] < agrees, labels, other)


def _uniform(key: Keys, shape: tuple[int, ...], *, stream: int) -> Float[Tensor, "b ..."]:
    return rng.uniform(key, shape, stream=stream).to(torch.float64)


def _sign(draw: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    return torch.where(draw < 0.5, -torch.ones_like(draw), 1.0)


def _strength(key: Keys, *, stream: int) -> Float[Tensor, "b 1 1 1"]:
    """Return the strength of a cue in each image, from a quarter to 1."""
    strength: Tensor = 0.25 + 0.75 * _uniform(key, (1, 1, 1), stream=stream)
    return strength


def _background(key: Keys, *, stream: int) -> FloatImages:
    """Return noise of 1/r^2 power and correlated colors, with mean 0 and largest deviation 1."""
    white = rng.normal(key, (3, SIZE, SIZE), stream=stream, dtype=torch.float64)
    # The symmetric square root of the correlation matrix of the colors: own * x + shared * sum(x).
    own = math.sqrt(1 - _CORRELATION)
    shared = (math.sqrt(1 + 2 * _CORRELATION) - own) / 3
    mixed = own * white + shared * white.sum(dim=1, keepdim=True)
    radius = fourier.radius_grid(SIZE, SIZE, half=True, dtype=torch.float64)
    gain = torch.where(radius > 0, 1 / radius.clamp_min(1 / SIZE), 0.0)
    return _to_peak(fourier.filter_images(mixed, gain[None, None]))


def _low_cue(key: Keys, shown: Labels, *, stream: int) -> FloatImages:
    """Return colored soft shapes of the classes shown, within the low band, with largest deviation 1."""
    draw = _uniform(key, (4,), stream=stream)
    down, right = _offsets(draw)
    scale = (0.85 + 0.3 * draw[:, 2])[:, None, None]
    down, right = down / scale, right / scale
    mirror = _sign(draw[:, 3])[:, None, None]
    along, across = (right + mirror * down) / math.sqrt(2), (right - mirror * down) / math.sqrt(2)
    shapes = torch.stack(
        [
            torch.exp(-(down.square() + right.square()) / (2 * 4.0**2)),
            torch.exp(-(torch.hypot(down, right) - 7).square() / (2 * 2.5**2)),
            _bar(right, down),
            _bar(down, right),
            _bar(along, across),
        ]
    )
    plane = shapes[shown % len(_SHAPES), torch.arange(len(shown))][:, None]
    colors = torch.tensor(list(_HUES.values()), dtype=torch.float64)[shown // len(_SHAPES)][:, :, None, None]
    return _to_peak(_within(plane, LOW_BAND)) * colors


def _high_cue(key: Keys, shown: Labels, *, stream: int) -> FloatImages:
    """Return gray gratings of the classes shown, within the high band, with largest deviation 1."""
    draw = _uniform(key, (4,), stream=stream)
    down, right = _offsets(draw)
    angle = (_sign(draw[:, 3]) * shown * math.radians(10))[:, None, None]
    phase = (2 * math.pi * draw[:, 2])[:, None, None]
    wave = torch.cos(2 * math.pi * _TEXTURE_RADIUS * (angle.cos() * right + angle.sin() * down) + phase)
    envelope = torch.exp(-(down.square() + right.square()) / (2 * _TEXTURE_SIGMA**2))
    return _to_peak(_within((wave * envelope)[:, None], HIGH_BAND)).expand(-1, 3, -1, -1).clone()


def _bar(along: Float[Tensor, " b #h #w"], across: Float[Tensor, " b #h #w"]) -> Float[Tensor, "b h w"]:
    """Return a soft bar from the distances along and across it."""
    bar: Tensor = torch.exp(-along.square() / (2 * 7.0**2) - across.square() / (2 * 2.5**2))
    return bar


def _offsets(draw: Float[Tensor, "b n"]) -> tuple[Float[Tensor, "b h 1"], Float[Tensor, "b 1 w"]]:
    """Return the distances of pixels down and right of a center in the middle half of the image, wrapped."""
    center = SIZE / 4 + draw[:, :2] * (SIZE / 2)
    pixel = torch.arange(SIZE, dtype=torch.float64)
    offset = torch.remainder(pixel - center[:, :, None] + SIZE / 2, SIZE) - SIZE / 2
    return offset[:, 0, :, None], offset[:, 1, None, :]


def _within(images: FloatImages, band: tuple[float, float]) -> FloatImages:
    radius = fourier.radius_grid(SIZE, SIZE, half=True, dtype=torch.float64)
    mask = ((radius >= band[0]) & (radius <= band[1])).to(torch.float64)
    return fourier.filter_images(images, mask[None, None])


def _to_peak(images: FloatImages) -> FloatImages:
    """Return each image divided by its largest absolute value."""
    return images / images.abs().amax(dim=(1, 2, 3), keepdim=True)
