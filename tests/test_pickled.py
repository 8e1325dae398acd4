"""Small pickles that claim memory, time or depth are refused before anything is made."""

import io
import pickle
import pickletools
import resource
import signal
import struct
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import pytest
import torch

from filterbands.cli import main
from filterbands.datasets import load_data
from filterbands.models import read_weights
from filterbands.pickled import DEPTH, UNFOLDED, Name, PickleError, Walk, check_call_of_torch
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
    "a tensor that is set": b"X\x01\x00\x00\x00actorch\nTensor\n)Rq\x01(h\x01K\x00"
    b"J\xff\xff\xff\x7f\x85K\x01\x85tb",
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


LARGE = b"J\xff\xff\xff\x7f"
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ"
# A tensor that repeats one number, and what makes it.
REPEATED = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x00" + LARGE + b"\x85K\x00\x85\x89}tR"
OFFSET_SIZE_STRIDE = STORAGE + b"K\x00" + LARGE + b"\x85K\x01\x85"
# Calls that torch allows, of a function and with arguments that torch.save does not write together.
CALLS: dict[str, tuple[bytes, bytes]] = {
    "a bytearray": (b"c__builtin__\nbytearray\n", LARGE + b"\x85"),
    "a bytearray of a number": (b"c__builtin__\nbytearray\n", REPEATED + b"\x85"),
    "a tensor": (b"ctorch\nFloatTensor\n", LARGE + b"\x85"),
    "a sparse tensor": (b"ctorch.sparse\nFloatTensor\n", LARGE + b"\x85"),
    "a storage": (b"ctorch.storage\nUntypedStorage\n", LARGE + b"\x85"),
    "a codec": (b"c_codecs\nencode\n", b"X\x02\x00\x00\x00abX\x08\x00\x00\x00punycode\x86"),
    "a set of a tensor": (b"c__builtin__\nset\n", REPEATED + b"\x85"),
    "a shape of a tensor": (b"ctorch\nSize\n", REPEATED + b"\x85"),
    "counts of a tensor": (b"ccollections\nCounter\n", REPEATED + b"\x85"),
    "a copy of a tensor": (
        b"ctorch._utils\n_rebuild_device_tensor_from_cpu_tensor\n",
        b"(" + REPEATED + b"ctorch\nfloat64\nX\x03\x00\x00\x00cpu\x89t",
    ),
    "a quantized tensor": (
        b"ctorch._utils\n_rebuild_qtensor\n",
        b"(" + OFFSET_SIZE_STRIDE + b"(ctorch\nper_tensor_affine\nG?\xf0" + bytes(6) + b"K\x00t\x89}t",
    ),
}


def walked(code: bytes) -> Walk:
    walk = Walk(size=1000, check_call=check_call_of_torch)
    walk.through(pickletools.genops(b"\x80\x02" + code + b"."))
    return walk


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_torch_does_not_write_is_refused_also_where_another_function_makes_it(call: str) -> None:
    function, arguments = CALLS[call]
    with pytest.raises(PickleError, match="with other values than"):
        walked(function + arguments + b"R")
    with pytest.raises(PickleError, match=r"in place of what makes|with other values than torch\.save does"):
        walked(
            b"ctorch._tensor\n_rebuild_from_type_v2\n(" + function + b"ctorch\nTensor\n" + arguments + b"}tR"
        )
    walked(REPEATED)


SHORT = STORAGE.replace(b"K\x02tQ", b"K\x00tQ")
PARAMETER = b"ctorch.nn.parameter\nParameter\n" + REPEATED + b"\x85R"
# Tensors with more numbers than their storage, which torch would enlarge.
GROWING: dict[str, bytes] = {
    "a storage of nothing": REPEATED.replace(STORAGE, SHORT),
    "steps": REPEATED.replace(b"K\x00\x85\x89", b"K\x01\x85\x89"),
    "an offset": REPEATED.replace(b"K\x00" + LARGE, b"K\x02K\x01"),
    "a negative step": REPEATED.replace(b"K\x00\x85\x89", b"J\xff\xff\xff\xff\x85\x89"),
    "steps of another number": REPEATED.replace(b"K\x00\x85\x89", b"K\x00K\x00\x86\x89"),
    "many axes": REPEATED.replace(
        LARGE + b"\x85K\x00\x85", b"(" + b"K\x01" * 65 + b"t(" + b"K\x00" * 65 + b"t"
    ),
    "state": b"ctorch\nTensor\n)R(" + OFFSET_SIZE_STRIDE + b"tb",
    "state in two steps": b"ctorch\nTensor\n)R(" + STORAGE + b"K\x00" + LARGE + b"\x85tb",
    "state of a new tensor": b"ctorch\nFloatTensor\n)\x81(" + OFFSET_SIZE_STRIDE + b"tb",
    "state of a rebuilt one": REPEATED + b"(" + OFFSET_SIZE_STRIDE + b"tb",
    "state of a Parameter": PARAMETER + b"(" + OFFSET_SIZE_STRIDE + b"tb",
}
SIZE = b"ctorch\nSize\nK\x02\x85\x85R"
# What torch wrote before version 0.4, and views.
WITHIN: dict[str, bytes] = {
    "a view": REPEATED.replace(b"K\x00" + LARGE + b"\x85K\x00", b"K\x01K\x01\x85K\x05"),
    "nothing": REPEATED.replace(STORAGE, SHORT).replace(LARGE, b"K\x00"),
    "state": b"ctorch\nFloatTensor\n)R(" + STORAGE + b"K\x00" + SIZE + b"K\x01\x85tb",
    "state of a Parameter": PARAMETER + b"(" + REPEATED + b"NN\x88}tb",
}


@pytest.mark.parametrize("form", GROWING)
def test_a_tensor_lies_within_its_storage(form: str) -> None:
    said = r"other values than torch\.save|more numbers than its storage|no sense"
    with pytest.raises(PickleError, match=said):
        walked(GROWING[form])


@pytest.mark.parametrize("form", WITHIN)
def test_a_tensor_within_its_storage_is_read(form: str) -> None:
    walked(WITHIN[form])


ENTRIES = b"(" + b"K\x01" * 10_000
COPIES = {
    "a shape": ENTRIES + b"tq\x010]q\x03(" + b"ctorch\nSize\nh\x01\x85R" * 300 + b"e",
    "a set": ENTRIES + b"lq\x010]q\x03(" + b"c__builtin__\nset\nh\x01\x85R" * 300 + b"e",
    "bytes": b"X\xa0\x86\x01\x00"
    + b"a" * 100_000
    + b"q\x010X\x06\x00\x00\x00latin1q\x020]("
    + b"c_codecs\nencode\nh\x01h\x02\x86R" * 800
    + b"e",
    "a bytearray": b"c_codecs\nencode\nX\xa0\x86\x01\x00"
    + b"a" * 100_000
    + b"X\x06\x00\x00\x00latin1\x86Rq\x010]("
    + b"c__builtin__\nbytearray\nh\x01\x85R" * 800
    + b"e",
    "a state": b"}" + ENTRIES + b"uq\x010](" + b"ccollections\nOrderedDict\n)Rh\x01b" * 300 + b"e",
    "attributes": b"}"
    + ENTRIES
    + b"uq\x010"
    + REPEATED
    + b"q\x020("
    + (b"ctorch._utils\n_rebuild_parameter_with_state\n(h\x02\x89}h\x01}\x86tR" * 300)
    + b"l",
}


@pytest.mark.parametrize("form", COPIES)
def test_what_calls_copy_is_counted_each_time(form: str) -> None:
    with pytest.raises(PickleError, match=r"one thing many times|too many keys of one hash"):
        walked(COPIES[form])


def test_what_is_made_into_a_tensor_is_flat() -> None:
    rows = b"(((" + b"K\x01" * 10 + b"tlt"
    layout = b"ctorch.serialization\n_get_layout\nX\x10\x00\x00\x00torch.sparse_coo\x85R"
    with pytest.raises(PickleError, match="with other values than torch"):
        walked(b"ctorch._utils\n_rebuild_sparse_tensor\n" + layout + rows + b"\x86R")


def test_a_call_of_what_the_pickle_makes_is_refused() -> None:
    with pytest.raises(PickleError, match="would call something that it makes itself"):
        walked(b"c__builtin__\nset\n]\x85R)R")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_torch_writes_is_called() -> None:
    named = torch.nn.Parameter(torch.ones(2))
    named.group, tagged = "head", torch.ones(2)  # type: ignore[attr-defined]
    tagged.tag = (1, 2)  # type: ignore[attr-defined]
    channels = torch.quantize_per_channel(
        torch.ones(2, 3), torch.ones(2), torch.zeros(2, dtype=torch.int64), 0, torch.qint8
    )
    content = {
        "tensors": [torch.ones(2), torch.ones(1).expand(1000), tagged, torch.ones(2).to(torch.float8_e4m3fn)],
        "parameters": [torch.nn.Parameter(torch.ones(2)), named],
        "quantized": [torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8), channels],
        "odd": [torch.eye(2).to_sparse(), torch.eye(2).to_sparse_csr(), torch.ones(2, device="meta")],
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "bytes": [b"\xff", bytearray(b"ab")],
        "plain": [{1, "a"}, 1 + 2j, Counter("aab"), OrderedDict(a=1), OrderedDict()],
        "torch": [
            torch.Size([1, 2]),
            torch.device("cuda:1"),
            torch.device("cpu"),
            torch.strided,
            torch.float16,
        ],
    }
    stream = io.BytesIO()
    torch.save(content, stream)
    stream.seek(0)
    walk = walked(torch._C.PyTorchFileReader(stream).get_record("data.pkl")[2:-1])
    assert "torch._tensor._rebuild_from_type_v2" in walk.names
    stream.seek(0)
    assert list(torch.load(stream, weights_only=True)) == list(content)


def number(value: int) -> bytes:
    content = pickle.encode_long(value)
    return b"\x8a" + bytes([len(content)]) + content


# Numbers that Python gives the hash 0, and containers of such keys, which take quadratic time.
COLLIDING = [number(count * (2**61 - 1)) for count in range(1, 3000)]
PAIRED = b"".join(one + b"N" for one in COLLIDING)
COLLISIONS: dict[str, bytes] = {
    "a dictionary": b"}(" + PAIRED + b"u",
    "a dictionary of one after the other": b"}" + b"".join(one + b"Ns" for one in COLLIDING),
    "a set": b"\x8f(" + b"".join(COLLIDING) + b"\x90",
    "a frozenset": b"(" + b"".join(COLLIDING) + b"\x91",
    "a called set": b"c__builtin__\nset\n(" + b"".join(COLLIDING) + b"l\x85R",
    "ordered": b"ccollections\nOrderedDict\n)R(" + PAIRED + b"u",
    "ordered pairs": b"ccollections\nOrderedDict\n("
    + b"".join(one + b"N\x86" for one in COLLIDING)
    + b"l\x85R",
    "counts": b"ccollections\nCounter\n}(" + PAIRED + b"u\x85R",
    "tuples": b"}(" + b"".join(b"X\x01\x00\x00\x00x" + one + b"\x86K\x01\x86N" for one in COLLIDING) + b"u",
    "frozensets": b"}(" + b"".join(b"(" + one + b"\x91N" for one in COLLIDING) + b"u",
    "shapes": b"}(" + b"".join(b"ctorch\nSize\n" + one + b"\x85\x85RN" for one in COLLIDING) + b"u",
    # A small dictionary, whose keys are looked up again with each object whose state it is.
    "states": b"}("
    + b"".join(one + b"N" for one in COLLIDING[:200])
    + b"uq\x010("
    + b"ctheirs\nThing\n)\x81h\x01b" * 200
    + b"l",
}


@pytest.mark.parametrize("form", COLLISIONS)
def test_thousands_of_keys_of_one_hash_are_refused(form: str) -> None:
    pickled = b"\x80\x04" + COLLISIONS[form] + b"."
    with pytest.raises(PickleError, match="too many keys of one hash"):
        Walk(size=len(pickled)).through(pickletools.genops(pickled))


def test_keys_of_hashes_of_their_own_are_no_collisions() -> None:
    content = [
        {140_000_000_000_000 + 64 * count: {"step": 1} for count in range(2500)},
        {(f"block{count}", count, 0.5): None for count in range(2500)},
        {count / 7 for count in range(2500)},
        deque([0] * 2500),
        Counter(dict.fromkeys(map(str, range(2500)), 1)),
        OrderedDict.fromkeys(map(str, range(2500)), (1, 1)),
        dict.fromkeys([count * (2**61 - 1) for count in range(500)]),
    ]
    pickled = pickle.dumps(content, 2)
    Walk(size=len(pickled)).through(pickletools.genops(pickled))


def test_a_storage_is_named_by_a_text() -> None:
    with pytest.raises(PickleError, match="names a storage in another way"):
        walked(STORAGE.replace(b"X\x01\x00\x00\x000", b"K\x00"))
    walked(STORAGE.replace(b"tQ", b"(X\x01\x00\x00\x001K\x00K\x01ttQ"))
    for view in (b"(K\x01K\x00K\x01t", b")", b"K\x01", b"ctorch\nSize\n(K\x01K\x00K\x01t\x85R"):
        with pytest.raises(PickleError, match="names a storage in another way"):
            walked(STORAGE.replace(b"tQ", view + b"tQ"))


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
