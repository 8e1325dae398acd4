"""The weights among all that a checkpoint holds: which entry they are, and what else there is."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import count
from typing import Any

from torch import Tensor

_LOG = logging.getLogger(__name__)
# Keys under which trainers save the weights, the first one first.
_WRAPPERS = (
    *("state_dict", "net", "model", "model_state_dict", "weights", "params", "model_ema", "module"),
    *("model_state", "network", "ema_state_dict", "state_dict_ema", "ema", "shadow", "teacher", "student"),
)
# Wrappers of wrappers are opened; trees of settings are searched only where there are no weights elsewhere.
_DEPTH, _DEEPEST = 3, 16
# Dictionaries and modules that are looked at.
_MOST = 100_000

_Place = tuple[str, ...]


def weights_in(loaded: object, *, key: str | None, where: str) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, and say so where others could be meant.

    Args:
        loaded: What the file holds.
        key: The entry to take, dotted where it lies in another one; None for the one that is known to be
            the weights, or the only one with tensors.
        where: The name of the file, for messages.

    Raises:
        ValueError: There is no such entry, there are several, or the file holds no dictionary.
    """
    for depth in (_DEPTH, _DEEPEST):
        try:
            entries = dict(_entries(loaded, count(1), depth))
        except OverflowError:
            raise ValueError(
                f"{where} holds more than {_MOST:,} dictionaries and modules, or some of them many times; "
                "save model.state_dict()"
            ) from None
        if () not in entries:
            raise ValueError(
                f"{where} holds a {type(loaded).__name__}, not a state dict; save model.state_dict()"
            )
        holders = _holders(entries, axes=1)
        start = next((place for place in entries if ".".join(place) == key), None)
        if holders and (key is None or start is not None):
            break
    told = ", ".join(_name(place) for place in holders[:12]) + (" ..." if len(holders) > 12 else "")
    if key is None:
        # Settings may be tensors with one axis; every network has weights with more.
        found = _most_likely((), _holders(entries, axes=2) or holders)
        fault = "several entries that may be the weights"
    else:
        found = start if start is None or start in holders else _most_likely(start, holders)
        fault = f"no entry {key!r} of weights"
    if found is None and (key is not None or holders):
        raise ValueError(f"{where} has {fault}; there are {told or 'none'}; choose one with --key (key=)")
    if key is None and len(holders) > 1 and found is not None:
        others = ", ".join(_name(place) for place in holders if place != found)
        _say(f"{where}: the weights are those of {_name(found)}; --key (key=) takes others: {others}")
    taken: dict[str, Tensor] = {}
    for name, tensor in _items(entries[found or ()]):
        if isinstance(tensor, Tensor):
            # The text of another object can be of any length, or be hidden by an attribute of the file.
            if not isinstance(name, (str, int)):
                raise ValueError(f"{where} names a tensor by a {type(name).__name__}; name each by a text")
            if str(name) in taken:
                raise ValueError(f"{where} names two tensors {name}, by a number and by a text; rename one")
            taken[str(name)] = tensor
    return taken


def _entries(
    value: object, visits: Iterator[int], depth: int, place: _Place = ()
) -> Iterator[tuple[_Place, dict[Any, Any]]]:
    """Yield the dictionaries in what a file holds, and where they lie; raise OverflowError at too many."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    attributes = getattr(value, "__dict__", {})
    if {"_parameters", "_buffers", "_modules"} <= attributes.keys():
        # A whole network, of which the unpickler has kept the attributes and not the class.
        value = dict(_state(attributes, visits))
    if not isinstance(value, dict):
        return
    _visit(visits)
    yield place, value
    for name, inner in _items(value) if len(place) < depth else ():
        # The moments of an optimizer are tensors too, under numbers or under the names of the weights.
        if isinstance(name, str) and not name.startswith("optim"):
            yield from _entries(inner, visits, depth, (*place, name))


def _state(
    attributes: Mapping[str, Any], visits: Iterator[int], prefix: str = ""
) -> Iterator[tuple[str, Tensor]]:
    """Yield what `state_dict` of a network returns, from the attributes of its modules."""
    _visit(visits)
    unsaved = attributes.get("_non_persistent_buffers_set")
    for kind in ("_parameters", "_buffers"):
        for name, tensor in _items(attributes.get(kind)):
            if isinstance(tensor, Tensor) and not (isinstance(unsaved, set) and name in unsaved):
                yield f"{prefix}{name}", tensor
    # No network is as deep as a module that a file puts into itself.
    for name, module in _items(attributes.get("_modules")) if prefix.count(".") < 100 else ():
        yield from _state(getattr(module, "__dict__", {}), visits, f"{prefix}{name}.")


def _visit(visits: Iterator[int]) -> None:
    if next(visits) > _MOST:
        raise OverflowError


def _most_likely(place: _Place, holders: Sequence[_Place]) -> _Place | None:
    """Return the place of the weights at or below one; None without any, or without a first of several."""
    below = [holder[len(place)] for holder in holders if holder[: len(place)] == place != holder]
    known = [name for name in _WRAPPERS if name in below]
    if not known and place in holders:
        return place
    names = known or sorted(set(below))
    return _most_likely((*place, names[0]), holders) if known or len(names) == 1 else None


def _items(value: object) -> Iterable[tuple[Any, Any]]:
    # An attribute that a file sets, such as one that is called items, hides the method of that name.
    return dict.items(value) if isinstance(value, dict) else ()


def _holders(entries: Mapping[_Place, dict[Any, Any]], *, axes: int) -> list[_Place]:
    """Return the places of the entries that hold a tensor with so many axes or more.

    Numbers that a trainer keeps, such as the best accuracy, are tensors without axes.
    """
    # One dictionary may be there many times.
    each = {id(entry): entry for entry in entries.values()}
    holding = {
        key
        for key, entry in each.items()
        if any(isinstance(value, Tensor) and value.ndim >= axes for _, value in _items(entry))
    }
    return [place for place, entry in entries.items() if id(entry) in holding]


def _name(place: _Place) -> str:
    return ".".join(place) or "'' (the top level)"


@cache
def _say(text: str) -> None:
    """Write a line once, since a verb may read a file several times."""
    _LOG.warning("%s", text)
