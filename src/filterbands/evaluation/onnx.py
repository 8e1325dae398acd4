"""Networks in ONNX files, run by onnxruntime on the CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..types import FloatImages

# What may follow the version at the head of a file: tags of ONNX's ModelProto (texts, graph, operator sets).
_NEXT_TAGS = (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)


def is_onnx(path: str | Path) -> bool:
    """Return whether a file begins as an ONNX file does; its name does not matter."""
    file = Path(path)
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        head = stream.read(9)
    # A safetensors file may begin similarly, with a length, but then has a brace.
    return len(head) == 9 and head[0] == 8 and head[1] < 128 and head[2] in _NEXT_TAGS and head[8:] != b"{"


class OnnxNetwork(nn.Module):
    """The network of an ONNX file as a module that takes NCHW floats and returns the first output.

    Args:
        path: The file; its first input is the images. A file with a fixed batch size gets batches of it.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The package onnxruntime is missing, or cannot read the file.
    """

    content: Tensor

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        file = Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"no such file: {path}")
        # A buffer, so that the file's bytes are in the network's fingerprint and go to workers with it.
        self.register_buffer("content", torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8))
        self.session = _Session(str(path))
        self.session.open(self.content)

    def forward(self, images: FloatImages) -> Tensor:
        """Return the network's first output."""
        session = self.session.open(self.content)
        entry = session.get_inputs()[0]
        pixels = np.ascontiguousarray(images.detach().cpu().numpy(), dtype=np.float32)
        fixed = entry.shape[0] if entry.shape and isinstance(entry.shape[0], int) else len(pixels)
        found = []
        for start in range(0, len(pixels), fixed):
            part = pixels[start : start + fixed]
            filled = np.pad(part, ((0, fixed - len(part)), (0, 0), (0, 0), (0, 0)), mode="edge")
            try:
                found.append(session.run(None, {entry.name: filled})[0][: len(part)])
            except Exception as error:  # onnxruntime's own errors have no common class below this one
                raise RuntimeError(" ".join(str(error).split())) from None
        return torch.from_numpy(np.concatenate(found)).to(images.device)


class _Session:
    """An opened file; a worker opens it again, and it is no part of the fingerprint of the network."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._opened: Any = None

    def __repr__(self) -> str:
        return "onnxruntime"

    def __reduce__(self) -> tuple[type["_Session"], tuple[str]]:
        return _Session, (self._name,)

    def open(self, content: Tensor) -> Any:
        """Return onnxruntime's session."""
        if self._opened is None:
            try:
                import onnxruntime
            except ImportError:
                raise ValueError(
                    f"{self._name} is an ONNX file, which needs the package onnxruntime; install "
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
                raise ValueError(f"{self._name} is not a whole ONNX file: {said}") from None
        return self._opened
