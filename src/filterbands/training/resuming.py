"""Whether the run in a folder can go on, and what is said where it goes on on another machine."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

from ..datasets import load_data
from ..engine import is_first_process
from ..models import read_weights, weights_hash
from ..run import Run
from .config import TrainConfig, changed_fields

_LOG = logging.getLogger(__name__)
_PLACES = {"data", "init"}


def is_done(run: Run, config: TrainConfig, *, resume: bool) -> bool:
    """Return whether the folder holds the finished run; refuse one that is not this run's to continue."""
    if not run.exists:
        for file in (run.checkpoint, run.weights, run.log, *run.kept):
            if file.exists():
                raise ValueError(
                    f"{run.folder} holds {file.name}, but no run it belongs to; move it away, or name "
                    "another folder with --out"
                )
        return False
    if not resume:
        raise ValueError(
            f"{run.folder} already holds a run; continue it with --resume, or name another folder with --out"
        )
    try:
        changed = changed_fields(run.read()["config"], config)
    except ValueError as error:
        raise ValueError(f"{run.folder} cannot be resumed: {error}") from None
    if changed and not _only_moved(run, config, changed):
        differences = ", ".join(f"{name} was {was!r}, now {now!r}" for name, (was, now) in changed.items())
        raise ValueError(f"{run.folder} cannot be resumed with another configuration: {differences}")
    if run.finished:
        try:
            read_weights(run.weights)
        except ValueError as error:
            raise ValueError(f"{error}, or train anew in another folder") from None
        # A kill after the weights were written left it.
        if is_first_process():
            run.checkpoint.unlink(missing_ok=True)
    return run.finished


def say_other_machine(run: Run, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Say where a training goes on with other threads, another torch or another device than it had."""
    changed = [name for name in now if before[name] not in (None, now[name])]
    if changed:
        _LOG.warning(
            "train: %s goes on in another way (%s), so that its weights will not be those of an undisturbed "
            "training to the bit; where that matters, go on as before",
            run.folder,
            ", ".join(f"{name} was {before[name]}, now {now[name]}" for name in changed),
        )


def _only_moved(run: Run, config: TrainConfig, changed: Collection[str]) -> bool:
    """Return whether only places changed: the same images or weights elsewhere, or named in another way."""
    if not {*changed} <= _PLACES:
        return False
    if "init" in changed and (not config.init or run.start != weights_hash(config.init)):
        return False
    if "data" not in changed:
        return True
    data = load_data(config.data, split=config.split, size=config.size or None)
    return run.images == data.fingerprint()
