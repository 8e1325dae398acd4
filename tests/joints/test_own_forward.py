"""Layers with a forward of their own, as of timm: padding is taken as it is, other weights are refused."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from filterbands import analyze, attract_share, filters_low_energy, modulate, set_share, shrink
from filterbands.control import set_blur, set_random_share
from filterbands.filters import effective_first_layer
from filterbands.probes import vulnerability


class Standardized(nn.Conv2d):
    """Weight standardization: each filter without its mean, at unit variance."""

    def forward(self, images: Tensor) -> Tensor:
        filters = self.weight.flatten(1)
        plain = (filters - filters.mean(dim=1, keepdim=True)) / filters.std(dim=1, keepdim=True)
        return F.conv2d(images, plain.reshape(self.weight.shape), self.bias, self.stride, self.padding)


class Padded(nn.Conv2d):
    """Padding that depends on the image, on two sides alone."""

    def forward(self, images: Tensor) -> Tensor:
        return F.conv2d(F.pad(images, (0, 1, 0, 1)), self.weight, self.bias, self.stride)


IMAGES = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def network(*stem: nn.Module) -> nn.Module:
    head = (nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    return nn.Sequential(*stem, *head).eval()


@pytest.mark.parametrize(
    "verb",
    [
        lambda model: set_share(model[0], low=1.0),
        lambda model: set_random_share(model[0], low=1.0),
        lambda model: set_blur(model[0], side=0.2),
        lambda model: modulate(model[0]),
        lambda model: attract_share(model, target=0.8),
        lambda model: shrink(model, IMAGES, noise=0.1),
        lambda model: vulnerability(model, images=IMAGES),
    ],
    ids=["set_share", "set_random_share", "set_blur", "modulate", "attract_share", "shrink", "vulnerability"],
)
def test_a_layer_that_computes_another_weight_is_refused_and_left(verb: Callable[[nn.Module], None]) -> None:
    model = network(Standardized(3, 8, 3, stride=2, padding=1))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="applies the weight it stores, Standardized computes another one"):
        verb(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_analyze_says_which_weight_it_measures_also_of_two_layers_composed() -> None:
    model = network(Standardized(3, 8, 3), nn.Conv2d(8, 8, 3))
    for layer in (analyze(model)["0"], effective_first_layer(model)):
        assert "Standardized has a forward of its own: the stored weight is measured" in layer.note


def test_a_layer_that_pads_by_itself_is_shrunk_as_one_behind_that_padding() -> None:
    torch.manual_seed(0)
    own = network(Padded(3, 8, 3, stride=2))
    apart = network(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 8, 3, stride=2))
    for mine, theirs in zip(own.parameters(), apart.parameters(), strict=True):
        theirs.data.copy_(mine.data)
    before = own(IMAGES)
    shrink(own, IMAGES, noise=0.2)
    shrink(apart, IMAGES, noise=0.2)
    assert not torch.allclose(own(IMAGES), before)
    assert_close(own(IMAGES), apart(IMAGES), rtol=0, atol=1e-6)


def test_a_layer_that_pads_by_itself_is_held_and_is_neither_blurred_nor_modulated() -> None:
    layer = Padded(3, 8, 3)
    for verb in (modulate, lambda layer: set_blur(layer, side=0.2)):
        with pytest.raises(ValueError, match="got a Padded with its own forward"):
            verb(layer)
    assert float(filters_low_energy(set_share(layer, low=1.0).weight.detach()).min()) > 0.6


class Inherited(nn.Conv2d):
    """A forward that does what the plain one does."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)


class Zeros(nn.Conv2d):
    """The padding that the layer has, applied by itself."""

    def forward(self, images: Tensor) -> Tensor:
        rows, columns = self.padding
        seen = F.pad(images, (columns, columns, rows, rows))
        return F.conv2d(seen, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Other(nn.Conv2d):
    """Another geometry than that of its attributes."""

    def forward(self, images: Tensor) -> Tensor:
        return F.conv2d(images, self.weight, self.bias, 2, (1, 0), dilation=2, groups=3)


@pytest.mark.parametrize(
    ("own", "options"),
    [
        (Inherited, {"padding": 1}),
        (Inherited, {"padding": 2, "padding_mode": "reflect", "kernel_size": 5}),
        (Inherited, {"padding": 2, "padding_mode": "circular", "kernel_size": 5, "stride": 2}),
        (Inherited, {"padding": "same", "padding_mode": "replicate"}),
        (Zeros, {"padding": (1, 2), "kernel_size": (3, 5)}),
    ],
)
def test_a_layer_that_pads_as_a_plain_one_is_shrunk_and_measured_as_that(
    own: type[nn.Conv2d], options: dict[str, object]
) -> None:
    shape = {"in_channels": 3, "out_channels": 8, "kernel_size": 3, **options}
    plain, mine = (network(kind(**shape)) for kind in (nn.Conv2d, own))
    mine.load_state_dict(plain.state_dict())
    assert torch.equal(mine(IMAGES), plain(IMAGES))
    shares = [analyze(each, data=IMAGES)["0"].response_low_energy for each in (mine, plain)]
    assert shares[0] == shares[1]
    for each in (mine, plain):
        shrink(each, IMAGES, noise=0.1)
    for name, tensor in mine.state_dict().items():
        assert_close(tensor, plain.state_dict()[name], rtol=0, atol=1e-5)


def test_a_layer_is_shrunk_for_the_patches_that_it_takes_and_not_for_its_attributes() -> None:
    shape = {"stride": 2, "padding": (1, 0), "dilation": 2, "groups": 3}
    plain, mine = network(nn.Conv2d(3, 9, 3, **shape)), network(Other(3, 9, 3, groups=3, padding=1))
    plain[1], mine[1] = nn.BatchNorm2d(9), nn.BatchNorm2d(9)
    mine[:2].load_state_dict(plain[:2].state_dict())
    for each in (mine, plain):
        shrink(each[:2].eval(), IMAGES, noise=0.1)
    for name, tensor in mine[:2].state_dict().items():
        assert_close(tensor, plain[:2].state_dict()[name], rtol=0, atol=1e-5)
