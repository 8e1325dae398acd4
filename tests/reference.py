"""Slow definitions, transcribed as they are written, which the fast ones are held against."""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def power(kernels: Array, dilation: tuple[int, int], size: int) -> tuple[Array, Array, Array]:
    """Return vertical and horizontal frequencies and the power spectrum of one filter's kernels (c, kh, kw).

    P(u, v) = sum over channels of |sum over taps of w[y, x] exp(-2 pi i (u y + v x))|^2, at the midpoints of
    size x size cells of the unit square [-1/2, 1/2]^2.
    """
    frequency = (np.arange(size) + 0.5) / size - 0.5
    rows = np.exp(-2j * math.pi * np.outer(frequency, np.arange(kernels.shape[1]) * dilation[0]))
    columns = np.exp(-2j * math.pi * np.outer(frequency, np.arange(kernels.shape[2]) * dilation[1]))
    total = np.zeros((size, size))
    for kernel in kernels:
        total += np.abs(rows @ kernel @ columns.T) ** 2
    u, v = np.meshgrid(frequency, frequency, indexing="ij")
    return u, v, total


def low_energy(
    kernels: Array, cutoff: float, dilation: tuple[int, int] = (1, 1), *, size: int = 512
) -> float:
    """Return the share of one filter's power with u^2 + v^2 <= cutoff^2."""
    u, v, spectrum = power(kernels, dilation, size)
    return float(spectrum[np.hypot(u, v) <= cutoff].sum() / spectrum.sum())


def centroid(kernels: Array, dilation: tuple[int, int] = (1, 1), *, size: int = 512) -> float:
    """Return the power-weighted mean of sqrt(u^2 + v^2)."""
    u, v, spectrum = power(kernels, dilation, size)
    return float((np.hypot(u, v) * spectrum).sum() / spectrum.sum())


def aliased_energy(
    kernels: Array, stride: tuple[int, int], dilation: tuple[int, int] = (1, 1), *, size: int = 512
) -> float:
    """Return the share of power outside of |u| <= 1 / (2 stride[0]), |v| <= 1 / (2 stride[1])."""
    u, v, spectrum = power(kernels, dilation, size)
    kept = (np.abs(u) <= 0.5 / stride[0]) & (np.abs(v) <= 0.5 / stride[1])
    return float(1 - spectrum[kept].sum() / spectrum.sum())


def ring_power(
    kernels: Array, radius: float, dilation: tuple[int, int] = (1, 1), *, directions: int = 720
) -> float:
    """Return the mean power on a circle, a white filter's being 1."""
    angle = 2 * math.pi * np.arange(directions) / directions
    u, v = radius * np.sin(angle), radius * np.cos(angle)
    total = np.zeros(directions)
    for kernel in kernels:
        transform = np.zeros(directions, dtype=complex)
        for (y, x), tap in np.ndenumerate(kernel):
            transform += tap * np.exp(-2j * math.pi * (u * y * dilation[0] + v * x * dilation[1]))
        total += np.abs(transform) ** 2
    return float(total.mean() / (kernels**2).sum())
