"""One torch thread, deterministic hypothesis, and the real inputs where they are at hand."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("filterbands", deadline=None, derandomize=True)
settings.load_profile("filterbands")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _modules_of_a_test_end_with_it(request: pytest.FixtureRequest) -> Iterator[None]:
    """Forget modules that a test wrote and imported: the next one may write others of their names."""
    before = set(sys.modules)
    folder = str(request.getfixturevalue("tmp_path")) if "tmp_path" in request.fixturenames else None
    yield
    if folder is not None:
        for name in set(sys.modules) - before:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(folder):
                del sys.modules[name]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real inputs, or a skip that says how to provide it."""
    folder = os.environ.get("FILTERBANDS_SHARED")
    if not folder or not (Path(folder) / "data").is_dir():
        pytest.skip("FILTERBANDS_SHARED does not name a folder that holds data/")
    return Path(folder) / "data"
