"""Run: one training on disk, in a folder that is complete, resumable, or not a run at all.

run.json             what was run: config, seed, version, git revision, data, device, seconds
log.jsonl            a line an epoch; epoch 0 is before training
checkpoint.pt        everything needed to go on; gone once the run is finished
weights.safetensors  the plain (baked) network; there only when the run is finished
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Run:
    """A training on disk."""

    folder: Path
    """Where it lies; the folder's name is the run's name."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def weights(self) -> Path:
        """The file of the plain network."""
        return self.folder / "weights.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The file to resume from."""
        return self.folder / "checkpoint.pt"

    @property
    def finished(self) -> bool:
        """Whether training ended and the weights are there."""
        return self.weights.exists()

    def read(self) -> dict[str, Any]:
        """Return run.json.

        Raises:
            FileNotFoundError: The folder is not a run.
            ValueError: run.json is not one.
        """
        file = self.folder / "run.json"
        if not file.exists():
            raise FileNotFoundError(f"{self.folder} is not a run: it has no run.json")
        try:
            content = json.loads(file.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"{file} is not JSON: {error}") from None
        if not isinstance(content, dict) or "config" not in content:
            raise ValueError(f"{file} is not a run's: it has no config")
        return content

    def read_log(self) -> list[dict[str, Any]]:
        """Return the lines of log.jsonl, epoch 0 first, up to one that is cut short or no record."""
        file = self.folder / "log.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        records = []
        for line in lines:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                break
            if not isinstance(record, dict):
                break
            records.append(record)
        return records

    def write(self, content: Mapping[str, Any]) -> None:
        """Write run.json, whole or not at all."""
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        write_whole(self.folder / "run.json", lambda file: file.write_text(text))

    def write_log(self, records: list[dict[str, Any]]) -> None:
        """Write all of log.jsonl, whole or not at all."""
        text = "".join(json.dumps(record, sort_keys=True) + "\n" for record in records)
        write_whole(self.folder / "log.jsonl", lambda file: file.write_text(text))

    def write_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Write what a later `read_checkpoint` returns, whole or not at all."""
        write_whole(self.checkpoint, lambda file: torch.save(dict(state), file))

    def read_checkpoint(self) -> dict[str, Any]:
        """Return the last checkpoint, tensors and plain containers only."""
        content: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        return content

    def write_weights(self, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Write the plain network, whole or not at all; afterwards the run is finished."""
        write_weights(self.weights, weights, metadata)


def write_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors, whole or not at all, with what the file says of itself."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_whole(path, lambda file: save_file(plain, file, metadata=dict(metadata)))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in its place in one step."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        # mkstemp makes the file private; results are as readable as any other file.
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Return the folder of fetched data, `${XDG_CACHE_HOME:-~/.cache}/filterbands`; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "filterbands"


def check_output(path: str | Path) -> Path:
    """Return the path of a file to be written, after checking that it can be.

    Raises:
        ValueError: Its folder does not exist, it is a folder itself, or it cannot be written.
    """
    file = Path(path)
    parent = file.parent
    if not parent.is_dir():
        raise ValueError(f"cannot write {file}: there is no folder {parent}; create it first")
    if file.is_dir():
        raise ValueError(f"cannot write {file}: it is a folder; name a file")
    if not os.access(file if file.exists() else parent, os.W_OK):
        raise ValueError(f"cannot write {file}: no permission")
    return file


def make_folder(path: str | Path) -> Path:
    """Return an output folder, created if need be, after checking that files can be written in it.

    Raises:
        ValueError: It cannot be created or written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"cannot write into the folder {folder}: {error.strerror}") from None
    return folder


def git_revision() -> str | None:
    """Return the revision of the checkout that this package runs from, None outside one.

    It ends with `-dirty` where a file of the package itself is another; results that are written into the
    same checkout change nothing.
    """
    here = Path(__file__)
    # A package installed into somebody's environment lies in their checkout, but is no part of it.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    revision = _git(here.parent, "describe", "--always", "--abbrev=12")
    changed = _git(here.parent, "status", "--porcelain", "--", ".")
    return f"{revision}-dirty" if revision and changed else revision


def _git(folder: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
