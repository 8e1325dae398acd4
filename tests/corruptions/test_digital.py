"""Digital kinds, beyond their agreement with the published outputs (test_table)."""

import numpy as np
import pytest
import torch
from PIL import Image

from filterbands.corruptions import corrupt, digital


@pytest.mark.parametrize("images", ["clean", "edge_clean"])
def test_jpeg_compression_is_that_of_libjpeg_turbo_within_a_level(cifar_c, images: str) -> None:
    clean = torch.from_numpy(cifar_c[images]).permute(0, 3, 1, 2)
    suffix = "_edge" if images == "edge_clean" else ""
    for severity in range(1, 6):
        ours = corrupt(clean, "jpeg_compression", severity=severity, seed=0).permute(0, 2, 3, 1).numpy()
        original = cifar_c["jpeg_compression_turbo" + suffix][severity - 1]
        assert np.abs(ours.astype(int) - original).max() <= 1


@pytest.mark.parametrize("size", [(32, 32), (17, 40), (8, 64)])
@pytest.mark.parametrize("factor", [0.95, 0.65, 0.4, 0.25])
def test_pixelate_is_pillow_s_box_filter_down_and_up(size: tuple[int, int], factor: float) -> None:
    h, w = size
    pixels = np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)
    small = Image.fromarray(pixels).resize((int(w * factor), int(h * factor)), Image.Resampling.BOX)
    expected = np.asarray(small.resize((w, h), Image.Resampling.BOX))
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    ours = digital.pixelate(images, (factor,), key=torch.zeros(1, dtype=torch.int64))
    assert np.array_equal(ours[0].permute(1, 2, 0).numpy(), expected)


def test_hsv_and_back_is_the_identity() -> None:
    generator = torch.Generator().manual_seed(0)
    unit = torch.randint(0, 256, (2, 3, 40, 40), generator=generator).double() / 255
    torch.testing.assert_close(digital.hsv_to_rgb(*digital.rgb_to_hsv(unit)), unit, rtol=0, atol=1e-14)
