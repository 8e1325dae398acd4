"""The experiment for one GPU: eight rows of CIFAR-10 on cifar_resnet18, in calls of at most ten minutes.

    python benchmarks/gpu_study.py --pack cifar10:DIR --packs packs   here: CIFAR-10 in zips of 60 MiB at most
    python benchmarks/gpu_study.py --packs packs --minutes 9           there: goes on where it stopped
    python benchmarks/gpu_study.py --rehearse                          on a CPU: a hundredth of the images

Packs may come one a call: each is unpacked when it is seen, and the study begins when all are there. A call
that runs out of its minutes is ended; the next resumes the run in flight from its last epoch while the
machine keeps it, and skips what has a line in runs.jsonl in any case.
"""

import argparse
import json
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from filterbands.datasets import load_data
from filterbands.training import RECIPES

BATCHES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
SPECTRAL = {f"spectral.{name}": value for name, value in asdict(RECIPES["spectral"]().spectral).items()}
# In the order in which a first seed is worth having.
ROWS: list[Any] = [
    "standard",
    "spectral",
    "share_low",
    "gaussian",
    "apr_sp",
    # The best of the rows measured on a CPU (docs/studies/methods.md).
    {"name": "augmix_jsd_spectral", "recipe": "augmix_jsd", "set": SPECTRAL},
    "modulated",
    {"name": "apr_sp_spectral", "recipe": "apr_sp", "set": SPECTRAL},
]


def study(given: argparse.Namespace) -> dict[str, Any]:
    """Return the study as its file has it."""
    return {
        "name": "gpu",
        "data": f"cifar10:{given.folder}",
        "recipes": ROWS,
        "set": {
            "arch": "cifar_resnet18",
            "split": "full_train",
            "epochs": given.epochs,
            "batch_size": 512,
            "ema": 0.995,
        },
        "seeds": list(range(given.seeds)),
        "evaluate": {"kinds": given.kinds.split(","), "spread": False, "precision": "bfloat16"},
    }


def rehearsal(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the same study on 500 generated images, with a narrow network and one epoch."""
    file = folder / "rehearsal.npz"
    data = load_data("planted", split="train")
    np.savez(file, images=data.images[:500].numpy(), labels=data.labels[:500].numpy())
    plain = study(given)
    small = {"arch": "cifar_resnet18_narrow", "split": "train", "epochs": 1, "batch_size": 250}
    return {
        **plain,
        "data": f"npz:{file}",
        "set": {**plain["set"], **small},
        "seeds": [0],
        "evaluate": {**plain["evaluate"], "split": "train", "limit": 20, "kinds": ["all-but-frost"]},
    }


def pack(spec: str, folder: Path) -> None:
    """Write the six files of CIFAR-10's binary form as zips of two."""
    kind, _, place = spec.partition(":")
    source = Path(place)
    if kind != "cifar10" or not source.is_dir():
        sys.exit(f"--pack needs cifar10:DIR, got {spec!r}")
    if (source / "cifar-10-batches-bin").is_dir():
        source = source / "cifar-10-batches-bin"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(0, len(BATCHES), 2):
        file = folder / f"cifar10-{number // 2}.zip"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in (*BATCHES[number : number + 2], *(["batches.meta.txt"] if number == 0 else [])):
                if (source / name).exists():
                    archive.write(source / name, name)
                elif name.endswith(".bin"):
                    sys.exit(f"{source} has no {name}; the binary form of CIFAR-10 is needed")
        print(f"{file}: {file.stat().st_size / 2**20:.1f} MiB")


def unpack(packs: Path, folder: Path) -> list[str]:
    """Unpack what is there and return the names that are still missing."""
    target = folder / "cifar-10-batches-bin"
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(packs.glob("*.zip")):
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name in (*BATCHES, "batches.meta.txt") and not (target / name).exists():
                    (target / name).write_bytes(archive.read(name))
    return [name for name in BATCHES if not (target / name).exists()]


def main() -> None:
    """Pack, rehearse, or go on with the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", metavar="SPEC", help="only write the packs of cifar10:DIR into --packs")
    parser.add_argument("--packs", default="packs", help="folder of packs")
    parser.add_argument("--folder", default="data", help="where CIFAR-10 is unpacked to, or lies")
    parser.add_argument("--out", default="gpu-study", help="folder of runs and results")
    parser.add_argument("--minutes", type=float, default=9.0, help="end the call after so long")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", default="all-but-frost", help="c where the frost textures are at hand")
    parser.add_argument("--rehearse", action="store_true", help="a hundredth of the images, a narrow network")
    parser.add_argument("--plan", action="store_true", help="only say what it will cost")
    given = parser.parse_args()
    if given.pack:
        pack(given.pack, Path(given.packs))
        return
    out = Path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    if not given.rehearse and (missing := unpack(Path(given.packs), Path(given.folder))):
        print(f"not yet there: {', '.join(missing)}; call again with the packs that hold them")
        return
    file = out / "study.json"
    file.write_text(json.dumps(rehearsal(given, out) if given.rehearse else study(given), indent=2))
    words = [sys.executable, "-m", "filterbands", "study", str(file), "--out", str(out)]
    if given.plan:
        words.append("--plan")
    try:
        done = subprocess.run(words, timeout=60 * given.minutes, check=False)
    except subprocess.TimeoutExpired:
        lines = out / "runs.jsonl"
        count = len(lines.read_text().splitlines()) if lines.exists() else 0
        print(f"{given.minutes:g} minutes are over; {count} runs are finished; call again to go on")
        return
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
