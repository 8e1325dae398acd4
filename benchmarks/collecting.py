"""What collectors of study runs share: a run's facts, the bits of its cells, the loop that appends lines."""

import argparse
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from filterbands.corruptions import CORRUPTIONS
from filterbands.disk import write_whole
from filterbands.run import Run
from filterbands.scores import Scores
from filterbands.study import read_lines

Line = dict[str, Any]
Positions = np.ndarray[Any, np.dtype[np.int64]]
Bits = np.ndarray[Any, np.dtype[np.bool_]]

LAST = "7cd3034"
"""The last revision whose results stand beside each other."""
EMULATED = "FILTERBANDS_EMULATED"
"""Environment variable that `emulated_bfloat16.py` sets."""


def read_finished(file: Path) -> list[Line]:
    """Return the lines of a file of results but those of failed runs; none where there is no file."""
    lines = [json.loads(text) for text in file.read_text().splitlines()] if file.exists() else []
    return [line for line in lines if not line.get("failed")]


def described(run: Run) -> Line:
    """Return what a run says of itself; end where its revision was not clean."""
    found = run.read()
    if not found["git"] or found["git"].endswith("-dirty"):
        raise SystemExit(f"{run.folder}: trained at revision {found['git']}, which is not clean")
    if "computed_with" in found:
        raise SystemExit(f"{run.folder}: trained in several ways, {found['computed_with']}")
    if "revisions" in found:
        raise SystemExit(
            f"{run.folder}: trained by several revisions, {', '.join(map(str, found['revisions']))}"
        )
    if not is_comparable(found["git"]):
        raise SystemExit(
            f"{run.folder}: trained at revision {found['git']}, which is not {LAST} or one before it; train "
            "with a clone at that revision"
        )
    return found


def is_comparable(revision: str) -> bool:
    """Return whether a revision is the last whose results are comparable, or one before it."""
    words = ["git", "merge-base", "--is-ancestor", revision, LAST]
    return subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, check=False).returncode == 0


def check_versions() -> None:
    """End where the library at hand makes other bytes than the results so far were measured on."""
    if CORRUPTIONS["shot_noise"].version != 1:
        raise SystemExit(
            "results are of version 1 of shot_noise; train, evaluate and collect with PYTHONPATH=CLONE/src, "
            f"a clone at revision {LAST}"
        )


def facts(run: Run, line: Line) -> Line:
    """Return the figures of a run's first layer and what made it, for the end of a line."""
    found = described(run)
    return {
        "low_share": line["low_share"],
        "mean_low_energy": line["mean_low_energy"],
        "seconds": round(found["seconds"], 1),
        "cpu_seconds": round(found["cpu_seconds"], 1),
        "threads": found["threads"],
        "processor": found["device"],
        **({"emulated": os.environ[EMULATED]} if EMULATED in os.environ else {}),
        "date": date.fromtimestamp(run.weights.stat().st_mtime).isoformat(),
        "git": found["git"],
        "recalibrated": found.get("recalibrated"),
        "config": found["config"],
    }


def pack(scores: Scores, file: Path) -> None:
    """Write one bit per image and cell; `cells` names kind, severity, first image and step of each."""
    if scores.failed:
        cells = ", ".join(f"{kind} {severity}" for kind, severity in scores.failed)
        raise SystemExit(f"{file.name}: cells failed ({cells}), so that no average of them can be kept")
    file.parent.mkdir(parents=True, exist_ok=True)
    names, bits = [], []
    for (kind, severity), answers in scores.cells.items():
        positions = answers.positions
        step = int(positions[1] - positions[0])
        if not np.array_equal(positions, np.arange(positions[0], len(scores.labels), step)):
            raise SystemExit(f"{file.name}: {kind} {severity} saw images that no step describes")
        names.append(f"{kind} {severity} {int(positions[0])} {step}")
        bits.append(np.packbits(answers.bits))

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.savez_compressed(
                stream, cells=np.array(names), bits=np.concatenate(bits), images=len(scores.labels)
            )

    write_whole(file, write)


def cells(file: Path) -> Iterator[tuple[str, int, Positions, Bits]]:
    """Yield the cells of such a file: kind, severity, positions of the images, and whether each was right."""
    found = np.load(file, allow_pickle=False)
    images, packed, start = int(found["images"]), found["bits"], 0
    for cell in found["cells"].tolist():
        kind, severity, first, step = cell.split()
        positions = np.arange(int(first), images, int(step))
        size = -(-len(positions) // 8)
        bits = np.unpackbits(packed[start : start + size], count=len(positions)).astype(bool)
        yield kind, int(severity), positions, bits
        start += size


def unpack(file: Path, kinds: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return each image's share of correct answers over the kinds, each of which shows it once.

    The kind `clean` is the images as they are.
    """
    found = whole_kinds(file, kinds)
    images = 1 + max(int(positions[-1]) for parts in found.values() for _, positions, _ in parts)
    shares = np.zeros(images)
    for parts in found.values():
        for _, positions, bits in parts:
            shares[positions] += bits
    return shares / len(kinds)


def whole_kinds(file: Path, kinds: Sequence[str]) -> dict[str, list[tuple[int, Positions, Bits]]]:
    """Return the cells of some kinds; end where one is missing, or does not show every image once."""
    found: dict[str, list[tuple[int, Positions, Bits]]] = {kind: [] for kind in kinds}
    images = 0
    for kind, severity, positions, bits in cells(file):
        images = max(images, int(positions[-1]) + 1)
        if kind in found:
            found[kind].append((severity, positions, bits))
    for kind, parts in found.items():
        shown = np.bincount(np.concatenate([at for _, at, _ in parts] or [[]]).astype(int), minlength=images)
        if not (shown == 1).all():
            raise SystemExit(
                f"{file.name} lacks {kind} of {int((shown != 1).sum())} of {images} images, so that a mean "
                "would be wrong"
            )
    return found


def append_missing(
    lines: Path, doc: str, collect: Callable[[Path, Line], Line], said: Callable[[Line], str]
) -> None:
    """Append a line for every run of the folders on the command line that the file lacks.

    A run whose loss became NaN or infinite gets one as well: `failed` is true, and it has no figures.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    given = parser.parse_args()
    if wrong := [str(folder) for folder in given.folders if not folder.is_dir()]:
        parser.error(f"needs folders of studies, got {', '.join(wrong)}")
    there = [json.loads(text) for text in lines.read_text().splitlines()] if lines.exists() else []
    known = {(line["row"], line["arch"], line["epochs"], line["seed"]) for line in there}
    for folder in given.folders:
        for line in [*read_lines(folder), *_failed(folder)]:
            of = (line["recipe"], line["arch"], line["epochs"], line["seed"])
            if of in known:
                continue
            known.add(of)
            failed = line.get("failed", False)
            collected = {"row": line.pop("recipe"), **line} if failed else collect(folder, line)
            with lines.open("a") as stream:
                stream.write(json.dumps(collected) + "\n")
            print(f"{of[0]} {of[3]}: {'failed' if failed else said(collected)}", flush=True)


def _failed(folder: Path) -> Iterator[Line]:
    """Yield what identifies the runs of a study's folder whose loss became NaN or infinite."""
    for place in sorted(folder.iterdir()):
        run = Run(place)
        if run.exists and not run.finished and run.failure(0).exists():
            config = run.read()["config"]
            of = {name: config[name] for name in ("recipe", "arch", "epochs", "seed")}
            yield {**of, "failed": True, "git": run.read()["git"], "config": config}
