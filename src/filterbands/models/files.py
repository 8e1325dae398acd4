"""Checkpoints: found and read, in whatever format. Files are untrusted: nothing in them is executed."""

import re
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from glob import glob
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..disk import DAMAGED, check_arrays, check_input, check_unpacked, read_json, readable
from ..platforms import maps_files
from ..run import Run
from .entries import weights_in
from .foreign import what_archive_is, what_is
from .layers import plainly
from .pickles import load_pickle

# Files of the weights in a Run and in a Hugging Face repository; the first one found is used.
_HUB = ("model.safetensors", "diffusion_pytorch_model.safetensors", "pytorch_model.bin")
_FILES = [f"{name}{end}" for name in ("weights.safetensors", *_HUB) for end in ("", ".index.json")]

# Tensors of archives up to this size are compared with their checksums, at a second per GB.
_CHECKED = 1 << 29
# Bytes that an expanded tensor, which repeats its numbers, may have when it is written out.
_EXPANDED = 1 << 26
# Letters of the name of a tensor; what looks for prefixes takes the square of it.
_LONGEST = 1024

_Checkpoint = tuple[dict[str, Tensor], Mapping[str, str]]
"""The tensors by name, and the metadata."""


def read_weights(path: str | Path, *, key: str | None = None) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, in any format, without running code in it.

    A leading `module.` or `_orig_mod.` is removed from the names. Wrappers that trainers put around a state
    dict (`state_dict`, `net`, `model`) are opened, and whole pickled networks give their state dict. Files
    are mapped into memory, so that only the tensors that are used are read; those of an archive are first
    compared with its checksums. Compressed and old-style files are read whole.

    Args:
        path: A file, a Run folder or the folder of a Hugging Face repository.
        key: The entry of a pickle that holds the weights, such as `model_ema`; a path such as `ema.shadow`
            where it lies in another one. By default the entry that trainers use for the weights, and a
            warning names the others.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not a checkpoint, it is damaged, reading it would run code, or there is no
            such entry or no single one that may be the weights.
    """
    return read_checkpoint(path, key=key)[0]


def read_checkpoint(path: str | Path, *, key: str | None = None) -> _Checkpoint:
    """Return the result of `read_weights`, and the metadata of the file (`arch`, `mean`, `std`)."""
    file = Path(path)
    if file.is_dir():
        return _read_folder(file, key)
    read = _reader(check_input(file))
    if read is None:
        with file.open("rb") as stream:
            head = stream.read(8)
        raise ValueError(
            f"{path} is not a checkpoint: expected safetensors, a pickled state dict or .npz, "
            f"got {what_is(file) or f'a file that starts with {head!r}'}"
        )
    tensors, metadata = read(file, key)
    if not tensors:
        raise ValueError(f"{path} holds no tensors")
    # A pickle may set attributes on tensors, which hide methods of the same name.
    tensors = {name: Tensor.detach(tensor) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        _check_tensor(tensor, f"{path}: {name}")
    return {name: tensors[place] for name, place in _plain_names(tensors, path).items()}, metadata


def _plain_names(names: Collection[str], where: str | Path) -> dict[str, str]:
    """Return the names of a file by what is left of them without prefixes; refuse two that become one."""
    found: dict[str, str] = {}
    if long := next((name for name in names if len(name) > _LONGEST), None):
        raise ValueError(
            f"{where} has a name of {len(long):,} letters, {long[:20]!r}..., more than the limit of "
            f"{_LONGEST:,}; rename the tensor"
        )
    plain = plainly(names)
    for name in names:
        first = found.setdefault(plain(name), name)
        if first != name:
            raise ValueError(
                f"{where} holds both {first} and {name}, which are one name without _orig_mod; save the "
                "weights of one network"
            )
    return found


def _check_tensor(tensor: Tensor, where: str) -> None:
    """Refuse what holds no plain numbers, and one number that claims to be many."""
    odd = "is on the meta device, without numbers" if tensor.is_meta else ""
    odd = odd or ("is quantized" if tensor.is_quantized else "")
    odd = odd or ("is nested" if tensor.is_nested else "")
    odd = odd or ("is sparse" if tensor.layout != torch.strided else "")
    if odd:
        raise ValueError(f"{where} {odd}; save plain tensors (tensor.dequantize() or tensor.to_dense())")
    claimed, there = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if claimed > max(there, _EXPANDED):
        raise ValueError(
            f"{where} claims {readable(claimed)} and has {readable(there)}; save tensor.contiguous()"
        )


def find_checkpoints(place: str | Path) -> tuple[Path, ...]:
    """Return the checkpoints that a path names, in the order of the numbers in their names.

    A file, a Run and the folder of a Hugging Face repository are one checkpoint. Any other folder stands for
    all checkpoints and such folders in it, recognized by their content. A glob such as `runs/iter_*.pt`
    stands for its matches.

    Raises:
        FileNotFoundError: The file does not exist, or nothing matches.
        ValueError: The folder contains no checkpoints.

    >>> find_checkpoints("no/such/*.pt")
    Traceback (most recent call last):
    FileNotFoundError: no checkpoint fits no/such/*.pt
    """
    path = Path(place)
    if path.is_dir() and not _is_model_folder(path):
        found = list(filter(_is_checkpoint, path.iterdir()))
        if not found:
            raise ValueError(
                f"{place} is a folder without checkpoints: not a finished run (it has no "
                "weights.safetensors), and it holds no safetensors, pickled state dicts or .npz"
            )
    elif path.exists():
        found = [path]
    elif not any(letter in str(place) for letter in "*?["):
        raise FileNotFoundError(f"no such file: {place}")
    elif not (found := [Path(name) for name in glob(str(place), recursive=True)]):
        raise FileNotFoundError(f"no checkpoint fits {place}")
    return tuple(sorted(found, key=_natural))


def _read_safetensors(file: Path, key: str | None) -> _Checkpoint:
    _refuse_key(file, key)
    try:
        with safe_open(file, framework="pt") as archive:
            # safetensors sorts names by their letters, so that the order of layers is lost.
            names = sorted(archive.keys(), key=_natural)
            tensors = _image_first({name: archive.get_tensor(name) for name in names})
            if not maps_files():
                tensors = {name: tensor.clone() for name, tensor in tensors.items()}
            metadata = archive.metadata() or {}
            # save_model of safetensors writes tied weights once, and says here which ones they are.
            tensors |= {
                name: tensors[kept]
                for name, kept in metadata.items()
                if name not in tensors and kept in tensors
            }
            return tensors, metadata
    except SafetensorError as error:
        raise ValueError(f"{file} is not a whole safetensors file: {error}") from None


def _read_folder(folder: Path, key: str | None) -> _Checkpoint:
    read = [read_checkpoint(part, key=key) for part in _weight_files(folder)]
    tensors: dict[str, Tensor] = {}
    for part, _ in read:
        if twice := next((name for name in part if name in tensors), None):
            raise ValueError(f"{folder} holds {twice} in two of its {len(read)} parts; copy it again")
        tensors |= part
    return tensors, read[0][1] if len(read) == 1 else {}


def weights_hash(path: str | Path) -> str:
    """Return the sha256 of the file of a checkpoint, or of the hashes of all files where it has several."""
    hashes = [sha256(check_input(file).read_bytes()).hexdigest() for file in _weight_files(Path(path))]
    return hashes[0] if len(hashes) == 1 else sha256("\n".join(hashes).encode()).hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights of a checkpoint: itself, or those of a Run or another folder.

    Raises:
        FileNotFoundError: A folder without weights, or that lacks a part of them.
        ValueError: A folder of several checkpoints.
    """
    if not folder.is_dir():
        return [folder]
    found = next((folder / name for name in _FILES if (folder / name).exists()), None)
    if found is not None:
        return _shards(found) if found.suffix == ".json" else [found]
    inside = [] if Run(folder).exists else sorted(filter(_is_checkpoint, folder.iterdir()))
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
        names = sorted(set(read_json(index)["weight_map"].values()))
        parts = [index.parent / Path(name).name for name in names]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{index} does not say which file holds which weight; copy it again") from None
    # A name may be that of the folder itself, such as "..".
    missing = [part.name for part in parts if not part.is_file() or part == index]
    if missing:
        raise FileNotFoundError(
            f"{index.parent} lacks {missing[0]}, one of the {len(parts)} parts of its weights"
        )
    return parts


def _is_model_folder(folder: Path) -> bool:
    return Run(folder).exists or any((folder / name).exists() for name in _FILES)


def _is_checkpoint(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return _is_model_folder(path) if path.is_dir() else path.is_file() and _reader(path) is not None


def _reader(file: Path) -> Callable[[Path, str | None], _Checkpoint] | None:
    """Return the function that reads a file, by its first bytes; None if it is no checkpoint."""
    with file.open("rb") as stream:
        head = stream.read(16)
    if len(head) >= 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < file.stat().st_size:
        return _read_safetensors
    if head[:4] == b"PK\x03\x04":
        return _read_archive
    return _read_pickle if head[:1] == b"\x80" else None


def _natural(name: Path | str) -> list[tuple[int, str]]:
    """Return a key that sorts names by the numbers in them."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(name))]


def _image_first(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with the kernels that see an image's three channels first, where one alone does."""
    seeing = [
        name
        for name, tensor in tensors.items()
        if tensor.ndim == 4 and tensor.shape[1] == 3 and max(tensor.shape[2:]) > 1
    ]
    return {name: tensors[name] for name in dict.fromkeys([*(seeing if len(seeing) == 1 else []), *tensors])}


def _read_archive(file: Path, key: str | None) -> _Checkpoint:
    """Read an `.npz` file, or a pickle in the archive format of torch."""
    try:
        with zipfile.ZipFile(file) as archive:
            check_unpacked(archive)
            members = archive.infolist()
            names = Counter(info.filename for info in members)
            if twice := next((name for name, times in names.items() if times > 1), None):
                raise ValueError(f"it holds {twice} twice")
            for info in members:
                # torch can be told to leave out the checksums, which are then 0.
                if info.CRC and info.file_size <= _CHECKED:
                    with archive.open(info) as stream:
                        while stream.read(1 << 20):
                            pass
    except DAMAGED as error:
        raise ValueError(f"{file} is truncated or damaged ({error}); copy it again") from None
    may_map = maps_files() and all(info.compress_type == zipfile.ZIP_STORED for info in members)
    if not all(info.filename.endswith(".npy") for info in members):
        what = what_archive_is([info.filename for info in members])
        if what is not None:
            raise ValueError(f"{file} is not a checkpoint: it is {what}")
        return weights_in(load_pickle(file, is_archive=True, mapped=may_map), key=key, where=str(file)), {}
    _refuse_key(file, key)
    try:
        with zipfile.ZipFile(file) as archive:
            check_arrays(archive)
        if may_map:
            arrays = {info.filename.removesuffix(".npy"): _mapped(file, info) for info in members}
        else:
            with np.load(file, allow_pickle=False) as loaded:
                arrays = dict(loaded)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}, {}
    except DAMAGED as error:
        raise ValueError(f"{file} holds arrays that are not plain numbers: {error}") from None


def _read_pickle(file: Path, key: str | None) -> _Checkpoint:
    return weights_in(load_pickle(file, is_archive=False, mapped=False), key=key, where=str(file)), {}


def _refuse_key(file: Path, key: str | None) -> None:
    if key is not None:
        raise ValueError(
            f"{file} holds tensors by name and no entries to choose from; leave out --key (key=)"
        )


def _mapped(file: Path, info: zipfile.ZipInfo) -> NDArray[Any]:
    """Return an uncompressed array of an archive, mapped into memory."""
    with file.open("rb") as stream:
        # The lengths of the name and of the extra field, which may differ from those in the index.
        stream.seek(info.header_offset + 26)
        name, extra = struct.unpack("<HH", stream.read(4))
        stream.seek(name + extra, 1)
        version = np.lib.format.read_magic(stream)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"array format {version}")
        shape, is_fortran, dtype = readers[version](stream)
        if dtype.hasobject:
            raise ValueError("objects, which are pickled code")
        if 0 in shape:
            return np.zeros(shape, dtype)
        order: Literal["F", "C"] = "F" if is_fortran else "C"
        # Copy on write, because torch warns about read-only arrays.
        return np.memmap(file, dtype, "c", stream.tell(), shape or (1,), order).reshape(shape)
