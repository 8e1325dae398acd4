"""Pickles that torch has written, read without running code in them.

torch's restricted unpickler builds the tensors: it imports nothing, and calls a short list of functions of
torch. Published files hold other things beside the tensors. Stand-ins take the place of these:

- What is known to be inert (`_CALLED`: dates, paths, numbers of NumPy) may be called; that makes nothing.
- Any other class may be instantiated as pickle does it, without a call. That makes an empty dictionary, which
  takes the items and attributes of the file.
- A call of anything else is refused, and named.

No name that a file gives is imported, whatever it is.
"""

import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn
from warnings import catch_warnings, simplefilter

import torch
from torch._utils import IMPORT_MAPPING, NAME_MAPPING

# With `getattr` functions are named that are written as Class.function; it is not looked up, and a call of
# what it makes is refused. Versions of NumPy differ in the underscore; Python 3.13 writes pathlib._local.
_CALLED = re.compile(
    r"pathlib(\._local)?\.\w+|datetime\.\w+|decimal\.Decimal|numpy\.dtype"
    r"|numpy\._?core\.multiarray\.(scalar|_reconstruct)|builtins\.(frozenset|slice|range|getattr)"
)
# torch refuses these, whatever stands in for them.
_NEVER = re.compile(r"(os|sys|posix|nt)\.")
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
    names, protocol = _named(file, is_archive=is_archive)
    try:
        if never := next(filter(_NEVER.match, sorted(names)), None):
            raise _CallError(never)
        with torch.serialization.safe_globals([(_stand_in(name), name) for name in names]), catch_warnings():
            # torch warns of the protocol, which is told below where it matters.
            simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except _CallError as error:
        why = f"reading it would call {error}, which may run any code"
    except (RuntimeError, EOFError, OSError) as error:
        said = next(iter(str(error).splitlines()), "its end is missing")
        raise ValueError(f"{file} is damaged ({said}); copy it again") from None
    except (pickle.UnpicklingError, TypeError, ValueError, LookupError, AttributeError, AssertionError):
        why = "it holds more than tensors in plain containers, and reading it would run its code"
        if protocol > _PROTOCOL:
            why = f"pickle protocol {protocol} cannot be read without running code, only {_PROTOCOL} can"
    raise ValueError(
        f"{file} is refused: {why}; load it where you trust it, save model.state_dict() (better: as "
        "safetensors) and name that file"
    )


def _named(file: Path, *, is_archive: bool) -> tuple[set[str], int]:
    """Return all that the pickles of a file name, and their protocol; nothing is built."""
    names, protocol = set[str](), 0
    try:
        for code, value, _ in _codes(file, is_archive=is_archive):
            if code.name == "PROTO":
                protocol = max(protocol, value)
            elif code.name == "GLOBAL":
                module, _, name = value.partition(" ")
                module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
                names.add(f"{module}.{name}")
    except (ValueError, RuntimeError):
        raise ValueError(f"{file} is damaged: its pickle is cut or makes no sense; copy it again") from None
    return names, protocol


def _codes(file: Path, *, is_archive: bool) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
    """Yield the operations of the pickles of a file, each with its argument."""
    if is_archive:
        yield from pickletools.genops(torch._C.PyTorchFileReader(str(file)).get_record("data.pkl"))
        return
    with file.open("rb") as stream:
        # The magic number, the version, the system, the object; the keys and numbers behind them name none.
        for _ in range(4):
            yield from pickletools.genops(_Bounded(stream, file.stat().st_size))  # type: ignore[arg-type]


class _Bounded:
    """A file of which no more is read than it has, since memory is taken for what is asked for."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._size = stream, size
        self.readline, self.tell = stream.readline, stream.tell

    def read(self, count: int) -> bytes:
        if count > self._size - self.tell():
            raise ValueError("it ends before what it claims to hold")
        return self._stream.read(count)


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
