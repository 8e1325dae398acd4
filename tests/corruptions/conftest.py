"""Outputs of the original generators, and the random numbers they drew, as tensors."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from filterbands.corruptions import textures


def _arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as stored:
        return {name: stored[name] for name in stored.files}


def nchw(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="session")
def cifar_c(shared: Path) -> dict[str, np.ndarray]:
    """64 images and six edge images under the CIFAR-10-C generator: kind -> (severity, image, h, w, 3)."""
    return _arrays(shared / "reference_c" / "open.npz")


@pytest.fixture(scope="session")
def imagenet_c(shared: Path) -> dict[str, np.ndarray]:
    """Two images of 224 pixels under the ImageNet-C generator at severities 1, 3 and 5."""
    return _arrays(shared / "reference_c" / "imagenet224_open.npz")


@pytest.fixture(scope="session")
def recorded(shared: Path) -> dict[str, np.ndarray]:
    """Eight images under the CIFAR-10-C generator, with every random number it drew."""
    return _arrays(shared / "reference_c" / "replay_open.npz")


@pytest.fixture(scope="session")
def replay(recorded: dict[str, np.ndarray]) -> Callable[[str, int], tuple[Tensor, list[Tensor], Tensor]]:
    """Return for a kind and severity the clean images, the draws in order, and the original's output."""

    def load(kind: str, severity: int) -> tuple[Tensor, list[Tensor], Tensor]:
        start = f"{kind}_s{severity}_draw"
        draws = [recorded[name] for name in sorted(recorded) if name.startswith(start)]
        tensors = [nchw(draw) if draw.shape[1:] == (32, 32, 3) else torch.from_numpy(draw) for draw in draws]
        return nchw(recorded["clean"]), tensors, nchw(recorded[f"{kind}_s{severity}_out"])

    return load


@pytest.fixture(scope="session")
def cifar_cbar(shared: Path) -> dict[str, np.ndarray]:
    """64 images and six edge images under the CIFAR-10-C-bar generator, as `cifar_c`."""
    return _arrays(shared / "cbar" / "open.npz")


@pytest.fixture(scope="session")
def replay_cbar(shared: Path) -> Callable[[str, int], tuple[Tensor, list[Tensor], Tensor]]:
    """As `replay`, of the CIFAR-10-C-bar generator; numbers that are not used are NaN."""
    arrays = _arrays(shared / "cbar" / "replay_open.npz")

    def load(kind: str, severity: int) -> tuple[Tensor, list[Tensor], Tensor]:
        start = f"{kind}_s{severity}_draw"
        draws = [torch.from_numpy(arrays[name]) for name in sorted(arrays) if name.startswith(start)]
        return nchw(arrays["clean"]), draws, nchw(arrays[f"{kind}_s{severity}_out"])

    return load


@pytest.fixture(scope="session")
def frost_textures(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The original's textures in a user's cache of our own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield textures.install_textures(shared / "frost")


@pytest.fixture(autouse=True)
def _textures_for_frost(request: pytest.FixtureRequest) -> None:
    """Give tests that run over the whole table what `frost` needs, or skip its case."""
    if hasattr(request.node, "callspec") and request.node.callspec.params.get("kind") == "frost":
        request.getfixturevalue("frost_textures")
