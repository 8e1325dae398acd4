"""TrivialAugment's operations are those of torchvision's `TrivialAugmentWide` on Pillow's images."""

import numpy as np
import pytest
import torch
from PIL import Image

from filterbands.training.methods.trivial import LEVELS, OPERATIONS, transform

pytestmark = pytest.mark.vision

THEIRS = (
    *("Identity", "AutoContrast", "Equalize", "Posterize", "Solarize", "Rotate", "ShearX", "ShearY"),
    *("TranslateX", "TranslateY", "Brightness", "Color", "Contrast", "Sharpness"),
)
# Which share of the bytes may differ at one level. Their highest threshold of `Solarize` is 255 and ours 256;
# PIL moves in 65536ths of a pixel, so that ties differ: of a turn by 135 degrees, a diagonal.
SHARES = {"Solarize": 0.01, "Rotate": 1 / 32, "ShearX": 0.01, "ShearY": 0.01}
ENHANCEMENTS = ("Brightness", "Color", "Contrast", "Sharpness")


@pytest.mark.parametrize(("ours", "theirs"), list(zip(OPERATIONS, THEIRS, strict=True)))
def test_an_operation_is_torchvisions_at_every_level(ours: str, theirs: str) -> None:
    autoaugment = pytest.importorskip("torchvision.transforms.autoaugment")
    modes = pytest.importorskip("torchvision.transforms").InterpolationMode
    space = autoaugment.TrivialAugmentWide()._augmentation_space(LEVELS)
    assert set(space) == set(THEIRS)
    magnitudes, signed = space[theirs]
    images = torch.randint(
        0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    for level in range(LEVELS):
        # Their shift by 16 pixels is one by 15.999999, cut to 15.
        magnitude = round(float(magnitudes[level]), 4) if magnitudes.ndim else 0.0
        for sign in (1, -1) if signed else (1,):
            # Shifts are towards the other side at the same sign, which both draw with equal chance.
            ours_level = -sign * level if theirs.startswith("Translate") else sign * level
            number = torch.full((2,), OPERATIONS.index(ours))
            found = transform(images, number, torch.full((2,), ours_level))
            for place, picture in enumerate(pictures):
                expected = autoaugment._apply_op(picture, theirs, sign * magnitude, modes.NEAREST, None)
                off = np.abs(found[place].permute(1, 2, 0).numpy().astype(int) - np.asarray(expected))
                if theirs in ENHANCEMENTS:
                    # Products are cut to integers, so that a last bit may take one with it.
                    assert off.max() <= 1
                    assert (off > 0).mean() < 0.002
                else:
                    assert (off > 0).mean() <= SHARES.get(theirs, 0), (level, sign)
