"""filterbands: which frequencies a convolutional network looks at, what that costs, how to change it.

>>> import torch, filterbands as fb
>>> layer = fb.set_share(torch.nn.Conv2d(3, 64, 3), low=0.75)
>>> fb.analyze(layer)["weight"].low_share
0.75
"""

# Nothing is imported here that takes time, since Ctrl-C in it could not be told in one line.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .control import SpectralNoise, attract_share, modulate, set_share
    from .control.bake import bake
    from .control.recalibrate import recalibrate
    from .control.shrink import shrink
    from .corruptions import CORRUPTIONS, Corrupting, corrupt
    from .datasets import load_data
    from .evaluation.evaluate import EvaluateConfig, evaluate
    from .filters import SpectrumLogger, analyze, filters_low_energy
    from .models import load_model
    from .probes import ProbeConfig, fourier_heatmap, pass_curves
    from .report import write_report
    from .study import StudyConfig
    from .training import TrainConfig
    from .training.train import train
    from .version import __version__ as __version__

__all__ = [
    "CORRUPTIONS",
    "Corrupting",
    "EvaluateConfig",
    "ProbeConfig",
    "SpectralNoise",
    "SpectrumLogger",
    "StudyConfig",
    "TrainConfig",
    "analyze",
    "attract_share",
    "bake",
    "corrupt",
    "evaluate",
    "filters_low_energy",
    "fourier_heatmap",
    "load_data",
    "load_model",
    "modulate",
    "pass_curves",
    "recalibrate",
    "set_share",
    "shrink",
    "train",
    "write_report",
]

_ROOMS = {
    "corruptions": ("CORRUPTIONS", "Corrupting", "corrupt"),
    "datasets": ("load_data",),
    "control": ("SpectralNoise", "attract_share", "bake", "modulate", "recalibrate", "set_share", "shrink"),
    "evaluation": ("EvaluateConfig", "evaluate"),
    "filters": ("SpectrumLogger", "analyze", "filters_low_energy"),
    "models": ("load_model",),
    "probes": ("ProbeConfig", "fourier_heatmap", "pass_curves"),
    "report": ("write_report",),
    "study": ("StudyConfig",),
    "training": ("TrainConfig", "train"),
    "version": ("__version__",),
}
# Rooms that have public names of their own.
_WITH_NAMES = (*_ROOMS, "fourier", "rng", "scores")
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> "Any":
    """Load the room of a public name at its first use, so that no other room has to load."""
    if name not in _ROOM_OF and name not in _WITH_NAMES:
        raise AttributeError(f"module 'filterbands' has no attribute {name!r}")
    from importlib import import_module

    room = import_module(f".{_ROOM_OF.get(name, name)}", __name__)
    value = getattr(room, name) if name in _ROOM_OF else room
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]
