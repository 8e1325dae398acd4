"""SpectralNoise: what it is, that each part does what it says, and what it leaves alone."""

import copy
import io
import itertools
import json
import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from filterbands.control import noise as noise_module
from filterbands.control.noise import BAND_EDGES, PROFILE, SpectralNoise
from filterbands.fourier import filter_images, radius_grid, shape_noise

GAINS_ONLY = {"noise": 0.0, "clean": 0.0, "clamp": False}
CIRCULAR = {**GAINS_ONLY, "padding": "circular"}


def photographs(count: int, size: tuple[int, int] = (32, 32), seed: int = 0) -> Tensor:
    """Return images in [0.2, 0.8] with the 1/f^2 power of natural ones."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(count, 3, *size, generator=generator)
    radius = radius_grid(*size, half=True)
    radius[0, 0] = radius[radius > 0].min()
    smooth = filter_images(white, (1 / radius)[None, None])
    low, high = smooth.amin(dim=(1, 2, 3), keepdim=True), smooth.amax(dim=(1, 2, 3), keepdim=True)
    return 0.2 + 0.6 * (smooth - low) / (high - low)


def drawn(images: Tensor, *, seed: int = 0, **options: object) -> Tensor:
    torch.manual_seed(seed)
    return SpectralNoise(**options)(images)


def slow_bump(band: int, radius: float) -> float:
    """Return one band's bump, from its definition: a raised cosine between neighbouring centres."""
    centre = [math.log(math.sqrt(a * b) / 32) for a, b in itertools.pairwise(BAND_EDGES)]
    x = math.log(radius)
    if (band == 0 and x <= centre[0]) or (band == len(centre) - 1 and x >= centre[-1]):
        return 1.0
    for other in (band - 1, band + 1):
        if 0 <= other < len(centre) and min(centre[band], centre[other]) <= x <= max(
            centre[band], centre[other]
        ):
            return 0.5 + 0.5 * math.cos(math.pi * (x - centre[band]) / (centre[other] - centre[band]))
    return 0.0


def test_bumps_are_raised_cosines_that_sum_to_one() -> None:
    options = {"half": True, "device": torch.device("cpu"), "dtype": torch.float64}
    bumps = noise_module._bumps(20, 30, **options).reshape(8, 20, 16)
    radius = radius_grid(20, 30, half=True).double()
    torch.testing.assert_close(bumps.sum(dim=0), torch.ones(20, 16, dtype=torch.float64), rtol=0, atol=1e-12)
    for band in range(8):
        for i, j in ((0, 1), (3, 2), (10, 15), (17, 0), (5, 9)):
            assert float(bumps[band, i, j]) == pytest.approx(slow_bump(band, float(radius[i, j])), abs=1e-6)


@pytest.mark.parametrize("layer", [(3, 1), (5, 1), (3, 2)])
def test_a_gain_on_the_image_is_the_same_gain_on_every_filter(layer: tuple[int, int]) -> None:
    size, dilation = layer
    images = torch.rand(4, 3, 16, 16, dtype=torch.float64)
    weight = torch.randn(6, 3, size, size, dtype=torch.float64)
    # The same draws on a unit impulse give each image's h.
    impulse = torch.zeros_like(images)
    impulse[:, :, 0, 0] = 1
    kernels = drawn(impulse, **CIRCULAR)
    perturbed = drawn(images, **CIRCULAR)
    on_images = circular_conv(perturbed, weight, dilation)
    for image, kernel, response in zip(images, kernels, on_images, strict=True):
        # w * h, a kernel as large as the image.
        spread = torch.zeros(6, 3, 16, 16, dtype=torch.float64)
        for i in range(size):
            for j in range(size):
                shift = ((i - size // 2) * dilation, (j - size // 2) * dilation)
                # A convolution layer correlates, hence the mirrored taps.
                moved = torch.roll(kernel, (-shift[0], -shift[1]), dims=(1, 2))
                spread += weight[:, :, i, j, None, None] * moved
        product = torch.fft.fft2(spread) * torch.fft.fft2(image)
        expected = torch.fft.ifft2(product.sum(dim=1)).real
        torch.testing.assert_close(response, expected, rtol=0, atol=1e-5)


def circular_conv(images: Tensor, weight: Tensor, dilation: int) -> Tensor:
    border = dilation * (weight.shape[-1] // 2)
    return F.conv2d(F.pad(images, (border,) * 4, mode="circular"), weight, dilation=dilation)


def test_a_short_kernel_on_the_image_is_one_on_the_filters_away_from_the_border() -> None:
    dilation, half, m = 2, 1, 2
    images = torch.rand(1, 1, 20, 20, dtype=torch.float64)
    weight = torch.randn(1, 1, 3, 3, dtype=torch.float64)
    short = torch.rand(1, 1, 2 * m + 1, 2 * m + 1, dtype=torch.float64)
    short = short + short.flip(2, 3)
    image_side = F.conv2d(F.conv2d(images, short, padding=m), weight, padding=2, dilation=dilation)
    wide = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    wide[:, :, ::dilation, ::dilation] = weight
    combined = F.conv_transpose2d(wide, short)
    filter_side = F.conv2d(images, combined, padding=m + 2)
    border = m + dilation * half
    inside = (..., slice(border, -border), slice(border, -border))
    torch.testing.assert_close(image_side[inside], filter_side[inside], rtol=0, atol=1e-5)
    assert float((image_side - filter_side).abs().max()) > 1e-3


def test_added_noise_is_added_to_every_response() -> None:
    images = torch.rand(3, 3, 16, 16, dtype=torch.float64)
    options = {"strength": 0.0, "gain": 0.0, "noise": 0.1, "clean": 0.0, "clamp": False}
    added = drawn(images, **options) - images
    torch.testing.assert_close(added, drawn(torch.zeros_like(images), **options), rtol=0, atol=1e-12)
    assert float(added.abs().max()) > 1e-3


def test_evaluation_is_the_identity() -> None:
    images = torch.rand(4, 3, 16, 16) * 3 - 1
    assert SpectralNoise().eval()(images) is images


@pytest.mark.parametrize("off", [{"strength": 0.0, "gain": 0.0, "noise": 0.0}, {"clean": 1.0}])
def test_with_all_parts_off_or_all_images_clean_nothing_happens(off: dict[str, float]) -> None:
    images = torch.rand(16, 3, 16, 16)
    assert torch.equal(drawn(images, **off), images)


def test_without_strength_the_gain_is_the_same_at_all_frequencies_and_never_above_one() -> None:
    images = photographs(32)
    result = drawn(images, strength=0.0, **GAINS_ONLY)
    mean = images.mean(dim=(2, 3), keepdim=True)
    factor = (result - mean).flatten(1).norm(dim=1) / (images - mean).flatten(1).norm(dim=1)
    torch.testing.assert_close(
        result, mean + factor[:, None, None, None] * (images - mean), rtol=0, atol=1e-5
    )
    assert float(factor.max()) <= 1.0 + 1e-6
    assert float(factor.min()) >= math.exp(-2) - 1e-6
    assert float(factor.std()) > 0.1


def test_without_gain_log_gains_follow_the_profile_and_seven_tenths_are_low_pass() -> None:
    impulse = torch.zeros(4000, 1, 32, 32, dtype=torch.float64)
    impulse[:, :, 0, 0] = 1
    response = torch.fft.rfft2(drawn(impulse, strength=1.0, gain=0.0, **CIRCULAR))[:, 0]
    assert float(response.imag.abs().max()) < 1e-9
    log_gain = response.real.log()
    assert float(log_gain[:, 0, 0].abs().max()) < 1e-9
    options = {"half": True, "device": torch.device("cpu"), "dtype": torch.float64}
    bumps = noise_module._bumps(32, 32, **options)[:, 1:]
    parts = torch.linalg.lstsq(bumps.T, log_gain.flatten(1)[:, 1:].T).solution
    torch.testing.assert_close(parts.T @ bumps, log_gain.flatten(1)[:, 1:], rtol=0, atol=1e-9)
    spread = parts.square().mean(dim=1).sqrt()
    torch.testing.assert_close(spread, torch.tensor(PROFILE, dtype=torch.float64), rtol=0.05, atol=0)
    assert float((parts.sum(dim=0) < 0).double().mean()) == pytest.approx(0.7, abs=0.03)


def test_half_the_strength_is_half_the_log_gain() -> None:
    impulse = torch.zeros(8, 1, 16, 16, dtype=torch.float64)
    impulse[:, :, 0, 0] = 1
    whole, half = (drawn(impulse, strength=s, gain=0.0, **CIRCULAR) for s in (1.0, 0.5))
    spectra = (torch.fft.rfft2(x).real.log() for x in (whole, half))
    first, second = spectra
    torch.testing.assert_close(first, 2 * second, rtol=0, atol=1e-9)


@pytest.mark.parametrize("padding", ["reflect", "circular"])
def test_means_are_kept_by_all_parts(padding: str) -> None:
    images = photographs(64)
    result = drawn(images, padding=padding, clean=0.0, clamp=False)
    assert float((result - images).abs().max()) > 0.05
    torch.testing.assert_close(result.mean(dim=(2, 3)), images.mean(dim=(2, 3)), rtol=0, atol=1e-5)


def test_means_are_perturbed_on_request() -> None:
    images = photographs(64)
    for options in ({"noise": 0.0}, {"strength": 0.0, "gain": 0.0}):
        result = drawn(images, dc=True, clean=0.0, clamp=False, **options)
        change = (result.mean(dim=(2, 3)) - images.mean(dim=(2, 3))).abs()
        assert float(change.median()) > 1e-3


def test_clean_images_are_a_fraction_of_images_not_of_batches() -> None:
    images = photographs(8).repeat(250, 1, 1, 1)
    same = (drawn(images, clean=0.4) == images).flatten(1).all(dim=1)
    assert float(same.double().mean()) == pytest.approx(0.4, abs=0.03)
    by_batch = same.reshape(-1, 8).sum(dim=1)
    assert len(by_batch.unique()) > 4


def test_a_third_of_the_perturbed_images_gets_each_mixture() -> None:
    # On constant images gains do nothing, and so noise alone shows; on bright ones its absence does.
    flat = torch.full((3000, 1, 8, 8), 0.5)
    changed = (drawn(flat, clean=0.4) != flat).flatten(1).any(dim=1)
    noisy = (drawn(flat, clean=0.4) - flat).flatten(1).abs().amax(dim=1) > 1e-4
    assert float(noisy.double().mean()) == pytest.approx(0.4, abs=0.03)
    ramp = torch.linspace(0, 1, 8).expand(3000, 1, 8, 8)
    all_changed = (drawn(ramp, clean=0.4) - ramp).flatten(1).abs().amax(dim=1) > 1e-4
    gained_only = all_changed & ~noisy
    assert float(all_changed.double().mean()) == pytest.approx(0.6, abs=0.03)
    assert float(gained_only.double().mean()) == pytest.approx(0.2, abs=0.03)
    assert bool((changed | ~noisy).all())
    no_noise = (drawn(ramp, clean=0.4, noise=0.0) - ramp).flatten(1).abs().amax(dim=1) > 1e-4
    assert float(no_noise.double().mean()) == pytest.approx(0.6, abs=0.03)


def test_noise_has_the_mean_rms_it_is_given_and_a_limit() -> None:
    black = torch.zeros(4000, 3, 16, 16)
    added = drawn(black, strength=0.0, gain=0.0, noise=0.06, clean=0.0, clamp=False)
    rms = added.square().mean(dim=(1, 2, 3)).sqrt()
    # An exponential of mean 0.06 scatters by 0.06: three standard errors.
    assert float(rms.mean()) == pytest.approx(0.06, abs=0.003)
    assert float(rms.max()) <= 0.25 + 1e-6
    assert float(rms.max()) > 0.22


def test_noise_spectra_colours_and_tails_vary_by_image() -> None:
    black = torch.zeros(600, 3, 32, 32)
    added = drawn(black, strength=0.0, gain=0.0, noise=0.06, clean=0.0, clamp=False)
    low = torch.fft.fft2(added).abs().square()[..., radius_grid(32, 32) < 0.15].sum(dim=(1, 2))
    share = low / torch.fft.fft2(added).abs().square().sum(dim=(1, 2, 3))
    assert float(share.min()) < 0.05
    assert float(share.max()) > 0.95
    flat = added.flatten(2)
    between = (flat[:, 0] * flat[:, 1]).sum(dim=1) / (flat[:, 0].norm(dim=1) * flat[:, 1].norm(dim=1))
    assert float(between.min()) < 0.2
    assert float(between.max()) > 0.9
    touched = (added != 0).any(dim=1).flatten(1).double().mean(dim=1)
    assert float((touched < 0.2).double().mean()) == pytest.approx(0.3, abs=0.06)
    assert float(touched[touched < 0.2].max()) < 0.15


def test_shaped_noise_has_the_spectrum_asked_for_and_independent_fields() -> None:
    torch.manual_seed(0)
    radius = radius_grid(8, 8).double()
    amplitude = (1 + radius).reciprocal()[None].expand(2000, 8, 8)
    white = torch.randn(2000, 1, 8, 8, 2, dtype=torch.float64)
    fields = shape_noise(white, amplitude)
    power = torch.fft.fft2(fields, norm="ortho").abs().square().mean(dim=(0, 1))
    torch.testing.assert_close(power, amplitude[0].square(), rtol=0.15, atol=0)
    assert abs(float((fields[:, 0] * fields[:, 1]).mean())) < 0.02


def test_the_result_is_clamped_unless_asked_otherwise() -> None:
    images = torch.rand(64, 3, 16, 16).round()
    kept = drawn(images, noise=0.2)
    assert float(kept.min()) >= 0
    assert float(kept.max()) <= 1
    free = drawn(images, noise=0.2, clamp=False)
    assert float(free.max()) > 1
    torch.testing.assert_close(free.clamp(0, 1), kept, rtol=0, atol=0)


def test_opposite_borders_do_not_bleed_into_each_other_by_default() -> None:
    images = torch.zeros(64, 1, 32, 32)
    images[..., -1] = 1
    bled = {}
    for padding in ("reflect", "circular"):
        change = drawn(images, gain=0.0, dc=True, padding=padding, **GAINS_ONLY) - images
        bled[padding] = float(change[..., 0].abs().mean())
    assert bled["reflect"] < bled["circular"] / 5


@given(st.integers(8, 20), st.integers(8, 20), st.integers(1, 5), st.sampled_from(["reflect", "circular"]))
def test_any_size_and_number_of_channels_works(height: int, width: int, channels: int, padding: str) -> None:
    images = torch.rand(6, channels, height, width)
    result = drawn(images, padding=padding, clean=0.0)
    assert result.shape == images.shape
    assert bool(result.isfinite().all())
    assert float((result - images).abs().max()) > 0


def test_images_are_not_changed_in_place_and_an_empty_batch_passes() -> None:
    images = torch.rand(16, 3, 16, 16)
    kept = images.clone()
    assert drawn(images).shape == images.shape
    assert torch.equal(images, kept)
    assert drawn(images[:0]).shape == (0, 3, 16, 16)


def test_gradients_reach_the_images() -> None:
    images = photographs(4).requires_grad_()
    drawn(images, clean=0.0, clamp=False).square().sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().min()) >= 0
    assert float(images.grad.abs().sum()) > 0


def test_a_table_first_used_in_inference_mode_serves_training_afterwards() -> None:
    noise_module._bumps.cache_clear()
    with torch.inference_mode():
        drawn(torch.rand(4, 3, 24, 24), clean=0.0)
    images = torch.rand(4, 3, 24, 24, requires_grad=True)
    drawn(images, clean=0.0).sum().backward()
    assert images.grad is not None


def test_autocast_changes_nothing() -> None:
    images = photographs(16)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = drawn(images)
    assert torch.equal(mixed, drawn(images))


def test_half_precision_images_come_back_as_such() -> None:
    images = photographs(8).bfloat16()
    result = drawn(images)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result, drawn(images.float()).bfloat16(), rtol=0, atol=0)


def test_draws_follow_the_default_generator_and_differ_by_seed() -> None:
    images = photographs(16)
    assert torch.equal(drawn(images, seed=3), drawn(images, seed=3))
    # As two processes whose launcher offsets the seed by the rank.
    assert not torch.equal(drawn(images, seed=3), drawn(images, seed=4))


def test_it_has_no_state_and_can_be_copied() -> None:
    network = nn.Sequential(SpectralNoise(strength=0.5), nn.Conv2d(3, 4, 3))
    assert list(network.state_dict()) == ["1.weight", "1.bias"]
    assert "strength=0.5" in repr(copy.deepcopy(network)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": -1.0}, "strength needs a number of at least 0, got -1.0"),
        ({"gain": math.nan}, "gain needs a number of at least 0"),
        ({"noise": math.inf}, "noise needs a number of at least 0"),
        ({"clean": 1.5}, r"clean needs a fraction in \[0, 1\], got 1.5"),
        ({"padding": "zero"}, "padding needs 'reflect' or 'circular', got 'zero'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpectralNoise(**options)


@pytest.mark.parametrize("images", [torch.full((1, 3, 8, 8), 1.5), torch.full((1, 3, 8, 8), math.nan)])
def test_images_outside_of_the_range_are_refused_not_cut(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"needs images in \[0, 1\].*before the normalization"):
        SpectralNoise()(images)


def test_images_too_small_for_the_padding_are_refused() -> None:
    with pytest.raises(
        ValueError, match="reflect padding needs images of at least 5 pixels per side, got 4x9"
    ):
        SpectralNoise()(torch.rand(1, 3, 4, 9))


@pytest.mark.parametrize("images", [torch.zeros(3, 16, 16, dtype=torch.uint8), torch.rand(2, 2, 3, 16, 16)])
def test_what_is_no_image_or_batch_of_floats_is_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"needs floats in \[0, 1\] of shape \(b, c, h, w\) or \(c, h, w\)"):
        SpectralNoise()(images)


def test_one_image_is_a_batch_of_one() -> None:
    image = photographs(1)[0]
    assert torch.equal(drawn(image, clean=0.0), drawn(image[None], clean=0.0)[0])
    assert SpectralNoise().eval()(image) is image


# In processes of their own, since the checks of array types that tests switch on are not to be compiled.
COMPILED = """
import json, sys, torch
from torch import nn
from filterbands.control import SpectralNoise
torch.set_num_threads(1)
torch.manual_seed(0)
network = nn.Sequential(SpectralNoise(), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(3600, 5))
compiled = torch.compile(network, backend=sys.argv[1], fullgraph=True)
for count in (16, 7):
    compiled(torch.rand(count, 3, 32, 32)).logsumexp(1).sum().backward()
learns = all(bool(one.grad.abs().sum() > 0) for one in network.parameters())
try:
    compiled(torch.rand(16, 3, 32, 32) + 1)
except RuntimeError as error:
    print(json.dumps([learns, str(error)]))
"""

FIGURES = """
import json, sys, torch
from filterbands.control import SpectralNoise
torch.set_num_threads(1)
def run(module, images):
    return torch.cat([module(part) for part in images.split(500)])
def figures(wrap):
    torch.manual_seed(1)
    flat = torch.full((4000, 3, 16, 16), 0.5)
    ramp = torch.linspace(0.2, 0.8, 16).expand(4000, 3, 16, 16)
    added = run(wrap(SpectralNoise(strength=0.0, gain=0.0, noise=0.06, clean=0.4, clamp=False)), flat) - flat
    rms = added.square().mean(dim=(1, 2, 3)).sqrt()
    shown = rms > 1e-6
    sparse = ((added.abs() > 1e-7).any(dim=1).double().mean(dim=(1, 2)) < 0.15)[shown]
    gained = run(wrap(SpectralNoise(noise=0.0, strength=1.0, clean=0.4, clamp=False)), ramp)
    power = lambda images: torch.fft.rfft2(images)[:, 0, 0, 1:].abs()
    log_gain = (power(gained) / power(ramp)).log()
    moved = (log_gain.abs() > 1e-5).any(dim=1)
    low, high = log_gain[moved, 0], log_gain[moved, -1]
    both = run(wrap(SpectralNoise(clean=0.4)), flat)
    noised = ((both - flat).abs().amax(dim=(1, 2, 3)) > 1e-6).double()
    return [float(one) for one in (
        shown.double().mean(), rms[shown].mean(), rms[shown].std(), sparse.double().mean(),
        moved.double().mean(), low.mean(), low.std(), high.mean(), high.std(), noised.mean(),
    )]
with torch.no_grad():
    compiled = figures(lambda module: torch.compile(module, backend="aot_eager", fullgraph=True))
    print(json.dumps([figures(lambda module: module), compiled]))
"""


def in_a_process(code: str, *arguments: str) -> list[object]:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_training_step_with_it_compiles_as_one_graph_and_still_refuses_other_images(backend: str) -> None:
    learns, said = in_a_process(COMPILED, backend)
    assert learns
    assert "SpectralNoise needs images in [0, 1]; place it before the normalization" in str(said)


@pytest.mark.slow
def test_compiled_it_draws_from_the_same_distributions() -> None:
    eager, compiled = in_a_process(FIGURES)
    # Shares of 4,000 images scatter by 0.008, means and deviations of 2,400 by two percent: five times that.
    assert compiled == pytest.approx(eager, rel=0.1, abs=0.04)


def test_a_network_with_it_is_exported_in_evaluation_mode() -> None:
    network = nn.Sequential(SpectralNoise(), nn.Conv2d(3, 4, 3)).eval()
    images = torch.rand(2, 3, 16, 16)
    exported = torch.export.export(network, (images,))
    kept = io.BytesIO()
    torch.export.save(exported, kept)
    kept.seek(0)
    torch.testing.assert_close(torch.export.load(kept).module()(images), network(images))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
# torch 2.14 is about to drop it.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
def test_scripting_is_refused_with_the_line_that_says_what_to_take() -> None:
    with pytest.raises(ValueError, match=r"cannot be scripted by torch\.jit; script the network behind it"):
        torch.jit.script(nn.Sequential(SpectralNoise(), nn.Conv2d(3, 4, 3)))
