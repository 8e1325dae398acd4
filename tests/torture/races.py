"""Two processes with the same command at once: no result is lost, and none is another."""

import random
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

from .running import Answer, command, environment, fault
from .stock import Stock
from .verbs import VERBS, leftovers


def attack(stock: Stock, work: Path, seed: int, tries: int) -> Generator[str, None, None]:
    """Yield what is wrong with each try, or nothing."""
    whole: dict[str, str] = {}
    for number in range(tries):
        name = list(VERBS)[(number + seed) % len(VERBS)]
        rng, verb, place = random.Random(f"{seed} {number}"), VERBS[name], work / f"{number:05d}"
        place.mkdir()
        words = verb.words(stock, place)
        processes = []
        for _ in range(2):
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "filterbands", *words],
                    cwd=place,
                    env=environment(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            time.sleep(rng.choice((0, 0.1, 0.5)))
        answers = []
        for process in processes:
            try:
                out, err = process.communicate(timeout=300)
                answers.append(Answer(process.returncode, err, out))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                answers.append(Answer(None, "did not end in 300 s"))
        told = next(filter(None, map(fault, answers)), "")
        done = [answer for answer in answers if answer.code == 0]
        if not told and not done:
            told = f"nobody did it: {answers[0].err[-300:]}"
        if not told and name == "train" and len(done) == 2:
            told = "both trained in one folder"
        if not told:
            if name not in whole:
                alone = work / f"whole-{name}"
                alone.mkdir()
                whole[name] = verb.result(alone, command(*verb.words(stock, alone), folder=alone))
            found = {verb.result(place, answer) for answer in done}
            if found != {whole[name]}:
                told = f"another result: {sorted(found)!s:.300}, and not {whole[name]:.300}"
        if not told and (left := leftovers(place)):
            told = f"left {', '.join(left)}"
        yield f"{name}: {told}" if told else ""
