"""Command lines run in a child that keeps its libraries, or as commands; and what is a failure."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# A child keeps the memory of large inputs (`engine.keep_memory`), and its limit is for one input.
_RUNS = 300
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    """What a command line gave; the code is None where it did not end, negative where a signal ended it."""

    code: int | None
    err: str
    out: str = ""


def environment(**more: str) -> dict[str, str]:
    """Return the environment of commands: this version of the package, one thread, no terminal."""
    return {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


def command(*words: str, folder: Path, timeout: float = 300, **more: str) -> Answer:
    """Run a command line as a user does."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "filterbands", *words],
            cwd=folder,
            env=environment(**more),
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return Answer(None, f"did not end in {timeout:g} s")
    return Answer(done.returncode, done.stderr, done.stdout)


class Child:
    """A process that runs command lines; it is begun anew when one ends or stops it."""

    def __init__(self, *, timeout: float = 120) -> None:
        self._timeout, self._process, self._runs = timeout, None, 0

    _process: "subprocess.Popen[bytes] | None"

    def run(self, words: Sequence[str], folder: Path) -> Answer:
        """Run a command line in the child."""
        self._runs += 1
        if self._runs % _RUNS == 0:
            self.close()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.torture.child"],
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"words": list(words), "folder": str(folder)}).encode() + b"\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], self._timeout)
        line = self._process.stdout.readline() if ready else b""
        if line:
            return Answer(**json.loads(line))
        code = None
        if not ready:
            self.close()
        else:
            code = self._process.wait()
            self._process = None
        return Answer(code, "hung" if code is None else f"the process ended with {code}")

    def close(self) -> None:
        """End the child."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def fault(answer: Answer) -> str:
    """Return what is wrong with the answer to a malformed input, or nothing.

    Malformed inputs are told in lines without a traceback and exit with 2. What is not noticed may succeed,
    and a promise of the user (1) may fail.
    """
    if answer.code is None or answer.code < 0:
        return answer.err or f"ended by signal {answer.code}"
    if "Traceback" in answer.err or "nobody foresaw" in answer.err:
        return answer.err[-600:]
    if answer.code not in (0, 1, 2):
        return f"exit {answer.code}: {answer.err[-600:]}"
    last = answer.err.strip().rpartition("\n")[2]
    if answer.code == 2 and not last.startswith("filterbands"):
        return f"exit 2 without its line: {answer.err[-600:]}"
    if len(last) > 2000:
        return f"a line of {len(last):,} letters: {last[:300]}"
    return ""
