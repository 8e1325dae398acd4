"""The handwritten digits that come with the package."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import filterbands as fb
from filterbands.datasets import digits, load_data


def test_splits_share_no_image_and_hold_all_of_them() -> None:
    sizes = {split: len(digits(split=split)) for split in ("train", "validation", "full_train", "test")}
    assert sizes == {"train": 1123, "validation": 225, "full_train": 1348, "test": 449}
    rows = [
        {image.numpy().tobytes() for image in digits(split=split).images}
        for split in ("train", "validation", "test")
    ]
    assert sum(map(len, rows)) == len(rows[0] | rows[1] | rows[2]) == 1797
    for split in sizes:
        assert np.bincount(digits(split=split).labels.numpy()).min() >= 15


def test_images_are_enlarged_as_bilinear_interpolation_does() -> None:
    data = digits()
    small = data.images[:, :1].float()
    assert torch.equal(data.images[:, 0], data.images[:, 2])
    with np.load(Path(str(fb.__file__)).parent / "datasets" / "digits.npz") as file:
        levels = torch.from_numpy(file["images"])[3::4][:, None].float() * 255 / 16
    expected = F.interpolate(levels, scale_factor=4.0, mode="bilinear", align_corners=False)
    assert float((expected - small).abs().max()) <= 0.5 + 1e-3


def test_the_bytes_are_these() -> None:
    digest = hashlib.sha256(digits(split="full_train").images.numpy().tobytes()).hexdigest()
    assert (
        digest == "eca71844183a8b53be0a2f161c808b1e843d790626689063e2a12279a7a0c9c3"
    )  # made by this function, after the comparison above


def test_a_place_is_refused() -> None:
    assert load_data("digits", split="train", limit=5).name == "digits"
    with pytest.raises(ValueError, match="digits comes with the package and takes no place"):
        load_data("digits:DIR")
