"""Pickles that torch has written, read without running code in them.

torch's restricted unpickler builds the tensors: it imports nothing, and calls a short list of functions of
torch. Published files hold other things beside the tensors. Stand-ins take the place of these:

- What is known to be inert (`_CALLED`: dates, paths, numbers of NumPy) may be called; that makes nothing.
- Any other class may be instantiated as pickle does it, without a call. That makes an empty dictionary, which
  takes the items and attributes of the file.
- A call of anything else is refused, and named.

No name that a file gives is imported, whatever it is. What a file would make is first gone through without
making it (`filterbands.pickled`), since a few bytes can claim any memory, time and depth.
"""

import pickle
import pickletools
import re
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from warnings import catch_warnings, simplefilter

import torch

from ..pickled import (
    Bounded,
    Made,
    PickleError,
    Walk,
    check_call_of_torch,
    check_storages,
    storage_sizes,
)

# With `getattr` functions are named that are written as Class.function; it is not looked up, and a call of
# what it makes is refused. Versions of NumPy differ in the underscore; Python 3.13 writes pathlib._local.
_CALLED = re.compile(
    r"pathlib(\._local)?\.\w+|datetime\.\w+|decimal\.Decimal|numpy\.dtype"
    r"|numpy\._?core\.multiarray\.(scalar|_reconstruct)|builtins\.(frozenset|slice|range|getattr)"
)
# torch refuses these, whatever stands in for them.
_NEVER = re.compile(r"(os|sys|posix|nt)\.")
_CALLS = "reading it would call {}, which may run any code"
# The number with which files of torch begin that are no archives.
_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
# The protocol that torch reads; `torch.save` writes no other unless it is told to.
_PROTOCOL = 2


class _CallError(Exception):
    """A file wants to call something that is not known to be inert."""


def load_pickle(file: Path, *, is_archive: bool, mapped: bool) -> Any:
    """Return what a file of `torch.save` holds.

    Args:
        file: The file.
        is_archive: Whether it is in torch's present format, not in that of before torch 1.6.
        mapped: Map the tensors into memory, which needs an archive without compression.

    Raises:
        ValueError: Reading it would run code, it is damaged, or torch has not written it.
    """
    with file.open("rb") as stream:
        if not is_archive and _MAGIC not in stream.read(32):
            raise ValueError(
                f"{file} is a pickle that torch.save has not written; load it where you trust it, and save "
                "its tensors by name with torch.save, or as safetensors"
            )
    try:
        found = _gone_through(file, is_archive=is_archive)
        if never := next(filter(_NEVER.match, sorted(found.names)), None):
            raise _CallError(never)
    except _CallError as error:
        raise _refused(file, f"{_CALLS.format(error)}{_or_damaged(is_archive)}") from None
    allowed: list[Any] = [(_stand_in(name), name) for name in found.names]
    try:
        with torch.serialization.safe_globals(allowed), catch_warnings():
            # torch warns of the protocol, which is told below where it matters.
            simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except _CallError as error:
        why = _CALLS.format(error)
    except (RuntimeError, EOFError, OSError, ArithmeticError, MemoryError, struct.error) as error:
        said = next(iter(str(error).splitlines()), "its end is missing")
        raise ValueError(f"{file} is damaged ({said}); copy it again") from None
    except (pickle.UnpicklingError, TypeError, ValueError, LookupError, AttributeError, AssertionError):
        why = "it holds more than tensors in plain containers, and reading it would run its code"
        if found.protocol > _PROTOCOL:
            why = f"pickle protocol {found.protocol} cannot be read without running code, "
            why += f"only {_PROTOCOL} can"
    raise _refused(file, f"{why}{_or_damaged(is_archive)}")


def _refused(file: Path, why: str) -> ValueError:
    return ValueError(
        f"{file} is refused: {why}; load it where you trust it, save model.state_dict() (better: as "
        "safetensors) and name that file"
    )


def _or_damaged(is_archive: bool) -> str:
    """Return what else may be wrong: without checksums, a letter that has changed makes another name."""
    return "" if is_archive else ", or it is damaged"


def _gone_through(file: Path, *, is_archive: bool) -> Walk:
    """Return what the pickles of a file name, after a check of all that they would make; nothing is made."""
    size = file.stat().st_size
    walk = Walk(size=size, check_call=_check_call)
    try:
        if is_archive:
            content = torch._C.PyTorchFileReader(str(file)).get_record("data.pkl")
            walk.size = max(size, len(content))
            walk.through(pickletools.genops(content))
            check_storages(walk, storage_sizes(file))
        else:
            walk.is_whole = True
            with file.open("rb") as stream:
                # The magic number, the version, the system, the object, and the numbers of its storages.
                for _ in range(5):
                    content = walk.through(pickletools.genops(Bounded(stream, size)))  # type: ignore[arg-type]
            listed: list[Any] = content.parts if isinstance(content, Made) else []
            # torch reads as many numbers as a storage claims, or none where it is not in the list.
            check_storages(walk, {key: size for key in listed if isinstance(key, str)})
    except (PickleError, RuntimeError) as error:
        told = error if isinstance(error, PickleError) else "is missing"
        raise ValueError(f"{file} is damaged: its pickle {told}; copy it again") from None
    return walk


def _check_call(name: str, arguments: Made) -> None:
    if not name:
        raise _CallError("something that it makes itself")
    check_call_of_torch(name, arguments)


def _stand_in(name: str) -> Callable[..., Any]:
    """Return what is used in place of a class or function of this name."""
    if name == "collections.defaultdict":
        return _empty_dictionary
    if name == "collections.deque":
        return _empty_list
    if _CALLED.fullmatch(name):
        return _Inert
    return _Uncalled(name, (), {"__new__": lambda *_: OrderedDict()})


class _Uncalled(type):
    """Classes that pickle may instantiate and not call; the unpickler takes items for this type alone."""

    def __call__(cls, *_: object) -> NoReturn:
        raise _CallError(cls.__name__)


class _Inert:
    """What a call gives that is known to be inert."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _empty_dictionary(*_: object) -> dict[Any, Any]:
    return {}


def _empty_list(*_: object) -> list[Any]:
    return []
