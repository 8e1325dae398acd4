"""Reads words into options: tyro on the dataclasses of the verbs and on the configs of the library itself."""

import contextlib
import dataclasses
import io
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from ..checks import hint

Verb = TypeVar("Verb")

# Letters in a line of the help, at least.
_COLUMNS = 60

# What the help shows in place of a value: by the type, and by the name of the field.
_METAVARS_OF_TYPES: dict[object, str] = {int: "N", float: "X"}
_METAVARS = {
    **dict.fromkeys(("arch", "baseline", "delete", "device", "layer", "name", "split"), "NAME"),
    **dict.fromkeys(("classes", "db", "export", "file", "html", "robustbench", "table"), "FILE"),
    **dict.fromkeys(("kinds", "only", "overlap"), "A,B"),
    **dict.fromkeys(("mean", "std"), "R,G,B"),
    **dict.fromkeys(("data", "spec"), "SPEC"),
    **dict.fromkeys(("corrupted", "folder"), "DIR"),
    "models": "MODEL ...",
    "model": "MODEL",
    "recipe": "RECIPE",
    "cutoff": "R",
    "prefix": "TEXT",
    "require": "EXPR",
    "severities": "1,2",
    "set": "FIELD=VALUE",
    "ray": "ADDRESS",
    "parameters": "cifar|imagenet",
    "precision": "float32|bfloat16",
    "interpolation": "bilinear|bicubic",
    "background": "white|black|R,G,B",
    "class_order": "name|number",
}
_ITEMS: dict[Any, str] = {int: "whole number", float: "number", str: "name"}
_MARKERS = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
_RULES = ConstructorRegistry()


def parse(options: type[Verb], verb: str, words: Sequence[str]) -> Verb | str:
    """Return the options of a verb, or the text of its help.

    Raises:
        ValueError: Words that do not fit; the line says which.
    """
    more = f" (filterbands {verb} --help shows the options)"
    if words and words[0].startswith("--tyro"):
        raise ValueError(f"unrecognized options: {words[0]}{more}")

    def refuse(event: Any) -> None:
        raise ValueError(_said(event, field_names(options), more))

    # tyro 1.0 offers its structured errors through this private hook alone.
    hook = getattr(getattr(tyro, "_errors", None), "on_parse_error", None)
    out, errors = io.StringIO(), io.StringIO()
    refusing = contextlib.nullcontext() if hook is None else hook(refuse)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), refusing, _wide_enough():
            return tyro.cli(options, args=words, prog=f"filterbands {verb}", config=_MARKERS, registry=_RULES)
    except SystemExit as end:
        if not end.code:
            return out.getvalue().rstrip()
        # Without the hook tyro draws a box around its text.
        said = re.sub(r"[\u2500-\u257f]", " ", errors.getvalue())
        raise ValueError(" ".join(said.split()) or f"the words do not fit{more}") from None


@contextlib.contextmanager
def _wide_enough() -> Iterator[None]:
    """Let the help be at least as wide as its longest words; below, tyro never ends."""
    before = os.environ.get("COLUMNS")
    if shutil.get_terminal_size().columns >= _COLUMNS:
        yield
        return
    os.environ["COLUMNS"] = str(_COLUMNS)
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def field_names(options: Any) -> tuple[str, ...]:
    """Return the names of all options: of the fields of a dataclass and of the dataclasses in it."""
    hints = get_type_hints(options)
    names: list[str] = []
    for field in dataclasses.fields(options):
        inner = hints[field.name]
        names += field_names(inner) if dataclasses.is_dataclass(inner) else [field.name]
    return tuple(names)


def _said(event: Any, names: Sequence[str], more: str) -> str:
    """Return in one line what is wrong with the words."""
    flags = {name: f"--{name.replace('_', '-')}" for name in names}
    kind = type(event).__name__
    if kind == "InstantiationFailure":
        if event.argument is not None:
            return f"{event.argument.display_name()} {event.message}"
        # The library's own checks begin with the name of the field, which is a flag here.
        return re.sub(r"^\w+(?= (?:needs|is) )", lambda found: flags.get(found[0], found[0]), event.message)
    if kind == "MissingArgs":
        missing = [_name(one.arg) for one in event.missing_arguments]
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing{more}"
    if kind == "UnrecognizedArgs":
        if not event.tokens[0].startswith("-"):
            return f"{' '.join(event.tokens)} is more than the verb takes{more}"
        near = hint(event.tokens[0], flags.values())
        return f"unrecognized options: {' '.join(event.tokens)}{near}{more}"
    if kind == "BadValue":
        return f"{_name(event.argument)} needs a value{more}"
    return f"the words do not fit: {kind}{more}"


def _name(argument: Any) -> str:
    """Return an argument as the help shows it."""
    metavar = argument.lowered.metavar
    return str(metavar) if argument.is_positional() else f"{argument.display_name()} {metavar}"


@_RULES.struct_rule
def _shown(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Let tyro read a dataclass, and show each field with its metavar and a default that says something."""
    if not dataclasses.is_dataclass(info.type) or info.type in _under_way:
        return None
    _under_way.append(info.type)
    try:
        spec = ConstructorRegistry.get_struct_spec(info)
    finally:
        _under_way.remove(info.type)
    if not isinstance(spec, StructConstructorSpec):
        return None
    fields = (dataclasses.replace(field, type=_annotated(field)) for field in spec.fields)
    return dataclasses.replace(spec, fields=tuple(fields))


# Dataclasses that tyro's own rule is reading, which the rule above must leave to it.
_under_way: list[type] = []


def _annotated(field: StructFieldSpec) -> Any:
    annotated = get_origin(field.type) is Annotated
    kind, *given = get_args(field.type) if annotated else (field.type,)
    metavar = _METAVARS.get(field.name) or _METAVARS_OF_TYPES.get(kind)
    shown = tyro.conf.arg(metavar=metavar, help_behavior_hint=_default)
    parts = (kind, shown, *given)
    return Annotated[parts]


def _default(text: str) -> str:
    return "" if text in ("", "''", "None", "False") else f"(default: {text})"


@_RULES.primitive_rule
def _from_word(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Read a number, a text, or `tuple[X, ...]` with commas, from one word; `X | None` as X.

    Positional and repeated tuples are left to tyro.
    """
    kind: Any = next((one for one in get_args(info.type) if type(None) in get_args(info.type)), info.type)
    is_list = get_origin(kind) is tuple
    item = get_args(kind)[0] if is_list else kind
    if item not in _ITEMS or (is_list and {tyro.conf.Positional, tyro.conf.UseAppendAction} & info.markers):
        return None

    def read(words: list[str]) -> Any:
        parts = [part.strip() for part in words[0].split(",") if part.strip()] if is_list else words
        try:
            values = [item(part) for part in parts]
        except ValueError:
            values = []
        if not values:
            what = f"{_ITEMS[item]}s separated by commas" if is_list else f"a {_ITEMS[item]}"
            raise ValueError(f"needs {what}, got {words[0]!r}")
        # Whole numbers are severities: each once, in order.
        return (tuple(sorted(set(values)) if item is int else values)) if is_list else values[0]

    def written(value: Any) -> list[str]:
        return [] if value is None else [",".join(map(str, value)) if is_list else str(value)]

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="TEXT",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, tuple if is_list else item),
        str_from_instance=written,
    )
