"""Fourier conventions of the whole library, and the only calls of `torch.fft`.

Frequencies are in cycles per pixel, the vertical one first; the radius is their Euclidean norm. The power
spectrum of an array is |DFT|^2 divided by the number of pixels. Its mean over frequencies is then the mean of
the squares (Parseval).
"""

import math

import torch
from jaxtyping import Complex, Float, Int64
from torch import Tensor

from .engine import settle_kernels


def radius_grid(
    height: int, width: int, *, half: bool = False, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "h v"]:
    """Return the radius of each DFT frequency, in cycles per pixel, in the order of `torch.fft`.

    Args:
        height: Rows of the image.
        width: Columns of the image.
        half: Keep only the columns that `rfft2` returns.
        dtype: Type of the numbers, whatever torch's default is.

    >>> f"{radius_grid(4, 4).max():.4f}"
    '0.7071'
    """
    vertical = torch.fft.fftfreq(height, dtype=dtype)
    horizontal = (torch.fft.rfftfreq if half else torch.fft.fftfreq)(width, dtype=dtype)
    return torch.hypot(vertical[:, None], horizontal[None])


def power_spectrum(arrays: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
    """Return |DFT|^2 / (h w), frequency zero first."""
    power: Tensor = torch.fft.fft2(arrays).abs().square() / (arrays.shape[-1] * arrays.shape[-2])
    return power


def kernel_power(kernels: Float[Tensor, "*b kh kw"], *, size: int) -> Float[Tensor, "*b {size} {size}"]:
    """Return |DTFT|^2 of kernels on a size x size grid, frequency zero in the center (at size // 2)."""
    return centered(torch.fft.fft2(kernels, s=(size, size)).abs().square())


def filter_images(
    images: Float[Tensor, "b c h w"], gain: Float[Tensor, "#b #c h v"]
) -> Float[Tensor, "b c h w"]:
    """Return images whose spectrum is multiplied by a real gain on the half grid (circular, zero phase).

    Args:
        images: NCHW.
        gain: One factor per frequency of `rfft2`, broadcast over images and channels.
    """
    spectrum = torch.fft.rfft2(images) * gain
    filtered: Tensor = torch.fft.irfft2(spectrum, s=images.shape[-2:])
    return filtered


def shape_noise(
    white: Float[Tensor, "b pairs h w 2"], amplitude: Float[Tensor, "b h w"]
) -> Float[Tensor, "b fields h w"]:
    """Return real noise fields, two per pair, whose mean power spectrum is `amplitude` squared (periodic).

    The real and the imaginary part of the transform of complex white noise are independent real fields.
    Therefore no symmetry is required and no second transform is needed.

    Args:
        white: Independent numbers of mean 0 and variance 1: real and imaginary parts.
        amplitude: One non-negative factor per frequency, in the order of `radius_grid`.
    """
    spectrum = torch.view_as_complex(white) * amplitude[:, None]
    fields = torch.view_as_real(torch.fft.ifft2(spectrum, norm="ortho"))
    flat: Tensor = fields.movedim(-1, 2).flatten(1, 2)
    return flat


def from_half_spectrum(spectrum: Complex[Tensor, "*b h v"], *, width: int) -> Float[Tensor, "*b h w"]:
    """Return the real arrays of this width whose `rfft2` is given.

    >>> from_half_spectrum(torch.ones(4, 3, dtype=torch.complex64), width=4)[0].tolist()
    [1.0, 0.0, 0.0, 0.0]
    """
    arrays: Tensor = torch.fft.irfft2(spectrum, s=(spectrum.shape[-2], width))
    return arrays


def swap_amplitude(
    phases: Float[Tensor, "b c h w"], amplitudes: Float[Tensor, "b c h w"], *, across_channels: bool = False
) -> Float[Tensor, "b c h w"]:
    """Return images whose spectra have the phases of one batch and the amplitudes of another.

    Args:
        phases: NCHW. Where its spectrum is 0 up to rounding, its phase is taken as 0.
        amplitudes: The same number of images.
        across_channels: Transform the channels too, like a third side.

    >>> image = torch.rand(1, 3, 4, 4)
    >>> bool(torch.allclose(swap_amplitude(image, image), image, atol=1e-6))
    True
    """
    if len(phases) == 0:
        return phases
    axes = (1, 2, 3) if across_channels else (2, 3)
    kept, other = (torch.fft.rfftn(images, dim=axes) for images in (phases, amplitudes))
    size = kept.abs()
    # The phase of a coefficient that is 0 up to rounding is random: it changes with batch size and device.
    known = size > 1e-6 * size.amax(dim=(1, 2, 3), keepdim=True)
    mixed = torch.polar(other.abs(), torch.where(known, kept.angle(), 0.0))
    swapped: Tensor = torch.fft.irfftn(mixed, s=[phases.shape[axis] for axis in axes], dim=axes)
    return swapped


def fourier_basis(
    height: int, width: int, vertical: Int64[Tensor, " b"], horizontal: Int64[Tensor, " b"]
) -> Float[Tensor, "b {height} {width}"]:
    """Return the real images of unit L2 norm whose spectrum is one frequency and its mirror image.

    The images are cosines: frequencies (-i, -j) and (i, j) give the same image, and no image vanishes where a
    frequency is its own mirror image.

    Args:
        height: Rows.
        width: Columns.
        vertical: Vertical frequencies, in whole cycles per image.
        horizontal: Horizontal frequencies, in whole cycles per image; the same number.

    Source: U_ij of Yin et al. 2019, arXiv:1906.08988, section 2, which leaves the phase open.

    >>> float(fourier_basis(32, 32, torch.tensor([3]), torch.tensor([-5])).norm().round(decimals=4))
    1.0
    """
    settle_kernels()
    down = torch.arange(height, device=vertical.device)[:, None] * width
    right = torch.arange(width, device=vertical.device)[None] * height
    # Whole numbers, taken from the nearer end of the period, make mirror images equal to the last bit.
    turns = (vertical[:, None, None] * down + horizontal[:, None, None] * right) % (height * width)
    turns = torch.minimum(turns, height * width - turns)
    waves = torch.cos(turns.double() * (2 * math.pi / (height * width)))
    unit: Tensor = (waves / waves.flatten(1).norm(dim=1)[:, None, None]).float()
    return unit


def amplitude_image(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "1 c h w"]:
    """Return the image of zero phase whose amplitude spectrum is the mean of those of the images."""
    amplitude = torch.fft.rfft2(images).abs().mean(dim=0, keepdim=True)
    image: Tensor = torch.fft.irfft2(amplitude, s=images.shape[-2:])
    return image


def centered(spectrum: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
    """Return an array of frequencies with zero moved from the corner to the center, (h // 2, w // 2)."""
    shifted: Tensor = torch.fft.fftshift(spectrum, dim=(-2, -1))
    return shifted
