"""Reads the command line, runs the verb, prints its answer."""

import contextlib
import difflib
import io
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any

import tyro

from ..version import __version__

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
"""Every verb, and what it does in a line. Each lives in the file of its name."""


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
        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        return _fail("", f"unknown verb {verb!r}; {hint}verbs are {', '.join(VERBS)}")
    # Only the verb's own file is loaded, so that --help and mistakes answer at once.
    module: Any = import_module(f".{verb}", __package__)
    try:
        parsed = _parse(module.OPTIONS, verb, words[1:])
        if isinstance(parsed, str):
            _out(parsed)
            return 0
        if "torch" in sys.modules:
            import_module("..engine", __package__).keep_memory()
        answer = module.run(parsed)
    except (ValueError, OSError) as error:
        return _fail(verb, _one_line(error))
    except KeyboardInterrupt:
        _err("stopped; what was finished is kept")
        return 130
    _out(json.dumps(answer.document) if parsed.json else answer.text)
    code: int = answer.code
    return code


def _parse(options: Any, verb: str, words: list[str]) -> Any:
    """Return the verb's options, or the text of its help."""
    caught = io.StringIO()
    try:
        with contextlib.redirect_stdout(caught), contextlib.redirect_stderr(caught):
            return tyro.cli(options, args=words, prog=f"filterbands {verb}")
    except SystemExit as leaving:
        text = caught.getvalue()
        if not leaving.code:
            return text.rstrip()
        raise ValueError(_parse_error(text, verb)) from None


def _parse_error(text: str, verb: str) -> str:
    """Return tyro's boxed message as one line."""
    text = re.sub(r"[│╭╰╮╯─┌└┐┘├┤|]", " ", text)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    lines = [line for line in lines if line and not set(line) <= {"-"}]
    joined = " ".join(lines[1:])
    # A value that a verb's own options refuse says all there is to say.
    refused = re.match(r"Error parsing \w+Options: (.*)", joined)
    help_hint = f" (filterbands {verb} --help shows the options)"
    if refused:
        return re.split(r" For full helptext", refused[1])[0].strip()
    missing = re.findall(r"from filterbands \S+: (--\S+(?: [A-Z][A-Z_,|]*)?|\S+)", joined)
    if missing:
        return f"{' and '.join(missing)} is missing{help_hint}"
    body = re.split(r" (?:Argument helptext|For full helptext|Perhaps you meant)", joined)[0].strip(" :")
    close = re.search(r"Perhaps you meant: (--[\w-]+)", joined)
    hint = f"; did you mean {close.group(1)}?" if close else ""
    return f"{body[:1].lower()}{body[1:]}{hint}{help_hint}"


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    # KeyError quotes its message, and a message of several lines is no message.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split())


def _usage() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {what}" for verb, what in VERBS.items()]
    return "\n".join(
        [
            "usage: filterbands VERB [OPTIONS]      filterbands VERB --help      filterbands --version",
            "",
            "Which frequencies does a network look at, what does that cost, and how do I change it?",
            "",
            *lines,
        ]
    )


def _fail(verb: str, message: str) -> int:
    _err(f"filterbands{f' {verb}' if verb else ''}: {message}")
    return 2


def _out(text: str) -> None:
    try:
        print(text, flush=True)  # noqa: T201
    except BrokenPipeError:
        # The reader, say `head`, has had enough; the interpreter must not flush into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _err(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201
