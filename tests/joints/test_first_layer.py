"""The first spatial layer and its batch norm: every room finds the same ones in networks that none made."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from filterbands import SpectrumLogger, analyze, recalibrate, shrink
from filterbands.filters import effective_first_layer
from filterbands.models import first_layer
from filterbands.probes import vulnerability


class Residual(nn.Module):
    """As a ResNet: stem and block registered in the order in which they run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        out = self.bn1(self.conv1(images)).relu()
        return self.linear((out + self.bn2(self.conv2(out))).mean(dim=(2, 3)))


class Reordered(nn.Module):
    """Registered from its end to its beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(8, 8, 3)
        self.last_norm = nn.BatchNorm2d(8)
        self.stem_norm = nn.BatchNorm2d(8)
        self.stem = nn.Conv2d(3, 8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.last_norm(self.last(self.stem_norm(self.stem(images)).relu()))


class Holder(nn.Module):
    """As data parallelism: the network is its `module`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        return self.module(images)


def nested() -> nn.Module:
    return nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3)), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))


def pointwise() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())


class Case(NamedTuple):
    make: Callable[[], nn.Module]
    layer: str
    norm: str
    path: str
    """What stands in front of the names in this network's own."""
    registered: tuple[str, str | None]
    """Layer and batch norm by registration."""


CASES = {
    "residual": Case(Residual, "conv1", "bn1", "", ("conv1", "bn1")),
    "nested": Case(nested, "0.0", "1", "", ("0.0", "1")),
    "reordered": Case(Reordered, "stem", "stem_norm", "", ("last", "last_norm")),
    "pointwise stem": Case(pointwise, "1", "2", "", ("1", "2")),
    "parallel": Case(lambda: Holder(Residual()), "conv1", "bn1", "module.", ("conv1", "bn1")),
    "compiled": Case(
        lambda: torch.compile(Residual(), backend="eager"), "conv1", "bn1", "_orig_mod.", ("conv1", "bn1")
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def network(case: Case) -> nn.Module:
    torch.manual_seed(0)
    network = case.make().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)
    return network


@pytest.fixture
def images() -> Tensor:
    return torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_every_room_finds_the_same_layer_and_batch_norm_by_execution(
    case: Case, network: nn.Module, images: Tensor
) -> None:
    first = first_layer("test", network, images)
    assert (first.name, list(first.norms), first.found_by) == (case.layer, [case.norm], "execution")
    folded = analyze(network, fold_batch_norm=True, data=images)[case.layer]
    assert folded.batch_norm == case.norm
    assert f"{case.norm} found by execution" in folded.note
    moved = vulnerability(network, images=images)
    assert (moved.layer, moved.batch_norm, moved.found_by) == (case.layer, case.norm, "execution")
    logger = SpectrumLogger(network, example=images)
    assert (logger.trajectory.layers, logger.found_by) == ((case.layer,), "execution")


def test_shrink_changes_that_layer_and_that_batch_norm_alone(
    case: Case, network: nn.Module, images: Tensor
) -> None:
    before = copy.deepcopy(network.state_dict())
    shrink(network, images, noise=0.1)
    after = network.state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    layer, norm = case.path + case.layer, case.path + case.norm
    assert {f"{layer}.weight", f"{norm}.running_var"} <= changed
    assert changed <= {f"{layer}.weight", f"{layer}.bias", f"{norm}.running_mean", f"{norm}.running_var"}


def test_recalibrate_gives_that_batch_norm_the_moments_of_that_layer(
    case: Case, network: nn.Module, images: Tensor
) -> None:
    first = first_layer("test", network, images)
    answers: list[Tensor] = []
    hook = first.layer.register_forward_hook(lambda _, __, output: answers.append(output.detach()))
    recalibrate([images], network)
    hook.remove()
    (norm,) = first.norms.values()
    torch.testing.assert_close(norm.running_mean, answers[0].mean(dim=(0, 2, 3)))
    torch.testing.assert_close(norm.running_var, answers[0].var(dim=(0, 2, 3)))


def test_without_images_every_room_goes_by_registration_and_says_so(case: Case, network: nn.Module) -> None:
    layer, norm = case.registered
    first = first_layer("test", network)
    assert (first.name, list(first.norms), first.found_by) == (layer, [norm], "registration")
    folded = analyze(network, fold_batch_norm=True)[layer]
    assert folded.batch_norm == norm
    assert f"{norm} found by registration" in folded.note
    logger = SpectrumLogger(network)
    assert (logger.trajectory.layers, logger.found_by) == ((layer,), "registration")
    if first.layer.in_channels == 3:
        moved = vulnerability(network)
        assert (moved.layer, moved.batch_norm, moved.found_by) == (layer, norm, "registration")
    else:
        with pytest.raises(ValueError, match=f"{layer} has 8 channels"):
            vulnerability(network)
    behind = [entry.shape[1] for entry in analyze(network)][1:]
    if case.registered[0] != "last" and 8 in behind:
        assert effective_first_layer(network).batch_norm == norm


class Normalized(nn.Module):
    """A normalization in front of a network, in place or not."""

    def __init__(self, inner: nn.Module, *, in_place: bool) -> None:
        super().__init__()
        self.inner = inner
        self.in_place = in_place

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images.sub_(0.4).div_(0.25) if self.in_place else (images - 0.4) / 0.25)


def test_a_network_that_normalizes_in_place_gets_the_figures_of_one_that_does_not(images: Tensor) -> None:
    torch.manual_seed(0)
    plain, in_place = (Normalized(Residual(), in_place=state).eval() for state in (False, True))
    in_place.load_state_dict(plain.state_dict())
    before = images.clone()
    shares = [
        [layer.response_low_energy for layer in analyze(each, data=images, fold_batch_norm=True)]
        for each in (plain, in_place)
    ]
    assert shares[1] == shares[0]
    for each in (plain, in_place):
        shrink(each, images, noise=0.1)
        recalibrate([images, images], each)
    for name, tensor in in_place.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name])
    assert torch.equal(images, before)
