"""What a text names where a network is expected: the network, its name, and what its training resembles."""

import os
from pathlib import Path

from torch import nn

from ..run import Run
from .loading import load_model

Named = nn.Module | str | os.PathLike[str]
"""A network, or what `load_model` takes for one."""


def opened(model: Named) -> nn.Module:
    """Return the network, which `load_model` loads where a text or path names it.

    >>> network = nn.Identity()
    >>> opened(network) is network
    True
    """
    return model if isinstance(model, nn.Module) else load_model(str(model))


def name_of(model: str | os.PathLike[str]) -> str:
    """Return the name of the file or folder that a text names; a spec names itself."""
    path = Path(model)
    return path.resolve().name if path.exists() else str(model)


def known_overlap(model: str | os.PathLike[str]) -> tuple[str, ...] | None:
    """Return the kinds that the record of a run says its training resembles; None where there is none."""
    path = Path(model)
    if not Run(path).exists:
        return None
    found = Run(path).read().get("overlap")
    return tuple(map(str, found)) if isinstance(found, list) else None
