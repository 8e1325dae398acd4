"""Fourier conventions of the whole library, and the only calls of `torch.fft`.

Frequencies are in cycles per pixel, the vertical one first; radius is their Euclidean norm; the power
spectrum of an array is |DFT|^2 divided by its number of pixels, so that its mean over frequencies is the
mean of the squares (Parseval).
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor


def radius_grid(height: int, width: int, *, half: bool = False) -> Float[Tensor, "h v"]:
    """Return the radius of every DFT frequency, in cycles per pixel, in the order of `torch.fft`.

    Args:
        height: Rows of the image.
        width: Columns of the image.
        half: Keep only the columns that `rfft2` returns.

    >>> f"{radius_grid(4, 4).max():.4f}"
    '0.7071'
    """
    vertical = torch.fft.fftfreq(height)
    horizontal = torch.fft.rfftfreq(width) if half else torch.fft.fftfreq(width)
    return torch.hypot(vertical[:, None], horizontal[None])


def power_spectrum(arrays: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
    """Return |DFT|^2 / (h w), frequency zero first."""
    power: Tensor = torch.fft.fft2(arrays).abs().square() / (arrays.shape[-1] * arrays.shape[-2])
    return power


def kernel_power(kernels: Float[Tensor, "*b kh kw"], *, size: int) -> Float[Tensor, "*b {size} {size}"]:
    """Return |DTFT|^2 of kernels on a size x size grid, frequency zero in the centre (at size // 2)."""
    spectrum = torch.fft.fft2(kernels, s=(size, size)).abs().square()
    centred: Tensor = torch.fft.fftshift(spectrum, dim=(-2, -1))
    return centred


def filter_images(
    images: Float[Tensor, "b c h w"], gain: Float[Tensor, "#b #c h v"]
) -> Float[Tensor, "b c h w"]:
    """Return images whose spectrum is multiplied by a real gain on the half grid (circular, zero phase).

    Args:
        images: NCHW.
        gain: One factor a frequency of `rfft2`, broadcast over images and channels.
    """
    spectrum = torch.fft.rfft2(images) * gain
    filtered: Tensor = torch.fft.irfft2(spectrum, s=images.shape[-2:])
    return filtered


def shape_noise(
    white: Float[Tensor, "b pairs h w 2"], amplitude: Float[Tensor, "b h w"]
) -> Float[Tensor, "b fields h w"]:
    """Return real noise fields, two a pair, whose mean power spectrum is `amplitude` squared (periodic).

    The real and the imaginary part of the transform of complex white noise are independent real fields, so
    that no symmetry has to be kept and no second transform is needed.

    Args:
        white: Independent numbers of mean 0 and variance 1: real and imaginary parts.
        amplitude: One non-negative factor a frequency, in the order of `radius_grid`.
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
