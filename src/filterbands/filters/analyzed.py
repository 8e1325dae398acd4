"""Everything that is measured of one network, and networks as the steps of one training."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .depth import GradientSpectrum
from .figures import LayerSpectrum, ModelSpectrum
from .sensitivity import Sensitivity
from .trajectory import Trajectory, steps_of_training, trajectory_of

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyzed:
    """One network and everything that was measured of it; None for what was not measured."""

    path: str
    """What it is called."""
    spectrum: ModelSpectrum
    """Its convolutions."""
    effective: LayerSpectrum | None = None
    """Its first two convolutions composed."""
    gradient: GradientSpectrum | None = None
    """The spectrum of its input gradient."""
    history: Trajectory | None = None
    """Its own course over training."""

    @property
    def first(self) -> LayerSpectrum | None:
        """Its first convolution with a spectrum."""
        return next(iter(self.spectrum.spatial), None)

    @property
    def sensitivity(self) -> Sensitivity | None:
        """That layer by other definitions."""
        return None if self.first is None else self.first.sensitivity

    @property
    def layers(self) -> list[LayerSpectrum]:
        """Its convolutions, and the composed one behind them."""
        return [*self.spectrum, *([] if self.effective is None else [self.effective])]

    def to_json(self) -> dict[str, Any]:
        """Return the document of `filterbands analyze --json`."""
        return {
            "path": self.path,
            **self.spectrum.to_json(),
            "effective_first_layer": None if self.effective is None else self.effective.to_json(),
            "input_gradient": None if self.gradient is None else self.gradient.to_json(),
            **({} if self.history is None else self.history.to_json()),
        }


def course_of_all(networks: Sequence[Analyzed]) -> Trajectory | None:
    """Return networks as steps of one training, and say so; None if they are networks of their own.

    They are steps of one training if they have the same layers and `steps_of_training` finds their steps.
    """
    spectra = {Path(one.path): one.spectrum for one in networks}
    kinds = {tuple((layer.name, layer.shape) for layer in spectrum) for spectrum in spectra.values()}
    steps = steps_of_training(list(spectra)) if len(kinds) == 1 and len(spectra) == len(networks) else {}
    if not steps:
        return None
    _LOG.warning(
        "%d checkpoints are shown as steps %d to %d of one training, since they lie in one folder, have the "
        "same layers, and only the number in their names differs; analyze other networks one by one",
        *(len(networks), min(steps), max(steps)),
    )
    return trajectory_of(list(spectra), spectra.__getitem__)
