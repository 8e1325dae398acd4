"""The mathematics of low and high: a filter's spectrum, integrated exactly over parts of the frequency plane.

The power spectrum of a filter is P(u, v) = sum over channels of |DTFT|^2, frequencies in cycles per pixel.
Every integral of P against a weight g(u, v) that is even is a quadratic form of the taps,
`w^T M w` with `M[k, l] = G(d_kl)`: G is g's Fourier transform and d_kl the distance vector between taps k
and l. Nothing is sampled or padded. Since M depends on the distance vector alone, `w^T M w` is also the dot
product of the filter's autocorrelation with G, which serves where many forms of one filter are wanted.
"""

import math
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ..types import Filters, Taps

EQUAL_AREA = 1 / math.sqrt(2 * math.pi)
"""The radius, 0.39894 cycles per pixel, whose disc covers half of the frequency square."""

# Eigenvalues and shares closer than this to a line are on it: rounding is some 1e-15.
_ON_THE_LINE = 1e-9

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _constant(compute: Callable[_P, _T]) -> Callable[_P, _T]:
    """Return the function with a memory, whose tensors are plain ones on the CPU whoever asks first.

    Made under `torch.inference_mode`, a remembered tensor would break a later backward pass; made under
    `torch.device("meta")` it would hold no numbers.
    """

    @wraps(compute)
    def computed(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with torch.inference_mode(False), torch.device("cpu"):
            return compute(*args, **kwargs)

    return cast(Callable[_P, _T], lru_cache(maxsize=1024)(computed))


def line(cutoff: float) -> float:
    """Return the low-frequency energy of a white filter at a cutoff, the line between low and high.

    It is the area of the disc, and the mean eigenvalue of `energy_matrix`.

    Args:
        cutoff: Radius in (0, 1/2], cycles per pixel.

    Raises:
        ValueError: The cutoff is outside of its range.

    >>> round(line(EQUAL_AREA), 6)
    0.5
    """
    check_cutoff(cutoff)
    return math.pi * cutoff**2


def energy_matrix(kh: int, kw: int, *, cutoff: float, dilation: tuple[int, int] = (1, 1)) -> Taps:
    """Return the float64 matrix B: `w^T B w` is the energy of a kernel within the disc of radius `cutoff`.

    Its eigenvalues lie in [0, 1], and its diagonal is `line(cutoff)`. Taps are numbered row by row.

    Args:
        kh: Rows of the kernel.
        kw: Columns of the kernel.
        cutoff: Radius in (0, 1/2], cycles per pixel.
        dilation: Pixels between neighbouring taps, vertically and horizontally.

    Raises:
        ValueError: A size or dilation below 1, or a cutoff outside of its range.

    Source: Simons, Wang 2011, "Spatiospectral concentration in the Cartesian plane" (Int. J. Geomath. 2),
    the circular spectral band of section 4, on the pixel lattice.

    >>> energy_matrix(3, 3, cutoff=EQUAL_AREA)[0, :3].round(decimals=4)
    tensor([ 0.5000,  0.1977, -0.0656], dtype=torch.float64)
    """
    check_cutoff(cutoff)
    _check_kernel(kh, kw, dilation)
    return _energy_matrix(kh, kw, cutoff, dilation).clone()


def centroid_matrix(kh: int, kw: int, *, dilation: tuple[int, int] = (1, 1)) -> Taps:
    """Return the float64 matrix A: `w^T A w / w^T w` is a kernel's power-weighted mean radius.

    The mean is over the whole frequency square; a white kernel has 0.3826 cycles per pixel.

    Args:
        kh: Rows of the kernel.
        kw: Columns of the kernel.
        dilation: Pixels between neighbouring taps.

    Raises:
        ValueError: A size or dilation below 1.

    >>> float(centroid_matrix(1, 1).round(decimals=4))
    0.3826
    """
    _check_kernel(kh, kw, dilation)
    return _matrix(centroid_kernel(kh, kw, dilation), kh, kw)


def unaliased_matrix(
    kh: int, kw: int, *, stride: tuple[int, int], dilation: tuple[int, int] = (1, 1)
) -> Taps:
    """Return the float64 matrix Q: `w^T Q w` is a kernel's energy that a stride does not alias.

    That is the energy within |u| <= 1 / (2 stride), per axis; the rest folds over lower frequencies.

    Args:
        kh: Rows of the kernel.
        kw: Columns of the kernel.
        stride: Pixels between outputs, vertically and horizontally; with 1 nothing is aliased.
        dilation: Pixels between neighbouring taps.

    Raises:
        ValueError: A size, stride or dilation below 1.

    >>> unaliased_matrix(1, 2, stride=(2, 2)).round(decimals=4)
    tensor([[0.2500, 0.1592],
            [0.1592, 0.2500]], dtype=torch.float64)
    """
    _check_kernel(kh, kw, dilation)
    if min(stride) < 1:
        raise ValueError(f"stride needs two numbers of at least 1, got {stride}")
    return _matrix(unaliased_kernel(kh, kw, stride, dilation), kh, kw)


def eigenfilters(kh: int, kw: int, *, cutoff: float) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """Return the kernels ordered by low-frequency energy: that energy, descending, and the kernels as rows.

    They are orthonormal and fill the space of kernels; each is even or odd in either axis. Where several
    have the same energy, as horizontal and vertical edges have, their order and signs are fixed.

    Args:
        kh: Rows of the kernel.
        kw: Columns of the kernel.
        cutoff: Radius in (0, 1/2], cycles per pixel.

    Raises:
        ValueError: A size below 1, or a cutoff outside of its range.

    Source: Slepian 1983, "Some comments on Fourier analysis, uncertainty and modeling" (SIAM Review 25);
    Simons, Wang 2011.

    >>> eigenfilters(3, 3, cutoff=EQUAL_AREA)[0][:4].round(decimals=3)
    tensor([0.9940, 0.8970, 0.8970, 0.6340], dtype=torch.float64)
    """
    check_cutoff(cutoff)
    _check_kernel(kh, kw, (1, 1))
    values, vectors = _eigenfilters(kh, kw, cutoff)
    return values.clone(), vectors.clone()


def spans(
    kh: int, kw: int, *, cutoff: float = EQUAL_AREA, guard: float = 0.1, zero_mean: bool = True
) -> tuple[Float[Tensor, "n taps"], Float[Tensor, "m taps"]]:
    """Return orthonormal bases, as rows, of the low and the high part of the space of kernels.

    Every kernel of the low span has at least `line + guard` of its energy within the cutoff, every one of
    the high span at most `line - guard`. With `guard=0` and `zero_mean=False` the two fill the space.
    Either may be empty: a 1x1 kernel has neither.

    Args:
        kh: Rows of the kernel.
        kw: Columns of the kernel.
        cutoff: Radius in (0, 1/2], cycles per pixel.
        guard: Distance from the line, in [0, 1), within which an eigenfilter belongs to neither.
        zero_mean: Keep only those kernels of the high span whose taps sum to 0.

    Raises:
        ValueError: A size, cutoff or guard outside of its range.

    >>> low, high = spans(3, 3)
    >>> len(low), len(high)
    (4, 4)
    """
    check_cutoff(cutoff)
    _check_kernel(kh, kw, (1, 1))
    if not 0 <= guard < 1:
        raise ValueError(f"guard needs a number from 0 to below 1, got {guard}")
    values, vectors = _eigenfilters(kh, kw, cutoff)
    middle = line(cutoff)
    is_low = values >= middle + guard - _ON_THE_LINE
    is_high = (values <= middle - guard + _ON_THE_LINE) & ~is_low
    high = vectors[is_high]
    if zero_mean:
        high = _without_mean(high, _energy_matrix(kh, kw, cutoff, (1, 1)))
    return vectors[is_low], high


def filters_low_energy(
    weight: Filters, cutoff: float = EQUAL_AREA, *, dilation: tuple[int, int] = (1, 1)
) -> Float[Tensor, " f"]:
    """Return the share of each filter's energy within the cutoff; differentiable, the scale does not matter.

    The computation is in the weight's own precision, in float32 for shorter ones. A filter of zeros gets
    `line(cutoff)`, what a white one has, and no gradient.

    Args:
        weight: Filters, channels, height, width, as `torch.nn.Conv2d` holds them.
        cutoff: Radius in (0, 1/2], cycles per pixel.
        dilation: Pixels between neighbouring taps.

    Raises:
        ValueError: Not four axes, kernels of one tap, a weight that is not real floating point, or a
            cutoff or dilation outside of its range.

    >>> filters_low_energy(torch.ones(1, 1, 3, 3)).round(decimals=3)
    tensor([0.8950])
    """
    check_cutoff(cutoff)
    if weight.ndim != 4 or 0 in weight.shape:
        raise ValueError(
            "filters_low_energy needs weights of shape (filters, channels, kh, kw), "
            f"got {tuple(weight.shape)}"
        )
    if not weight.is_floating_point():
        raise ValueError(f"filters_low_energy needs real floating-point weights, got {weight.dtype}")
    filters, channels, kh, kw = weight.shape
    if kh * kw == 1:
        raise ValueError(
            "filters_low_energy needs kernels of more than one tap: a 1x1 kernel has no spectrum"
        )
    _check_kernel(kh, kw, dilation)
    dtype = weight.dtype if weight.dtype in (torch.float32, torch.float64) else torch.float32
    matrix = _energy_matrix(kh, kw, cutoff, dilation).to(weight.device, dtype)
    kernels: Tensor = weight.to(dtype).reshape(filters, channels, kh * kw)
    # Scaled to 1, so that squares of tiny or huge weights neither vanish nor overflow; the share does not
    # depend on the scale, and so its gradient is right with the scale held constant.
    tiny = torch.finfo(dtype).tiny
    kernels = kernels / kernels.detach().abs().amax(dim=(1, 2), keepdim=True).clamp_min(tiny)
    inside = ((kernels @ matrix) * kernels).sum(dim=(1, 2))
    share: Tensor = (inside + line(cutoff) * tiny) / (kernels.square().sum(dim=(1, 2)) + tiny)
    return share


def chance_moments(
    kh: int, kw: int, channels: int, *, cutoff: float = EQUAL_AREA, dilation: tuple[int, int] = (1, 1)
) -> tuple[float, float]:
    """Return mean and standard deviation of the low-frequency energy of a white Gaussian filter.

    Exact: the share depends on the filter's direction alone, which is uniform on the sphere.

    Args:
        kh: Rows of the kernel.
        kw: Columns of the kernel.
        channels: Channels that one filter sees.
        cutoff: Radius in (0, 1/2], cycles per pixel.
        dilation: Pixels between neighbouring taps.

    Raises:
        ValueError: A size or number of channels below 1, or a cutoff outside of its range.

    >>> [round(figure, 3) for figure in chance_moments(3, 3, 3)]
    [0.5, 0.09]
    """
    check_cutoff(cutoff)
    _check_kernel(kh, kw, dilation)
    if channels < 1:
        raise ValueError(f"channels needs a number of at least 1, got {channels}")
    values = torch.linalg.eigvalsh(_energy_matrix(kh, kw, cutoff, dilation))
    spread = float(values.var(correction=0)) * 2 / (kh * kw * channels + 2)
    return line(cutoff), math.sqrt(spread)


def chance_of_low(
    kh: int, kw: int, channels: int, *, cutoff: float = EQUAL_AREA, dilation: tuple[int, int] = (1, 1)
) -> float:
    """Return the probability that a white Gaussian filter is low, that is, on or above `line(cutoff)`.

    Args:
        kh: Rows of the kernel.
        kw: Columns of the kernel.
        channels: Channels that one filter sees.
        cutoff: Radius in (0, 1/2], cycles per pixel.
        dilation: Pixels between neighbouring taps.

    Raises:
        ValueError: A size or number of channels below 1, or a cutoff outside of its range.

    Source: Imhof 1961, "Computing the distribution of quadratic forms in normal variables" (Biometrika 48),
    equation 3.2, integrated over the logarithm of u by the trapezoid rule.

    >>> round(chance_of_low(3, 3, 3), 3)
    0.493
    """
    check_cutoff(cutoff)
    _check_kernel(kh, kw, dilation)
    if channels < 1:
        raise ValueError(f"channels needs a number of at least 1, got {channels}")
    return _chance_of_low(kh, kw, channels, cutoff, dilation)


def chance_interval(filters: int, probability: float) -> tuple[float, float]:
    """Return the central 95 % interval of the share of low ones among independent filters.

    The count is binomial; each tail beyond the interval holds at most 2.5 %. With fewer than six filters
    the interval of a fair coin is all of [0, 1]: such a count says nothing.

    Args:
        filters: How many, at least 1.
        probability: That one is low.

    Raises:
        ValueError: No filter, or a probability outside of [0, 1].

    >>> chance_interval(64, 0.5)
    (0.375, 0.625)
    """
    if filters < 1 or not 0 <= probability <= 1:
        raise ValueError(
            "chance_interval needs at least 1 filter and a probability in [0, 1], "
            f"got {filters} and {probability}"
        )
    count = torch.arange(filters + 1, dtype=torch.float64, device="cpu")
    p = torch.tensor(probability, dtype=torch.float64, device="cpu")
    ways = math.lgamma(filters + 1) - torch.lgamma(count + 1) - torch.lgamma(filters - count + 1)
    mass = torch.exp(ways + torch.xlogy(count, p) + torch.xlogy(filters - count, 1 - p))
    lowest = int((mass.cumsum(0) > 0.025).nonzero()[0])
    highest = filters - int((mass.flip(0).cumsum(0) > 0.025).nonzero()[0])
    return lowest / filters, highest / filters


def autocorrelation(weight: Float[Tensor, "f c kh kw"]) -> Float[Tensor, "f lags"]:
    """Return each filter's autocorrelation, summed over channels, at all distance vectors.

    Its dot product with one of the kernels below is an integral of the filter's power spectrum.
    The (2 kh - 1)(2 kw - 1) vectors are in the order of those kernels.
    """
    filters, channels, kh, kw = weight.shape
    taps = kh * kw
    place = _lag_of_taps(kh, kw).reshape(-1)
    lags = (2 * kh - 1) * (2 * kw - 1)
    parts = []
    # Chunks bound the memory of the tap-by-tap products of large kernels.
    for part in torch.split(weight.reshape(filters, channels, taps), max(1, 2**22 // taps**2)):
        products = part.transpose(1, 2) @ part
        parts.append(
            products.new_zeros(len(part), lags).index_add_(1, place, products.reshape(len(part), -1))
        )
    return torch.cat(parts)


def disc_kernel(kh: int, kw: int, dilation: tuple[int, int], cutoff: float) -> Float[Tensor, " lags"]:
    """Return the weights on the autocorrelation that give the energy within a disc."""
    distance = torch.hypot(*_lags(kh, kw, dilation))
    apart = distance.clamp_min(1.0)
    inside: Tensor = cutoff * torch.special.bessel_j1(2 * math.pi * cutoff * apart) / apart
    return torch.where(distance > 0, inside, line(cutoff))


def circle_kernel(kh: int, kw: int, dilation: tuple[int, int], radius: float) -> Float[Tensor, " lags"]:
    """Return the weights on the autocorrelation that give the mean power on a circle."""
    distance = torch.hypot(*_lags(kh, kw, dilation))
    power: Tensor = torch.special.bessel_j0(2 * math.pi * radius * distance)
    return power


def unaliased_kernel(
    kh: int, kw: int, stride: tuple[int, int], dilation: tuple[int, int]
) -> Float[Tensor, " lags"]:
    """Return the weights on the autocorrelation that give the energy that a stride does not alias."""
    rows, columns = _lags(kh, kw, dilation)
    kept: Tensor = torch.sinc(rows / stride[0]) * torch.sinc(columns / stride[1]) / (stride[0] * stride[1])
    return kept


def centroid_kernel(kh: int, kw: int, dilation: tuple[int, int]) -> Float[Tensor, " lags"]:
    """Return the weights on the autocorrelation that give energy times mean radius."""
    return _centroid_kernel(kh, kw, dilation)


def check_cutoff(cutoff: float) -> None:
    """Raise ValueError unless the cutoff is in (0, 1/2]: a larger disc would leave the frequency square."""
    if not 0 < cutoff <= 0.5:
        raise ValueError(f"cutoff needs a radius above 0 and up to 0.5 cycles per pixel, got {cutoff}")


def is_low(low_energy: Float[Tensor, "..."], cutoff: float) -> Tensor:
    """Return whether each share of energy is on or above the line."""
    return low_energy >= line(cutoff) - _ON_THE_LINE


def _check_kernel(kh: int, kw: int, dilation: tuple[int, int]) -> None:
    if kh < 1 or kw < 1 or min(dilation) < 1:
        raise ValueError(
            f"a kernel needs a height, width and dilation of at least 1, got {kh}x{kw}, dilation {dilation}"
        )


@_constant
def _lags(
    kh: int, kw: int, dilation: tuple[int, int]
) -> tuple[Float[Tensor, " lags"], Float[Tensor, " lags"]]:
    """Return the vertical and horizontal distances, in pixels, between any two taps."""
    rows = torch.arange(1 - kh, kh, dtype=torch.float64) * dilation[0]
    columns = torch.arange(1 - kw, kw, dtype=torch.float64) * dilation[1]
    return rows.repeat_interleave(len(columns)), columns.repeat(len(rows))


@_constant
def _lag_of_taps(kh: int, kw: int) -> Int64[Tensor, "n n"]:
    """Return, for taps k and l, the position of their distance vector among the lags."""
    rows = torch.arange(kh).repeat_interleave(kw)
    columns = torch.arange(kw).repeat(kh)
    down = rows[:, None] - rows + kh - 1
    across = columns[:, None] - columns + kw - 1
    place: Tensor = down * (2 * kw - 1) + across
    return place


def _matrix(kernel: Float[Tensor, " lags"], kh: int, kw: int) -> Taps:
    matrix: Tensor = kernel[_lag_of_taps(kh, kw)]
    return matrix


@_constant
def _energy_matrix(kh: int, kw: int, cutoff: float, dilation: tuple[int, int]) -> Taps:
    return _matrix(disc_kernel(kh, kw, dilation, cutoff), kh, kw)


@_constant
def _centroid_kernel(kh: int, kw: int, dilation: tuple[int, int]) -> Float[Tensor, " lags"]:
    """Integrate r cos(2 pi u y) cos(2 pi v x) over the square, four times one quadrant.

    The quadrant is halved by its diagonal and u = s, v = s t put in: r becomes s sqrt(1 + t^2), smooth, where
    in u and v it has a kink at 0; Gauss and Legendre's rule then converges exponentially.
    """
    rows = torch.arange(kh, dtype=torch.float64) * dilation[0]
    columns = torch.arange(kw, dtype=torch.float64) * dilation[1]
    # Over the quadrant the cosines run through half a turn a pixel of distance.
    nodes, weights = _gauss_legendre(32 + 2 * int(max(rows[-1], columns[-1])))
    s, t = nodes / 2, nodes
    measure = (weights / 2 * s**2)[:, None] * (weights * torch.sqrt(1 + t**2))
    quarter = _triangle(measure, s, t, rows, columns) + _triangle(measure, s, t, columns, rows).T
    whole = 4 * quarter
    mirrored = torch.cat([whole[1:].flip(0), whole])
    return torch.cat([mirrored[:, 1:].flip(1), mirrored], dim=1).reshape(-1)


def _triangle(
    measure: Float[Tensor, "s t"],
    s: Float[Tensor, " s"],
    t: Float[Tensor, " t"],
    along: Float[Tensor, " a"],
    across: Float[Tensor, " b"],
) -> Float[Tensor, "a b"]:
    """Return the integral over the half of the quadrant in which the frequency `along` is the larger."""
    slanted = torch.cos(2 * math.pi * s[:, None, None] * t[None, :, None] * across)
    inner = (measure[:, :, None] * slanted).sum(dim=1)
    total: Tensor = torch.cos(2 * math.pi * along[:, None] * s) @ inner
    return total


def _gauss_legendre(count: int) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return nodes and weights on [0, 1].

    Source: Golub, Welsch 1969, "Calculation of Gauss quadrature rules" (Math. Comp. 23).
    """
    k = torch.arange(1, count, dtype=torch.float64)
    beside = k / torch.sqrt(4 * k**2 - 1)
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return (nodes + 1) / 2, vectors[0].square()


@_constant
def _eigenfilters(kh: int, kw: int, cutoff: float) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    matrix = _energy_matrix(kh, kw, cutoff, (1, 1))
    values, vectors = [], []
    # The matrix keeps kernels even or odd in either axis so. Solved for each of the four kinds alone, equal
    # eigenvalues of a square kernel come apart, and the result does not depend on the solver's mood.
    for vertical in _parities(kh):
        for horizontal in _parities(kw):
            basis = torch.kron(vertical, horizontal)
            found, within = torch.linalg.eigh(basis @ matrix @ basis.T)
            values.append(found)
            vectors.append(within.T @ basis)
    energy = torch.cat(values).clamp(0, 1)
    kernels = torch.cat(vectors)
    order = energy.round(decimals=10).argsort(descending=True, stable=True)
    return energy[order], _with_fixed_sign(kernels[order])


def _parities(length: int) -> tuple[Float[Tensor, "e n"], Float[Tensor, "o n"]]:
    """Return orthonormal bases of the even and of the odd sequences."""
    eye = torch.eye(length, dtype=torch.float64)
    half = length // 2
    mirrored = eye.flip(0)[:half]
    even = (eye[:half] + mirrored) / math.sqrt(2)
    odd = (eye[:half] - mirrored) / math.sqrt(2)
    return torch.cat([even, eye[half : half + length % 2]]), odd


def _with_fixed_sign(rows: Float[Tensor, "n taps"]) -> Float[Tensor, "n taps"]:
    """Return the rows with their first entry that is not nearly 0 positive."""
    first = (rows.abs() > 1e-6).int().argmax(dim=1, keepdim=True)
    # Adding 0 turns -0 into 0.
    signed: Tensor = rows * rows.gather(1, first).sign() + 0.0
    return signed


def _without_mean(
    rows: Float[Tensor, "n taps"], matrix: Float[Tensor, "taps taps"]
) -> Float[Tensor, "m taps"]:
    """Return a basis of those combinations of the rows that sum to 0, ordered by low-frequency energy."""
    sums = rows.sum(dim=1)
    has_mean = sums.abs() > _ON_THE_LINE
    if not has_mean.any():
        return rows
    # The right-singular vectors of a single row after its first span all that is orthogonal to it.
    across = torch.linalg.svd(sums[has_mean][None]).Vh[1:] @ rows[has_mean]
    within = torch.linalg.eigh(across @ matrix @ across.T).eigenvectors
    kept = torch.cat([rows[~has_mean], _with_fixed_sign(within.T @ across)])
    energy = ((kept @ matrix) * kept).sum(dim=1)
    ordered: Tensor = kept[energy.round(decimals=10).argsort(descending=True, stable=True)]
    return ordered


@_constant
def _chance_of_low(kh: int, kw: int, channels: int, cutoff: float, dilation: tuple[int, int]) -> float:
    values = torch.linalg.eigvalsh(_energy_matrix(kh, kw, cutoff, dilation)) - line(cutoff)
    if float(values.abs().max()) < _ON_THE_LINE:
        return 1.0
    # In units of the form's spread, so that the integrand varies where log u is of order 1.
    values = values / math.sqrt(2 * channels * float(values.square().sum()))
    step = 0.02
    u = torch.exp(torch.arange(-40, 40, step, dtype=torch.float64))
    product = values[:, None] * u
    angle = channels / 2 * torch.arctan(product).sum(dim=0)
    damping = torch.exp(-channels / 4 * torch.log1p(product.square()).sum(dim=0))
    integral = float((torch.sin(angle) * damping).sum()) * step
    return min(1.0, max(0.0, 0.5 + integral / math.pi))
