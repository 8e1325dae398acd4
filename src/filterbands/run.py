"""Run: one training on disk, in a folder that is complete, resumable, or not a run at all.

run.json                  the record: config, seed, version, git revision, data, device, precision, seconds
log.jsonl                 a line per epoch; epoch 0 is before training
checkpoint.pt             the state to resume from; removed when the run is finished
failed.pt                 the state and the images of a loss that became NaN or infinite
weights-0010.safetensors  the plain (baked) network of an epoch that `keep_every` selects
weights.safetensors       the plain network; it exists only when the run is finished
"""

import json
import math
import pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from .disk import check_input, read_json, write_text, write_weights, write_whole
from .pickled import Walk, check_call_of_torch, check_storages, storage_sizes

EPOCHS = 100_000
"""Most epochs of a training."""

_KEPT = re.compile(r"weights-\d{4,}\.safetensors")
# Longest line of a log, in bytes.
_LINE = 1 << 20
_RECALIBRATED = ("images", "accuracy_before", "accuracy_after")
RECORD: Mapping[str, tuple[str, ...]] = {
    "text": (
        *("started", "finished", "version", "git", "device", "precision", "torch"),
        *("data.name", "data.split", "data.fingerprint", "data.place"),
        *("config.recipe", "config.method", "config.arch", "config.data", "config.split", "config.init"),
    ),
    "a whole number": ("threads", "processes", "data.images", "config.seed", "config.epochs", "config.size"),
    "a number": ("seconds", "cpu_seconds"),
    "a list of names": ("overlap", "revisions"),
    "a list of mappings": ("computed_with",),
    "a mapping": ("data", "config", "recalibrated"),
}
"""What entries of a record are, where they are there."""
_DAMAGE = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, TypeError),
    *(LookupError, AttributeError, AssertionError, OverflowError),
)


@dataclass(frozen=True, slots=True)
class Run:
    """A training on disk."""

    folder: Path
    """The folder of all its files."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def facts(self) -> Path:
        """The file of the record."""
        return self.folder / "run.json"

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run, finished or not."""
        return self.facts.is_file()

    @property
    def precision(self) -> str:
        """The precision that it is trained in; where its record does not say so, that of its config."""
        record = self.read()
        return str(record.get("precision") or record["config"].get("precision", "auto"))

    @property
    def images(self) -> str | None:
        """The fingerprint of the images that it is trained on; None where its record does not say it."""
        fingerprint = self.read().get("data", {}).get("fingerprint")
        return None if fingerprint is None else str(fingerprint)

    @property
    def start(self) -> str | None:
        """The hash of the weights that it starts from; None where these are random."""
        weights = self.read().get("init")
        return None if weights is None else str(weights)

    @property
    def log(self) -> Path:
        """The file of the epochs."""
        return self.folder / "log.jsonl"

    @property
    def weights(self) -> Path:
        """The file of the plain network."""
        return self.folder / "weights.safetensors"

    def weights_at(self, epoch: int) -> Path:
        """Return the file of the plain network after an epoch."""
        return self.folder / f"weights-{epoch:04d}.safetensors"

    @property
    def kept(self) -> tuple[Path, ...]:
        """The existing files of weights of epochs, in the order of the epochs."""
        found = filter(lambda file: _KEPT.fullmatch(file.name), self.folder.glob("weights-*.safetensors"))
        return tuple(sorted(found, key=lambda file: (len(file.name), file.name)))

    @property
    def checkpoint(self) -> Path:
        """The file to resume from."""
        return self.folder / "checkpoint.pt"

    def failure(self, rank: int) -> Path:
        """Return the file of the state in which a process's loss was NaN or infinite."""
        return self.folder / (f"failed-{rank}.pt" if rank else "failed.pt")

    @property
    def begun(self) -> bool:
        """Whether a resumed training goes on with what is there: it is finished, or has a checkpoint."""
        return self.exists and (self.finished or self.checkpoint.exists())

    @property
    def finished(self) -> bool:
        """Whether training has ended and the weights exist."""
        return self.weights.exists()

    def read(self) -> dict[str, Any]:
        """Return run.json.

        Raises:
            FileNotFoundError: The folder is not a run.
            ValueError: run.json is not the record of a run.
        """
        if not self.exists:
            raise FileNotFoundError(f"{self.folder} is not a run: it has no run.json")
        content = read_json(self.facts)
        if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
            raise ValueError(f"{self.facts} is not a run's: it has no config")
        check_record(content, self.facts)
        return content

    def read_log(self) -> list[dict[str, Any]]:
        """Return the records of log.jsonl, epoch 0 first, up to the first damaged line.

        Raises:
            ValueError: The log has more than `EPOCHS` records, or is no file.
        """
        if not self.log.exists():
            return []
        records = []
        with check_input(self.log).open("rb") as stream:
            while line := stream.readline(_LINE):
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    break
                if not _is_epoch(record):
                    break
                records.append(record)
                # The record of epoch 0 comes before the first.
                if len(records) > EPOCHS + 1:
                    raise ValueError(f"{self.log} has more than {EPOCHS:,} epochs, which no training has")
        return records

    def last_epoch(self) -> dict[str, Any]:
        """Return the log's record of the last epoch of a finished run.

        Raises:
            ValueError: The log or what the record says of the training is missing, cut or damaged.
        """
        facts = self.read()
        epochs = facts["config"].get("epochs")
        if not _are_numbers(facts, "seconds") or not _are_numbers(
            facts.get("recalibrated", dict.fromkeys(_RECALIBRATED, 0)), *_RECALIBRATED
        ):
            raise ValueError(f"{self.facts} is damaged; bring it back, or train anew in another folder")
        last = next(iter(self.read_log()[-1:]), {})
        if (
            last.get("epoch") != epochs
            or not _are_numbers(last, "loss", "accuracy")
            or not _are_numbers(last.get("first_layer"), "low_share", "mean_low_energy")
        ):
            raise ValueError(
                f"{self.log} is missing or cut: it ends before epoch {epochs}; bring it back, or train anew "
                "in another folder"
            )
        return last

    def write(self, content: Mapping[str, Any]) -> None:
        """Write run.json, whole or not at all."""
        write_text(self.facts, json.dumps(content, indent=2, sort_keys=True) + "\n")

    def write_log(self, records: list[dict[str, Any]]) -> None:
        """Write all of log.jsonl, whole or not at all."""
        lines = (json.dumps(record, sort_keys=True) + "\n" for record in records)
        write_text(self.log, "".join(lines))

    def write_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Write the state that `read_checkpoint` returns, whole or not at all."""
        write_whole(self.checkpoint, lambda file: torch.save(dict(state), file))

    def read_checkpoint(self) -> dict[str, Any]:
        """Return the last checkpoint, tensors and plain containers only.

        Raises:
            ValueError: The file is damaged.
        """
        try:
            file = check_input(self.checkpoint)
            pickled = torch._C.PyTorchFileReader(str(file)).get_record("data.pkl")
            walk = Walk(size=len(pickled), check_call=check_call_of_torch)
            walk.through(pickletools.genops(pickled))
            check_storages(walk, storage_sizes(file))
            content = torch.load(file, map_location="cpu", weights_only=True)
            if not isinstance(content, dict):
                raise TypeError(f"it holds a {type(content).__name__}")
            return content
        # What torch raises for damaged files depends on the byte.
        except _DAMAGE as error:
            said = next(iter(str(error).splitlines()), "its end is missing")
            raise ValueError(
                f"{self.checkpoint} is damaged ({said}); remove it to train anew from the first epoch"
            ) from None

    def write_weights(self, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Write the plain network, whole or not at all, which finishes the run."""
        write_weights(self.weights, weights, metadata)


def check_record(content: Mapping[str, Any], place: object) -> None:
    """Refuse a record of a training that says something of another type than it should.

    Raises:
        ValueError: An entry that is there, and not null, is of another type.
    """
    for needed, paths in RECORD.items():
        for path in paths:
            value: Any = content
            for name in path.split("."):
                value = value.get(name) if isinstance(value, Mapping) else None
            if value is not None and not _IS[needed](value):
                said = repr(value)[:40]
                raise ValueError(
                    f"{place} is damaged: its {path} needs {needed}, got {said}; bring it back, or train "
                    "anew in another folder"
                )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(name is None or isinstance(name, str) for name in value)


_IS: Mapping[str, Callable[[object], bool]] = {
    "text": lambda value: isinstance(value, str),
    "a whole number": lambda value: type(value) is int,
    "a number": lambda value: type(value) in (int, float) and math.isfinite(cast(float, value)),
    "a list of names": _are_names,
    "a list of mappings": lambda value: (
        isinstance(value, list) and all(isinstance(one, dict) for one in value)
    ),
    "a mapping": lambda value: isinstance(value, dict),
}


def _are_numbers(values: object, *names: str) -> bool:
    return isinstance(values, dict) and all(_is_number(values.get(name)) for name in names)


def _is_epoch(record: object) -> bool:
    """Return whether a line of a log is of an epoch: numbers, those of the first layer, learned strengths."""
    layer = record.get("first_layer", {}) if isinstance(record, dict) else None
    if not isinstance(record, dict) or not isinstance(layer, dict):
        return False
    plain = [value for name, value in record.items() if name not in ("first_layer", "spectral")]
    plain += [value for name, value in layer.items() if name not in ("name", "radii", "curve")]
    return all(value is None or _is_number(value) for value in plain)
