"""Low and high: the line between them, the energy below a cutoff, and the kernels ordered by it.

All of it rests on the exact integrals of `integrals`: nothing is sampled or padded.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..types import Taps
from .integrals import Sides, ball_kernel, constant, form_matrix, volume

EQUAL_AREA = 1 / math.sqrt(2 * math.pi)
"""The radius, 0.39894 cycles per pixel, whose disc covers half of the frequency square."""

# The same of the interval and the cube of frequencies, whose halves one- and three-dimensional kernels have.
_HALF = {1: 0.25, 2: EQUAL_AREA, 3: (3 / (8 * math.pi)) ** (1 / 3)}

# Eigenvalues and shares closer than this to a line are on it: rounding is some 1e-15.
ON_THE_LINE = 1e-9

# A filter with less than this part of the energy of the layer's strongest is dead.
_DEAD = 1e-3


def line(cutoff: float, dimensions: int = 2) -> float:
    """Return the low-frequency energy of a white filter at a cutoff, the line between low and high.

    It is the area of the disc, and the mean eigenvalue of `energy_matrix`.

    Args:
        cutoff: Radius in (0, 1/2], cycles per pixel.
        dimensions: Of the kernel, 1 to 3: the disc is an interval or a ball otherwise.

    Raises:
        ValueError: The cutoff is outside of its range.

    >>> round(line(EQUAL_AREA), 6)
    0.5
    """
    check_cutoff(cutoff)
    return volume(cutoff, dimensions)


def cutoff_of(cutoff: float, dimensions: int) -> float:
    """Return the radius that a cutoff stands for among kernels of one, two or three dimensions.

    `EQUAL_AREA`, the default everywhere, stands for the radius whose interval, disc or ball holds half of all
    frequencies: 1/4, 0.39894 and 0.49237. Any other radius stands for itself.

    Raises:
        ValueError: The cutoff is outside of (0, 1/2].

    >>> [round(cutoff_of(EQUAL_AREA, dimensions), 5) for dimensions in (1, 2, 3)]
    [0.25, 0.39894, 0.49237]
    """
    check_cutoff(cutoff)
    return _HALF[dimensions] if cutoff == EQUAL_AREA else cutoff


def energy_matrix(kh: int, kw: int, *, cutoff: float, dilation: tuple[int, int] = (1, 1)) -> Taps:
    """Return the float64 matrix B: `w^T B w` is the energy of a kernel within the disc of radius `cutoff`.

    Its eigenvalues lie in [0, 1], and its diagonal is `line(cutoff)`. Taps are numbered row by row.

    Args:
        kh: Rows of the kernel.
        kw: Columns of the kernel.
        cutoff: Radius in (0, 1/2], cycles per pixel.
        dilation: Pixels between neighboring taps, vertically and horizontally.

    Raises:
        ValueError: A size or dilation below 1, or a cutoff outside of its range.

    Source: Simons, Wang 2011, "Spatiospectral concentration in the Cartesian plane" (Int. J. Geomath. 2),
    the circular spectral band of section 4, on the pixel lattice.

    >>> energy_matrix(3, 3, cutoff=EQUAL_AREA)[0, :3].round(decimals=4)
    tensor([ 0.5000,  0.1977, -0.0656], dtype=torch.float64)
    """
    check_cutoff(cutoff)
    check_kernel((kh, kw), dilation)
    return form_matrix(ball_kernel((kh, kw), dilation, cutoff), (kh, kw))


def eigenfilters(kh: int, kw: int, *, cutoff: float) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """Return the kernels ordered by low-frequency energy: that energy, descending, and the kernels as rows.

    They are orthonormal and fill the space of kernels; each is even or odd in either axis. Where several
    have the same energy, as horizontal and vertical edges have, their order and signs are fixed. Arguments
    and errors are those of `energy_matrix`.

    Source: Slepian 1983, "Some comments on Fourier analysis, uncertainty and modeling" (SIAM Review 25);
    Simons, Wang 2011.

    >>> eigenfilters(3, 3, cutoff=EQUAL_AREA)[0][:4].round(decimals=3)
    tensor([0.9940, 0.8970, 0.8970, 0.6340], dtype=torch.float64)
    """
    values, vectors = _eigenfilters(kh, kw, cutoff)
    return values.clone(), vectors.clone()


def spans(
    kh: int, kw: int, *, cutoff: float = EQUAL_AREA, guard: float = 0.1, zero_mean: bool = True
) -> tuple[Float[Tensor, "n taps"], Float[Tensor, "m taps"]]:
    """Return orthonormal bases, as rows, of the low and the high part of the space of kernels.

    Every kernel of the low span has at least `line + guard` of its energy within the cutoff, every one of
    the high span at most `line - guard`. With `guard=0` and `zero_mean=False` the two fill the space.
    Either may be empty: a 1x1 kernel has neither. Sizes, cutoff and errors are those of `energy_matrix`.

    Args:
        kh: Rows of the kernel.
        kw: Columns of the kernel.
        cutoff: Radius between low and high.
        guard: Distance from the line, in [0, 1), within which an eigenfilter belongs to neither.
        zero_mean: Keep only those kernels of the high span whose taps sum to 0.

    >>> low, high = spans(3, 3)
    >>> len(low), len(high)
    (4, 4)
    """
    if not 0 <= guard < 1:
        raise ValueError(f"guard needs a number from 0 to below 1, got {guard}")
    values, vectors = _eigenfilters(kh, kw, cutoff)
    middle = line(cutoff)
    is_low = values >= middle + guard - ON_THE_LINE
    is_high = (values <= middle - guard + ON_THE_LINE) & ~is_low
    high = vectors[is_high]
    if zero_mean:
        high = _without_mean(high, energy_matrix(kh, kw, cutoff=cutoff))
    return vectors[is_low], high


def filters_low_energy(
    weight: Float[Tensor, "f c *k"], cutoff: float = EQUAL_AREA, *, dilation: Sides | None = None
) -> Float[Tensor, " f"]:
    """Return the share of each filter's energy within the cutoff; differentiable, the scale does not matter.

    The computation is in the weight's own precision, in float32 for shorter ones. A filter of zeros gets
    `line(cutoff)`, what a white one has, and no gradient.

    Args:
        weight: Filters, channels and one to three spatial axes, as `torch.nn.Conv2d` holds them.
        cutoff: Radius in (0, 1/2], cycles per pixel; see `cutoff_of` for kernels that are not planar.
        dilation: Pixels between neighboring taps, one number per spatial axis; 1 by default.

    Raises:
        ValueError: Not three to five axes, kernels of one tap, a weight that is not real floating point, or
            a cutoff or dilation outside of its range.

    >>> filters_low_energy(torch.ones(1, 1, 3, 3)).round(decimals=3)
    tensor([0.8950])
    """
    if weight.ndim not in (3, 4, 5) or 0 in weight.shape:
        raise ValueError(
            "filters_low_energy needs weights of shape (filters, channels, kh, kw), or with one or three "
            f"spatial axes, got {tuple(weight.shape)}"
        )
    if not weight.is_floating_point():
        raise ValueError(f"filters_low_energy needs real floating-point weights, got {weight.dtype}")
    filters, channels, *sides = weight.shape
    size = tuple(sides)
    cutoff = cutoff_of(cutoff, len(size))
    if math.prod(size) == 1:
        raise ValueError(
            "filters_low_energy needs kernels of more than one tap: a 1x1 kernel has no spectrum"
        )
    spread = check_kernel(size, dilation)
    dtype = weight.dtype if weight.dtype in (torch.float32, torch.float64) else torch.float32
    matrix = form_matrix(ball_kernel(size, spread, cutoff), size).to(weight.device, dtype)
    kernels: Tensor = weight.to(dtype).reshape(filters, channels, math.prod(size))
    # Scaled to 1, so that squares of tiny or huge weights neither vanish nor overflow; the share does not
    # depend on the scale, and so its gradient is right with the scale held constant.
    tiny = torch.finfo(dtype).tiny
    kernels = kernels / kernels.detach().abs().amax(dim=(1, 2), keepdim=True).clamp_min(tiny)
    inside = ((kernels @ matrix) * kernels).sum(dim=(1, 2))
    white = line(cutoff, len(size))
    share: Tensor = (inside + white * tiny) / (kernels.square().sum(dim=(1, 2)) + tiny)
    return share


def live_filters(weight: Float[Tensor, "f c *k"]) -> Bool[Tensor, " f"]:
    """Return whether each filter has at least 1e-3 of the energy of the layer's strongest.

    >>> live_filters(torch.tensor([1.0, 0.1, 0.01]).reshape(3, 1, 1, 1))
    tensor([ True,  True, False])
    """
    energy = weight.detach().square().flatten(1).sum(dim=1)
    live: Tensor = energy >= _DEAD * energy.amax()
    return live


def check_cutoff(cutoff: float) -> None:
    """Raise ValueError unless the cutoff is in (0, 1/2]: a larger disc would leave the frequency square."""
    if not 0 < cutoff <= 0.5:
        raise ValueError(f"cutoff needs a radius above 0 and up to 0.5 cycles per pixel, got {cutoff}")


def check_kernel(size: Sides, dilation: Sides | None = None) -> Sides:
    """Return the dilation, by default 1; raise ValueError unless one to three sides are at least 1."""
    if isinstance(dilation, int):
        raise ValueError(f"a kernel needs a dilation per axis, as ({dilation}, {dilation}), got {dilation}")
    spread = tuple(dilation) if dilation is not None else (1,) * len(size)
    if not (1 <= len(size) <= 3 and len(size) == len(spread) and min(*size, *spread) >= 1):
        sides = "x".join(map(str, size))
        raise ValueError(
            f"a kernel needs a side and a dilation of at least 1 per axis, got {sides}, dilation {spread}"
        )
    return spread


@constant
def _eigenfilters(kh: int, kw: int, cutoff: float) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    matrix = energy_matrix(kh, kw, cutoff=cutoff)
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
    has_mean = sums.abs() > ON_THE_LINE
    if not has_mean.any():
        return rows
    # The right-singular vectors of a single row after its first span all that is orthogonal to it.
    across = torch.linalg.svd(sums[has_mean][None]).Vh[1:] @ rows[has_mean]
    within = torch.linalg.eigh(across @ matrix @ across.T).eigenvectors
    kept = torch.cat([rows[~has_mean], _with_fixed_sign(within.T @ across)])
    energy = ((kept @ matrix) * kept).sum(dim=1)
    ordered: Tensor = kept[energy.round(decimals=10).argsort(descending=True, stable=True)]
    return ordered
