"""How often a new process's first call of a function differs from its second, settled before and not.

    python benchmarks/first_call.py --waves 700 > results/first_call.json

Waves of forked processes, more of them than cores, each call each function twice on 100,000 values with
eight threads and compare. oneMKL 2024.2, which torch's wheels carry, picks the kernel of a function at its
first call; of threads that make that call at once one may run a kernel of low accuracy
(github.com/pytorch/pytorch/issues/188792). Linux only.
"""

import argparse
import json
import os
from collections import Counter

import torch
from machine import machine

from filterbands.engine import KERNELS, settle_kernels

SIZE = 100_000


def difference(values: torch.Tensor, settle: bool) -> str:
    """Return which functions differ between two calls, in how many values and by how much."""
    torch.set_num_threads(8)
    if settle:
        settle_kernels()
    # Starts the threads, so that they reach the functions together.
    values.add(1)
    found = []
    for name in KERNELS:
        function = getattr(torch, name)
        first, second = function(values), function(values)
        off = first != second
        if off.any():
            relative = ((first - second).abs() / second.abs())[off].max()
            found.append(f"{name}: {int(off.sum())} values, by up to {relative:.1e}")
    return "; ".join(found) or "the same"


def storm(waves: int, together: int, settle: bool) -> Counter[str]:
    """Return what `waves` times `together` processes found."""
    torch.set_num_threads(1)
    values = torch.arange(1, SIZE + 1).float() / (SIZE + 1)
    found: Counter[str] = Counter()
    for _ in range(waves):
        children = []
        for _ in range(together):
            reads, writes = os.pipe()
            child = os.fork()
            if child == 0:
                os.write(writes, difference(values, settle).encode())
                os._exit(0)
            os.close(writes)
            children.append((child, reads))
        for child, reads in children:
            os.waitpid(child, 0)
            found[os.read(reads, 4096).decode()] += 1
            os.close(reads)
    return found


def main() -> None:
    """Run both storms and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--waves", type=int, default=100)
    parser.add_argument("--together", type=int, default=12)
    given = parser.parse_args()
    document = {
        label: dict(storm(given.waves, given.together, settle))
        for label, settle in (("as torch does", False), ("settled first", True))
    }
    print(json.dumps({**document, **machine()}, indent=1))


if __name__ == "__main__":
    main()
