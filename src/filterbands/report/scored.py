"""Scores as the report shows them: their conditions, averages, and differences under equal conditions."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeGuard

from ..corruptions import CORRUPTIONS
from ..scores import BENCHMARK_15, EXTRA_4, Scores, compare, conditions, key_of, overlapping_kinds
from .text import brief, cleaned, spaced
from .views import Average, Estimate, ScoreView, mapping

# Less than one of a million images.
_SAME = 1e-6
_AVERAGE_15 = ("average over the 15 benchmark kinds", "Corrupted images, 15 kinds")
_AVERAGE_19 = ("average over all 19 kinds", "Corrupted images, 19 kinds")


def conditions_of(score: Scores) -> tuple[tuple[str, str], ...]:
    """Return what two scores must share to be compared, names and values as they are shown; see `key_of`."""
    return tuple(
        (what, brief(cleaned(value)) if what == "folder" else value) for what, value in conditions(score)
    )


def score_view(score: Scores, alike: Sequence[Scores]) -> ScoreView:
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
        conditions=conditions_of(score),
        key=key_of(score),
        images=score.pixels or sha256(score.labels.tobytes()).hexdigest(),
        clean=Estimate(clean.accuracy, *clean.ci95),
        averages=averages,
        kinds={kind: tuple(cells) for kind, cells in score.kinds.items()},
        severities=score.severities,
        families={kind: CORRUPTIONS[kind].family for kind in score.kinds if kind in CORRUPTIONS},
        overlap=tuple(kind for kind in score.kinds if kind in overlapping_kinds(score.overlap)),
        warnings=score.warnings,
        failed=tuple(
            (f"{spaced(kind)}, severity {level}", why) for (kind, level), why in score.failed.items()
        ),
        source=score,
        gains=(gain(("clean",)), gain(averages[0].kinds if averages else ())),
    )


def averages_of(score: Scores, resembled: frozenset[str]) -> tuple[Average, ...]:
    """Return the benchmark's averages where every cell is there, else that over what is there.

    Where trainings resemble some of the kinds, the first of them comes again without those.
    """
    known = [
        (*_AVERAGE_15, BENCHMARK_15, score.average_15()),
        (*_AVERAGE_19, BENCHMARK_15 + EXTRA_4, score.average_19()),
    ]
    if known[0][3] is None:
        kinds = score.kinds_at_hand
        label = _at_hand(len(kinds))
        if len(score.severities) < 5:
            levels = ", ".join(map(str, score.severities))
            label += f" at severit{'ies' if len(score.severities) > 1 else 'y'} {levels}"
        known = [(label, "Corrupted images", kinds, score.average_at_hand())]
    averages = [
        Average(label, kinds, Estimate(found.accuracy, *found.ci95), title)
        for label, title, kinds, found in known
        if found is not None
    ]
    whole = known[0][2]
    others = tuple(kind for kind in whole if kind not in resembled)
    rest = score.average(others, score.severities) if 0 < len(others) < len(whole) else None
    if rest is not None:
        label = f"average over the {len(others)} of them that no training here resembles"
        estimate = Estimate(rest.accuracy, *rest.ci95)
        averages.append(Average(label, others, estimate, "What no training resembles"))
    return tuple(averages)


def line_view(line: Mapping[str, Any]) -> ScoreView:
    """Return what a line of a study says of a network whose answers are not at hand."""
    evaluation, kinds = mapping(line.get("evaluation")), _rows_of_kinds(line.get("kinds"))
    severities = tuple(s for s in range(1, 6) if any(row[s - 1] is not None for row in kinds.values()))
    count = line["images"] if isinstance(line.get("images"), int) else None
    facts = [("data", line.get("data")), ("split", evaluation.get("split"))]
    facts += [("images", None if count is None else f"{count:,}")]
    if kinds:
        facts += [("kinds", str(len(kinds))), ("severities", ", ".join(map(str, severities)))]
        facts += [("seed", evaluation.get("seed"))]
        if evaluation.get("spread") is True and count is not None:
            facts += [("images per severity", f"{count // 5:,}")]
    facts += [("precision", evaluation.get("precision"))]
    known = [
        (*_AVERAGE_15, BENCHMARK_15, line.get("average_15")),
        (*_AVERAGE_19, BENCHMARK_15 + EXTRA_4, line.get("average_19")),
    ]
    if known[0][3] is None:
        # Lines of earlier versions say a mean without the cells that failed, which is another average.
        whole = all(row[s - 1] is not None for s in severities for row in kinds.values())
        robust = line.get("robust") if kinds and whole else None
        known = [(_at_hand(len(kinds)), "Corrupted images", tuple(kinds), robust)]
    return ScoreView(
        name=str(line.get("name")),
        conditions=tuple((what, str(value)) for what, value in facts if value is not None),
        key=_key_of_line(line, kinds),
        images=str(line.get("fingerprint") or ""),
        clean=Estimate(line["clean"]),
        averages=tuple(
            Average(label, each, Estimate(share), title)
            for label, title, each, share in known
            if is_share(share)
        ),
        kinds={kind: tuple(row) for kind, row in kinds.items()},
        severities=severities,
        families={kind: CORRUPTIONS[kind].family for kind in kinds if kind in CORRUPTIONS},
    )


def says_as(line: Mapping[str, Any], score: Scores, *, surely: bool = False) -> bool:
    """Return whether a line of a study has the figures of these scores: clean, and in the cells of both.

    The images must be the same where both say which they have; `surely` asks that both do.
    """
    images = line.get("fingerprint")
    known = bool(images and score.pixels)
    if (known and images != score.pixels) or (surely and not known):
        return False
    clean = line.get("clean")
    if not is_share(clean) or abs(clean - score.clean) >= _SAME:
        return False
    cells = _cells_of_line(line, score)
    return all(other is None or abs(mine - other) < _SAME for mine, other in cells)


def shows_all(line: Mapping[str, Any], score: Scores) -> bool:
    """Return whether scores show all figures of a line, so that it adds nothing."""
    return says_as(line, score) and all(other is not None for _, other in _cells_of_line(line, score))


def _cells_of_line(line: Mapping[str, Any], score: Scores) -> list[tuple[float, float | None]]:
    """Return the accuracies of a line's measured cells, each with that of the scores."""
    theirs = score.kinds
    return [
        (mine, other)
        for kind, row in _rows_of_kinds(line.get("kinds")).items()
        for mine, other in zip(row, theirs.get(kind, [None] * 5), strict=True)
        if mine is not None
    ]


def denies(line: Mapping[str, Any], score: Scores) -> bool:
    """Return whether scores of the same images in the same precision have another clean accuracy."""
    alike = bool(score.pixels) and line.get("fingerprint") == score.pixels
    alike = alike and mapping(line.get("evaluation")).get("precision") == score.precision
    clean = line.get("clean")
    return alike and is_share(clean) and abs(clean - score.clean) >= _SAME


def _key_of_line(line: Mapping[str, Any], kinds: Mapping[str, Any]) -> str:
    """Return a digest of what was measured, on which images.

    Data of one name may be other images, as those of a folder. Lines of earlier versions
    tell them by their spec alone; CIFAR is the same there, wherever it lies.
    """
    kind, spec = line.get("data"), mapping(line.get("config")).get("data")
    images = line.get("fingerprint") or (spec if kind in ("planted", "folder", "npz") else None)
    cells = sorted((name, [value is not None for value in row]) for name, row in kinds.items())
    # Kinds whose bytes are of a later version than the first; lines before there were any name none.
    versions = sorted(map(str, mapping(line.get("versions")).items()))
    return sha256(f"a line of a study {kind} {images} {cells} {versions}".encode()).hexdigest()


def _rows_of_kinds(said: object) -> dict[str, list[float | None]]:
    """Return the accuracies by kind, one per severity; none at all where one of the rows is damaged."""
    kinds = dict(mapping(said))
    rows = [row if isinstance(row, list) and len(row) == 5 else ["damaged"] for row in kinds.values()]
    return kinds if all(one is None or is_share(one) for row in rows for one in row) else {}


def is_share(value: object) -> TypeGuard[float]:
    """Return whether what a file says is an accuracy, or another number in [0, 1]."""
    return isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value <= 1


def _at_hand(count: int) -> str:
    return f"average over the {count} kinds at hand" if count > 1 else "the one kind at hand"
