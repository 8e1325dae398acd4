"""What differs between platforms, with the calls of POSIX taken away or replaced by what others do."""

import errno
import fcntl
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from filterbands import platforms
from filterbands.cli import main
from filterbands.disk import owned, working_folder, write_text
from filterbands.evaluation import Store
from filterbands.models import load_model, read_weights

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="imitates other systems on Linux")


def in_use(*, mapped: bool) -> set[Path]:
    """Return the regular files that this process has open, or mapped into memory."""
    if mapped:
        lines = Path("/proc/self/maps").read_text().splitlines()
        return {Path(line.split(maxsplit=5)[5]) for line in lines if len(line.split(maxsplit=5)) > 5}
    found = set()
    for handle in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.add(Path(os.readlink(f"/proc/self/fd/{handle}")))
    return found


def refuse_in_use(*places: object) -> None:
    """Raise what Windows raises where a file, or one in a folder, is open or mapped."""
    for place in places:
        path = Path(os.path.realpath(str(place)))
        if any(path in (file, *file.parents) for mapped in (True, False) for file in in_use(mapped=mapped)):
            raise PermissionError(errno.EACCES, "The process cannot access the file", str(place))


def locking(handle: int, mode: int, count: int) -> None:
    """Lock as `msvcrt.locking` does: from where the handle stands, against every other handle."""
    kind = fcntl.F_UNLCK if mode == 0 else fcntl.F_WRLCK
    place = struct.pack("hhqqi4x", kind, os.SEEK_CUR, 0, count, 0)
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, place)
    except OSError:
        raise PermissionError(errno.EACCES, "Permission denied") from None


@pytest.fixture
def as_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the calls of POSIX, and refuse what Windows refuses."""
    monkeypatch.setattr(platforms, "IS_WINDOWS", True)
    monkeypatch.setattr(platforms, "_fcntl", None)
    monkeypatch.setattr(platforms, "_msvcrt", SimpleNamespace(locking=locking, LK_UNLCK=0, LK_NBLCK=2))
    for name in ("O_NOFOLLOW", "O_NONBLOCK"):
        monkeypatch.delattr(os, name)
    for name in ("unlink", "remove", "rmdir", "replace", "rename"):
        real: Callable[..., Any] = getattr(os, name)

        def refuses(*places: Any, real: Callable[..., Any] = real, **more: Any) -> Any:
            refuse_in_use(*places)
            return real(*places, **more)

        monkeypatch.setattr(os, name, refuses)
    monkeypatch.setattr(shutil, "_use_fd_functions", False)
    monkeypatch.setattr(platforms.time, "sleep", lambda _: None)

    def fsync(handle: int, real: Callable[[int], None] = os.fsync) -> None:
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.usefixtures("as_on_windows")
def test_the_imitation_refuses_what_windows_refuses(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(bytes(5000))
    with file.open("rb") as stream:
        with pytest.raises(PermissionError, match="cannot access"):
            file.unlink()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fsync(stream.fileno())
    array = np.memmap(file, mode="r")
    with pytest.raises(PermissionError, match="cannot access"):
        (tmp_path / "b").replace(file)
    del array
    file.unlink()


@pytest.mark.usefixtures("as_on_windows")
def test_files_are_written_whole_where_only_handles_for_writing_can_be_flushed(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "before")
    write_text(tmp_path / "a.txt", "after\n")
    assert (tmp_path / "a.txt").read_bytes() == b"after\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.usefixtures("as_on_windows")
def test_locks_of_windows_are_held_and_leave_nothing(tmp_path: Path) -> None:
    with owned(tmp_path):
        with pytest.raises(ValueError, match="another process is writing into"), owned(tmp_path):
            pass
        assert (tmp_path / ".lock").exists()
    with working_folder(tmp_path) as work:
        (tmp_path / ".unfinished-stale").mkdir()
        write_text(tmp_path / "a.txt", "text")
        assert {path.name for path in tmp_path.iterdir()} == {"a.txt", work.name}
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    key, other = "0123456789ab" + 52 * "0", "ffffffffffff" + 52 * "0"
    with Store(tmp_path / "r.db") as one, Store(tmp_path / "r.db") as two:
        assert one.claim(key)
        assert not two.claim(key)
        assert two.claim(other)
        one.release(key)
        assert two.claim(key)


@pytest.mark.usefixtures("as_on_windows")
@pytest.mark.parametrize("ending", ["safetensors", "pt", "npz"])
def test_weights_that_were_read_do_not_keep_windows_from_replacing_their_file(
    ending: str, tmp_path: Path
) -> None:
    file = tmp_path / f"w.{ending}"
    weights = {"a.weight": torch.ones(8, 3, 32, 32)}
    if ending == "safetensors":
        save_file(weights, file)
    elif ending == "pt":
        torch.save(weights, file)
    else:
        np.savez(file, **{name: tensor.numpy() for name, tensor in weights.items()})
    read = read_weights(file)
    write_text(file, "another")
    assert torch.equal(read["a.weight"], weights["a.weight"])


@pytest.mark.usefixtures("as_on_windows")
def test_the_verbs_that_write_do_so_as_on_windows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    images = tmp_path / "images.npz"
    np.savez(images, images=rng.integers(0, 256, (16, 3, 16, 16), dtype=np.uint8), labels=np.arange(16) % 10)
    data, run, weights = f"npz:{images}", tmp_path / "run", tmp_path / "w.safetensors"
    save_file(dict(load_model(arch="fastnet").state_dict()), weights, metadata={"arch": "fastnet"})
    small = ("--set", "epochs=1", "--set", "batch_size=16", "--set", "precision=float32")
    for words in (
        ("train", "standard", "--data", data, "--out", run, *small),
        ("corrupt", data, "--out", tmp_path / "c", "--kinds", "fog", "--severities", "1", "--workers", "1"),
        ("evaluate", run, "--data", data, "--corrupted", tmp_path / "c", "--db", tmp_path / "r.db"),
        ("shrink", weights, "--data", data, "--out", weights),
        ("results", tmp_path / "r.db", "--export", tmp_path / "t.csv"),
    ):
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        assert code == 0, f"{words[0]}: {said.err}"
    assert not list(tmp_path.rglob(".*"))


def test_a_file_that_is_read_for_a_moment_is_replaced_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = 3

    def replace(self: Path, target: Path) -> None:
        nonlocal left
        left -= 1
        if left:
            raise PermissionError(errno.EACCES, "The process cannot access the file", str(target))
        os.replace(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(platforms.time, "sleep", lambda _: None)
    with pytest.raises(OSError, match="cannot be written: The process cannot access the file"):
        write_text(tmp_path / "a.txt", "text")
    monkeypatch.setattr(platforms, "IS_WINDOWS", True)
    left = 3
    write_text(tmp_path / "a.txt", "text")
    assert (tmp_path / "a.txt").read_text() == "text"


@pytest.mark.parametrize("knows", [True, False])
def test_macos_flushes_the_disks_own_memory_and_less_where_a_file_system_cannot(
    knows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    def control(handle: int, number: int) -> None:
        called.append(number)
        if not knows:
            raise OSError(errno.ENOTSUP, "Operation not supported")

    posix = {name: getattr(fcntl, name) for name in ("flock", "LOCK_EX", "LOCK_NB")}
    monkeypatch.setattr(platforms, "_fcntl", SimpleNamespace(F_FULLFSYNC=51, fcntl=control, **posix))
    monkeypatch.setattr(os, "fsync", lambda _: called.append("plain"))
    write_text(tmp_path / "a.txt", "text")
    assert called == ([51] if knows else [51, "plain"])


def test_without_any_locks_work_goes_on_and_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(platforms, "_fcntl", None)
    with owned(tmp_path):
        write_text(tmp_path / "a.txt", "text")
    assert "cannot be locked (this system has no locks of files)" in caplog.text
    caplog.clear()
    with Store(tmp_path / "r.db") as store:
        assert store.claim("0" * 64)
        assert store.claim("1" * 64)
        store.release("0" * 64)
    assert caplog.text.count("cannot be locked") == 1
    assert not list(tmp_path.glob(".unfinished*"))


def test_a_link_in_place_of_a_lock_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("kept")
    (tmp_path / "r.db.lock").symlink_to(outside)
    with pytest.raises(ValueError, match=r"cannot lock .*r\.db\.lock: it is a link"):
        Store(tmp_path / "r.db")
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(ValueError, match=r"cannot lock .*\.lock: it is a link, .*or a pipe"), owned(tmp_path):
        pass
    stale = tmp_path / ".unfinished-elsewhere"
    stale.symlink_to(tmp_path / "there")
    (tmp_path / "there").mkdir()
    write_text(tmp_path / "a.txt", "text")
    assert stale.is_symlink()
    assert not list((tmp_path / "there").iterdir())


def test_sqlite_opens_paths_of_shares_drives_and_odd_names(tmp_path: Path) -> None:
    for path, expected in (
        (PureWindowsPath(r"\\server\share\a?b#.db"), "file:////server/share/a%3Fb%23.db"),
        (PureWindowsPath(r"C:\my results\r.db"), "file:///C:/my%20results/r.db"),
        (PurePosixPath("/tmp/50%/ä.db"), "file:///tmp/50%25/%C3%A4.db"),
    ):
        assert platforms.database_address(path) == expected
    file = tmp_path / "50%?#ä \udcff.db"
    with Store(file):
        pass
    assert file.exists()


@pytest.mark.slow
def test_text_is_utf8_whatever_the_locale_says(tmp_path: Path) -> None:
    """The interpreter tells of each text whose encoding would be the locale's."""
    save_file({"ä.weight": torch.ones(4, 3, 5, 5)}, tmp_path / "w.safetensors")
    code = """
import sys, warnings
from filterbands.cli import main

warnings.filterwarnings("error", category=EncodingWarning, module="filterbands")
sys.exit(main(sys.argv[1:]))
"""
    words = ("analyze", "w.safetensors", "--html", "r.html")
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-c", code, *words],
        cwd=tmp_path,
        capture_output=True,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ä" in (tmp_path / "r.html").read_text(encoding="utf-8")
