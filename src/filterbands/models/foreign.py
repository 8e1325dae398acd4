"""What a file is that is no checkpoint, by its content."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import AnyStr

from .onnx import is_onnx

_UNPACK = "unpack it and name the checkpoint in it"
# The first bytes, and what the file is.
_HEADS = (
    (rb"version https://git-lfs", "a pointer of Git LFS in place of the file; fetch it with git lfs pull"),
    (rb"\W{0,9}<(!doctype|html|\?xml)", "a web page in place of the file; download the file itself"),
    (rb"\x89HDF", "an HDF5 file, as Keras writes it; export the network to ONNX, or its arrays to .npz"),
    (rb".{4}TFL3", "a TensorFlow Lite file; export the network to ONNX"),
    (rb"\x08\x01\x12.{1,5}\n", "a SavedModel of TensorFlow; export the network to ONNX"),
    (rb"\x93NUMPY", "one array of NumPy; save several by name with numpy.savez"),
    (rb"GGUF", "a GGUF file; save the weights as safetensors"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\(\xb5/\xfd|7z\xbc\xaf|Rar!", f"a compressed file; {_UNPACK}"),
    (rb".{257}ustar", f"a tar archive; {_UNPACK} (if torch has written it, that was before version 0.1.10)"),
    (rb"\s*\{", "JSON; name the file of the weights"),
    (rb"\Z", "empty; copy or download it again"),
)
# A file in an archive by its name, and what the archive is.
_MEMBERS = (
    (
        r"code/|constants\.pkl",
        "a TorchScript archive, which holds a program; in Python: "
        "torch.save(torch.jit.load(FILE).state_dict(), NEW)",
    ),
    (
        r"archive_format|serialized_exported_program\.json|models/.*\.json",
        "an archive of torch.export (.pt2), which holds a program; in Python: "
        "torch.save(torch.export.load(FILE).state_dict, NEW)",
    ),
    (r"model\.weights\.h5", "an archive of Keras; export the network to ONNX, or its arrays to .npz"),
)
# Formats without a mark in their content.
_NAMES = (
    (
        r".*\.(pb|pbtxt|ckpt\.(meta|index)|data-\d+-of-\d+)",
        "a file of TensorFlow; export the network to ONNX",
    ),
    (r".*\.(caffemodel|prototxt)", "a file of Caffe; convert it to ONNX"),
)


def what_is(file: Path) -> str | None:
    """Return what a file is that is no checkpoint, and what to do; None where that is not known."""
    if is_onnx(file):
        return "an ONNX file, whose outputs evaluate and probe take; here weights are needed by name"
    with file.open("rb") as stream:
        head = stream.read(512)
    return _first(_HEADS, head) or _first(_NAMES, file.name)


def what_archive_is(members: Sequence[str]) -> str | None:
    """Return what a ZIP archive of these files is, and what to do; None for one that torch.save writes."""
    # All names in an archive of torch begin with the name that the file had.
    found = next(filter(None, (_first(_MEMBERS, name.partition("/")[2] or name) for name in members)), None)
    is_plain = not any(name.endswith("/data.pkl") for name in members)
    return found or (f"a ZIP archive; {_UNPACK}" if is_plain else None)


def _first(table: Sequence[tuple[AnyStr, str]], content: AnyStr) -> str | None:
    return next((told for mark, told in table if re.match(mark, content, re.DOTALL | re.IGNORECASE)), None)
