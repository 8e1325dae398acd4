"""Pass curves, spectra and vulnerability: closed forms, slow definitions, bad input."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from filterbands import fourier
from filterbands.corruptions import corrupt
from filterbands.datasets import ImageSet, load_data
from filterbands.models import load_model
from filterbands.probes import (
    ProbeConfig,
    Spectrum,
    cifar10_moments,
    correlate,
    corruption_spectra,
    filters_vulnerability,
    gradient_spectrum,
    layer_vulnerability,
    pass_curves,
    patch_moments,
    vulnerability,
)
from filterbands.probes.passes import BANDS, CORNER, SHAPES, STEPS, _filtered, pass_gain, reached


def waves(count: int = 24, cycles: int = 6, size: int = 16) -> ImageSet:
    """Return images whose class is whether a wave of `cycles` is there, over a low-frequency ground."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    column = torch.arange(size)
    wave = torch.cos(2 * math.pi * cycles * column / size)[None, None, None] * labels[:, None, None, None]
    ground = (
        20
        * torch.cos(2 * math.pi * column / size)[None, None, :, None]
        * torch.randn(count, 1, 1, 1, generator=generator).clamp(-1, 1)
    )
    images = (128 + 60 * wave + ground).round().clamp(0, 255).to(torch.uint8)
    return ImageSet(
        name="waves",
        split="test",
        images=images.expand(-1, 3, -1, size).contiguous(),
        labels=labels,
        classes=("no", "yes"),
        index=torch.arange(count),
    )


class WaveDetector(nn.Module):
    def __init__(self, cycles: int = 6, size: int = 16) -> None:
        super().__init__()
        self.register_buffer("wave", torch.cos(2 * math.pi * cycles * torch.arange(size) / size))

    def forward(self, images: Tensor) -> Tensor:
        answer = (images.mean(dim=1) * self.wave).mean(dim=(1, 2)) - 0.05
        return torch.stack([-answer, answer], dim=1)


def test_a_detector_of_one_frequency_works_where_that_is_let_through() -> None:
    found = pass_curves(WaveDetector(), waves())
    radius = 6 / 16
    through = found.radii >= radius
    assert found.clean == 1.0
    assert found.curves["low_ideal"].tolist() == [1.0 if seen else 0.5 for seen in through]
    assert found.curves["high_ideal"].tolist() == [0.5 if seen else 1.0 for seen in through]
    assert found.curves["band_ideal"].tolist() == [
        1.0 if radius <= outer and radius > outer - CORNER / STEPS else 0.5 for outer in found.radii.tolist()
    ]
    for share in (0.1, 0.9):
        reach = found.reached[share]
        assert reach is not None
        # The radius lies between the two steps around the wave's own.
        assert abs(reach[0] - radius) <= CORNER / STEPS
        assert reach[1] <= reach[0] <= reach[2]
    assert found.reached[0.1][0] < found.reached[0.9][0]  # type: ignore[index]


def test_the_widest_low_pass_leaves_the_image_and_its_error() -> None:
    data = load_data("planted").subset(torch.arange(10))
    torch.manual_seed(0)
    found = pass_curves(load_model(arch="fastnet"), data)
    assert found.curves["low_ideal"][-1] == pytest.approx(found.clean)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (9, 14), (32, 7)])
def test_ideal_bands_split_the_frequencies(height: int, width: int) -> None:
    rings = sum(pass_gain("band_ideal", step, height, width) for step in range(STEPS))
    expected = torch.ones(height, width // 2 + 1)
    expected[0, 0] = STEPS  # every filter keeps the mean
    assert torch.equal(rings, expected)
    for step in range(STEPS):
        both = pass_gain("low_ideal", step, height, width) + pass_gain("high_ideal", step, height, width)
        assert both.flatten()[1:].eq(1).all()
    for shape in SHAPES:
        for band in BANDS:
            gain = pass_gain(f"{band}_{shape}", 3, height, width)
            assert float(gain.min()) >= 0
            assert float(gain.max()) <= 1
            assert gain[0, 0] == 1


def test_a_gaussian_pass_has_half_its_gain_at_the_radius() -> None:
    radius = fourier.radius_grid(4096, 1, half=True)[:, 0]
    for step in (0, 5, 10):
        edge = (step + 1) * CORNER / STEPS
        at = int((radius[:2048] - edge).abs().argmin())
        for name in ("low_gaussian", "high_gaussian", "band_gaussian"):
            assert float(pass_gain(name, step, 4096, 1)[at, 0]) == pytest.approx(0.5, abs=0.02)


def test_phases_and_amplitudes_alone() -> None:
    # One image: the mean amplitude is its own, so that its phases alone give it back.
    data = waves(count=2).subset(torch.tensor([1]))
    found = pass_curves(WaveDetector(), data)
    assert found.phase_only == found.clean == 1.0
    again = pass_curves(WaveDetector(), data, config=ProbeConfig(batch_size=1))
    assert again.amplitude_only == found.amplitude_only


def test_what_the_radii_reach_follows_a_curve_known_in_closed_form() -> None:
    radii = np.arange(1, 17) / 16
    images = 1000
    # Right from radius i / 1000 on: the curve is a straight line from 0, and guessing gives 0.
    right = (np.arange(images)[None] / images) < radii[:, None]
    found = reached(right, np.ones(images, dtype=bool), radii, 0.9, 0.0)
    assert found is not None
    assert found[0] == pytest.approx(0.9, abs=1e-3)  # images are of whole thousandths
    assert found[1] < 0.9 < found[2]
    # A share of 0.9 of 1,000 images, and the curve rises by the image.
    assert found[2] - found[1] == pytest.approx(2 * 1.96 * math.sqrt(0.9 * 0.1 / images), rel=0.2)
    assert reached(right, np.zeros(images, dtype=bool), radii, 0.9, 0.1) is None


@pytest.mark.parametrize("named", [0, None])
def test_a_network_that_is_no_better_than_the_largest_class_reaches_nothing(named: int | None) -> None:
    generator = torch.Generator().manual_seed(0)

    class Naming(nn.Module):
        """Names one class, or any."""

        def forward(self, images: Tensor) -> Tensor:
            shape = (len(images), 2)
            return (
                torch.rand(shape, generator=generator) if named is None else torch.eye(2)[[named] * shape[0]]
            )

    whole = waves(count=60)
    uneven = ImageSet(
        name="uneven",
        split="test",
        images=whole.images,
        labels=(torch.arange(60) >= 54).long(),
        classes=("a", "b"),
        index=whole.index,
    )
    found = pass_curves(Naming(), uneven)
    assert found.reached == {0.1: None, 0.9: None}


def test_resamples_without_a_gain_are_not_left_out_in_silence() -> None:
    radii = np.arange(1, 17) / 16
    # One of 4 images more than half: half of the resamples have no gain.
    right = np.tile(np.arange(8) < 5, (16, 1))
    assert reached(right, right[0], radii, 0.9, 0.5) is None
    assert reached(right, right[0], radii, 0.9, 0.1) is not None


def test_images_and_labels_that_were_made_in_inference_mode_have_a_gradient() -> None:
    with torch.inference_mode():
        made = waves(count=4)
    usual = gradient_spectrum(WaveDetector(), waves(count=4))
    assert torch.equal(gradient_spectrum(WaveDetector(), made).power, usual.power)


RAN: list[int] = []


def _count(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    RAN.append(len(inputs[0]))


def test_pass_curves_are_resumed_from_the_database(tmp_path: Path) -> None:
    model, data, db = WaveDetector(), waves(), tmp_path / "r.db"
    model.register_forward_pre_hook(_count)
    first = pass_curves(model, data, db=db)
    RAN.clear()
    assert pass_curves(model, data, db=db).to_json() == first.to_json()
    # One batch shows the outputs, three are for the fingerprint.
    assert RAN == [2, 2, 2, 2]


def test_a_corruptions_spectrum_is_that_of_the_difference() -> None:
    data = load_data("planted").subset(torch.arange(12))
    found = corruption_spectra(data, kinds=["gaussian_noise", "brightness", "contrast"], severities=[2, 5])
    made = corrupt(data.images, "contrast", severity=5, seed=0, index=data.index)
    added = (made.double() - data.images.double()).numpy() / 255
    slow = np.fft.fftshift((np.abs(np.fft.fft2(added)) ** 2).mean(axis=(0, 1)) / 1024)
    spectrum = found.spectra["contrast", 5]
    np.testing.assert_allclose(spectrum.power.numpy(), slow, rtol=1e-3, atol=1e-8)
    assert spectrum.total == pytest.approx(float((added**2).mean()), rel=1e-4)
    assert found.low_energy("brightness") > 0.95
    # White noise has the disc's own share of the grid, about one half.
    assert found.low_energy("gaussian_noise") == pytest.approx(0.5, abs=0.03)
    assert found.kinds == ("gaussian_noise", "brightness", "contrast")


def test_spectra_are_kept_and_bad_kinds_told(tmp_path: Path) -> None:
    data, db = load_data("planted").subset(torch.arange(6)), tmp_path / "r.db"
    first = corruption_spectra(data, kinds=["fog"], severities=[1], db=db)
    again = corruption_spectra(data, kinds=["fog"], severities=[1], db=db)
    assert torch.equal(first.spectra["fog", 1].power, again.spectra["fog", 1].power)
    with pytest.raises(ValueError, match="did you mean fog"):
        corruption_spectra(data, kinds=["fogg"])
    with pytest.raises(ValueError, match="severities need"):
        corruption_spectra(data, kinds=["fog"], severities=[6])


def test_the_gradient_of_a_linear_network_has_its_weights_spectrum() -> None:
    found = gradient_spectrum(WaveDetector(), waves())
    power = found.power
    assert float(power.sum()) == pytest.approx(1 / 3, rel=1e-4)  # unit norm, mean over three channels
    assert float(power[8, 8 + 6] + power[8, 8 - 6]) == pytest.approx(float(power.sum()), rel=1e-4)


def test_patch_moments_are_those_of_every_patch() -> None:
    data = load_data("planted").subset(torch.arange(5))
    found = patch_moments(data, kernel=(2, 3), kinds=["contrast"], severities=[4])
    made = corrupt(data.images, "contrast", severity=4, seed=0, index=data.index)
    clean, added = [], []
    for before, after in zip(data.images.double() / 255, made.double() / 255, strict=True):
        for y in range(31):
            for x in range(30):
                clean.append(before[:, y : y + 2, x : x + 3].flatten())
                added.append((after - before)[:, y : y + 2, x : x + 3].flatten())
    covariance = torch.cov(torch.stack(clean).T, correction=0)
    moment = torch.stack(added).T @ torch.stack(added) / len(added)
    torch.testing.assert_close(found.clean, covariance, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(found.added["contrast", 4], moment, rtol=1e-4, atol=1e-7)
    with pytest.raises(ValueError, match="kernel needs sides"):
        patch_moments(data, kernel=(3, 40))


def test_vulnerability_is_the_measured_ratio_of_powers() -> None:
    data = load_data("planted").subset(torch.arange(30))
    moments = patch_moments(data, kinds=["gaussian_noise"], severities=[3])
    torch.manual_seed(0)
    weight = torch.randn(4, 3, 3, 3)
    made = corrupt(data.images, "gaussian_noise", severity=3, seed=0, index=data.index)
    before, after = (nn.functional.conv2d(images.float() / 255, weight) for images in (data.images, made))
    measured = (after - before).square().mean(dim=(0, 2, 3)) / before.var(dim=(0, 2, 3), correction=0)
    added, clean = moments.added["gaussian_noise", 3], moments.clean
    torch.testing.assert_close(filters_vulnerability(weight, added, clean), measured, rtol=1e-3, atol=0)
    scale = torch.tensor([1.0, 0.0, 2.0, 0.5])
    powers = (after - before).square().mean(dim=(0, 2, 3)), before.var(dim=(0, 2, 3), correction=0)
    whole = (powers[0] * scale**2).sum() / (powers[1] * scale**2).sum()
    found = layer_vulnerability(weight, added, clean, scale=scale)
    torch.testing.assert_close(found, whole, rtol=1e-3, atol=0)


def test_vulnerability_has_a_gradient_and_no_scale() -> None:
    moments = cifar10_moments()
    added = moments.added["shot_noise", 4]
    torch.manual_seed(0)
    weight = torch.randn(3, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: layer_vulnerability(w, added, moments.clean), weight)
    found = filters_vulnerability(weight, added, moments.clean)
    torch.testing.assert_close(filters_vulnerability(7 * weight, added, moments.clean), found)
    assert filters_vulnerability(torch.zeros(2, 3, 3, 3), added, moments.clean).tolist() == [0, 0]
    with pytest.raises(ValueError, match="filters of 27 inputs"):
        filters_vulnerability(torch.ones(2, 3, 5, 5), added, moments.clean)
    with pytest.raises(ValueError, match="one number per filter"):
        layer_vulnerability(torch.ones(2, 3, 3, 3), added, moments.clean, scale=torch.ones(3))


def test_a_networks_vulnerability_knows_its_normalisation_and_batch_norm() -> None:
    torch.manual_seed(0)
    model = load_model(arch="fastnet", std=(0.1, 0.2, 0.4))
    assert isinstance(model.bn1, nn.BatchNorm2d)
    with torch.no_grad():
        model.bn1.running_var.uniform_(0.5, 2)
        model.bn1.weight.uniform_(0.5, 2)
    moments = cifar10_moments()
    found = vulnerability(model)
    weight = model.conv1.weight.detach().double() / torch.tensor([0.1, 0.2, 0.4])[None, :, None, None]
    added = moments.added["fog", 2]
    torch.testing.assert_close(
        found.filters["fog", 2], filters_vulnerability(weight, added, moments.clean), rtol=1e-5, atol=0
    )
    scale = model.bn1.weight.detach().double() / (model.bn1.running_var.double() + model.bn1.eps).sqrt()
    expected = layer_vulnerability(weight, added, moments.clean, scale=scale)
    assert found.whole["fog", 2] == pytest.approx(float(expected), rel=1e-5)
    assert (found.layer, found.batch_norm) == ("conv1", "bn1")
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert vulnerability(plain).batch_norm is None
    with pytest.raises(ValueError, match="kernels of"):
        vulnerability(nn.Conv2d(3, 4, 5))
    with pytest.raises(ValueError, match="three channels"):
        vulnerability(nn.Conv2d(1, 4, 3))
    with pytest.raises(ValueError, match="found none"):
        vulnerability(nn.Conv2d(3, 4, 1))


def test_the_moments_that_come_with_the_package_are_what_they_say(tmp_path: Path) -> None:
    moments = cifar10_moments()
    assert (len(moments.added), len(moments.kinds), moments.kernel) == (95, 19, (3, 3))
    for matrix in (moments.clean, *moments.added.values()):
        values = torch.linalg.eigvalsh(matrix)
        assert float(values.min()) > -1e-7
    # Noise of standard deviation 0.04 to 0.1, as the constants say, clipped and rounded to bytes.
    for severity, sigma in enumerate((0.04, 0.06, 0.08, 0.09, 0.1), start=1):
        power = float(moments.added["gaussian_noise", severity].diagonal().mean())
        assert math.sqrt(power) == pytest.approx(sigma, rel=0.06)
    # The published standard deviations of CIFAR-10's channels.
    deviations = moments.clean.diagonal().reshape(3, 9).mean(dim=1).sqrt().tolist()
    assert deviations == pytest.approx([0.2470, 0.2435, 0.2616], rel=0.03)
    file = tmp_path / "m.npz"
    moments.write(file)
    with np.load(file, allow_pickle=False) as found:
        assert int(found["images"]) == moments.images
    assert file.stat().st_size < 300_000


@pytest.mark.parametrize("size", [32, 96, 224])
def test_images_of_their_amplitudes_alone_have_random_phases_at_any_size(size: int) -> None:
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    mean, index = fourier.amplitude_image(images), torch.arange(1)
    one, other = (_filtered("amplitude_only", 0, mean, seed, images, index) for seed in (0, 1))
    phases = [torch.fft.rfft2(found - found.mean(dim=(2, 3), keepdim=True)).angle() for found in (one, other)]
    assert float((phases[0].abs() < 1e-3).float().mean()) < 0.05
    assert abs(float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])) < 0.1
    kept, were = (torch.fft.rfft2(found).abs() for found in (one, images))
    assert torch.allclose(kept, were, rtol=1e-3, atol=1e-3 * float(were.max()))


def test_one_very_confident_image_does_not_swamp_the_gradients_of_others() -> None:
    class Confident(nn.Module):
        """Its second logit lies as far below the first as the first pixel says."""

        def forward(self, images: Tensor) -> Tensor:
            return torch.stack([100 * images[:, 0, 0, 0], -100 * images.mean(dim=(1, 2, 3))], dim=1)

    images = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    images[1, 0, 0, 0], images[2, 0, 0, 0] = 140, 255
    two = torch.zeros(3, dtype=torch.int64)
    data = ImageSet(name="set", split="test", images=images, labels=two, classes=("a", "b"), index=two)
    # Each image's gradient has unit norm: the mean of its square over channels and frequencies adds up to it.
    assert gradient_spectrum(Confident(), data).total * 3 * 64 == pytest.approx(1, rel=1e-3)


def test_frequency_zero_has_a_ring_of_its_own_where_one_side_is_longer() -> None:
    power = torch.zeros(8, 64)
    power[4, 32], power[4, 33] = 1, 100
    found = Spectrum(power=power)
    assert found.profile[0] == 1
    assert found.radii[0] == 0


def test_a_kind_that_was_not_measured_is_refused() -> None:
    found = corruption_spectra(waves(4), kinds=["fog"], severities=[3])
    assert found.low_energy("fog") > 0
    with pytest.raises(ValueError, match=r"no kind 'fogg' here \(did you mean fog\?\); there are fog"):
        found.low_energy("fogg")


@pytest.mark.parametrize("severities", [[6], []])
def test_severities_that_do_not_exist_get_one_line(severities: list[int]) -> None:
    with pytest.raises(ValueError, match="severities needs numbers from 1 to 5"):
        corruption_spectra(waves(4), kinds=["fog"], severities=severities)


def test_a_correlation_of_what_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="correlate needs finite numbers"):
        correlate([1, 2, math.nan, 4, 5, 6], range(6))
