"""What figures were measured on, for the other scripts here to put beside them."""

import os
from datetime import date
from typing import Any

import torch

from filterbands.engine import device_name, pick_device
from filterbands.version import git_revision


def machine(device: str = "cpu") -> dict[str, Any]:
    """Return the processor, cores, load, versions and date."""
    return {
        "device": device_name(pick_device(device)),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "git": git_revision(),
        "date": date.today().isoformat(),
    }
