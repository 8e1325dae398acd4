"""The lines of a study's runs.jsonl: which are whole, and of the study and the images as they are now."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..corruptions import CORRUPTIONS
from ..datasets import ImageSet, load_data
from ..disk import JSON, check_input
from ..evaluation import EvaluateConfig
from ..run import Run, check_record
from ..training import TrainConfig, changed_fields
from .file import EVALUATE, StudyConfig, folder_of

_LOG = logging.getLogger(__name__)


class ImagesNow:
    """The fingerprints of the images that a study's data hold now, each made when it is first asked for."""

    def __init__(self, study: StudyConfig, training: Mapping[tuple[str, int], ImageSet]) -> None:
        self._study, self._training = study, training
        self._trained: dict[tuple[str, int], str] = {}
        self._measured: dict[int, str] = {}

    def trained(self, config: TrainConfig) -> str:
        """Return the fingerprint of the images that a config trains on."""
        part = (config.split, config.size)
        if part not in self._trained:
            self._trained[part] = self._training[part].fingerprint()
        return self._trained[part]

    def measured(self, config: TrainConfig) -> str:
        """Return the fingerprint of the images that a config's network is measured on."""
        if config.size not in self._measured:
            self._measured[config.size] = measured_images(self._study, config).fingerprint()
        return self._measured[config.size]


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """Return the finished runs' lines, without one that was cut short."""
    file = folder / "runs.jsonl"
    if not file.exists():
        return []
    lines = []
    for text in check_input(file, largest=JSON).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if (
            isinstance(line, dict)
            and isinstance(line.get("config"), dict)
            and isinstance(line.get("name"), str)
        ):
            lines.append(line)
    return lines


def line_of(
    config: TrainConfig,
    study: StudyConfig,
    lines: Sequence[Mapping[str, Any]],
    folder: Path,
    now: ImagesNow,
) -> dict[str, Any] | None:
    """Return a run's line, None where it is damaged or was evaluated in another way than the study says.

    Data at another place are the same data where their images are.

    Raises:
        ValueError: The folder holds another run of that name.
    """
    for line in lines:
        if line["name"] == folder_of(config):
            if not _is_whole(line):
                _LOG.warning("study: the line of %s in %s is damaged; it is made anew", line["name"], folder)
                return None
            try:
                changed = changed_fields(line["config"], config)
            except ValueError as error:
                raise ValueError(f"{folder} holds {line['name']}: {error}") from None
            if start := start_of(config, study):
                # The folder may have moved, or be named in another way.
                changed.pop("init", None)
                if (was := Path(str(line["config"].get("init", ""))).name) != start:
                    changed["start"] = was, start
            if [*changed] == ["data"] and _has_same_images(line, config, study, folder, now):
                changed = {}
            if changed:
                raise ValueError(
                    f"{folder} holds {line['name']} with another {', '.join(changed)}; use another folder, "
                    "or give the row another name"
                )
            return None if _changed_evaluation(line, study) else dict(line)
    return None


def _has_same_images(
    line: Mapping[str, Any], config: TrainConfig, study: StudyConfig, folder: Path, now: ImagesNow
) -> bool:
    """Return whether a run was trained and, if its line stays, measured on the images that are there now."""
    run = Run(folder / line["name"])
    if not run.exists or run.images != now.trained(config):
        return False
    return bool(_changed_evaluation(line, study)) or line.get("fingerprint") == now.measured(config)


def _is_whole(line: Mapping[str, Any]) -> bool:
    """Return whether a line has what tables show of it, and a config of the types that a config has."""
    try:
        check_record({"config": line["config"]}, "the line")
    except ValueError:
        return False
    rows = line.get("kinds")
    if not isinstance(rows, dict) or not isinstance(line.get("recipe"), str):
        return False
    if not all(kind in CORRUPTIONS and isinstance(row, list) for kind, row in rows.items()):
        return False
    needed = [line.get(name) for name in ("clean", "seconds", "evaluation_seconds")]
    others = [line.get(name, "") for name in ("average_15", "average_19", "robust")]
    others += [value for row in rows.values() for value in row]
    return all(type(value) in (int, float) for value in needed + [one for one in others if one is not None])


def _changed_evaluation(line: Mapping[str, Any], study: StudyConfig) -> dict[str, tuple[Any, Any]]:
    """Return in what a line's evaluation differs from the study's: in nothing where it is not said."""
    said = line.get("evaluation")
    if not isinstance(said, dict):
        return {}
    was = {**EVALUATE, **said}
    pairs = {key: (was[key], value) for key, value in study.evaluate.items()}
    found = {key: (one, two) for key, (one, two) in pairs.items() if _plain(key, one) != _plain(key, two)}
    # A line of before versions were written has kinds of version 1.
    pair = line.get("versions", {}), versions_of(line.get("kinds", {}))
    return found if pair[0] == pair[1] else {**found, "versions": pair}


def versions_of(kinds: Iterable[str]) -> dict[str, int]:
    """Return the versions of kinds, of those alone whose bytes have changed since they were first made."""
    known = {kind: CORRUPTIONS[kind].version for kind in kinds if kind in CORRUPTIONS}
    return {kind: version for kind, version in known.items() if version > 1}


def _plain(key: str, value: Any) -> Any:
    """Return a value of `evaluate` in one form: of kinds, the single ones."""
    if key != "kinds":
        return value
    try:
        return sorted(EvaluateConfig(kinds=tuple(value)).kinds or ())
    except (TypeError, ValueError):
        # A line that another version wrote, or nobody.
        return value


def say_evaluated_anew(study: StudyConfig, lines: Sequence[Mapping[str, Any]]) -> None:
    """Say how many finished runs were evaluated in another way than the study says now."""
    names = {folder_of(config) for config in study.configs}
    changes_of = [_changed_evaluation(line, study) for line in lines if line["name"] in names]
    if found := [changes for changes in changes_of if changes]:
        changes = ", ".join(f"{key} was {was!r}, now {now!r}" for key, (was, now) in found[0].items())
        _LOG.warning("study: %d finished runs are evaluated anew: %s", len(found), changes)


def start_of(config: TrainConfig, study: StudyConfig) -> str:
    """Return the name of the run that a training starts from; nothing where that is none of the study."""
    start = study.starts.get(config.recipe)
    return "" if start is None else folder_of(replace(config, recipe=start))


def measured_images(study: StudyConfig, config: TrainConfig) -> ImageSet:
    """Return the images on which a config's network is measured."""
    split, limit = study.evaluate["split"], study.evaluate["limit"]
    return load_data(study.data, split=split, size=config.size or None, limit=limit)
