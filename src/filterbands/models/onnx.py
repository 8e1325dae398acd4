"""Networks in ONNX files, run by onnxruntime on the CPU.

A file may keep weights in other files beside it. They are read into the bytes of the network, so that they
are in its fingerprint, go to workers, and are found from any working directory.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..types import FloatImages

# The version, then a tag of ONNX's ModelProto: texts, graph, operator sets. TensorFlow's SavedModel begins
# alike, but has a message, which begins with a line feed, where ONNX has the producer's name.
_HEAD = re.compile(rb"\x08[\x00-\x7f](\x12[\x00-\x7f][^\n]|[\x1a\x22\x28\x32\x3a\x42])", re.DOTALL)
# Types of inputs that images in [0, 1] can be converted to, and what NumPy calls them.
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
# Protobuf's limit for one message.
_LIMIT = 2**31 - 1


def is_onnx(path: str | Path) -> bool:
    """Return whether a file begins as an ONNX file does; its name does not matter."""
    file = Path(path)
    try:
        if not file.is_file():
            return False
    except OSError:
        # Too long for a file's name.
        return False
    with file.open("rb") as stream:
        head = stream.read(9)
    # A safetensors file may begin similarly, with a length, but then has a brace.
    return len(head) == 9 and _HEAD.match(head) is not None and head[8:] != b"{"


class OnnxNetwork(nn.Module):
    """The network of an ONNX file as a module that takes NCHW floats and returns the first output.

    Args:
        path: The file; its first input is the images. A file with a fixed batch size gets batches of it.
            Weights that it keeps in other files (`net.onnx.data`) are read from its folder.

    Raises:
        FileNotFoundError: No such file, or a file of its weights is missing.
        ValueError: The package onnxruntime is missing, or cannot read the file; the weights are outside of
            the folder of the file, or more than 2 GiB; it takes no batches of floats or bytes; a gradient is
            asked for, or an answer for no images; it takes bytes, and images are not within [0, 1].
    """

    content: Tensor

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        file = Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"no such file: {path}")
        # A buffer, so that the file's bytes are in the network's fingerprint and go to workers with it.
        self.register_buffer("content", torch.frombuffer(bytearray(_whole(file)), dtype=torch.uint8))
        self.session = _Session(str(path))
        _check_input(file, self.session.open(self.content).get_inputs())

    def forward(self, images: FloatImages) -> Tensor:
        """Return the network's first output, which has no gradient."""
        if images.requires_grad and torch.is_grad_enabled():
            raise ValueError("a network from an ONNX file gives outputs and no gradients; load a checkpoint")
        if not len(images):
            raise ValueError("a network from an ONNX file needs at least one image, got an empty batch")
        session = self.session.open(self.content)
        entry = session.get_inputs()[0]
        # Networks that come from TensorFlow take the channels last, others another precision.
        pixels = images.detach().cpu().numpy()
        if len(entry.shape) == 4 and entry.shape[3] in (1, 3) and entry.shape[1] not in (1, 3):
            pixels = pixels.transpose(0, 2, 3, 1)
        if _TYPES[entry.type] is np.uint8:
            pixels = _as_bytes(pixels, self.session)
        pixels = np.ascontiguousarray(pixels, dtype=_TYPES[entry.type])
        fixed = entry.shape[0] if entry.shape and isinstance(entry.shape[0], int) else len(pixels)
        found = []
        for start in range(0, len(pixels), fixed):
            part = pixels[start : start + fixed]
            filled = np.pad(part, ((0, fixed - len(part)), (0, 0), (0, 0), (0, 0)), mode="edge")
            try:
                found.append(session.run(None, {entry.name: filled})[0][: len(part)])
            except Exception as error:  # onnxruntime's own errors have no common class below this one
                raise RuntimeError(" ".join(str(error).split())) from None
        outputs = np.concatenate(found)
        is_cast = entry.type != "tensor(float)" and np.issubdtype(outputs.dtype, np.floating)
        return torch.from_numpy(outputs.astype(np.float32) if is_cast else outputs).to(images.device)


def _as_bytes(pixels: np.ndarray[Any, np.dtype[Any]], session: "_Session") -> np.ndarray[Any, np.dtype[Any]]:
    """Return images in [0, 1] as levels from 0 to 255, each the nearest."""
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            f"{session.name} takes bytes, and got values from {pixels.min():.3g} to {pixels.max():.3g}; give "
            "images in [0, 1], without mean and std, since it normalizes in its own graph"
        )
    levels: np.ndarray[Any, np.dtype[Any]] = np.rint(255 * pixels)
    return levels


def _check_input(file: Path, inputs: Sequence[Any]) -> None:
    """Refuse networks whose first input cannot be a batch of images."""
    if not inputs:
        raise ValueError(f"{file} has no input; export a network of images")
    if (kind := inputs[0].type) not in _TYPES:
        raise ValueError(
            f"{file} takes {kind.removeprefix('tensor').strip('()')} as {inputs[0].name[:40]!r}; export a "
            "network of images as floats in [0, 1] or as bytes"
        )
    if list(inputs[0].shape)[:1] == [0]:
        raise ValueError(f"{file} takes batches of 0 images; export it with a batch size of any, or of 1")


def _whole(file: Path) -> bytes:
    """Return the bytes of a file, its external weights in them; a file without any keeps its bytes."""
    _check_size(file, file.stat().st_size)
    content = file.read_bytes()
    if b"location" not in content:
        return content
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise ValueError(
            f"{file} may keep weights in other files, which needs the package onnx; install filterbands[onnx]"
        ) from None
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError:
        # onnxruntime says what is wrong with it.
        return content
    external = [
        tensor
        for tensor in _messages(model, onnx.TensorProto)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]
    total = len(content)
    for tensor in external:
        tensor.raw_data = _external(file, {entry.key: entry.value for entry in tensor.external_data}, total)
        total += len(tensor.raw_data)
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
    return bytes(model.SerializeToString(deterministic=True)) if external else content


def _check_size(file: Path, size: int) -> None:
    if size > _LIMIT:
        raise ValueError(
            f"{file} and its weights take more than 2 GiB, the limit of ONNX in memory; export float16, "
            "or name a checkpoint of torch"
        )


def _messages(message: Any, kind: Any) -> Iterator[Any]:
    """Yield all messages of a kind in a message: in initializers, attributes, subgraphs and functions."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if isinstance(value, Iterable) else (value,):
                if isinstance(inner, kind):
                    yield inner
                else:
                    yield from _messages(inner, kind)


def _external(file: Path, entries: dict[str, str], total: int) -> bytes:
    """Return the bytes that the entries name; files are untrusted, so the folder is not left."""
    location = entries.get("location", "")
    data = (file.parent / location).resolve()
    # A cache of a hub keeps links to files that lie in one other folder, the model's own among them.
    if not any(data.is_relative_to(place) for place in (file.parent.resolve(), file.resolve().parent)):
        raise ValueError(f"{file} is refused: it names weights outside of its folder, {location!r}")
    if not data.is_file():
        raise FileNotFoundError(f"{file} keeps weights in {location}, which is missing; copy it there too")
    try:
        start = int(entries.get("offset") or 0)
        length = int(entries.get("length") or data.stat().st_size - start)
    except ValueError as error:
        raise ValueError(f"{file} is damaged: what it says of {location} is no place ({error})") from None
    if not 0 <= start <= start + length <= data.stat().st_size:
        raise ValueError(
            f"{data} is damaged: it ends before the weights that {file.name} has in it; copy it again"
        )
    _check_size(file, total + length)
    with data.open("rb") as stream:
        stream.seek(start)
        return stream.read(length)


class _Session:
    """An opened file; a worker opens it again, and it is no part of the fingerprint of the network."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._opened: Any = None

    def __repr__(self) -> str:
        return "onnxruntime"

    def __reduce__(self) -> tuple[type["_Session"], tuple[str]]:
        return _Session, (self.name,)

    def open(self, content: Tensor) -> Any:
        """Return onnxruntime's session."""
        if self._opened is None:
            try:
                import onnxruntime
            except ImportError:
                raise ValueError(
                    f"{self.name} is an ONNX file, which needs the package onnxruntime; install "
                    "filterbands[onnx]"
                ) from None
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.log_severity_level = 4
            try:
                self._opened = onnxruntime.InferenceSession(
                    content.cpu().numpy().tobytes(), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # as above
                said = " ".join(str(error).split())
                raise ValueError(f"{self.name} is not a whole ONNX file: {said}") from None
        return self._opened
