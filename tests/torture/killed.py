"""Processes that end at a random moment; the same command afterwards gives what it gives undisturbed."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

from .running import command, environment
from .stock import Stock
from .verbs import VERBS, leftovers

# On a machine that does much else; a hang is forever.
_ENDING = 180
_SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)


def attack(stock: Stock, work: Path, seed: int, tries: int) -> Generator[str, None, None]:
    """Yield what is wrong with each try, or nothing."""
    whole: dict[str, tuple[float, str]] = {}
    for number in range(tries):
        name = list(VERBS)[(number + seed) % len(VERBS)]
        rng, verb = random.Random(f"{seed} {number}"), VERBS[name]
        if name not in whole:
            place = work / f"whole-{name}"
            place.mkdir()
            began = time.monotonic()
            answer = command(*verb.words(stock, place), folder=place)
            if answer.code:
                yield f"{name}: undisturbed it gives {answer.code}: {answer.err[-300:]}"
                continue
            whole[name] = (time.monotonic() - began, verb.result(place, answer))
        yield _once(name, rng, stock, work / f"{number:05d}", *whole[name])


def _once(name: str, rng: random.Random, stock: Stock, place: Path, seconds: float, expected: str) -> str:
    verb, number = VERBS[name], rng.choice(_SIGNALS)
    place.mkdir()
    words = verb.words(stock, place)
    # Half of the moments are in the second half, since imports take most of the first.
    moment = seconds * (rng.random() if rng.random() < 0.5 else 0.5 + 0.5 * rng.random())
    with (place / "told").open("wb") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "filterbands", *words],
            cwd=place,
            env=environment(),
            stdout=told,
            stderr=told,
        )
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        try:
            code = process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return f"{name}: {number.name} at {moment:.2f} s did not end it in {_ENDING} s"
    where = f"{name}: {number.name} at {moment:.2f} of {seconds:.2f} s"
    said = (place / "told").read_text(errors="replace")
    # Before our first line Python itself tells of Ctrl-C.
    is_early = "KeyboardInterrupt" in said and "filterbands" not in said
    if "Traceback" in said and not is_early:
        return f"{where}: {said[-300:]}"
    if code not in (0, 130, -number) and not is_early:
        return f"{where}: exit {code}: {said[-300:]}"
    begun = verb.again and (place / "run" / "run.json").exists()
    answer = command(*words, *(verb.again if begun else ()), folder=place)
    if answer.code:
        return f"{where}: then exit {answer.code}: {answer.err[-300:]}"
    if (found := verb.result(place, answer)) != expected:
        return f"{where}: another result, {found[:200]} and not {expected[:200]}"
    if left := leftovers(place):
        return f"{where}: left {', '.join(left)}"
    shutil.rmtree(place)
    return ""
