"""A layer made ready to be measured: what every figure is computed from."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from .bands import is_low, line, live_filters
from .chance import chance_interval, chance_of_low
from .integrals import Sides, autocorrelation, ball_kernel, constant
from .layers import Layer

Kernel = Callable[[Sides, Sides, float], Float[Tensor, " lags"]]
"""A function of `integrals` of the sides, the dilation, and a radius or a direction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How low a layer is by one cutoff."""

    cutoff: float
    """Radius, cycles per pixel."""
    line: float
    """What a white filter has within it."""
    low_share: float
    """The count: share of live filters on or above the line."""
    low_share_chance: tuple[float, float]
    """Where the count lies for 95 % of white layers of this shape."""
    low_energy: float
    """The mass: share of the energy of all filters."""
    mean_low_energy: float
    """The mean over live filters."""


class Measured:
    """The filters of one layer in float64, scaled to a largest weight of 1, and integrals of their spectra.

    Args:
        layer: As it was found.
        cutoff: Radius between low and high, cycles per pixel.
        chance: Whether the filters were drawn as such, so that white ones can be compared with them.
        response: The share within the cutoff of what each filter lets through; None without images.
    """

    def __init__(
        self, layer: Layer, cutoff: float, *, chance: bool, response: Float[Tensor, " f"] | None
    ) -> None:
        self.layer = layer
        self.cutoff = cutoff
        self.chance = chance
        self.response = response
        # The first two arguments of every kernel.
        self.geometry: tuple[Sides, Sides] = (layer.size, layer.dilation)
        # Scaled, so that no square vanishes or overflows; every figure is free of scale.
        largest = layer.weight.abs().amax().double().clamp_min(torch.finfo(torch.float64).tiny)
        self.weight = layer.weight.double() / largest
        self.energy = self.weight.square().flatten(1).sum(dim=1)
        self.live = live_filters(self.weight) & (self.energy > 0)

    @cached_property
    def lagged(self) -> Float[Tensor, "f lags"]:
        """Each filter's autocorrelation."""
        return autocorrelation(self.weight)

    @cached_property
    def reading(self) -> Reading:
        """How low the layer is by its own cutoff, for at least one live filter."""
        return self.read(self.cutoff)

    def share(self, kernel: Float[Tensor, "lags ..."]) -> Float[Tensor, "f ..."]:
        """Return the quadratic form of a kernel, or of each column of kernels, per energy of each filter.

        A filter of zeros gets what a white one has, whose mean autocorrelation is 1 at distance 0 and
        nothing elsewhere.
        """
        energy = self.energy.reshape(-1, *[1] * (kernel.ndim - 1))
        share = (self.lagged @ kernel) / energy.clamp_min(torch.finfo(torch.float64).tiny)
        return torch.where(energy > 0, share, kernel[len(kernel) // 2])

    def mean(self, values: Float[Tensor, "f ..."]) -> Float[Tensor, "..."]:
        """Return the mean over live filters."""
        return values[self.live].mean(dim=0)

    def curve(self, kernel: Kernel, places: tuple[float, ...]) -> Float[Tensor, " n"]:
        """Return the mean over live filters of a kernel's form at several radii or directions."""
        return self.mean(self.share(_stacked(kernel, *self.geometry, places)))

    def inside(self, cutoff: float) -> Float[Tensor, " f"]:
        """Return each filter's share of energy within a cutoff."""
        return self.share(ball_kernel(*self.geometry, cutoff))

    def read(self, cutoff: float) -> Reading:
        """Return how low the layer is by a cutoff."""
        (size, dilation), inside = self.geometry, self.inside(cutoff)
        white, live = line(cutoff, len(size)), inside[self.live]
        probability = chance_of_low(size, self.weight.shape[1], cutoff=cutoff, dilation=dilation)
        return Reading(
            cutoff=cutoff,
            line=white,
            low_share=float(is_low(live, white).double().mean()),
            low_share_chance=chance_interval(len(live), probability),
            low_energy=float((inside * self.energy).sum() / self.energy.sum()),
            mean_low_energy=float(live.mean()),
        )


@constant
def _stacked(
    kernel: Kernel, size: Sides, dilation: Sides, places: tuple[float, ...]
) -> Float[Tensor, "lags n"]:
    return torch.stack([kernel(size, dilation, place) for place in places], dim=1)
