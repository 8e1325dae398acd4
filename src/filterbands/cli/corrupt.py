"""`filterbands corrupt`: a corrupted copy of a data set in the published layout."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from .. import __version__
from ..corruptions import CORRUPTIONS_VERSION, PARAMETERS, corrupt, expand_kinds
from ..datasets import ImageSet, load_data
from ..engine import pick_device, set_threads
from ..run import make_folder, write_whole
from ..types import Progress
from .shared import Answer, ComputeOptions, check_range, listed, progress_bar, severities


@dataclass(frozen=True, kw_only=True)
class CorruptOptions(ComputeOptions):
    """Write a corrupted copy of a data set: KIND.npy (5n, h, w, 3), labels.npy, corrupt.json."""

    spec: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SPEC")]
    """planted, cifar10:DIR, cifar100:DIR, folder:DIR or npz:FILE."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")]
    """Folder to write into, created if need be; files that are there from the same command are kept."""
    split: Annotated[str, tyro.conf.arg(metavar="NAME")] = "test"
    """train, validation, full_train or test."""
    kinds: Annotated[str, tyro.conf.arg(metavar="A,B")] = ""
    """Kinds of corruption; all 19 by default; cbar is C-bar's ten; all-but-frost needs no textures."""
    severities: Annotated[str, tyro.conf.arg(metavar="1,2")] = "1,2,3,4,5"
    """Severities from 1 to 5."""
    parameters: Annotated[str, tyro.conf.arg(metavar="cifar|imagenet")] = "cifar"
    """Table of constants."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Seed of the random kinds."""
    size: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Side in pixels that images of folder:DIR are brought to; 0 takes them as they are."""
    limit: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Take the first N images; 0 for all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("--size", self.size, 0, 4096)
        check_range("--limit", self.limit, 0, math.inf)
        severities(self.severities)
        if self.parameters not in PARAMETERS:
            raise ValueError(f"--parameters needs {' or '.join(PARAMETERS)}, got {self.parameters!r}")


OPTIONS = CorruptOptions

# Images corrupted between two reports of progress.
_AT_A_TIME = 1000


def run(options: CorruptOptions) -> Answer:
    """Write what is missing and say what is there."""
    kinds = chosen_kinds(options.kinds, parameters=options.parameters)
    levels = severities(options.severities)
    set_threads(options.threads or None)
    device = pick_device(options.device)
    out = make_folder(options.out)
    data = load_data(options.spec, split=options.split, size=options.size or None)
    if options.limit:
        data = data.subset(torch.arange(min(options.limit, len(data))))
    made_by = {
        "data": data.name,
        "split": data.split,
        "fingerprint": data.fingerprint(),
        "images": len(data),
        "severities": list(levels),
        "parameters": options.parameters,
        "seed": options.seed,
        "corruptions_version": CORRUPTIONS_VERSION,
    }
    _check_same(out, made_by)
    text = json.dumps({**made_by, "filterbands": __version__}, indent=2) + "\n"
    write_whole(out / "corrupt.json", lambda file: file.write_text(text))
    _save(out / "labels.npy", _labels(data, len(levels)))
    missing = [kind for kind in kinds if not (out / f"{kind}.npy").exists()]
    with progress_bar("corrupt") as progress:
        for number, kind in enumerate(missing):
            rows = _corrupted(data, kind, levels, options, device, number, len(missing), progress)
            _save(out / f"{kind}.npy", rows)
    kept = len(kinds) - len(missing)
    wrote = f"wrote {len(missing)} kinds" + (f", kept {kept}" if kept else "")
    return Answer(
        document={"out": str(out), "written": missing, "kinds": list(kinds), **made_by},
        text=f"{out}: {wrote}, severities {options.severities}, {len(data):,} images each",
    )


def chosen_kinds(text: str, *, parameters: str) -> tuple[str, ...]:
    """Return the kinds of a text such as `fog,contrast` or `cbar`; all 19 for an empty one."""
    return expand_kinds(listed(text) or ["c"], parameters=parameters)


def _labels(data: ImageSet, copies: int) -> np.ndarray[Any, np.dtype[Any]]:
    """Return the labels once a severity, as bytes where they fit, as the published set has them."""
    kind = np.uint8 if len(data.classes) <= 256 else np.int64
    return np.tile(data.labels.numpy().astype(kind), copies)


def _corrupted(
    data: ImageSet,
    kind: str,
    levels: tuple[int, ...],
    options: CorruptOptions,
    device: torch.device,
    number: int,
    count: int,
    progress: Progress | None,
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    size = options.batch_size or _AT_A_TIME
    total = len(data) * len(levels)
    rows = np.empty((total, *data.images.shape[2:], 3), dtype=np.uint8)
    for level, severity in enumerate(levels):
        for start in range(0, len(data), size):
            part = slice(start, start + size)
            made = corrupt(
                data.images[part].to(device),
                kind,
                severity=severity,
                seed=options.seed,
                parameters=options.parameters,
                index=data.index[part],
            )
            first = level * len(data) + start
            rows[first : first + len(made)] = made.permute(0, 2, 3, 1).cpu().numpy()
            if progress is not None:
                progress(number * total + first + len(made), count * total, kind)
    return rows


def _check_same(out: Path, made_by: dict[str, Any]) -> None:
    file = out / "corrupt.json"
    if not file.exists():
        strangers = sorted(path.name for path in out.glob("*.npy"))
        if strangers:
            raise ValueError(f"{out} holds {strangers[0]} of another origin; name an empty folder with --out")
        return
    before = json.loads(file.read_text())
    changed = [name for name in made_by if before.get(name) != made_by[name]]
    if changed:
        what = "; ".join(f"{name} was {before.get(name)}, now {made_by[name]}" for name in changed[:2])
        raise ValueError(f"{out} holds another corrupted copy ({what}); name another folder with --out")


def _save(file: Path, array: np.ndarray[Any, np.dtype[Any]]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.save(stream, array, allow_pickle=False)

    write_whole(file, write)
