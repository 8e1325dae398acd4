"""Checkpoints of held layers become plain ones, as baking their networks would make them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from filterbands.control import (
    bake,
    bake_weights,
    modulate,
    set_blur,
    set_random_share,
    set_share,
    shrink,
)

HOLDS: dict[str, Callable[[nn.Conv2d], nn.Conv2d]] = {
    "share": lambda layer: set_share(layer, low=0.5),
    "random share": lambda layer: set_random_share(layer, low=0.5),
    "two bands": modulate,
    "eigenbands under a budget": lambda layer: modulate(layer, bands="eigen", budget=1.0),
    "a share's eigenbands": lambda layer: modulate(set_share(layer, low=0.5), bands="eigen"),
    "blur": lambda layer: set_blur(layer, side=0.2),
}


@pytest.mark.parametrize("name", HOLDS)
def test_the_file_is_folded_as_the_network_is(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 3, bias=False))
    for layer in (model[0], model[2]):
        HOLDS[name](layer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    torch.testing.assert_close(bake_weights(state), dict(bake(model.eval()).state_dict()))
    torch.testing.assert_close(bake_weights(model.state_dict()), dict(model.state_dict()))


def test_foreign_parametrizations_are_refused_by_name() -> None:
    model = nn.Sequential(parametrizations.spectral_norm(nn.Conv2d(3, 8, 3)))
    with pytest.raises(ValueError, match=r"bake cannot fold 0: its parametrization \(_u, _v\) is not of"):
        bake_weights(model.state_dict())


def tied() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, bias=False))
    model[2].weight = model[0].weight
    return model


@pytest.mark.parametrize("name", HOLDS)
@pytest.mark.parametrize("both", [True, False])
def test_a_layer_that_shares_its_parameter_is_not_folded(name: str, both: bool) -> None:
    model = tied()
    for layer in (model[0], model[2]) if both else (model[0],):
        HOLDS[name](layer)
    model.eval()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"bake cannot fold 0: 0.weight and 2.weight share their numbers"):
        bake(model)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert bake(nn.Sequential(HOLDS[name](nn.Conv2d(3, 8, 5))).eval())


def test_a_first_layer_that_shares_its_weight_or_bias_is_not_shrunk() -> None:
    images = torch.rand(40, 3, 12, 12)
    model, weight = tied(), "0.weight and 2.weight"
    other = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 1))
    other[1].bias = other[0].bias
    alike, view = tied(), nn.Conv2d(3, 3, 3)
    # Another Parameter of the same memory.
    view.weight.data = alike[0].weight.data
    alike[2] = view
    for network, names in ((model, weight), (other, "0.bias and 1.bias"), (alike, weight)):
        before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
        with pytest.raises(ValueError, match=f"shrink needs .* of its own: {names} share their numbers"):
            shrink(network, images)
        assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


class Twice(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def test_a_parametrization_without_tensors_is_refused_also_before_one_of_ours() -> None:
    alone = nn.Sequential(nn.Conv2d(3, 8, 3))
    parametrize.register_parametrization(alone[0], "weight", Twice())
    with pytest.raises(
        ValueError, match=r"bake cannot fold 0: its parametrization \(without tensors\) is not"
    ):
        bake_weights(alone.state_dict())
    # As it is where ours was registered after the other.
    part, conv = "parametrizations.weight", nn.Conv2d(3, 8, 3)
    set_share(conv, low=1.0, seed=0)
    state = {name.replace(f"{part}.0.", f"{part}.1."): value for name, value in conv.state_dict().items()}
    with pytest.raises(ValueError, match=r"bake cannot fold the layer: its parametrization"):
        bake_weights(state)
