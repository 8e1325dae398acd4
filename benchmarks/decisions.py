"""What the protocol's rules make of its runs: the word for each sentence, and the checks beside it.

The rules are those of docs/protocol.md, "What counts" and "Analysis". Nothing is decided before all planned
seeds are there.

    python benchmarks/decisions.py          as Markdown
"""

from collections.abc import Sequence
from statistics import mean

from verdict import (
    CLAIMED,
    CONTRASTS,
    DOSE_SEEDS,
    FIGURES,
    FULL,
    NARROW,
    SHARES,
    TIE,
    Gain,
    Line,
    corrected,
    differences,
    measured,
    over,
    read,
    select,
    signed,
)

from filterbands.scores import BENCHMARK_15, FAMILIES

LEVEL = 0.05
# Seeds that the protocol plans: its runs 1, 3 and 4.
CONTROL_SEEDS, LONG_SEEDS, FULL_SEEDS = 8, 6, 1
FIFTEEN, CLEAN = "15 kinds", "clean"


def compared(lines: Sequence[Line], row: str, other: str, of: str, arch: str, epochs: int) -> Gain | None:
    """Return the difference of two rows of one network and budget."""
    return measured(select(lines, row, arch, epochs), select(lines, other, arch, epochs), of)


def of_proportion(lines: Sequence[Line]) -> tuple[str, str]:
    """Return the word for S2 and S3 and the conditions it comes from."""
    names = ("standard", "share_random")
    gains = [compared(lines, "share_low", name, FIFTEEN, NARROW, 12) for name in names]
    rows = {row: select(lines, row, NARROW, 12) for row in (*SHARES, "standard")}
    # Arms are paired by seed: the means of shares are over the seeds that all of them have.
    common = set.intersection(*(set(runs) for runs in rows.values()))
    there = [found for found in gains if found is not None]
    pairs = min((found.seeds for found in there), default=0) if len(there) == len(names) else 0
    if pairs < CONTROL_SEEDS or len(common) < DOSE_SEEDS:
        return "open", (
            f"seeds with every share: {len(common)} of {DOSE_SEEDS}; with share_low, standard and "
            f"share_random: {pairs} of {CONTROL_SEEDS}"
        )
    p = dict(zip(CONTRASTS, corrected(lines), strict=True))
    means = {row: mean(FIGURES[FIFTEEN](runs[seed]) for seed in common) for row, runs in rows.items()}
    shares = [means[row] for row in SHARES]
    holds = [
        *(
            found.mean > 0 and p["share_low", name, 12] < LEVEL
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
    return word, f"{sum(holds)} of 4 conditions hold"


def of_learning(lines: Sequence[Line]) -> tuple[str, str]:
    """Return the word for S4 and the conditions it comes from."""
    words, said = [], []
    for row in ("modulate", "modulate_eigen"):
        found = compared(lines, row, "standard", FIFTEEN, NARROW, 12)
        clean = compared(lines, row, "standard", CLEAN, NARROW, 12)
        if found is None or clean is None or found.seeds < CONTROL_SEEDS:
            return "open", f"{row}: {found.seeds if found else 0} of {CONTROL_SEEDS} seeds"
        said.append(f"{row}: {found.low:+.2f} to {found.high:+.2f}, clean {clean.low:+.2f} or more")
        words.append(2 if found.low > 1 and clean.low > -0.5 else 1 if found.low > 0 else 0)
    return ("not supported", "supported in part", "supported")[max(words)], "; ".join(said)


def of_gain(
    lines: Sequence[Line], arch: str, epochs: int, planned: int, row: str = "spectral_gain"
) -> tuple[str, str]:
    """Return the word for S5 on one network and budget, and what it comes from."""
    found = compared(lines, row, "standard", FIFTEEN, arch, epochs)
    clean = compared(lines, row, "standard", CLEAN, arch, epochs)
    if found is None or clean is None or found.seeds < planned:
        return "open", f"{found.seeds if found else 0} of {planned} seeds"
    one, other = (select(lines, name, arch, epochs) for name in (row, "standard"))
    relative = mean(
        100 * (one[seed]["average_15"] / other[seed]["average_15"] - 1) for seed in one.keys() & other.keys()
    )
    said = (
        f"{found.mean:+.2f} points ({found.low:+.2f} to {found.high:+.2f}), {relative:+.2f} % relative, "
        f"clean {clean.mean:+.2f} ({clean.low:+.2f} to {clean.high:+.2f})"
        f"{', one seed, over images' if found.seeds == 1 else ''}"
    )
    if found.low <= 0:
        return "not supported", said
    return ("supported" if found.high >= CLAIMED and clean.low > -0.5 else "supported in part"), said


def table(lines: Sequence[Line]) -> str:
    """Return the word for each sentence as Markdown; none where the positive control does not hold."""
    full = next((epochs for epochs in (12, 6) if select(lines, "spectral_gain", FULL, epochs)), 12)
    rows = (
        ("S2, S3", of_proportion(lines)),
        ("S4", of_learning(lines)),
        (f"S5, {FULL}, {full} epochs", of_gain(lines, FULL, full, FULL_SEEDS)),
        (f"S5, {NARROW}, 40 epochs", of_gain(lines, NARROW, 40, LONG_SEEDS)),
        (f"S5, {FULL}, {full} epochs, `spectral`", of_gain(lines, FULL, full, FULL_SEEDS, "spectral")),
        (f"S5, {NARROW}, 40 epochs, `spectral`", of_gain(lines, NARROW, 40, LONG_SEEDS, "spectral")),
    )
    if positive_control(lines)[1] is False:
        rows = tuple((name, ("not read", "the positive control does not hold")) for name, _ in rows)
    text = ["| sentence | word | from |", "|---|---|---|"]
    return "\n".join([*text, *(f"| {name} | {word} | {said} |" for name, (word, said) in rows)])


def simple_noise(lines: Sequence[Line]) -> str:
    """Return whether `spectral` is better than the simple thing, Gaussian noise, by the planned contrast."""
    contrast = ("spectral", "gaussian_matched", 40)
    found = compared(lines, *contrast[:2], FIFTEEN, NARROW, 40)
    if found is None or found.seeds < LONG_SEEDS:
        return f"`spectral` against Gaussian noise: {found.seeds if found else 0} of {LONG_SEEDS} seeds."
    better = found.mean >= TIE and dict(zip(CONTRASTS, corrected(lines), strict=True))[contrast] < LEVEL
    said = f"{found.mean:+.2f} points ({found.low:+.2f} to {found.high:+.2f}), {found.seeds} seeds"
    return (
        f"`spectral` against Gaussian noise: {'better' if better else 'simple noise does as well'}, {said}."
    )


def positive_control(lines: Sequence[Line]) -> tuple[str, bool | None]:
    """Return whether Gaussian noise shows its known pattern at 40 epochs, on which all else depends.

    None, and no word, while seeds are missing.
    """
    pair = [select(lines, row, NARROW, 40) for row in ("gaussian_matched", "standard")]
    seeds = sorted(pair[0].keys() & pair[1].keys())
    if len(seeds) < LONG_SEEDS:
        return f"Positive control: {len(seeds)} of {LONG_SEEDS} seeds.", None
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
    return (
        f"At equal clean accuracy, on the line from `standard` to `{costly}`: `{cheap}` {signed(gains)} "
        f"points over the 15 kinds ({len(seeds)} seeds)."
    )


def checks(lines: Sequence[Line]) -> str:
    """Return the positive control and the comparisons with Gaussian noise."""
    return "\n\n".join([positive_control(lines)[0], simple_noise(lines), at_equal_clean(lines)])


def main() -> None:
    """Print all of it."""
    lines = read()
    print(f"{table(lines)}\n\n{checks(lines)}")


if __name__ == "__main__":
    main()
