"""Optimizers, schedules and the average of weights."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ..control import division_parameters, proportion_parameters
from .config import TrainConfig


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the config's optimizer; each group has its own `peak` learning rate."""
    groups = parameter_groups(network, config)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=(config.momentum, 0.999))
    return torch.optim.SGD(groups, lr=0.0, momentum=config.momentum, nesterov=config.momentum > 0)


def parameter_groups(network: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Return the groups: weights, which decay; vectors, which do not; proportions at a rate of their own."""
    proportions, divisions = list(proportion_parameters(network)), list(division_parameters(network))
    special = {id(parameter) for parameter in (*proportions, *divisions)}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in special]
    groups = (
        ([each for each in rest if each.ndim > 1], config.weight_decay, config.learning_rate),
        ([each for each in rest if each.ndim <= 1], 0.0, config.learning_rate),
        (proportions, 0.0, config.modulate.learning_rate),
        (divisions, 0.0, config.spectral.learning_rate),
    )
    return [{"params": found, "weight_decay": decay, "peak": peak} for found, decay, peak in groups if found]


def triangle(progress: float, peak: float) -> float:
    """Return the factor in [0, 1]: up to 1 at `peak`, then down to 0 at the end, both straight."""
    return progress / peak if progress < peak else (1 - progress) / (1 - peak)


def cosine(progress: float, peak: float) -> float:
    """Return the factor in [0, 1]: straight up to 1 at `peak`, then down to 0 by half a cosine.

    Source: Loshchilov, Hutter 2017, arXiv:1608.03983, equation 5 (one cycle), after a linear warm-up.
    """
    if progress < peak:
        return progress / peak
    return 0.5 * (1 + math.cos(math.pi * (progress - peak) / (1 - peak)))


def staircase(progress: float, peak: float, *, factor: float, at: tuple[float, ...]) -> float:
    """Return the product of one `factor` per share of training in `at` that is done, whatever the peak."""
    del peak
    return float(factor ** sum(progress >= place for place in at))


FACTORS: Mapping[str, Callable[[float, float], float]] = MappingProxyType(
    {
        "triangle": triangle,
        "cosine": cosine,
        # Epochs 60, 120, 160 and 190 of 200: Chen et al. 2021, arXiv:2108.08487, section 4.
        "steps": partial(staircase, factor=0.2, at=(0.3, 0.6, 0.8, 0.95)),
        # The code of Kireev et al. 2021, arXiv:2103.02325, utils.py, `piecewise`.
        "thirds": partial(staircase, factor=0.1, at=(0.34, 0.67)),
    }
)
"""The learning rate's factor at a share of the training done, by name."""


class Averages:
    """The exponential moving average of a network's weights and running statistics.

    The decay grows to its value as min(decay, (1 + steps) / (10 + steps)), so that the random start is
    forgotten at once.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.values = _copied(network)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after one more step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.values[name].lerp_(value, 1 - decay)
            else:
                self.values[name].copy_(value)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Let the network be its average, and give it its own weights back afterwards."""
        own = _copied(network)
        self.apply(network)
        try:
            yield
        finally:
            network.load_state_dict(own)

    def apply(self, network: nn.Module) -> None:
        """Make the network its average for good."""
        network.load_state_dict(self.values)

    def state(self) -> dict[str, Any]:
        """Return what `load` takes."""
        return {"steps": self.steps, "values": self.values}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.steps = state["steps"]
        for name, value in self.values.items():
            value.copy_(state["values"][name])


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}
