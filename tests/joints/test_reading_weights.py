"""Weights that are computed at every read: reading them, also in training, leaves the network as it is."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from filterbands import SpectrumLogger, analyze, attract_share, modulate, set_share, shrink
from filterbands.filters import effective_first_layer


class Counting(nn.Module):
    """A parametrization that changes at every computation in training mode."""

    reads: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("reads", torch.zeros(()))

    def forward(self, weight: Tensor) -> Tensor:
        if self.training:
            self.reads += 1
        return weight * (1 + self.reads)


class Inherited(nn.Conv2d):
    """A forward of its own."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)


def network() -> nn.Module:
    """Return a network in training mode, with weights of three kinds that change when they are read."""
    torch.manual_seed(0)
    layers = Inherited(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Bilinear(2, 2, 2)
    parametrizations.spectral_norm(layers[0])
    for layer in layers[1:]:
        parametrize.register_parametrization(layer, "weight", Counting())
    return nn.Sequential(*layers).train()


def log(model: nn.Module) -> None:
    for _ in range(2):
        SpectrumLogger(model, every=1, layers="all").step()


def refuse(verb: Callable[..., object], *given: object, **options: object) -> None:
    with pytest.raises(ValueError, match="parametrized"):
        verb(*given, **options)


READERS: dict[str, Callable[[nn.Module], object]] = {
    "analyze": analyze,
    "SpectrumLogger": log,
    "effective_first_layer": effective_first_layer,
    "attract_share": lambda model: attract_share(model, target=0.5).backward(),
    "set_share": lambda model: refuse(set_share, model[0], low=0.5),
    "modulate": lambda model: refuse(modulate, model[0]),
    "shrink": lambda model: refuse(shrink, model[:2], torch.rand(2, 3, 9, 9)),
}


@pytest.mark.parametrize("name", READERS)
def test_a_weight_that_changes_when_it_is_read_in_training_is_left_as_it_is(name: str) -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    READERS[name](model)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    assert all(module.training for module in model.modules())


def test_in_training_a_weight_is_measured_as_it_is_in_evaluation() -> None:
    model = network()
    expected = [layer.low_energy for layer in analyze(copy.deepcopy(model).eval()).layers]
    assert [layer.low_energy for layer in analyze(model).layers] == expected
    logged = SpectrumLogger(model, layers="all").trajectory
    assert logged.series("0", "low_energy") == [(0, pytest.approx(expected[0]))]


def test_the_penalty_of_a_normalized_weight_reaches_the_parameter() -> None:
    model = network()
    attract_share(model[0], target=0.5).backward()
    assert float(model[0].parametrizations.weight.original.grad.abs().sum()) > 0
