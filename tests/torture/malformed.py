"""The attack by malformed inputs, in one process and as commands."""

import json
import random
import shutil
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

from .inputs import CANARY, CHECKS, KINDS, Stock
from .running import Answer, Child, command, fault

# Seconds that reading a small malformed input may take, on a machine that does other things too.
SLOW = 120.0


def in_process(stock: Stock, work: Path, seed: int, tries: int) -> Generator[str, None, None]:
    """Yield what is wrong with each try, or nothing; inputs of failures stay in `work`."""
    child = Child(timeout=SLOW)
    try:
        yield from _attack(stock, work, seed, tries, lambda words, folder: child.run(words, folder))
    finally:
        child.close()


def as_commands(stock: Stock, work: Path, seed: int, tries: int) -> Generator[str, None, None]:
    """Yield as `in_process`, of commands."""
    yield from _attack(stock, work, seed, tries, lambda words, folder: command(*words, folder=folder))


def _attack(
    stock: Stock, work: Path, seed: int, tries: int, run: Callable[[list[str], Path], Answer]
) -> Generator[str, None, None]:
    names = list(KINDS)
    for number in range(tries):
        name = names[(number + seed) % len(names)]
        rng = random.Random(f"{seed} {name} {number}")
        folder = _made(work / f"{number:05d}")
        lines = KINDS[name](rng, stock, folder)
        faults = []
        for words in lines:
            began = time.monotonic()
            answer = run(words, folder)
            told = fault(answer)
            if not told and not answer.code and name in CHECKS:
                told = CHECKS[name](stock, words, answer.out, partial(_printed, run, folder))
            if not told and (seconds := time.monotonic() - began) > SLOW:
                told = f"took {seconds:.0f} s"
            if not told and (folder / CANARY).exists():
                told = "code of the file was run"
            if told:
                faults.append(f"{name}: {' '.join(words)}\n    {told}")
        if faults:
            (folder / "failure.json").write_text(json.dumps({"lines": lines, "told": faults}, indent=1))
        else:
            shutil.rmtree(folder)
        yield "\n".join(faults)


def _printed(run: Callable[[list[str], Path], Answer], folder: Path, words: list[str]) -> str:
    return run(words, folder).out


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
