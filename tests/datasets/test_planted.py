"""The claims about generated images: their bands, their probabilities, their reproducibility."""

import dataclasses

import pytest
import torch

from filterbands import fourier, rng
from filterbands.datasets import PlantedConfig, planted
from filterbands.datasets.planted import (
    HIGH_BAND,
    HIGH_PEAK,
    LOW_BAND,
    LOW_PEAK,
    PLANTED_VERSION,
    _background,
    _draw,
    _high_cue,
    _low_cue,
    _shown,
    read_knobs,
)

# Of the first 50 test images.
GOLDEN = "0beb21d58f910989"
NUMBERS = torch.arange(200)
KEY = rng.keys(0, "planted", "train", index=NUMBERS)
SHOWN = NUMBERS % 10


def by_matrix(images: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """Return what `fourier.filter_images` does, by multiplication with the DFT matrix."""
    turns = torch.outer(torch.arange(32), torch.arange(32)).to(torch.float64) / 32
    matrix = torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)
    whole = torch.cat([gain, gain[..., 1:16].flip(-1)], dim=-1)
    spectrum = matrix @ images.to(torch.complex128) @ matrix
    return (matrix.conj() @ (spectrum * whole) @ matrix.conj()).real / 32**2


def radii() -> torch.Tensor:
    """Return the radius of every DFT frequency of a 32x32 image, from the definition."""
    cycles = torch.tensor([k if k < 16 else k - 32 for k in range(32)], dtype=torch.float64) / 32
    return (cycles[:, None] ** 2 + cycles[None] ** 2).sqrt()


def power(images: torch.Tensor) -> torch.Tensor:
    """Return |DFT|^2 of every image and channel by multiplication with the DFT matrix."""
    turns = torch.outer(torch.arange(32), torch.arange(32)).to(torch.float64) / 32
    matrix = torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)
    return (matrix @ images.to(torch.complex128) @ matrix).abs().square()


@pytest.mark.parametrize(("cue", "band"), [(_low_cue, LOW_BAND), (_high_cue, HIGH_BAND)])
def test_a_cue_has_all_its_energy_in_its_band(cue, band):
    spectrum = power(cue(KEY, SHOWN, stream=1))
    inside = (radii() >= band[0]) & (radii() <= band[1])
    assert float(spectrum[:, :, ~inside].sum() / spectrum.sum()) < 1e-11


@pytest.mark.parametrize("cue", [_low_cue, _high_cue])
def test_a_cue_reaches_a_deviation_of_one(cue):
    peaks = cue(KEY, SHOWN, stream=1).abs().amax(dim=(1, 2, 3))
    torch.testing.assert_close(peaks, torch.ones(200, dtype=torch.float64), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("knob", "other_band"), [("low", (0.11, 1.0)), ("high", (0.0, 0.39))], ids=["low", "high"]
)
def test_after_rounding_a_cue_is_outside_its_band_no_more_than_rounding_noise(knob, other_band):
    on = planted(PlantedConfig(), split="train", images=500)
    off = planted(PlantedConfig(**{knob: 0.0}), split="train", images=500)
    difference = on.images.double() - off.images.double()
    outside = (radii() >= other_band[0]) & (radii() <= other_band[1])
    # Two roundings differ by white noise of variance 2 / 12 gray levels squared, or less where the cue
    # is so weak that both round alike.
    noise = float(power(difference)[:, :, outside].mean() / 32**2)
    assert noise < 1.03 * 2 / 12
    assert float(power(difference)[:, :, ~outside].mean() / 32**2) > 5 * 2 / 12


def test_a_switched_off_cue_leaves_no_trace_in_the_pixels():
    kept = _draw(KEY, SHOWN, PlantedConfig(low=0, high=0))
    other = _draw(KEY, (SHOWN + 1) % 10, PlantedConfig(low=0, high=0))
    assert torch.equal(kept, other)


def test_no_pixel_leaves_the_range_even_at_the_largest_amplitudes():
    config = PlantedConfig(background=0.2, low=0.125 / LOW_PEAK, high=0.125 / HIGH_PEAK)
    drawn = _draw(KEY, SHOWN, config)
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) <= 1


def test_the_background_has_power_falling_with_the_square_of_the_radius():
    spectrum = power(_background(rng.keys(0, index=torch.arange(2_000)), stream=1)).mean(dim=(0, 1))
    r = radii()
    rings = [(r >= lo) & (r < hi) for lo, hi in ((0.06, 0.12), (0.12, 0.25), (0.25, 0.5))]
    levels = torch.stack([(spectrum * r**2)[ring].mean() for ring in rings])
    torch.testing.assert_close(levels / levels[0], torch.ones(3, dtype=torch.float64), rtol=0.03, atol=0)
    assert float(spectrum[0, 0] / spectrum.sum()) < 1e-10


def test_the_colors_of_the_background_correlate_as_in_natural_images():
    background = _background(rng.keys(0, index=torch.arange(1_000)), stream=1)
    correlation = torch.corrcoef(background.permute(1, 0, 2, 3).flatten(1))
    assert float((correlation[0, 1:] - 0.95).abs().max()) < 0.005


def test_the_backgrounds_band_shares_are_those_of_the_docstring():
    background = _background(rng.keys(0, index=torch.arange(1_000)), stream=1)
    spectrum, r = power(background).mean(dim=(0, 1)), radii()
    shares = [
        float(spectrum[(r >= lo) & (r <= hi)].sum() / spectrum.sum()) for lo, hi in (LOW_BAND, HIGH_BAND)
    ]
    assert shares == pytest.approx([0.49, 0.07], abs=0.01)
    assert float(background.square().mean().sqrt()) * 0.2 == pytest.approx(0.058, abs=0.001)
    for cue, rms in (
        (_low_cue(KEY, SHOWN, stream=1) * LOW_PEAK, 0.012),
        (_high_cue(KEY, SHOWN, stream=1) * HIGH_PEAK, 0.014),
    ):
        assert float(cue.square().mean().sqrt()) == pytest.approx(rms, abs=0.0006)


@pytest.mark.parametrize("cue", [_low_cue, _high_cue])
def test_a_mirrored_image_shows_the_same_class(cue):
    """The mean power spectrum of a class does not change when its images are mirrored."""
    key = rng.keys(0, index=torch.arange(600))
    for number in range(10):
        # The channels of a cue are multiples of one plane.
        cues = cue(key, torch.full((600,), number), stream=1)[:, :1]
        mean = power(cues).mean(dim=(0, 1))
        mirrored = mean[:, -torch.arange(32)]
        assert float((mean - mirrored).abs().max() / mean.max()) < 0.15


def test_the_waves_of_the_high_cue_turn_by_ten_degrees_per_class():
    r = radii()
    cycles = torch.tensor([k if k < 16 else k - 32 for k in range(32)], dtype=torch.float64)
    angles = torch.rad2deg(torch.atan2(cycles[:, None].abs(), cycles[None].abs()))
    for number in range(10):
        spectrum = power(_high_cue(KEY, torch.full((200,), number), stream=1)).mean(dim=(0, 1))
        mean = float((angles * spectrum).sum() / spectrum.sum())
        # Both signs of an angle fold onto one here, so the ends of the range are biased inwards.
        assert mean == pytest.approx(10 * number, abs=4)
        assert float((r * spectrum).sum() / spectrum.sum()) == pytest.approx(0.45, abs=0.01)


def test_an_image_depends_on_its_number_and_not_on_the_number_of_images():
    many = planted(split="train", images=1_500)
    few = planted(split="train", images=7)
    assert torch.equal(many.images[:7], few.images)
    assert torch.equal(many.labels[:7], few.labels)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_or_split_others():
    data = planted(images=50)
    assert data.fingerprint() == planted(images=50).fingerprint()
    assert data.fingerprint() != planted(PlantedConfig(seed=1), images=50).fingerprint()
    for split in ("train", "validation"):
        assert float((planted(split=split, images=50).images == data.images).double().mean()) < 0.1


def test_pixels_do_not_depend_on_how_a_transform_rounds(monkeypatch):
    """Version 1 gave other bytes for other numbers of threads, since its transforms were in float32."""
    drawn = _draw(KEY, SHOWN, PlantedConfig())
    monkeypatch.setattr(fourier, "filter_images", by_matrix)
    other = _draw(KEY, SHOWN, PlantedConfig())
    assert not torch.equal(drawn, other)
    error = 255 * float((drawn - other).abs().max())
    assert error < 1e-12
    monkeypatch.undo()
    # The distance to where a pixel would round otherwise; it is 3e-8 over the training images too.
    for numbers in torch.arange(2_000).split(250):
        key = rng.keys(0, "planted", "test", index=numbers)
        levels = 255 * _draw(key, rng.integers(key, 0, 10, (), stream=0), PlantedConfig())
        assert float((levels.frac() - 0.5).abs().min()) > 1e-8


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_pixels_do_not_depend_on_the_default_type(dtype):
    before = planted(images=100).fingerprint()
    torch.set_default_dtype(dtype)
    try:
        assert planted(images=100).fingerprint() == before
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_bytes_of_this_version_are_known():
    """Recorded on an x86-64 processor, equal with 1 and 2 threads and without its vector instructions."""
    assert PLANTED_VERSION == 2
    assert planted(images=50).fingerprint().startswith(GOLDEN)


@pytest.mark.slow
def test_full_train_is_train_then_validation():
    full = planted(split="full_train")
    assert len(full) == 10_000
    assert torch.equal(full.images[8_000:], planted(split="validation").images)
    assert torch.equal(full.images[:100], planted(split="train", images=100).images)
    assert torch.equal(planted(split="full_train", images=8_003).images, full.images[:8_003])
    assert torch.equal(planted(split="full_train", images=100).images, full.images[:100])
    assert torch.equal(full.index, torch.arange(10_000))


def test_the_ten_classes_are_balanced_within_chance():
    labels = planted(split="train", images=8_000).labels
    counts = torch.bincount(labels, minlength=10)
    # Five standard deviations of a binomial count.
    assert float((counts - 800).abs().max()) < 5 * (8_000 * 0.1 * 0.9) ** 0.5


@pytest.mark.parametrize("agrees", [0.0, 0.1, 0.7, 1.0])
def test_a_cue_agrees_with_the_label_as_often_as_asked(agrees):
    labels = torch.arange(20_000) % 10
    shown = _shown(rng.keys(0, index=torch.arange(20_000)), labels, agrees, stream=1)
    assert float((shown == labels).double().mean()) == pytest.approx(agrees, abs=0.012)
    others = torch.bincount((shown - labels) % 10, minlength=10)[1:]
    expected = 20_000 * (1 - agrees) / 9
    assert float((others - expected).abs().max()) <= 5 * expected**0.5


def test_both_cues_disagree_with_the_label_independently():
    config = PlantedConfig(low_agrees=0.5, high_agrees=0.5)
    assert not torch.equal(
        planted(dataclasses.replace(config, high=0), images=20).images,
        planted(PlantedConfig(high=0), images=20).images,
    )
    key, labels = rng.keys(0, index=torch.arange(5_000)), torch.zeros(5_000, dtype=torch.int64)
    low, high = (_shown(key, labels, 0.5, stream=stream) == 0 for stream in (3, 6))
    assert float((low & high).double().mean()) == pytest.approx(0.25, abs=0.03)


def test_the_name_is_the_spec_of_what_differs_from_the_defaults():
    assert planted(images=1).name == "planted"
    config = PlantedConfig(seed=3, high=0, low_agrees=0.9)
    assert config.spec == "planted:seed=3,high=0,low_agrees=0.9"
    assert read_knobs(config.spec.removeprefix("planted:")) == config
    third = PlantedConfig(low=1 / 3)
    assert read_knobs(third.spec.removeprefix("planted:")) == third


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lo=1", r"no knob 'lo' \(did you mean low\?\); knobs are seed, low, high"),
        ("low", "a number for low, got nothing; write low="),
        ("low=x", "a number for low, got 'x'"),
        ("seed=1.5", "a whole number for seed, got '1.5'"),
        ("low=1,low=2", "low twice"),
        ("low=-1", "low of at least 0, got -1"),
        ("high=nan", "high of at least 0, got nan"),
        ("low_agrees=1.2", r"low_agrees in \[0, 1\]"),
        ("low=9", "leave .0, 1.: background"),
        ("low=1,", "no knob ''"),
    ],
)
def test_a_wrong_knob_gives_one_clear_line(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_knobs(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("split", "images", "message"),
    [
        ("tests", None, "no split 'tests'"),
        ("test", 0, "at least 1 image, got 0"),
        ("full_train", 10_001, "at most 10,000 of full_train"),
    ],
)
def test_a_wrong_split_or_number_gives_one_clear_line(split, images, message):
    with pytest.raises(ValueError, match=message):
        planted(split=split, images=images)


@pytest.mark.slow
@pytest.mark.parametrize("knob", ["low", "high"])
def test_either_cue_alone_is_learned_by_a_small_network(knob):
    torch.manual_seed(0)
    other = {"low": "high", "high": "low"}[knob]
    config = PlantedConfig(**{other: 0.0, knob: 2.0})
    train, test = planted(config, split="train"), planted(config)
    widths = (24, 48, 64)
    layers: list[torch.nn.Module] = []
    for inputs, outputs in zip((3, *widths), widths, strict=False):
        layers += [
            torch.nn.Conv2d(inputs, outputs, 3, padding=1),
            torch.nn.BatchNorm2d(outputs),
            torch.nn.ReLU(),
        ]
        layers += [torch.nn.MaxPool2d(2)]
    model = torch.nn.Sequential(
        *layers, torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten(), torch.nn.Linear(64, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(3):
        for chosen in torch.randperm(len(train)).split(64):
            loss = torch.nn.functional.cross_entropy(
                model((train.images[chosen] / 255 - 0.5) / 0.1), train.labels[chosen]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.inference_mode():
        answers = model((test.images / 255 - 0.5) / 0.1).argmax(dim=1)
    assert float((answers == test.labels).double().mean()) > 0.8
