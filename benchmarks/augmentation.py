"""What each training method's augmentation costs, as a share of its training step.

python benchmarks/augmentation.py --arch cifar_resnet18 [--device cuda] [--methods prime,apr_sp] [--steps 5]

Images are random bytes of CIFAR's size: no operation's cost depends on what is seen. `beside standard` is the
whole step's time over that of plain training, which has one pass through the network where others have more.
"""

import argparse
import json
from dataclasses import asdict

import torch

from filterbands.datasets import ImageSet
from filterbands.training import METHODS, TrainConfig, measure_step


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="cifar_resnet18")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    count = 2 * given.batch_size
    data = ImageSet(
        name="random",
        split="train",
        images=torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8),
        labels=torch.arange(count) % 10,
        classes=tuple(str(number) for number in range(10)),
        index=torch.arange(count),
    )
    found = {}
    for name in given.methods.split(","):
        config = TrainConfig(method=name, arch=given.arch, batch_size=given.batch_size)
        found[name] = measure_step(
            config, data, steps=given.steps, device=given.device, threads=given.threads
        )
    if given.json:
        print(json.dumps({name: asdict(parts) for name, parts in found.items()}))
        return
    base = found["standard"].total if "standard" in found else float("nan")
    print(f"| {given.arch} | views | data ms | augmentation ms | step ms | share | beside standard |")
    print("|---|---|---|---|---|---|---|")
    for name, parts in found.items():
        print(
            f"| {name} | {METHODS[name].views} | {1e3 * parts.data:.1f} | {1e3 * parts.augmentation:.1f} | "
            f"{1e3 * parts.total:.1f} | {100 * parts.augmentation / parts.total:.1f} % | "
            f"{parts.total / base:.2f} |"
        )


if __name__ == "__main__":
    main()
