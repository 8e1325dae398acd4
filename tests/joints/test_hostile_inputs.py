"""Files that claim, cut or hide something get one line; limits are checked before memory is taken."""

import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from filterbands.checks import printable, seed_number
from filterbands.cli import main
from filterbands.datasets import Reading, load_data
from filterbands.disk import write_table
from filterbands.evaluation import EvaluateConfig
from filterbands.filters import analyze
from filterbands.models import load_model, read_weights

Told = Callable[..., str]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Run a command line that is a mistake and return its one line."""

    def run(*words: object) -> str:
        assert main([str(word) for word in words]) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        return line

    return run


def array(shape: str, *, version: int = 1) -> bytes:
    """Return an array of NumPy that claims a shape and has 64 bytes."""
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (63 - (len(head) + 10) % 64) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(head)) + head + bytes(64)


def archive(file: Path, content: bytes, method: int, *, swap: tuple[bytes, bytes] = (b"", b"")) -> Path:
    with zipfile.ZipFile(file, "w", method) as stream:
        for name in ("images.npy", "labels.npy"):
            stream.writestr(name, content)
    if swap[0]:
        file.write_bytes(file.read_bytes().replace(*swap))
    return file


_ARCHIVES = {
    "claims terabytes": lambda file: archive(file, array("(1000000000000,)"), zipfile.ZIP_STORED),
    "claims terabytes, compressed": lambda file: archive(file, array("(1 << 40,)"), zipfile.ZIP_DEFLATED),
    "negative": lambda file: archive(file, array("(-1,)"), zipfile.ZIP_STORED),
    "bad sum": lambda file: archive(file, array("(16,)"), zipfile.ZIP_STORED, swap=(b"(16,)", b"(17,)")),
    "unsupported compression": lambda file: archive(
        file, array("(16,)"), zipfile.ZIP_DEFLATED, swap=(b"\x08\x00", b"\x63\x00")
    ),
    "other compression": lambda file: archive(file, array("(16,)"), zipfile.ZIP_LZMA),
    "format": lambda file: archive(file, array("(16,)", version=9), zipfile.ZIP_STORED),
    "header": lambda file: archive(file, array("(16,"), zipfile.ZIP_STORED),
}


@pytest.mark.parametrize("what", _ARCHIVES)
def test_an_archive_that_claims_what_it_has_not_is_refused_as_weights_and_as_images(
    what: str, tmp_path: Path, told: Told
) -> None:
    file = _ARCHIVES[what](tmp_path / "a.npz")
    assert f"{file} " in told("analyze", file)
    assert f"{file} is not an .npz of plain arrays" in told(
        "corrupt", f"npz:{file}", "--out", tmp_path / "c", "--kinds", "fog"
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: torch.ones(2, 3, 3, 3).to_sparse(), "is sparse; save plain tensors"),
        (lambda: torch.ones(1).expand(10**6, 10**6), "claims 3,725.3 GiB and has 4 bytes"),
        (lambda: torch.empty(2, 3, 3, 3, device="meta"), "is on the meta device"),
        (lambda: torch.quantize_per_tensor(torch.ones(2, 3, 3, 3), 0.1, 0, torch.qint8), "is quantized"),
    ],
)
def test_tensors_that_hold_no_plain_numbers_are_named(
    make: Callable[[], torch.Tensor], said: str, tmp_path: Path, told: Told
) -> None:
    torch.save({"conv.weight": make()}, tmp_path / "w.pt")
    line = told("analyze", tmp_path / "w.pt")
    assert "w.pt: conv.weight " in line
    assert said in line


def test_a_tensor_that_repeats_a_few_numbers_is_read(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.ones(1).expand(4, 3, 3, 3)}, tmp_path / "w.pt")
    assert read_weights(tmp_path / "w.pt")["conv.weight"].shape == (4, 3, 3, 3)


@pytest.mark.parametrize("place", [".", "..", "model.safetensors.index.json", "none.safetensors"])
def test_an_index_that_names_no_file_of_weights_is_refused(place: str, tmp_path: Path, told: Told) -> None:
    index = tmp_path / "repository" / "model.safetensors.index.json"
    index.parent.mkdir()
    index.write_text(json.dumps({"weight_map": {"a": place}}))
    assert "repository lacks" in told("analyze", index.parent)


def test_a_pipe_is_never_waited_for(tmp_path: Path, told: Told) -> None:
    pipe = tmp_path / "x.png"
    os.mkfifo(pipe)
    for name in ("a", "b"):
        (tmp_path / "f" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "f" / name / "1.png")
    os.mkfifo(tmp_path / "f" / "a" / "2.png")
    assert "x.png is a pipe, not a file" in told("analyze", pipe)
    assert "x.png is a pipe, not a file" in told("study", pipe)
    assert "2.png is a pipe" in told("corrupt", f"folder:{tmp_path / 'f'}", "--out", tmp_path / "c")
    assert "cannot write" in told("bake", tmp_path, "--out", pipe)


_PIPES = {
    "results.db": ("results", "{}"),
    "store.db": ("evaluate", "w.safetensors", "--data", "digits", "--db", "{}"),
    "store.db.lock": ("evaluate", "w.safetensors", "--data", "digits", "--db", "store.db"),
    "source": ("report", "{}", "--out", "r.html"),
    "study/runs.jsonl": ("report", "study", "--out", "r.html"),
    "run/weights.safetensors": ("analyze", "run"),
    "repository/model.safetensors.index.json": ("analyze", "repository"),
    "net.onnx": ("evaluate", "{}", "--data", "digits"),
    "images.npz": ("evaluate", "w.safetensors", "--data", "npz:{}"),
    "copy/labels.npy": ("evaluate", "w.safetensors", "--data", "digits", "--corrupted", "copy"),
    "copy2/corrupt.json": ("evaluate", "w.safetensors", "--data", "digits", "--corrupted", "copy2"),
    "names.txt": ("evaluate", "w.safetensors", "--data", "folder:f", "--classes", "{}"),
    "init.pt": ("train", "finetune", "--data", "digits", "--out", "new", "--set", "init={}"),
    "out/log.jsonl": ("train", "standard", "--data", "digits", "--out", "out"),
}


@pytest.mark.parametrize("name", _PIPES)
def test_no_input_is_waited_for_where_a_pipe_is(
    name: str, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file(dict(load_model(arch="fastnet").state_dict()), "w.safetensors", metadata={"arch": "fastnet"})
    for place in (Path("f") / "a", Path("copy2"), Path(name).parent):
        place.mkdir(exist_ok=True, parents=True)
    Image.new("RGB", (8, 8)).save("f/a/1.png")
    for array in ("labels", "fog"):
        np.save(f"copy2/{array}.npy", np.zeros(5, np.int64))
    os.mkfifo(name)

    def hung(*_: object) -> None:
        raise AssertionError(f"{name} is waited for")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(120)
    try:
        line = told(*(word.format(name) for word in _PIPES[name]))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert name in line
    assert "nobody foresaw" not in line


def test_labels_have_a_limit(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=np.zeros((2, 3, 8, 8), np.uint8), labels=[0, 900_000_000])
    with pytest.raises(ValueError, match="below the limit of 1,000,000, got 900,000,000"):
        load_data(f"npz:{tmp_path / 'd.npz'}")


def test_a_long_image_is_not_resized_beyond_memory(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (1, 60_000)).save(tmp_path / name / "1.png")
    with pytest.raises(
        ValueError, match=r"1x60000 pixels would become .*, more than the limit of 134,217,728"
    ):
        load_data(f"folder:{tmp_path}", reading=Reading(size=4096))
    assert load_data(f"folder:{tmp_path}", reading=Reading(size=16)).images.shape == (2, 3, 16, 16)


def test_a_kernel_beyond_the_limit_is_listed_and_not_measured() -> None:
    found = analyze({"big.weight": torch.randn(1, 1, 128, 128), "long.weight": torch.randn(2, 1, 1, 130)})
    assert found["big"].low_share is None
    assert "kernel of 128x128: not measured, more than 2,601 values" in found["big"].note
    assert found["long"].low_share is not None


def test_a_network_of_zeros_gets_a_score_and_shrinks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, rng = tmp_path / "d.npz", np.random.default_rng(0)
    np.savez(file, images=rng.integers(0, 256, (40, 3, 8, 8), np.uint8), labels=np.arange(40) % 10)
    weights = {
        name: torch.zeros_like(value) for name, value in load_model(arch="fastnet").state_dict().items()
    }
    torch.save(weights, tmp_path / "w.pt")
    words = ["shrink", str(tmp_path / "w.pt"), "--arch", "fastnet", "--data", f"npz:{file}"]
    code = main([*words, "--out", str(tmp_path / "out.safetensors")])
    assert code in (0, 2)
    assert "nobody foresaw" not in capsys.readouterr().err


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 10**30])
def test_a_seed_has_64_bits(seed: int, tmp_path: Path, told: Told) -> None:
    with pytest.raises(ValueError, match="seed needs a whole number of 64 bits"):
        EvaluateConfig(seed=seed)
    assert seed_number(2**63 - 1) == 2**63 - 1
    assert "seed needs a whole number of 64 bits" in told(
        "corrupt", "planted", "--out", tmp_path / "c", f"--seed={seed}"
    )


def test_no_text_of_a_user_steers_the_terminal(tmp_path: Path, told: Told) -> None:
    line = told("analyze", tmp_path / "\x1b[31m\u202ered\x9b.pt")
    assert "\\x1b[31m\\u202ered\\x9b.pt" in line
    assert printable("a\tb\n\u200d\U0001f600 é") == "a\tb\n\u200d\U0001f600 é"
    assert printable("\udcff") == "\\udcff"
    assert len(told("train", "standard", "--set", f"epochs={'9' * 100_000}x")) < 1200


def test_no_cell_of_a_table_is_a_formula(tmp_path: Path) -> None:
    names = ["=1+1", "+1", "-x", "@a", "\t=1", "fine", "a=b"]
    write_table([{"name": name, "value": -1.5} for name in names], tmp_path / "t.csv")
    lines = (tmp_path / "t.csv").read_text().splitlines()[1:]
    assert lines == [*(f"'{name},-1.5" for name in names[:5]), "fine,-1.5", "a=b,-1.5"]


@pytest.mark.slow
def test_odd_surroundings_change_no_answer(tmp_path: Path) -> None:
    torch.save({"é.weight": torch.ones(2, 3, 3, 3)}, tmp_path / "w.pt")
    odd = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "COLUMNS": "1", "HOME": ""}
    done = subprocess.run(
        [sys.executable, "-OO", "-m", "filterbands", "analyze", "w.pt"],
        env={**os.environ, **odd},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\xe9" in done.stdout


def test_help_ends_in_a_terminal_of_one_column(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1")
    assert main(["report", "--help"]) == 0
    assert "--out" in capsys.readouterr().out
    assert os.environ["COLUMNS"] == "1"


@pytest.mark.slow
def test_a_database_that_a_full_disk_left_empty_is_filled(tmp_path: Path) -> None:
    rng, file, db = np.random.default_rng(0), tmp_path / "d.npz", tmp_path / "r.db"
    np.savez(file, images=rng.integers(0, 256, (10, 3, 8, 8), np.uint8), labels=np.arange(10))
    torch.save(load_model(arch="fastnet").state_dict(), tmp_path / "w.pt")
    words = ["probe", str(tmp_path / "w.pt"), "--arch", "fastnet", "--data", f"npz:{file}", "--db", str(db)]
    db.touch()
    assert main([*words, "--only", "passes"]) == 0
    db.unlink()
    connection = sqlite3.connect(db)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    assert main([*words, "--only", "passes"]) == 0
