"""Small pickles that claim memory, time or depth are refused before anything is made."""

import io
import pickle
import pickletools
import resource
import signal
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import pytest
import torch

from filterbands.cli import main
from filterbands.datasets import load_data
from filterbands.models import read_weights
from filterbands.pickled import DEPTH, UNFOLDED, Name, PickleError, Walk
from filterbands.run import Run


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    """End a test that hangs in Python."""

    def hung(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def doubled(start: bytes, code: bytes, times: int = 60) -> bytes:
    """Return a value that holds another one twice, and that another one ..."""
    made = start
    for number in range(times):
        place = struct.pack("B", 100 + number)
        made += b"q" + place + b"h" + place + code
    return made


TUPLES = doubled(b")", b"\x86")
LISTS = b"](" + doubled(b"(K\x01l", b"\x86", 59) + b"e"
DEEP = b")" + b"\x85" * 1_000_000
# What stands for a value in a dictionary of weights, or for its key.
BOMBS: dict[str, bytes] = {
    "a key of tuples": TUPLES + b"K\x01",
    "a deep key": DEEP + b"K\x01",
    "a deep value": b"X\x01\x00\x00\x00a" + DEEP,
    "a value in lists": b"X\x01\x00\x00\x00a" + LISTS,
    "a set of tuples": b"X\x01\x00\x00\x00ac__builtin__\nset\n](" + TUPLES + b"e\x85R",
    "a function of lists": b"X\x01\x00\x00\x00a" + LISTS + b")R",
    "a class of lists": b"X\x01\x00\x00\x00a" + LISTS + b")\x81",
    "a far number": b"X\x01\x00\x00\x00a]r\xff\xff\xff\x1f",
    "a bytearray": b"X\x01\x00\x00\x00ac__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R",
    "a tensor": b"X\x01\x00\x00\x00actorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R",
    "a new tensor": b"X\x01\x00\x00\x00actorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85\x81",
    "a codec": b"X\x01\x00\x00\x00ac_codecs\nencode\nX\x02\x00\x00\x00abX\x08\x00\x00\x00punycode\x86R",
    "long keys": b"X\x01\x00\x00\x00a}(" + b"(" + b"K\x01" * 35_000 + b"tq\xff" + b"Nh\xff" * 35_000 + b"Nu",
}


def archive(file: Path, pickled: bytes) -> Path:
    """Write an archive of torch with a pickle of ours."""
    writer = torch._C.PyTorchFileWriter(str(file))
    writer.write_record("data.pkl", pickled, len(pickled))
    writer.write_end_of_file()
    return file


def legacy(file: Path, pickled: bytes) -> Path:
    """Write a file of before torch 1.6 with a pickle of ours."""
    torch.save({"a": torch.ones(2)}, file, _use_new_zipfile_serialization=False)
    content = file.read_bytes()
    parts = []
    stream = io.BytesIO(content)
    for _ in range(5):
        begin = stream.tell()
        pickletools.dis(stream, out=io.StringIO())
        parts.append(content[begin : stream.tell()])
    parts[3] = pickled
    file.write_bytes(b"".join(parts) + content[stream.tell() :])
    return file


def cifar(folder: Path, pickled: bytes) -> Path:
    folder.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickled)
    return folder


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_pickle_that_would_take_much_is_refused_by_every_reader(
    bomb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pickled = b"\x80\x02}" + BOMBS[bomb] + b"s."
    run = tmp_path / "run"
    run.mkdir()
    archive(run / "checkpoint.pt", pickled)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    readers: dict[str, Callable[[], Any]] = {
        "archive": lambda: read_weights(archive(tmp_path / "a.pt", pickled)),
        "legacy": lambda: read_weights(legacy(tmp_path / "b.pt", pickled)),
        "CIFAR": lambda: load_data(f"cifar10:{cifar(tmp_path / 'c', pickled)}"),
        "Run": lambda: Run(run).read_checkpoint(),
    }
    for name, read in readers.items():
        with pytest.raises(ValueError, match=r"damaged|refused|not a whole CIFAR|truncated") as caught:
            read()
        assert "\n" not in str(caught.value), name
    assert main(["analyze", str(tmp_path / "a.pt")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert time.monotonic() - began < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20


def test_a_storage_of_more_numbers_than_the_file_has_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "a.pt").read_bytes()
    assert content.count(b"K\x02N") == 1
    (tmp_path / "a.pt").write_bytes(content.replace(b"K\x02N", b"J\xff\xff\xff\x7fN"))
    with pytest.raises(ValueError, match="damaged: its pickle claims 2,147,483,647 numbers"):
        read_weights(tmp_path / "a.pt")


@pytest.mark.slow
@pytest.mark.parametrize("is_archive", [True, False])
def test_dictionaries_in_dictionaries_are_not_searched_for_ever(is_archive: bool, tmp_path: Path) -> None:
    inner: dict[str, Any] = {"x": torch.ones(1)}
    for _ in range(3):
        inner = {f"n{number}": inner for number in range(50)}
    torch.save(inner, tmp_path / "a.pt", _use_new_zipfile_serialization=is_archive)
    with pytest.raises(ValueError, match="more than 100,000 dictionaries and modules"):
        read_weights(tmp_path / "a.pt")
    module: torch.nn.Module = torch.nn.Identity()
    for _ in range(40):
        module = torch.nn.Sequential(module, module)
    torch.save(module, tmp_path / "b.pt")
    with pytest.raises(ValueError, match="more than 100,000 dictionaries and modules"):
        read_weights(tmp_path / "b.pt")


def test_a_cut_anywhere_and_a_changed_letter_are_said_to_be_damage(tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    torch.save({"a": torch.ones(2, 2), "b": [1, "x"]}, file, _use_new_zipfile_serialization=False)
    whole = file.read_bytes()
    for length in range(32, len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is damaged"):
            read_weights(file)
    file.write_bytes(whole.replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v0"))
    with pytest.raises(ValueError, match=r"is refused: .* may run any code, or it is damaged; load it where"):
        read_weights(file)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_is_not_hostile_is_gone_through(protocol: int) -> None:
    shared = [1.5, None, True, b"bytes", "text" * 100]
    loop: dict[str, Any] = {"a": [shared] * 1000, ("key", 2): frozenset({"x", (1, 2)}), "s": {1, 2}}
    loop["itself"] = loop
    value = [loop, np.arange(3), np.float64(2), PosixPath("x"), 2**70, -1, (), bytearray(b"b")]
    walk = Walk(size=1)
    walk.through(pickletools.genops(pickle.dumps(value, protocol)))
    assert walk.protocol == (protocol if protocol > 1 else 0)
    assert "pathlib.PosixPath" in walk.names or "pathlib._local.PosixPath" in walk.names
    assert Walk(size=1).through(pickletools.genops(pickle.dumps(len, protocol))) == Name("builtins.len")


def test_the_limits_are_those_that_are_told() -> None:
    def nested(depth: int) -> bytes:
        return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."

    Walk(size=1).through(pickletools.genops(nested(DEPTH)))
    with pytest.raises(PickleError, match=f"more than {DEPTH} containers within each other"):
        Walk(size=1).through(pickletools.genops(nested(DEPTH + 1)))
    text = "x" * (1 << 20)
    Walk(size=0).through(pickletools.genops(pickle.dumps([text] * ((UNFOLDED >> 20) - 1))))
    with pytest.raises(PickleError, match="one thing many times"):
        Walk(size=0).through(pickletools.genops(pickle.dumps([text] * (UNFOLDED >> 20))))
