"""The fingerprint of a network: a hash of everything that can change its answers."""

import inspect
import re
from collections.abc import Iterator
from hashlib import sha256
from types import FunctionType

import torch
from torch import Tensor, nn

# Code of these libraries belongs to a version, not to an experiment of the user.
_LIBRARIES = (torch.__name__, __name__.partition(".")[0])
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def model_fingerprint(model: nn.Module) -> str:
    """Return the sha256 of a network's structure, parameters, buffers, settings and code.

    Settings are the plain attributes of its modules, such as the width of a blur, which is not a weight. Code
    is that of the methods of all classes except torch's and this package's. A changed `forward` therefore
    gives another fingerprint. Functions that a method calls outside of its class are not included.

    >>> model_fingerprint(nn.Linear(2, 3)) == model_fingerprint(nn.Linear(2, 3))
    False
    """
    digest = sha256(repr(model).encode())
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(_tensor(name, tensor))
    for name, module in model.named_modules():
        for setting, value in _settings(module):
            place = f"{name}.{setting}"
            digest.update(_tensor(place, value) if isinstance(value, Tensor) else f"{place} {value}".encode())
    classes = {kind for module in model.modules() for kind in type(module).__mro__}
    for kind in sorted(classes, key=lambda kind: f"{kind.__module__}.{kind.__qualname__}"):
        if kind is not object and kind.__module__.partition(".")[0] not in _LIBRARIES:
            for code in _methods(kind):
                digest.update(code.encode())
    return digest.hexdigest()


def _tensor(name: str, tensor: Tensor) -> bytes:
    plain = tensor.detach().cpu().contiguous()
    head = f"{name} {plain.dtype} {tuple(plain.shape)}".encode()
    return head + plain.reshape(-1).view(torch.uint8).numpy().tobytes()


def _settings(module: nn.Module) -> Iterator[tuple[str, Tensor | str]]:
    """Yield the attributes of a module that torch's base class does not have, as tensors or as text."""
    for name in sorted(set(vars(module)) - set(vars(nn.Module()))):
        value = vars(module)[name]
        if isinstance(value, Tensor):
            yield name, value
        else:
            # The order of a set and the address of an object differ between processes.
            plain = sorted(map(repr, value)) if isinstance(value, set | frozenset) else value
            yield name, _ADDRESS.sub("", repr(plain))


def _methods(kind: type) -> Iterator[str]:
    for name, member in sorted(vars(kind).items()):
        function = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
        if isinstance(function, FunctionType):
            try:
                code = inspect.getsource(function)
            except (OSError, TypeError):
                # A class from an interactive prompt has no source, but it has compiled code.
                compiled = function.__code__
                code = f"{compiled.co_code.hex()} {_ADDRESS.sub('', repr(compiled.co_consts))}"
            yield f"{kind.__qualname__}.{name} {code}"
