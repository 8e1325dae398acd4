"""Files that are no checkpoints are named for what they are, with what to do."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from filterbands.models import read_weights


def _tar(file: Path) -> None:
    with tarfile.open(file, "w") as archive:
        archive.addfile(tarfile.TarInfo("weights/data"), io.BytesIO())


def _zip(*names: str) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name in names:
                archive.writestr(name, b"x")

    return write


def _traced(file: Path) -> None:
    # What torch.jit.save writes; torch itself warns that it is deprecated.
    torch.save({"a": torch.ones(2)}, file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("net/code/__torch__/net.py", b"class Net(Module):")
        archive.writestr("net/constants.pkl", b"\x80\x02).")


def _exported(file: Path) -> None:
    model = torch.nn.Conv2d(3, 2, 3).eval()
    torch.export.save(torch.export.export(model, (torch.zeros(1, 3, 8, 8),)), file)


# The name of the file, how it is written, and what is said.
FILES: list[tuple[str, Callable[[Path], object] | bytes, str]] = [
    ("net.pt", _traced, r"a TorchScript archive.*torch\.jit\.load\(FILE\)\.state_dict\(\)"),
    ("net.pt2", _exported, r"an archive of torch\.export \(\.pt2\).*torch\.export\.load\(FILE\)\.state_dict"),
    ("net.h5", b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file, as Keras writes it"),
    ("net.keras", _zip("metadata.json", "config.json", "model.weights.h5"), "an archive of Keras"),
    ("saved_model.pb", b"\x08\x01\x12\xb5\x93\x02\n\x07" + bytes(40), "a SavedModel of TensorFlow"),
    ("frozen.pb", b"\n\x1f\n\x05input" + bytes(40), "a file of TensorFlow"),
    ("model.ckpt.index", b"\x00\x00\x01\x02" + bytes(40), "a file of TensorFlow"),
    ("model.ckpt.data-00000-of-00001", bytes(40), "a file of TensorFlow"),
    ("net.tflite", b"\x1c\x00\x00\x00TFL3" + bytes(40), "a TensorFlow Lite file"),
    ("net.caffemodel", b"\n\x08CaffeNet" + bytes(40), "a file of Caffe"),
    ("net.pth.tar", _tar, "a tar archive; unpack it"),
    ("net.pth.gz", gzip.compress(bytes(40)), "a compressed file; unpack it"),
    ("net.zip", _zip("net.pth", "README.md"), "a ZIP archive; unpack it"),
    ("pointer.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "git lfs pull"),
    ("page.pt", b"\xef\xbb\xbf\n<!DOCTYPE html><html><head>", "a web page in place of the file"),
    ("error.pt", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "a web page in place"),
    ("one.npy", b"\x93NUMPY\x01\x00" + bytes(40), "one array of NumPy"),
    ("net.gguf", b"GGUF\x03" + bytes(40), "a GGUF file"),
    ("net.json", b' {"weights": [1, 2]}', "JSON; name the file"),
    (
        "net.onnx",
        b"\x08\x08\x12\x07pytorch\x1a\x052.5.1",
        "an ONNX file, whose outputs evaluate and probe take",
    ),
    ("nothing.pt", b"", "empty; copy or download it again"),
    ("words.txt", b"hello, these are words", "a file that starts with b'hello, t'"),
]


@pytest.mark.parametrize(("name", "content", "message"), FILES, ids=[name for name, *_ in FILES])
def test_a_file_that_is_no_checkpoint_is_named(
    name: str, content: Callable[[Path], object] | bytes, message: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        content(file)
    with pytest.raises(ValueError, match=message) as caught:
        read_weights(file)
    assert "is not a checkpoint" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stem", ["code", "models", "constants", "archive_format", "config.json", "net"])
def test_a_checkpoint_is_no_other_file_because_of_its_name(stem: str, tmp_path: Path) -> None:
    for suffix in (".pt", ".pb", ".h5"):
        torch.save({"weight": torch.ones(2, 3)}, tmp_path / f"{stem}{suffix}")
        assert read_weights(tmp_path / f"{stem}{suffix}")["weight"].shape == (2, 3)
    np.savez(tmp_path / f"{stem}.npz", weight=np.ones(3))
    assert read_weights(tmp_path / f"{stem}.npz")["weight"].shape == (3,)
