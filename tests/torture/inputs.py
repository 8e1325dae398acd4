"""Malformed inputs: whole files, then changed at random or written with one thing wrong that a file can say.

`KINDS` has a function per kind of input. It writes one file of that kind into an empty folder and returns the
command lines that read it.
"""

import json
import os
import pickle
import random
import shutil
import sqlite3
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .stock import Stock, Words, other_figures

Kind = Callable[[random.Random, Stock, Path], list[Words]]
CANARY = "FILTERBANDS_CANARY"
"""Name of the file that code in a pickle would make."""


def changed(rng: random.Random, content: bytes) -> bytes:
    """Return bytes that are cut, flipped, overwritten, repeated or extended somewhere."""
    data = bytearray(content)
    # Headers are where most meaning is.
    span = min(len(data), rng.choice((64, 512, 4096, len(data)))) or 1
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        where = rng.randrange(span) if rng.random() < 0.8 else -rng.randrange(1, span + 1)
        where %= max(len(data), 1)
        size = rng.choice((1, 2, 4, 8, 64))
        way = rng.randrange(7)
        if way == 0:
            del data[where:]
        elif way == 1 and data:
            data[where] ^= 1 << rng.randrange(8)
        elif way == 2:
            data[where : where + size] = rng.choice((b"\0", b"\xff", b"\x7f")) * size
        elif way == 3:
            data[where : where + size] = rng.randbytes(size)
        elif way == 4:
            data[where:where] = data[where : where + size] * rng.randrange(1, 4)
        elif way == 5:
            del data[where : where + size]
        else:
            digits = [place for place in range(min(len(data), 4096)) if 48 <= data[place] <= 57]
            if digits:
                place = rng.choice(digits)
                data[place : place + 1] = rng.choice((b"-1", b"9" * 18, b"0", b"1e9", b'"a"', b"null"))
    return bytes(data)


def written(path: Path, content: bytes) -> str:
    """Write bytes and return the path as a word."""
    path.write_bytes(content)
    return str(path)


def readers(rng: random.Random, stock: Stock, file: str) -> list[Words]:
    """Return one or two command lines that read weights."""
    out = str(Path(file).parent / "out.safetensors")
    lines = [
        ["analyze", file],
        ["analyze", file, "--arch", "fastnet"],
        ["bake", file, "--arch", "fastnet", "--out", out],
        ["evaluate", file, "--arch", "fastnet", "--data", f"npz:{stock.images}", "--kinds", "none"],
    ]
    return [lines[0], rng.choice(lines[1:])] if rng.random() < 0.3 else [lines[0]]


def of_safetensors(rng: random.Random, stock: Stock, place: Path) -> list[Words]:
    """Weights as safetensors."""
    file = place / "w.safetensors"
    if rng.random() < 0.5:
        return readers(rng, stock, written(file, changed(rng, stock.safetensors.read_bytes())))
    shape = rng.choice(
        ([], [0], [2, 3, 3, 3], [1 << 40], [-1], ["a"], None, [1, 1, 1, 400], [1, 1, 128, 128])
    )
    size = 4 * int(np.prod([n for n in shape or [] if isinstance(n, int)])) if shape else 4
    header: Any = {
        rng.choice(("conv.weight", "", "a" * 10_000, "\ud83d\ude00" * 20, "\u202e\x1b[31m")): {
            "dtype": rng.choice(("F32", "F32", "I64", "BF16", "BOOL", "F8_E4M3", "X", 3)),
            "shape": shape,
            "data_offsets": [rng.choice((0, -1, 5)), rng.choice((size, 1 << 60, 0))],
        },
        "__metadata__": rng.choice(
            (
                {},
                None,
                3,
                [],
                {"arch": 3},
                {"arch": "module:function"},
                {"arch": "fastnet", "mean": "[1e999]"},
                {"arch": "fastnet", "mean": "nonsense", "std": "[0,0,0]"},
                {"arch": "fastnet", "mean": "[" * 10_000},
                {"arch": "timm:nothing"},
                {"arch": "\x1b[2J"},
            )
        ),
    }
    text = json.dumps(header).encode()
    length = rng.choice((len(text), len(text), len(text), 0, 1 << 62, len(text) - 1))
    content = struct.pack("<Q", length) + text + bytes(min(max(size, 0), 1 << 16))
    return readers(rng, stock, written(file, content))


def of_npz(rng: random.Random, stock: Stock, place: Path) -> list[Words]:
    """Weights as npz."""
    file = place / "w.npz"
    if rng.random() < 0.5:
        return readers(rng, stock, written(file, changed(rng, stock.npz.read_bytes())))
    way = rng.choice(list(zipfile_ways))
    zipfile_ways[way](rng, file)
    return readers(rng, stock, str(file))


def _claim(shape: object, dtype: str = "<f4", *, version: int = 1) -> bytes:
    """Return an array of NumPy that claims a shape and has 64 bytes."""
    head = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (63 - (len(head) + 10) % 64) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(head)) + head + bytes(64)


def _archive(file: Path, members: Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)


def _bad_sum(rng: random.Random, file: Path) -> None:
    _archive(
        file, [("conv.weight.npy", _claim((16,)))], rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    )
    data = bytearray(file.read_bytes())
    data[60 + rng.randrange(30)] ^= 255
    file.write_bytes(data)


def _odd_method(rng: random.Random, file: Path) -> None:
    _archive(file, [("conv.weight.npy", _claim((16,)))], zipfile.ZIP_DEFLATED)
    data = file.read_bytes()
    number = struct.pack("<H", rng.choice((6, 9, 93, 97, 99)))
    data = data.replace(struct.pack("<H", 8), number)
    file.write_bytes(data)


SHAPES = (
    *("(1 << 40,)", "(1000000000000,)", "(-1,)", "(2, -3)", "()", "(0,)", "('a',)", "3", "(1, 1, 1, 400)"),
    *("(1, 1, 128, 128)", "(1000000, 1000000, 3, 3)", "(9" + "9" * 40 + ",)"),
)
zipfile_ways: dict[str, Callable[[random.Random, Path], None]] = {
    "claim": lambda rng, file: _archive(
        file,
        [("conv.weight.npy", _claim(rng.choice(SHAPES)))],
        rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)),
    ),
    "type": lambda rng, file: _archive(
        file,
        [
            (
                "a.npy",
                _claim((2,), rng.choice(("|O", "<c16", "<U4", "<M8[s]", "<f3", "|V8", ">f4", "<f2", "|b1"))),
            )
        ],
    ),
    "version": lambda rng, file: _archive(file, [("a.npy", _claim((2,), version=rng.choice((0, 2, 3, 9))))]),
    "sum": _bad_sum,
    "method": _odd_method,
    "empty": lambda rng, file: _archive(file, []),
    "twice": lambda rng, file: _archive(file, [("a.npy", _claim((2,)))] * 2),
    "bomb": lambda rng, file: _archive(
        file, [("a.npy", _claim((1 << 20,)) + bytes(64 << 20))], zipfile.ZIP_DEFLATED
    ),
    "names": lambda rng, file: _archive(
        file,
        [(rng.choice(("../a.npy", "/a.npy", "\x1b[31m.npy", "a" * 9000 + ".npy", ".npy")), _claim((16,)))],
    ),
}


class Code:
    """What runs code when it is unpickled."""

    def __init__(self, module: str, name: str, arguments: tuple[object, ...]) -> None:
        self.parts = module, name, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        module, name, arguments = self.parts
        return getattr(__import__(module), name), arguments


def bomb(rng: random.Random, file: Path) -> str:
    """Write a small archive of torch whose pickle claims much, and return it as a word."""
    start = rng.choice((b")", b"]", b"}", b"X\x01\x00\x00\x00a"))
    twice = start + b"".join(b"q%ch%c" % (place, place) + b"\x86" for place in range(40, 100))
    value = rng.choice(
        (
            *(twice, start + b"\x85" * rng.choice((10, 1000, 1_000_000)), b"]" * 100_000 + b"a" * 99_999),
            b"]r" + struct.pack("<I", rng.choice((1 << 10, 1 << 29, (1 << 32) - 1))),
            b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R",
            b"ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R",
            b"cbuiltins\nset\n](" + twice + b"e\x85R",
            twice + b")R",
        )
    )
    key = rng.choice((b"X\x01\x00\x00\x00a", b"K\x01", twice))
    pickled = b"\x80\x02}" + key + value + b"s."
    writer = torch._C.PyTorchFileWriter(str(file))
    writer.write_record("data.pkl", pickled, len(pickled))
    writer.write_end_of_file()
    return str(file)


def of_pickles(rng: random.Random, stock: Stock, place: Path) -> list[Words]:
    """Weights as pickles, with code and odd tensors."""
    file = place / "w.pt"
    if rng.random() < 0.2:
        return readers(rng, stock, bomb(rng, file))
    if rng.random() < 0.5:
        source = rng.choice((stock.pickle, stock.legacy))
        return readers(rng, stock, written(file, changed(rng, source.read_bytes())))
    plain = torch.ones(4, 3, 3, 3)
    odd: tuple[Any, ...] = (
        plain.to_sparse(),
        torch.ones(1).expand(10_000, 10_000, 3, 3),
        torch.empty(4, 3, 3, 3, device="meta"),
        plain * float("nan"),
        plain * 0,
        plain.to(torch.complex64),
        plain.to(torch.float16),
        torch.quantize_per_tensor(plain, 0.1, 0, torch.qint8),
        torch.zeros(0, 3, 3, 3),
        torch.ones(1, 1, 1, 400),
        torch.ones(1, 1, 128, 128),
        torch.ones(1, 1, 3, 3, 3, 3),
        3,
        "text",
        None,
        [plain],
        {"a": {"b": {"c": plain}}},
        Code("os", "system", (f"touch {CANARY}",)),
        Code("builtins", "exec", (f"open({CANARY!r}, 'w')",)),
        Code("builtins", "eval", (f"open({CANARY!r}, 'w')",)),
        Code("subprocess", "call", (["touch", CANARY],)),
        Code("builtins", "open", (CANARY, "w")),
    )
    value = rng.choice(odd)
    content: Any = rng.choice(({"conv.weight": value}, {"conv.weight": plain, "more": value}, value))
    with file.open("wb") as stream:
        if rng.random() < 0.8:
            torch.save(content, stream, _use_new_zipfile_serialization=rng.random() < 0.6)
        else:
            try:
                pickle.dump(content, stream, protocol=rng.choice((0, 2, 4)))
            except (RuntimeError, NotImplementedError):
                stream.write(b"\x80\x02.")
    return readers(rng, stock, str(file))


def of_arrays(rng: random.Random, stock: Stock, place: Path) -> list[Words]:
    """Images and labels as npz."""
    file = place / "d.npz"
    way = rng.randrange(3)
    if way == 0:
        file.write_bytes(changed(rng, stock.images.read_bytes()))
    elif way == 1:
        images = rng.choice(("(4, 8, 8, 3)", *SHAPES))
        _archive(
            file,
            [
                ("images.npy", _claim(images, rng.choice(("|u1", "<f4")))),
                ("labels.npy", _claim("(4,)", "<i4")),
            ],
            rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)),
        )
    else:
        count = 4
        shape = rng.choice(((count, 3, 8, 8), (count, 3, 1, 1), (count, 3, 1, 600), (0, 3, 8, 8), (count, 9)))
        labels: Any = rng.choice(
            (
                [900_000_000, 0, 1, 2],
                [-1, 0, 1, 2],
                [0.5, 1, 2, 3],
                [2**62, 1, 2, 3],
                [[0], [1], [2], [3]],
                [True, False, True, False],
                ["a", "b", "c", "d"],
                [0, 1, 2],
                [2**64 - 1, 0, 0, 0],
            )
        )
        extra = rng.choice(({}, {"classes": np.array(["a"])}, {"classes": np.array(["\x1b[31m"] * 10)}))
        np.savez(file, images=np.zeros(shape, np.uint8), labels=np.array(labels), **extra)
    data = f"npz:{file}"
    return [
        rng.choice(
            (
                ["evaluate", str(stock.run), "--data", data, "--kinds", "none", "--db", str(place / "r.db")],
                ["corrupt", data, "--out", str(place / "c"), "--kinds", "contrast", "--workers", "1"],
                ["train", "standard", "--data", data, "--out", str(place / "t"), "--set", "epochs=1"],
                ["analyze", str(stock.run), "--data", data],
            )
        )
    ]


# In place of a table that is gone or renamed.
ENDLESS = "CREATE VIEW names AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"


def of_databases(rng: random.Random, stock: Stock, place: Path) -> list[Words]:
    """Databases of results."""
    file = place / "results.db"
    if rng.random() < 0.4:
        file.write_bytes(changed(rng, stock.db.read_bytes()))
    else:
        shutil.copy(stock.db, file)
        with sqlite3.connect(file) as connection:
            tables = [
                name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
            ]
            table = rng.choice(tables)
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")] or ["rowid"]
            value: Any = rng.choice((None, -1, 2**62, "text", b"\0", b"", 1e308, "\x1b[31m" * 9, "=1+1"))
            statements = (
                (f"UPDATE OR IGNORE {table} SET {rng.choice(columns)} = ?", (value,)),
                (f"DELETE FROM {table}", ()),
                (f"DROP TABLE {table}", ()),
                (f"ALTER TABLE {table} RENAME TO gone", ()),
                (f"PRAGMA user_version = {rng.choice((0, 1, 99, -1))}", ()),
                ("CREATE VIEW other AS SELECT * FROM other_that_is_not_there", ()),
                (f"CREATE TRIGGER t AFTER INSERT ON {table} BEGIN DELETE FROM cells; END", ()),
                (f"ALTER TABLE {table} ADD COLUMN big AS (zeroblob(1000000000))", ()),
                (f"{ENDLESS} SELECT i AS key, i AS model, i AS name FROM n", ()),
                ("UPDATE cells SET data = 'x' WHERE kind = 'contrast'", ()),
                ("UPDATE probes SET content = CAST(replace(CAST(content AS TEXT), '1', '2') AS BLOB)", ()),
            )
            chosen = rng.sample(statements, rng.randrange(1, 3))
            if any(statement.startswith(ENDLESS) for statement, _ in chosen):
                chosen.insert(0, ("DROP TABLE names", ()))
            for statement, values in chosen:
                try:
                    connection.execute("PRAGMA foreign_keys = OFF")
                    connection.execute(statement, values)
                except sqlite3.Error:
                    continue
        connection.close()
    return [
        rng.choice(
            (
                ["results", str(file), "--json"],
                ["results", str(file), "--export", str(place / "t.json")],
                ["report", str(file), "--out", str(place / "r.html")],
                ["results", str(file), "--delete", "run"],
                [
                    *("evaluate", str(stock.run), "--data", f"npz:{stock.images}", "--db", str(file)),
                    *("--kinds", "contrast", "--severities", "1", "--json"),
                ],
                [
                    *("probe", str(stock.run), "--data", f"npz:{stock.images}", "--db", str(file)),
                    *("--limit", "8", "--only", "passes"),
                ],
            )
        )
    ]


def of_cifar(rng: random.Random, stock: Stock, place: Path) -> list[Words]:
    """CIFAR batches, in sparse files."""
    folder = place / "c"
    folder.mkdir()
    if rng.random() < 0.5:
        names, size = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"], 30_730_000
        (folder / "batches.meta.txt").write_bytes(
            rng.choice(
                (b"\n".join(b"c%d" % n for n in range(10)), b"", b"\xff\xfe", b"a\n" * 99, b"\x1b[1m\n" * 10)
            )
        )
        for name in names:
            with (folder / name).open("wb") as stream:
                stream.write(rng.randbytes(4))
                stream.truncate(size + rng.choice((0, 0, 0, -1, 1, -size)))
    else:
        data = {b"data": np.zeros((3, 3072), np.uint8), b"labels": [0, 1, 2]}
        if rng.random() < 0.3:
            data[b"labels"] = Code("os", "system", (f"touch {CANARY}",))  # type: ignore[assignment]
        content = pickle.dumps(data, protocol=rng.choice((0, 2, 4)))
        for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
            (folder / name).write_bytes(
                changed(rng, content) + bytes(30_730_000 if name == "test_batch" else 0)
            )
        meta = pickle.dumps({b"label_names": [b"c%d" % n for n in range(10)]}, protocol=2)
        twice = b")" + b"".join(b"q%ch%c" % (place, place) + b"\x86" for place in range(40, 100))
        bombs = (b"\x80\x02]r\xff\xff\xff\x1f.", b"\x80\x02}X\x0b\x00\x00\x00label_names" + twice + b"s.")
        way = rng.randrange(4)
        (folder / "batches.meta").write_bytes((meta, changed(rng, meta), *bombs)[way])
    return [["evaluate", str(stock.run), "--data", f"cifar10:{folder}", "--kinds", "none", "--limit", "8"]]


def of_folders(rng: random.Random, stock: Stock, place: Path) -> list[Words]:
    """Folders of images."""
    folder = place / "f"
    shutil.copytree(stock.pictures, folder)
    files = sorted(folder.glob("*/*"))
    file, way = rng.choice(files), rng.randrange(9)
    if way < 4:
        file.write_bytes(changed(rng, file.read_bytes()))
    elif way == 4:
        file.unlink()
        os.mkfifo(file)
    elif way == 5:
        file.unlink()
        file.symlink_to(rng.choice((file, folder, place / "nothing")))
    elif way == 6:
        file.unlink()
        if rng.random() < 0.5:
            Image.new("RGB", (1, 60_000)).save(file.with_suffix(".png"))
            way = -1
        else:
            Image.fromarray(np.zeros((16, 16), np.uint16)).save(file.with_suffix(".png"))
    elif way == 7:
        file.rename(
            file.with_name(rng.choice(("\x1b[31m.png", "\udcff.png", "a" * 200 + ".png", "\u202e.png")))
        )
    else:
        odd = folder / rng.choice(("=1+1", "\U0001f600" * 20, "\x1b[2J", "\udcfe", ".hidden", "a\nb"))
        odd.mkdir()
        shutil.copy(files[0], odd / "x.png")
    size = rng.choice(([], ["--size", "16"], ["--resize", "16", "--crop", "16"]))
    if way < 0:
        size = rng.choice(([], ["--size", "16"], ["--size", "4096"]))
    data = ["--data", f"folder:{folder}", *size]
    return [
        rng.choice(
            (
                ["evaluate", str(stock.run), *data, "--kinds", "none", "--db", str(place / "r.db")],
                [
                    *("corrupt", f"folder:{folder}", "--out", str(place / "c"), "--kinds", "contrast"),
                    *("--severities", "1", "--workers", "1", *size),
                ],
                ["analyze", str(stock.run), *data],
            )
        )
    ]


def of_onnx(rng: random.Random, stock: Stock, place: Path) -> list[Words]:
    """ONNX files; nothing where the package is missing."""
    onnx = __import__("onnx")
    whole = stock.folder / "w.onnx"
    if not whole.exists():
        helper = onnx.helper
        node = [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
        ]
        inputs = [helper.make_tensor_value_info("x", 1, ["n", 3, 16, 16])]
        outputs = [helper.make_tensor_value_info("m", 1, ["n", 3])]
        model = helper.make_model(
            helper.make_graph(node, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 13)]
        )
        model.ir_version = 8
        whole.write_bytes(model.SerializeToString())
    file = written(place / "w.onnx", changed(rng, whole.read_bytes()))
    return [
        ["evaluate", file, "--data", f"npz:{stock.images}", "--kinds", "none", "--db", str(place / "r.db")],
    ]


def of_runs(rng: random.Random, stock: Stock, place: Path) -> list[Words]:
    """Folders of Runs."""
    run = place / "run"
    shutil.copytree(stock.run, run)
    file = rng.choice(("run.json", "run.json", "log.jsonl", "weights.safetensors"))
    way = rng.randrange(6)
    if way < 3:
        (run / file).write_bytes(changed(rng, (run / file).read_bytes()))
    elif way == 3:
        (run / file).unlink()
    elif way == 4:
        facts = json.loads((run / "run.json").read_text())
        where = rng.choice((facts, facts["config"], facts["data"]))
        where[rng.choice(sorted(where))] = rng.choice((None, -1, "x", [], {}, 1e400, True, "\x1b[31m"))
        (run / "run.json").write_text(json.dumps(facts))
    else:
        records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        record = rng.choice(records)
        where = rng.choice((record, record["first_layer"]))
        where[rng.choice(sorted(where))] = rng.choice((None, -1, "x", [], {}, 1e400, float("nan")))
        (run / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in records))
    small = ["--set", "epochs=2", "--set", "batch_size=32", "--set", "precision=float32"]
    data = f"npz:{stock.images}"
    return [
        rng.choice(
            (
                ["train", "standard", "--data", data, "--out", str(run), "--resume", *small],
                ["report", str(run), "--out", str(place / "r.html")],
                ["analyze", str(run)],
                ["evaluate", str(run), "--data", data, "--kinds", "none", "--db", str(place / "r.db")],
                ["evaluate", str(run), "--kinds", "none", "--db", str(place / "r.db"), "--split", "train"],
                ["bake", str(run), "--out", str(place / "w.safetensors")],
            )
        )
    ]


def of_copies(rng: random.Random, stock: Stock, place: Path) -> list[Words]:
    """Corrupted copies."""
    copy = place / "copy"
    shutil.copytree(stock.copy, copy)
    file = rng.choice(("corrupt.json", "labels.npy", "contrast.npy"))
    if rng.random() < 0.8:
        (copy / file).write_bytes(changed(rng, (copy / file).read_bytes()))
    else:
        (copy / file).write_bytes(_claim(rng.choice(SHAPES), "|u1"))
    data = f"npz:{stock.images}"
    evaluate = ["evaluate", str(stock.run), "--data", data, "--corrupted", str(copy), "--kinds", "contrast"]
    return [
        rng.choice(
            (
                [*evaluate, "--db", str(place / "r.db")],
                ["corrupt", data, "--out", str(copy), "--kinds", "contrast", "--workers", "1"],
            )
        )
    ]


VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**63, 1e400, 0.5, "", "x", "\x1b[31m", "../../x", [], {}, [[]], "a" * 500),
    *([None, "none"], list(range(3)), {"a": 1}, "\U0001f600" * 20, [2**70]),
)


def of_studies(rng: random.Random, stock: Stock, place: Path) -> list[Words]:
    """Files of studies."""
    # Of data that are not there, so that what is read without a complaint costs nothing.
    study: dict[str, Any] = {
        "name": "tiny",
        "data": "npz:nothing.npz",
        "recipes": ["standard", {"name": "b", "recipe": "standard", "set": {"epochs": 2}}],
        "set": {"epochs": 1},
        "grid": {"share.low": [None, 1.0]},
        "seeds": [0, 1],
        "evaluate": {"kinds": ["contrast"], "spread": True, "limit": 8},
    }
    file = place / "s.json"
    if rng.random() < 0.4:
        file.write_bytes(changed(rng, json.dumps(study).encode()))
    else:
        for _ in range(rng.randrange(1, 4)):
            where: Any = rng.choice((study, study["recipes"], *map(study.get, ("set", "grid", "evaluate"))))
            value = rng.choice(VALUES)
            if isinstance(where, dict) and where:
                where[rng.choice([*where, "more"])] = value
            elif isinstance(where, list) and where:
                where[rng.randrange(len(where))] = value
            if not all(isinstance(study.get(key), dict) for key in ("set", "grid", "evaluate")):
                break
        file.write_text(json.dumps(study))
    return [["study", str(file), *rng.choice(([], ["--plan"])), "--out", str(place / "o")]]


FIELDS = (
    *(
        "epochs",
        "batch_size",
        "seed",
        "share.low",
        "share",
        "share.x",
        "modulate.on",
        "modulate.bands",
        "arch",
    ),
    *("learning_rate", "optimizer", "schedule", "peak", "momentum", "clip", "ema", "crop", "size", "init"),
    *("spectral.strength", "spectral.gain", "white_noise", "blur", "method", "recipe", "keep_every", "split"),
    *("accumulate", "precision", "compile", "data", "", "=", "."),
)
TEXTS = (
    *("0", "-1", "1e400", "nan", "inf", "-inf", "9" * 30, "0x10", "1_000", "", "none", "true", "yes", "x"),
    *(
        "\x1b[31m",
        "\u0663",
        "1.5",
        "../x",
        "a" * 2000,
        "module:function",
        "timm:nothing",
        "=",
        "1,2",
        "\ud800",
    ),
)


def of_settings(rng: random.Random, stock: Stock, place: Path) -> list[Words]:
    """Settings and flags."""
    if rng.random() < 0.6:
        words = ["train", "standard", "--data", "npz:nothing.npz", "--out", str(place / "o")]
        for _ in range(rng.randrange(1, 4)):
            words += ["--set", f"{rng.choice(FIELDS)}={rng.choice(TEXTS)}"]
        return [words]
    data = f"npz:{stock.images}"
    flags = {
        "evaluate": (
            "--seed",
            "--limit",
            "--severities",
            "--kinds",
            "--mean",
            "--std",
            "--batch-size",
            "--split",
        ),
        "analyze": ("--cutoff", "--require", "--layer", "--arch", "--key", "--prefix", "--limit"),
        "corrupt": ("--seed", "--limit", "--severities", "--kinds", "--parameters", "--size", "--background"),
        "train": ("--seed", "--size", "--threads", "--split", "--device"),
    }
    verb = rng.choice(list(flags))
    base = {
        "evaluate": ["evaluate", str(stock.run), "--data", data, "--db", str(place / "r.db")],
        "analyze": ["analyze", str(stock.run)],
        "corrupt": ["corrupt", data, "--out", str(place / "c"), "--workers", "1"],
        "train": ["train", "standard", "--data", "npz:nothing.npz", "--out", str(place / "o")],
    }[verb]
    extra = ["--kinds", "contrast"] if verb in ("evaluate", "corrupt") else []
    return [[*base, *extra, rng.choice(flags[verb]), rng.choice((*TEXTS, "9" * 19, "-9223372036854775809"))]]


KINDS: dict[str, Kind] = {
    "safetensors": of_safetensors,
    "npz": of_npz,
    "pickles": of_pickles,
    "arrays": of_arrays,
    "databases": of_databases,
    "CIFAR": of_cifar,
    "image folders": of_folders,
    "ONNX": of_onnx,
    "Runs": of_runs,
    "corrupted copies": of_copies,
    "study files": of_studies,
    "settings": of_settings,
}
"""Every kind of malformed input."""

CHECKS: dict[str, Callable[[Stock, Words, str, Callable[[Words], str]], str]] = {"databases": other_figures}
"""What else must hold, by kind, of a command line that succeeds; see `other_figures`."""
