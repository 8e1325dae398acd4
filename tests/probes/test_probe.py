"""The Fourier heat map against the paper's definition, closed forms, planted labels and bad input."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filterbands import rng
from filterbands.datasets import ImageSet, load_data
from filterbands.fourier import centered, fourier_basis
from filterbands.probes import ProbeConfig, Spectrum, correlate, fourier_heatmap
from filterbands.probes.probe import rank_correlation


def images_of(count: int, height: int = 16, width: int = 16, *, classes: int = 3, seed: int = 0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    return ImageSet(
        name="noise",
        split="test",
        images=torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator),
        labels=torch.randint(0, classes, (count,), generator=generator),
        classes=tuple("abcdefgh"[:classes]),
        index=torch.arange(count) + 7,
    )


def small_network(classes: int = 3) -> nn.Module:
    """Return a network that names every class about as often, and changes its mind under a perturbation."""
    torch.manual_seed(3)
    first, balance = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm1d(classes, affine=False, momentum=None)
    layers = (first, nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96, classes), balance)
    model = nn.Sequential(*layers)
    with torch.no_grad():
        model(torch.rand(200, 3, 16, 16))
    return model.eval()


def slow_error(model: nn.Module, data: ImageSet, i: int, j: int, norm: float, *, seed: int = 0) -> float:
    """Return Yin et al.'s error at one frequency, image by image and channel by channel.

    U_ij is real, of unit norm, and its discrete Fourier transform is zero but at (i, j) and the place that
    mirrors it; the perturbed image is X + r v U_ij with r drawn from {-1, 1} for each channel.
    """
    height, width = data.images.shape[2:]
    spectrum = np.zeros((height, width), dtype=complex)
    spectrum[i % height, j % width] = 1
    spectrum[-i % height, -j % width] = 1
    wave = np.fft.ifft2(spectrum)
    assert np.abs(wave.imag).max() < 1e-12
    unit = wave.real / np.linalg.norm(wave.real)
    # The signs are a matter of the generator; one of two mirror images stands for both.
    row, column = min((i % height, j % width), (-i % height, -j % width))
    wrong = 0
    for image, label, number in zip(data.images, data.labels, data.index, strict=True):
        key = rng.keys(seed, "fourier_heatmap", index=number[None])
        word = int(rng.bits(key, 1, stream=row * width + column))
        noisy = image.double().numpy() / 255
        for channel in range(3):
            sign = 1 if word >> channel & 1 else -1
            noisy[channel] += sign * norm * unit
        with torch.no_grad():
            logits = model(torch.from_numpy(noisy.clip(0, 1)).float()[None])
        wrong += int(logits.argmax() != label)
    return wrong / len(data)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (10, 13)])
def test_the_map_is_the_papers_at_40_random_frequencies(height: int, width: int) -> None:
    data, model = images_of(12, height, width), small_network()
    found = fourier_heatmap(model, data, norm=3.0, config=ProbeConfig(batch_size=7))
    generator = torch.Generator().manual_seed(1)
    for _ in range(40):
        i = int(torch.randint(-(height // 2), height // 2 + 1, (), generator=generator))
        j = int(torch.randint(-(width // 2), width // 2 + 1, (), generator=generator))
        slow = slow_error(model, data, i, j, 3.0)
        assert math.isclose(float(found.error[height // 2 + i, width // 2 + j]), slow, abs_tol=1e-6)
    assert len(found.error.unique()) > 3


@pytest.mark.parametrize(
    ("height", "width", "shape"), [(8, 8, (9, 9)), (9, 9, (9, 9)), (8, 11, (9, 11)), (7, 12, (7, 13))]
)
def test_any_size_gives_a_whole_symmetric_map(height: int, width: int, shape: tuple[int, int]) -> None:
    found = fourier_heatmap(small_network(), images_of(6, height, width), norm=2.0)
    assert tuple(found.error.shape) == shape == tuple(found.radius.shape)
    assert not found.error.isnan().any()
    assert torch.equal(found.error, found.error.flip(0, 1))
    if height % 2 == 0:
        assert torch.equal(found.error[0], found.error[-1])
    if width % 2 == 0:
        assert torch.equal(found.error[:, 0], found.error[:, -1])


def test_only_the_514_distinct_frequencies_of_32x32_are_run() -> None:
    class Counting(nn.Module):
        seen = 0

        def forward(self, images: Tensor) -> Tensor:
            self.seen += len(images)
            return images.mean(dim=(2, 3))

    model = Counting()
    told: list[tuple[int, int]] = []
    data = images_of(3, 32, 32)
    fourier_heatmap(model, data, norm=1.0, progress=lambda done, total, _: told.append((done, total)))
    # Two show whether the outputs fit, three are the clean ones.
    assert model.seen == 514 * 3 + 2 + 3
    assert told[-1] == (514, 514)


class Detector(nn.Module):
    """Class 1 where the image's product with a pattern is further from 0 than `threshold`."""

    def __init__(self, pattern: Tensor, threshold: float) -> None:
        super().__init__()
        self.register_buffer("pattern", pattern)
        self.threshold = threshold

    def forward(self, images: Tensor) -> Tensor:
        answer = ((images - 0.5) * self.pattern).sum(dim=(1, 2, 3)).abs() - self.threshold
        return torch.stack([torch.zeros_like(answer), answer], dim=1)


def test_a_linear_detector_has_the_map_that_its_weights_transform_says() -> None:
    # On grey images the answer to a perturbation is norm * <pattern, U_ij> of the one channel it looks at,
    # by Parseval a Fourier coefficient of the pattern; it errs exactly where that exceeds the threshold.
    torch.manual_seed(8)
    pattern = torch.zeros(3, 12, 12)
    pattern[1] = torch.randn(12, 12)
    data = ImageSet(
        name="grey",
        split="test",
        images=torch.full((2, 3, 12, 12), 128, dtype=torch.uint8),
        labels=torch.zeros(2, dtype=torch.int64),
        classes=("no", "yes"),
        index=torch.arange(2),
    )
    norm, threshold = 2.0, 1.5
    found = fourier_heatmap(Detector(pattern, threshold), data, norm=norm)
    # Along a cosine of unit norm; one that is its own mirror image has 1/sqrt(n), the others sqrt(2/n).
    transform = np.fft.fft2(pattern[1].double().numpy())
    numbers = np.arange(12)
    own = ((2 * numbers[:, None]) % 12 == 0) & ((2 * numbers[None]) % 12 == 0)
    response = np.abs(transform.real) * np.where(own, 1, math.sqrt(2)) / 12
    expected = torch.from_numpy((norm * response > threshold).astype(np.float32))
    # 128 / 255 is not quite 0.5, and nothing is near enough to the line to mind.
    assert np.abs(norm * response - threshold).min() > 0.05
    assert torch.equal(found.error[:12, :12], centered(expected))
    assert 0 < float(found.error.mean()) < 1


def test_a_perturbed_image_is_cut_to_the_range_of_pixels() -> None:
    class Largest(nn.Module):
        lowest, highest = 1.0, 0.0

        def forward(self, images: Tensor) -> Tensor:
            self.lowest = min(self.lowest, float(images.min()))
            self.highest = max(self.highest, float(images.max()))
            return images.mean(dim=(2, 3))

    model = Largest()
    fourier_heatmap(model, images_of(4, 8, 8), norm=50.0)
    assert (model.lowest, model.highest) == (0.0, 1.0)


def test_batches_and_limits_change_no_figure() -> None:
    model, data = small_network(), images_of(9)
    whole = fourier_heatmap(model, data, norm=3.0, limit=5)
    parts = fourier_heatmap(model, data.subset(torch.arange(5)), norm=3.0, config=ProbeConfig(batch_size=3))
    assert torch.equal(whole.error, parts.error)
    other = fourier_heatmap(model, data, norm=3.0, limit=5, config=ProbeConfig(seed=1))
    assert not torch.equal(whole.error, other.error)
    assert whole.images == 5


def test_an_added_feature_map_stands_for_one_on_the_input() -> None:
    # The first module gives the image itself, and nothing of these images is cut by a small norm.
    data = images_of(6)
    data = ImageSet(
        name="mid",
        split="test",
        images=data.images // 4 + 96,
        labels=data.labels,
        classes=data.classes,
        index=data.index,
    )
    torch.manual_seed(0)
    model = nn.Sequential(nn.Identity(), small_network())
    on_input = fourier_heatmap(model, data, norm=1.0)
    on_layer = fourier_heatmap(model, data, norm=1.0, layer="0")
    assert torch.equal(on_input.error, on_layer.error)
    deeper = fourier_heatmap(model, data, norm=1.0, layer="1.2")
    assert tuple(deeper.error.shape) == (5, 5)
    assert not model[0]._forward_hooks
    assert not model[1][2]._forward_hooks


def test_a_stopped_map_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, db = small_network(), images_of(5), tmp_path / "r.db"

    def stop(done: int, total: int, what: str) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fourier_heatmap(model, data, norm=2.0, db=db, progress=stop)
    ran, convolve = [], F.conv2d

    def counting(images: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        if weight is model[0].weight:
            ran.append(len(images))
        return convolve(images, weight, *rest)

    # A hook or another forward would make it another network.
    monkeypatch.setattr(F, "conv2d", counting)
    resumed = fourier_heatmap(model, data, norm=2.0, db=db)
    assert sum(ran) < 0.6 * 130 * 5
    ran.clear()
    again = fourier_heatmap(model, data, norm=2.0, db=db)
    assert sum(ran) == 2
    fourier_heatmap(model, data, norm=2.5, db=db)
    assert sum(ran) > 130 * 5
    whole = fourier_heatmap(model, data, norm=2.0)
    assert torch.equal(resumed.error, whole.error)
    assert torch.equal(again.error, whole.error)


def test_the_network_is_left_as_it_was() -> None:
    model = small_network().train()
    model[0].eval()
    fourier_heatmap(model, images_of(2, 8, 8), norm=1.0, config=ProbeConfig())
    assert model.training
    assert not model[0].training
    assert all(parameter.grad is None for parameter in model.parameters())


class OnlyFor16(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 256, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.flatten(1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": 0.0}, "norm needs a number above 0"),
        ({"norm": -1.0}, "norm needs a number above 0"),
        ({"norm": float("nan")}, "norm needs a number above 0"),
        ({"limit": 0}, "limit needs a number of at least 1"),
        ({"layer": "conv9"}, "no module 'conv9'"),
        ({"layer": "4"}, "needs a module that gives feature maps"),
        ({"data": images_of(2, 8, 8)}, r"cannot take images of shape \(2, 3, 8, 8\)"),
        ({"data": images_of(2, classes=5)}, "expected \\(2, 5\\)"),
    ],
)
def test_bad_input_is_told_in_one_line(changes: dict[str, object], message: str) -> None:
    wanted: dict[str, object] = {"norm": 1.0, "data": images_of(2)} | changes
    model = OnlyFor16() if "data" in changes else small_network()
    with pytest.raises(ValueError, match=message) as caught:
        fourier_heatmap(model, wanted.pop("data"), **wanted)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


class ChannelsLast(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.permute(0, 2, 3, 1)


def test_maps_whose_channels_are_last_are_refused() -> None:
    class Mean(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return maps.mean(dim=(1, 2))

    model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), ChannelsLast(), Mean(), nn.Linear(5, 3))
    with pytest.raises(ValueError, match=r"'1' gives 16 x 16 x 5, which seems to have its channels last"):
        fourier_heatmap(model, images_of(2), norm=1.0, layer="1")
    assert fourier_heatmap(model, images_of(2), norm=1.0, layer="0").size == (16, 16)


def test_nan_is_an_error_and_no_score() -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean(dim=(2, 3)) / 0 - images.mean(dim=(2, 3)) / 0

    with pytest.raises(ValueError, match="NaN"):
        fourier_heatmap(Broken(), images_of(2), norm=1.0)


def test_basis_images_are_orthonormal_and_have_two_frequencies() -> None:
    pairs = [(i, j) for i in range(5) for j in range(8) if i not in (0, 4) or j <= 4]
    basis = fourier_basis(8, 8, torch.tensor([p[0] for p in pairs]), torch.tensor([p[1] for p in pairs]))
    flat = basis.flatten(1).double()
    torch.testing.assert_close(flat @ flat.T, torch.eye(len(pairs), dtype=torch.float64), atol=1e-6, rtol=0)
    for (i, j), image in zip(pairs, basis, strict=True):
        there = np.argwhere(np.abs(np.fft.fft2(image.numpy())) > 1e-4).tolist()
        assert sorted(map(tuple, there)) == sorted({(i, j), (-i % 8, -j % 8)})


def test_a_spectrum_adds_up() -> None:
    power = torch.rand(8, 12)
    spectrum = Spectrum(power=power)
    assert math.isclose(spectrum.total, float(power.mean()), rel_tol=1e-6)
    assert spectrum.low_energy(1.0) == pytest.approx(1.0)
    assert float(spectrum.profile[0]) == pytest.approx(float(power[4, 6]))
    assert 0 < spectrum.low_energy() < 1


def test_rank_correlation_is_pearsons_of_mean_ranks() -> None:
    assert rank_correlation([1, 2, 2, 3], [1, 2, 2, 3]) == 1.0
    # Mean ranks 1, 2.5, 2.5, 4 against 4, 1, 3, 2: -2.5 / sqrt(4.5 * 5), by hand.
    assert rank_correlation([1, 2, 2, 3], [9, 1, 5, 3]) == pytest.approx(-3 / math.sqrt(4.5 * 5))
    assert math.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))
    found = correlate([1, 2, 3, 4, 5, 6, 7, 8], [2, 1, 4, 3, 6, 5, 8, 7])
    assert found is not None
    assert -1 <= found.ci95[0] <= found.value <= found.ci95[1] <= 1
    assert correlate([1, 2, 3], [1, 2, 3]) is None
    with pytest.raises(ValueError, match="one length"):
        correlate([1, 2], [1])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_network_is_sensitive_where_its_label_was_planted(seed: int) -> None:
    from filterbands.models import load_model

    lead = {}
    for band, knobs in {"low": "high=0", "high": "low=0"}.items():
        torch.manual_seed(seed)
        model = load_model(arch="fastnet").to(memory_format=torch.channels_last)
        train = load_data(f"planted:seed={seed},{knobs}", split="train").subset(torch.arange(4000))
        _fit(model, train, epochs=8)
        test = load_data(f"planted:seed={seed},{knobs}")
        found = fourier_heatmap(model, test, norm=2.0, limit=20)
        assert found.clean_error < 0.6
        # Of the two bands that planted writes in: up to 0.1, and 0.4 to 0.5.
        lead[band] = found.mean_error(0.0, 0.1) - found.mean_error(0.4, 0.5)
    assert lead["low"] > 0.1
    assert lead["high"] < -0.3


def _fit(model: nn.Module, data: ImageSet, *, epochs: int) -> None:
    model.train()
    images = (data.images.float() / 255).contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = epochs * (len(data) // 100)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=steps + 1)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(data)), 100):
            loss = nn.functional.cross_entropy(model(images[chosen]), data.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


# Torch's own, while it compiles.
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.slow
def test_a_compiled_network_gives_the_same_map_and_its_parts_are_kept_apart(tmp_path: Path) -> None:
    data, model = images_of(13), small_network()
    db = tmp_path / "results.db"
    plain = fourier_heatmap(model, data, norm=3.0, config=ProbeConfig(batch_size=50), db=db)
    # 13 images fill no batch of the clean part, and the last of a row's 16 x 13 is a smaller one.
    config = ProbeConfig(batch_size=50, compile=True)
    compiled = fourier_heatmap(model, data, norm=3.0, config=config, db=db)
    assert compiled.clean_error == plain.clean_error
    assert float((compiled.error - plain.error).abs().max()) <= 1 / 13
    assert torch.equal(fourier_heatmap(model, data, norm=3.0, config=config, db=db).error, compiled.error)


# Torch's own, while it compiles.
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_compile_says_what_it_lacks_and_what_it_cannot_look_into(monkeypatch: pytest.MonkeyPatch) -> None:
    data, model, config = images_of(2), small_network(), ProbeConfig(compile=True, device="cpu")
    with pytest.raises(ValueError, match="compile takes the network as a whole, and layer looks into it"):
        fourier_heatmap(model, data, norm=3.0, layer="0", config=config)
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", (None, "/nowhere/g++"))
    # No code that an earlier run has left behind.
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    torch.compiler.reset()
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler"):
        fourier_heatmap(model, data, norm=3.0, config=config)


def test_the_interval_of_a_rank_correlation_is_as_wide_as_fishers() -> None:
    generator = np.random.default_rng(0)
    one = generator.normal(size=200)
    other = 0.5 * one + math.sqrt(0.75) * generator.normal(size=200)
    found = correlate(one.tolist(), other.tolist())
    assert found is not None
    # Bonett, Wright 2000: the variance of Fisher's transform of a rank correlation.
    center, half = math.atanh(found.value), 1.96 * math.sqrt((1 + found.value**2 / 2) / 197)
    assert found.ci95 == pytest.approx((math.tanh(center - half), math.tanh(center + half)), abs=0.03)
