"""Time every kind, and peers where they are installed: milliseconds per 1,000 images.

    python benchmarks/corruptions.py [--images N] [--size PIXELS] [--threads N] [--kinds a,b]

Peers (`pip install imagecorruptions-imaug corrupt-tta` in an environment of its own) are timed on a few
images, one at a time as they work. Processor time is taken with one thread, wall time with more.
"""

import argparse
import importlib
import json
import platform
import resource
import time
from collections.abc import Callable

import torch

from filterbands import rng
from filterbands.corruptions import corrupt, expand_kinds

PEERS = ("imagecorruptions_imaug", "imagecorruptions")


def main() -> None:
    """Print a table of kinds by severities, and one line of JSON with all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=["c"], help="or c, cbar")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    parameters = "imagenet" if options.size >= 128 else "cifar"
    options.kinds = expand_kinds(options.kinds, parameters=parameters)
    images = smooth_images(options.images, options.size)

    table: dict[str, dict[str, list[float]]] = {"filterbands": {}}
    for kind in options.kinds:
        row = []
        for severity in range(1, 6):
            corrupt(images[:1], kind, severity=severity, seed=0, parameters=parameters)  # fills its tables

            def ours(kind: str = kind, severity: int = severity) -> None:
                corrupt(images, kind, severity=severity, seed=0, parameters=parameters)

            row.append(milliseconds(ours, clock) * 1000 / len(images))
        table["filterbands"][kind] = row
        print(f"{kind:18}" + "".join(f"{value:9.1f}" for value in row), flush=True)
    total = sum(map(sum, table["filterbands"].values())) / 100
    print(
        f"{len(options.kinds)} kinds, 5 severities, 10,000 images: {total:.1f} s, {options.threads} thread(s)"
    )
    for name in PEERS:
        peer = peer_times(name, images[:20], options.kinds, clock)
        if peer:
            table[name] = peer
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps(
            {"size": options.size, "cpu": platform.processor(), "peak_gib": peak, "ms_per_1000": table}
        )
    )


def milliseconds(function: Callable[[], None], clock: Callable[[], float]) -> float:
    """Return the shortest of three runs."""
    times = []
    for _ in range(3):
        start = clock()
        function()
        times.append(clock() - start)
    return 1000 * min(times)


def smooth_images(count: int, size: int) -> torch.Tensor:
    """Return images with the statistics that matter for time: smooth, coloured, with flat areas."""
    coarse = rng.uniform(rng.keys(0, "benchmark", index=torch.arange(count)), (3, 8, 8))
    images = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return images.mul(320).sub(32).clamp(0, 255).to(torch.uint8)


def peer_times(
    name: str, images: torch.Tensor, kinds: list[str], clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Return a peer's milliseconds per 1,000 images, kind by kind, or nothing where it is not installed."""
    try:
        peer = importlib.import_module(name)
    except ImportError:
        print(f"{name}: not installed")
        return {}
    arrays = [image.permute(1, 2, 0).contiguous().numpy() for image in images]
    times = {}
    for kind in kinds:
        row = []
        for severity in range(1, 6):

            def theirs(kind: str = kind, severity: int = severity) -> None:
                for array in arrays:
                    peer.corrupt(array, corruption_name=kind, severity=severity)

            row.append(milliseconds(theirs, clock) * 1000 / len(arrays))
        times[kind] = row
        print(f"{name}: {kind:18}" + "".join(f"{value:9.1f}" for value in row), flush=True)
    return times


if __name__ == "__main__":
    main()
