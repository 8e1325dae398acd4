"""Outputs on devices, pipes and links, on a full disk and on one that cannot be written."""

import os
import random
import shutil
import stat
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from .running import Answer, command, fault
from .stock import Stock
from .verbs import VERBS

# What each verb writes, in its place.
_OUTPUTS = {
    "train": "run/log.jsonl",
    "evaluate": "r.db",
    "corrupt": "c/contrast.npy",
    "study": "study/runs.jsonl",
    "bake": "w.safetensors",
    "shrink": "w.safetensors",
    "probe": "r.db",
    "report": "r.html",
    "results": "t.csv",
    "analyze": "r.html",
}


def outputs(stock: Stock, work: Path, seed: int, tries: int) -> Generator[str, None, None]:
    """Let outputs be private devices, pipes, sockets and links; what was there must be there afterwards."""
    kinds = ("pipe", "device", "link to a pipe", "link to nothing", "link out")
    for number in range(tries):
        name = list(_OUTPUTS)[(number + seed) % len(_OUTPUTS)]
        kind = kinds[(number // len(_OUTPUTS)) % len(kinds)]
        place = work / f"{number:05d}"
        target = place / _OUTPUTS[name]
        target.parent.mkdir(parents=True)
        outside = place.with_name(f"{place.name}-outside")
        if kind == "pipe":
            os.mkfifo(target)
        elif kind == "device":
            try:
                os.mknod(target, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
            except OSError:
                continue
        else:
            if kind == "link to a pipe":
                os.mkfifo(outside)
            elif kind == "link out":
                outside.write_text("kept")
            target.symlink_to(outside)
        before = target.lstat()
        answer = command(*VERBS[name].words(stock, place), folder=place, timeout=300)
        told = fault(answer)
        inside = target.parent != place
        if not told and (kind != "link out" or inside) and answer.code != 2:
            told = f"exit {answer.code}"
        if not told and not os.path.samestat(before, target.lstat()):
            told = "it was replaced"
        if not told and kind == "link out" and inside and outside.read_text() != "kept":
            told = "what the link leads to was replaced"
        yield f"{name} on a {kind}: {told}" if told else ""


def disks(stock: Stock, work: Path, seed: int, tries: int) -> Generator[str, None, None]:
    """Let a small disk run full at some point, and repeat on a larger one; then one that is read-only."""
    for number in range(tries):
        name = list(VERBS)[(number + seed) % len(VERBS)]
        rng, place = random.Random(f"{seed} {number}"), work / f"{number:05d}"
        place.mkdir()
        # From nothing left to enough.
        size = rng.choice((0, 1, 3, 10, 40, 200, 800))
        with _mounted(place) as is_mounted:
            if not is_mounted:
                return
            told = _filled(name, stock, place, size)
        yield f"{name} with {size} KiB left: {told}" if told else ""


def _filled(name: str, stock: Stock, place: Path, size: int) -> str:
    verb = VERBS[name]
    words = verb.words(stock, place)
    filler = place / "filler"
    with filler.open("wb") as stream:
        left = shutil.disk_usage(place).free - size * 1024
        stream.write(bytes(max(left, 0)))
    answer = command(*words, folder=stock.folder, timeout=300)
    if told := fault(answer) or _wrong(answer):
        return told
    filler.unlink()
    begun = verb.again and (place / "run" / "run.json").exists()
    second = command(*words, *(verb.again if begun else ()), folder=stock.folder, timeout=300)
    if second.code:
        return f"with room again, exit {second.code}: {second.err[-300:]}"
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    third = command(*words, *verb.again, folder=stock.folder, timeout=300)
    if third.code not in (0, 2):
        return f"read-only: exit {third.code}: {third.err[-300:]}"
    return fault(third)


def _wrong(answer: Answer) -> str:
    words = ("space", "full", "needs", "cannot write", "cannot be written", "cannot be used", "disk")
    if answer.code == 2 and not any(word in answer.err for word in words):
        return f"it does not tell of the disk: {answer.err[-300:]}"
    return ""


@contextmanager
def _mounted(place: Path) -> Iterator[bool]:
    """Mount a small disk in memory; yield whether that is allowed."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], check=False, capture_output=True
    )
    try:
        yield not done.returncode
    finally:
        if not done.returncode:
            subprocess.run(["umount", place], check=False)
