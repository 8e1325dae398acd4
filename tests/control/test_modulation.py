"""modulate: proportions learned and perturbed, two bands or the eigenfilters, strengths by ascent."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from filterbands.control import modulation
from filterbands.control.bake import bake
from filterbands.control.modulation import modulate, proportion_parameters
from filterbands.control.proportion import set_share
from filterbands.filters.bands import energy_matrix, filters_low_energy, spans
from filterbands.models import held

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
@pytest.mark.parametrize("bands", ["two", "eigen"])
def test_modulate_equals_the_layer_at_first(name: str, bands: str) -> None:
    free, layer = conv(name), modulate(conv(name), bands=bands)
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


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("bands", ["two", "eigen"])
def test_both_ways_to_answer_each_image_with_its_own_filters_are_one(
    name: str, bands: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.rand(6, LAYERS[name]["in_channels"], 12, 12, dtype=torch.float64)
    answers, gradients = [], []
    for small in (True, False):
        monkeypatch.setattr(modulation, "_has_small_patches", lambda *_, small=small: small)
        layer = modulate(conv(name), bands=bands).double().train()
        torch.manual_seed(5)
        answers.append(layer(images))
        answers[-1].square().sum().backward()
        gradients.append([parameter.grad for parameter in layer.parameters()])
    assert_close(*answers, rtol=0, atol=1e-9)
    assert_close(*gradients, rtol=0, atol=1e-6)


CHANGES: dict[str, Callable[[nn.Conv2d], nn.Conv2d]] = {
    "share": lambda layer: set_share(layer, low=0.5),
    "two bands": modulate,
    "eigenbands": lambda layer: modulate(layer, bands="eigen"),
}


class Largest(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that any operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and found.untyped_storage().nbytes() > 0:
            self.elements = max(self.elements, found.untyped_storage().nbytes() // found.element_size())
        return found


def test_the_eigenbands_of_a_transformers_patches_are_taken_without_a_copy_per_filter() -> None:
    torch.manual_seed(0)
    layer = modulate(nn.Conv2d(3, 96, 16, stride=16), bands="eigen", clean=0.0)
    part = layer.parametrizations.weight[0]
    bands = len(part.projectors)
    plain, images = layer.parametrizations.weight.original.detach(), torch.rand(4, 3, 64, 64)
    with Largest() as largest, torch.no_grad():
        assert_close(layer.eval().weight, plain, rtol=0, atol=1e-6)
        layer.train()(images)
    assert largest.elements <= bands * plain.numel()
    torch.manual_seed(1)
    answers = layer(images)
    torch.manual_seed(1)
    mixed = part._filters(plain, part.perturbed(4))
    expected = torch.cat(
        [F.conv2d(image[None], own, layer.bias, stride=16) for image, own in zip(images, mixed, strict=True)]
    )
    assert_close(answers, expected, rtol=0, atol=1e-5)


def test_kernels_large_and_small_have_one_definition_of_their_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    part = modulate(conv(), bands="eigen").parametrizations.weight[0]
    weight = conv().weight.detach()
    copied = part._parts(weight)
    monkeypatch.setattr(held, "_COPIES", 0)
    assert_close(part._parts(weight), copied, rtol=0, atol=1e-6)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_channels_last_layout_is_kept(change: Callable[[nn.Conv2d], nn.Conv2d]) -> None:
    layer = change(conv()).to(memory_format=torch.channels_last).train()
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    assert layer(torch.rand(2, 3, 12, 12)).is_contiguous(memory_format=torch.channels_last)
    assert change(conv()).weight.is_contiguous()


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


@pytest.mark.parametrize("bands", ["two", "eigen"])
@pytest.mark.parametrize("off", [{"clean": 1.0}, {"shared": 0.0, "independent": 0.0}])
def test_with_nothing_to_perturb_training_equals_evaluation_and_draws_nothing(
    off: dict[str, float], bands: str
) -> None:
    layer = modulate(conv(), bands=bands, **off)
    images = torch.rand(4, 3, 8, 8)
    state = torch.get_rng_state()
    assert torch.equal(layer.train()(images), layer.eval()(images))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("bands", ["two", "eigen"])
def test_a_single_image_without_a_batch_axis_and_keywords_are_taken(bands: str) -> None:
    layer = modulate(conv(), clean=0.0, bands=bands).train()
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


@pytest.mark.parametrize("bands", ["two", "eigen"])
def test_a_filter_of_zeros_stays_one_and_gives_no_infinities(bands: str) -> None:
    layer = conv()
    with torch.no_grad():
        layer.weight[3] = 0
    modulate(layer, clean=0.0, bands=bands).train()
    layer(torch.rand(4, 3, 8, 8)).square().sum().backward()
    assert bool((layer.weight[3] == 0).all())
    assert all(bool(parameter.grad.isfinite().all()) for parameter in layer.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shared": -1.0}, "shared needs a number of at least 0, got -1.0"),
        ({"independent": float("inf")}, "independent needs a number"),
        ({"clean": 2.0}, r"clean needs a fraction in \[0, 1\]"),
        ({"bands": "ten"}, "bands needs 'two' or 'eigen', got 'ten'"),
        ({"budget": 0.0}, "budget needs a number above 0, got 0.0; leave it out"),
        ({"budget": float("nan")}, "budget needs a number above 0"),
        ({"budget": 1.0, "shared": 0.0, "independent": 0.0}, "needs a division to start from"),
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


def tied_bands(kh: int, kw: int) -> list[Tensor]:
    """Return the eigenfilters of the equal-area cutoff, rows a band, those of one eigenvalue together."""
    values, vectors = torch.linalg.eigh(energy_matrix(kh, kw, cutoff=(2 * torch.pi) ** -0.5))
    bands: list[list[Tensor]] = []
    for number in range(len(values) - 1, -1, -1):
        if number < len(values) - 1 and float(values[number + 1] - values[number]) < 1e-6:
            bands[-1].append(vectors[:, number])
        else:
            bands.append([vectors[:, number]])
    return [torch.stack(band) for band in bands]


def test_tied_eigenfilters_of_3x3_make_7_bands() -> None:
    assert [len(band) for band in tied_bands(3, 3)] == [1, 2, 1, 1, 1, 2, 1]
    layer = modulate(conv(), bands="eigen")
    assert [tuple(theta.shape) for theta in proportion_parameters(layer)] == [(16, 7)]


@pytest.mark.parametrize("name", LAYERS)
def test_with_eigenbands_each_image_sees_filters_of_its_own_and_of_the_same_energy(name: str) -> None:
    options = {"shared": 1.0, "independent": 0.5, "clean": 0.25}
    layer = modulate(conv(name), bands="eigen", **options).double().train()
    images = torch.rand(12, layer.in_channels, 12, 12, dtype=torch.float64)
    torch.manual_seed(5)
    mixed = layer(images)
    part, original = layer.parametrizations.weight[0], layer.parametrizations.weight.original.detach()
    torch.manual_seed(5)
    offsets = part.spread.offsets(len(images), part.theta).detach()
    plain = conv(name).double()
    for image, offset, response in zip(images, offsets, mixed, strict=True):
        changed = torch.zeros_like(original)
        for number, band in enumerate(tied_bands(*layer.kernel_size)):
            inside = (original.flatten(2) @ band.T @ band).reshape(original.shape)
            changed += (offset[:, number] / 2).exp()[:, None, None, None] * inside
        size, new = (weight.flatten(1).norm(dim=1) for weight in (original, changed))
        plain.weight.data = changed * (size / new)[:, None, None, None]
        torch.testing.assert_close(response, plain(image[None])[0], rtol=0, atol=1e-6)
    assert 0 < int((offsets == 0).all(dim=(1, 2)).sum()) < len(images)


def test_within_a_held_share_every_image_sees_the_share() -> None:
    layer = set_share(conv(), low=0.25)
    with pytest.raises(ValueError, match=r'held in one span by set_share.*use bands="eigen"'):
        modulate(layer)
    before = layer.weight.detach().clone()
    modulate(layer, bands="eigen", clean=0.0)
    torch.testing.assert_close(layer.weight.detach(), before, rtol=0, atol=1e-6)
    impulse = torch.zeros(6, 3, 5, 5)
    low, high = spans(3, 3)
    for channel in range(3):
        impulse.zero_()[:, channel, 2, 2] = 1
        with torch.no_grad():
            # The response to an impulse is the kernel, turned round; its spans are symmetric.
            kernels = (layer.train()(impulse) - layer.bias[:, None, None])[:, :, 1:4, 1:4].flatten(2)
        assert float((kernels[0] - kernels[1]).abs().max()) > 1e-3
        for kernel, weight in zip(kernels.movedim(1, 0), layer.weight, strict=True):
            is_low = float(filters_low_energy(weight[None].detach())) > 0.5
            span = (low if is_low else high).float()
            torch.testing.assert_close(kernel @ span.T @ span, kernel, rtol=0, atol=1e-5)
    bake(layer.eval())
    torch.testing.assert_close(layer.weight.detach(), before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bands", ["two", "eigen"])
def test_a_budget_is_divided_by_ascent_and_kept(bands: str) -> None:
    layer = conv()
    with torch.no_grad():
        # All filters answer to brightness alike, so that what they share does more than what each has.
        layer.weight.abs_()
    modulate(layer, bands=bands, shared=1.0, independent=1.0, clean=0.0, budget=1.5)
    spread = layer.parametrizations.weight[0].spread
    start = spread.strengths().detach()
    optimizer = torch.optim.Adam([spread.division], lr=0.05)
    images = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    clean = layer.eval()(images).detach()
    layer.train()

    def loss() -> Tensor:
        return (layer(images) - clean).mean(dim=(1, 2, 3)).square().mean()

    torch.manual_seed(3)
    for _ in range(40):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    end = spread.strengths().detach()
    assert float(end[0].square().sum()) > 1.2 * float(start[0].square().sum())
    for strengths in (start, end):
        assert float(strengths.square().sum()) == pytest.approx(1.5**2 * spread.bands, rel=1e-5)
    losses = []
    for strengths in (start, end):
        with torch.no_grad():
            spread.division.copy_(strengths.square().log())
            losses.append(sum(float(loss()) for _ in range(20)))
    assert losses[1] > losses[0]


@pytest.mark.parametrize("bands", ["two", "eigen"])
def test_eigenbands_and_budgets_are_copied_saved_and_baked(bands: str) -> None:
    layer = modulate(conv(), bands=bands, budget=1.0)
    model = small_network(layer)
    optimise(model, torch.optim.SGD(model.parameters(), lr=0.1), 3, steps=5)
    twin = copy.deepcopy(model)
    other = small_network(modulate(conv(seed=1), bands=bands, budget=1.0))
    other.load_state_dict(model.state_dict())
    images = torch.rand(4, 3, 8, 8)
    before = model.eval()(images)
    for each in (twin, other):
        torch.testing.assert_close(bake(each.eval())(images), before, rtol=0, atol=1e-5)
        assert type(each[0]) is nn.Conv2d
        assert not each[0]._forward_hooks
    assert torch.equal(model(images), before)


@pytest.mark.parametrize("bands", ["two", "eigen"])
def test_a_layer_is_not_modulated_twice(bands: str) -> None:
    with pytest.raises(ValueError, match="modulate needs a plain layer, this one is parametrized already"):
        modulate(modulate(conv(), bands=bands), bands=bands)
    held = modulate(set_share(conv(), low=1.0), bands="eigen")
    with pytest.raises(ValueError, match="parametrized already; bake it first"):
        modulate(held, bands="eigen")
    with pytest.raises(ValueError, match="set_share needs a plain layer"):
        set_share(modulate(conv(), bands=bands), low=1.0)
