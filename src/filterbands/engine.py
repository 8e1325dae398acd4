"""Devices, precision, processes and outputs of networks; the only file that knows Lightning Fabric."""

import atexit
import ctypes
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    # Loading it takes a second, which only `launch` needs.
    from lightning_fabric import Fabric as Fabric

PRECISIONS = ("float32", "bfloat16")
"""The precisions in which networks are trained and evaluated; training also takes `auto`."""

KERNELS = (
    *("log", "sqrt", "exp", "cos", "sin", "tan", "tanh", "acos", "asin", "atan", "cosh", "sinh"),
    *("erf", "erfc", "erfinv", "expm1", "log10", "log1p", "log2", "trunc"),
)
"""The elementwise functions that `settle_kernels` calls, in this order."""

_LOG = logging.getLogger(__name__)
_AT_A_TIME: ContextVar[int] = ContextVar("images at a time", default=100)
_SETTLING = threading.Lock()

_FABRIC_PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


def __getattr__(name: str) -> Any:
    if name == "Fabric":
        from lightning_fabric import Fabric

        return Fabric
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def launch(*, device: str = "auto", precision: str = "float32", threads: int | None = None) -> "Fabric":
    """Return a launched Fabric for one process on one device, or for this process of a torchrun job.

    Under `torchrun --nproc-per-node N` each process uses its own device and gradients are averaged
    (distributed data parallel; gloo on CPUs, NCCL on GPUs). The call then waits for all processes.

    Args:
        device: `auto` (CUDA if available), `cpu`, `cuda`, or `cuda:N`.
        precision: As `pick_precision` takes it; `bfloat16` is mixed precision, in which weights stay float32.
        threads: Number of threads of torch's operations; None leaves the setting unchanged.

    Raises:
        ValueError: The device or precision is unknown, the device does not exist, or several processes would
            share a numbered device.
    """
    set_threads(threads)
    settle_kernels()
    keep_memory()
    from lightning_fabric import Fabric

    # Fabric prints the precision, which the record of the run contains.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    place = pick_device(device)
    picked = pick_precision(precision, place)
    processes = process_count()
    if processes > 1 and place.index is not None:
        raise ValueError(
            f"{processes} processes cannot share device {device}; use cuda, and each process uses its own"
        )
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator=place.type,
        devices=here if processes > 1 else [place.index or 0] if place.type == "cuda" else 1,
        num_nodes=processes // here if processes > 1 else 1,
        strategy="ddp" if processes > 1 else "auto",
        precision=_FABRIC_PRECISIONS[picked],  # type: ignore[arg-type]  # a literal type of Fabric
    )
    fabric.launch()
    if processes > 1:
        # A gloo group that is still there when Python ends can abort the process after its work.
        atexit.register(_leave_processes)
    return fabric


def _leave_processes() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def process_count() -> int:
    """Return the number of processes that torchrun has started for this job; 1 without torchrun.

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
        ValueError: The name is unknown, or the device does not exist.

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


@contextmanager
def exact_float32() -> Iterator[None]:
    """Let convolutions and products of float32 be computed as such on CUDA, which else rounds them to TF32.

    TF32 keeps ten bits of a number; results under `float32` would differ from those of a CPU by that.
    """
    cudnn: Any = torch.backends.cudnn
    places = (cudnn.conv, torch.backends.cuda.matmul)
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision


def pick_precision(precision: str, device: torch.device) -> str:
    """Return the precision of a name for a device: `auto` is bfloat16 where the device computes in it.

    Elsewhere `auto` is float32, and a line says that `bfloat16` is slow, once per process; see
    `benchmarks/precision.py`.

    Args:
        precision: `auto`, or a name of `PRECISIONS`.
        device: Where the network is.

    Raises:
        ValueError: The name is unknown.

    >>> pick_precision("float32", torch.device("cpu"))
    'float32'
    """
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f"unknown precision {precision!r}; known are auto, {', '.join(PRECISIONS)}")
    if precision == "float32":
        return precision
    is_fast = _computes_in_bfloat16(device.type)
    if precision == "bfloat16" and not is_fast:
        _say_that_bfloat16_is_slow(device.type)
    return "float32" if precision == "auto" and not is_fast else "bfloat16"


def _computes_in_bfloat16(kind: str) -> bool:
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has: Any = torch.backends.mkldnn
    operations: Any = torch.ops.mkldnn
    return bool(has.is_available() and operations._is_mkldnn_bf16_supported())


@cache
def _say_that_bfloat16_is_slow(kind: str) -> None:
    _LOG.warning(
        "bfloat16 is slow here, since %s does not compute in it; float32 can be ten times as fast",
        "this GPU" if kind == "cuda" else "this processor",
    )


def settle_kernels() -> None:
    """Call each elementwise function on one value, once per process, to fix the kernel that it will use.

    oneMKL 2024.2, which is part of torch's wheels, picks the kernel of a function at its first call. If
    several threads make that call at once, one of them may run a kernel that is accurate to 1e-4 only.
    Without this function, a training run differed from its repetition in a few pixels of generated images.

    Source: github.com/pytorch/pytorch/issues/188792; benchmarks/first_call.py measures the frequency.
    """
    with _SETTLING:
        _call_kernels()


@cache
def _call_kernels() -> None:
    for dtype in (torch.float32, torch.float64):
        for name in KERNELS:
            # On the CPU also where another default device is set.
            getattr(torch, name)(torch.full((1,), 0.5, dtype=dtype, device="cpu"))


def set_threads(threads: int | None) -> None:
    """Set the number of threads of torch's operations; None leaves the setting unchanged.

    Raises:
        ValueError: The number is below 1.
    """
    if threads is None:
        return
    if threads < 1:
        raise ValueError(f"threads needs a number of at least 1, got {threads}")
    torch.set_num_threads(threads)


@contextmanager
def at_a_time(images: int) -> Iterator[None]:
    """Make `batches_of` take this many images at a time; 0 leaves the setting unchanged."""
    mark = _AT_A_TIME.set(images or _AT_A_TIME.get())
    try:
        yield
    finally:
        _AT_A_TIME.reset(mark)


def batch() -> int:
    """Return how many images are taken at a time where no config says it; 100 unless `at_a_time` differs."""
    return _AT_A_TIME.get()


def batches_of(images: Tensor) -> tuple[Tensor, ...]:
    """Return images, or what belongs to them, in parts of `batch` images."""
    return torch.split(images, batch())


def keep_memory() -> None:
    """Keep freed blocks of up to one gibibyte in this process for its next tensors.

    By default the C library returns large blocks to the system and requests them again, page by page, for
    each activation of each step. The function does nothing for another C library than glibc, or where the
    environment sets `MALLOC_TRIM_THRESHOLD_` or `MALLOC_MMAP_THRESHOLD_` (see mallopt(3)).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for name, option, size in (("TRIM", -1, 2**31 - 1), ("MMAP", -3, 2**30)):
        if mallopt is not None and f"MALLOC_{name}_THRESHOLD_" not in os.environ:
            mallopt(option, size)


@contextmanager
def compiling() -> Iterator[None]:
    """Turn an error of torch's compiler inside the block into one line.

    Raises:
        ValueError: Torch cannot compile the network here; the line says why.
    """
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"torch cannot compile the network here: {said}; it needs a C++ compiler such as g++. "
            "Omit compile to continue without compilation"
        ) from error


class Compiled:
    """A network compiled for inference at one batch size, with folded constants and fused layers.

    The first batch waits for the compiler, about ten seconds. Smaller batches are padded, so that none is
    compiled again. Hooks and weights are those of the first batch. Results differ from those of the network
    in the last digits, because batch norms are folded into the convolutions before them.

    Args:
        network: In evaluation mode; the result of an image must not depend on the rest of its batch.
        batch_size: Number of images of the largest batch.
    """

    def __init__(self, network: nn.Module, batch_size: int) -> None:
        self.batch_size = batch_size
        self._network: Any = torch.compile(network, dynamic=False, options={"freezing": True})

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits of the network for a batch.

        Raises:
            ValueError: Torch cannot compile the network here, or it gives no logits; the line says why.
        """
        count = len(images)
        if count < self.batch_size:
            filling = images.new_zeros((self.batch_size - count, *images.shape[1:]))
            images = torch.cat([images, filling])
        images = images.contiguous(memory_format=torch.channels_last)
        if not images.is_inference():
            # Torch would compile again for tensors of the other mode.
            images = images.clone()
        with compiling():
            found = self._network(images)
        return logits_in(found)[:count]

    @staticmethod
    def forget() -> None:
        """Release the compiled networks; torch counts them and refuses to compile more than a few."""
        torch.compiler.reset()


def logits_in(output: Any) -> Tensor:
    """Return the logits in what a network gives.

    They are the tensor that it gives, the `logits` of an object or mapping as networks of Hugging Face give
    them, or the one tensor in a list or tuple.

    Raises:
        ValueError: Something else; the line says how to take the logits out of it, where they are in it.

    >>> import torch
    >>> logits_in({"loss": None, "logits": torch.zeros(2, 10)}).shape
    torch.Size([2, 10])
    """
    if isinstance(output, Tensor):
        return output
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(found, Tensor):
        return found
    if isinstance(output, list | tuple) and len(output) == 1 and isinstance(output[0], Tensor):
        return output[0]
    parts = dict(enumerate(output)) if isinstance(output, list | tuple) else output
    named = parts.items() if isinstance(parts, Mapping) else ()
    shapes = {place: tuple(part.shape) for place, part in named if isinstance(part, Tensor)}
    told = f" of {', '.join(f'{place}: {shape}' for place, shape in shapes.items())}" if shapes else ""
    line = f"the network gives a {type(output).__name__}{told}, expected a tensor of logits (images, classes)"
    if flat := [place for place, shape in shapes.items() if len(shape) == 2]:
        raise ValueError(
            f"{line}; give Logits(model), which takes the right part: class Logits(torch.nn.Sequential): "
            f"forward = lambda self, images: self[0](images)[{flat[0]!r}]"
        )
    if shapes and {len(shape) for shape in shapes.values()} == {4}:
        raise ValueError(
            f"{line}; these are feature maps: make the network with its classifier, as timm does without "
            "features_only"
        )
    raise ValueError(f"{line}; none is in it: give the network that classifies")


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or that of the processor where it is known, for records of runs."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU")


def random_state(fabric: "Fabric") -> dict[str, Tensor]:
    """Return the generators' states, with one row per process where there are several."""
    state = {"cpu": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(fabric.device)
    if fabric.world_size > 1:
        state = {
            name: cast(Tensor, fabric.all_gather(value.to(fabric.device))).cpu()
            for name, value in state.items()
        }
    return state


@contextmanager
def kept_random(fabric: "Fabric") -> Iterator[None]:
    """Restore the generators' states at the end, whatever is drawn within."""
    with torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else []):
        yield


def set_random_state(state: dict[str, Tensor], fabric: "Fabric") -> None:
    """Restore what `random_state` returned, of each process its own row."""
    # torch reads a state from the beginning of its storage, which a row without a copy of its own is not.
    if fabric.world_size > 1:
        state = {name: value[fabric.global_rank].clone() for name, value in state.items()}
    torch.set_rng_state(state["cpu"])
    if fabric.device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], fabric.device)
