"""Whatever can change what a network answers changes its fingerprint, and nothing else does."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from filterbands import load_model
from filterbands.evaluation import model_fingerprint


class _Blurred(nn.Module):
    """A network with settings that stand in no weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(12, 4)
        self.sigma = 1.0
        self.kernel = torch.ones(3)
        self.act = torch.relu
        self.names = {"b", "a", "c"}

    def forward(self, images: Tensor) -> Tensor:
        return self.act(self.head(images.flatten(1) * self.sigma * self.kernel.sum()))


def _set(name: str, value: Any) -> Callable[[_Blurred], None]:
    return lambda net: setattr(net, name, value)


def _one_bit(net: _Blurred) -> None:
    net.head.weight.data.view(torch.int32)[2, 5] ^= 1


@pytest.mark.parametrize(
    "change",
    [
        _one_bit,
        _set("sigma", 2.0),
        _set("kernel", torch.tensor([1.0, 1.0, 1.0000001])),
        _set("act", torch.sigmoid),
        _set("names", {"a", "b"}),
        _set("head", nn.Sequential(nn.Linear(12, 4))),
        lambda net: net.register_buffer("hidden", torch.zeros(1), persistent=False),
    ],
)
def test_a_change_of_weight_buffer_setting_or_structure_is_another_network(change: Any) -> None:
    net = _Blurred()
    before = model_fingerprint(net)
    change(net)
    assert model_fingerprint(net) != before


def test_the_number_of_heads_of_an_attention_counts() -> None:
    """Torch shows it neither in the weights nor in the text of the module."""
    one, two = nn.MultiheadAttention(8, 1), nn.MultiheadAttention(8, 2)
    two.load_state_dict(one.state_dict())
    assert repr(one) == repr(two)
    assert model_fingerprint(one) != model_fingerprint(two)


_CODE = """
from torch import nn
class Net(nn.Sequential):
    def forward(self, images):
        return {expression}
net = Net(nn.ReLU())
"""


def test_a_changed_forward_is_another_network_and_an_unchanged_one_is_not() -> None:
    def build(expression: str) -> nn.Module:
        # As at a prompt: there is no source to read.
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(_CODE.format(expression=expression), names)
        net: nn.Module = names["net"]
        return net

    texts = ("super().forward(images)", "2 * super().forward(images)", "3 * super().forward(images)")
    one, two, three = (model_fingerprint(build(text)) for text in texts)
    assert len({one, two, three}) == 3
    assert model_fingerprint(build(texts[0])) == one


def test_the_same_network_has_the_same_fingerprint_wherever_it_comes_from(tmp_path: Path) -> None:
    net = _Blurred()
    before = model_fingerprint(net)
    assert model_fingerprint(_Blurred()) == model_fingerprint(copy.deepcopy(net)) == before
    net.eval()(torch.rand(2, 3, 2, 2))
    assert model_fingerprint(net) == before
    assert model_fingerprint(net.train().requires_grad_(False)) == before

    model = load_model(arch="cifar_resnet20")
    torch.save(model.state_dict(), tmp_path / "net.pt")
    loaded = load_model(tmp_path / "net.pt", arch="cifar_resnet20")
    assert model_fingerprint(loaded) == model_fingerprint(model)
    other = load_model(tmp_path / "net.pt", arch="cifar_resnet20", mean=(0.5, 0.5, 0.5))
    assert model_fingerprint(other) != model_fingerprint(model)
