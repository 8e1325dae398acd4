"""Devices, precision and processes; the only file that knows Lightning Fabric."""

import ctypes
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    # Loading it takes a second, which only those wait for who launch.
    from lightning_fabric import Fabric as Fabric

PRECISIONS = ("float32", "bfloat16")
"""What the networks here are trained and evaluated in."""

KERNELS = (
    *("log", "sqrt", "exp", "cos", "sin", "tan", "tanh", "acos", "asin", "atan", "cosh", "sinh"),
    *("erf", "erfc", "erfinv", "expm1", "log10", "log1p", "log2", "trunc"),
)
"""The elementwise functions that `settle_kernels` calls, in this order."""

_FABRIC_PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


def __getattr__(name: str) -> Any:
    if name == "Fabric":
        from lightning_fabric import Fabric

        return Fabric
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def launch(*, device: str = "auto", precision: str = "float32", threads: int | None = None) -> "Fabric":
    """Return a launched Fabric: one process on one device, or this one of those that torchrun started.

    Under `torchrun --nproc-per-node N` each process takes a device of its own and gradients are averaged
    (distributed data parallel; gloo on CPUs, NCCL on GPUs); the call then waits for all of them.

    Args:
        device: `auto` (CUDA where there is one), `cpu`, `cuda`, or `cuda:N`.
        precision: A name of `PRECISIONS`; `bfloat16` is mixed precision, weights stay float32.
        threads: Threads of torch's own operations; None leaves the setting as it is.

    Raises:
        ValueError: An unknown device or precision, or a device that is not there, or one of several
            processes that is to share a numbered device.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; known are {', '.join(PRECISIONS)}")
    set_threads(threads)
    keep_memory()
    from lightning_fabric import Fabric

    # Fabric announces the precision; the run's own record says it better.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    place = pick_device(device)
    processes = process_count()
    if processes > 1 and place.index is not None:
        raise ValueError(
            f"{processes} processes cannot share device {device}; use cuda, and each takes its own"
        )
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator=place.type,
        devices=here if processes > 1 else [place.index or 0] if place.type == "cuda" else 1,
        num_nodes=processes // here if processes > 1 else 1,
        strategy="ddp" if processes > 1 else "auto",
        precision=_FABRIC_PRECISIONS[precision],  # type: ignore[arg-type]  # a literal of Fabric's own
    )
    fabric.launch()
    return fabric


def process_count() -> int:
    """Return how many processes torchrun has started for this job; 1 without torchrun.

    >>> process_count()
    1
    """
    return int(os.environ.get("WORLD_SIZE", "1")) if torch.distributed.is_torchelastic_launched() else 1


def is_first_process() -> bool:
    """Return whether this process is the one that writes and prints.

    >>> is_first_process()
    True
    """
    return process_count() == 1 or os.environ.get("RANK", "0") == "0"


def pick_device(device: str = "auto") -> torch.device:
    """Return the torch device of a name: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ValueError: An unknown name, or a device that is not there.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError:
        place = torch.device("meta")
    if place.type not in ("cpu", "cuda"):
        raise ValueError(f"unknown device {device!r}; expected auto, cpu, cuda or cuda:N")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device} is not there: {torch.cuda.device_count()} CUDA devices found; use cpu"
        )
    return place


def settle_kernels() -> None:
    """Call each elementwise function on one value, which fixes the kernel that it will use.

    oneMKL 2024.2, which torch's wheels carry, picks the kernel of a function when it is first called; of
    threads that make that call at once, one may then run a kernel that is accurate to 1e-4 only. Without
    this a training was seen to differ from its repetition, as a few pixels of its generated images did.

    Source: github.com/pytorch/pytorch/issues/188792; how often: benchmarks/first_call.py.
    """
    for dtype in (torch.float32, torch.float64):
        for name in KERNELS:
            getattr(torch, name)(torch.full((1,), 0.5, dtype=dtype))


def set_threads(threads: int | None) -> None:
    """Set how many threads torch's own operations use; None leaves the setting as it is.

    Raises:
        ValueError: Fewer than 1.
    """
    if threads is None:
        return
    if threads < 1:
        raise ValueError(f"threads needs a number of at least 1, got {threads}")
    torch.set_num_threads(threads)


def keep_memory() -> None:
    """Let this process keep the memory it frees, up to a gibibyte a block, for its next tensors.

    The C library gives large blocks back to the system and takes them anew, page by page, for every
    activation of every step. Does nothing where the library is not glibc or the environment says otherwise
    (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_`; mallopt(3)).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for name, option, size in (("TRIM", -1, 2**31 - 1), ("MMAP", -3, 2**30)):
        if mallopt is not None and f"MALLOC_{name}_THRESHOLD_" not in os.environ:
            mallopt(option, size)


@contextmanager
def compiling() -> Iterator[None]:
    """Say in one line where torch cannot compile, for what is run inside.

    Raises:
        ValueError: Torch cannot compile the network here; the line says why.
    """
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"torch cannot compile the network here: {said}; it needs a C++ compiler such as g++. "
            "Leave compile off to go on without"
        ) from error


class Compiled:
    """A network that torch has compiled for one batch size, for running only: constants folded, layers fused.

    The first batch waits for the compiler, some ten seconds. Smaller batches are filled up, so that none is
    compiled anew. Hooks and weights are those of the first batch. Results differ from the network's own in
    the last digits, as batch norms are folded into the convolutions before them.

    Args:
        network: In evaluation mode, each image's result independent of the others' in its batch.
        batch_size: Images of the largest batch.
    """

    def __init__(self, network: nn.Module, batch_size: int) -> None:
        self.batch_size = batch_size
        self._network: Any = torch.compile(network, dynamic=False, options={"freezing": True})

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return what the network gives for a batch.

        Raises:
            ValueError: Torch cannot compile the network here; the line says why.
        """
        count = len(images)
        if count < self.batch_size:
            filling = images.new_zeros((self.batch_size - count, *images.shape[1:]))
            images = torch.cat([images, filling])
        images = images.contiguous(memory_format=torch.channels_last)
        if not images.is_inference():
            # Torch compiles anew for tensors of the other mode.
            images = images.clone()
        with compiling():
            found: Tensor = self._network(images)
        return found[:count]

    @staticmethod
    def forget() -> None:
        """Give back what compiled networks hold; torch counts them and would compile no more than a few."""
        torch.compiler.reset()


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or of the processor where it is known; for records of what was run on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU")
