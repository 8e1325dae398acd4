"""The storages of a file of torch: what its pickle claims of them, against what the file has."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

from .stand_ins import Name, PickleError
from .walk import Walk

# Bytes of a number in a storage, by what torch calls its class; 1 in others.
_BYTES = {
    "ComplexDouble": 16,
    **dict.fromkeys(("ComplexFloat", "Double", "Long"), 8),
    **dict.fromkeys(("Float", "Int", "QInt32"), 4),
    **dict.fromkeys(("BFloat16", "Half", "Short"), 2),
}


def storage_sizes(file: Path) -> dict[str, int]:
    """Return the bytes of each storage in an archive of `torch.save`, by its key."""
    with zipfile.ZipFile(file) as archive:
        members = [(info.filename.partition("/")[2], info.file_size) for info in archive.infolist()]
    # Of several with one name the shortest, since torch may find any of them.
    members.sort(reverse=True)
    return {name.removeprefix("data/"): size for name, size in members if name.startswith("data/")}


def check_storages(walk: Walk, sizes: Mapping[str, int]) -> None:
    """Refuse storages that the file lacks or that are shorter than claimed: other memory would be read.

    Args:
        walk: A file's pickle, gone through.
        sizes: Bytes of each storage, by its key.

    Raises:
        PickleError: The pickle claims more than the file has.
    """
    for _, kind, key, _, count, *_ in walk.storages:
        name = kind.text.rpartition(".")[2].removesuffix("Storage") if isinstance(kind, Name) else ""
        claimed = count * _BYTES.get(name, 1) if isinstance(count, int) else 0
        if claimed and key not in sizes:
            raise PickleError(f"names a storage, {key[:20]!r}, that the file does not have")
        if claimed > sizes.get(key, 0):
            raise PickleError(f"claims more numbers for a storage, {key[:20]!r}, than the file has for it")
