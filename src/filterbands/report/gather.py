"""From paths to what the page shows: Runs and databases read, and put together network by network."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..corruptions import CORRUPTIONS
from ..evaluation import load_scores, model_fingerprint
from ..filters import ModelSpectrum, analyze
from ..models import load_model, read_weights
from ..run import Run
from ..scores import BENCHMARK_15, EXTRA_4, Scores, compare, overlapping_kinds
from .text import cleaned
from .views import Average, Entry, Epoch, Estimate, ReportView, RunView, ScoreView, mapping

_DATABASE = b"SQLite format 3\x00"


@dataclass(slots=True)
class _Network:
    """One network while its pieces are found."""

    name: str
    run: Run | None
    fingerprint: str | None
    scores: list[Scores] = field(default_factory=list)


def gather(sources: Sequence[str | Path], *, title: str) -> ReportView:
    """Return what the sources hold, their networks in the order of the sources.

    A run and a row of a database are one network when the weights are the same; where a run is not
    finished, so that it has none, when the names are.

    Raises:
        FileNotFoundError: A source that does not exist.
        ValueError: No source, or one that is neither a Run folder nor a database of results.
    """
    if not sources:
        raise ValueError("a report needs at least one Run folder or database of results, got none")
    folders: list[Run] = []
    scores: list[Scores] = []
    for source in map(Path, sources):
        if _is_run(source):
            run = Run(source)
            if all(run.folder.resolve() != known.folder.resolve() for known in folders):
                folders.append(run)
        else:
            scores += load_scores(source)
    networks = [_Network(run.name, run, _fingerprint(run) if run.finished else None) for run in folders]
    for score in scores:
        owner = _owner(score, networks)
        owner.scores.append(_with_overlap(score, owner.run))
    if not networks:
        raise ValueError(f"there is nothing to report: {', '.join(map(str, sources))} holds no results")
    names = _distinct(networks)
    reference = _reference(networks)
    views = _score_views(networks, reference)
    entries = [
        Entry(position, name, None if network.run is None else _run_view(network.run), tuple(view))
        for position, (name, network, view) in enumerate(zip(names, networks, views, strict=True))
    ]
    return ReportView(title, tuple(entries), reference)


def _is_run(source: Path) -> bool:
    """Return whether a source is a Run and not a database; refuse what is neither."""
    if not source.exists():
        raise FileNotFoundError(f"no such Run folder or database: {source}")
    if source.is_dir():
        if (source / "run.json").exists():
            return True
        inside = sorted(path.parent.name for path in source.glob("*/run.json"))
        hint = f"; the runs in it are {', '.join(inside[:4])}" if inside else ""
        raise ValueError(f"{source} is neither a Run folder (it has no run.json) nor a database{hint}")
    with source.open("rb") as stream:
        if stream.read(len(_DATABASE)) != _DATABASE:
            raise ValueError(f"{source} is neither a Run folder nor a database of results (SQLite)")
    return False


def _fingerprint(run: Run) -> str:
    # The key of a network of timm depends on the size of the images that it was evaluated on.
    side = mapping(run.read()["config"]).get("size")
    shape = (3, side, side) if isinstance(side, int) and side else (3, 32, 32)
    return model_fingerprint(load_model(run.folder), shape=shape)


def _owner(score: Scores, networks: list[_Network]) -> _Network:
    """Return the network that a score is of; a new one where none is known."""
    found = [network for network in networks if network.fingerprint == score.model]
    names = (score.name, *score.other_names)
    found += [one for one in networks if one.fingerprint is None and one.name in names]
    if not found:
        networks.append(_Network(", ".join(names), None, score.model))
    return (found or networks[-1:])[0]


def _distinct(networks: Sequence[_Network]) -> list[str]:
    """Return names that differ: one that two networks share is followed by where each comes from."""
    plain = [cleaned(network.name) for network in networks]
    names: list[str] = []
    for network, name in zip(networks, plain, strict=True):
        if plain.count(name) > 1:
            where = network.run.folder.resolve().parent.name if network.run is not None else None
            name = f"{name} ({cleaned(where) if where else (network.fingerprint or '')[:8]})"
        # Folders of the same name in folders of the same name are told apart by number.
        count = sum(known == name or known.startswith(f"{name} #") for known in names)
        names.append(f"{name} #{count + 1}" if count else name)
    return names


def _reference(networks: Sequence[_Network]) -> int:
    """Return the first network trained by the standard recipe, the first of all where there is none."""
    for position, network in enumerate(networks):
        if network.run is not None and mapping(network.run.read()["config"]).get("recipe") == "standard":
            return position
    return 0


def _run_view(run: Run) -> RunView:
    facts, records = run.read(), run.read_log()
    log = tuple(_epoch(record) for record in records if isinstance(record.get("epoch"), int))
    if not run.finished:
        return RunView(facts, log)
    spectrum = analyze(run.folder)
    first = _first_layer(records, spectrum)
    weight = read_weights(run.folder).get(f"{first}.weight")
    if weight is not None and weight.ndim != 4:
        weight = None
    return RunView(facts, log, spectrum, first, weight)


def _epoch(record: Mapping[str, Any]) -> Epoch:
    """Return a record of the log; what is no finite number is left out."""
    layer = mapping(record.get("first_layer"))
    ends = [found if isinstance(found := layer.get(key), list) else [] for key in ("radii", "curve")]
    points = [tuple(map(_finite, pair)) for pair in zip(*ends, strict=False)]
    places = {"loss": record, "accuracy": record, "low_share": layer, "mean_low_energy": layer}
    return Epoch(
        epoch=record["epoch"],
        curve=tuple((x, y) for x, y in points if x is not None and y is not None),
        **{name: _finite(place.get(name)) for name, place in places.items()},
    )


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _first_layer(records: Sequence[Mapping[str, Any]], spectrum: ModelSpectrum) -> str:
    """Return the name that the log gives, or the first convolution with a spectrum."""
    for record in records:
        name = mapping(record.get("first_layer")).get("name")
        if isinstance(name, str) and name in spectrum:
            return name
    return next((layer.name for layer in spectrum if layer.filters_low_energy is not None), "")


def _score_views(networks: Sequence[_Network], reference: int) -> list[list[ScoreView]]:
    """Return every network's scores, each compared with the first network under the same conditions."""
    order = [networks[reference], *networks[:reference], *networks[reference + 1 :]]
    alike: dict[str, list[Scores]] = {}
    for network in order:
        for score in network.scores:
            alike.setdefault(_key(score), []).append(score)
    return [[_score_view(score, alike[_key(score)]) for score in network.scores] for network in networks]


def _with_overlap(score: Scores, run: Run | None) -> Scores:
    """Return the scores with what the run's record says of its training, where they say nothing."""
    known = None if run is None or score.overlap else run.read().get("overlap")
    return replace(score, overlap=tuple(map(str, known))) if isinstance(known, list) else score


def _conditions(score: Scores) -> tuple[tuple[str, str], ...]:
    """Return what two scores must share to be compared."""
    corrupted = [answers for (kind, _), answers in score.cells.items() if kind != "clean"]
    facts = [("data", score.data), ("split", score.split), ("images", f"{len(score.labels):,}")]
    if corrupted:
        each = min(len(answers.positions) for answers in corrupted)
        severities = ", ".join(map(str, score.severities))
        facts += [("kinds", str(len(score.kinds))), ("severities", severities), ("seed", str(score.seed))]
        facts += [("constants", score.parameters or "those of the arrays that were read")]
        if each < len(score.labels):
            facts += [("images per severity", f"{each:,}")]
    return (*facts, ("precision", score.precision))


def _key(score: Scores) -> str:
    """Return a digest of the conditions, the test images' classes and the cells that were measured."""
    facts = repr((_conditions(score), sorted(score.cells)))
    return sha256(score.labels.tobytes() + facts.encode()).hexdigest()


def _score_view(score: Scores, alike: Sequence[Scores]) -> ScoreView:
    """Return the scores as shown, compared with the first of those under the same conditions."""
    # What the training of any network of a comparison resembles is left out for all of them.
    resembled = frozenset[str]().union(*(overlapping_kinds(other.overlap) for other in alike))
    clean, averages = score.clean_estimate(), averages_of(score, resembled)

    def gain(kinds: Sequence[str]) -> Estimate | None:
        if score is alike[0] or not kinds:
            return None
        found = compare(score, alike[0], kinds)
        return Estimate(found.difference, *found.ci95)

    return ScoreView(
        name=score.name,
        conditions=_conditions(score),
        key=_key(score),
        clean=Estimate(clean.accuracy, *clean.ci95),
        averages=averages,
        kinds={kind: tuple(cells) for kind, cells in score.kinds.items()},
        severities=score.severities,
        families={kind: CORRUPTIONS[kind].family for kind in score.kinds if kind in CORRUPTIONS},
        overlap=tuple(kind for kind in score.kinds if kind in overlapping_kinds(score.overlap)),
        warnings=score.warnings,
        gains=(gain(("clean",)), gain(averages[0].kinds if averages else ())),
    )


def averages_of(score: Scores, resembled: frozenset[str]) -> tuple[Average, ...]:
    """Return the benchmark's averages where every cell is there, else that over what is there.

    Where trainings resemble some of the kinds, the first of them comes again without those.
    """
    known = [
        ("average over the 15 benchmark kinds", BENCHMARK_15, score.average_15()),
        ("average over all 19 kinds", BENCHMARK_15 + EXTRA_4, score.average_19()),
    ]
    if known[0][2] is None:
        kinds = score.kinds_at_hand
        label = f"average over the {len(kinds)} kinds at hand" if len(kinds) > 1 else "the one kind at hand"
        if len(score.severities) < 5:
            levels = ", ".join(map(str, score.severities))
            label += f" at severit{'ies' if len(score.severities) > 1 else 'y'} {levels}"
        known = [(label, kinds, score.average_at_hand())]
    averages = [
        Average(label, kinds, Estimate(found.accuracy, *found.ci95))
        for label, kinds, found in known
        if found is not None
    ]
    whole = known[0][1]
    others = tuple(kind for kind in whole if kind not in resembled)
    rest = score.average(others, score.severities) if 0 < len(others) < len(whole) else None
    if rest is not None:
        label = f"average over the {len(others)} of them that no training here resembles"
        estimate = Estimate(rest.accuracy, *rest.ci95)
        averages.append(Average(label, others, estimate, "What no training resembles"))
    return tuple(averages)
