"""Runs a network on one cell: a thread makes or reads the images one piece ahead of the network."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..checks import users_line
from ..corruptions import corrupt
from ..engine import Compiled, exact_float32, logits_in, pick_device, settle_kernels
from ..models import evaluating
from ..scores import calibration_error
from ..types import FloatImages, Images, Labels
from .copies import Corrupted
from .rows import Cell, Outcome
from .sources import Source, chunk_size

Piece = TypeVar("Piece")

_LOG = logging.getLogger(__name__)
# What torch says, in many wordings, where a tensor's shape does not fit.
_ABOUT_SHAPES = re.compile(
    r"shape|size|dimension|channel|stride|view|broadcast|kernel|mat\d|[1-9]-?d\b", re.IGNORECASE
)


@dataclass(kw_only=True)
class Runner:
    """A network and the images that it is run on; called with a cell, and can be sent to a worker."""

    network: nn.Module
    """In evaluation mode, on its device."""
    source: Source
    device: torch.device
    """Where images are corrupted and the network runs."""
    precision: str
    batch_size: int
    """Images the network takes at a time; halved where they do not fit into memory."""
    compile: bool = False
    """Whether a compiled network runs the cells; each process compiles it for its first cell."""
    folder: Corrupted | None = None
    """Corrupted images on disk; None makes them here."""
    keep_logits: bool = False
    among: tuple[int, ...] | None = None
    """Numbers of the classes that an answer is chosen among; None for all outputs."""
    _compiled: Compiled | None = field(default=None, init=False, repr=False)

    def __call__(self, cell: Cell) -> Outcome:
        """Return what the network gives on a cell's images."""
        # In a worker, the network and the thread that reads ahead would make the first calls together.
        settle_kernels()
        started = time.perf_counter()
        logits, labels = [], []
        with exact_float32():
            for images, truth in ahead(self._pieces(cell)):
                logits.append(self._on_all(images).cpu())
                labels.append(truth)
        return self._outcome(torch.cat(logits), torch.cat(labels), time.perf_counter() - started)

    def _outcome(self, logits: Tensor, labels: Labels, seconds: float) -> Outcome:
        if bad := int(logits.isnan().any(dim=1).sum()):
            failed = f"the network gives NaN for {bad:,} of {len(logits):,} images"
            return Outcome(bits=np.zeros(0, dtype=np.bool_), seconds=seconds, failed=failed)
        if self.among is not None:
            others = torch.ones(logits.shape[1], dtype=torch.bool)
            others[list(self.among)] = False
            logits = logits.masked_fill(others, -torch.inf)
        named = logits.argmax(dim=1)
        outcome = Outcome(bits=(named == labels).numpy(), seconds=seconds, predictions=named.numpy())
        if not self.keep_logits:
            return outcome
        largest = logits.max(dim=1, keepdim=True).values
        if bad := int((~largest.isfinite()).sum()):
            # Confidence is not defined there; the answer is.
            _LOG.warning(
                "the network gives infinity for %d of %d images, which have no calibration error and no "
                "logits are kept",
                *(bad, len(logits)),
            )
            return outcome
        # Softmax ignores a constant added to all logits of an image, and float16 is finest near 0.
        shifted = (logits - largest).clamp(min=-65504)
        error = calibration_error(shifted.numpy(), labels.numpy())
        return replace(outcome, logits=shifted.to(torch.float16).numpy(), calibration_error=error)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None}

    @torch.inference_mode()
    def logits(self, batch: Images, run: Callable[[Tensor], Any] | None = None) -> Tensor:
        """Return the logits of one batch, computed by the network, or by `run` in its place."""
        return logits_of(run or self.network, batch.float().div_(255), self.precision)

    @torch.inference_mode()
    def _pieces(self, cell: Cell) -> Iterator[tuple[Images, Labels]]:
        chosen = torch.arange(cell.first, len(self.source.labels), cell.step)
        for positions in torch.split(chosen, chunk_size(self.source.shape)):
            index = self.source.index[positions]
            if self.folder is not None and cell.source:
                images = self.folder.read(cell.kind, cell.severity, positions).to(self.device)
            else:
                images = self.source.read(positions).to(self.device)
            if cell.kind != "clean" and not cell.source:
                given: dict[str, Any] = {"severity": cell.severity, "seed": cell.seed}
                images = corrupt(images, cell.kind, parameters=cell.parameters, index=index, **given)
            yield images, self.source.labels[positions]

    def _on_all(self, images: Images) -> Tensor:
        """Return the logits of a piece, batch by batch; halve the batch where memory runs out."""
        while True:
            if self.compile and (self._compiled is None or self._compiled.batch_size > self.batch_size):
                self._compiled = Compiled(self.network, self.batch_size)
            batches = torch.split(images, self.batch_size)
            try:
                return torch.cat([self.logits(batch, self._compiled) for batch in batches])
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
            # The memory becomes free only here, when the error and the tensors that it refers to are gone.
            if images.device.type == "cuda":
                torch.cuda.empty_cache()
            count = min(self.batch_size, len(images))
            if count == 1:
                raise ValueError(
                    f"the network runs out of memory on one image of shape {tuple(images.shape[1:])}; "
                    "take another device"
                )
            self.batch_size = count // 2
            _LOG.warning("evaluate: out of memory at %d images a batch; going on with %d", count, count // 2)


def logits_of(run: Callable[[Tensor], Any], images: FloatImages, precision: str) -> Tensor:
    """Return the logits of images in [0, 1], in float32 whatever the precision is.

    Raises:
        ValueError: `logits_in` finds no logits in what the network gives.
    """
    if isinstance(run, nn.Module) and precision == "float32":
        # A network whose weights are all of one other type takes images of it.
        types = {weight.dtype for weight in run.parameters() if weight.is_floating_point()}
        images = images.to(types.pop()) if len(types) == 1 else images
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        found = run(images.contiguous(memory_format=torch.channels_last))
    return logits_in(found).float()


def check_outputs(source: Source, run: Callable[[Images], Tensor], device: torch.device) -> None:
    """Raise ValueError unless a network takes these images and gives one logit per class.

    Where the classes have no names, the labels may not contain all of them: more logits are then allowed.
    """
    first = source.read(torch.arange(min(2, len(source.labels)))).to(device)
    shape, classes = tuple(first.shape), len(source.classes)
    try:
        with torch.inference_mode():
            logits = run(first)
    except (RuntimeError, AssertionError) as error:
        said, place = str(error).partition("\n")[0], users_line(error)
        if place and not (_ABOUT_SHAPES.search(said) or _out_of_memory(error)):
            # A fault of the user's own code; it would be misleading to blame the images.
            raise
        where = f" ({place})" if place else ""
        raise ValueError(f"the network cannot take images of shape {shape}: {said}{where}") from error
    fits = logits.ndim == 2 and len(logits) == len(first) and logits.shape[1] >= classes
    if not fits or (source.named and logits.shape[1] > classes):
        wider = logits.ndim == 2 and logits.shape[1] > classes and source.name.startswith("folder:")
        cure = "; --classes FILE (classes=), the names of its outputs, says which ones they are"
        raise ValueError(
            f"the network gives {tuple(logits.shape)} for {shape}, expected "
            f"({len(first)}, {classes}): {source.name} has {classes} classes{cure if wider else ''}"
        )


@contextmanager
def running_on(network: nn.Module, device: str | None) -> Iterator[torch.device]:
    """Put a network into evaluation mode on a device; afterwards restore its modes and its device.

    Args:
        network: Changed in place.
        device: As `pick_device` takes it; None is where the network is.

    Raises:
        ValueError: The network is neither on a CPU nor on a CUDA device, and no device is named.
    """
    home = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    place = home if device is None else pick_device(device)
    if place.type not in ("cpu", "cuda"):
        raise ValueError(f"a network on {place} needs another device: set device (--device) to cpu or cuda")
    if place.type == "cuda" and place.index is None:
        # Threads that read ahead have a current device of their own.
        place = torch.device("cuda", torch.cuda.current_device())
    with evaluating(network), exact_float32():
        try:
            network.to(place)
            yield place
        finally:
            network.to(home)


def _out_of_memory(error: Exception) -> bool:
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in said or "out of memory" in said


def ahead(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Yield what an iterator yields, while a thread already makes the next piece.

    Torch releases the interpreter while it computes, so that a piece is made while another is used. Leaving
    early waits for the piece that is being made.

    >>> list(ahead(iter([1, 2, 3])))
    [1, 2, 3]
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        made = thread.submit(next, pieces, None)
        while (piece := made.result()) is not None:
            made = thread.submit(next, pieces, None)
            yield piece
