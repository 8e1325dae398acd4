"""From sources to what the page shows: put together network by network, and recipe by recipe."""

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..control import PROFILE
from ..evaluation import load_scores
from ..filters import LayerSpectrum, ModelSpectrum, analyze
from ..models import load_model, read_weights
from ..probes import HeatMap, Probing, read_added, read_probed
from ..run import Run, check_record
from ..scores import Scores, key_of
from .scored import denies, is_share, line_view, says_as, score_view, shows_all
from .sources import (
    Found,
    Results,
    Weights,
    find_sources,
    fingerprints_of,
    name_of_weights,
    open_weights,
)
from .text import brief, cleaned
from .views import Entry, Epoch, FiltersView, Recipe, ReportView, RunView, ScoreView, mapping

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Network:
    """One network while its pieces are found."""

    name: str
    fingerprints: tuple[str, ...] = ()
    """Of itself, with images of one size or another; none for one that is known by its name alone."""
    folder: Path | None = None
    """Where it lies, or the study whose line it has; None for a network known from a database alone."""
    names: tuple[str, ...] = ()
    """The names that databases give it."""
    databases: set[Path] = field(default_factory=set)
    """The folders of the databases that have results of it."""
    run: Run | None = None
    facts: Mapping[str, Any] | None = None
    """The record of its training."""
    filters: FiltersView | None = None
    log: tuple[Epoch, ...] = ()
    file: Mapping[str, str] = field(default_factory=dict)
    scores: list[Scores] = field(default_factory=list)
    probed: list[Probing] = field(default_factory=list)
    lines: list[ScoreView] = field(default_factory=list)

    @property
    def config(self) -> Mapping[str, Any]:
        """How it was trained."""
        return mapping(mapping(self.facts).get("config"))


def gather(sources: Sequence[str | Path], *, title: str) -> ReportView:
    """Return what the sources hold, their networks in the order of the sources.

    A network and a row of a database are one if the weights are the same. Of a run that is not finished, and
    of a file that does not say which network it is, they are one if the names are.

    Raises:
        FileNotFoundError: A source that does not exist.
        ValueError: No source, or one that is of no known kind.
    """
    found = find_sources(sources)
    scores, folders = _scores(found.databases)
    probings = list(_probed(found.databases))
    results = _results(scores, probings)
    networks = [network for one in found.networks if (network := _network(one, results)) is not None]
    known = len(networks)
    for score, places in zip(scores, folders, strict=True):
        for owner in _owners((score.name, *score.other_names), score.model, networks):
            owner.scores.append(_with_overlap(score, owner.run))
            owner.databases |= places
    for probing in probings:
        for owner in _owners((probing.name or probing.model[:8],), probing.model, networks):
            owner.probed.append(probing)
    _say_names(networks[:known])
    _add_lines(found, networks)
    if not networks:
        raise ValueError(f"there is nothing to report: {', '.join(map(str, sources))} holds no results")
    added = [one for database in found.databases for one in read_added(database)]
    most = max(added, key=lambda one: (len(one.found.kinds), one.found.images), default=None)
    return ReportView(title, _recipes(networks), most)


def _scores(databases: Sequence[Path]) -> tuple[list[Scores], list[set[Path]]]:
    """Return the scores in databases, and the folders of those that have them.

    Scores of one network under the same conditions come once.
    """
    found: dict[tuple[str, str], tuple[Scores, Path]] = {}
    folders: dict[tuple[str, str], set[Path]] = {}
    for database in databases:
        for score in load_scores(database):
            key = score.model, key_of(score)
            first, place = found.setdefault(key, (score, database))
            folders.setdefault(key, set()).add(database.resolve().parent)
            if not all(np.array_equal(one.bits, first.cells[cell].bits) for cell, one in score.cells.items()):
                _LOG.warning(
                    "%s and %s have different answers of %s to the same images; those of the first are shown",
                    *(place, database, score.name),
                )
            names = dict.fromkeys((*first.other_names, score.name, *score.other_names))
            others = tuple(name for name in names if name != first.name)
            found[key] = replace(first, other_names=others), place
    return [score for score, _ in found.values()], list(folders.values())


def _results(scores: Sequence[Scores], probings: Sequence[Probing]) -> Results:
    """Return which networks have results, and the sizes of images that are on record."""
    models: dict[str, Sequence[str]] = {probing.model: probing.name.split(", ") for probing in probings}
    models |= {score.model: (score.name, *score.other_names) for score in scores}
    sides = [probing.found.size for probing in probings if isinstance(probing.found, HeatMap)]
    return Results(models, sorted({height for height, width in sides if height == width}))


def _network(one: Run | Weights, results: Results) -> _Network | None:
    if isinstance(one, Run):
        return _of_run(one, results)
    opened = open_weights(one, results)
    if opened is None:
        return None
    course = [(step, spectrum.spatial) for step, spectrum in opened.course.items()]
    return _Network(
        name_of_weights(one),
        opened.fingerprints,
        folder=Path(one.place).resolve().parent,
        filters=opened.filters,
        log=tuple(_step(step, layers[0]) for step, layers in course if layers),
        file=opened.file,
    )


def _of_run(run: Run, results: Results) -> _Network:
    records, filters = run.read_log(), None
    if run.finished:
        spectrum = analyze(run.folder)
        first = _first_layer(records, spectrum)
        weight = read_weights(run.folder).get(f"{first}.weight")
        filters = FiltersView(spectrum, first, weight if weight is not None and weight.ndim == 4 else None)
    return _Network(
        run.name,
        _fingerprints(run, results) if run.finished else (),
        folder=run.folder.resolve().parent,
        run=run,
        facts=run.read(),
        filters=filters,
        log=tuple(_epoch(record) for record in records if isinstance(record.get("epoch"), int)),
    )


def _probed(databases: Sequence[Path]) -> Iterator[Probing]:
    """Yield the probes in databases, each once."""
    seen: set[str] = set()
    for database in databases:
        for one in read_probed(database):
            key = repr((one.model, one.data, one.split, one.precision, one.found.to_json()))
            if key not in seen:
                seen.add(key)
                yield one


def _owners(names: tuple[str, ...], fingerprint: str, networks: list[_Network]) -> list[_Network]:
    """Return the networks that results are of: all copies of one; a new one where none is known."""
    found = [network for network in networks if fingerprint in network.fingerprints]
    found = found or [one for one in networks if not one.fingerprints and one.name in names]
    if not found:
        networks.append(_Network(", ".join(names), (fingerprint,), names=names))
    return found or networks[-1:]


def _say_names(networks: Sequence[_Network]) -> None:
    """Say which files were given results by their names, and refuse those of several networks."""
    for one in networks:
        models = {score.model for score in one.scores} | {probing.model for probing in one.probed}
        if one.fingerprints or not models:
            continue
        if one.run is not None:
            _LOG.warning(
                "%s has no weights: results of the name %s are taken to be of it, and may be of another "
                "training",
                *(one.run.folder, one.name),
            )
            continue
        if len(models) > 1:
            raise ValueError(
                f"{one.file['place']} does not say which network it is, and the databases hold {len(models)} "
                f"networks of the name {one.name}; delete the old ones with filterbands results --delete, or "
                "leave the file out"
            )
        _LOG.warning(
            "%s does not say which network it is: results of the name %s are taken to be of it",
            *(one.file["place"], one.name),
        )


def _add_lines(found: Found, networks: list[_Network]) -> None:
    """Add what lines of studies say: to the network that a line is of, else as a network of its own."""
    for place, line in found.lines:
        check_record({key: line.get(key) for key in ("config", "seconds")}, f"a line of {place.parent}")
        facts = {key: value for key, value in line.items() if key not in ("kinds", "evaluation")}
        owner = _owner_of_line(place, line, facts, networks)
        if owner is None:
            owner = _Network(str(line.get("name")), folder=place.parent.resolve())
            networks.append(owner)
        if owner.facts is None:
            owner.facts, owner.folder = facts, place.parent.resolve()
        if is_share(line.get("clean")) and not any(shows_all(line, score) for score in owner.scores):
            owner.lines.append(line_view(line))


def _owner_of_line(
    place: Path, line: Mapping[str, Any], facts: Mapping[str, Any], networks: Sequence[_Network]
) -> _Network | None:
    """Return the network that a line is of; None where that is not sure.

    It is the Run at its place, unless results of the Run deny the line. Without the Run it is the network of
    a database of the study that has the name and the figures of the line, else that of a database which lies
    in no study and has them on the same images. Studies share names of Runs.
    """
    for one in networks:
        if one.run is not None and one.run.folder.resolve() == place.resolve():
            return None if any(denies(line, score) for score in one.scores) else one
    alike = [
        one
        for one in networks
        if str(line.get("name")) in one.names
        and one.facts in (None, facts)
        and any(says_as(line, score) for score in one.scores)
    ]
    study = place.parent.resolve()
    here = [one for one in alike if study in one.databases]
    moved = [
        one
        for one in alike
        if not any((folder / "runs.jsonl").exists() for folder in one.databases)
        and any(says_as(line, score, surely=True) for score in one.scores)
    ]
    found = here or moved
    return found[0] if len(found) == 1 else None


def _recipes(networks: Sequence[_Network]) -> tuple[Recipe, ...]:
    """Return the networks by recipe: those of one config but for the seed are one."""
    names = _distinct(networks)
    groups: dict[str, list[int]] = {}
    starts = _starts(networks)
    for number, network in enumerate(networks):
        key = _recipe_key(network, starts)
        seeds = [networks[other].config.get("seed") for other in groups.get(key, [])] if key else []
        # Copies of one run are networks of their own.
        own = key if key and network.config.get("seed") not in seeds else f"network {number}"
        groups.setdefault(own, []).append(number)
    views = _score_views(networks)
    recipes: list[Recipe] = []
    for position, members in enumerate(groups.values()):
        entries = tuple(_entry(position, names[one], networks[one], views[one]) for one in members)
        name = _name_of_recipe([networks[one] for one in members], entries)
        taken = [*names, *(recipe.name for recipe in recipes)]
        if len(members) > 1 and name in taken:
            name = f"{name} #{position + 1}"
        standard = networks[members[0]].config.get("recipe") == "standard"
        recipes.append(Recipe(position, name, entries, standard))
    return tuple(recipes)


_Starts = dict[str, tuple[set[object], set[str]]]
"""Of every file or Run that a training starts from: the seeds that do, and the recorded hashes."""


def _starts(networks: Sequence[_Network]) -> _Starts:
    found: _Starts = {}
    for network in networks:
        if isinstance(start := network.config.get("init"), str) and start:
            seeds, hashes = found.setdefault(start, (set(), set()))
            seeds.add(network.config.get("seed"))
            if isinstance(known := mapping(network.facts).get("init"), str):
                hashes.add(known)
    return found


def _recipe_key(network: _Network, starts: _Starts) -> str:
    """Return what networks of one recipe share; nothing for a network that has no record."""
    config = dict(network.config)
    seed = config.pop("seed", None)
    if seed is None:
        return ""
    if isinstance(start := config.get("init"), str) and start:
        config["init"] = _start_of(network, Path(start), *starts[start])
    data = mapping(mapping(network.facts).get("data")).get("fingerprint")
    return json.dumps([config, data], sort_keys=True, default=str)


def _start_of(network: _Network, start: Path, seeds: set[object], hashes: set[str]) -> str:
    """Return what the starts of one recipe's seeds share: the weights, or the row of a study."""
    seed, study = network.config.get("seed"), network.folder
    if start.name.endswith(f"-{seed}") and len(seeds) == 1:
        # A run of a study that starts from another one starts from that of its own seed. The folder of the
        # study may be named in several ways.
        own = study is not None and study.name == start.parent.name
        return str(
            (study if own and study is not None else start.parent) / start.name.removesuffix(f"-{seed}")
        )
    known = mapping(network.facts).get("init")
    return str(known if isinstance(known, str) else next(iter(hashes)) if len(hashes) == 1 else start)


def _name_of_recipe(networks: Sequence[_Network], entries: Sequence[Entry]) -> str:
    if len(networks) == 1:
        return entries[0].name
    # Names of the runs of a study end with the seed.
    stems = {one.name.removesuffix(str(one.config.get("seed"))).rstrip("-_. ") for one in networks}
    stem = stems.pop()
    return cleaned(stem if stem and not stems else str(networks[0].config.get("recipe", networks[0].name)))


def _fingerprints(run: Run, results: Results) -> tuple[str, ...]:
    side = mapping(run.read()["config"]).get("size")
    sides = (side,) if isinstance(side, int) and side else ()
    return fingerprints_of(load_model(run.folder), run.name, results, *sides)


def _distinct(networks: Sequence[_Network]) -> list[str]:
    """Return names that differ: one that two networks share is followed by where each comes from."""
    plain = [brief(cleaned(network.name)) for network in networks]
    names: list[str] = []
    for network, name in zip(networks, plain, strict=True):
        if plain.count(name) > 1:
            where = network.folder.name if network.folder is not None else None
            name = f"{name} ({cleaned(where) if where else ''.join(network.fingerprints[:1])[:8]})"
        # Folders of the same name in folders of the same name are told apart by number.
        count = sum(known == name or known.startswith(f"{name} #") for known in names)
        names.append(f"{name} #{count + 1}" if count else name)
    return names


def _entry(position: int, name: str, network: _Network, scores: Sequence[ScoreView]) -> Entry:
    return Entry(
        position,
        name,
        None if network.facts is None else RunView(network.facts),
        network.filters,
        (*scores, *network.lines),
        network.log,
        tuple(network.probed),
        network.file,
    )


def _epoch(record: Mapping[str, Any]) -> Epoch:
    """Return a record of the log; what is no finite number is left out."""
    layer = mapping(record.get("first_layer"))
    ends = [found if isinstance(found := layer.get(key), list) else [] for key in ("radii", "curve")]
    points = [tuple(map(_finite, pair)) for pair in zip(*ends, strict=False)]
    places = {"loss": record, "accuracy": record, "low_share": layer, "mean_low_energy": layer}
    return Epoch(
        epoch=record["epoch"],
        curve=tuple((x, y) for x, y in points if x is not None and y is not None),
        strengths=_strengths(mapping(record.get("spectral"))),
        **{name: _finite(place.get(name)) for name, place in places.items()},
    )


def _strengths(said: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """Return the learned strengths of a record, or nothing where one of them is damaged."""
    lengths = {"bands": len(PROFILE), "gain": 1, "noise": 1}
    found: dict[str, tuple[float, ...]] = {}
    for name, length in lengths.items():
        values = said.get(name)
        numbers = [_finite(value) for value in values] if isinstance(values, list) else []
        found[name] = tuple(value for value in numbers if value is not None)
        if not len(numbers) == len(found[name]) == length:
            return {}
    return found


def _step(step: int, layer: LayerSpectrum) -> Epoch:
    """Return what a checkpoint says of its step."""
    return Epoch(step, low_share=layer.low_share, mean_low_energy=layer.mean_low_energy)


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _first_layer(records: Sequence[Mapping[str, Any]], spectrum: ModelSpectrum) -> str:
    """Return the name that the log gives, or the first convolution with a spectrum."""
    for record in records:
        name = mapping(record.get("first_layer")).get("name")
        if isinstance(name, str) and name in spectrum:
            return name
    return next((layer.name for layer in spectrum if layer.filters_low_energy is not None), "")


def _score_views(networks: Sequence[_Network]) -> list[list[ScoreView]]:
    """Return every network's scores, each compared with the first standard network under equal conditions."""
    order = sorted(networks, key=lambda network: network.config.get("recipe") != "standard")
    alike: dict[str, list[Scores]] = {}
    for network in order:
        for score in network.scores:
            alike.setdefault(key_of(score), []).append(score)
    return [[score_view(score, alike[key_of(score)]) for score in network.scores] for network in networks]


def _with_overlap(score: Scores, run: Run | None) -> Scores:
    """Return the scores with what the run's record says of its training, where they say nothing."""
    known = None if run is None or score.overlap else run.read().get("overlap")
    return replace(score, overlap=tuple(map(str, known))) if isinstance(known, list) else score
