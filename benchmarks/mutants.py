"""Faults planted in the code on purpose, and whether the tests of their room notice them.

    make mutants                               400 mutants of five modules, drawn by seed
    make mutants ARGS="--survivors"            runs those again that no test noticed
    make mutants ARGS="--only rng --limit 20"

A mutant differs from the code in one place: a comparison, an operator, a number, a truth value, a condition, a
returned value, or a statement that is left out. Annotations and texts stay. Each runs
in a copy of the project, in a fork of a process that has the libraries loaded: starting Python and torch takes
longer than most of the tests. What is finished is in `results/mutants.json`, and a rerun skips it unless the
module has changed.
"""

import argparse
import ast
import contextlib
import copy
import hashlib
import importlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "mutants.json"
EQUIVALENT = Path(__file__).with_name("mutants_equivalent.json")
"""Survivors that give the same results as the code, by module: line, mutated line and the reason."""

LIBRARIES = (
    "torch",
    "numpy",
    "scipy.special",
    "scipy.stats",
    "statsmodels.stats.api",
    "hypothesis",
    "beartype",
)

# Trainings of 200 steps, exports and coverage of intervals, which take seconds each.
_SLOW = (
    "not 200_steps and not the_optimizer_was_made and not exported and not onnx and not covers_the_truth "
    "and not cover_the_truth and not rejects_as_often and not statsmodels"
)
MODULES: dict[str, tuple[str, ...]] = {
    "rng.py": ("tests/test_rng.py",),
    "filters/bands.py": ("tests/filters/test_bands.py", "tests/filters/test_laws.py"),
    "control/proportion.py": ("tests/control/test_proportion.py", "tests/control/test_laws.py"),
    "scores/statistics.py": (
        "tests/scores/test_statistics.py",
        "tests/scores/test_laws.py",
        "tests/scores/test_scores.py",
    ),
    "scores/scores.py": (
        "tests/scores/test_scores.py",
        "tests/scores/test_answers.py",
        "tests/scores/test_laws.py",
    ),
}
"""The mutated modules, each with the tests that have to notice."""

_OTHER: dict[type, type] = {
    **{
        ast.Lt: ast.LtE,
        ast.LtE: ast.Lt,
        ast.Gt: ast.GtE,
        ast.GtE: ast.Gt,
        ast.Eq: ast.NotEq,
        ast.NotEq: ast.Eq,
    },
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult},
    **{ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.LShift: ast.RShift},
    **{ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd},
    **{ast.And: ast.Or, ast.Or: ast.And},
}
"""What an operator becomes."""


class Mutant(NamedTuple):
    """One change of one module."""

    module: str
    line: int
    column: int
    before: str
    after: str
    text: str
    """The whole module, changed."""

    @property
    def key(self) -> tuple[Any, ...]:
        """Return what tells it from others of the module."""
        return self.module, self.line, self.column, self.after


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that may stand in place of one."""
    changed: Any = copy.deepcopy(node)
    if isinstance(node, ast.Compare):
        for number, operator in enumerate(node.ops):
            one = copy.deepcopy(node)
            one.ops[number] = _OTHER[type(operator)]()
            yield one
    elif isinstance(node, (ast.BinOp, ast.BoolOp)):
        changed.op = _OTHER[type(node.op)]()
        yield changed
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, (ast.IfExp, ast.If)):
        changed.test = ast.UnaryOp(ast.Not(), node.test)
        yield changed
    elif isinstance(node, ast.Return) and node.value is not None:
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield ast.Pass()
    elif isinstance(node, ast.AugAssign):
        changed.op = _OTHER[type(node.op)]()
        yield changed


def places(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree that can be mutated: no annotation and no text."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases") or isinstance(value, ast.JoinedStr):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, (ast.JoinedStr, ast.Raise)):
                yield from places(child)
            elif isinstance(child, ast.Raise):
                yield child


def mutants_of(module: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its lines."""
    text = (ROOT / "src/filterbands" / module).read_text()
    lines = text.splitlines(keepends=True)
    found = []
    for node in places(ast.parse(text)):
        for variant in variants(node):
            at: Any = node
            # Of a condition only its own lines are written anew, and everything else stays as it stands.
            source, new = (at.test, variant.test) if isinstance(node, ast.If) else (at, variant)  # type: ignore[attr-defined]
            own = isinstance(new, ast.expr)
            after = f"({ast.unparse(new)})" if own else ast.unparse(new)
            first, last = source.lineno - 1, source.end_lineno - 1
            head = lines[first].encode()[: source.col_offset].decode()
            tail = lines[last].encode()[source.end_col_offset :].decode()
            before = ast.get_source_segment(text, source) or ""
            whole = "".join([*lines[:first], head, after, tail, *lines[last + 1 :]])
            found.append(Mutant(module, first + 1, source.col_offset, before, after, whole))
    return sorted(found, key=lambda one: one.key)


def run(place: Path, module: str, text: str | None, seconds: float, number: int = 0) -> tuple[str, float]:
    """Return what the tests of a module's room say to its text, and the seconds that they took."""
    file = place / "src/filterbands" / module
    if text is not None:
        stat = file.stat()
        file.write_text(text)
        # Compiled files are known by their source's time, in seconds: each mutant gets another one.
        os.utime(file, (stat.st_atime, stat.st_mtime + 10 + number))
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        os._exit(_tested(place, MODULES[module], writes=text is None))
    status = None
    while status is None and time.monotonic() < began + seconds:
        done, found = os.waitpid(child, os.WNOHANG)
        if done:
            status = found
        else:
            time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
        return "timed out", time.monotonic() - began
    return ("survived" if status == 0 else "killed"), time.monotonic() - began


def _tested(place: Path, files: tuple[str, ...], *, writes: bool) -> int:
    """Return pytest's exit code for the tests in a copy of the project; called in a process of its own."""
    import pytest

    os.chdir(place)
    sys.path.insert(0, str(place / "src"))
    sys.dont_write_bytecode = not writes
    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        there = [file for file in files if Path(file).exists()]
        options = ("-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
        code = int(pytest.main([*options, "-k", _SLOW, *there]))
    if writes:
        (place / "output").write_text(quiet.getvalue())
    return code


def _copied(place: Path) -> None:
    for name in ("src", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)


def _sha(module: str) -> str:
    return hashlib.sha256((ROOT / "src/filterbands" / module).read_bytes()).hexdigest()[:16]


def _line(mutant: Mutant) -> tuple[str, str]:
    """Return the line of a mutant as it stands and as it was changed, without what surrounds them."""
    return " ".join(mutant.before.split()), " ".join(mutant.after.split())


def table(report: dict[str, Any]) -> str:
    """Return a row per module: mutants, those killed, timed out and survived, and the equivalent ones of these."""
    reasons = json.loads(EQUIVALENT.read_text()) if EQUIVALENT.exists() else {}
    rows = []
    for module in MODULES:
        own = [one for one in report["mutants"] if one["module"] == module]
        count = Counter(one["outcome"] for one in own)
        alike = sum(one["outcome"] == "survived" and _named(reasons, one) for one in own)
        rows.append(
            [
                f"`{module}`",
                str(len(own)),
                *(str(count[name]) for name in ("killed", "timed out", "survived")),
            ]
            + [str(alike)]
        )
    total = [str(sum(int(row[column]) for row in rows)) for column in range(1, 6)]
    head = ["module", "mutants", "killed", "timed out", "survived", "of these equivalent"]
    # No room is imported here: the forks import them, changed.
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows, ["all", *total])
    )


def _named(reasons: dict[str, Any], one: dict[str, Any]) -> bool:
    return any(
        (each["before"], each["after"]) == (one["before"], one["after"])
        for each in reasons.get(one["module"], [])
    )


def main() -> None:
    """Run the mutants that are not finished, and print the table and the survivors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=400, help="mutants at most, of all modules together")
    parser.add_argument("--seed", type=int, default=0, help="of the draw among more")
    parser.add_argument("--only", default="", help="a part of the names of modules")
    parser.add_argument("--survivors", action="store_true", help="run those again that no test noticed")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    every = [mutant for module in MODULES for mutant in mutants_of(module)]
    drawn = every if len(every) <= given.limit else random.Random(given.seed).sample(every, given.limit)
    drawn = sorted((one for one in drawn if given.only in one.module), key=lambda one: one.key)
    shas = {module: _sha(module) for module in MODULES}
    old = json.loads(given.out.read_text()) if given.out.exists() else {"sources": {}, "mutants": []}
    known = {
        (one["module"], one["line"], one["column"], one["after"]): one
        for one in old["mutants"]
        if old["sources"].get(one["module"]) == shas[one["module"]]
        and not (given.survivors and one["outcome"] == "survived")
    }
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="filterbands-mutants-") as folder:
        place = Path(folder)
        _copied(place)
        limits: dict[str, float] = {}
        for number, mutant in enumerate(drawn):
            at = (mutant.module, mutant.line, mutant.column, _line(mutant)[1])
            if at in known:
                continue
            file = ROOT / "src/filterbands" / mutant.module
            if mutant.module not in limits:
                run(place, mutant.module, None, 600)
                outcome, seconds = run(place, mutant.module, None, 600)
                if outcome != "survived":
                    sys.exit(
                        f"the tests of {mutant.module} fail without a fault:\n{(place / 'output').read_text()}"
                    )
                limits[mutant.module] = 20 + 10 * seconds
                print(f"{mutant.module}: {seconds:.1f} s without a fault", flush=True)
            outcome, seconds = run(place, mutant.module, mutant.text, limits[mutant.module], number)
            shutil.copy2(file, place / "src/filterbands" / mutant.module)
            before, after = _line(mutant)
            known[at] = {
                **{"module": mutant.module, "line": mutant.line, "column": mutant.column},
                **{"before": before, "after": after, "outcome": outcome, "seconds": round(seconds, 2)},
            }
            print(
                f"{number + 1}/{len(drawn)} {mutant.module}:{mutant.line} {outcome}: {before} -> {after}",
                flush=True,
            )
            kept = sorted(
                known.values(), key=lambda one: (one["module"], one["line"], one["column"], one["after"])
            )
            report = {
                **{"date": date.today().isoformat(), "seed": given.seed, "possible": len(every)},
                **{"sources": shas, "mutants": kept},
            }
            written = given.out.with_name(f".{given.out.name}")
            written.write_text(json.dumps(report, indent=1) + "\n")
            written.replace(given.out)
    report = json.loads(given.out.read_text())
    print(table(report))
    reasons = json.loads(EQUIVALENT.read_text()) if EQUIVALENT.exists() else {}
    for one in report["mutants"]:
        if one["outcome"] == "survived" and not _named(reasons, one):
            print(f"survived: {one['module']}:{one['line']}: {one['before']} -> {one['after']}")


if __name__ == "__main__":
    main()
