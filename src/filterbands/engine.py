"""Devices, precision and processes; the only file that knows Lightning Fabric."""

import logging
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    # Loading it takes a second, which only those wait for who launch.
    from lightning_fabric import Fabric as Fabric

PRECISIONS = ("float32", "bfloat16")
"""What the networks here are trained and evaluated in."""

_FABRIC_PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


def __getattr__(name: str) -> Any:
    if name == "Fabric":
        from lightning_fabric import Fabric

        return Fabric
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def launch(*, device: str = "auto", precision: str = "float32", threads: int | None = None) -> "Fabric":
    """Return a launched Fabric for one process on one device.

    Args:
        device: `auto` (CUDA where there is one), `cpu`, `cuda`, or `cuda:N`.
        precision: A name of `PRECISIONS`; `bfloat16` is mixed precision, weights stay float32.
        threads: Threads of torch's own operations; None leaves the setting as it is.

    Raises:
        ValueError: An unknown device or precision, or a device that is not there.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; known are {', '.join(PRECISIONS)}")
    set_threads(threads)
    from lightning_fabric import Fabric

    # Fabric announces the precision; the run's own record says it better.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    place = pick_device(device)
    fabric = Fabric(
        accelerator=place.type,
        devices=[place.index or 0] if place.type == "cuda" else 1,
        precision=_FABRIC_PRECISIONS[precision],  # type: ignore[arg-type]  # a literal of Fabric's own
    )
    fabric.launch()
    return fabric


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
