"""The conventions of every transform, each against its definition written out as sums."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from filterbands.fourier import filter_images, kernel_power, power_spectrum, radius_grid, shape_noise

SIZES = [(1, 1), (4, 4), (5, 7), (6, 3), (8, 5)]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dft(array: np.ndarray) -> np.ndarray:
    """Return sum over y, x of a[y, x] exp(-2 pi i (u y / h + v x / w)), as it is written."""
    height, width = array.shape
    out = np.zeros((height, width), dtype=complex)
    for u in range(height):
        for v in range(width):
            for y in range(height):
                for x in range(width):
                    out[u, v] += array[y, x] * np.exp(-2j * math.pi * (u * y / height + v * x / width))
    return out


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_radii_are_those_of_the_transforms_frequencies(height: int, width: int) -> None:
    radii = radius_grid(height, width)
    for u in range(height):
        for v in range(width):
            # Beyond Nyquist a frequency is the negative one a whole cycle below it.
            vertical = u / height if u < (height + 1) // 2 else u / height - 1
            horizontal = v / width if v < (width + 1) // 2 else v / width - 1
            assert float(radii[u, v]) == pytest.approx(math.hypot(vertical, horizontal), abs=1e-7)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_half_the_radii_are_the_first_columns(height: int, width: int) -> None:
    assert_close(
        radius_grid(height, width, half=True), radius_grid(height, width)[:, : width // 2 + 1], rtol=0, atol=0
    )


def test_one_wave_has_its_power_at_its_own_radius() -> None:
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    power = power_spectrum(torch.cos(2 * math.pi * (3 * y + 4 * x) / 16))
    strongest = radius_grid(16, 16)[power > power.max() / 2]
    assert_close(strongest, torch.full((2,), 5 / 16))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_mean_of_the_power_is_the_mean_of_the_squares(height: int, width: int) -> None:
    arrays = noise(2, 3, height, width)
    assert_close(power_spectrum(arrays).mean(dim=(-2, -1)), arrays.square().mean(dim=(-2, -1)))


def test_the_power_is_the_definitions() -> None:
    array = noise(5, 6)
    expected = np.abs(dft(array.numpy())) ** 2 / 30
    assert_close(power_spectrum(array), torch.from_numpy(expected))


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (1, 1)])
def test_kernel_power_is_the_transform_at_those_frequencies(size: int, shape: tuple[int, int]) -> None:
    kernel = noise(*shape)
    power = kernel_power(kernel, size=size)
    center = size // 2
    for i, j in ((0, 0), (1, 0), (0, -2), (3, 1), (-center, -center), (-1, 2)):
        total = 0j
        for y in range(shape[0]):
            for x in range(shape[1]):
                total += float(kernel[y, x]) * np.exp(-2j * math.pi * (i * y + j * x) / size)
        assert float(power[center + i, center + j]) == pytest.approx(abs(total) ** 2, rel=1e-9, abs=1e-12)


def test_kernel_power_leaves_leading_axes_and_sums_to_the_energy() -> None:
    kernels = noise(4, 3, 3, 3)
    power = kernel_power(kernels, size=16)
    assert power.shape == (4, 3, 16, 16)
    assert_close(power.mean(dim=(-2, -1)), kernels.square().sum(dim=(-2, -1)))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_gain_of_one_changes_nothing(height: int, width: int) -> None:
    images = noise(2, 3, height, width)
    gain = torch.ones(1, 1, height, width // 2 + 1, dtype=torch.float64)
    assert_close(filter_images(images, gain), images)


@pytest.mark.parametrize(("height", "width"), [(6, 6), (5, 7), (4, 5)])
def test_filtering_is_circular_convolution(height: int, width: int) -> None:
    images = noise(1, 2, height, width)
    taps = {(0, 0): 0.5, (0, 1): 0.2, (0, -1): 0.2, (1, 0): -0.3, (-1, 0): -0.3}
    # The taps are symmetric, so that their transform is real.
    gain = torch.zeros(height, width // 2 + 1, dtype=torch.float64)
    expected = torch.zeros_like(images)
    for (down, right), tap in taps.items():
        for u in range(height):
            for v in range(width // 2 + 1):
                gain[u, v] += tap * math.cos(2 * math.pi * (u * down / height + v * right / width))
        for y in range(height):
            for x in range(width):
                source = images[:, :, (y - down) % height, (x - right) % width]
                expected[:, :, y, x] += tap * source
    assert_close(filter_images(images, gain[None, None]), expected)


def test_gains_of_each_image_are_its_own() -> None:
    images = noise(3, 2, 8, 8)
    gain = torch.rand(3, 1, 8, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole = filter_images(images, gain)
    for number in range(3):
        one = slice(number, number + 1)
        assert_close(filter_images(images[one], gain[one]), whole[one])


def test_a_gain_on_frequency_zero_scales_the_mean_alone() -> None:
    images = noise(2, 1, 8, 8)
    gain = torch.ones(1, 1, 8, 5, dtype=torch.float64)
    gain[..., 0, 0] = 3
    assert_close(filter_images(images, gain), images + 2 * images.mean(dim=(2, 3), keepdim=True))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 9)])
def test_shaped_noise_has_the_spectrum_asked_for(height: int, width: int) -> None:
    amplitude = 0.5 + radius_grid(height, width).double()
    white = noise(3000, 1, height, width, 2)
    fields = shape_noise(white, amplitude.expand(3000, -1, -1))
    assert fields.shape == (3000, 2, height, width)
    # The mean of 6,000 powers of a relative spread of at most sqrt(2): 5 standard deviations are 9 %.
    assert_close(power_spectrum(fields).mean(dim=(0, 1)), amplitude.square(), rtol=0.1, atol=0)
    first, second = fields[:, 0].flatten(), fields[:, 1].flatten()
    assert float(torch.corrcoef(torch.stack([first, second]))[0, 1]) == pytest.approx(0, abs=0.02)


def test_white_numbers_through_a_flat_amplitude_keep_their_energy() -> None:
    white = noise(2, 1, 6, 6, 2)
    fields = shape_noise(white, torch.ones(2, 6, 6, dtype=torch.float64))
    assert_close(fields.square().sum(dim=(1, 2, 3)), white.square().sum(dim=(1, 2, 3, 4)))
