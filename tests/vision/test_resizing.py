"""Resizing and cropping give the bytes of torchvision's transforms on Pillow's images."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from filterbands.datasets import Reading, read_images
from filterbands.models import published_geometry

pytestmark = pytest.mark.vision


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("resize", [0, 7, 32, 235, 256])
@pytest.mark.parametrize("crop", [0, 5, 32, 33, 224])
@pytest.mark.parametrize(
    "shape", [(500, 375), (375, 500), (333, 500), (32, 32), (31, 45), (64, 33), (9, 200), (224, 224)]
)
def test_resizing_and_cropping_are_bit_for_bit_torchvisions(
    shape: tuple[int, int], crop: int, resize: int, interpolation: str, tmp_path: Path
) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.bmp")
    if resize:
        mode = transforms.InterpolationMode(interpolation)
        image = transforms.Resize(resize, interpolation=mode)(image)
    if crop:
        image = transforms.CenterCrop(crop)(image)
    reading = Reading(resize=resize, crop=crop, interpolation=interpolation if resize else None)
    found = read_images([tmp_path / "a.bmp"], reading=reading)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(found, np.asarray(image))


@pytest.mark.parametrize("name", ["resnet50", "vit_h_14", "inception_v3"])
def test_the_images_of_a_torchvision_network_are_those_of_its_own_transforms(
    name: str, tmp_path: Path
) -> None:
    models = pytest.importorskip("torchvision.models")
    prepared = models.get_model_weights(name).DEFAULT.transforms()
    prepared.mean, prepared.std = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]
    pixels = np.random.default_rng(0).integers(0, 256, (333, 500, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.bmp")
    geometry = published_geometry(f"torchvision:{name}")
    assert geometry is not None
    found = read_images([tmp_path / "a.bmp"], reading=Reading(**asdict(geometry)))[0]
    expected = prepared(Image.fromarray(pixels))
    assert np.array_equal(found.numpy(), (expected * 255).round().byte().numpy())


@pytest.mark.parametrize("name", ["resnet50", "vit_base_patch16_224", "inception_v3", "efficientnet_b0"])
def test_the_images_of_a_timm_network_are_those_of_its_own_transforms(name: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    config = timm.data.resolve_data_config(pretrained_cfg=timm.models.get_pretrained_cfg(name).to_dict())
    transform = timm.data.create_transform(**{**config, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)})
    pixels = np.random.default_rng(0).integers(0, 256, (333, 500, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.bmp")
    geometry = published_geometry(f"timm:{name}")
    assert geometry is not None
    found = read_images([tmp_path / "a.bmp"], reading=Reading(**asdict(geometry)))[0]
    expected = transform(Image.fromarray(pixels))
    assert np.array_equal(found.numpy(), (expected * 255).round().byte().numpy())
