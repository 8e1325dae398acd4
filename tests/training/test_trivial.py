"""TrivialAugment: its operations are PIL's, and each image draws its own by its key."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from filterbands import rng
from filterbands.training import METHODS, train, with_settings
from filterbands.training.config import TrainConfig
from filterbands.training.methods import trivial, trivial_view
from filterbands.training.methods.operations import to_bytes
from filterbands.training.methods.trivial import LEVELS, OPERATIONS, transform

SIDE = 32
# Every level, once in either direction.
SIGNED = torch.arange(LEVELS) * torch.tensor([1, -1]).repeat(LEVELS)[:LEVELS]
# The level does not matter to these.
FIXED = ("autocontrast", "equalize")


def keys(count: int, seed: int = 0) -> Tensor:
    return rng.keys(seed, "trivial", index=torch.arange(count))


def smooth(count: int, *, channels: int = 3) -> Tensor:
    """Return images with contrast, gradients, edges and both extremes, as floats that are whole 255ths."""
    coarse = torch.rand(count, channels, 6, 6, generator=torch.Generator().manual_seed(1))
    images = F.interpolate(coarse, size=SIDE, mode="bicubic").clamp(0, 1)
    return to_bytes(images).float() / 255


def numbered(name: str, count: int = LEVELS) -> Tensor:
    return torch.full((count,), OPERATIONS.index(name))


def pil_operation(name: str, image: Image.Image, signed: int) -> Image.Image:
    """Return the operation at a level from -30 to 30, done by PIL with the ranges of the paper."""

    def affine(*numbers: float) -> Image.Image:
        return image.transform(image.size, Image.Transform.AFFINE, numbers)

    level, shear, shift, factor = (
        abs(signed),
        0.99 * signed / 30,
        int(signed * 32 / 30),
        1 + 0.99 * signed / 30,
    )
    done: dict[str, Callable[[], Image.Image]] = {
        "identity": lambda: image,
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "posterize": lambda: ImageOps.posterize(image, 8 - round(level / 5)),
        "solarize": lambda: ImageOps.solarize(image, 256 - int(level * 256 / 30)),
        "rotate": lambda: image.rotate(4.5 * signed),
        "shear_x": lambda: affine(1, shear, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, shear, 1, 0),
        "translate_x": lambda: affine(1, 0, shift, 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, shift),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "color": lambda: ImageEnhance.Color(image).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
    }
    return done[name]()


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_pil_at_every_level(name: str) -> None:
    images = to_bytes(smooth(LEVELS))
    images[3] = 77
    images[4] = torch.randint(0, 256, (3, SIDE, SIDE), generator=torch.Generator().manual_seed(2))
    ours = transform(images, numbered(name), SIGNED)
    for place, level in enumerate(SIGNED.tolist()):
        image = Image.fromarray(images[place].permute(1, 2, 0).numpy())
        theirs = torch.from_numpy(np.array(pil_operation(name, image, level))).permute(2, 0, 1)
        off = (ours[place].int() - theirs.int()).abs()
        if name == "rotate":
            # The nearest pixel may be another one on a tie: of a turn by 135 degrees, on a diagonal.
            assert float((off > 0).float().mean()) <= 1 / SIDE
        else:
            # Products are cut to integers, so that a last bit may take one with it.
            assert int(off.max()) <= (1 if name in trivial.ENHANCEMENTS else 0)
            assert float((off > 0).float().mean()) < 0.002


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in FIXED])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_operation_of_level_zero_leaves_an_image_as_it_is(name: str, channels: int) -> None:
    images = to_bytes(smooth(5, channels=channels))
    images[0] = 255
    assert torch.equal(transform(images, numbered(name, 5), torch.zeros(5, dtype=torch.int64)), images)


def test_the_view_of_the_identity_does_not_even_round() -> None:
    images = torch.rand(400, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    view = trivial_view(images, key=keys(400))
    identity = rng.integers(keys(400), 0, len(OPERATIONS), (), stream=0) == 0
    assert torch.equal(view[identity], images[identity])
    assert 10 < int(identity.sum()) < 60


def test_operations_levels_and_signs_are_equally_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []

    def watch(images: Tensor, number: Tensor, level: Tensor) -> Tensor:
        drawn.extend((number, level))
        return images

    monkeypatch.setattr(trivial, "transform", watch)
    count = 14 * 3100
    trivial_view(torch.zeros(count, 1, 1, 1), key=keys(count))
    number, level = drawn
    for found, cells in (
        (number.bincount(minlength=14), 14),
        (level.abs().bincount(minlength=31), 31),
        ((level[level != 0] > 0).long().bincount(minlength=2), 2),
    ):
        total = int(found.sum())
        # Five standard deviations of a count.
        assert len(found) == cells
        assert float((found - total / cells).abs().max()) < 5 * (total / cells * (1 - 1 / cells)) ** 0.5
    # Which operation is drawn says nothing of how strong it is.
    assert abs(float(torch.corrcoef(torch.stack([number.float(), level.abs().float()]))[0, 1])) < 0.025


def test_an_image_has_one_view_in_any_batch_and_another_for_another_key() -> None:
    images, key = smooth(64), keys(64)
    view = trivial_view(images, key=key)
    assert view.dtype == images.dtype
    assert view.shape == images.shape
    assert float(view.min()) >= 0
    assert float(view.max()) <= 1
    order = torch.randperm(64, generator=torch.Generator().manual_seed(4))
    assert torch.equal(trivial_view(images[order], key=key[order]), view[order])
    for place in range(64):
        alone = trivial_view(images[place : place + 1], key=key[place : place + 1])
        assert torch.equal(alone[0], view[place])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(trivial_view(images, key=key), view)
    other = trivial_view(images, key=keys(64, seed=1))
    assert float((other != view).flatten(1).any(dim=1).float().mean()) > 0.8


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 1, 1), (3, 2, 5), (5, 9, 16)])
def test_images_of_any_shape_have_a_view(shape: tuple[int, ...]) -> None:
    images = torch.rand(200, *shape, generator=torch.Generator().manual_seed(5))
    view = trivial_view(images, key=keys(200))
    assert view.shape == images.shape
    assert bool(((view >= 0) & (view <= 1)).all())
    assert trivial_view(images[:0], key=keys(0)).shape == images[:0].shape


def test_it_trains_together_with_a_perturbed_power_spectrum(
    config_of: Callable[[str], TrainConfig], tmp_path: Path
) -> None:
    settings = ["spectral.strength=0.5", "spectral.gain=0.5", "spectral.noise=0.03", "epochs=1"]
    config = with_settings(config_of("trivial"), settings)
    run = train(config, tmp_path / "run")
    assert METHODS["trivial"].resembles == (
        "defocus_blur",
        "gaussian_blur",
        "brightness",
        "contrast",
        "saturate",
    )
    assert set(METHODS["trivial"].resembles) < set(config.resembles)
    assert "gaussian_noise" in config.resembles
    assert run.last_epoch()["loss"] > 0
