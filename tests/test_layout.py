"""The shape of the package: who imports whom, who knows which library, what every file and name says."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

import filterbands as fb

PACKAGE = Path(str(fb.__file__)).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# Each imports from those before it alone; rooms side by side do not import from each other.
ORDER = (
    *(
        ("version",),
        ("types", "checks", "pickled"),
        ("engine",),
        ("rng",),
        ("fourier",),
        ("workers",),
        ("platforms",),
        ("disk",),
        ("run",),
    ),
    *(("datasets", "models"), ("filters", "corruptions"), ("control",), ("training", "scores")),
    *(("evaluation",), ("probes",), ("study",), ("report",), ("cli",)),
)
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
# Libraries and the only places that may know them.
ONLY_IN = {
    "torch.fft": "fourier.py",
    "numpy.fft": "nowhere",
    "lightning": "engine.py",
    "lightning_fabric": "engine.py",
    "ray": "workers.py",
    "sqlite3": "evaluation/store.py",
    "altair": "report/",
    "jinja2": "report/",
    "vl_convert": "report/",
    "torchmetrics": "scores/metric.py",
    "tyro": "cli/",
    "rich": "cli/",
}


class Import(NamedTuple):
    """One name that a file imports: from where, as the parts of a dotted path, and what."""

    source: tuple[str, ...]
    name: str


def place(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), filename=str(file))


def imports(tree: ast.Module, folder: tuple[str, ...]) -> Iterator[Import]:
    """Yield every import anywhere in a file of `folder`, as absolute names that begin with the package's."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(tuple(alias.name.split(".")), "")
        elif isinstance(node, ast.ImportFrom):
            whole = ("filterbands", *folder)
            base = whole[: len(whole) - node.level + 1] if node.level else ()
            source = (*base, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                yield Import(source, alias.name)


def exported(room: str) -> list[str]:
    """Return the `__all__` of a room, read and not imported; nothing of one that is not there."""
    if not (PACKAGE / room / "__init__.py").exists():
        return []
    for node in parsed(PACKAGE / room / "__init__.py").body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return []


def wrong_imports(tree: ast.Module, parts: tuple[str, ...]) -> list[str]:
    """Return what is wrong with the imports of the file at `parts`, say ("filters", "bands")."""
    own = parts[0]
    wrong = []
    for source, name in imports(tree, parts[:-1]):
        if source[:1] != ("filterbands",):
            continue
        inner = source[1:]
        room = inner[0] if inner else name
        said = f"{'/'.join(parts)} imports {name or 'all'} from {'.'.join(source)}"
        if room == own:
            continue
        if room not in RANK:
            wrong.append(f"{said}: no such room")
        elif RANK[room] >= RANK[own]:
            wrong.append(f"{said}: {room} does not come before {own}")
        elif len(inner) > 1:
            wrong.append(f"{said}: not through the room's __init__")
        elif name.startswith("_") and not name.endswith("__"):
            wrong.append(f"{said}: private")
        elif inner and (PACKAGE / room / "__init__.py").exists() and name not in exported(room):
            wrong.append(f"{said}: not in the room's __all__")
    return wrong


def test_rooms_import_from_rooms_before_them_through_their_door() -> None:
    wrong = []
    for file in FILES:
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        if parts not in {("__init__",), ("__main__",)}:
            assert parts[0] in RANK, f"{place(file)} is in no room"
            wrong += wrong_imports(parsed(file), parts)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("from ..training import train", "does not come before"),
        ("from filterbands.training import train", "does not come before"),
        ("from .. import cli", "does not come before"),
        ("from ..corruptions import corrupt", "does not come before"),
        ("def late():\n    from ..report import write_report", "does not come before"),
        ("from ..models.loading import load_model", "not through"),
        ("from ..models import Path", "not in the room's __all__"),
        ("from ..run import _git", "private"),
        ("from ..utils import helper", "no such room"),
        ("from .. import __version__", "no such room"),
        ("from ..models import load_model\nfrom .. import rng\nfrom .bands import line", ""),
    ],
)
def test_the_check_of_the_order_sees(line: str, fault: str) -> None:
    found = wrong_imports(ast.parse(line), ("filters", "noise"))
    assert (fault in found[0] and len(found) == 1) if fault else not found


def test_tests_import_private_names_of_their_own_room_alone() -> None:
    folder = Path(__file__).parent
    wrong = [
        f"{file.relative_to(folder)}: {name} of {'.'.join(source)}"
        for file in sorted(folder.rglob("*.py"))
        for source, name in imports(parsed(file), ())
        if source[:1] == ("filterbands",) and name.startswith("_") and not name.endswith("__")
        if file.relative_to(folder).parts[0] != source[1]
    ]
    assert not wrong, "\n".join(wrong)


@cache
def libraries(tree: ast.Module) -> set[str]:
    """Return dotted names of all that a file imports, and of `torch.fft` and `numpy.fft` as attributes."""
    known = {"np": "numpy", "numpy": "numpy", "torch": "torch"}
    found = set()
    for source, name in imports(tree, ()):
        found |= {".".join(source), ".".join((*source, name))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            found.add(f"{known[node.value.id]}.{node.attr}")
    return found


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_known_in_its_place_alone(library: str) -> None:
    users = {
        place(file)
        for file in FILES
        if any(name == library or name.startswith(f"{library}.") for name in libraries(parsed(file)))
    }
    assert not {user for user in users if not user.startswith(ONLY_IN[library])}


@pytest.mark.parametrize("file", FILES, ids=place)
def test_a_file_says_what_it_is_and_is_not_too_long(file: Path) -> None:
    text = file.read_text()
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert len(text.splitlines()) <= 450
    # It would turn annotations into text, which jaxtyping cannot check.
    assert "from __future__ import annotations" not in text
    assert file.stem != "utils"


def without_encoding(tree: ast.Module) -> list[int]:
    """Return the lines that leave the encoding of text, or the ends of its lines, to the system."""
    wrong = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        # `open(FILE, MODE)` and `FILE.open(MODE)`.
        place = 0 if isinstance(node.func, ast.Attribute) else 1
        mode = given.get("mode") or "".join(map(ast.unparse, node.args[place : place + 1])) or "'r'"
        is_text = name == "open" and mode[:1] in "'\"" and "b" not in mode and len(mode) < 6
        writes = name == "write_text" or (is_text and any(letter in mode for letter in "wax"))
        needed = {"encoding"} if is_text or name in ("read_text", "write_text") else set()
        if name == "run" and ("text" in given or "universal_newlines" in given):
            needed = {"encoding"}
        # Our own `write_text(path, text)` is no method.
        if name == "write_text" and isinstance(node.func, ast.Name):
            continue
        if needed - given.keys() or (writes and "newline" not in given):
            wrong.append(node.lineno)
    return wrong


@pytest.mark.parametrize("file", FILES, ids=place)
def test_text_is_in_utf8_with_the_same_ends_of_lines_on_every_system(file: Path) -> None:
    assert not without_encoding(parsed(file))


def test_the_check_of_encodings_sees() -> None:
    wrong = """
open(file)
open(file, "w", encoding="utf-8")
file.open("a", newline="")
file.read_text()
file.write_text(text, encoding="utf-8")
subprocess.run(words, text=True)
"""
    right = """
open(file, "rb")
open(file, "w", encoding="utf-8", newline="")
file.open("a", encoding="utf-8", newline="")
file.read_text(encoding="utf-8")
write_text(file, text)
session.open(content)
subprocess.run(words, encoding="utf-8")
"""
    assert without_encoding(ast.parse(wrong)) == [2, 3, 4, 5, 6, 7]
    assert without_encoding(ast.parse(right)) == []


def rooms_of_public_names() -> dict[str, str]:
    found = imports(parsed(PACKAGE / "__init__.py"), ())
    return {
        name: source[1]
        for source, name in found
        if source[:1] == ("filterbands",) and len(source) > 1 and name != "__version__"
    }


def test_there_are_at_most_24_public_names_each_from_a_room() -> None:
    assert len(fb.__all__) <= 24
    assert sorted(fb.__all__) == fb.__all__
    assert set(fb.__all__) == set(rooms_of_public_names())
    assert set(fb.__all__) < set(dir(fb))


@pytest.mark.parametrize("name", fb.__all__)
def test_a_public_name_explains_itself_with_an_example(name: str) -> None:
    room = rooms_of_public_names()[name]
    assert name in exported(room)
    value = getattr(fb, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert ">>> " in (inspect.getdoc(value) or ""), f"{name} has no example"
    else:
        assert documented_constant(room, name), f"{name} has no docstring"


def documented_constant(room: str, name: str) -> bool:
    """Return whether a text follows the assignment of this name in the room."""
    for file in (PACKAGE / room).glob("*.py"):
        body = parsed(file).body
        for node, following in pairwise(body):
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
                return isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
    return False


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'filterbank'"):
        _ = fb.filterbank


def test_importing_the_package_prints_nothing_and_loads_no_heavy_library() -> None:
    code = "import filterbands, json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    roots = {name.split(".")[0] for name in json.loads(done.stderr)}
    assert "filterbands" in roots
    assert not roots & {
        "torch",
        "altair",
        "vl_convert",
        "lightning_fabric",
        "lightning",
        "tyro",
        "rich",
        "ray",
    }


def test_help_loads_neither_lightning_nor_pages() -> None:
    code = (
        "import sys; from filterbands.cli import main; main(['train', '--help']); print(sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    roots = set(re.findall(r"'(\w+)'", done.stdout.splitlines()[-1]))
    assert {"filterbands", "torch"} <= roots
    assert not roots & {"lightning_fabric", "altair", "vl_convert", "ray"}


def test_the_oldest_versions_that_are_tested_are_those_that_are_admitted() -> None:
    root = Path(__file__).parents[1]
    needed = re.findall(r'"([a-z0-9-]+)>=([0-9.]+)', (root / "pyproject.toml").read_text())
    lines = (root / "constraints-oldest.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if line)
    assert not [
        f"{name}: {least} admitted, {tested[name]} tested"
        for name, least in needed
        if name in tested and (tested[name] + ".0").removeprefix(least)[:1] not in (".", "")
    ]
    own = re.search(r"\ndependencies = \[(.*?)\n\]", (root / "pyproject.toml").read_text(), re.DOTALL)
    assert own is not None
    assert {name for name, _ in re.findall(r'"([a-z0-9-]+)>=([0-9.]+)', own[1])} <= tested.keys()


def test_rooms_with_names_are_attributes_of_the_package() -> None:
    for name in fb._WITH_NAMES:
        assert fb.__getattr__(name) is importlib.import_module(f"filterbands.{name}")
    with pytest.raises(AttributeError, match="no attribute 'rooms'"):
        fb.__getattr__("rooms")
