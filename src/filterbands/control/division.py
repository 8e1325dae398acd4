"""A budget of strength, divided among parts by climbing the loss."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn


def climbing(values: Tensor) -> Tensor:
    """Return the same numbers with the opposite gradient: what descends the loss elsewhere climbs it here.

    Source: Ganin, Lempitsky 2015, arXiv:1409.7495, equation 4.

    >>> at = torch.ones((), requires_grad=True)
    >>> climbing(3 * at).backward()
    >>> at.grad
    tensor(-3.)
    """
    return 2 * values.detach() - values


class Division(nn.Module):
    """Factors of parts whose mean square is 1, learned by ascent.

    The square of factor i of n is `floor + (1 - floor) n softmax(theta)_i`; theta is the parameter, 0 at
    first, where every factor is exactly 1.

    Args:
        parts: How many.
        floor: Least square of a factor, in [0, 1].

    >>> Division(3, floor=0.25).factors().tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(self, parts: int, *, floor: float) -> None:
        super().__init__()
        self.floor = floor
        self.theta = nn.Parameter(torch.zeros(parts))

    def factors(self) -> Float[Tensor, " parts"]:
        """Return the factors, whose gradient is reversed."""
        theta = self.theta.double()
        # Of the mean of the exponentials, so that equal parts give exactly 1.
        whole = (theta - theta.max()).exp()
        squares = self.floor + (1 - self.floor) * (whole / whole.mean())
        return climbing(squares.sqrt()).to(self.theta.dtype)

    def extra_repr(self) -> str:
        """Return the number of parts and the floor."""
        return f"{len(self.theta)}, floor={self.floor}"


def division_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield what divides a budget in front of a network, as `SpectralNoise(learn=...)` does.

    >>> [theta.shape for theta in division_parameters(nn.Sequential(Division(2, floor=0)))]
    [torch.Size([2])]
    """
    for module in model.modules():
        if isinstance(module, Division):
            yield module.theta
