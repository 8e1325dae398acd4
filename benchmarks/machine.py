"""What figures were measured on, for the other scripts here to put beside them."""

import os
from datetime import date
from pathlib import Path
from typing import Any

import torch

from filterbands.run import git_revision


def machine(device: str = "cpu") -> dict[str, Any]:
    """Return the processor, cores, load, versions and date."""
    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "git": git_revision(),
        "date": date.today().isoformat(),
    }


def processor() -> str:
    """Return the processor's name."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU")
