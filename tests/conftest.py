"""One torch thread, deterministic hypothesis, and the real inputs where they are at hand."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("filterbands", deadline=None, derandomize=True)
settings.load_profile("filterbands")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real inputs, or a skip that says how to provide it."""
    folder = os.environ.get("FILTERBANDS_SHARED")
    if not folder or not (Path(folder) / "data").is_dir():
        pytest.skip("FILTERBANDS_SHARED does not name a folder that holds data/")
    return Path(folder) / "data"
