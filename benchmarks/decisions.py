"""What the protocol's rules make of its runs: the word for each sentence, and the checks beside it.

The rules are those of docs/protocol.md, "What counts" and "Analysis". Nothing is decided before all planned
seeds are there, or C-bar is opened, after which no run follows.

    python benchmarks/decisions.py          as Markdown
"""

import json
from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

from planned import grouped, pairs, planned, run_of, seeds_of
from verdict import (
    BUDGETS,
    CLAIMED,
    CONTRASTS,
    DOSE_SEEDS,
    FIGURES,
    FULL,
    NARROW,
    RESULTS,
    SHARES,
    TIE,
    Gain,
    Line,
    corrected,
    differences,
    inferiority,
    is_enough,
    is_tie,
    measured,
    over,
    read,
    select,
    shown,
    signed,
)

from filterbands.scores import BENCHMARK_15, FAMILIES

LEVEL = 0.05
FIFTEEN, CLEAN = "15 kinds", "clean"


class Word(NamedTuple):
    """What the rules say of a sentence, and what it comes from."""

    word: str
    said: str


def compared(lines: Sequence[Line], row: str, other: str, of: str, arch: str, epochs: int) -> Gain | None:
    """Return the difference of two rows of one network and budget."""
    return measured(select(lines, row, arch, epochs), select(lines, other, arch, epochs), of)


def of_proportion(lines: Sequence[Line]) -> Word:
    """Return the word for S2 and S3 and the conditions it comes from."""
    names = ("standard", "share_random")
    wanted = min(pairs("share_low", name, NARROW, 12) for name in names)
    gains = [compared(lines, "share_low", name, FIFTEEN, NARROW, 12) for name in names]
    rows = {row: select(lines, row, NARROW, 12) for row in (*SHARES, "standard")}
    # Arms are paired by seed: the means of shares are over the seeds that all of them have.
    common = set.intersection(*(set(runs) for runs in rows.values()))
    there = [found for found in gains if found is not None]
    both = min((found.seeds for found in there), default=0) if len(there) == len(names) else 0
    seeds = (
        f"seeds with every share: {len(common)} of {DOSE_SEEDS}; with share_low, standard and "
        f"share_random: {both} of {wanted}"
    )
    if not (is_enough(lines, both, wanted) and is_enough(lines, len(common), DOSE_SEEDS)):
        return Word("open", seeds)
    p = dict(zip(CONTRASTS, corrected(lines, whole=True), strict=True))
    means = {row: mean(FIGURES[FIFTEEN](runs[seed]) for seed in common) for row, runs in rows.items()}
    shares = [means[row] for row in SHARES]
    holds = [
        *(
            found.mean > 0 and not is_tie(found.mean) and p["share_low", name, 12] < LEVEL
            for name, found in zip(names, there, strict=True)
        ),
        means["standard"] - means["share_0"] > 2,
        max(shares) - min(shares) >= 5,
    ]
    first = there[0]
    if first.low <= 0 <= first.high or max(abs(first.low), abs(first.high)) < 1:
        word = "not supported"
    else:
        word = "supported" if all(holds) else "supported in part" if any(holds) else "not supported"
    return Word(word, f"{sum(holds)} of 4 conditions hold; {seeds}")


def of_learning(lines: Sequence[Line]) -> Word:
    """Return the word for S4 and the conditions it comes from."""
    words, said = [], []
    for row in ("modulate", "modulate_eigen"):
        found = compared(lines, row, "standard", FIFTEEN, NARROW, 12)
        clean = compared(lines, row, "standard", CLEAN, NARROW, 12)
        wanted = pairs(row, "standard", NARROW, 12)
        if found is None or clean is None or not is_enough(lines, found.seeds, wanted):
            said.append(f"{row}: {found.seeds if found else 0} of {wanted} seeds")
            words.append(None)
            continue
        said.append(
            f"{row}: {shown(found)}, clean {shown(clean)}, non-inferior at {inferiority(clean)}, "
            f"{found.seeds} seeds"
        )
        words.append(2 if found.low > 1 and clean.low > -0.5 else 1 if found.low > 0 else 0)
    # Either row suffices to support the sentence, and both are needed to say less.
    best = max((one for one in words if one is not None), default=0)
    if None in words and best < 2:
        return Word("open", "; ".join(said))
    return Word(("not supported", "supported in part", "supported")[best], "; ".join(said))


def of_gain(lines: Sequence[Line], arch: str, epochs: int, row: str = "spectral_gain") -> Word:
    """Return the word for S5 on one network and budget, and what it comes from."""
    found = compared(lines, row, "standard", FIFTEEN, arch, epochs)
    clean = compared(lines, row, "standard", CLEAN, arch, epochs)
    wanted = pairs(row, "standard", arch, epochs)
    if found is None or clean is None or not is_enough(lines, found.seeds, wanted):
        return Word("open", f"{found.seeds if found else 0} of {wanted} seeds")
    one, other = (select(lines, name, arch, epochs) for name in (row, "standard"))
    relative = mean(
        100 * (one[seed]["average_15"] / other[seed]["average_15"] - 1) for seed in one.keys() & other.keys()
    )
    said = (
        f"{shown(found)} points, {relative:+.2f} % relative, clean {shown(clean)}, non-inferior at "
        f"{inferiority(clean)}; {'one seed, over images' if found.seeds == 1 else f'{found.seeds} seeds'}"
    )
    if found.low <= 0:
        return Word("not supported", said)
    return Word("supported" if found.high >= CLAIMED and clean.low > -0.5 else "supported in part", said)


def of_full(lines: Sequence[Line], row: str) -> tuple[int, Word]:
    """Return the epochs and the word for S5 at full width: of 12 epochs, or of 6 while 12 are not there."""
    found = {epochs: of_gain(lines, FULL, epochs, row) for epochs in (12, 6)}
    return next(((epochs, one) for epochs, one in found.items() if one.word != "open"), (6, found[6]))


def words(lines: Sequence[Line]) -> dict[str, Word]:
    """Return the word for each sentence by its name; none where the positive control does not hold."""
    found = {"S2, S3": of_proportion(lines), "S4": of_learning(lines)}
    for row, mark in (("spectral_gain", ""), ("spectral", ", `spectral`")):
        epochs, word = of_full(lines, row)
        found[f"S5, {FULL}, {epochs} epochs{mark}"] = word
        found[f"S5, {NARROW}, 40 epochs{mark}"] = of_gain(lines, NARROW, 40, row)
    holds = positive_control(lines)[1]
    if holds is False:
        return {name: Word("not read", "the positive control does not hold") for name in found}
    if holds is None:
        return {
            name: word
            if word.word == "open"
            else Word(word.word, f"{word.said}; the positive control was not run yet")
            for name, word in found.items()
        }
    return found


def table(lines: Sequence[Line]) -> str:
    """Return the word for each sentence as Markdown."""
    text = ["| sentence | word | from |", "|---|---|---|"]
    return "\n".join(
        [*text, *(f"| {name} | {word} | {said} |" for name, (word, said) in words(lines).items())]
    )


def word_of(lines: Sequence[Line], sentence: str) -> str:
    """Return the word for `S2`, `S4`, `S5-full` or `S5-narrow`, the rows without noise."""
    starts = {"S5-full": f"S5, {FULL},", "S5-narrow": f"S5, {NARROW},"}
    return next(
        found.word
        for name, found in words(lines).items()
        if name.startswith(starts.get(sentence, sentence)) and "`" not in name
    )


def guarded(lines: Sequence[Line], text: str) -> str:
    """Return a table, under a warning where the positive control does not hold."""
    if positive_control(lines)[1] is not False:
        return text
    return f"**The positive control does not hold: the pipeline is at fault; nothing is read.**\n\n{text}"


def not_run(lines: Sequence[Line]) -> str:
    """Return the planned runs that have no line, and those that failed, as Markdown."""
    file = RESULTS / "protocol.jsonl"
    every = [json.loads(text) for text in file.read_text().splitlines()] if file.exists() else []
    failed = grouped(run_of(line) for line in every if line.get("failed"))
    there = {run_of(line) for line in [*lines, *(line for line in every if line.get("failed"))]}
    left = grouped(run for run in planned() if run not in there)
    text = ["| network | epochs | row and seeds |", "|---|---|---|"]
    for arch, epochs in BUDGETS:
        for found, word in ((left, ""), (failed, "failed: ")):
            rows = found.get((arch, epochs), {})
            if rows:
                said = "; ".join(f"`{row}` {seeds_of(seeds)}" for row, seeds in rows.items())
                text.append(f"| {arch} | {epochs} | {word}{said} |")
    return "\n".join(text) if len(text) > 2 else "All planned runs are there."


def simple_noise(lines: Sequence[Line]) -> str:
    """Return whether `spectral` is better than the simple thing, Gaussian noise, by the planned contrast."""
    contrast = ("spectral", "gaussian_matched", 40)
    found = compared(lines, *contrast[:2], FIFTEEN, NARROW, 40)
    wanted = pairs(*contrast[:2], NARROW, 40)
    if found is None or not is_enough(lines, found.seeds, wanted):
        return f"`spectral` against Gaussian noise: {found.seeds if found else 0} of {wanted} seeds."
    p = dict(zip(CONTRASTS, corrected(lines, whole=True), strict=True))[contrast]
    better = found.mean > 0 and not is_tie(found.mean) and p < LEVEL
    said = f"{found.mean:+.2f} points ({found.low:+.2f} to {found.high:+.2f}), {found.seeds} seeds"
    return (
        f"`spectral` against Gaussian noise: {'better' if better else 'simple noise does as well'}, {said}."
    )


def positive_control(lines: Sequence[Line]) -> tuple[str, bool | None]:
    """Return whether Gaussian noise shows its known pattern at 40 epochs, on which all else depends.

    None, and no word, while seeds are missing.
    """
    names = ("gaussian_matched", "standard")
    pair = [select(lines, row, NARROW, 40) for row in names]
    seeds = sorted(pair[0].keys() & pair[1].keys())
    if not is_enough(lines, len(seeds), wanted := pairs(*names, NARROW, 40)):
        return f"Positive control: {len(seeds)} of {wanted} seeds.", None
    by_family = {name: mean(differences(*pair, FIGURES[name])) for name in FAMILIES}
    by_kind = {kind: mean(differences(*pair, over([kind]))) for kind in BENCHMARK_15}
    most = max(by_family, key=lambda name: by_family[name])
    least = sorted(by_kind, key=lambda kind: by_kind[kind])[:2]
    holds = most == "noise" and (
        set(least) == {"fog", "contrast"} or max(by_kind["fog"], by_kind["contrast"]) < 0
    )
    figures = ", ".join(f"{name} {value:+.2f}" for name, value in by_family.items())
    return (
        f"Positive control {'holds' if holds else 'does not hold'}: `gaussian_matched` gains {figures}; fog "
        f"{by_kind['fog']:+.2f}, contrast {by_kind['contrast']:+.2f} points ({len(seeds)} seeds)."
    ), holds


def at_equal_clean(lines: Sequence[Line]) -> str:
    """Return `spectral` and `gaussian_matched` at equal clean accuracy, where theirs differ by over 0.3."""
    rows = {name: select(lines, name, NARROW, 40) for name in ("spectral", "gaussian_matched", "standard")}
    seeds = sorted(set.intersection(*(set(runs) for runs in rows.values())))
    if not seeds:
        return "At equal clean accuracy: not run."
    of = {
        name: [(FIGURES[CLEAN](runs[seed]), FIGURES[FIFTEEN](runs[seed])) for seed in seeds]
        for name, runs in rows.items()
    }
    clean = {name: mean(value for value, _ in of[name]) for name in of}
    difference = clean["spectral"] - clean["gaussian_matched"]
    if abs(difference) <= TIE:
        return f"At equal clean accuracy: they differ by {difference:+.2f} points of it, so as they are."
    costly, cheap = sorted(("spectral", "gaussian_matched"), key=lambda name: clean[name])
    if clean[costly] >= clean["standard"]:
        return f"At equal clean accuracy: not possible, `{costly}` loses no clean accuracy."
    part = (clean["standard"] - clean[cheap]) / (clean["standard"] - clean[costly])
    if not 0 <= part <= 1:
        return f"At equal clean accuracy: not possible, `{cheap}` lies beyond the line."
    # The part is a ratio of two measured losses: what a seed moves it counts in the interval (delta method).
    robust = {name: mean(value for _, value in of[name]) for name in of}
    slope = (robust[costly] - robust["standard"]) / (clean["standard"] - clean[costly])
    gains = []
    for (at, own), (dear_at, dear), (free_at, free) in zip(
        of[cheap], of[costly], of["standard"], strict=True
    ):
        moved = (free_at - at) - part * (free_at - dear_at)
        gains.append(own - (free + part * (dear - free)) - slope * moved)
    tie = ", a tie" if is_tie(mean(gains)) else ""
    return (
        f"At equal clean accuracy, on the line from `standard` to `{costly}`: `{cheap}` {signed(gains)} "
        f"points over the 15 kinds{tie} ({'one seed' if len(seeds) == 1 else f'{len(seeds)} seeds'})."
    )


def checks(lines: Sequence[Line]) -> str:
    """Return the positive control and, unless it fails, the comparisons with Gaussian noise."""
    said, holds = positive_control(lines)
    return said if holds is False else "\n\n".join([said, simple_noise(lines), at_equal_clean(lines)])


def main() -> None:
    """Print all of it."""
    lines = read()
    print(f"{table(lines)}\n\n{checks(lines)}\n\n{not_run(lines)}")


if __name__ == "__main__":
    main()
