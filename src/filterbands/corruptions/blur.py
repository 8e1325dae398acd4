"""Blurs: defocus_blur.

Source: Hendrycks, Dietterich 2019, arXiv:1903.12261, with the semantics of its CIFAR-10-C generator.
"""

from functools import lru_cache

import numpy as np

from ..types import Images, Keys
from .pixels import border_index, correlate, to_bytes


def defocus_blur(images: Images, parameters: tuple[float, ...], *, key: Keys) -> Images:  # noqa: ARG001
    """Return images seen through a disk, itself softened by a small Gaussian.

    Args:
        images: Bytes.
        parameters: Radius of the disk and standard deviation of the Gaussian, in pixels.
        key: Not used.
    """
    return to_bytes(correlate(images, disk(*parameters), border="reflect-101").div_(255))


@lru_cache(maxsize=32)
def disk(radius: float, sigma: float) -> tuple[tuple[float, ...], ...]:
    """Return the kernel of `defocus_blur`, in the float32 steps that make the original's.

    The disk stands on a 17 x 17 grid (2 * radius + 1 above radius 8) and is blurred with 3 x 3 (5 x 5)
    weights, border reflect-101. A disk that touches the frame so gets a sum of up to 1.013: it brightens.
    """
    reach, margin = (8, 1) if radius <= 8 else (int(radius), 2)
    steps = np.arange(-reach, reach + 1)
    kernel = (steps[:, None] ** 2 + steps[None] ** 2 <= radius**2).astype(np.float32)
    kernel /= kernel.sum()
    taps = np.exp(-(np.arange(-margin, margin + 1.0) ** 2) / (2 * sigma * sigma)).astype(np.float32)
    taps = (taps * (1 / taps.sum(dtype=np.float64))).astype(np.float32)
    index = np.array(border_index(len(steps), margin, "reflect-101"))
    for _ in range(2):
        kernel = kernel.T[index]
        middle = taps[margin] * kernel[margin:-margin]
        for step in range(1, margin + 1):
            pair = kernel[margin - step : len(index) - margin - step] + kernel[margin + step :][: len(steps)]
            middle = middle + taps[margin + step] * pair
        kernel = middle
    used = max(np.abs(steps[np.any(kernel != 0, axis=axis)]).max() for axis in (0, 1))
    kernel = kernel[reach - used : reach + used + 1, reach - used : reach + used + 1]
    return tuple(tuple(float(value) for value in row) for row in kernel)
