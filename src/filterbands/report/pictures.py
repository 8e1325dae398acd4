"""Filters, power spectra and images as small pictures inside the page."""

import base64
import io
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..fourier import kernel_power
from .style import ramp

# Dark blue to light yellow, even in lightness, so that it reads in gray and without red or green.
_ANCHORS = ((13, 17, 43), (32, 52, 110), (30, 101, 140), (42, 149, 143), (121, 195, 130), (249, 239, 173))
_TILE = 48
_GRID = 33
EXACT = 64
"""The largest side of an image that is shown pixel by pixel."""
_THUMBNAIL = 128


def filter_picture(kernel: Float[Tensor, "c kh kw"]) -> str:
    """Return a filter as the address of a picture: gray is 0, its largest weight is black or white.

    Three channels are red, green and blue; one is gray; of any other number the mean is shown, gray.
    """
    channels, height, width = kernel.shape
    scaled = kernel.detach().cpu().double()
    if channels != 3:
        scaled = scaled.mean(dim=0, keepdim=True).expand(3, -1, -1)
    largest = float(scaled.abs().max())
    levels = 127.5 + (127.5 / largest if largest > 0 else 0.0) * scaled
    scale = max(1, _TILE // max(height, width))
    pixels = levels.round().to(torch.uint8).permute(1, 2, 0).numpy().repeat(scale, 0).repeat(scale, 1)
    return _address(Image.fromarray(np.ascontiguousarray(pixels)))


def image_picture(pixels: UInt8[Tensor, "3 h w"]) -> str:
    """Return an image as the address of a picture: as it is up to 64 pixels, else made smaller."""
    picture = Image.fromarray(np.ascontiguousarray(pixels.cpu().permute(1, 2, 0).numpy()))
    if max(picture.size) <= EXACT:
        return _address(picture)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def kernels_power(kernels: Float[Tensor, "f c kh kw"]) -> Float[Tensor, "f s s"]:
    """Return the power spectrum of every filter over the square of frequencies; a white one has mean 1."""
    side = max(_GRID, 2 * max(kernels.shape[-2:]) + 1)
    power = kernel_power(kernels.detach().cpu().double(), size=side).sum(dim=1)
    relative: Tensor = power / power.mean(dim=(1, 2), keepdim=True).clamp_min(1e-300)
    return relative


def spectrum_picture(power: Float[Tensor, "s s"], *, peak: float, levels: int = 32) -> str:
    """Return a power spectrum as the address of a picture: 0 is dark, `peak` and above light.

    Frequency zero is in the center, and NaN is transparent. There are at most 255 levels; fewer make smaller
    pictures.
    """
    share = (power / peak if peak > 0 else power).clamp(0, 1)
    numbers = (share * (levels - 1)).round().nan_to_num(levels).to(torch.uint8).numpy()
    picture = _colored(numbers, levels)
    if not bool(share.isnan().any()):
        return _address(picture)
    # NaN has a color of its own: browsers draw a number beyond the palette as the last color in it.
    picture.putpalette(ramp(_ANCHORS, levels).tobytes() + bytes(3))
    return _address(picture, transparency=levels)


def scale_picture() -> str:
    """Return the colors of `spectrum_picture`, from 0 to the peak, as the address of a strip."""
    return _address(_colored(np.arange(64, dtype=np.uint8)[None], 64))


def _colored(numbers: NDArray[np.uint8], levels: int) -> Image.Image:
    """Return the picture of numbers below `levels`."""
    picture = Image.frombytes("P", numbers.shape[::-1], numbers.tobytes())
    picture.putpalette(ramp(_ANCHORS, levels).tobytes())
    return picture


def _address(picture: Image.Image, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True, **options)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
