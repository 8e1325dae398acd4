"""A pickle gone through with stand-ins in place of what it makes. A pickle is a program for a stack."""

import pickletools
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import IO, Any

from torch._utils import IMPORT_MAPPING, NAME_MAPPING

from .stand_ins import KEY, Made, Name, PickleError, compared, copied, entries, fits, weight

Codes = Iterable[tuple[pickletools.OpcodeInfo, Any, int | None]]
"""The operations of a pickle, as `pickletools.genops` yields them."""

UNFOLDED = 64 << 20
"""Most letters of what a pickle holds, written out, more than its own bytes: parts may occur many times."""
DEPTH = 100
"""Most containers within each other."""

# Letters of keys that are looked up: each time all of a key is, however often it occurs.
_LOOKED_UP = 1 << 30
# Letters of keys that are compared, since they have one hash: those of some thousand numbers.
_COMPARED = 1 << 28
# Height of a container that is being measured.
_BEGUN = -DEPTH
# Arguments of what makes a container of keys.
_OF_KEYS = ("builtins.set", "builtins.frozenset", "collections.Counter", "collections.OrderedDict")


@dataclass(slots=True)
class Walk:
    """What was found by going through one or more pickles of a file."""

    size: int
    """Bytes of the file."""
    names: set[str] = field(default_factory=set)
    """What the pickles name, as Python 3 calls it."""
    protocol: int = 0
    """The largest protocol."""
    check_call: Callable[[str, Made], None] | None = None
    """Takes the name of what would be called, empty where it has none, and raises to refuse it."""
    is_whole: bool = False
    """Whether the file holds the numbers of its tensors uncompressed."""
    looked_up: int = 0
    """Letters of keys so far."""
    copied: int = 0
    """Letters that calls copy so far."""
    compared: int = 0
    """Letters of keys that have the hash of another one so far."""
    storages: list[list[Any]] = field(default_factory=list)
    """What stands for each storage of tensors, as `torch.save` writes it: text, class, key, place, count."""
    loops: int = 0
    """How often a container is an entry of what is in it."""

    def through(self, codes: Codes) -> Any:
        """Go through one pickle and return the stand-in of what it holds.

        Raises:
            PickleError: It is cut, makes no sense, or would take more than the limits.
        """
        machine = _Machine(self)
        try:
            for code, value, _ in codes:
                machine.count += 1
                if code.name in _VALUES:
                    machine.stack.append(value)
                else:
                    _ACTIONS[code.name](machine, value)
            (content,) = machine.stack
        except PickleError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, struct.error, OverflowError):
            raise PickleError("is cut or makes no sense") from None
        except RuntimeError as error:
            raise PickleError(str(error).partition("\n")[0]) from None
        for one in machine.made:
            self.compare(one.keys)
        longest = max([self._measure(one, 1) for one in machine.made], default=0)
        # What is within itself is not written out within itself, but again for each way that leads there.
        self.limit(longest << min(self.loops, 64), 0)
        return content

    def keys(self, values: Iterable[Any]) -> None:
        """Count what is looked up as keys."""
        self.looked_up += sum(KEY + weight(one) for one in values)
        if self.looked_up > _LOOKED_UP + self.size:
            raise PickleError("has keys that would take too long to look up")

    def compare(self, keys: Sequence[Any]) -> None:
        """Count what is compared where keys of one container have one hash."""
        self.compared += compared(keys)
        if self.compared > _COMPARED:
            raise PickleError("has too many keys of one hash, which would take too long to compare")

    def copy(self, values: Iterable[Any]) -> None:
        """Count what a call copies of its arguments, or an object of its state."""
        self.copied += sum(map(copied, values))
        self.limit(self.copied, 0)

    def limit(self, letters: int, height: int) -> None:
        """Raise PickleError for what is too long or too deep."""
        if height > DEPTH:
            raise PickleError(f"holds more than {DEPTH} containers within each other")
        if letters > UNFOLDED + self.size:
            raise PickleError("holds one thing many times, which would take too much memory")

    def _measure(self, value: Any, depth: int) -> int:
        """Return the letters of a value written out."""
        if not isinstance(value, Made):
            return weight(value)
        self.limit(value.letters, depth)
        if value.height < 0:
            self.loops += 1
        elif not value.height:
            value.height = _BEGUN
            value.letters = 1 + sum([self._measure(one, depth + 1) for one in value.parts])
            heights = [one.height for one in value.parts if isinstance(one, Made)]
            value.height = 1 + max([0, *heights])
        self.limit(value.letters, value.height)
        return value.letters


@dataclass(slots=True)
class _Machine:
    """The stack of one pickle."""

    walk: Walk
    stack: list[Any] = field(default_factory=list)
    below: list[list[Any]] = field(default_factory=list)
    """The stacks below each mark."""
    memo: dict[int, Any] = field(default_factory=dict)
    made: list[Made] = field(default_factory=list)
    count: int = 0
    """Operations so far."""

    def push(self, kind: str, parts: list[Any] | None = None) -> None:
        one = Made(kind, parts or [])
        if kind in ("tuple", "frozenset"):
            # These alone can be keys, and what they hold does not change any more.
            one.weight = 1 + sum(map(weight, one.parts))
            one.level = 1 + max([part.level for part in one.parts if isinstance(part, Made)], default=0)
            self.walk.limit(one.weight, one.level)
        self.made.append(one)
        self.stack.append(one)

    def marked(self) -> list[Any]:
        """Return what lies above the last mark, and take that away."""
        above, self.stack = self.stack, self.below.pop()
        return above

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def tuple_of(self, count: int) -> None:
        if count > len(self.stack):
            raise LookupError
        parts = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        self.push("tuple", parts)

    def add(self, values: list[Any], *, keys: bool) -> None:
        """Add entries to the container on top; every other one is a key, or every one."""
        target = self.stack[-1]
        if not isinstance(target, Made) or target.kind in ("tuple", "frozenset"):
            raise TypeError
        if keys:
            own = values[:: 1 if target.kind == "set" else 2]
            self.walk.keys(own)
            target.keys += own
        target.parts += values

    def dictionary(self, values: list[Any]) -> None:
        self.push("dict")
        self.add(values, keys=True)

    def frozen(self, values: list[Any]) -> None:
        self.walk.keys(values)
        self.push("frozenset", values)
        self.made[-1].keys = values

    def put(self, place: int) -> None:
        # Numbers are given one after the other, but for those that pickletools.optimize leaves out.
        if not 0 <= place <= self.count:
            raise PickleError(f"numbers {place:,} objects and is much shorter")
        self.memo[place] = self.stack[-1]

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        self.walk.names.add(f"{module}.{name}")
        self.stack.append(Name(f"{module}.{name}"))

    def call(self, called: Any, arguments: Any) -> None:
        name = called.text if isinstance(called, Name) else ""
        if not isinstance(arguments, Made) or (not name and self.walk.check_call is None):
            raise TypeError
        if self.walk.check_call is not None:
            self.walk.check_call(name, arguments)
        self.walk.copy(arguments.parts)
        if name in _OF_KEYS:
            self.walk.keys(entries(arguments.parts[:1]))
            self.walk.compare(_keys_for(name, arguments.parts[:1]))
        self.push("object")
        self.made[-1].maker = name
        if name == "_codecs.encode":
            self.made[-1].numbers = weight(arguments.parts[0])
        if name == "torch.Size":
            given = arguments.parts[0] if arguments.parts else None
            self.made[-1].sides = list(given.parts) if isinstance(given, Made) else []

    def called_with(self, count: int) -> None:
        """Make an object of a class and its arguments, `count` values on the stack."""
        called, *arguments = self.stack[-count:]
        del self.stack[-count:]
        self.call(called, arguments[0])

    def build(self) -> None:
        """Set the state of the object below, which does not become a part that is written out."""
        state = self.stack.pop()
        self.walk.copy([state])
        self.walk.keys(entries([state]))
        # A dictionary, or a tuple of two where there are slots.
        for one in [state, *(state.parts if isinstance(state, Made) else [])]:
            self.walk.compare(one.keys if isinstance(one, Made) else [])
        target = self.stack[-1]
        if not isinstance(target, Made):
            raise TypeError
        if _is_of_tensor(target.maker):
            # The state of a tensor is its storage, before torch 0.4; that of a Parameter may be a tensor.
            parts = state.parts if isinstance(state, Made) else []
            is_held = target.maker == "torch.nn.parameter.Parameter" and len(parts) in (3, 5)
            if not is_held and not (len(parts) == 4 and fits(parts)):
                raise PickleError("would give a tensor more numbers than its storage has")

    def drop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.stack = self.below.pop()

    def load(self) -> None:
        """Fetch a storage by its number, which is a tuple of texts and numbers."""
        number = self.stack.pop()
        self.walk.keys([number])
        parts = number.parts if isinstance(number, Made) else []
        # torch refuses other texts, such as that of a module with its source.
        if not parts or not isinstance(parts[0], str) or parts[0] == "storage":
            # Before torch 0.4 a view of a storage had a key too.
            views = [
                one.parts[:1] if isinstance(one, Made) else [one] for one in parts[5:] if one is not None
            ]
            keys = [key for one in ([parts[2:3], *views]) for key in one]
            if len(parts) < 5 or len(keys) <= len(views) or not all(isinstance(key, str) for key in keys):
                raise PickleError("names a storage in another way than torch.save does")
            self.walk.storages.append(parts)
        largest = max([part for part in parts if isinstance(part, int)], default=0)
        if self.walk.is_whole and largest > self.walk.size:
            # Memory is taken before it is read.
            raise PickleError(f"claims {largest:,} numbers, and the file has {self.walk.size:,} bytes")
        self.push("object")
        self.made[-1].numbers = largest


def _is_of_tensor(maker: str) -> bool:
    """Return whether what a function of this name makes is a tensor."""
    if maker == "torch.nn.parameter.Parameter" or maker.startswith(
        ("torch._utils._rebuild", "torch._tensor.")
    ):
        return True
    return maker.startswith("torch.") and maker.endswith("Tensor")


def _keys_for(name: str, given: list[Any]) -> list[Any]:
    """Return the keys of a container that is made of another one: of pairs, but for a set."""
    parts = [part for one in given if isinstance(one, Made) for part in one.keys or one.parts]
    if name in ("builtins.set", "builtins.frozenset"):
        return parts
    return [part.parts[0] if isinstance(part, Made) and len(part.parts) == 2 else part for part in parts]


# Operations whose argument is the value.
_VALUES = frozenset(
    [
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    ]
)


def _pops(action: Callable[[_Machine, Any], None]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: action(machine, machine.stack.pop())


def _setitem(machine: _Machine, value: Any) -> None:
    machine.add([machine.stack.pop(), value], keys=True)


def _pop_mark(machine: _Machine, _: Any) -> None:
    machine.marked()


def _nothing(machine: _Machine, _: Any) -> None:
    del machine


_ACTIONS: Mapping[str, Callable[[_Machine, Any], None]] = MappingProxyType(
    {
        "PROTO": lambda m, value: setattr(m.walk, "protocol", max(m.walk.protocol, value)),
        "FRAME": _nothing,
        "STOP": _nothing,
        "NONE": lambda m, _: m.stack.append(None),
        "NEWTRUE": lambda m, _: m.stack.append(True),
        "NEWFALSE": lambda m, _: m.stack.append(False),
        "EMPTY_LIST": lambda m, _: m.push("list"),
        "EMPTY_TUPLE": lambda m, _: m.push("tuple"),
        "EMPTY_DICT": lambda m, _: m.push("dict"),
        "EMPTY_SET": lambda m, _: m.push("set"),
        "MARK": lambda m, _: m.mark(),
        "POP": lambda m, _: m.drop(),
        "POP_MARK": _pop_mark,
        "DUP": lambda m, _: m.stack.append(m.stack[-1]),
        "LIST": lambda m, _: m.push("list", m.marked()),
        "TUPLE": lambda m, _: m.push("tuple", m.marked()),
        "TUPLE1": lambda m, _: m.tuple_of(1),
        "TUPLE2": lambda m, _: m.tuple_of(2),
        "TUPLE3": lambda m, _: m.tuple_of(3),
        "DICT": lambda m, _: m.dictionary(m.marked()),
        "FROZENSET": lambda m, _: m.frozen(m.marked()),
        "APPEND": _pops(lambda m, value: m.add([value], keys=False)),
        "APPENDS": lambda m, _: m.add(m.marked(), keys=False),
        "SETITEM": _pops(_setitem),
        "SETITEMS": lambda m, _: m.add(m.marked(), keys=True),
        "ADDITEMS": lambda m, _: m.add(m.marked(), keys=True),
        "GET": lambda m, place: m.stack.append(m.memo[place]),
        "BINGET": lambda m, place: m.stack.append(m.memo[place]),
        "LONG_BINGET": lambda m, place: m.stack.append(m.memo[place]),
        "PUT": lambda m, place: m.put(place),
        "BINPUT": lambda m, place: m.put(place),
        "LONG_BINPUT": lambda m, place: m.put(place),
        "MEMOIZE": lambda m, _: m.put(len(m.memo)),
        "GLOBAL": lambda m, value: m.name(*value.split(" ", 1)),
        "STACK_GLOBAL": _pops(lambda m, name: m.name(m.stack.pop(), name)),
        "REDUCE": lambda m, _: m.called_with(2),
        "NEWOBJ": lambda m, _: m.called_with(2),
        "NEWOBJ_EX": lambda m, _: m.called_with(3),
        "BUILD": lambda m, _: m.build(),
        "BINPERSID": lambda m, _: m.load(),
    }
)


class Bounded:
    """A file of which no more is read than it has, since memory is taken for what is asked for."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._size = stream, size
        self.readline, self.tell = stream.readline, stream.tell

    def read(self, count: int) -> bytes:
        """Return so many bytes; raise ValueError where there are fewer."""
        if count > self._size - self.tell():
            raise ValueError("it ends before what it claims to hold")
        return self._stream.read(count)
