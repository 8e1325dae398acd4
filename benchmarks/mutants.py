"""Faults planted in the code on purpose, and whether the tests of their room notice them.

    make mutants                               400 mutants of five modules, drawn by seed
    make mutants ARGS="--survivors"            runs those again that no test noticed
    make mutants ARGS="--only rng --limit 60"  those of one module among 60

A mutant differs from the code in one place: a comparison, an operator, a number, a truth value, a condition,
a returned value, or a statement that is left out. Annotations and texts stay. Each runs in a copy of the
project, in a fork of a process that has the libraries loaded: starting Python and torch takes longer than
most of the tests. What is finished is in `results/mutants.json`. A rerun skips it unless the module changed.
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
PACKAGE = Path("src/filterbands")
RESULTS = ROOT / "results" / "mutants.json"
EQUIVALENT = Path(__file__).with_name("mutants_equivalent.json")
"""Survivors that no test can notice, each with the reason."""
OUTCOMES = ("killed", "timed out", "survived")

# Loaded before the forks.
_LIBRARIES = ("torch", "numpy", "scipy.special", "scipy.stats", "hypothesis", "beartype", "jaxtyping")
# Trainings of 200 steps, exports, and coverage of intervals: seconds each.
_QUICK = " and ".join(
    f"not {part}"
    for part in (
        *("200_steps", "the_optimizer_was_made", "exported", "onnx", "covers_the_truth", "cover_the_truth"),
        *("rejects_as_often", "statsmodels", "processes", "compiled"),
    )
)
MODULES: dict[str, tuple[str, ...]] = {
    "rng.py": ("tests/test_rng.py", "tests/test_laws.py"),
    "filters/bands.py": ("tests/filters/test_bands.py", "tests/filters/test_laws.py"),
    "control/proportion.py": (
        *("tests/control/test_proportion.py", "tests/control/test_laws.py"),
        "tests/control/test_modulation.py",
    ),
    "scores/statistics.py": ("tests/scores/test_statistics.py", "tests/scores/test_laws.py"),
    "scores/scores.py": (
        *("tests/scores/test_scores.py", "tests/scores/test_answers.py", "tests/scores/test_compare.py"),
        "tests/scores/test_laws.py",
    ),
}
"""The mutated modules, each with the tests that have to notice."""

# What an operator becomes.
_OTHER: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


class Mutant(NamedTuple):
    """One change of one module."""

    module: str
    line: int
    column: int
    before: str
    """What stands there, on one line."""
    after: str
    """What it becomes."""
    source: str
    """The whole line that it begins on."""
    text: str
    """The whole module, changed."""

    @property
    def key(self) -> tuple[Any, ...]:
        """Return what tells it from all others."""
        return self[:5]


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that may stand in place of one."""
    changed: Any = copy.deepcopy(node)
    if isinstance(node, ast.Compare):
        for number, operator in enumerate(node.ops):
            changed = copy.deepcopy(node)
            changed.ops[number] = _OTHER[type(operator)]()
            yield changed
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign):
        changed.op = _OTHER[type(node.op)]()
        yield changed
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.IfExp | ast.If):
        changed.test = ast.UnaryOp(ast.Not(), node.test)
        yield changed
    elif isinstance(node, ast.Return) and node.value is not None:
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield ast.Pass()


def places(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree that can be mutated: no annotation, and no text of an error."""
    yield node
    if isinstance(node, ast.Raise | ast.JoinedStr):
        return
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list", "bases"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from places(child)


def mutants_of(module: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its lines."""
    text = (ROOT / PACKAGE / module).read_text()
    lines = text.splitlines(keepends=True)
    found = []
    for node in places(ast.parse(text)):
        for variant in variants(node):
            whole: Any = (node, variant)
            # Of a condition, only what it asks is written anew; all else stays as it stands.
            old, new = (one.test for one in whole) if isinstance(node, ast.If) else whole
            after = f"({ast.unparse(new)})" if isinstance(new, ast.expr) else ast.unparse(new)
            first, last = old.lineno - 1, old.end_lineno - 1
            head = lines[first].encode()[: old.col_offset].decode()
            tail = lines[last].encode()[old.end_col_offset :].decode()
            before = " ".join((ast.get_source_segment(text, old) or "").split())
            made = "".join([*lines[:first], head, after, tail, *lines[last + 1 :]])
            after, source = " ".join(after.split()), lines[first].strip()
            found.append(Mutant(module, first + 1, old.col_offset, before, after, source, made))
    return sorted(found)


def fingerprint(module: str) -> str:
    """Return a hash of a module's code and of where it stands, but not of its comments and docstrings."""
    tree = ast.parse((ROOT / PACKAGE / module).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant("")
    dumped = ast.dump(tree, include_attributes=False)
    return hashlib.sha256(dumped.encode()).hexdigest()[:16]


class Copy:
    """A copy of the project, in which modules are changed and tests run."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for name in ("src", "tests", "benchmarks"):
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", place)
        self.changes = 0
        self.limits: dict[str, float] = {}

    def outcome(self, mutant: Mutant) -> tuple[str, float]:
        """Return what the tests say to a mutant, and the seconds that they took."""
        if mutant.module not in self.limits:
            # Twice: the first run compiles.
            _, (_, seconds) = (self._run(mutant.module, None, 900) for _ in range(2))
            self.limits[mutant.module] = 30 + 10 * seconds
            print(f"{mutant.module}: {seconds:.1f} s without a fault", flush=True)
        return self._run(mutant.module, mutant.text, self.limits[mutant.module])

    def _run(self, module: str, text: str | None, seconds: float) -> tuple[str, float]:
        file = self.place / PACKAGE / module
        if text is not None:
            file.write_text(text)
            self.changes += 1
            # Compiled files are known by their source's time, in seconds: each mutant gets another one.
            os.utime(file, (0, self.changes))
        began, status = time.monotonic(), None
        child = os.fork()
        if child == 0:
            os.setsid()
            os._exit(self._tested(MODULES[module], is_mutant=text is not None))
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
        if text is not None:
            shutil.copy2(ROOT / PACKAGE / module, file)
        elif status != 0:
            sys.exit(f"the tests of {module} fail without a fault: {self.place}/output")
        outcome = "timed out" if status is None else "killed" if status else "survived"
        return outcome, time.monotonic() - began

    def _tested(self, files: tuple[str, ...], *, is_mutant: bool) -> int:
        """Return pytest's exit code; called in a process of its own."""
        import pytest

        os.chdir(self.place)
        sys.path.insert(0, str(self.place / "src"))
        sys.dont_write_bytecode = is_mutant
        options = ("-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = int(pytest.main([*options, "-k", _QUICK, *files]))
        if not is_mutant:
            Path("output").write_text(said.getvalue())
        return code


def is_equivalent(one: dict[str, Any]) -> bool:
    """Return whether a survivor is listed as one that no test can notice."""
    listed = json.loads(EQUIVALENT.read_text()) if EQUIVALENT.exists() else []
    return any(all(one[name] == each[name] for name in each if name != "reason") for each in listed)


def table(report: dict[str, Any]) -> str:
    """Return Markdown: the mutants of each module by outcome, and the equivalent ones among survivors."""
    rows = []
    for module in MODULES:
        own = [one for one in report["mutants"] if one["module"] == module]
        count = Counter(one["outcome"] for one in own)
        alike = sum(one["outcome"] == "survived" and is_equivalent(one) for one in own)
        rows.append([len(own), *(count[name] for name in OUTCOMES), alike])
    rows.append([sum(column) for column in zip(*rows, strict=True)])
    head = ["module", "mutants", *OUTCOMES, "of these equivalent"]
    named = zip((*(f"`{module}`" for module in MODULES), "all"), rows, strict=True)
    cells = [head, ["---"] * len(head), *([name, *map(str, row)] for name, row in named)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def write(out: Path, report: dict[str, Any]) -> None:
    """Write a report whole or not at all."""
    part = out.with_name(f".{out.name}.part")
    part.write_text(json.dumps(report, indent=1) + "\n")
    part.replace(out)


def main() -> None:
    """Run the mutants that are not finished, and print the table and the survivors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=400, help="mutants at most, of all modules together")
    parser.add_argument("--seed", type=int, default=0, help="of the draw among more")
    parser.add_argument("--only", default="", help="a part of the names of modules")
    parser.add_argument(
        "--survivors", action="store_true", help="run those again that no test noticed but could"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    every = [mutant for module in MODULES for mutant in mutants_of(module)]
    # In the order of the draw, so that those of a smaller limit come first.
    drawn = random.Random(given.seed).sample(every, min(given.limit, len(every)))
    sources = {module: fingerprint(module) for module in MODULES}
    old = json.loads(given.out.read_text()) if given.out.exists() else {"sources": {}, "mutants": []}
    finished = {
        tuple(one[name] for name in Mutant._fields[:5]): one
        for one in old["mutants"]
        if old["sources"].get(one["module"]) == sources[one["module"]]
    }
    if given.survivors:
        finished = {
            key: one for key, one in finished.items() if one["outcome"] != "survived" or is_equivalent(one)
        }
    finished = {mutant.key: finished[mutant.key] for mutant in drawn if mutant.key in finished}
    report = {
        "date": date.today().isoformat(),
        "seed": given.seed,
        "drawn": len(drawn),
        "possible": len(every),
        "sources": sources,
    }
    for name in _LIBRARIES:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="filterbands-mutants-") as folder:
        project = Copy(Path(folder))
        for number, mutant in enumerate(drawn, start=1):
            if mutant.key in finished or given.only not in mutant.module:
                continue
            outcome, seconds = project.outcome(mutant)
            made = {**mutant._asdict(), "outcome": outcome, "seconds": round(seconds, 2)}
            del made["text"]
            finished[mutant.key] = made
            place = f"{number}/{len(drawn)} {mutant.module}:{mutant.line}"
            print(f"{place} {outcome}: {mutant.before} -> {mutant.after}", flush=True)
            write(given.out, {**report, "mutants": [finished[key] for key in sorted(finished)]})
    report = {**report, "mutants": [finished[key] for key in sorted(finished)]}
    print(table(report))
    for one in report["mutants"]:
        if one["outcome"] == "survived" and not is_equivalent(one):
            print(f"survived: {one['module']}:{one['line']}: {one['before']} -> {one['after']}")


if __name__ == "__main__":
    main()
