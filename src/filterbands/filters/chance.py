"""What chance gives: the spectrum of white Gaussian filters, with which every share is compared.

Each function of a kernel takes its sides, one to three (`size`), the channels that one filter sees, the
cutoff in cycles per pixel (`bands.cutoff_of` says what the default stands for) and the pixels between
neighboring taps per axis (`dilation`, 1 by default). It raises ValueError for a size or number of channels
below 1 and for a cutoff outside of (0, 1/2].
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .bands import EQUAL_AREA, ON_THE_LINE, check_kernel, cutoff_of, line
from .integrals import Sides, ball_kernel, centroid_kernel, constant, form_matrix


def chance_moments(
    size: Sides, channels: int, *, cutoff: float = EQUAL_AREA, dilation: Sides | None = None
) -> tuple[float, float]:
    """Return mean and standard deviation of the low-frequency energy of a white filter, exactly.

    >>> [round(figure, 3) for figure in chance_moments((3, 3), 3)]
    [0.5, 0.09]
    """
    return _moments(size, channels, cutoff_of(cutoff, len(size)), dilation)


def chance_centroid(size: Sides, channels: int, *, dilation: Sides | None = None) -> tuple[float, float]:
    """Return mean and standard deviation of the centroid of a white filter, exactly.

    >>> [round(figure, 3) for figure in chance_centroid((3, 3), 3)]
    [0.383, 0.03]
    """
    return _moments(size, channels, None, dilation)


@constant
def chance_of_low(
    size: Sides, channels: int, *, cutoff: float = EQUAL_AREA, dilation: Sides | None = None
) -> float:
    """Return the probability that a white filter is low, that is, on or above `line(cutoff)`.

    Source: Imhof 1961, "Computing the distribution of quadratic forms in normal variables" (Biometrika 48),
    equation 3.2, integrated over the logarithm of u by the trapezoid rule.

    >>> round(chance_of_low((3, 3), 3), 3)
    0.493
    """
    cutoff = cutoff_of(cutoff, len(size))
    values = _eigenvalues(size, channels, cutoff, dilation) - line(cutoff, len(size))
    if float(values.abs().max()) < ON_THE_LINE:
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


@constant
def chance_interval(filters: int, probability: float) -> tuple[float, float]:
    """Return the central 95 % interval of the share of low ones among independent filters.

    The count is binomial; each tail beyond the interval holds at most 2.5 %. With fewer than six filters
    the interval of a fair coin is all of [0, 1]: such a count says nothing.

    >>> chance_interval(64, 0.5)
    (0.375, 0.625)
    """
    if filters < 1 or not 0 <= probability <= 1:
        raise ValueError(
            "chance_interval needs at least 1 filter and a probability in [0, 1], "
            f"got {filters} and {probability}"
        )
    count = torch.arange(filters + 1, dtype=torch.float64)
    p = torch.tensor(probability, dtype=torch.float64)
    ways = math.lgamma(filters + 1) - torch.lgamma(count + 1) - torch.lgamma(filters - count + 1)
    mass = torch.exp(ways + torch.xlogy(count, p) + torch.xlogy(filters - count, 1 - p))
    lowest = int((mass.cumsum(0) > 0.025).nonzero()[0])
    highest = filters - int((mass.flip(0).cumsum(0) > 0.025).nonzero()[0])
    return lowest / filters, highest / filters


def _moments(size: Sides, channels: int, cutoff: float | None, dilation: Sides | None) -> tuple[float, float]:
    # A white filter is nothing but a uniform direction.
    values = _eigenvalues(size, channels, cutoff, dilation)
    variance = float(values.var(correction=0)) * 2 / (len(values) * channels + 2)
    return float(values.mean()), math.sqrt(variance)


@constant
def _eigenvalues(
    size: Sides, channels: int, cutoff: float | None, dilation: Sides | None
) -> Float[Tensor, " n"]:
    """Return those of the energy matrix at a cutoff, or of the centroid's."""
    if channels < 1:
        raise ValueError(f"channels needs a number of at least 1, got {channels}")
    spread = check_kernel(size, dilation)
    kernel = centroid_kernel(size, spread) if cutoff is None else ball_kernel(size, spread, cutoff)
    values: Tensor = torch.linalg.eigvalsh(form_matrix(kernel, size))
    return values
