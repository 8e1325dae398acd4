"""Make src/filterbands/datasets/digits.npz from the file of handwritten digits of the UCI repository.

    python benchmarks/make_digits.py FILE

FILE is `optdigits.tes` of archive.ics.uci.edu/dataset/80, or the copy of it that scikit-learn ships as
`digits.csv.gz`: a line per image, 64 numbers from 0 to 16 row by row, and the digit.
"""

import argparse
from pathlib import Path

import numpy as np

TARGET = Path(__file__).parents[1] / "src" / "filterbands" / "datasets" / "digits.npz"


def main() -> None:
    """Write the arrays `images` (n, 8, 8) and `labels` (n,)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    # numpy opens compressed files by itself.
    table = np.loadtxt(given.file, delimiter=",").astype(np.uint8)
    if table.shape != (1797, 65) or table[:, :64].max() != 16 or table[:, 64].max() != 9:
        raise SystemExit(f"{given.file} is not the file of 1,797 digits")
    np.savez_compressed(TARGET, images=table[:, :64].reshape(-1, 8, 8), labels=table[:, 64])
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
