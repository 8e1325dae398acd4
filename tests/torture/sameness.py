"""Results over batch size, order, threads, workers and default dtype: the same to the bit."""

import hashlib
import random
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

from .running import command, environment, fault
from .stock import Stock
from .verbs import VERBS

_CODE = """
import hashlib, sys, torch
torch.set_num_threads(int(sys.argv[2]))
torch.set_default_dtype(getattr(torch, sys.argv[1]))
import filterbands as fb
digest = hashlib.sha256()
images = torch.arange(6 * 3 * 32 * 32).mul(7919).remainder(256).to(torch.uint8).reshape(6, 3, 32, 32)
for kind in list(fb.CORRUPTIONS)[:19]:
    if kind != "frost":
        for start in range(0, 6, int(sys.argv[3])):
            part = slice(start, start + int(sys.argv[3]))
            index = torch.arange(6)[part]
            digest.update(fb.corrupt(images[part], kind, severity=3, seed=1, index=index).numpy().tobytes())
data = fb.load_data("planted")
digest.update(data.images[:200].numpy().tobytes())
print(digest.hexdigest())
"""


def attack(stock: Stock, work: Path, seed: int, tries: int) -> Generator[str, None, None]:
    """Yield what differs in each try, or nothing."""
    first: dict[str, str] = {}
    for number in range(tries):
        rng, place = random.Random(f"{seed} {number}"), work / f"{number:05d}"
        place.mkdir()
        threads = rng.choice(("1", "2"))
        way = ("evaluate", "corrupt", "images")[number % 3]
        if way == "images":
            dtype, batch = rng.choice(("float32", "float64", "bfloat16")), rng.choice(("1", "2", "6"))
            given = f"default {dtype}, {threads} threads, batches of {batch}"
            done = subprocess.run(
                [sys.executable, "-c", _CODE, dtype, threads, batch],
                env=environment(OMP_NUM_THREADS=threads),
                capture_output=True,
                text=True,
                check=False,
            )
            told, found = done.stderr[-300:] if done.returncode else "", done.stdout
        else:
            words = VERBS[way].words(stock, place)
            if way == "evaluate":
                kinds = ["contrast", "brightness", "pixelate"]
                rng.shuffle(kinds)
                more = [
                    "--batch-size",
                    rng.choice(("1", "7", "32", "500")),
                    "--workers",
                    rng.choice(("1", "2")),
                ]
                more += ["--threads", threads]
                words[words.index("--kinds") + 1] = ",".join(kinds)
            else:
                words[words.index("--workers") + 1] = rng.choice(("1", "2", "3"))
                more = ["--batch-size", rng.choice(("0", "1", "5", "64"))]
            answer = command(*words, *more, folder=place, OMP_NUM_THREADS=threads)
            given = " ".join(words[2:] + more)
            told = fault(answer) or (f"exit {answer.code}: {answer.err[-300:]}" if answer.code else "")
            found = "" if told else VERBS[way].result(place, answer)
        found = hashlib.sha256(found.encode()).hexdigest()
        if not told and first.setdefault(way, found) != found:
            told = "another result"
        yield f"{way} with {given}: {told}" if told else ""
