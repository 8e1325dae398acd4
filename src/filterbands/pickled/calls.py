"""The calls that torch allows in a pickle, kept to those that torch.save writes."""

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType
from typing import Any

from torch import _weights_only_unpickler

from .stand_ins import Made, Name, PickleError, fits

# Calls another function, with arguments of the file.
_FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
_REBUILD = "torch._utils._rebuild_"


def _are(*kinds: Any) -> Callable[[list[Any]], bool]:
    """Return a check that arguments are of classes, or are containers of kinds."""
    classes, names = tuple(one for one in kinds if isinstance(one, type)), kinds

    def check(given: list[Any]) -> bool:
        return all(one.kind in names if isinstance(one, Made) else isinstance(one, classes) for one in given)

    return check


def _is_latin(given: list[Any]) -> bool:
    return isinstance(given[0], str) and given[1:] in ([], ["latin1"], ["latin-1"])


def _is_bytes(given: list[Any]) -> bool:
    (one,) = given
    return isinstance(one, Made) and one.maker == "_codecs.encode"


def _is_of_object(given: list[Any]) -> bool:
    """Return whether the first argument is a storage or tensor that the pickle has made."""
    return isinstance(given[0], Made) and given[0].kind == "object"


def _are_flat(values: list[Any]) -> bool:
    """Return whether containers hold numbers alone: torch makes tensors of them."""
    containers = [one for one in values if isinstance(one, Made) and one.kind != "object"]
    return all(_are(int, float)(one.parts) for one in containers)


def _is_of_flat(given: list[Any]) -> bool:
    return isinstance(given[1], Made) and _are_flat(given[1].parts)


def _is_whole(given: list[Any]) -> bool:
    """Return whether a tensor has no more numbers than its storage; memory is taken for them first."""
    is_flat = len(given) > 4 and isinstance(given[4], Made) and _are_flat(given[4].parts)
    return is_flat and fits(given) and prod(given[2].sides or given[2].parts) <= given[0].numbers


# What torch.save writes as arguments. Other functions and classes of torch are called without any.
_WRITTEN: Mapping[str, Callable[[list[Any]], bool]] = MappingProxyType(
    {
        "_codecs.encode": _is_latin,
        "builtins.bytearray": _is_bytes,
        "builtins.complex": _are(int, float),
        "builtins.set": _are("list", "tuple", "set"),
        "collections.Counter": _are("dict"),
        "collections.OrderedDict": _are("list", "tuple", "dict"),
        "torch.Size": _are("tuple", "list"),
        "torch.device": _are(str, int),
        "torch.nn.parameter.Parameter": _is_of_object,
        "torch.serialization._get_layout": _are(str),
        **{f"{_REBUILD}{name}": _is_of_object for name in ("parameter", "parameter_with_state")},
        **{f"{_REBUILD}{name}": fits for name in ("tensor", "tensor_v2", "tensor_v3")},
        f"{_REBUILD}nested_tensor": _is_of_object,
        f"{_REBUILD}qtensor": _is_whole,
        f"{_REBUILD}meta_tensor_no_storage": lambda _: True,
        f"{_REBUILD}sparse_tensor": _is_of_flat,
    }
)


def check_call_of_torch(name: str, arguments: Made) -> None:
    """Refuse a call that torch allows and torch.save does not write: it may take any memory or time.

    Names that torch does not allow pass, since torch does not call what has them.
    """
    allowed, given = _weights_only_unpickler._get_allowed_globals(), arguments.parts
    if not name:
        raise PickleError("would call something that it makes itself")
    if name == _FROM_TYPE and len(given) > 2 and isinstance(given[0], Name) and isinstance(given[2], Made):
        inner = given[0].text
        if inner in allowed and not inner.startswith(_REBUILD):
            raise PickleError(f"would call {inner} in place of what makes a tensor")
        check_call_of_torch(inner, given[2])
    elif name in allowed and given and not _WRITTEN.get(name, _are())(given):
        raise PickleError(f"would call {name} with other values than torch.save does")
