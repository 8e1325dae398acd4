"""Integrals of a filter's power spectrum, exact, in one, two and three dimensions.

The power spectrum of a filter is P(f) = sum over channels of |DTFT|^2, frequencies in cycles per pixel. An
integral of P against an even weight g(f) is a quadratic form of the taps, `w^T M w` with `M[k, l] = G(d_kl)`:
G is g's Fourier transform and d_kl the distance vector between taps k and l. Nothing is sampled or padded.
Since M depends on the distance vector alone, `w^T M w` is also the dot product of the filter's
autocorrelation with G: one autocorrelation serves every figure.

Each function below that ends in `_kernel` returns such a G at all distance vectors of a kernel of the given
size, in the order of `autocorrelation`.
"""

import math
from collections.abc import Callable
from functools import lru_cache, wraps
from itertools import product
from typing import ParamSpec, TypeVar, cast

import torch
from jaxtyping import Float, Int64
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from ..engine import settle_kernels

_P = ParamSpec("_P")
_T = TypeVar("_T")

Sides = tuple[int, ...]
"""One whole number per axis, the vertical one before the horizontal one."""

NYQUIST = 0.5
"""The largest radius whose ball fits into the cube of frequencies."""


def constant(compute: Callable[_P, _T]) -> Callable[_P, _T]:
    """Return the function with a memory, whose tensors are plain ones on the CPU whoever asks first.

    Made under `torch.inference_mode`, a remembered tensor would break a later backward pass; made under
    `torch.device("meta")` it would hold no numbers.
    """

    @wraps(compute)
    def computed(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        settle_kernels()
        with torch.inference_mode(False), torch.device("cpu"):
            return compute(*args, **kwargs)

    return cast(Callable[_P, _T], lru_cache(maxsize=1024)(computed))


def volume(radius: float, dimensions: int) -> float:
    """Return the length, area or volume of the ball, the energy of a white filter within it.

    >>> round(volume(0.25, 1), 3), round(volume(0.25, 2), 3)
    (0.5, 0.196)
    """
    return (2 * radius, math.pi * radius**2, 4 / 3 * math.pi * radius**3)[dimensions - 1]


def autocorrelation(weight: Float[Tensor, "f c *k"]) -> Float[Tensor, "f lags"]:
    """Return each filter's autocorrelation, summed over channels, at all distance vectors.

    The product of (2 k - 1) over the axes is their number; distance 0 stands in the middle.
    """
    filters, channels, *size = weight.shape
    taps = math.prod(size)
    place = lag_of_taps(tuple(size)).reshape(-1)
    lags = math.prod(2 * side - 1 for side in size)
    parts = []
    # Chunks bound the memory of the tap-by-tap products of large kernels.
    for part in torch.split(weight.reshape(filters, channels, taps), max(1, 2**22 // taps**2)):
        products = part.transpose(1, 2) @ part
        parts.append(
            products.new_zeros(len(part), lags).index_add_(1, place, products.reshape(len(part), -1))
        )
    return torch.cat(parts)


def form_matrix(kernel: Float[Tensor, " lags"], size: Sides) -> Float[Tensor, "taps taps"]:
    """Return the quadratic form over the taps that a kernel of distances stands for."""
    matrix: Tensor = kernel[lag_of_taps(size)]
    return matrix


@constant
def ball_kernel(size: Sides, dilation: Sides, radius: float) -> Float[Tensor, " lags"]:
    """Return the weights that give the energy within a ball around frequency zero."""
    distance = _lags(size, dilation).norm(dim=1)
    apart = distance.clamp_min(1.0)
    angle = 2 * math.pi * radius * apart
    inside: Tensor
    if len(size) == 1:
        inside = torch.sin(angle) / (math.pi * apart)
    elif len(size) == 2:
        inside = radius * torch.special.bessel_j1(angle) / apart
    else:
        inside = (torch.sin(angle) - angle * torch.cos(angle)) / (2 * math.pi**2 * apart**3)
    return torch.where(distance > 0, inside, volume(radius, len(size)))


@constant
def sphere_kernel(size: Sides, dilation: Sides, radius: float) -> Float[Tensor, " lags"]:
    """Return the weights that give the mean power at a radius, over all directions; a white filter has 1."""
    distance = _lags(size, dilation).norm(dim=1)
    angle = 2 * math.pi * radius * distance
    if len(size) == 1:
        return torch.cos(angle)
    return torch.special.bessel_j0(angle) if len(size) == 2 else torch.sinc(angle / math.pi)


@constant
def unaliased_kernel(size: Sides, dilation: Sides, stride: Sides) -> Float[Tensor, " lags"]:
    """Return the weights that give the energy within |f| <= 1 / (2 stride) on every axis."""
    steps = torch.tensor(stride, dtype=torch.float64)
    kept: Tensor = (torch.sinc(_lags(size, dilation) / steps) / steps).prod(dim=1)
    return kept


@constant
def centroid_kernel(size: Sides, dilation: Sides) -> Float[Tensor, " lags"]:
    """Return the weights that give energy times mean radius, over the whole cube of frequencies.

    The integral of |f| prod_i cos(2 pi f_i d_i) over the orthant is multiplied by 2 to the power of the
    dimensions. The orthant is cut into one pyramid per axis, in which the frequency s of that axis is the
    largest. The other frequencies are written s t, so that the radius, which has a kink at frequency 0,
    becomes the smooth function s sqrt(1 + t^2). The product of cosines is the mean of cosines of s times
    sums and differences of distances, whose integral over s is known. For t, the Gauss-Legendre rule
    converges exponentially.
    """
    axes = [torch.arange(side, dtype=torch.float64) * step for side, step in zip(size, dilation, strict=True)]
    apart = _points(axes)
    quarter = torch.zeros(len(apart), dtype=torch.float64)
    for main in range(len(size)):
        others = [axis for axis in range(len(size)) if axis != main]
        points, masses = torch.zeros(1, 0, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        if others:
            # With t, the cosines run through half a turn per pixel of distance at most.
            rules = [_gauss_legendre(32 + 2 * int(axes[axis][-1])) for axis in others]
            points = _points([nodes for nodes, _ in rules])
            masses = _points([weights for _, weights in rules]).prod(dim=1)
        masses = masses * (1 + points.square().sum(dim=1)).sqrt() / 2 ** len(others)
        # In chunks: all points of a volume at all distances would take much memory.
        for part, mass in zip(
            *(torch.split(each, 2**22 // len(apart)) for each in (points, masses)), strict=True
        ):
            for signs in product((1.0, -1.0), repeat=len(others)):
                shifts = apart[:, others] * torch.tensor(signs, dtype=torch.float64) @ part.T
                quarter += _radial(apart[:, main, None] + shifts, len(size)) @ mass
    quarter = quarter.reshape(size)
    whole: Tensor = 2 ** len(size) * quarter
    for axis in range(len(size)):
        whole = torch.cat([whole.narrow(axis, 1, whole.shape[axis] - 1).flip(axis), whole], dim=axis)
    return whole.reshape(-1)


@constant
def direction_kernel(size: Sides, dilation: Sides, degrees: float) -> Float[Tensor, " lags"]:
    """Return the weights that give the power in a direction of the plane up to Nyquist; white ones have 1.

    It is the mean over radii up to 1/2, each weighted by its circumference. Direction 0 is the horizontal
    frequency, which vertical edges have, and 90 the vertical one.
    """
    return _directions(size, dilation, torch.tensor([degrees], dtype=torch.float64))[:, 0]


@constant
def wedge_kernel(
    size: Sides, dilation: Sides, wedges: tuple[tuple[float, float], ...]
) -> Float[Tensor, " lags"]:
    """Return the weights that give the energy up to Nyquist in wedges from one direction to another."""
    nodes, weights = _gauss_legendre(24 + 4 * max(size) * max(dilation))
    # A direction and its opposite have the same power, so that 180 degrees are all there is.
    parts = [
        (last - first) / 180 * _directions(size, dilation, first + (last - first) * nodes) @ weights
        for first, last in wedges
    ]
    return volume(NYQUIST, 2) * torch.stack(parts).sum(dim=0)


@constant
def lag_of_taps(size: Sides) -> Int64[Tensor, "taps taps"]:
    """Return, for taps k and l, the position of their distance vector among the lags."""
    taps = _points([torch.arange(side) for side in size])
    place = torch.zeros(len(taps), len(taps), dtype=torch.int64)
    for axis, side in enumerate(size):
        apart = taps[:, None, axis] - taps[None, :, axis] + side - 1
        place = place * (2 * side - 1) + apart
    return place


@constant
def _lags(size: Sides, dilation: Sides) -> Float[Tensor, "lags axes"]:
    """Return the distances, in pixels, between any two taps."""
    axes = zip(size, dilation, strict=True)
    return _points([torch.arange(1 - side, side, dtype=torch.float64) * step for side, step in axes])


def _directions(size: Sides, dilation: Sides, degrees: Float[Tensor, " n"]) -> Float[Tensor, "lags n"]:
    angle = torch.deg2rad(degrees)
    along = _lags(size, dilation) @ torch.stack([angle.sin(), angle.cos()])
    # The integral of r cos(2 pi r t) up to R, over R^2 / 2, with R = 1/2.
    power: Tensor = 2 * torch.sinc(along) - torch.sinc(along / 2).square()
    return power


def _radial(distance: Float[Tensor, "lags n"], power: int) -> Float[Tensor, "lags n"]:
    """Return the integral of s^power cos(2 pi s d) for s from 0 to 1/2, for a power of 1, 2 or 3."""
    x = math.pi * distance
    is_near = x.abs() < 2
    inverse = x.masked_fill(is_near, 2.0).reciprocal()
    sine, cosine = x.sin(), x.cos()
    if power == 1:
        found = inverse * (sine + inverse * (cosine - 1))
    elif power == 2:
        found = inverse * (sine + inverse * (2 * cosine - 2 * inverse * sine))
    else:
        found = inverse * (sine + inverse * (3 * cosine - 6 * inverse * (sine + inverse * (cosine - 1))))
    # Near 0 these differences lose their digits, and the power series has more than enough with 12 terms.
    square = x[is_near].square()
    near = torch.zeros_like(square)
    for term in reversed(range(12)):
        near = near * square + (-1) ** term / (math.factorial(2 * term) * (2 * term + power + 1))
    found[is_near] = near
    moment: Tensor = found / 2 ** (power + 1)
    return moment


def _points(axes: list[Tensor]) -> Tensor:
    """Return every combination of the axes' values, the last axis running fastest."""
    return torch.cartesian_prod(*axes).reshape(-1, len(axes))


@constant
def _gauss_legendre(count: int) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return nodes and weights on [0, 1]."""
    nodes, weights = (torch.from_numpy(values) for values in leggauss(count))
    return (nodes + 1) / 2, weights / 2
