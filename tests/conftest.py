"""One torch thread, deterministic hypothesis, and the real inputs where they are at hand."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from filterbands.datasets import ImageSet, loading, planted

settings.register_profile("filterbands", deadline=None, derandomize=True)
settings.load_profile("filterbands")
torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _generated_images_are_made_once() -> Iterator[None]:
    """Let `load_data` copy generated images that an earlier test made: they take a second."""
    made = lru_cache(maxsize=24)(planted)

    def copied(*knobs: Any, **more: Any) -> ImageSet:
        found = made(*knobs, **more)
        return replace(found, images=found.images.clone(), labels=found.labels.clone())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "planted", copied)
        yield


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
