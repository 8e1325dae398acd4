"""What running a network on one cell gives: images are made or read one piece ahead of the network."""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..corruptions import corrupt
from ..engine import Compiled, settle_kernels
from ..scores import calibration_error
from ..types import FloatImages, Images, Labels
from .arrays import Corrupted
from .sources import Source, chunk_size
from .store import Cell, Outcome

Piece = TypeVar("Piece")

_LOG = logging.getLogger(__name__)


class Scale(nn.Module):
    """Subtracts a mean from each channel and divides by a standard deviation."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        super().__init__()
        for name, values, default in (("mean", mean, 0.0), ("std", std, 1.0)):
            numbers = [default] * 3 if values is None else [float(value) for value in values]
            if len(numbers) != 3 or not np.isfinite(numbers).all() or (name == "std" and min(numbers) <= 0):
                rule = "above 0" if name == "std" else "that are finite"
                raise ValueError(f"{name} needs 3 numbers {rule} (red, green, blue), got {values}")
            self.register_buffer(name, torch.tensor(numbers).reshape(1, 3, 1, 1))

    def forward(self, images: FloatImages) -> FloatImages:
        """Return (images - mean) / std."""
        scaled: Tensor = (images - self.mean) / self.std
        return scaled


@dataclass(kw_only=True)
class Runner:
    """A network and the images it is run on; can be sent to a worker, and is called with a cell."""

    network: nn.Module
    """In evaluation mode, on its device."""
    source: Source
    """The clean images."""
    device: torch.device
    """Where images are corrupted and the network runs."""
    precision: str
    """`float32` or `bfloat16`."""
    batch_size: int
    """Images the network takes at a time; halved where they do not fit into memory."""
    compile: bool = False
    """Whether cells are run by a compiled network, which each process compiles when its first cell comes."""
    folder: Corrupted | None = None
    """Corrupted images; None makes them."""
    keep_logits: bool = False
    """Whether outcomes have logits."""
    _compiled: Compiled | None = field(default=None, init=False, repr=False)

    def __call__(self, cell: Cell) -> Outcome:
        """Return what the network gives on a cell's images."""
        # In a worker, the network and the thread that reads ahead would make the first calls together.
        settle_kernels()
        started = time.perf_counter()
        logits, labels = [], []
        for images, truth in ahead(self._pieces(cell)):
            logits.append(self._on_all(images).cpu())
            labels.append(truth)
        return _outcome(torch.cat(logits), torch.cat(labels), started, keep_logits=self.keep_logits)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None}

    @torch.inference_mode()
    def logits(self, batch: Images, run: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return the logits of one batch, by the network or by what runs in its place.

        Raises:
            ValueError: The network gives no tensor.
        """
        floats = batch.float().div_(255).contiguous(memory_format=torch.channels_last)
        low = self.precision == "bfloat16"
        with torch.autocast(batch.device.type, dtype=torch.bfloat16, enabled=low):
            found = (run or self.network)(floats)
        if not isinstance(found, Tensor):
            raise ValueError(f"the network gives a {type(found).__name__}, expected a tensor of logits")
        return found.float()

    @torch.inference_mode()
    def _pieces(self, cell: Cell) -> Iterator[tuple[Images, Labels]]:
        chosen = torch.arange(cell.first, len(self.source.labels), cell.step)
        for positions in torch.split(chosen, chunk_size(self.source.shape)):
            index = self.source.index[positions]
            if cell.kind == "clean" or self.folder is None:
                images = self.source.read(positions).to(self.device)
            else:
                images = self.folder.read(cell.kind, cell.severity, index).to(self.device)
            if cell.kind != "clean" and self.folder is None:
                images = corrupt(
                    images,
                    cell.kind,
                    severity=cell.severity,
                    seed=cell.seed,
                    parameters=cell.parameters,
                    index=index,
                )
            yield images, self.source.labels[positions]

    def _on_all(self, images: Images) -> Tensor:
        """Return the logits of a piece, batch by batch, with smaller batches where memory runs out."""
        found, start = [], 0
        while start < len(images):
            batch = images[start : start + self.batch_size]
            logits = self._if_it_fits(batch)
            if logits is None:
                if len(batch) == 1:
                    raise ValueError(
                        f"the network runs out of memory on one image of shape {tuple(batch.shape[1:])}; "
                        "take another device"
                    )
                self.batch_size = len(batch) // 2
                _LOG.warning(
                    "evaluate: out of memory at %d images a batch; going on with %d",
                    len(batch),
                    self.batch_size,
                )
                continue
            found.append(logits)
            start += len(batch)
        return torch.cat(found)

    def _if_it_fits(self, batch: Images) -> Tensor | None:
        if self.compile and (self._compiled is None or self._compiled.batch_size > self.batch_size):
            self._compiled = Compiled(self.network, self.batch_size)
        try:
            return self.logits(batch, self._compiled)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
        # Only here, after the error and what it holds are gone, is there memory to give back.
        if batch.device.type == "cuda":
            torch.cuda.empty_cache()
        return None


def _out_of_memory(error: RuntimeError) -> bool:
    said = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "can't allocate memory" in said
        or "out of memory" in said
    )


def _outcome(logits: Tensor, labels: Labels, started: float, *, keep_logits: bool) -> Outcome:
    bad = int(logits.isnan().any(dim=1).sum())
    nothing = np.zeros(0, dtype=np.bool_)
    seconds = time.perf_counter() - started
    if bad:
        return Outcome(
            bits=nothing,
            seconds=seconds,
            failed=f"the network gives NaN for {bad:,} of {len(logits):,} images",
        )
    named = logits.argmax(dim=1)
    kept, error = None, None
    if keep_logits:
        # Softmax is blind to what all logits of an image have in common, and float16 is finest near 0.
        shifted = (logits - logits.max(dim=1, keepdim=True).values).clamp(min=-65504)
        kept = shifted.to(torch.float16).numpy()
        error = calibration_error(shifted.numpy(), labels.numpy())
    return Outcome(
        bits=(named == labels).numpy(),
        seconds=seconds,
        predictions=named.numpy(),
        logits=kept,
        calibration_error=error,
    )


def ahead(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Yield what an iterator yields, while a thread already makes the next piece.

    Torch lets go of the interpreter while it computes, so that making and using go on at once. Leaving early
    waits for the piece that is being made.

    >>> list(ahead(iter([1, 2, 3])))
    [1, 2, 3]
    """
    made: queue.Queue[_Made[Piece]] = queue.Queue(maxsize=1)
    left = threading.Event()
    thread = threading.Thread(target=_make, args=(pieces, made, left), daemon=True)
    thread.start()
    try:
        while (found := made.get()).error is None:
            yield from found.piece
            if not found.piece:
                return
        raise found.error
    finally:
        left.set()
        while thread.is_alive():
            # The thread may wait for room for a piece that nobody wants any more.
            with contextlib.suppress(queue.Empty):
                made.get_nowait()
            thread.join(timeout=0.01)


@dataclass(frozen=True)
class _Made(Generic[Piece]):
    piece: tuple[Piece, ...] = ()
    """One piece, or none at the end."""
    error: BaseException | None = None


def _make(pieces: Iterator[Piece], made: "queue.Queue[_Made[Piece]]", left: threading.Event) -> None:
    try:
        for piece in pieces:
            made.put(_Made((piece,)))
            if left.is_set():
                return
        made.put(_Made())
    except BaseException as error:
        made.put(_Made(error=error))
