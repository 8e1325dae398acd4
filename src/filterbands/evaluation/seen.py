"""Whether a network is measured on images that it was trained on."""

import logging
import os

from ..datasets import CIFARS, shares_images
from ..models import known_images, known_trainings
from .sources import Data, Source

_LOG = logging.getLogger(__name__)
# Data sets whose name says which images they are, wherever these lie.
_NAMED = ("planted", "digits", *CIFARS)


def has_seen(model: str | os.PathLike[str], spec: str, split: str) -> bool:
    """Return whether a network was trained on images of a split, as far as the record of its run tells.

    Args:
        model: A Run, or a file of weights in one; nothing is known of any other.
        spec: As `load_data` takes it.
        split: The split that is measured.
    """
    return any(shares_images(part, (spec, split)) for part in known_trainings(model))


def say_seen(model: str | os.PathLike[str]) -> None:
    """Say that a network was trained on the images that it is measured on."""
    _LOG.warning("%s was trained on these images: a figure of them says little about others", model)


def check_seen(model: str | os.PathLike[str], data: Data, source: Source) -> None:
    """Say it where a network was trained on the images of a source, which was made of these data."""
    named = isinstance(data, str | os.PathLike)
    spec = str(data) if named else source.name
    by_name = named or spec.partition(":")[0] in _NAMED
    if known_images(model) == source.fingerprint or (by_name and has_seen(model, spec, source.split)):
        say_seen(model)
