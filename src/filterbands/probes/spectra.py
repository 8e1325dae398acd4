"""Spectra: of what a corruption adds to images, and of the gradient by which a network sees them."""

import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from .. import fourier
from ..checks import hint, seed_number
from ..corruptions import (
    CORRUPTIONS,
    corrupt,
    expand_kinds,
    find_textures,
    parameters_for,
    read_severities,
)
from ..evaluation import Data, Source, Store, as_source, chunk_size
from ..filters import EQUAL_AREA, gradient_power
from ..models import Named
from ..scores import SEVERITIES, Scores, check_alike, shared_cells, unlike_probed
from ..types import FloatImages, Progress
from .probe import (
    Arrays,
    Probe,
    ProbeConfig,
    RankCorrelation,
    Spectrum,
    correlate,
    kept,
    key_of_part,
    probing,
)

_LOG = logging.getLogger(__name__)
_Found = TypeVar("_Found")


def _at_hand(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Return kinds that nobody named, without frost where its textures are missing, which a line says."""
    try:
        find_textures()
    except FileNotFoundError:
        _LOG.warning("frost is left out: its textures are not there; `filterbands data frost` gets them")
        return tuple(kind for kind in kinds if kind != "frost")
    return kinds


def by_kind(cells: Mapping[tuple[str, int], Any]) -> dict[str, dict[str, Any]]:
    """Return cells of kind and severity as a table per kind, for JSON."""
    table: dict[str, dict[str, Any]] = {}
    for (kind, severity), value in cells.items():
        table.setdefault(kind, {})[str(severity)] = value
    return table


def of_kind(
    cells: Mapping[tuple[str, int], _Found], kind: str, severities: Collection[int] | None = None
) -> list[_Found]:
    """Return what there is of a kind, one per severity; raise ValueError where there is nothing."""
    of_it = {severity: value for (name, severity), value in cells.items() if name == kind}
    found = [value for severity, value in of_it.items() if severities is None or severity in severities]
    if found:
        return found
    if of_it:
        raise ValueError(f"{kind} is not here at these severities; there are {', '.join(map(str, of_it))}")
    known = dict.fromkeys(name for name, _ in cells)
    raise ValueError(f"no kind {kind!r} here{hint(kind, known)}; there are {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class Corruptions:
    """Which corruptions are compared with clean images, and where the results are kept."""

    kinds: Sequence[str] | None
    severities: Sequence[int]
    parameters: str
    seed: int
    db: str | Path | None
    progress: Progress | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "severities", read_severities(self.severities))
        object.__setattr__(self, "seed", seed_number(self.seed))

    def parts(
        self, source: Source, facts: Mapping[str, Any], compute: Callable[[Iterable[FloatImages]], Arrays]
    ) -> dict[tuple[str, int], Arrays]:
        """Return, by kind and severity, what is kept or else computed of (corrupted - clean) in [-1, 1]."""
        wanted = expand_kinds(self.kinds or ("c",), parameters=self.parameters)
        if not self.kinds:
            wanted = _at_hand(wanted)
        for kind in wanted:
            # Finds what is missing, such as textures, before the first long step.
            self._added(source, kind, self.severities[0], torch.arange(1))
        cells = [(kind, severity) for kind in wanted for severity in self.severities]
        found = {}
        for number, (kind, severity) in enumerate(cells):
            own = self.facts(source, kind, severity, facts)
            differences = (self._added(source, kind, severity, part) for part in chunks(source))
            found[kind, severity] = kept_in(self.db, own, partial(compute, differences))
            if self.progress is not None:
                self.progress(number + 1, len(cells), f"{kind} {severity}")
        return found

    def facts(self, source: Source, kind: str, severity: int, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return all that a part depends on."""
        return {
            **facts,
            "data": source.fingerprint,
            "kind": kind,
            "severity": severity,
            "parameters": self.parameters,
            "version": CORRUPTIONS[kind].version,
            "seed": self.seed,
        }

    def _added(self, source: Source, kind: str, severity: int, positions: Tensor) -> FloatImages:
        clean, index = source.read(positions), source.index[positions]
        table, seed = self.parameters, self.seed
        made = corrupt(clean, kind, severity=severity, seed=seed, parameters=table, index=index)
        added: Tensor = (made.float() - clean.float()) / 255
        return added


def kept_in(db: str | Path | None, facts: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
    """Return what a database holds for these facts; what it lacks is computed and kept there."""
    with nullcontext() if db is None else Store(db) as store:
        return kept(store, facts, compute)


def chunks(source: Source) -> tuple[Tensor, ...]:
    """Return the positions of all images, some at a time."""
    return torch.split(torch.arange(len(source.labels)), chunk_size(source.shape))


@dataclass(frozen=True, slots=True, kw_only=True)
class CorruptionSpectra:
    """What each corruption adds to the images of a data set."""

    spectra: dict[tuple[str, int], Spectrum]
    """Mean power spectrum of (corrupted - clean), images in [0, 1], by kind and severity."""
    images: int
    """How many images it is the mean over."""
    data: str = ""
    """Name of their data set; empty if it is not known."""
    split: str = ""
    """Split of the data set."""
    pixels: str = ""
    """Fingerprint of the images; empty if it is not known."""
    parameters: str = ""
    """Table of constants of the corruptions; empty if it is not known."""

    def low_energy(
        self, kind: str, cutoff: float = EQUAL_AREA, *, severities: Collection[int] | None = None
    ) -> float:
        """Return the share of a kind's power within the cutoff, the mean over severities, by default all.

        Severities that leave all images as they are, as `saturate` may leave gray ones, have no power and do
        not count; NaN where no other is there.
        """
        found = [one for one in of_kind(self.spectra, kind, severities) if one.total > 0]
        return float(np.mean([one.low_energy(cutoff) for one in found])) if found else float("nan")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds at hand that change the images."""
        cells = by_kind(self.spectra)
        return tuple(kind for kind, found in cells.items() if any(one.total > 0 for one in found.values()))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "low_energy": {kind: self.low_energy(kind) for kind in self.kinds},
            "kinds": by_kind({cell: spectrum.to_json() for cell, spectrum in self.spectra.items()}),
            "images": self.images,
        }


def corruption_spectra(
    data: Data,
    *,
    kinds: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    parameters: str | None = None,
    seed: int = 0,
    limit: int | None = None,
    db: str | Path | None = None,
    progress: Progress | None = None,
) -> CorruptionSpectra:
    """Return the mean power spectrum of what each corruption adds to images.

    Args:
        data: Images, as `evaluate` takes them.
        kinds: Kinds, or sets of them, of `CORRUPTIONS`; None for the 19 of CIFAR-10-C, without frost where
            its textures are missing.
        severities: From 1 to 5.
        parameters: Table of constants, cifar or imagenet; None for cifar up to 64 pixels, else imagenet.
        seed: Seed of the random kinds.
        limit: Take so many images, as `load_data` does.
        db: Database that keeps finished parts; None keeps nothing.
        progress: Called with corruptions done, in all, and a name.

    Raises:
        ValueError: An unknown kind, severity or table, or data that do not fit.
        FileNotFoundError: `frost` without its textures.

    >>> from filterbands import load_data
    >>> spectra = corruption_spectra(load_data("planted"), kinds=["gaussian_noise", "brightness"], limit=20)
    >>> spectra.low_energy("gaussian_noise") < 0.6 < spectra.low_energy("brightness")
    True
    """
    source = as_source(data, limit=limit)

    def compute(differences: Iterable[FloatImages]) -> Arrays:
        total = torch.zeros(source.shape[1:], dtype=torch.float64)
        for added in differences:
            total += fourier.power_spectrum(added).mean(dim=1).double().sum(dim=0)
        return {"power": fourier.centered(total / len(source.labels)).float().numpy()}

    table = parameters_for(parameters, *source.shape[1:])
    corruptions = Corruptions(kinds, severities, table, seed, db, progress)
    of = {"probe": "corruption"}
    found = corruptions.parts(source, of, compute)
    if db is not None:
        keys = [[*cell, key_of_part(corruptions.facts(source, *cell, of))] for cell in found]
        _record(db, source, table, keys)
    spectra = {cell: Spectrum(power=torch.from_numpy(arrays["power"])) for cell, arrays in found.items()}
    for kind, cells in by_kind(spectra).items():
        if not any(one.total > 0 for one in cells.values()):
            _LOG.warning("%s leaves all of these images as they are, and has no spectrum", kind)
    return CorruptionSpectra(
        spectra=spectra,
        images=len(source.labels),
        data=source.name,
        split=source.split,
        pixels=source.fingerprint,
        parameters=table,
    )


def _record(db: str | Path, source: Source, parameters: str, keys: list[list[Any]]) -> None:
    """Keep which parts are the spectra of these images, for those who know the database alone."""
    document = {
        "probe": "corruptions",
        "data": source.name,
        "split": source.split,
        "images": len(source.labels),
        "parameters": parameters,
        "keys": keys,
    }
    with Store(db) as store:
        # They are of no network.
        store.put_record(key_of_part({"record": True, **document}), "", json.dumps(document).encode())


def gradient_spectrum(
    model: Named,
    data: Data,
    *,
    limit: int | None = None,
    config: ProbeConfig | None = None,
    db: str | Path | None = None,
) -> Spectrum:
    """Return the mean power spectrum of the loss's gradient with respect to the image.

    It says which frequencies a small change of an image must have to change the loss most. Each image's
    gradient is scaled to unit norm first, because that of a confident answer vanishes. Arguments are as for
    `fourier_heatmap`.

    Raises:
        ValueError: Data and network that do not fit.

    >>> from filterbands import load_data, load_model
    >>> data = load_data("planted").subset(torch.arange(4))
    >>> tuple(gradient_spectrum(load_model(arch="fastnet"), data).power.shape)
    (32, 32)
    """
    with probing(model, data, limit=limit, config=config, db=db) as probe:
        power = probe.part({"probe": "gradient", "version": "2"}, partial(_gradient, probe))["power"]
    return Spectrum(power=torch.from_numpy(np.asarray(power)))


def _gradient(probe: Probe) -> Arrays:
    total = torch.zeros(probe.images.shape[2:], dtype=torch.float64, device=probe.images.device)
    for images, labels, _ in probe.batches():
        power, _ = gradient_power(probe.outputs, images, labels)
        total += power.mean(dim=1).sum(dim=0).double()
    return {"power": fourier.centered(total / len(probe.images)).cpu().float().numpy()}


@dataclass(frozen=True, slots=True, kw_only=True)
class FrequencyGain:
    """What one network gains over another under each kind, compared with the frequency of that kind."""

    kinds: tuple[str, ...]
    """The kinds that both were measured under, those of the highest frequencies first."""
    low_energy: tuple[float, ...]
    """Share of what each kind adds that lies within the cutoff, at the severities of the gain."""
    gain: tuple[float, ...]
    """Accuracy of the first network minus that of the other, a share."""
    correlation: RankCorrelation | None
    """Correlation of the two over kinds; None of fewer than five kinds, or where all gain alike."""

    @property
    def supported(self) -> bool | None:
        """Whether the interval of the correlation excludes 0; None where there is no correlation."""
        if self.correlation is None:
            return None
        low, high = self.correlation.ci95
        return low > 0 or high < 0

    def sentence(self, name: str, other: str) -> str:
        """Return what is supported and what is not, for people."""
        found = self.correlation
        if found is None:
            return (
                f"Nothing can be said about frequency and what {name} gains over {other}: fewer than five "
                "kinds were measured, or all gain alike."
            )
        figures = (
            f"rank correlation of gain and low-frequency energy {found.value:+.2f}, 95 % interval "
            f"{found.ci95[0]:+.2f} to {found.ci95[1]:+.2f} over {found.items} kinds"
        )
        if not self.supported:
            return (
                f"The gain of {name} over {other} shows no clear relation to a corruption's frequency "
                f"({figures})."
            )
        where = "low" if found.value > 0 else "high"
        return (
            f"{name} gains more over {other} the more a corruption lies at {where} frequencies ({figures}). "
            "This alone does not show that the filters are the cause, since kinds resemble each other and "
            "each network is one training."
        )


def gain_by_frequency(one: Scores, other: Scores, spectra: CorruptionSpectra) -> FrequencyGain:
    """Return one network's gain over another under each kind, in the order of the kinds' frequencies.

    Gain and low energy of a kind are means over the severities at which both were measured and that the
    spectra have.

    Args:
        one: Scores of the network whose gain it is.
        other: Scores of the network that it is compared with, on the same images, seed and constants.
        spectra: Spectra of the corruptions, on images of the same data set with the same constants.

    Raises:
        ValueError: The scores cannot be compared, as `scores.compare` says, or the spectra are known to be
            of other data or other constants.
    """
    cells = [cell for cell in shared_cells(one, other) if cell in spectra.spectra]
    check_alike(one, other, cells)
    facts = {name: getattr(spectra, name) for name in ("data", "split", "pixels", "parameters")}
    for scores in (one, other):
        if difference := unlike_probed(scores, **facts):
            raise ValueError(
                f"{scores.name} was evaluated on other images than the spectra: {difference}; "
                "take spectra and accuracies of the same data and constants"
            )
    found: dict[str, dict[int, float]] = {}
    for kind, severity in cells:
        mine, theirs = (scores.cells[kind, severity].accuracy for scores in (one, other))
        found.setdefault(kind, {})[severity] = mine - theirs
    energies = {
        kind: energy
        for kind in spectra.kinds
        if kind in found and not isnan(energy := spectra.low_energy(kind, severities=found[kind]))
    }
    kinds = tuple(sorted(energies, key=energies.__getitem__))
    low = tuple(energies[kind] for kind in kinds)
    gain = tuple(float(np.mean(list(found[kind].values()))) for kind in kinds)
    return FrequencyGain(kinds=kinds, low_energy=low, gain=gain, correlation=correlate(low, gain))
