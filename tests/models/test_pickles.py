"""Pickles as public repositories write them are read; what would run code is refused and never run."""

import argparse
import collections
import datetime
import decimal
import io
import os
import pathlib
import pickle
import pickletools
import struct
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from filterbands.filters import analyze
from filterbands.models import load_model, read_weights


def _state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {"conv1.weight": torch.randn(4, 3, 3, 3), "conv1.bias": torch.randn(4)}


def _assert_read(file: Path) -> None:
    found, state = read_weights(file), _state()
    assert list(found) == list(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


def _rewrite(file: Path, old: bytes, new: bytes) -> None:
    """Write an archive of torch anew, with other bytes in its pickle."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            assert old in content or not name.endswith("data.pkl")
            archive.writestr(name, content.replace(old, new) if name.endswith("data.pkl") else content)


class AttributeDict(dict[str, Any]):
    """As Lightning's, yacs' CfgNode and EasyDict: items are attributes too, under names of methods."""

    def __init__(self, **entries: Any) -> None:
        super().__init__(entries)
        self.__dict__.update(entries)


class HistoryBuffer:
    """As mmengine's, whose state holds functions of a class."""

    def __init__(self) -> None:
        self.log, self.statistics = np.arange(3.0), {"mean": HistoryBuffer.mean}

    def mean(self) -> float:
        return float(self.log.mean())


BESIDE: dict[str, Callable[[], Any]] = {
    "args": lambda: argparse.Namespace(lr=0.1, out=pathlib.Path("x"), layers=[1, 2]),
    "numpy number": lambda: np.float64(93.1),
    "numpy numbers": lambda: {
        "f4": np.float32(1),
        "bool": np.bool_(1),
        "i8": np.int64(3),
        "type": np.float32,
    },
    "numpy array": lambda: {"confusion": np.eye(3), "names": np.array(["a", "b"]), "dtype": np.dtype("f4")},
    "ordered": lambda: collections.OrderedDict(a=1),
    "path": lambda: pathlib.PurePosixPath("/a/b"),
    "date": lambda: [datetime.datetime(2024, 1, 2), datetime.date(2024, 1, 2), datetime.timedelta(3)],
    "zone": lambda: datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc),
    "defaults": lambda: collections.defaultdict(list, {1: [2]}),
    "nested defaults": lambda: {"a": collections.defaultdict(dict, b={1: 2}), "c": collections.deque([1], 2)},
    "counts": lambda: collections.Counter("aab"),
    "sets": lambda: [{1, 2}, frozenset([3]), range(4), slice(1, 2), decimal.Decimal("1.5"), 2 + 1j],
    "torch": lambda: [torch.__version__, torch.float16, torch.device("cpu"), torch.Size([1])],
    "settings": lambda: AttributeDict(values=3, keys=AttributeDict(get=1), tensor=torch.ones(2)),
    "a list of settings": lambda: [AttributeDict(a=1), AttributeDict(b=2)],
    "history": HistoryBuffer,
    "a layer": lambda: nn.ReLU,
    "a loss": lambda: nn.CrossEntropyLoss(),
}
# In its old format torch writes the source code of modules along.
CASES = [
    (beside, old)
    for beside in BESIDE
    for old in (False, True)
    if not (old and beside in ("a layer", "a loss"))
]


@pytest.mark.parametrize(("beside", "is_old"), CASES)
def test_harmless_objects_beside_the_weights_are_passed_over(
    beside: str, is_old: bool, tmp_path: Path
) -> None:
    content = {"epoch": 3, "args": BESIDE[beside](), "state_dict": _state(), "best": BESIDE[beside]()}
    torch.save(content, tmp_path / "net.pth.tar", _use_new_zipfile_serialization=not is_old)
    _assert_read(tmp_path / "net.pth.tar")


@pytest.mark.parametrize(
    ("beside", "old", "new"),
    [
        ("numpy number", b"numpy._core.multiarray", b"numpy.core.multiarray"),
        ("numpy array", b"numpy._core.multiarray", b"numpy.core.multiarray"),
        ("path", b"pathlib\nPurePosixPath", b"pathlib\nWindowsPath"),
        ("path", b"pathlib\nPurePosixPath", b"pathlib._local\nWindowsPath"),
        ("settings", b"AttributeDict\n", b"gone_with_the_repository\n"),
    ],
)
def test_names_of_other_versions_and_systems_are_not_looked_up(
    beside: str, old: bytes, new: bytes, tmp_path: Path
) -> None:
    torch.save({"state_dict": _state(), "beside": BESIDE[beside]()}, tmp_path / "net.pt")
    if old not in zipfile.ZipFile(tmp_path / "net.pt").read("net/data.pkl"):
        old, new = new, old  # NumPy 1 writes these tests.
    _rewrite(tmp_path / "net.pt", old, new)
    _assert_read(tmp_path / "net.pt")


def test_no_module_that_a_file_names_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("theirs")
    exec("class Settings:\n    def __init__(self):\n        self.lr = 1", vars(module))
    monkeypatch.setitem(sys.modules, "theirs", module)
    torch.save({"model": _state(), "settings": module.Settings()}, tmp_path / "net.pt")
    monkeypatch.delitem(sys.modules, "theirs")
    (tmp_path / "theirs.py").write_text("import pathlib\npathlib.Path('exploded').touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    _assert_read(tmp_path / "net.pt")
    assert not Path("exploded").exists()
    assert "theirs" not in sys.modules


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.register_buffer("scratch", torch.ones(2), persistent=False)
        self.rest = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, bias=False))


def test_a_whole_pickled_network_gives_its_state_dict(tmp_path: Path) -> None:
    model = Block()
    for content in (model, {"epoch": 3, "model": model, "ema": None}, nn.DataParallel(model)):
        torch.save(content, tmp_path / "net.pt")
        found = read_weights(tmp_path / "net.pt")
        assert list(found) == list(model.state_dict())
        assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "name", ["numel", "detach", "shape_of", "element_size", "to", "flatten", "__deepcopy__"]
)
@pytest.mark.parametrize("kind", [torch.clone, nn.Parameter])
def test_attributes_that_a_file_sets_on_tensors_hide_no_methods(
    name: str, kind: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    state = load_model(arch="fastnet").state_dict()
    state["conv1.weight"] = kind(state["conv1.weight"])
    setattr(state["conv1.weight"], name, 5)
    torch.save(state, tmp_path / "net.pt")
    assert getattr(torch.load(tmp_path / "net.pt", weights_only=True)["conv1.weight"], name) == 5
    found = read_weights(tmp_path / "net.pt")
    assert vars(found["conv1.weight"]) == {}
    assert all(type(tensor) is Tensor and not tensor.requires_grad for tensor in found.values())
    model = load_model(tmp_path / "net.pt", arch="fastnet")
    assert torch.equal(model.conv1.weight, state["conv1.weight"])
    analyze(tmp_path / "net.pt")


class Calling:
    """A pickle that calls a function of a name, whether there is one or not."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


ATTACKS: dict[str, tuple[Any, str]] = {
    "os.system": (Calling(os.system, "touch exploded"), "posix.system|nt.system"),
    "eval": (Calling(eval, "open('exploded', 'w')"), "builtins.eval"),
    "process": (Calling(subprocess.Popen, ["touch", "exploded"]), "Popen"),
    "method": (Calling(Path.touch, Path("exploded")), "is refused"),
    "a call in a call": (
        Calling(torch._tensor._rebuild_from_type_v2, eval, Tensor, ("open('exploded', 'w')",), {}),
        "builtins.eval",
    ),
    "a state": (Calling(torch.storage._load_from_bytes, b"\x80\x02."), "_load_from_bytes"),
    "imported": (Calling(__import__, "exploding"), "builtins.__import__"),
}
# Written as pickle would: the function os.system reached through another module, with and without getattr.
RAW = {
    "through a module": b"cshutil\nos.system\nX\x0e\x00\x00\x00touch exploded\x85R",
    "through getattr": (
        b"cbuiltins\ngetattr\ncshutil\nos\nX\x06\x00\x00\x00system\x86RX\x0e\x00\x00\x00touch exploded\x85R"
    ),
}


@pytest.mark.parametrize("attack", [*ATTACKS, *RAW])
@pytest.mark.parametrize("is_archive", [True, False])
def test_what_would_run_code_is_refused_and_does_not_run(
    attack: str, is_archive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exploding.py").write_text("open('exploded', 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    bomb, message = ATTACKS.get(attack, ("dud", "is refused"))
    torch.save({**_state(), "bomb": bomb}, "net.pt", _use_new_zipfile_serialization=is_archive)
    if attack in RAW:
        written = b"X\x03\x00\x00\x00dud"
        if is_archive:
            _rewrite(Path("net.pt"), written, RAW[attack])
        else:
            Path("net.pt").write_bytes(Path("net.pt").read_bytes().replace(written, RAW[attack]))
    with pytest.raises(ValueError, match=message) as caught:
        read_weights("net.pt")
    assert "is refused" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("exploded").exists()


def test_a_list_that_is_harmless_for_one_file_is_not_kept_for_the_next(tmp_path: Path) -> None:
    torch.save({"state_dict": _state(), "args": argparse.Namespace(a=1)}, tmp_path / "net.pt")
    before = set(torch.serialization.get_safe_globals())
    read_weights(tmp_path / "net.pt")
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "net.pt", weights_only=True)


def test_another_protocol_and_a_plain_pickle_are_named(tmp_path: Path) -> None:
    torch.save(_state(), tmp_path / "new.pt", pickle_protocol=4)
    with pytest.raises(ValueError, match="pickle protocol 4 cannot be read without running code"):
        read_weights(tmp_path / "new.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"weight": np.ones(3)}))
    with pytest.raises(ValueError, match=r"a pickle that torch.save has not written"):
        read_weights(tmp_path / "plain.pkl")


def _flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 0xFF
    file.write_bytes(content)


def _place_of(file: Path, member: str) -> int:
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo(member)
    name, extra = struct.unpack("<HH", file.read_bytes()[info.header_offset + 26 : info.header_offset + 30])
    return int(info.header_offset + 30 + name + extra + info.file_size // 2)


def test_a_damaged_file_is_said_to_be_damaged_and_not_dangerous(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    for is_archive in (True, False):
        torch.save({"model": _state(), "n": np.float64(1)}, file, _use_new_zipfile_serialization=is_archive)
        whole = file.read_bytes()
        for share in (0.2, 0.5, 0.9, 0.99):
            file.write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(ValueError, match="damaged") as caught:
                read_weights(file)
            assert "refused" not in str(caught.value)
    # torch itself maps the wrong numbers without a word.
    for member in ("net/data.pkl", "net/data/0"):
        torch.save(_state(), file)
        _flip(file, _place_of(file, member))
        with pytest.raises(ValueError, match="damaged"):
            read_weights(file)
    np.savez(tmp_path / "net.npz", **{name: tensor.numpy() for name, tensor in _state().items()})
    _flip(tmp_path / "net.npz", _place_of(tmp_path / "net.npz", "conv1.weight.npy"))
    with pytest.raises(ValueError, match="damaged"):
        read_weights(tmp_path / "net.npz")


def test_a_storage_that_is_not_in_the_list_at_the_end_is_no_memory_of_others(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    torch.save(_state(), file, _use_new_zipfile_serialization=False)
    content = file.read_bytes()
    stream = io.BytesIO(content)
    for _ in range(4):
        pickletools.dis(stream, out=io.StringIO())
    start, listed = stream.tell(), pickle.load(stream)[:1]
    assert len(listed) == 1
    end = stream.tell()
    file.write_bytes(content[:start] + pickle.dumps(listed, 2) + content[end:])
    with pytest.raises(
        ValueError, match=r"damaged: its pickle names a storage, '\d+', that the file does not have"
    ):
        read_weights(file)
    file.write_bytes(content)
    _assert_read(file)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_storage_that_is_shorter_than_claimed_is_not_filled_with_what_follows(
    compression: int, tmp_path: Path
) -> None:
    state = {"a": torch.ones(10), "b": torch.ones(100)}
    torch.save(state, tmp_path / "net.pt")
    with (
        zipfile.ZipFile(tmp_path / "net.pt") as old,
        zipfile.ZipFile(tmp_path / "cut.pt", "w", compression) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name)[: 20 if name.endswith("data/0") else None])
    with pytest.raises(
        ValueError, match="damaged: its pickle claims more numbers for a storage, '0', than the file"
    ):
        read_weights(tmp_path / "cut.pt")


@pytest.mark.parametrize("is_archive", [True, False])
def test_storages_of_every_kind_are_as_long_as_claimed(is_archive: bool, tmp_path: Path) -> None:
    kinds = (
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int16,
        torch.uint8,
        torch.complex64,
    )
    state = {str(kind): torch.ones(3).to(kind) for kind in kinds}
    state |= {"empty": torch.ones(0), "view": torch.ones(9)[3:5], "bool": torch.ones(2, dtype=torch.bool)}
    if is_archive:
        # The old format has no storages of these.
        state |= {
            "unsigned": torch.ones(2, dtype=torch.uint32),
            "small": torch.ones(2).to(torch.float8_e4m3fn),
        }
    torch.save(state, tmp_path / "net.pt", _use_new_zipfile_serialization=is_archive)
    assert {name: tensor.dtype for name, tensor in read_weights(tmp_path / "net.pt").items()} == {
        name: tensor.dtype for name, tensor in state.items()
    }


def test_an_archive_that_was_packed_again_with_compression_is_read(tmp_path: Path) -> None:
    torch.save(_state(), tmp_path / "net.pt")
    with (
        zipfile.ZipFile(tmp_path / "net.pt") as archive,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    _assert_read(tmp_path / "packed.pt")


def test_an_archive_that_torch_wrote_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(_state(), tmp_path / "net.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    _assert_read(tmp_path / "net.pt")


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_a_pickle_that_claims_more_than_its_file_takes_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save(_state(), file, _use_new_zipfile_serialization=False)
    content = file.read_bytes()
    # A text of 4 GB in place of the first text.
    place = content.index(b"X")
    file.write_bytes(content[: place + 1] + b"\xff\xff\xff\xff" + content[place + 5 :])
    code = """
import resource, sys
from filterbands.filters import analyze
from filterbands.models import load_model, read_weights
resource.setrlimit(resource.RLIMIT_DATA, (2 << 30,) * 2)
try:
    read_weights(sys.argv[1])
except ValueError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, file], capture_output=True, encoding="utf-8", check=False
    )
    assert "is damaged: its pickle is cut" in done.stdout, done.stderr
