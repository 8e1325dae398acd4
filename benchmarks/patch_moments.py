"""Makes the patch moments of CIFAR-10 that come with the package.

python benchmarks/patch_moments.py --data cifar10:DIR [--images 5000]

Second moments of the 3x3x3 patches of the first training images, clean and of what each of the 19 kinds at 5
severities adds: 96 symmetric matrices of 27 x 27. Written to src/filterbands/probes/cifar10_patches.npz.
"""

import argparse
import sys
from pathlib import Path

from filterbands.datasets import load_data
from filterbands.probes import patch_moments

TARGET = Path(__file__).parents[1] / "src" / "filterbands" / "probes" / "cifar10_patches.npz"


def main() -> None:
    """Write the file and print its size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=5000)
    options = parser.parse_args()
    data = load_data(options.data, split="train")

    def told(done: int, total: int, what: str) -> None:
        print(f"{done} of {total}: {what}", file=sys.stderr)

    moments = patch_moments(data, limit=options.images, progress=told)
    moments.write(TARGET)
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes, {moments.images:,} images")


if __name__ == "__main__":
    main()
