"""TrainConfig: everything that can change a bit of what training gives, and how to change it by name."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from ..checks import hint
from ..control import LEARNED
from ..engine import PRECISIONS
from ..filters import EQUAL_AREA
from ..models import ARCHITECTURES, check_architecture, trusted_arch
from ..run import EPOCHS
from .methods import FILTERS, METHODS, NOISES

_LOG = logging.getLogger(__name__)

OPTIMIZERS = ("sgd", "adamw")
"""How weights descend the loss."""

SCHEDULES = ("triangle", "cosine", "steps", "thirds")
"""How the learning rate rises and falls."""

SPECTRAL_SCHEDULES = ("constant", "fade", "clear", "rise")
"""How the perturbation of the power spectrum changes during training."""

RECALIBRATE = ("perturbed", "always", "never")
"""When the batch norms are recalibrated at the end of training."""

_RANGES = {
    "[0, 1]": (
        *("share.low", "modulate.clean", "spectral.noise", "spectral.clean", "spectral.floor"),
        *("white_noise", "white_clean"),
    ),
    "[0, 1)": ("momentum", "label_smoothing", "ema"),
    "(0, 1)": ("peak",),
    "[0, 0.5]": ("share.guard",),
    "(0, 0.5]": ("share.cutoff",),
    f"[0, {1 / 3}]": ("blur",),
    "[0, inf)": (
        *("modulate.shared", "modulate.independent", "modulate.learning_rate"),
        *("spectral.strength", "spectral.gain", "spectral.learning_rate"),
        *("weight_decay", "clip", "keep_every"),
    ),
    "(0, inf)": ("modulate.budget", "learning_rate"),
    f"[1, {EPOCHS}]": ("epochs",),
    "[1, inf)": ("accumulate", "checkpoint_every"),
    "[2, inf)": ("batch_size",),
    "[0, 64]": ("crop",),
    "[0, 4096]": ("size",),
    # What torch's generators take.
    f"[{-(2**63)}, {2**63})": ("seed",),
}
"""The fields of each interval; None is always allowed."""

_WORDS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
_READERS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    str: ("a text", str),
    int: ("a whole number", int),
    float: ("a number", float),
    float | None: ("a number", lambda text: None if text.lower() == "none" else float(text)),
    bool: ("true or false", lambda text: _WORDS[text.lower()]),
}

_REMOVED = {"lookahead": 0}
"""Fields of older versions and the only value that is still read: what they did by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareConfig:
    """Control of the first layer, `set_share`."""

    low: float | None = None
    """Share of low-frequency filters, in [0, 1]; None leaves the layer free."""
    cutoff: float = EQUAL_AREA
    """Radius between low and high, in cycles per pixel, in (0, 0.5]."""
    zero_mean: bool = True
    """Whether high filters are also zero-mean."""
    guard: float = 0.1
    """How far from the line an eigenvalue must be for its eigenfilter to be low or high."""
    random: bool = False
    """Whether two random parts of filter space stand in for low and high, a control; `set_random_share`."""
    fixed: bool = False
    """Whether the first layer stays as it is initialized, a control; also where `low` is None."""

    def __post_init__(self) -> None:
        _check_ranges(self, "share.")
        if self.random and self.low is None:
            raise ValueError("share.random needs share.low, the share of filters in the first random part")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModulateConfig:
    """Learned and perturbed proportion of the first layer, `modulate`."""

    on: bool = False
    """Whether the layer is modulated."""
    shared: float = 2.0
    """Standard deviation of the logit's perturbation that all filters of an image share."""
    independent: float = 1.0
    """Standard deviation of each filter's own perturbation of its logit."""
    clean: float = 0.25
    """Fraction of images left unperturbed, in [0, 1]."""
    bands: str = "two"
    """`two`, low and high, or `eigen`, the eigenfilters."""
    budget: float | None = None
    """Strength to be divided by ascent, above 0; None keeps the strengths fixed."""
    learning_rate: float = 0.1
    """Peak learning rate of the proportions, which have no weight decay."""

    def __post_init__(self) -> None:
        _check_ranges(self, "modulate.")
        if self.bands not in ("two", "eigen"):
            raise ValueError(f"modulate.bands needs two or eigen, got {self.bands!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralConfig:
    """Perturbed power spectrum of the images, `SpectralNoise`; off while all three parts are 0."""

    strength: float = 0.0
    """Scale of the random radial gains; 1 is the standard profile."""
    gain: float = 0.0
    """Scale of the gain that all bands share (contrast); 1 is the standard."""
    noise: float = 0.0
    """Mean RMS of the added noise of random spectrum, in units of [0, 1]."""
    clean: float = 0.7
    """Fraction of images left as they are, in [0, 1]."""
    learn: str = ""
    """Which strengths climb the loss: `joint`, `separate` or `proportion`; empty for none."""
    floor: float = 0.25
    """Least square of a learned strength, in units of its start, in [0, 1]."""
    learning_rate: float = 0.02
    """Peak learning rate of the learned strengths, which have no weight decay."""
    schedule: str = "constant"
    """`constant`; `fade`: strengths fall to 0 in the last quarter of training; `clear`: the fraction of clean
    images rises to 1 there; `rise`: strengths rise from 0 in the first half. All along straight lines."""

    @property
    def on(self) -> bool:
        """Whether any part is switched on."""
        return max(self.strength, self.gain, self.noise) > 0

    def __post_init__(self) -> None:
        _check_ranges(self, "spectral.")
        for name, table in (("learn", LEARNED), ("schedule", SPECTRAL_SCHEDULES)):
            if (value := getattr(self, name)) not in table:
                known = ", ".join(filter(None, table))
                raise ValueError(f"unknown spectral.{name} {value!r}{hint(value, table)}; known are {known}")
        if self.learn and (self.strength == 0 or (self.learn == "separate" and self.noise == 0)):
            raise ValueError(
                f"spectral.learn={self.learn} divides strengths that are there; set spectral.strength"
                f"{' and spectral.noise' if self.learn == 'separate' else ''} above 0"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One training. Recipes return one; change it with `dataclasses.replace` or `with_settings`.

    >>> TrainConfig(arch="cifar_resnet18", epochs=30).learning_rate
    0.4
    """

    recipe: str = "standard"
    """The name results are listed under."""
    method: str = "standard"
    """A name of `METHODS`: the loss."""
    arch: str = "fastnet"
    """A name of `ARCHITECTURES`, `timm:NAME` or `torchvision:NAME`, of random weights."""
    data: str = "planted"
    """A data set as `load_data` takes it."""
    split: str = "train"
    """The split to train on."""
    size: int = 0
    """Side in pixels that images of `folder:` are brought to; 0 takes them as they are."""
    seed: int = 0
    """Of the initial weights, the order, the crops and flips, and every draw of the network's layers."""
    epochs: int = 8
    """Passes over the data."""
    batch_size: int = 256
    """Images per step, of all processes; the last incomplete batch of an epoch is left out."""
    accumulate: int = 1
    """Parts a step's batch is computed in, one after the other, for less memory; batch norms see parts."""
    learning_rate: float = 0.4
    """Peak of the schedule."""
    optimizer: str = "sgd"
    """`sgd`, with Nesterov's momentum, or `adamw`."""
    schedule: str = "triangle"
    """`triangle`: straight up and straight down to 0; `cosine`: straight up and half a cosine down to 0;
    `steps`: a fifth each after 0.3, 0.6, 0.8 and 0.95 of training; `thirds`: a tenth after 0.34 and 0.67."""
    peak: float = 0.2
    """Where in training the peak of `triangle` and `cosine` lies, in (0, 1)."""
    momentum: float = 0.9
    """Nesterov momentum of SGD; decay of the first moment of AdamW."""
    weight_decay: float = 5e-4
    """Of weights of two and more dimensions; not of biases, batch norms and proportions."""
    label_smoothing: float = 0.05
    """In [0, 1)."""
    clip: float = 0.0
    """Largest L2 norm of a step's gradient, to which a longer one is scaled; 0 for none."""
    ema: float = 0.0
    """Decay per step of the average of weights that is the result, in [0, 1), say 0.995; 0 for none.
    It remembers some 1 / (1 - ema) steps, which should be few compared with those of the training."""
    flip: bool = True
    """Random horizontal flips."""
    crop: int = 4
    """Random shifts by up to this many pixels, the border reflected; 0 for none."""
    precision: str = "auto"
    """`float32`; `bfloat16`, mixed precision; `auto`, bfloat16 where the device computes in it."""
    channels_last: bool = True
    """Memory layout of the convolutions."""
    compile: bool = False
    """Whether the network is compiled by torch, which takes a minute first."""
    sync_batch_norm: bool = False
    """Whether batch norms of several processes share their statistics; CUDA only."""
    init: str = ""
    """A checkpoint or Run to start from; empty for random weights."""
    checkpoint_every: int = 1
    """Epochs between the checkpoints that a killed run goes on from."""
    keep_every: int = 0
    """Epochs between plain weights that are kept, `weights-0010.safetensors`; 0 keeps the last alone. Their
    batch norms are not recalibrated."""
    recalibrate: str = "perturbed"
    """When the batch norms get the statistics of an epoch of clean images, crops and flips, at the end:
    `perturbed`, if spectral, modulate or white_noise perturb images; `always`; `never`."""
    blur: float = 0.0
    """Side weight of a fixed blur before the first layer, a control, up to 1/3; 0 for none; `set_blur`."""
    white_noise: float = 0.0
    """Standard deviation of Gaussian noise on some of the images, a control; 0 for none; `WhiteNoise`."""
    white_clean: float = 0.5
    """Fraction of images that stay without it, in [0, 1]."""
    share: ShareConfig = field(default_factory=ShareConfig)
    """Control of the first layer."""
    modulate: ModulateConfig = field(default_factory=ModulateConfig)
    """Modulation of the first layer."""
    spectral: SpectralConfig = field(default_factory=SpectralConfig)
    """Perturbed power spectrum of the images."""

    @property
    def recalibrates(self) -> bool:
        """Whether the batch norms are recalibrated at the end."""
        perturbs = self.spectral.on or self.modulate.on or self.white_noise > 0
        return self.recalibrate == "always" or (self.recalibrate == "perturbed" and perturbs)

    @property
    def resembles(self) -> tuple[str, ...]:
        """Kinds of corruption that training shows images of, or nearly: of the method and of every noise.

        >>> TrainConfig(spectral=SpectralConfig(gain=1)).resembles
        ('contrast',)
        """
        parts = (
            (True, METHODS[self.method].resembles),
            (self.white_noise > 0 or self.spectral.noise > 0, NOISES),
            (self.spectral.strength > 0, FILTERS),
            (self.spectral.gain > 0, ("contrast",)),
        )
        return tuple(dict.fromkeys(kind for on, kinds in parts if on for kind in kinds))

    def __post_init__(self) -> None:
        if trusted_arch({"arch": self.arch}) is None:
            known = f"{', '.join(ARCHITECTURES)}, timm:NAME, torchvision:NAME"
            # A Run of a module:function could not be loaded again: no file may choose code to run.
            raise ValueError(f"unknown arch {self.arch!r}{hint(self.arch, ARCHITECTURES)}; known are {known}")
        check_architecture(self.arch)
        names = ("method", "precision", "optimizer", "schedule", "recalibrate")
        tables: tuple[Collection[str], ...] = (
            METHODS,
            ("auto", *PRECISIONS),
            OPTIMIZERS,
            SCHEDULES,
            RECALIBRATE,
        )
        for name, table in zip(names, tables, strict=True):
            if (value := getattr(self, name)) not in table:
                known = ", ".join(table)
                raise ValueError(f"unknown {name} {value!r}{hint(value, table)}; known are {known}")
        _check_ranges(self)
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be computed in {self.accumulate} equal parts; "
                "choose an accumulate that divides it"
            )
        if self.share.low is not None and self.modulate.on and self.modulate.bands == "two":
            raise ValueError(
                "share.low and modulate.on exclude each other; set share.low=none to modulate, or "
                "modulate.bands=eigen to modulate within the share"
            )
        if METHODS[self.method].keeps_first and not (self.spectral.on or self.white_noise):
            raise ValueError(
                f"method {self.method} compares clean with perturbed images, and nothing perturbs them; set "
                "spectral.strength, spectral.gain, spectral.noise or white_noise above 0"
            )
        if METHODS[self.method].leaves_range and (self.spectral.on or self.white_noise):
            raise ValueError(
                f"method {self.method} leaves [0, 1], as its public code does, where spectral and "
                f"white_noise cannot follow; take method {self.method.removesuffix('_code')}"
            )
        if self.compile and self.spectral.schedule != "constant":
            raise ValueError(
                "spectral.schedule changes a number in every step, for which torch would compile anew; set "
                "compile=false or spectral.schedule=constant"
            )
        if self.blur and (self.share.low is not None or self.modulate.on):
            raise ValueError("blur needs a free first layer; set share.low=none and modulate.on=false")


def with_settings(config: TrainConfig, settings: Sequence[str]) -> TrainConfig:
    """Return the config with fields changed by texts such as `epochs=3` or `share.low=0.5`.

    What fields allow together is checked once all are changed, so that their order does not matter. A line
    says which of them change nothing, since what they belong to is off.

    Raises:
        ValueError: Not of that form, no such field, or a value that does not fit it.

    >>> with_settings(TrainConfig(), ["share.low=0.5"]).share.low
    0.5
    """
    plain, names = to_plain(config), list[str]()
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ValueError(f"--set needs field=value, got {setting!r}")
        _change(plain, config, name.split("."), text, whole=name)
        names.append(name)
    changed = from_plain(plain)
    for name in names:
        for prefixes, is_on, remedy in _PARTS:
            if name.startswith(prefixes) and name not in _SWITCHES and not is_on(changed):
                _LOG.warning("%s: %s changes nothing; set %s as well", changed.recipe, name, remedy)
                break
    if changed.optimizer == "adamw" and "learning_rate" not in names and changed.learning_rate > _ADAMW_RATE:
        _LOG.warning(
            "%s: learning_rate %g is meant for sgd, and adamw moves every weight by about as much per step; "
            "set learning_rate=0.001 or so as well",
            changed.recipe,
            changed.learning_rate,
        )
    return changed


# A rate of adamw above which a line asks whether it is meant.
_ADAMW_RATE = 0.05


# Fields, what must be on for them to change anything, and how it is switched on.
_PARTS: tuple[tuple[tuple[str, ...], Callable[[TrainConfig], object], str], ...] = (
    (("share.",), lambda config: config.share.low is not None, "share.low"),
    (("modulate.",), lambda config: config.modulate.on, "modulate.on=true"),
    (("spectral.",), lambda config: config.spectral.on, "spectral.strength, spectral.gain or spectral.noise"),
    (("spectral.floor", "spectral.learning_rate"), lambda config: config.spectral.learn, "spectral.learn"),
    (("white_clean",), lambda config: config.white_noise, "white_noise"),
    (("peak",), lambda config: config.schedule in ("triangle", "cosine"), "schedule=triangle or cosine"),
)
_SWITCHES = (
    *("share.low", "share.fixed", "modulate.on", "white_noise"),
    *("spectral.strength", "spectral.gain", "spectral.noise"),
)


def to_plain(config: TrainConfig) -> dict[str, Any]:
    """Return the config as nested dicts of plain values, for JSON."""
    return asdict(config)


def from_plain(plain: dict[str, Any]) -> TrainConfig:
    """Return the config that `to_plain` made plain, in this version or an older one.

    Raises:
        ValueError: It has fields that this version does not know, or values out of range.
    """
    nested = {"share": ShareConfig, "modulate": ModulateConfig, "spectral": SpectralConfig}
    for name, default in _REMOVED.items():
        if plain.get(name, default) != default:
            raise ValueError(
                f"this version has no {name} and cannot read {plain[name]!r}; it reads {default!r} alone"
            )
    known = {name: value for name, value in plain.items() if name not in _REMOVED}
    try:
        parts = {name: nested[name](**value) for name, value in known.items() if name in nested}
        return TrainConfig(**{**known, **parts})
    except TypeError as error:
        raise ValueError(f"this version does not know such a config: {error}") from None


def changed_fields(before: dict[str, Any], now: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which a plain config differs from another, each with its value before and now.

    `precision=auto` now takes whatever it was before.

    Raises:
        ValueError: As for `from_plain`.

    >>> changed_fields({"epochs": 3, "lookahead": 0}, TrainConfig(epochs=4))
    {'epochs': (3, 4)}
    """
    was, plain = to_plain(from_plain(before)), to_plain(now)
    if now.precision == "auto":
        plain["precision"] = was["precision"]
    return {name: (was[name], plain[name]) for name in plain if was[name] != plain[name]}


def _change(plain: dict[str, Any], config: Any, path: list[str], text: str, *, whole: str) -> None:
    """Put a text's value into the plain form of a config, whose fields say what it must be."""
    known = {entry.name: entry for entry in fields(config)}
    if path[0] not in known:
        near = hint(path[0], known)
        raise ValueError(f"--set {whole}: there is no field {path[0]!r}{near}; there are {', '.join(known)}")
    value = getattr(config, path[0])
    if is_dataclass(value):
        if len(path) == 1:
            names = ", ".join(f"{path[0]}.{entry.name}" for entry in fields(value))
            raise ValueError(f"--set {whole}: it has fields of its own, {names}")
        _change(plain[path[0]], value, path[1:], text, whole=whole)
        return
    if len(path) > 1:
        raise ValueError(f"--set {whole}: {path[0]} is a plain value and has no field {path[1]!r}")
    noun, read = _READERS[known[path[0]].type]
    try:
        plain[path[0]] = read(text)
    except (ValueError, KeyError):
        raise ValueError(f"--set {whole} needs {noun}, got {text!r}") from None


def _check_ranges(config: Any, prefix: str = "") -> None:
    for entry in fields(config):
        name, value = prefix + entry.name, getattr(config, entry.name)
        interval = next((interval for interval, names in _RANGES.items() if name in names), None)
        if interval is None or value is None:
            continue
        low, high = map(float, interval[1:-1].split(", "))
        above = value >= low if interval.startswith("[") else value > low
        if not (above and (value <= high if interval.endswith("]") else value < high)):
            raise ValueError(f"{name} needs a number in {interval}, got {value}")
