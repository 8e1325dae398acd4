"""set_share, modulate and bake: what they promise holds at every step, and is undone without a trace."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from filterbands.filters.bands import filters_low_energy, line, spans
from filterbands.filters.noise import SpectralNoise
from filterbands.filters.proportion import bake, modulate, proportion_parameters, set_share

LAYERS = {
    "3x3": {"in_channels": 3, "out_channels": 16, "kernel_size": 3, "padding": 1},
    "no bias": {"in_channels": 3, "out_channels": 10, "kernel_size": 3, "bias": False},
    "strided 7x7": {"in_channels": 3, "out_channels": 12, "kernel_size": 7, "stride": 2, "padding": 3},
    "grouped 5x3": {"in_channels": 4, "out_channels": 8, "kernel_size": (5, 3), "groups": 2},
    "depthwise circular": {
        "in_channels": 6,
        "out_channels": 6,
        "kernel_size": 3,
        "groups": 6,
        "padding": 1,
        "padding_mode": "circular",
    },
}


def conv(name: str = "3x3", seed: int = 0) -> nn.Conv2d:
    torch.manual_seed(seed)
    return nn.Conv2d(**LAYERS[name])


def small_network(layer: nn.Conv2d) -> nn.Sequential:
    width = layer.out_channels
    head = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))
    return nn.Sequential(layer, nn.BatchNorm2d(width), *head)


def optimise(model: nn.Module, optimizer: torch.optim.Optimizer, channels: int, *, steps: int = 50) -> None:
    torch.manual_seed(1)
    images, labels = torch.rand(16, channels, 12, 12), torch.randint(0, 5, (16,))
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, weight_decay=0.01)


def outside(weight: Tensor, span: Tensor) -> Tensor:
    """Return the share of each filter's norm that lies outside of a span."""
    kernels = weight.detach().double().flatten(2)
    left = kernels - kernels @ span.T @ span
    return left.flatten(1).norm(dim=1) / kernels.flatten(1).norm(dim=1)


def held(layer: nn.Conv2d, count: int, **options: object) -> None:
    """Assert that `count` filters are in the low span and all others in the high one."""
    low, high = spans(*layer.kernel_size, **options)
    in_low, in_high = outside(layer.weight, low) < 1e-6, outside(layer.weight, high) < 1e-6
    assert int(in_low.sum()) == count
    assert bool((in_low ^ in_high).all())


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("early", [True, False])
def test_spans_hold_through_training_whenever_the_optimizer_was_made(name: str, early: bool) -> None:
    layer = conv(name)
    model = small_network(layer)
    weight = layer.weight
    before = sgd(model)
    assert set_share(layer, low=0.75) is layer
    assert layer.parametrizations.weight.original is weight
    start = layer.weight.detach().clone()
    optimise(model, before if early else sgd(model), layer.in_channels)
    assert float((layer.weight.detach() - start).abs().max()) > 1e-3
    held(layer, round(0.75 * layer.out_channels))


@pytest.mark.parametrize("low", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("zero_mean", [True, False])
def test_low_energies_are_on_their_sides_of_the_guard(low: float, zero_mean: bool) -> None:
    layer = set_share(conv("strided 7x7"), low=low, zero_mean=zero_mean, cutoff=0.3, guard=0.05)
    energy = filters_low_energy(layer.weight.detach().double(), 0.3)
    is_low = energy > line(0.3)
    assert int(is_low.sum()) == round(low * 12)
    assert bool((energy[is_low] >= line(0.3) + 0.05 - 1e-6).all())
    assert bool((energy[~is_low] <= line(0.3) - 0.05 + 1e-6).all())
    sums = layer.weight.detach().sum(dim=(2, 3)).abs()[~is_low]
    assert bool((sums < 1e-6).all()) == (zero_mean or low == 1)


def test_norms_are_those_of_the_free_layer_and_directions_those_of_its_projection() -> None:
    layer = conv()
    free = layer.weight.detach().clone()
    set_share(layer, low=0.5)
    low, high = spans(3, 3)
    for before, after in zip(free.double(), layer.weight.detach().double(), strict=True):
        span = low if float(outside(after[None], low)) < 1e-6 else high
        shadow = before.flatten(1) @ span.T @ span
        torch.testing.assert_close(
            after.flatten(1), shadow * before.norm() / shadow.norm(), rtol=0, atol=1e-6
        )


def test_filters_are_chosen_by_the_seed_or_by_what_they_are() -> None:
    def low_ones(seed: int | None) -> list[int]:
        layer = set_share(conv(), low=0.5, seed=seed)
        return (filters_low_energy(layer.weight.detach()) > 0.5).nonzero()[:, 0].tolist()

    assert low_ones(0) == low_ones(0) != low_ones(1)
    lowest = filters_low_energy(conv().weight.detach()).argsort(descending=True)[:8]
    assert low_ones(None) == sorted(lowest.tolist())


def test_without_zero_mean_high_filters_of_3x3_keep_some_gain_at_frequency_zero() -> None:
    constant = torch.full((9,), 1 / 3, dtype=torch.float64)
    # 15.5 % is the figure of docs/control.md; with zero_mean it is 0.
    for zero_mean, kept in ((False, 0.1555), (True, 0.0)):
        _, high = spans(3, 3, zero_mean=zero_mean)
        assert float((high @ constant).square().sum()) == pytest.approx(kept, abs=1e-4)


@pytest.mark.parametrize("verb", ["set_share", "modulate"])
def test_autocast_does_not_touch_the_weights(verb: str) -> None:
    layer = set_share(conv(), low=0.5) if verb == "set_share" else modulate(conv())
    plain = layer.weight.detach()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.weight.detach(), plain)
        assert layer.train()(torch.rand(4, 3, 8, 8)).dtype == torch.bfloat16


@given(st.integers(0, 2**31), st.floats(-6, 6))
def test_low_energy_is_linear_in_the_proportion(seed: int, logit: float) -> None:
    layer = modulate(conv(seed=seed)).double()
    proportion = layer.parametrizations.weight[0]
    with torch.no_grad():
        proportion.theta.fill_(logit)
    low, high = spans(3, 3, guard=0, zero_mean=False)
    kernels = layer.parametrizations.weight.original.detach().flatten(2)
    rho_low, rho_high = (
        filters_low_energy((kernels @ span.T @ span).reshape(16, 3, 3, 3)) for span in (low, high)
    )
    a = torch.sigmoid(proportion.theta.detach())
    expected = a * rho_low + (1 - a) * rho_high
    torch.testing.assert_close(filters_low_energy(layer.weight.detach()), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_modulate_equals_the_layer_at_first(name: str) -> None:
    free, layer = conv(name), modulate(conv(name))
    images = torch.rand(4, free.in_channels, 12, 12)
    torch.testing.assert_close(layer.weight, free.weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(layer.eval()(images), free(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_in_training_each_image_sees_filters_of_its_own(name: str) -> None:
    layer = modulate(conv(name), shared=2.0, independent=1.0, clean=0.25).double().train()
    images = torch.rand(12, layer.in_channels, 12, 12, dtype=torch.float64)
    torch.manual_seed(5)
    mixed = layer(images)
    proportion, original = layer.parametrizations.weight[0], layer.parametrizations.weight.original
    torch.manual_seed(5)
    thetas = proportion.perturbed(len(images)).detach()
    low, _ = spans(*layer.kernel_size, guard=0, zero_mean=False)
    kernels = original.detach().flatten(2)
    below = (kernels @ low.T @ low).reshape(original.shape)
    above = original.detach() - below
    size = original.detach().flatten(1).norm(dim=1)
    plain = conv(name).double()
    for image, theta, response in zip(images, thetas, mixed, strict=True):
        a = torch.sigmoid(theta)
        scale_low, scale_high = (
            (root * size / part.flatten(1).norm(dim=1))[:, None, None, None]
            for root, part in ((a.sqrt(), below), ((1 - a).sqrt(), above))
        )
        plain.weight.data = scale_low * below + scale_high * above
        torch.testing.assert_close(plain.weight.flatten(1).norm(dim=1), size, rtol=1e-6, atol=0)
        torch.testing.assert_close(response, plain(image[None])[0], rtol=0, atol=1e-6)
    is_clean = (thetas == proportion.theta).all(dim=1)
    assert 0 < int(is_clean.sum()) < len(images)


def test_perturbations_have_the_spreads_and_the_clean_fraction_asked_for() -> None:
    layer = modulate(conv(), shared=2.0, independent=1.0, clean=0.25)
    proportion = layer.parametrizations.weight[0]
    torch.manual_seed(0)
    offset = (proportion.perturbed(8000) - proportion.theta).detach()
    is_clean = (offset == 0).all(dim=1)
    assert float(is_clean.double().mean()) == pytest.approx(0.25, abs=0.02)
    offset = offset[~is_clean]
    assert float(offset.mean(dim=1).std()) == pytest.approx((4 + 1 / 16) ** 0.5, rel=0.03)
    assert float((offset - offset.mean(dim=1, keepdim=True)).std()) == pytest.approx(
        (15 / 16) ** 0.5, rel=0.03
    )


@pytest.mark.parametrize("off", [{"clean": 1.0}, {"shared": 0.0, "independent": 0.0}])
def test_with_nothing_to_perturb_training_equals_evaluation_and_draws_nothing(off: dict[str, float]) -> None:
    layer = modulate(conv(), **off)
    images = torch.rand(4, 3, 8, 8)
    state = torch.get_rng_state()
    assert torch.equal(layer.train()(images), layer.eval()(images))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_single_image_without_a_batch_axis_and_keywords_are_taken() -> None:
    layer = modulate(conv(), clean=0.0).train()
    image = torch.rand(3, 8, 8)
    torch.manual_seed(0)
    alone = layer(input=image)
    torch.manual_seed(0)
    torch.testing.assert_close(alone, layer(image[None])[0])


def test_proportions_are_learned_apart_from_the_weights() -> None:
    layer = modulate(conv())
    model = small_network(layer)
    thetas = list(proportion_parameters(model))
    assert [tuple(theta.shape) for theta in thetas] == [(16,)]
    start = thetas[0].detach().clone()
    others = [parameter for parameter in model.parameters() if parameter is not thetas[0]]
    groups = [{"params": others, "weight_decay": 0.01}, {"params": thetas, "lr": 1.0}]
    optimise(model, torch.optim.SGD(groups, lr=0.1, momentum=0.9), 3, steps=20)
    assert bool(thetas[0].isfinite().all())
    assert float((thetas[0].detach() - start).abs().max()) > 1e-3


def test_a_filter_of_zeros_stays_one_and_gives_no_infinities() -> None:
    layer = conv()
    with torch.no_grad():
        layer.weight[3] = 0
    modulate(layer, clean=0.0).train()
    layer(torch.rand(4, 3, 8, 8)).square().sum().backward()
    assert bool((layer.weight[3] == 0).all())
    assert all(bool(parameter.grad.isfinite().all()) for parameter in layer.parameters())


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("verb", ["set_share", "modulate"])
def test_baking_leaves_the_plain_layer_with_equal_outputs(name: str, verb: str) -> None:
    layer = conv(name)
    weight, names = layer.weight, list(layer.state_dict())
    model = small_network(layer)
    set_share(layer, low=0.5) if verb == "set_share" else modulate(layer)
    optimise(model, sgd(model), layer.in_channels, steps=3)
    images = torch.rand(4, layer.in_channels, 12, 12)
    before = model.eval()(images)
    assert bake(model) is model
    assert type(layer) is nn.Conv2d
    assert layer.weight is weight
    assert list(layer.state_dict()) == names
    assert not layer._forward_hooks
    torch.testing.assert_close(model(images), before, rtol=0, atol=1e-6)
    set_share(layer, low=0.5)
    bake(layer)
    assert type(layer) is nn.Conv2d


def test_baking_a_model_without_such_layers_changes_nothing() -> None:
    model = nn.Sequential(
        SpectralNoise(), parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.Conv2d(4, 4, 3)
    )
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert bake(model) is model
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
    assert isinstance(model[0], SpectralNoise)


def test_a_layer_with_further_parametrizations_is_not_folded() -> None:
    model = nn.Sequential(set_share(conv(), low=0.5), set_share(nn.Conv2d(16, 4, 3), low=0.5))
    parametrizations.spectral_norm(model[1])
    with pytest.raises(ValueError, match=r"bake cannot fold 1: .*_SpectralNorm"):
        bake(model)
    assert parametrize.is_parametrized(model[0])


@pytest.mark.parametrize("verb", ["set_share", "modulate"])
def test_copies_are_independent_of_each_other(verb: str) -> None:
    layer = set_share(conv(), low=0.5) if verb == "set_share" else modulate(conv(), clean=0.0)
    twin = copy.deepcopy(layer)
    images = torch.rand(4, 3, 8, 8)
    outputs = []
    for each in (layer, twin):
        torch.manual_seed(0)
        outputs.append(each.train()(images))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0)
    weight = layer.weight.detach().clone()
    bake(twin)
    assert type(twin) is nn.Conv2d
    assert not twin._forward_hooks
    assert torch.equal(layer.weight, weight)
    torch.manual_seed(0)
    torch.testing.assert_close(layer(images), outputs[0], rtol=0, atol=0)


@pytest.mark.parametrize("verb", ["set_share", "modulate"])
def test_a_state_dict_goes_into_a_fresh_layer_whatever_its_seed(verb: str) -> None:
    def made(seed: int) -> nn.Conv2d:
        layer = conv(seed=seed)
        return set_share(layer, low=0.5, seed=seed) if verb == "set_share" else modulate(layer)

    one, other = made(0), made(1)
    assert not torch.equal(one.weight, other.weight)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.weight, other.weight)


def test_an_assigned_weight_is_kept_to_its_spans_or_proportions() -> None:
    new = torch.randn(16, 3, 3, 3)
    layer = set_share(conv(), low=0.5)
    layer.weight = new
    held(layer, 8)
    modulated = modulate(conv())
    modulated.weight = new
    torch.testing.assert_close(modulated.weight.detach(), new, rtol=0, atol=1e-6)


def test_half_of_five_filters_is_rounded_as_python_rounds() -> None:
    layer = set_share(nn.Conv2d(3, 5, 3), low=0.5)
    held(layer, 2)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Linear(3, 3), "needs a torch.nn.Conv2d, got Linear; pass the layer itself"),
        (nn.ConvTranspose2d(3, 3, 3), "got ConvTranspose2d"),
        (nn.Conv2d(3, 3, 1), "needs a kernel larger than 1x1"),
        (nn.Conv2d(3, 3, 3, dilation=2), r"needs a layer without dilation, got \(2, 2\)"),
        (nn.LazyConv2d(3, 3), "initialised real parameter"),
        (set_share(nn.Conv2d(3, 3, 3), low=1.0), "parametrized already; bake it first"),
        (modulate(nn.Conv2d(3, 3, 3)), "parametrized already; bake it first"),
        (parametrizations.weight_norm(nn.Conv2d(3, 3, 3)), "parametrized already"),
    ],
)
def test_layers_that_cannot_be_held_are_refused(layer: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=f"set_share.*{message}"):
        set_share(layer, low=0.5)
    with pytest.raises(ValueError, match=f"modulate.*{message}"):
        modulate(layer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 1.5}, r"low needs a share in \[0, 1\], got 1.5"),
        ({"low": float("nan")}, "low needs a share"),
        ({"low": 0.5, "cutoff": 0.7}, "cutoff needs a radius"),
        ({"low": 0.5, "guard": -0.1}, "guard needs a number"),
        ({"low": 0.5, "guard": 0.6}, "a 3x3 kernel has no low filters at cutoff 0.3989 with guard 0.6"),
        ({"low": 0.5, "cutoff": 0.1}, "a 3x3 kernel has no high filters at cutoff 0.1 with guard 0.1"),
    ],
)
def test_shares_that_do_not_exist_are_refused_and_leave_the_layer_plain(
    options: dict[str, float], message: str
) -> None:
    layer = conv()
    with pytest.raises(ValueError, match=message):
        set_share(layer, **options)
    assert type(layer) is nn.Conv2d


def test_a_filter_with_nothing_in_its_part_is_refused_and_leaves_the_layer_plain() -> None:
    layer = conv()
    with torch.no_grad():
        layer.weight[:] = 1
    with pytest.raises(ValueError, match="filter 0 has nothing in the high span"):
        set_share(layer, low=0.0)
    bake(set_share(layer, low=1.0))
    with pytest.raises(ValueError, match="filter 0 has nothing in the high part"):
        modulate(layer)
    assert type(layer) is nn.Conv2d


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shared": -1.0}, "shared needs a number of at least 0, got -1.0"),
        ({"independent": float("inf")}, "independent needs a number"),
        ({"clean": 2.0}, r"clean needs a fraction in \[0, 1\]"),
        ({"bands": "eigen"}, "bands needs 'two', got 'eigen'; more bands are not implemented"),
    ],
)
def test_modulation_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    layer = conv()
    with pytest.raises(ValueError, match=message):
        modulate(layer, **options)
    assert type(layer) is nn.Conv2d


def test_a_convolution_with_its_own_forward_cannot_be_modulated() -> None:
    class Halved(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) / 2

    with pytest.raises(ValueError, match="got a Halved with its own forward"):
        modulate(Halved(3, 4, 3))
    assert float(filters_low_energy(set_share(Halved(3, 4, 3), low=1.0).weight.detach()).min()) > 0.6
