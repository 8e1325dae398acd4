"""What the docs state of control and perturbation as a law, for layers and images of any shape."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from filterbands.control import (
    SpectralNoise,
    WhiteNoise,
    bake,
    modulate,
    recalibrate,
    set_blur,
    set_random_share,
    set_share,
    shrink,
)
from filterbands.control.penalty import attract_share
from filterbands.filters import EQUAL_AREA, filters_low_energy, line, live_filters, spans

SIZES = [(3, 3), (5, 5), (3, 5), (4, 4), (7, 3)]
seeds = st.integers(0, 2**31)
shares = st.floats(0, 1)


@st.composite
def layers(draw: st.DrawFn) -> nn.Conv2d:
    """Draw a convolution of any size, stride, padding, groups, bias and precision."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    torch.manual_seed(draw(seeds))
    layer = nn.Conv2d(
        groups * draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 4)),
        draw(st.sampled_from(SIZES)),
        stride=draw(st.integers(1, 2)),
        padding=draw(st.integers(0, 2)),
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "circular", "reflect"])),
    )
    return layer.to(draw(st.sampled_from([torch.float32, torch.float64])))


def plain_weight(layer: nn.Conv2d) -> Tensor:
    return layer.weight.detach().clone()


def images_for(layer: nn.Conv2d, count: int = 3) -> Tensor:
    return torch.rand(count, layer.in_channels, 12, 11, dtype=layer.weight.dtype)


def energy(weight: Tensor) -> Tensor:
    return weight.detach().double().square().sum(dim=(-3, -2, -1))


@given(
    layers(), shares, st.sampled_from([0.0, 0.1, 0.2]), st.booleans(), st.none() | st.integers(-5, 9), seeds
)
@settings(max_examples=25)
def test_a_held_share_is_round_of_low_times_filters_with_their_norms_whatever_the_weights_become(
    layer, low, guard, zero_mean, seed, moved
):
    before = plain_weight(layer)
    options = {"guard": guard, "zero_mean": zero_mean}
    set_share(layer, low=low, seed=seed, **options)
    assert_close(energy(layer.weight), energy(before), rtol=1e-4, atol=1e-12)
    if seed is None and 0 < round(low * len(before)) < len(before):
        # The lowest at present are the low ones.
        is_low = layer.parametrizations.weight[0].is_low.bool()
        share = filters_low_energy(before)
        assert float(share[is_low].min()) >= float(share[~is_low].max())
    parameter = layer.parametrizations.weight.original
    torch.manual_seed(moved)
    with torch.no_grad():
        parameter.add_(torch.randn_like(parameter))
    share = filters_low_energy(layer.weight.detach())
    middle = line(EQUAL_AREA)
    assert int((share >= middle + guard - 1e-5).sum()) >= round(low * len(before))
    assert int((share <= middle - guard + 1e-5).sum()) >= len(before) - round(low * len(before))
    if zero_mean:
        highs = layer.weight.detach()[layer.parametrizations.weight[0].is_low == 0]
        assert float(highs.sum(dim=(2, 3)).abs().sum()) < 1e-3
    # What is held is held already: its projection is itself.
    held = plain_weight(layer)
    layer.weight = held
    assert_close(layer.weight.detach(), held, rtol=1e-4, atol=1e-6)


HOLDS: dict[str, Any] = {
    "share": lambda layer, low: set_share(layer, low=low),
    "random share": lambda layer, low: set_random_share(layer, low=low),
    "two bands": lambda layer, _: modulate(layer),
    "eigenbands": lambda layer, _: modulate(layer, bands="eigen", budget=1.0),
    "a share's eigenbands": lambda layer, low: modulate(set_share(layer, low=low), bands="eigen"),
    "blur": lambda layer, low: set_blur(layer, side=0.05 + low / 4),
}


@given(layers(), st.sampled_from(sorted(HOLDS)), shares, seeds)
@settings(max_examples=30)
def test_a_baked_layer_is_plain_and_answers_the_same_and_states_load_into_a_copy(layer, name, low, seed):
    fresh = copy.deepcopy(layer)
    held = HOLDS[name](layer, low).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in held.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    images = images_for(held)
    answers = held(images).detach()
    twin = HOLDS[name](fresh, 1 - low).eval()
    twin.load_state_dict(held.state_dict())
    assert torch.equal(twin(images).detach(), answers)
    plain = bake(held)
    assert type(plain) is nn.Conv2d
    assert set(plain.state_dict()) <= {"weight", "bias"}
    assert_close(plain(images).detach(), answers, rtol=1e-5, atol=1e-5)


@given(layers(), st.sampled_from(["two", "eigen"]), st.floats(0, 3), st.floats(0, 3), seeds)
@settings(max_examples=25)
def test_modulation_is_nothing_at_first_and_never_changes_the_energy_of_a_filter(
    layer, bands, shared, independent, seed
):
    before, images = plain_weight(layer), images_for(layer)
    answers = layer(images).detach()
    modulate(layer, bands=bands, shared=shared, independent=independent, clean=0.0)
    assert_close(layer.weight.detach(), before, rtol=1e-4, atol=1e-6)
    assert_close(layer.eval()(images).detach(), answers, rtol=1e-4, atol=1e-5)
    part = layer.parametrizations.weight[0]
    torch.manual_seed(seed)
    with torch.no_grad():
        part.theta.add_(torch.randn_like(part.theta))
        seen = part._filters(layer.parametrizations.weight.original, part.perturbed(4))
    # Also with a theta of its own, and as each of four images sees it.
    assert_close(energy(layer.weight), energy(before), rtol=1e-4, atol=1e-12)
    assert_close(energy(seen), energy(before).expand(4, -1), rtol=1e-4, atol=1e-12)


@given(layers(), st.floats(0.1, 3), st.floats(0, 3), st.floats(0, 3), st.sampled_from(["two", "eigen"]))
@settings(max_examples=20)
def test_the_squares_of_the_strengths_add_up_to_the_budget_whatever_is_learned(
    layer, budget, shared, independent, bands
):
    if shared == independent == 0:
        return
    modulate(layer, bands=bands, budget=budget, shared=shared, independent=independent)
    spread = layer.parametrizations.weight[0].spread
    with torch.no_grad():
        spread.division.add_(torch.randn_like(spread.division))
    strengths = spread.strengths().detach()
    assert_close(strengths.square().sum(), torch.tensor(budget**2 * spread.bands), rtol=1e-4, atol=0)
    assert strengths.shape[1] == (1 if bands == "two" else spread.bands)


@given(layers(), seeds)
@settings(max_examples=15)
def test_the_low_energy_of_a_proportion_is_the_mixture_that_the_docs_write(layer, seed):
    modulate(layer)
    torch.manual_seed(seed)
    part = layer.parametrizations.weight[0]
    with torch.no_grad():
        part.theta.normal_(0, 2)
    weight = plain_weight(layer).double()
    low, high = (
        (weight.flatten(2) @ span.T @ span).reshape(weight.shape)
        for span in spans(*layer.kernel_size, guard=0, zero_mean=False)
    )
    a = part.theta.detach().double().sigmoid()
    mixed = a * filters_low_energy(low) + (1 - a) * filters_low_energy(high)
    assert_close(filters_low_energy(weight), mixed, atol=1e-4, rtol=0)


@given(layers(), st.floats(0.01, 1 / 3))
@settings(max_examples=15)
def test_a_blurred_layer_is_the_layer_with_each_kernel_blurred_and_keeps_gain_at_zero(layer, side):
    before = plain_weight(layer)
    size = layer.kernel_size
    set_blur(layer, side=side)
    assert layer.kernel_size == (size[0] + 2, size[1] + 2)
    assert_close(layer.weight.detach().sum(dim=(2, 3)), before.sum(dim=(2, 3)), rtol=1e-4, atol=1e-5)
    # A blur is low: the energy within the cutoff that is left is a larger part.
    assert float(filters_low_energy(layer.weight.detach()).mean()) > float(filters_low_energy(before).mean())


@given(layers(), shares, st.integers(0, 99))
@settings(max_examples=10)
def test_a_random_share_has_the_dimensions_of_the_share(layer, low, seed):
    low_span, high_span = spans(*layer.kernel_size)
    set_random_share(layer, low=low, seed=seed)
    projectors = layer.parametrizations.weight[0].projectors.double()
    assert [round(float(one.trace()), 3) for one in projectors] == [len(low_span), len(high_span)]
    assert float((projectors[0] @ projectors[1]).abs().max()) < 1e-5
    assert int(layer.parametrizations.weight[0].is_low.sum()) == round(low * layer.out_channels)


@given(layers(), st.floats(0, 1), st.floats(0, 5), seeds)
@settings(max_examples=15)
def test_the_penalty_is_its_formula(layer, target, strength, seed):
    weight = layer.weight.detach()
    mean = filters_low_energy(weight)[live_filters(weight)].mean()
    found = attract_share(layer, target=target, strength=strength)
    assert_close(found.detach(), strength * (mean - target) ** 2, rtol=1e-4, atol=1e-7)


@st.composite
def pictures(draw: st.DrawFn) -> Tensor:
    """Draw a batch of float images of any size, number of channels and precision."""
    shape = [
        draw(st.integers(1, 4)),
        draw(st.integers(1, 4)),
        draw(st.integers(8, 20)),
        draw(st.integers(8, 20)),
    ]
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    generator = torch.Generator().manual_seed(draw(seeds))
    return torch.rand(shape, generator=generator).to(dtype)


@given(
    pictures(),
    *(st.floats(0, 2), st.floats(0, 2), st.floats(0, 0.2), st.floats(0, 1), st.booleans()),
    *(st.sampled_from(["reflect", "circular"]), seeds),
)
@settings(max_examples=30)
def test_spectral_noise_stays_in_range_and_form_and_does_nothing_in_evaluation_or_to_clean_images(
    images, strength, gain, noise, clean, dc, padding, seed
):
    options: dict[str, Any] = {
        "strength": strength,
        "gain": gain,
        "noise": noise,
        "dc": dc,
        "padding": padding,
    }
    module = SpectralNoise(**options, clean=clean)
    before = images.clone()
    torch.manual_seed(seed)
    seen = module(images)
    assert (seen.shape, seen.dtype) == (images.shape, images.dtype)
    assert bool(((seen >= 0) & (seen <= 1)).all())
    assert torch.equal(images, before)
    assert torch.equal(module.eval()(images), images)
    assert torch.equal(SpectralNoise(**options, clean=1.0)(images), images)
    torch.manual_seed(seed)
    assert torch.equal(SpectralNoise(**options, clean=clean)(images), seen)


@given(pictures(), st.floats(0, 2), st.floats(0, 2), st.floats(0, 0.2), seeds)
@settings(max_examples=25)
def test_without_clamp_the_mean_of_every_channel_stays(images, strength, gain, noise, seed):
    torch.manual_seed(seed)
    images = images.double()
    seen = SpectralNoise(
        strength=strength, gain=gain, noise=noise, clean=0.0, clamp=False, padding="circular"
    )(images)
    assert_close(seen.mean(dim=(2, 3)), images.mean(dim=(2, 3)), atol=1e-9, rtol=0)


@given(pictures(), st.floats(0.01, 1), st.floats(0, 1), seeds)
@settings(max_examples=15)
def test_white_noise_stays_in_range_and_does_nothing_in_evaluation_or_to_clean_images(
    images, sigma, clean, seed
):
    torch.manual_seed(seed)
    seen = WhiteNoise(sigma, clean=clean)(images)
    assert bool(((seen >= 0) & (seen <= 1)).all())
    assert seen.dtype == images.dtype
    assert torch.equal(WhiteNoise(sigma, clean=clean).eval()(images), images)
    assert torch.equal(WhiteNoise(sigma, clean=1.0)(images), images)


@given(st.sampled_from(SIZES), st.integers(1, 3), st.booleans(), st.booleans(), st.floats(0.02, 0.5), seeds)
@settings(max_examples=15)
def test_shrinking_keeps_the_mean_response_and_shrinks_more_for_more_noise(
    size, channels, bias, norm, noise, seed
):
    torch.manual_seed(seed)
    images = torch.rand(40, channels, 14, 14)
    layer = nn.Conv2d(channels, 4, size, bias=bias)
    model = nn.Sequential(layer, nn.BatchNorm2d(4) if norm else nn.Identity()).eval()
    recalibrate([images], model)
    before, low_energy = copy.deepcopy(model), []
    for level in (noise, 3 * noise):
        shrunk = shrink(copy.deepcopy(model), images, noise=level)
        if bias or norm:
            means = [one(images).detach().mean(dim=(0, 2, 3)) for one in (before, shrunk)]
            assert_close(means[1], means[0], atol=2e-4, rtol=1e-3)
        low_energy.append(energy(shrunk[0].weight))
    assert bool((low_energy[0] <= energy(layer.weight) * (1 + 1e-5)).all())
    assert bool((low_energy[1] <= low_energy[0] * (1 + 1e-5)).all())


@given(st.integers(1, 4), st.integers(1, 6), st.integers(2, 9), seeds)
@settings(max_examples=15)
def test_recalibrated_statistics_are_the_averages_over_batches(batches, channels, images, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.BatchNorm2d(channels), nn.Dropout(0.5), SpectralNoise(clamp=False))
    data = [torch.rand(images, channels, 8, 8) for _ in range(batches)]
    recalibrate(data, model)
    means = torch.stack([batch.mean(dim=(0, 2, 3)) for batch in data])
    spreads = torch.stack([batch.var(dim=(0, 2, 3)) for batch in data])
    assert_close(model[0].running_mean, means.mean(dim=0), rtol=1e-4, atol=1e-5)
    assert_close(model[0].running_var, spreads.mean(dim=0), rtol=1e-4, atol=1e-5)
    assert model.training


@given(layers(), st.floats(0.2, 0.8), seeds)
@settings(max_examples=15)
def test_of_plain_weights_that_are_loaded_the_lowest_become_the_low_ones_with_their_norms(layer, low, seed):
    size = layer.kernel_size
    set_share(layer, low=low)
    torch.manual_seed(seed)
    # Filters from nearly low to nearly high.
    parts = [torch.randn(layer.weight.shape).flatten(2).double() @ one.T @ one for one in spans(*size)]
    mixture = torch.rand(len(layer.weight))[:, None, None].double()
    plain = (mixture * parts[0] + (1 - mixture) * parts[1]).reshape(layer.weight.shape).to(layer.weight.dtype)
    bias = {} if layer.bias is None else {"bias": layer.bias.detach()}
    layer.load_state_dict({"weight": plain, **bias})
    kernels = plain.double().flatten(2)
    inside = [(kernels @ span.T).square().sum(dim=(1, 2)) for span in spans(*size)]
    proportion = inside[0] / (inside[0] + inside[1])
    is_low = layer.parametrizations.weight[0].is_low
    count = round(low * layer.out_channels)
    assert sorted(is_low.tolist()) == [0] * (layer.out_channels - count) + [1] * count
    if 0 < count < layer.out_channels:
        assert float(proportion[is_low == 1].min()) >= float(proportion[is_low == 0].max()) - 1e-6
    assert_close(energy(layer.weight), energy(plain), rtol=1e-4, atol=1e-12)
    assert f"{count} of {layer.out_channels} filters low" in repr(layer)


@given(layers(), st.floats(-6, 3))
@settings(max_examples=10)
def test_a_filter_of_zeros_stays_one_and_one_without_its_part_is_refused_at_any_scale(layer, power):
    with torch.no_grad():
        layer.weight[0] = 0
        layer.weight.mul_(10**power)
    lowest = copy.deepcopy(layer)
    set_share(layer, low=1.0)
    assert not layer.weight[0].detach().any()
    assert bool(layer.weight.detach().isfinite().all())
    with torch.no_grad():
        lowest.weight[:] = 10**power
    with pytest.raises(ValueError, match="set_share: filter 0 has nothing in the high span"):
        set_share(lowest, low=0.0)
    assert type(lowest) is nn.Conv2d


class Standardized(nn.Conv2d):
    """A layer that applies other weights than it stores."""

    def forward(self, images: Tensor) -> Tensor:
        return self._conv_forward(images, self.weight - self.weight.mean(), self.bias)


def test_a_layer_that_applies_other_weights_than_it_stores_is_refused() -> None:
    for verb, hold in (("set_share", set_share), ("set_random_share", set_random_share)):
        with pytest.raises(ValueError, match=f"{verb}.*"):
            hold(Standardized(3, 4, 3), low=0.5)
    for hold, options in ((modulate, {}), (set_blur, {"side": 0.2})):
        with pytest.raises(ValueError, match="Standardized"):
            hold(Standardized(3, 4, 3), **options)
