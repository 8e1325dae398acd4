"""Hashes of Python values by what they hold: tensors, arrays, objects, functions with what they close over.

They do not depend on the process: not on addresses, the hash seed, or the order of a set.
"""

import functools
import io
import re
import threading
import warnings
import weakref
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import PurePath
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GenericAlias,
    MethodType,
    ModuleType,
    UnionType,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .origin import (
    LIBRARIES,
    function_of,
    is_installed,
    is_library,
    is_standard,
    is_users_class,
    is_users_module,
    replaced,
    root,
    source_of,
)

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")

PLAIN = (type(None), bool, int, float, complex, str, bytes)
"""Types whose `repr` says all of a value."""

_BY_REPR = (UnionType, GenericAlias, torch.dtype, torch.device, torch.layout, torch.memory_format)
# What refers to other things, or guards them, and says nothing of what a network computes.
_BY_TYPE = (
    weakref.ref,
    type(threading.Lock()),
    type(threading.RLock()),
    torch.utils.hooks.RemovableHandle,
)
# Trainers refer to data, loggers and the machine; they are no part of the network that they trained.
_TRAINERS = ("lightning", "lightning_fabric", "pytorch_lightning", "accelerate")
_CACHED = type(functools.cache(len))
# What a function finds among the names of its module; containers that may change, such as caches, are not.
_OF_MODULES = (*PLAIN, tuple, frozenset, Tensor, np.ndarray, np.generic, FunctionType, type, nn.Module)
_OF_USERS = (functools.partial, _CACHED)
# What a class of the user's may hold besides.
_OF_CLASSES = (*_OF_USERS, list, dict, set, functools.partialmethod, functools.cached_property)
_MOST = 1_000_000


class Contents:
    """Hashes values; `opaque` names the types of those that say nothing of what they hold."""

    def __init__(self) -> None:
        self.opaque: set[str] = set()
        # The values themselves are kept, so that no other one gets the number of one that is gone.
        self._done: dict[int, tuple[Any, bytes]] = {}
        self._open: dict[int, int] = {}

    def digest(self, value: Any) -> bytes:
        """Return the sha256 of what a value holds."""
        if type(value) in PLAIN:
            return _joined(type(value).__name__, repr(value))
        number = id(value)
        if number in self._done:
            return self._done[number][1]
        if number in self._open:
            return _joined("again", str(len(self._open) - self._open[number]))
        if len(self._done) > _MOST:
            self.opaque.add("objects of more than a million parts")
            return b""
        self._open[number] = len(self._open)
        found = _joined(_name(type(value)), *self._parts(value))
        del self._open[number]
        self._done[number] = value, found
        return found

    def _parts(self, value: Any) -> Iterable[bytes | str]:
        """Return what makes up a value that is not plain; the first case that fits."""
        if isinstance(value, Tensor):
            return self._of_tensor(value)
        if isinstance(value, np.ndarray | np.generic):
            array = np.asarray(value)
            held = self._each(array.tolist()) if array.dtype.hasobject else [array.tobytes()]
            return [array.dtype.str, str(array.shape), *held]
        if isinstance(value, torch.jit.ScriptModule):
            return _of_script(value)
        if isinstance(value, nn.Module):
            return self._of_module(value)
        if isinstance(value, set | frozenset):
            return sorted(self._each(value))
        if isinstance(value, Mapping):
            return [part for pair in value.items() for part in self._each(pair)]
        if isinstance(value, list | tuple):
            return self._each(value)
        if isinstance(value, type):
            return self._of_class(value)
        if isinstance(value, FunctionType):
            return self._of_function(value)
        if isinstance(value, CodeType):
            return [value.co_code, *self._each([value.co_names, value.co_consts])]
        if isinstance(value, MethodType):
            return self._each([value.__func__, value.__self__])
        if isinstance(value, BuiltinFunctionType):
            owner = value.__self__
            return [_name(value), *([] if isinstance(owner, ModuleType) else self._each([owner]))]
        if isinstance(value, ModuleType):
            return [value.__name__]
        if isinstance(value, torch.jit.ScriptFunction):
            return [str(value.code)]
        if isinstance(value, _CACHED):
            return self._each([value.__wrapped__])
        if isinstance(value, _BY_REPR):
            return [without_address(repr(value))]
        if root(type(value)) == LIBRARIES[1]:
            return self._of_ours(value)
        if isinstance(value, _BY_TYPE) or root(type(value)) in _TRAINERS:
            return []
        return self._of_object(value)

    def _each(self, values: Iterable[Any]) -> list[bytes]:
        return [self.digest(value) for value in values]

    def _of_ours(self, value: Any) -> Iterable[bytes | str]:
        """Return the text of an object of this package, or its fields where these say more."""
        if is_shown(value):
            return [without_address(repr(value))]
        if not is_dataclass(value):
            return self._of_object(value)
        return self._each(getattr(value, field.name) for field in fields(value))

    def _of_object(self, value: Any) -> Iterable[bytes | str]:
        """Return what `copy` and `pickle` take an object to be."""
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # whatever the object's own code raises
            self.opaque.add(_name(type(value)))
            return []
        if isinstance(reduced, str):
            return [reduced]
        return self._each(list(part) if isinstance(part, Iterator) else part for part in reduced)

    def _of_tensor(self, tensor: Tensor) -> Iterable[bytes | str]:
        plain = tensor.detach()
        try:
            if plain.is_quantized:
                plain = plain.dequantize()
            plain = plain.to_dense() if plain.layout != torch.strided else plain
            raw = plain.cpu().contiguous().resolve_conj().resolve_neg().reshape(-1).view(torch.uint8).numpy()
        except (RuntimeError, NotImplementedError, TypeError):
            self.opaque.add(f"a tensor on {tensor.device}")
            return []
        return [str(tensor.dtype), str(tuple(tensor.shape)), raw.tobytes()]

    def _of_module(self, module: nn.Module) -> Iterable[bytes | str]:
        if type(module).__module__.startswith("torch._dynamo"):
            return self._each(module.children())
        hooks = [_in_turn(module._forward_pre_hooks), _in_turn(module._forward_hooks)]
        own = {name: value for name, value in settings(module).items() if name != "_compiled_call_impl"}
        tensors = [module._parameters, module._buffers]
        return self._each([type(module), *tensors, own, *hooks, module._modules])

    def _of_class(self, kind: type) -> Iterable[bytes | str]:
        """Return the code and the plain values of a class of the user's, and of what it inherits."""
        parts: list[bytes | str] = [_name(kind)]
        for base in kind.__mro__:
            is_other = is_standard(base)
            members = replaced(base) if is_other else vars(base)
            holds = is_users_class(base)
            for name, member in sorted(members.items()):
                function = function_of(member)
                is_value = isinstance(function, _OF_MODULES) and not name.startswith("__")
                # Python's own names, such as those of an Enum, begin and end with a line.
                is_held = holds and isinstance(member, _OF_CLASSES) and not re.match("_.*_$", name)
                if isinstance(function, FunctionType) or is_value or is_held or is_other:
                    parts += [base.__qualname__, name, self.digest(function)]
        return parts

    def _of_function(self, function: FunctionType) -> Iterable[bytes | str]:
        """Return a function's text, defaults, what it closes over and, of the user's code, what it names."""
        if is_library(function) and root(function) == LIBRARIES[1]:
            return [_name(function)]
        held = self._each([function.__defaults__, function.__kwdefaults__, _cells(function)])
        if is_standard(function):
            return [_name(function), *held]
        text, says_all = source_of(function)
        # Code from an interactive prompt has no source, but it has been compiled.
        parts: list[bytes | str] = [text] if text else []
        parts += [] if says_all else [self.digest(function.__code__)]
        names = [] if is_installed(function) else self._named(function.__globals__, _names(function.__code__))
        return [_name(function), *parts, *held, *names]

    def _named(
        self, namespace: Mapping[str, Any], names: set[str], seen: tuple[ModuleType, ...] = ()
    ) -> Iterator[bytes | str]:
        """Yield what names stand for in a module, and in those modules of the user's that it names."""
        for name in sorted(names & namespace.keys()):
            value = namespace[name]
            if isinstance(value, (*_OF_MODULES, *_OF_USERS)):
                yield name
                yield self.digest(value)
            elif isinstance(value, ModuleType) and value not in seen and is_users_module(value):
                yield name
                yield from self._named(vars(value), names, (*seen, value))


def settings(module: nn.Module) -> dict[str, Any]:
    """Return by name the attributes of a module that torch's base class does not have."""
    return {name: vars(module)[name] for name in sorted(set(vars(module)) - set(vars(nn.Module())))}


def is_shown(value: Any) -> bool:
    """Return whether the text of a value says all of it, in every process."""
    if isinstance(value, list | tuple):
        return all(map(is_shown, value))
    if type(value) is dict:
        return all(map(is_shown, (*value, *value.values())))
    if root(type(value)) == LIBRARIES[1] and not isinstance(value, nn.Module):
        # Long arrays are cut in a text, and numbers rounded.
        if is_dataclass(value):
            held = [getattr(value, field.name) for field in fields(value)]
            return all(field.repr for field in fields(value)) and all(
                isinstance(one, PurePath) or is_shown(one) for one in held
            )
        return repr(value) != object.__repr__(value)
    of_torch = isinstance(value, torch.dtype | torch.device | torch.utils.hooks.RemovableHandle)
    function = isinstance(value, FunctionType | type(torch.relu)) and is_library(value)
    return type(value) in PLAIN or of_torch or function


def without_address(text: str) -> str:
    """Return the `repr` of something without where it lies in memory."""
    return _ADDRESS.sub("", text)


def _joined(*parts: bytes | str) -> bytes:
    digest = sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        digest.update(f"{len(content)} ".encode() + content)
    return digest.digest()


def _name(code: Any) -> str:
    """Return the name of a class or function, without the module where its own text is read too."""
    name = str(getattr(code, "__qualname__", None))
    # The same network may come from a script and from a module.
    return f"{code.__module__}.{name}" if is_standard(code) else name


def _cells(function: FunctionType) -> list[Any]:
    """Return what a function closes over."""
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # nothing was put there yet
            found.append(None)
    return found


def _names(code: CodeType) -> set[str]:
    """Return the names that code looks up, and those of the functions in it."""
    inner = [_names(part) for part in code.co_consts if isinstance(part, CodeType)]
    return set(code.co_names).union(*inner)


def _in_turn(hooks: Mapping[int, Any]) -> list[Any]:
    # Their numbers count all hooks of the process.
    return list(hooks.values())


def _of_script(module: torch.jit.ScriptModule) -> list[bytes | str]:
    """Return the files that a scripted module is saved as, without what refers to its source."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(module, stream)
    parts: list[bytes | str] = []
    with zipfile.ZipFile(stream) as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith((".debug_pkl", ".data/serialization_id")):
                parts += [name.partition("/")[2], archive.read(name)]
    return parts
