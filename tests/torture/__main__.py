"""`python -m tests.torture --seconds 3600 --seed 0`: every attack, one table, and the inputs of failures."""

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from threading import Condition
from typing import Any, NamedTuple

import torch

from filterbands.engine import device_name
from filterbands.version import __version__, git_revision

from . import killed, malformed, pages, places, races, sameness
from .stock import Stock

Attack = Callable[[Stock, Path, int, int], Generator[str, None, None]]

FULL = 3600
"""Seconds of the whole run on two cores."""


class Row(NamedTuple):
    """An attack, its tries in the whole run, and the fewest of a shorter one."""

    attack: Attack
    tries: int
    fewest: int


ATTACKS: dict[str, Row] = {
    "malformed inputs, in one process": Row(malformed.in_process, 4560, 12),
    "malformed inputs, as commands": Row(malformed.as_commands, 156, 4),
    "SIGKILL, SIGINT, SIGTERM at random moments": Row(killed.attack, 100, 4),
    "two processes at once": Row(races.attack, 30, 2),
    "full and read-only disks": Row(places.disks, 60, 2),
    "devices, pipes and links as outputs": Row(places.outputs, 50, 3),
    "other batches, orders, threads, workers, dtypes": Row(sameness.attack, 36, 3),
    "hostile names in Chromium": Row(pages.attack, 17, 1),
}


@dataclass
class Going:
    """An attack that goes on, one try at a time."""

    name: str
    left: Generator[str, None, None]
    planned: int
    fewest: int
    tries: int = 0
    seconds: float = 0
    failures: list[str] = field(default_factory=list)
    is_done: bool = False

    def once(self) -> None:
        """Let the next try be made."""
        began = time.monotonic()
        told = next(self.left, None)
        self.seconds += time.monotonic() - began
        self.is_done = told is None
        self.tries += not self.is_done
        if told:
            self.failures.append(told)
            print(f"{self.name}: {told}", file=sys.stderr, flush=True)


def run_all(attacks: Sequence[Going], end: float, *, at_once: int = 2) -> None:
    """Make tries, first of the attack of which the smallest part is done, until the time is over."""
    turn, waiting, free = Condition(), list[Going](), at_once

    def is_next(one: Going) -> bool:
        return free > 0 and one is min(waiting, key=lambda other: other.tries / other.planned)

    def drive(one: Going) -> None:
        nonlocal free
        while not one.is_done and (one.tries < one.fewest or time.monotonic() < end):
            with turn:
                waiting.append(one)
                turn.wait_for(lambda: is_next(one))
                waiting.remove(one)
                free -= 1
                turn.notify_all()
            try:
                one.once()
            finally:
                with turn:
                    free += 1
                    turn.notify_all()
        one.left.close()

    # A thread for each, since a browser answers only the one that opened it.
    with ThreadPoolExecutor(max(1, len(attacks))) as pool:
        for driven in [pool.submit(drive, one) for one in attacks]:
            driven.result()


def main() -> int:
    """Run the attacks, print the table, and return 1 where anything failed."""
    parser = argparse.ArgumentParser(prog="tests.torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=FULL, help="budget; the tries are in proportion")
    parser.add_argument("--at-most", type=float, help="seconds after which no try begins; the budget")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a part of the names of attacks")
    parser.add_argument("--out", type=Path, help="JSON file of runs to which the figures are added")
    parser.add_argument("--keep", type=Path, help="folder for the inputs of failures; a temporary one")
    options = parser.parse_args()
    # Whoever starts this in the background of a shell lets it, and thus all commands, ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work = options.keep or Path(tempfile.mkdtemp(prefix="filterbands-torture-"))
    (work / "stock").mkdir(parents=True)
    stock = Stock(work / "stock")
    began, share = time.monotonic(), options.seconds / FULL
    attacks = []
    for name, row in ATTACKS.items():
        if options.only in name:
            place, planned = work / name.replace(",", "").replace(" ", "-"), round(row.tries * share)
            place.mkdir()
            planned = max(row.fewest, planned)
            left = row.attack(stock, place, options.seed, planned)
            attacks.append(Going(name, left, planned, row.fewest))
    run_all(attacks, began + (options.at_most or options.seconds))
    facts = _facts(options.seconds, options.seed, time.monotonic() - began)
    rows = [
        {"name": one.name, "tries": one.tries, "failures": len(one.failures), "seconds": round(one.seconds)}
        for one in attacks
    ]
    print("| attack | tries | failures | seconds |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['name']} | {row['tries'] or 'not run'} | {row['failures']} | {row['seconds']} |")
    print("\n" + "; ".join(f"{name} {value}" for name, value in facts.items()))
    if options.out is not None:
        before = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else []
        options.out.write_text(
            json.dumps([*before, {**facts, "attacks": rows}], indent=1) + "\n", encoding="utf-8"
        )
    failed = any(one.failures for one in attacks)
    if failed:
        print(f"the inputs of failures are in {work}")
    elif options.keep is None:
        shutil.rmtree(work)
    return int(failed)


def _facts(budget: float, seed: int, seconds: float) -> dict[str, Any]:
    """Return when, of what and on what the figures are."""
    return {
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "filterbands": __version__,
        "git": git_revision(),
        "budget": budget,
        "seed": seed,
        "minutes": round(seconds / 60),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "processor": device_name(torch.device("cpu")),
    }


if __name__ == "__main__":
    sys.exit(main())
