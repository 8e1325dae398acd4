"""Blur kinds, beyond their agreement with the published outputs (test_table)."""

import pytest
import torch
import torch.nn.functional as F

from filterbands.corruptions import blur, pixels


@pytest.mark.parametrize(("radius", "sum_"), [(6, 1.0), (8, 1.01298), (10, 1.01079)])
def test_defocus_kernels_that_touch_their_frame_brighten(radius: float, sum_: float) -> None:
    kernel = torch.tensor(blur.disk(radius, 0.5), dtype=torch.float64)
    assert float(kernel.sum()) == pytest.approx(sum_, abs=1e-5)
    torch.testing.assert_close(kernel, kernel.T, rtol=1e-6, atol=0)


@pytest.mark.parametrize("border", ["replicate", "reflect-101"])
def test_correlate_is_a_plain_correlation(border: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 9, 14), generator=generator, dtype=torch.uint8)
    kernel = torch.rand(5, 5, generator=generator, dtype=torch.float64)
    kernel[0] = kernel[1, 1]
    mode = "replicate" if border == "replicate" else "reflect"
    padded = F.pad(images.double(), (2, 2, 2, 2), mode=mode)
    expected = F.conv2d(padded, kernel.expand(3, 1, 5, 5), groups=3)
    ours = pixels.correlate(images, kernel.tolist(), border=border)  # type: ignore[arg-type]
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("border", ["replicate", "reflect", "reflect-101"])
def test_borders_wider_than_the_image_go_on_reflecting(border: str) -> None:
    wide = pixels.border_index(4, 9, border)  # type: ignore[arg-type]
    assert wide[9:13] == [0, 1, 2, 3]
    expected = {
        "replicate": [0] * 9,
        "reflect": [0, 0, 1, 2, 3, 3, 2, 1, 0],
        "reflect-101": [3, 2, 1, 0, 1, 2, 3, 2, 1],
    }
    assert wide[:9] == expected[border]
