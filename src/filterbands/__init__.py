"""filterbands: which frequencies a convolutional network looks at, what that costs, how to change it.

>>> import torch, filterbands as fb
>>> layer = fb.set_share(torch.nn.Conv2d(3, 64, 3), low=0.75)
>>> fb.analyze(layer)["weight"].low_share
0.75
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .corruptions import CORRUPTIONS, corrupt
    from .datasets import load_data
    from .filters import (
        SpectralNoise,
        SpectrumLogger,
        analyze,
        attract_share,
        bake,
        filters_low_energy,
        modulate,
        recalibrate,
        set_share,
    )
    from .filters.shrink import shrink
    from .models import load_model
    from .report import write_report
    from .robustness.evaluate import evaluate
    from .robustness.heatmap import fourier_heatmap
    from .robustness.passes import pass_curves
    from .training.config import TrainConfig
    from .training.train import train

__all__ = [
    "CORRUPTIONS",
    "SpectralNoise",
    "SpectrumLogger",
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
    "corruptions": ("CORRUPTIONS", "corrupt"),
    "datasets": ("load_data",),
    "filters": (
        "SpectralNoise",
        "SpectrumLogger",
        "analyze",
        "attract_share",
        "bake",
        "filters_low_energy",
        "modulate",
        "recalibrate",
        "set_share",
        "shrink",
    ),
    "models": ("load_model",),
    "report": ("write_report",),
    "robustness": ("evaluate", "fourier_heatmap", "pass_curves"),
    "training": ("TrainConfig", "train"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name's room when it is first asked for, so that nobody waits for what they do not use."""
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'filterbands' has no attribute {name!r}")
    value = getattr(import_module(f".{_ROOM_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]
