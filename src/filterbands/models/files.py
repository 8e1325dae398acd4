"""Checkpoints: found and read, in whatever format. Files are untrusted: nothing in them is executed."""

import json
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from glob import glob
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .layers import plain_name

# Where trainers put the weights inside what they save.
_WRAPPERS = ("state_dict", "net", "model", "model_state_dict", "weights", "params", "model_ema", "module")
# What the folder of a Hugging Face repository keeps its weights in, the first one found being taken.
_HUB = ("model.safetensors", "diffusion_pytorch_model.safetensors", "pytorch_model.bin")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, whatever its format, without running code in it.

    A leading `module.` or `_orig_mod.` is dropped from the names, and the wrappers that trainers put around
    a state dict (`state_dict`, `net`, `model`) are opened. Files are mapped into memory, so that of a large
    one only those tensors are read that are looked at; compressed and old-style ones are read whole.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a checkpoint, or one that would need to execute code.
    """
    return read_checkpoint(path)[0]


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Return what `read_weights` returns, and what the file says of itself (`arch`, `mean`, `std`)."""
    file = Path(path)
    if file.is_dir():
        return _read_folder(file)
    if not file.exists():
        raise FileNotFoundError(f"no such file: {path}")
    metadata: Mapping[str, str] = {}
    kind = _kind(file)
    if kind == "safetensors":
        tensors, metadata = _read_safetensors(file)
    elif kind == "archive":
        tensors = _read_npz(file) if _is_npz(file) else _read_pickle(file, mapped=True)
    elif kind == "pickle":
        tensors = _read_pickle(file, mapped=False)
    else:
        with file.open("rb") as stream:
            head = stream.read(8)
        raise ValueError(
            f"{path} is not a checkpoint: expected safetensors, a pickled state dict or .npz, "
            f"got a file that starts with {head!r}"
        )
    if not tensors:
        raise ValueError(f"{path} holds no tensors")
    return {plain_name(name): tensor for name, tensor in tensors.items()}, metadata


def find_checkpoints(place: str | Path) -> tuple[Path, ...]:
    """Return the checkpoints that a path names, in the order of the numbers in their names.

    A file, a Run and the folder of a Hugging Face repository are one; any other folder is all the
    checkpoints and such folders in it, and a glob such as `runs/iter_*.pt` is what it matches. Files of a
    folder are recognized by their content.

    Raises:
        FileNotFoundError: No such file, or none that fits.
        ValueError: A folder without checkpoints.

    >>> find_checkpoints("no/such/*.pt")
    Traceback (most recent call last):
    FileNotFoundError: no checkpoint fits no/such/*.pt
    """
    path = Path(place)
    if path.is_dir():
        if _is_model_folder(path):
            return (path,)
        found = [entry for entry in path.iterdir() if _is_checkpoint(entry)]
        if not found:
            raise ValueError(
                f"{place} is a folder without checkpoints: not a finished run (it has no "
                "weights.safetensors), and it holds no safetensors, pickled state dicts or .npz"
            )
        return tuple(sorted(found, key=_natural))
    if path.exists():
        return (path,)
    if any(letter in str(place) for letter in "*?["):
        matched = sorted(map(Path, glob(str(place), recursive=True)), key=_natural)
        if not matched:
            raise FileNotFoundError(f"no checkpoint fits {place}")
        return tuple(matched)
    raise FileNotFoundError(f"no such file: {place}")


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    try:
        with safe_open(file, framework="pt") as archive:
            names = list(archive.keys())
            return {name: archive.get_tensor(name) for name in names}, archive.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{file} is not a whole safetensors file: {error}") from None


def _parts(folder: Path) -> list[Path]:
    """Return the files that hold the weights of a Run or of a Hugging Face repository; empty without any."""
    for name in ("weights.safetensors", *_HUB):
        if (folder / name).exists():
            return [folder / name]
        if (index := folder / f"{name}.index.json").exists():
            return _shards(index)
    return []


def _read_folder(folder: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    read = [read_checkpoint(part) for part in _parts(folder)]
    if read:
        tensors = {name: tensor for found, _ in read for name, tensor in found.items()}
        return tensors, read[0][1] if len(read) == 1 else {}
    inside = [] if (folder / "run.json").exists() else sorted(filter(_is_checkpoint, folder.iterdir()))
    if inside:
        raise ValueError(
            f"{folder} holds {len(inside)} checkpoints, {inside[0].name} among them; name one of them"
        )
    raise FileNotFoundError(
        f"{folder} is a folder without weights.safetensors: not a finished run; "
        "name a checkpoint file, or resume the run with train --resume"
    )


def _shards(index: Path) -> list[Path]:
    """Return the files that an index names."""
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        parts = [index.parent / Path(name).name for name in names]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{index} does not say which file holds which weight; copy it again") from None
    missing = [part.name for part in parts if not part.exists()]
    if missing:
        raise FileNotFoundError(
            f"{index.parent} lacks {missing[0]}, one of the {len(parts)} parts of its weights"
        )
    return parts


def _is_model_folder(folder: Path) -> bool:
    names = ["weights.safetensors", "run.json", *_HUB, *(f"{name}.index.json" for name in _HUB)]
    return any((folder / name).exists() for name in names)


def _is_checkpoint(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return _is_model_folder(path) if path.is_dir() else _kind(path) is not None


def _kind(file: Path) -> str | None:
    """Return `safetensors`, `archive` or `pickle`, by the first bytes of a file; None for anything else."""
    with file.open("rb") as stream:
        head = stream.read(16)
    if len(head) >= 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < file.stat().st_size:
        return "safetensors"
    if head[:4] == b"PK\x03\x04":
        return "archive"
    return "pickle" if head[:1] == b"\x80" else None


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return what sorts names by the numbers in them."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _is_npz(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except zipfile.BadZipFile:
        raise ValueError(f"{file} is a truncated archive, not a checkpoint; copy it again") from None


def _read_npz(file: Path) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(file) as archive:
            stored = all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
            members = archive.infolist() if stored else []
        if members:
            arrays = {info.filename.removesuffix(".npy"): _mapped(file, info) for info in members}
        else:
            with np.load(file, allow_pickle=False) as loaded:
                arrays = {name: loaded[name] for name in loaded.files}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} holds arrays that are not plain numbers: {error}") from None


def _mapped(file: Path, info: zipfile.ZipInfo) -> NDArray[Any]:
    """Return an uncompressed array of an archive, mapped into memory."""
    with file.open("rb") as stream:
        # The sizes of the name and of what follows it, which the archive's own index need not repeat.
        stream.seek(info.header_offset + 26)
        name, extra = struct.unpack("<HH", stream.read(4))
        stream.seek(name + extra, 1)
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"array format {version}")
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read(stream)
        if dtype.hasobject:
            raise ValueError("objects, which are pickled code")
        if 0 in shape:
            return np.zeros(shape, dtype)
        order: Literal["F", "C"] = "F" if is_fortran else "C"
        # Copy on write: torch warns of what it cannot write to.
        return np.memmap(file, dtype, "c", stream.tell(), shape or (1,), order).reshape(shape)


def _read_pickle(file: Path, *, mapped: bool) -> dict[str, Tensor]:
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{file} is refused: it holds more than tensors in plain containers, and reading it would run "
            "its code; save model.state_dict() (better: as safetensors) and name that file"
        ) from None
    except (RuntimeError, EOFError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not a checkpoint: {str(error).splitlines()[0]}") from None
    for wrapper in _WRAPPERS:
        inner = loaded.get(wrapper) if isinstance(loaded, Mapping) else None
        if isinstance(inner, list) and len(inner) == 1:
            inner = inner[0]
        if isinstance(inner, Mapping):
            loaded = inner
    if isinstance(loaded, Mapping) and not any(isinstance(value, Tensor) for value in loaded.values()):
        holders = [value for value in loaded.values() if _holds_tensors(value)]
        loaded = holders[0] if len(holders) == 1 else loaded
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{file} holds a {type(loaded).__name__}, not a state dict; save model.state_dict()")
    return {str(name): tensor for name, tensor in loaded.items() if isinstance(tensor, Tensor)}


def _holds_tensors(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(inner, Tensor) for inner in value.values())
