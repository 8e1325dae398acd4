"""Runs a verb of the command line and prints its answer."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any, get_type_hints

from ..checks import hint
from ..version import __version__
from .parsing import parse

VERBS: Mapping[str, str] = MappingProxyType(
    {
        "demo": "train three networks on generated images, evaluate them, write a report",
        "analyze": "show how low- or high-frequency every convolution's filters are",
        "train": "train a network by a recipe",
        "bake": "write the plain weights of a run, ready to deploy",
        "shrink": "make a trained network robust to noise without training",
        "corrupt": "write a corrupted copy of a data set",
        "evaluate": "measure clean and corrupted accuracy",
        "results": "list, export or delete results of a database",
        "probe": "show which frequencies a network looks at and what corruptions add",
        "study": "train and evaluate a grid of recipes, fields and seeds",
        "report": "write one HTML page about runs and results",
        "data": "fetch and verify a data set or the frost textures",
    }
)
"""Every verb, and one line that says what it does. The file of its name has `run(options) -> Answer`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 1 for what does not hold, 2 for a user's mistake."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in ("--version", "-V"):
        _out(f"filterbands {__version__}")
        return 0
    if not words or words[0] in ("--help", "-h", "help"):
        _out(_usage())
        return 0
    verb = words[0]
    if verb not in VERBS:
        return _fail("", f"unknown verb {verb!r}{hint(verb, VERBS)}; verbs are {', '.join(VERBS)}")
    # Only the verb's own file is loaded, so that --help and mistakes answer at once.
    module: Any = import_module(f".{verb}", __package__)
    try:
        parsed = parse(get_type_hints(module.run)["options"], verb, words[1:])
        if isinstance(parsed, str):
            _out(parsed)
            return 0
        if "torch" in sys.modules:
            import_module("..engine", __package__).keep_memory()
        answer = module.run(parsed)
    except (ValueError, OSError) as error:
        return _fail(verb, _one_line(error))
    except KeyboardInterrupt:
        print("stopped; what was finished is kept", file=sys.stderr)  # noqa: T201
        return 130
    _out(json.dumps(answer.document) if parsed.json else answer.text)
    code: int = answer.code
    return code


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    # KeyError quotes its message, and some libraries write several lines.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split())


def _usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {what}" for verb, what in VERBS.items())
    return (
        "usage: filterbands VERB [OPTIONS]      filterbands VERB --help      filterbands --version\n\n"
        f"Which frequencies does a network look at, what does that cost, and how do I change it?\n\n{verbs}"
    )


def _fail(verb: str, message: str) -> int:
    print(f"filterbands{f' {verb}' if verb else ''}: {message}", file=sys.stderr)  # noqa: T201
    return 2


def _out(text: str) -> None:
    try:
        print(text, flush=True)  # noqa: T201
    except BrokenPipeError:
        # The reader, say `head`, has closed the pipe; the interpreter must not flush into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
