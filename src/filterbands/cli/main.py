"""Runs a verb of the command line and prints its answer."""

import io
import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from ..checks import hint, printable, users_line
from ..version import __version__

VERBS: Mapping[str, str] = MappingProxyType(
    {
        "demo": "train small networks on digits and generated images, evaluate them, write a report",
        "analyze": "show how low- or high-frequency every convolution's filters are",
        "train": "train a network by a recipe",
        "bake": "write the plain weights of a run, ready to deploy",
        "shrink": "make a trained network robust to noise without training",
        "corrupt": "write a corrupted copy of a data set",
        "evaluate": "measure clean and corrupted accuracy",
        "results": "list, export or delete results of a database",
        "probe": "show which frequencies a network looks at and what corruptions add",
        "study": "train and evaluate a grid of recipes, fields and seeds",
        "report": "write one HTML page about networks and their results",
        "data": "fetch and verify a data set or the frost textures",
    }
)
"""Every verb, and one line that says what it does. The file of its name has `run(options) -> Answer`."""


# Letters of the line that tells an error, whose values may be long.
_LINE = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    0 is success; 1 says that what the user asked to hold does not; 2 is a user's mistake; 3 is an error in
    the user's own code, or one that nobody foresaw; 130 is Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    shown = "--traceback" in words
    words = [word for word in words if word != "--traceback"]
    if sys.stderr is None:
        # It is closed. What is printed to None goes to standard output.
        sys.stderr = open(os.devnull, "w", encoding="utf-8", newline="")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal of few letters shows the others as escapes.
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None and _harmless not in logging.lastResort.filters:
        logging.lastResort.addFilter(_harmless)
    try:
        return _answer(words)
    except KeyboardInterrupt:
        # The reader of a pipe may have been stopped as well.
        with suppress(OSError):
            print("stopped; what was finished is kept", file=sys.stderr)  # noqa: T201
        return 130
    except (Exception, SystemExit) as error:
        if shown:
            traceback.print_exception(error)
        return _fail(error, words)


def _answer(words: list[str]) -> int:
    if sys.stdout is None:
        raise ValueError("standard output is closed; send it to a file or to /dev/null")
    if words and words[0] in ("--version", "-V"):
        return _out(f"filterbands {__version__}")
    if not words or words[0] in ("--help", "-h", "help"):
        return _out(_usage())
    verb = words[0]
    if verb == "--completion":
        return _out(import_module(".completion", __package__).script(words[1:], VERBS))
    if verb not in VERBS:
        raise ValueError(f"unknown verb {verb!r}{hint(verb, VERBS)}; verbs are {', '.join(VERBS)}")
    # Only the verb's own file is loaded, so that --help and mistakes answer at once.
    with _leaving_on_ctrl_c():
        module: Any = import_module(f".{verb}", __package__)
        parsing: Any = import_module(".parsing", __package__)
    options = get_type_hints(module.run)["options"]
    parsed = parsing.parse(options, verb, words[1:])
    if isinstance(parsed, str):
        return _out(f"{parsed}\n\n{import_module('.known', __package__).end_of_help(verb, options)}")
    if "torch" in sys.modules:
        import_module("..engine", __package__).keep_memory()
    with _answering_alone():
        answer = module.run(parsed)
    if answer.shown:
        _out(json.dumps(answer.document) if parsed.json else printable(answer.text))
    code: int = answer.code
    return code


@contextmanager
def _leaving_on_ctrl_c() -> Iterator[None]:
    """End the process at once on Ctrl-C, which in the middle of imports shows many lines of libraries."""

    def leave(*_: object) -> None:
        os.write(2, b"stopped\n")
        os._exit(130)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _answering_alone() -> Iterator[None]:
    """Send what the user's code and libraries print to standard error; standard output is for the answer."""
    # Code in C, and whoever kept the stream, write to the descriptor.
    kept = None
    with suppress(OSError, ValueError, AttributeError):
        if sys.stdout.fileno() == 1:
            other = sys.stderr.fileno()
            kept = os.dup(1)
            os.dup2(other, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is not None:
            # What is still held was printed in between.
            with suppress(OSError):
                sys.stdout.flush()
            os.dup2(kept, 1)
            os.close(kept)


def _fail(error: BaseException, words: Sequence[str]) -> int:
    """Say in one line what went wrong, and return the exit code."""
    verb = f" {words[0]}" if words and words[0] in VERBS else ""
    place = getattr(error, "place", "") or getattr(error.__cause__, "place", "") or users_line(error)
    said, code = _one_line(error), 3
    if place:
        said = f"your code failed at {place}: {_kind(error)}{said} (--traceback shows the way there)"
    elif isinstance(error, (ValueError, OSError)):
        code = 2
    elif isinstance(error, MemoryError) or "out of memory" in said or "allocate memory" in said:
        said = f"memory ran out; take smaller batches, fewer images or fewer workers {said and f'({said})'}"
    else:
        concerned = " ".join(takewhile(lambda word: not word.startswith("-"), words[1:]))
        frame = traceback.extract_tb(error.__traceback__)[-1]
        said = (
            f"{concerned}{concerned and ': '}{_kind(error)}{said} ({Path(frame.filename).name}, line "
            f"{frame.lineno}; --traceback shows the way there; nobody foresaw this, so please report it)"
        )
    with suppress(OSError):
        print(f"filterbands{verb}: {printable(_short(said))}", file=sys.stderr)  # noqa: T201
    return code


def _harmless(record: logging.LogRecord) -> bool:
    """Make what is said on standard error harmless to a terminal."""
    record.msg, record.args = printable(record.getMessage()), None
    return True


def _short(said: str) -> str:
    return said if len(said) <= _LINE else f"{said[: _LINE - 300]} ... {said[-300:]}"


def _kind(error: BaseException) -> str:
    # A failed job has the name in its text.
    return "" if hasattr(error, "place") else f"{type(error).__name__}: "


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    # KeyError quotes its message, and some libraries write several lines; of a failed job the rest is its
    # traceback.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join((text.partition("\n")[0] if hasattr(error, "place") else text).split())


def _usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {what}" for verb, what in VERBS.items())
    return f"""\
usage: filterbands VERB [OPTIONS]      filterbands VERB --help      filterbands --version

Which frequencies does a network look at, what does that cost, and how do I change it?

{verbs}

  --traceback                 before or after a verb: show where an error arose
  --completion bash|zsh|fish  print a script that completes words: eval "$(filterbands --completion bash)"

exit codes: 0 success; 1 what was asked to hold does not; 2 a mistake in what was given; 3 an error in your
own code, or one that nobody foresaw; 130 Ctrl-C"""


def _out(text: str) -> int:
    """Print an answer and return 0; of a reader that has closed the pipe, such as `head`, nothing is said."""
    try:
        print(text, flush=True)  # noqa: T201
    except OSError as error:
        # The interpreter must not flush into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, "standard output") from None
    return 0
