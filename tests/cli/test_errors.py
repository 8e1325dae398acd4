"""What goes wrong is one line: a user's code that failed, what nobody foresaw, streams that are closed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

import filterbands
from filterbands.cli import main, report

CODE = """import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        self.conv1, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 10)

    def forward(self, images):
        answers = self.conv1(images).mean((2, 3))
        if self.fault == "bug":
            return answers / (1 // 0)
        if self.fault == "own":
            raise RuntimeError("two\\nlines")
        if self.fault == "value":
            raise ValueError("a value")
        if self.fault == "late" and len(images) > 2:
            return {}["key"]
        if self.fault == "leave":
            raise SystemExit(1)
        if self.fault == "shape":
            return answers @ torch.ones(7, 10)
        return self.head(answers)


def made(fault):
    return lambda: Net(fault)


bug, own, value, late, leave, shape = map(made, ("bug", "own", "value", "late", "leave", "shape"))


def opening():
    open("/nowhere/weights.pt")
"""


DOOR = import_module("filterbands.cli.main")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Modules of a user, which are loaded once."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "own_nets_of_a_user.py").write_text(CODE)
    (folder / "needs_what_is_not_there.py").write_text("import what_is_not_there\n")
    (folder / "is_no_python.py").write_text("def f(:\n")
    (folder / "leaves_early.py").write_text("raise SystemExit(1)\n")
    return folder


@pytest.fixture
def words(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.syspath_prepend(folder)
    return [
        "--data",
        "planted",
        "--limit",
        "8",
        "--kinds",
        "fog",
        "--severities",
        "1",
        "--db",
        str(tmp_path / "r.db"),
    ]


def _error(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    assert not out
    return code, err


@pytest.mark.parametrize(
    ("model", "line", "said"),
    [
        ("own_nets_of_a_user:bug", 14, "ZeroDivisionError: integer division or modulo by zero"),
        ("own_nets_of_a_user:own", 16, "RuntimeError: two lines"),
        ("own_nets_of_a_user:value", 18, "ValueError: a value"),
        ("own_nets_of_a_user:late", 20, "KeyError: 'key'"),
        ("own_nets_of_a_user:leave", 22, "SystemExit: 1"),
        ("own_nets_of_a_user:opening", 36, "FileNotFoundError: /nowhere/weights.pt: No such file"),
        ("needs_what_is_not_there:f", 1, "No module named 'what_is_not_there'"),
        ("is_no_python:f", 1, "SyntaxError: invalid syntax"),
        ("leaves_early:f", 1, "SystemExit: 1"),
    ],
)
def test_an_error_in_the_users_own_code_is_one_line_with_its_place_and_exit_3(
    model: str, line: int, said: str, words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, err = _error(capsys, "evaluate", model, *words)
    assert (code, err.count("\n")) == (3, 1)
    file = folder / f"{model.partition(':')[0]}.py"
    assert err.startswith(f"filterbands evaluate: your code failed at {file}, line {line}: ")
    assert said in err


def test_images_of_a_wrong_shape_stay_a_mistake_and_show_the_line_of_the_network(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, err = _error(capsys, "evaluate", "own_nets_of_a_user:shape", *words)
    assert code == 2
    assert "the network cannot take images of shape (2, 3, 32, 32): mat1 and mat2 shapes" in err
    assert "own_nets_of_a_user.py, line 24)" in err


def test_what_nobody_foresaw_is_one_line_with_what_it_concerns_and_exit_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # An error of a library; that of a test would be the user's own.
    monkeypatch.setattr(report, "write_report", lambda *_, **__: (_ for _ in ()).throw(RuntimeError))
    monkeypatch.setattr(DOOR, "users_line", lambda _: "")
    words = ["report", "runs/a", "--out", str(tmp_path / "r.html")]
    code, err = _error(capsys, *words)
    assert (code, err.count("\n")) == (3, 1)
    assert err.startswith("filterbands report: runs/a: RuntimeError: ")
    assert "--traceback shows the way there" in err
    for shown in (["--traceback", *words], [*words, "--traceback"]):
        code, err = _error(capsys, *shown)
        assert code == 3
        assert err.startswith("Traceback (most recent call last):")
        assert "filterbands report: runs/a: RuntimeError: " in err


def test_memory_that_runs_out_is_said_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(report, "write_report", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    monkeypatch.setattr(DOOR, "users_line", lambda _: "")
    code, err = _error(capsys, "report", "runs/a", "--out", str(tmp_path / "r.html"))
    assert (code, err.count("\n")) == (3, 1)
    assert "memory ran out; take smaller batches" in err


def test_no_option_of_the_parser_leaks(capsys: pytest.CaptureFixture[str]) -> None:
    code, err = _error(capsys, "train", "--tyro-print-completion", "bash")
    assert (code, err.count("\n")) == (2, 1)
    assert "unrecognized options: --tyro-print-completion" in err


def test_an_answer_that_cannot_be_printed_is_one_line_and_exit_2() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    program = f"{sys.executable} -m filterbands --help"
    for stream, said in (
        (">/dev/full", "standard output: No space left"),
        (">&-", "standard output is closed"),
    ):
        done = subprocess.run(f"{program} {stream}", shell=True, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), stream
        assert said in done.stderr
    # With standard error closed, what goes wrong does not end up in standard output.
    command = f"{sys.executable} -m filterbands nothing 2>&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("loading", ["torch", "tyro", "filterbands.cli.report"])
def test_ctrl_c_while_libraries_are_loaded_is_one_line(loading: str) -> None:
    # The signal arrives in the middle of the import.
    code = f"""
import os, signal, sys, types
class Loading:
    def find_spec(self, name, path=None, target=None):
        if name == "{loading}":
            os.kill(os.getpid(), signal.SIGINT)
            import time; time.sleep(120)
sys.meta_path.insert(0, Loading())
# A shell lets what it starts in the background ignore the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
from filterbands.cli import main
sys.exit(main(["report", "--help"]))
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (130, "stopped\n", "")
    assert time.monotonic() - began < 100


@pytest.mark.parametrize("loading", ["filterbands.cli", "tokenize"])
def test_ctrl_c_before_anything_is_loaded_is_one_line(loading: str) -> None:
    code = f"""
import os, runpy, signal, sys
class Loading:
    def find_spec(self, name, path=None, target=None):
        if name == "{loading}":
            os.kill(os.getpid(), signal.SIGINT)
            import time; time.sleep(120)
sys.modules.pop("{loading}", None)
sys.meta_path.insert(0, Loading())
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["filterbands", "report", "--help"]
runpy.run_module("filterbands", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (130, "stopped\n", "")


def test_the_package_itself_imports_nothing_that_takes_time() -> None:
    code = "import sys; before = {*sys.modules}; import filterbands; print(sorted({*sys.modules} - before))"
    place = {"PYTHONPATH": str(Path(filterbands.__file__).parents[1])}
    words = [sys.executable, "-S", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=place)
    assert done.stdout == "['filterbands']\n", done.stderr


def test_ctrl_c_keeps_its_exit_code_where_nobody_reads_the_line() -> None:
    code = """
import os, sys
from filterbands.cli import main as module
def stop(words):
    raise KeyboardInterrupt
module.__globals__["_answer"] = stop
os.close(2)
sys.exit(module([]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130


def test_standard_output_is_the_answer_alone_where_the_users_network_prints(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        "import os, sys, torch\n"
        "print('import')\n"
        "class Loud(torch.nn.Linear):\n"
        "    def forward(self, images):\n"
        "        print('forward')\n"
        "        os.write(1, b'from C\\n')\n"
        "        sys.__stdout__.write('kept')\n"
        "        return super().forward(images.flatten(1)[:, :4])\n"
        "def net():\n"
        "    return Loud(4, 10)\n"
    )
    words = ["evaluate", "loud:net", "--data", "digits", "--limit", "20", "--kinds", "none", "--json"]
    command = [sys.executable, "-m", "filterbands", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert json.loads(done.stdout)["images"] == 20
    printed = {"import", "forward", "from C", "kept"}
    assert {*re.findall("|".join(printed), done.stderr)} == printed


def test_what_needs_no_library_loads_none() -> None:
    for words in ([], ["--version"], ["nonsense"]):
        code = (
            f"import sys; from filterbands.cli import main; main({words}); sys.exit('torch' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_ctrl_c_works_again_after_the_libraries_are_loaded() -> None:
    before = signal.getsignal(signal.SIGINT)
    assert main(["report", "--help"]) == 0
    assert signal.getsignal(signal.SIGINT) is before
