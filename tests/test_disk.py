"""Files are written whole or not at all; tables have the same rows in all formats."""

import csv
import errno
import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from filterbands.disk import (
    check_input,
    check_output,
    check_table,
    make_folder,
    owned,
    put_in_place,
    read_json,
    write_table,
    write_text,
    write_weights,
    write_whole,
)

ROWS = [{"name": 'é, "quoted"', "value": 0.25}, {"name": "b", "value": None, "more": 3}]


def test_text_replaces_a_file_in_one_step_with_the_usual_permissions(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("before")
    reader = file.open()
    write_text(file, "after é\n")
    assert file.read_bytes() == "after é\n".encode()
    # The old content stays whole for whoever has opened it.
    assert reader.read() == "before"
    reader.close()
    mask = os.umask(0)
    os.umask(mask)
    assert file.stat().st_mode & 0o777 == 0o666 & ~mask
    assert list(tmp_path.iterdir()) == [file]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("before")

    def interrupt(self: Path, text: str, **_: object) -> None:
        with self.open("w") as stream:
            stream.write(text[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(file, "after")
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_files_and_folders_are_put_in_their_place(tmp_path: Path) -> None:
    (tmp_path / "work" / "1").mkdir(parents=True)
    (tmp_path / "work" / "1" / "a.png").write_bytes(b"picture")
    (tmp_path / "work" / "b.npy").write_bytes(b"array")
    put_in_place(tmp_path / "work" / "1", tmp_path / "1")
    put_in_place(tmp_path / "work" / "b.npy", tmp_path / "b.npy")
    assert (tmp_path / "1" / "a.png").read_bytes() == b"picture"
    assert (tmp_path / "b.npy").read_bytes() == b"array"
    assert not list((tmp_path / "work").iterdir())


def test_a_table_has_the_columns_of_all_rows_in_csv_and_json(tmp_path: Path) -> None:
    write_table(ROWS, tmp_path / "t.csv")
    write_table(ROWS, tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text()) == ROWS
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    assert found == [
        {"name": ROWS[0]["name"], "value": "0.25", "more": ""},
        {"name": "b", "value": "", "more": "3"},
    ]


def test_a_table_of_another_suffix_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.csv, \.json, \.parquet, got t\.xlsx"):
        check_table(tmp_path / "t.xlsx")
    assert check_table(str(tmp_path / "t.CSV")) == tmp_path / "t.CSV"


def test_what_parquet_does_not_take_is_told_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for odd in ([1, "a"], ["a\udcff"], [2**70], [1.5, b"x"]):
        rows = [{"value": one} for one in odd]
        with pytest.raises(ValueError, match=r"^Parquet does not take these .*; write \.csv or \.json$"):
            write_table(rows, tmp_path / "t.parquet")
    assert not list(tmp_path.iterdir())


def special(folder: Path) -> dict[str, Path]:
    """Return private paths that are no regular files, by what they are; the device needs root."""
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "nothing").symlink_to(folder / "absent")
    (folder / "indirect").symlink_to(folder / "pipe")
    found = {name: folder / name for name in ("pipe", "folder", "nothing", "indirect")}
    try:
        os.mknod(folder / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        found["device"] = folder / "device"
    except OSError:
        pass
    return found


def test_nothing_but_a_regular_file_is_ever_replaced(tmp_path: Path) -> None:
    for name, path in special(tmp_path).items():
        before = path.lstat()
        for write in (check_output, lambda file: write_text(file, "text")):
            with pytest.raises(ValueError, match=f"cannot write .*{name}: it is a .*; name a file"):
                write(path)
        assert os.path.samestat(before, path.lstat())
    assert not (tmp_path / "absent").exists()
    assert not list(tmp_path.glob(".*"))


def test_no_file_replaces_a_database(tmp_path: Path) -> None:
    """What is read from a database must not be written over it: its name may end in anything."""
    for name in ("r.db", "r.csv", "link.html"):
        file = tmp_path / name
        if name.startswith("link"):
            file.symlink_to(tmp_path / "r.db")
        else:
            with closing(sqlite3.connect(file)) as connection:
                connection.execute("CREATE TABLE t (a)")
        before = file.read_bytes()
        writers: list[Callable[[Path], object]] = [
            lambda file: write_text(file, "text"),
            lambda file: check_output(file, replaced=True),
        ]
        for write in writers:
            with pytest.raises(ValueError, match=rf"{name}: it is a database, which would be lost; name"):
                write(file)
        assert check_output(file) == file
        assert file.read_bytes() == before
    with pytest.raises(ValueError, match="it is a database"):
        write_table(ROWS, tmp_path / "r.csv")
    # A folder may hold a database beside what is written into it.
    assert make_folder(tmp_path) == tmp_path


def test_a_link_stays_and_the_file_that_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.txt").write_text("before")
    (tmp_path / "link").symlink_to(tmp_path / "there" / "a.txt")
    write_text(check_output(tmp_path / "link"), "after")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "a.txt").read_text() == "after"


def test_an_output_folder_holds_nothing_that_leads_out_of_it(tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.write_text("kept")
    make_folder(out)
    (out / "within").symlink_to(out / "file")
    (out / "file").touch()
    assert make_folder(out) == out
    (out / "log.jsonl").symlink_to(outside)
    with pytest.raises(ValueError, match=r"log\.jsonl in it is a link to .*outside; remove the link"):
        make_folder(out)
    (out / "log.jsonl").unlink()
    os.mkfifo(out / "run.json")
    with pytest.raises(ValueError, match=r"run\.json: it is a pipe"):
        make_folder(out)


def test_a_file_that_is_read_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        check_input(tmp_path / "none")
    for name, path in special(tmp_path).items():
        with pytest.raises((ValueError, FileNotFoundError), match=name):
            check_input(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[" + b" " * 100 + b"]", "102 bytes, more than the limit of 99 bytes"),
    ],
)
def test_odd_json_gets_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    largest = 99 if len(content) == 102 else 1 << 20
    with pytest.raises(ValueError, match=said):
        read_json(tmp_path / "a.json", largest=largest)


def fail(error: Exception) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        file.write_bytes(b"part")
        raise error

    return write


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told_with_the_file_and_the_old_one_is_whole(error: Exception, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("before")
    with pytest.raises(OSError, match="cannot be written: No space left on device; free some") as told:
        write_whole(file, fail(error))
    assert told.value.filename == str(file)
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_errors_of_the_content_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a lambda"):
        write_whole(tmp_path / "a.txt", fail(RuntimeError("cannot pickle a lambda")))


def test_a_folder_is_not_named_like_what_is_removed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.unfinished-x has the name of an unfinished result"):
        make_folder(tmp_path / ".unfinished-x")
    assert not list(tmp_path.iterdir())


_KILLED = """
import os, sys, time
from pathlib import Path
from filterbands.disk import owned, write_whole

def write(file):
    file.write_bytes(b"part")
    print("begun", flush=True)
    time.sleep(60)

with owned(Path(sys.argv[1])):
    write_whole(Path(sys.argv[1]) / "weights.safetensors", write)
"""


def test_weights_under_two_names_are_written_under_both(tmp_path: Path) -> None:
    conv = torch.nn.Conv2d(3, 4, 3)
    network = torch.nn.ModuleDict({"stem": conv, "body": torch.nn.Sequential(conv, torch.nn.ReLU())})
    whole = torch.arange(6.0)
    given = {
        **network.state_dict(),
        "whole": whole,
        "part": whole[2:],
        "bare": torch.zeros(0),
        "none": torch.zeros(0),
    }
    write_weights(tmp_path / "net.safetensors", given, {})
    found = load_file(tmp_path / "net.safetensors")
    assert list(found) == sorted(given)
    assert all(torch.equal(found[name], value) for name, value in given.items())


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks of POSIX")
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_holds_stays(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", _KILLED, tmp_path], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "begun\n"
        write_weights(tmp_path / "other.safetensors", {"a": torch.zeros(2)}, {})
        assert len(list(tmp_path.glob(".unfinished-*"))) == 1
        with pytest.raises(ValueError, match="another process is writing into"), owned(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    with owned(tmp_path):
        write_text(tmp_path / "a.txt", "text")
    assert {file.name for file in tmp_path.iterdir()} == {"other.safetensors", "a.txt"}
