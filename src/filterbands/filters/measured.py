"""A layer made ready to be measured: what every figure is computed from."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from .bands import ON_THE_LINE, line, live_filters
from .chance import chance_interval, chance_of_low
from .integrals import Sides, autocorrelation, ball_kernel, constant, wedge_kernel
from .layers import Layer

DIRECTIONS = {
    "horizontal_energy": ((-22.5, 22.5),),
    "vertical_energy": ((67.5, 112.5),),
    "diagonal_energy": ((22.5, 67.5), (112.5, 157.5)),
}
"""Wedges of the frequencies in degrees; vertical edges have the horizontal ones."""

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


@dataclass(eq=False)
class Measured:
    """The filters of one layer in float64, scaled to a largest weight of 1, and what their spectra give."""

    layer: Layer
    cutoff: float
    """Radius between low and high, cycles per pixel."""
    chance: bool
    """Whether the filters were drawn as such, so that white ones can be compared with them."""
    response: Float[Tensor, " f"] | None
    """The share within the cutoff of what each filter lets through; None without images."""

    def __post_init__(self) -> None:
        # The first two arguments of every kernel.
        self.geometry: tuple[Sides, Sides] = (self.layer.size, self.layer.dilation)
        # Scaled, so that no square vanishes or overflows; every figure is free of scale.
        largest = self.layer.weight.abs().amax().double()
        self.weight = self.layer.weight.double() / largest.clamp_min(torch.finfo(torch.float64).tiny)
        self.live = live_filters(self.weight) & (largest > 0)

    @cached_property
    def energy(self) -> Float[Tensor, " f"]:
        """Each filter's energy, in units of the largest weight's."""
        return self.weight.square().flatten(1).sum(dim=1)

    @cached_property
    def lagged(self) -> Float[Tensor, "f lags"]:
        """Each filter's autocorrelation per energy; that of white ones, 1 at distance 0, for one of zeros."""
        lagged = autocorrelation(self.weight)
        energy = lagged[:, lagged.shape[1] // 2]
        energy[energy == 0] = 1
        return lagged / energy[:, None]

    @cached_property
    def mean_lagged(self) -> Float[Tensor, " lags"]:
        """The mean of it over live filters: its product with a kernel is the mean of their shares."""
        return self.lagged[self.live].mean(dim=0)

    @cached_property
    def directions(self) -> Float[Tensor, "f 3"]:
        """Each planar filter's share of the energy up to Nyquist around `DIRECTIONS`."""
        wedges = [wedge_kernel(*self.geometry, wedges) for wedges in DIRECTIONS.values()]
        shares = self.lagged @ torch.stack(wedges, dim=1)
        return shares / shares.sum(dim=1, keepdim=True)

    @cached_property
    def reading(self) -> Reading:
        """How low the layer is by its own cutoff, for at least one live filter."""
        return self.read(self.cutoff)

    def curve(self, kernel: Kernel, places: tuple[float, ...]) -> Float[Tensor, " n"]:
        """Return the mean over live filters of a kernel's form at several radii or directions."""
        return self.mean_lagged @ _stacked(kernel, *self.geometry, places)

    def inside(self, cutoff: float) -> Float[Tensor, " f"]:
        """Return each filter's share of energy within a cutoff."""
        return self.lagged @ ball_kernel(*self.geometry, cutoff)

    def read(self, cutoff: float) -> Reading:
        """Return how low the layer is by a cutoff."""
        (size, dilation), inside = self.geometry, self.inside(cutoff)
        white, live = line(cutoff, len(size)), inside[self.live]
        probability = chance_of_low(size, self.weight.shape[1], cutoff=cutoff, dilation=dilation)
        return Reading(
            cutoff=cutoff,
            line=white,
            low_share=float((live >= white - ON_THE_LINE).double().mean()),
            low_share_chance=chance_interval(len(live), probability),
            low_energy=float((inside * self.energy).sum() / self.energy.sum()),
            mean_low_energy=float(live.mean()),
        )


@constant
def _stacked(
    kernel: Kernel, size: Sides, dilation: Sides, places: tuple[float, ...]
) -> Float[Tensor, "lags n"]:
    return torch.stack([kernel(size, dilation, place) for place in places], dim=1)
