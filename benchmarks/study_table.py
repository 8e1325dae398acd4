"""Prints the tables of studies that were run: one row a recipe, mean and standard deviation over seeds.

    python benchmarks/study_table.py
    python benchmarks/study_table.py FILE...

Without files: results/narrow_study.jsonl. Any runs.jsonl of `filterbands study` will do.
"""

import json
import sys
from pathlib import Path

from filterbands.study import table

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    """Print a table a file."""
    for file in [Path(name) for name in sys.argv[1:]] or [RESULTS / "narrow_study.jsonl"]:
        print(table(json.loads(line) for line in file.read_text().splitlines()))


if __name__ == "__main__":
    main()
