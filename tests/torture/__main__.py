"""`python -m tests.torture --seconds 3600 --seed 0`: every attack, one table, and the inputs of failures."""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from . import killed, malformed, pages, places, races, sameness
from .inputs import Stock

Attack = Callable[[Stock, Path, int, int], Iterator[str]]

FULL = 3600
"""Seconds of the whole run on two cores."""


class Row(NamedTuple):
    """An attack, its tries in the whole run, and the fewest of a shorter one."""

    attack: Attack
    tries: int
    fewest: int


# The longest first, since two run at once.
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


class Found(NamedTuple):
    """What an attack found."""

    tries: int
    seconds: float
    failures: list[str]


def main() -> int:
    """Run the attacks, print the table, and return 1 where anything failed."""
    parser = argparse.ArgumentParser(prog="tests.torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=FULL, help="budget; the tries are in proportion")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a part of the names of attacks")
    parser.add_argument("--keep", type=Path, help="folder for the inputs of failures; a temporary one")
    options = parser.parse_args()
    work = options.keep or Path(tempfile.mkdtemp(prefix="filterbands-torture-"))
    (work / "stock").mkdir(parents=True)
    stock = Stock(work / "stock")
    end = time.monotonic() + options.seconds
    share = options.seconds / FULL
    chosen = {name: row for name, row in ATTACKS.items() if options.only in name}

    def run(name: str) -> Found:
        row, place = chosen[name], work / name.replace(",", "").replace(" ", "-")
        place.mkdir()
        began, tries, failures = time.monotonic(), 0, []
        for told in row.attack(stock, place, options.seed, max(row.fewest, round(row.tries * share))):
            tries += 1
            if told:
                failures.append(told)
                print(f"{name}: {told}", file=sys.stderr, flush=True)
            if time.monotonic() > end and tries >= row.fewest:
                break
        return Found(tries, time.monotonic() - began, failures)

    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(chosen, pool.map(run, chosen), strict=True))
    print("| attack | tries | failures | seconds |\n|---|---|---|---|")
    for name, one in found.items():
        print(f"| {name} | {one.tries or 'not run'} | {len(one.failures)} | {one.seconds:.0f} |")
    failed = any(one.failures for one in found.values())
    if failed:
        print(f"the inputs of failures are in {work}")
    elif options.keep is None:
        shutil.rmtree(work)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
