"""Checkpoints of held layers become plain ones, as baking their networks would make them."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from filterbands.control import bake, bake_weights, modulate, set_blur, set_random_share, set_share

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
