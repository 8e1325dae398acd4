"""A training set of a few small images, and runs on it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from filterbands.datasets import ImageSet, PlantedConfig, planted
from filterbands.run import Run
from filterbands.training import RECIPES, TrainConfig, train

# 96 images in batches of 32.
STEPS = 3
EPOCHS = 3


@pytest.fixture(scope="session")
def images() -> ImageSet:
    """96 planted images, cut to 16 pixels a side."""
    data = planted(PlantedConfig(), split="validation").subset(torch.arange(96))
    return replace(data, images=data.images[:, :, 8:24, 8:24].contiguous())


@pytest.fixture(scope="session")
def spec(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The images as `load_data` takes them."""
    file = tmp_path_factory.mktemp("data") / "tiny.npz"
    np.savez(file, images=images.images.numpy(), labels=images.labels.numpy())
    return f"npz:{file}"


@pytest.fixture(scope="session")
def config_of(spec: str) -> Callable[[str], TrainConfig]:
    """A recipe's config, cut to three steps an epoch; `standard` is in float32, the others as they come."""

    def change(recipe: str) -> TrainConfig:
        config = replace(RECIPES[recipe](), data=spec, batch_size=32, epochs=EPOCHS, seed=5)
        return replace(config, precision="float32") if recipe == "standard" else config

    return change


@pytest.fixture(scope="session")
def whole(
    config_of: Callable[[str], TrainConfig], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Run]:
    """The run of a recipe that nothing disturbed, trained when first asked for; tests only read it."""
    folder, done = tmp_path_factory.mktemp("runs"), {}

    def finished(recipe: str) -> Run:
        if recipe not in done:
            done[recipe] = train(config_of(recipe), Path(folder) / recipe)
        return done[recipe]

    return finished
