"""Blur kinds, beyond their agreement with the published outputs (test_table)."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from filterbands.corruptions import blur, corrupt, pixels
from filterbands.corruptions.kinds import CIFAR


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
def test_borders_wider_than_the_image_reflect_repeatedly(border: str) -> None:
    wide = pixels.border_index(4, 9, border)  # type: ignore[arg-type]
    assert wide[9:13] == [0, 1, 2, 3]
    expected = {
        "replicate": [0] * 9,
        "reflect": [0, 0, 1, 2, 3, 3, 2, 1, 0],
        "reflect-101": [3, 2, 1, 0, 1, 2, 3, 2, 1],
    }
    assert wide[:9] == expected[border]


@pytest.mark.parametrize("border", ["replicate", "reflect"])
@pytest.mark.parametrize(("sigma", "truncate"), [(0.05, 4), (0.4, 4), (1, 4), (2.44, 3), (6.4, 3)])
def test_smooth_is_scipy_s_gaussian_filter_bit_for_bit(border: str, sigma: float, truncate: float) -> None:
    images = torch.rand(2, 3, 13, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images[:, :, :6] = 0.3
    mode = "nearest" if border == "replicate" else "reflect"
    expected = ndimage.gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode=mode, truncate=truncate)
    ours = pixels.smooth(images, sigma, border=border, truncate=truncate)  # type: ignore[arg-type]
    assert np.array_equal(ours.numpy(), expected)


@pytest.mark.parametrize("severity", range(1, 6))
def test_glass_blur_with_recorded_draws_equals_the_original(replay, severity: int) -> None:
    images, (drawn,), original = replay("glass_blur", severity)
    sigma, reach, passes = CIFAR["glass_blur"][severity - 1]
    shifts = drawn.to(torch.int64).reshape(len(images), int(passes), 900, 2)
    assert torch.equal(blur.through_glass(images, shifts, sigma=sigma, reach=int(reach)), original)


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_glass_copies_pixel_after_pixel(reach: int) -> None:
    h, w, passes = 11, 14, 2
    generator = torch.Generator().manual_seed(reach)
    images = torch.randint(0, 256, (3, 3, h, w), generator=generator, dtype=torch.uint8)
    shape = (3, passes, (h - 2 * reach) * (w - 2 * reach), 2)
    shifts = torch.randint(-reach, reach, shape, generator=generator)
    expected = images.clone()
    for i in range(3):
        for one_pass in shifts[i]:
            draws = iter(one_pass.tolist())
            for y in range(h - reach, reach, -1):
                for x in range(w - reach, reach, -1):
                    dx, dy = next(draws)
                    expected[i, :, y, x] = expected[i, :, y + dy, x + dx]
    # A blur this narrow has one weight and changes nothing.
    assert torch.equal(blur.through_glass(images, shifts, sigma=0.05, reach=reach), expected)


@pytest.mark.parametrize("severity", range(1, 6))
def test_motion_blur_with_recorded_angles_equals_the_original(replay, severity: int) -> None:
    images, (degrees,), original = replay("motion_blur", severity)
    radius, sigma = CIFAR["motion_blur"][severity - 1]
    assert torch.equal(blur.smear(images, degrees, radius=radius, sigma=sigma), original)


def test_motion_blur_is_the_original_s_at_every_angle(recorded) -> None:
    images = torch.from_numpy(recorded["clean"][:2]).permute(0, 3, 1, 2)
    for severity in range(1, 6):
        radius, sigma = CIFAR["motion_blur"][severity - 1]
        for position, angle in enumerate(recorded["motion_angles_deg"].tolist()):
            if angle == -30:  # offsets there hang on the last bit of a cosine
                continue
            degrees = torch.full((2,), angle, dtype=torch.float64)
            ours = blur.smear(images, degrees, radius=radius, sigma=sigma).permute(0, 2, 3, 1).numpy()
            assert np.array_equal(ours, recorded["motion_fixed_angle_out"][severity - 1, position])


def test_motion_blur_moves_the_content_against_its_direction() -> None:
    images = torch.zeros(1, 3, 21, 21, dtype=torch.uint8)
    images[:, :, 10, 10] = 255
    down = blur.smear(images, torch.tensor([90.0]), radius=4, sigma=2)[0, 0].double()
    assert float(down[:, 10].sum()) == float(down.sum())
    assert float(down[11:].sum()) == 0
    assert float((down[:, 10] * torch.arange(21)).sum() / down.sum()) == pytest.approx(8.7, abs=0.1)


@pytest.mark.parametrize("size", [32, 224, 21])
@pytest.mark.parametrize("factor", [1.01, 1.05, 1.13, 1.25])
def test_zoom_taps_are_scipy_s_zoom_of_the_middle(size: int, factor: float) -> None:
    line = np.random.default_rng(0).random(size)
    window = math.ceil(size / factor)
    start = (size - window) // 2
    zoomed = ndimage.zoom(line[start : start + window], factor, order=1)
    expected = zoomed[(len(zoomed) - size) // 2 :][:size]
    ours = [line[a] * (1 - share) + line[b] * share for a, b, share in blur.zoom_taps(size, factor)]
    assert np.allclose(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(32, 32), (9, 14), (97, 131)])
@pytest.mark.parametrize("table", ["cifar", "imagenet"])
def test_zoom_blur_of_large_images_gives_the_bytes_of_small_ones(
    size: tuple[int, int], table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, *size), generator=generator, dtype=torch.uint8)
    images[0] = 77
    given = {"severity": 3, "seed": 0, "parameters": table}
    expected = corrupt(images, "zoom_blur", **given)  # type: ignore[arg-type]
    monkeypatch.setattr(blur, "_LARGEST_MATRIX", 0)
    assert torch.equal(corrupt(images, "zoom_blur", **given), expected)  # type: ignore[arg-type]
