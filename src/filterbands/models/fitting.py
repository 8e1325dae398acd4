"""A state dict fitted to a network: by which prefix, what is left out, and what does not fit."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from .layers import plain_name, plainly

Shape = tuple[int, ...]

# Buffers that hold what training found, whatever the class of their module.
_LEARNED = ("weight", "bias", "running_mean", "running_var", "weight_u", "weight_v")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """Tensors of a file by the names of a network, and what keeps them from fitting."""

    weights: dict[str, Tensor]
    """By the network's own names."""
    prefix: str
    """What was removed from the names of the file."""
    left: list[str]
    """Names of what the network has no place for, of other modules or counters."""
    missing: list[str]
    """Names of what the network needs and the file lacks."""
    kept: list[str]
    """Names of constants that the file lacks, and the network has by itself."""
    extra: list[str]
    """Names of what belongs to modules of the network, but to another network of that kind."""
    wrong: dict[str, tuple[Shape, Shape]]
    """By name, the shape in the file and the shape in the network."""

    @property
    def fits(self) -> bool:
        """Whether the weights can be loaded."""
        return not (self.missing or self.extra or self.wrong)

    @property
    def outputs(self) -> int | None:
        """The number of outputs of the file, where that alone keeps it from fitting."""
        pairs = {(its[:1], own[:1]) for its, own in self.wrong.values()}
        only = all(its[1:] == own[1:] for its, own in self.wrong.values())
        return next(iter(pairs))[0][0] if len(pairs) == 1 and only and not self.missing else None

    def faults(self) -> str:
        """Return in one line what does not fit."""
        shapes = [f"{name} is {its}, not {own}" for name, (its, own) in self.wrong.items()]
        kinds = {
            "it lacks": self.missing,
            "it also has": self.extra,
            "of another shape:": shapes,
            "without a place:": self.left if self.missing else [],
        }
        parts = [f"{label} {some(found)}" for label, found in kinds.items() if found]
        return "; ".join(parts) + (f" (names without the prefix {self.prefix})" if self.prefix else "")


def some(names: list[str]) -> str:
    """Return the first three names, and how many more there are."""
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"


def fit(model: nn.Module, weights: Mapping[str, Tensor], *, prefix: str | None, where: str) -> Fit:
    """Return how tensors fit a network once one prefix is removed from all names, theirs or the network's.

    The prefix is the one that leaves the fewest names without a tensor. Where the names fit as they are, none
    is removed.

    Args:
        model: The network; it is not changed.
        weights: Tensors by name.
        prefix: The prefix to remove from the names of tensors; None finds it.
        where: Name of the file, for errors.

    Raises:
        ValueError: No name has the given prefix, or several prefixes fit alike.
    """
    state = model.state_dict()
    plain = plainly(state)
    own = {plain(name): name for name, tensor in state.items() if isinstance(tensor, Tensor)}
    # Checkpoints from before torch 0.4.1 lack the batch counters, which are not used.
    constant = _constants(model)
    counted = [name for name in own if not name.endswith("num_batches_tracked")]
    needed = [name for name in counted if own[name] not in constant]
    removed, inner = _prefixes(
        {name: tuple(state[own[name]].shape) for name in needed},
        weights,
        None if prefix is None else _dotted(prefix),
        where,
    )
    named = {name: f"{removed}{name.removeprefix(inner)}" for name in own}
    found = {name: weights[file] for name, file in named.items() if file in weights}
    modules = {plain(name).removeprefix(inner) for name, _ in model.named_modules()}
    used = set(named.values())
    unused = [file for file in weights if file not in used]
    inside = [file for file in unused if file.startswith(removed)]
    extra = [file for file in inside if _belongs(file.removeprefix(removed), weights[file], modules)]
    wrong = {
        name: (tuple(tensor.shape), tuple(state[own[name]].shape))
        for name, tensor in found.items()
        if tensor.shape != state[own[name]].shape
    }
    return Fit(
        weights={own[name]: tensor for name, tensor in found.items()},
        prefix=removed,
        left=[file for file in unused if file not in set(extra)],
        missing=[name for name in needed if name not in found],
        kept=[name for name in counted if own[name] in constant and name not in found],
        extra=extra,
        wrong=wrong,
    )


def _constants(model: nn.Module) -> set[str]:
    """Return the names of buffers that no training changes, such as a mean and a standard deviation."""
    found = set()
    for path, module in model.named_modules():
        # What a norm, frozen or not, or a held layer has beside its parameters belongs to what was learned.
        if not isinstance(module, _NormBase) and "parametrizations" not in path:
            names = (name for name, _ in module.named_buffers(recurse=False) if name not in _LEARNED)
            found |= {f"{path}.{name}" if path else name for name in names}
    return found


def _prefixes(
    own: Mapping[str, Shape], weights: Mapping[str, Tensor], given: str | None, where: str
) -> tuple[str, str]:
    """Return what to remove from the names of the file, and from those of the network."""
    if given and not any(name.startswith(given) for name in weights):
        begins = sorted({name.partition(".")[0] + "." for name in weights if "." in name})
        raise ValueError(f"no name in {where} begins with the prefix {given}; they begin with {some(begins)}")
    names, shapes = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for inner in _beginnings(own) if own else ():
        rests = {name.removeprefix(inner): shape for name, shape in own.items()}
        for name, tensor in weights.items():
            shape = tuple(tensor.shape)
            for start in (0, *(place + 1 for place, letter in enumerate(name) if letter == ".")):
                if (rest := name[start:]) in rests and given in (None, name[:start]):
                    names[name[:start], inner] += 1
                    shapes[name[:start], inner] += shape == rests[rest]
    if not names:
        return given or "", ""
    best = max((count, shapes[pair]) for pair, count in names.items())
    pairs = [pair for pair, count in names.items() if (count, shapes[pair]) == best]
    # The same tensors, whether a prefix is kept on both sides or removed from both.
    first = next(iter(own))
    distinct = {removed + first.removeprefix(inner): (removed, inner) for removed, inner in reversed(pairs)}
    exact = distinct.get(first)
    if exact is None and len(distinct) > 1 and best[0] == len(own):
        several = sorted(distinct.values(), key=lambda pair: len(pair[0]))
        if all(_same(own, weights, several[0], other) for other in several[1:]):
            # One network that the file has under several names.
            return several[0]
        found = " and ".join(sorted(removed or "no prefix" for removed, _ in distinct.values()))
        raise ValueError(
            f"{where} fits with several prefixes before its names: {found}; choose one by --prefix (prefix=)"
        )
    return exact or next(reversed(distinct.values()))


def _same(
    own: Mapping[str, Shape], weights: Mapping[str, Tensor], one: tuple[str, str], other: tuple[str, str]
) -> bool:
    """Return whether a file has the same numbers under two prefixes."""
    pairs = [[removed + name.removeprefix(inner) for removed, inner in (one, other)] for name in own]
    return all(torch.equal(weights[first], weights[second]) for first, second in pairs)


def _beginnings(names: Collection[str]) -> list[str]:
    """Return the prefixes that all names share, shortest first, beginning with none."""
    first, last = min(names), max(names)
    starts = [first[: place + 1] for place, letter in enumerate(first) if letter == "."]
    # What the first and the last in order begin with, all between them do.
    return ["", *filter(last.startswith, starts)]


def _dotted(prefix: str) -> str:
    """Return a prefix as names of tensors begin with it once the file is read."""
    return plain_name(f"{prefix.rstrip('.')}." if prefix else "")


def _belongs(name: str, tensor: Tensor, modules: set[str]) -> bool:
    """Return whether an entry without a place is part of a module that the network has."""
    if not tensor.is_floating_point():
        # An index, such as that of relative positions, which a network makes by itself.
        return False
    first, *parts = name.split(".")
    if first not in modules or not parts:
        # Another block of a sequence, or a bias that a bare layer lacks; else a module of another purpose.
        return first.isdigit() or name in ("weight", "bias")
    # Counters, such as those that profilers leave in every module, have one number.
    return tensor.numel() > 1 or parts[-1] in ("weight", "bias")
