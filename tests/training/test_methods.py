"""Every method: a finite loss that teaches, and draws that belong to one image."""

from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from filterbands import rng
from filterbands.corruptions import CORRUPTIONS
from filterbands.training import METHODS, TrainConfig, with_settings
from filterbands.training.methods.protocol import Method, Step, _check
from filterbands.training.networks import in_training

CLASSES = 10


class Pixels(nn.Module):
    """Takes an image's first pixels, times a weight, as its logits: each image by itself, to the bit."""

    def __init__(self, count: int = CLASSES) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(count))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = images.flatten(1)[:, : len(self.weight)] * self.weight
        return logits


class Centering(Pixels):
    """Centers its images in place."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.sub_(0.5))


class Watching(Pixels):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach())
        return super().forward(images)


def batch(count: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 8, 8, generator=generator)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    return images, labels, rng.keys(seed, "test", index=torch.arange(count))


def run(method: Method, model: nn.Module, images: Tensor, labels: Tensor, key: Tensor) -> Step:
    # Each image's partners are its own, whatever stands beside it.
    partners = torch.stack([images.flip(2), images.flip(3)])
    return method(model, images, labels, key=key, smoothing=0.05, partners=partners)


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_is_finite_and_its_gradient_reaches_the_model(name: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))
    images, labels, key = batch(16)
    step = run(METHODS[name], model, images, labels, key)
    assert step.loss.shape == ()
    assert bool(step.loss.isfinite())
    assert step.logits.shape == (16, CLASSES)
    step.loss.backward()  # type: ignore[no-untyped-call]
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert float(parameter.grad.abs().max()) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": lambda images: (images - 0.5) / 0.25}, r"in \[0, 1\], got values from -.*not normalized"),
        ({"images": lambda images: images * 255}, r"in \[0, 1\], got values from"),
        ({"images": lambda images: (images * 255).byte()}, r"convert bytes with images\.float\(\) / 255"),
        ({"key": lambda key: key[:1]}, r"one key per image, 16, got shape \(1,\)"),
        ({"labels": lambda labels: labels[:4]}, r"one label per image, 16, got shape \(4,\)"),
        (
            {"partners": lambda _: torch.rand(2, 8, 3, 8, 8)},
            r"shape \(1, 16, 3, 8, 8\), got \(2, 8,",
        ),
        ({"partners": lambda _: torch.rand(0, 16, 3, 8, 8)}, r"got \(0, 16,"),
    ],
)
def test_what_a_method_cannot_take_is_one_line(change: dict[str, Any], message: str) -> None:
    images, labels, key = batch(16)
    given: dict[str, Any] = {"images": images, "labels": labels, "key": key, "partners": None}
    for name, make in change.items():
        given[name] = make(given[name])
    with pytest.raises(ValueError, match=message):
        _check(*given.values(), 1)


@pytest.mark.parametrize("name", METHODS)
def test_images_are_mixed_in_float32_whatever_the_network_computes_in(name: str) -> None:
    images, labels, key = batch(8)
    images = (images * 255).round() / 255
    model = Watching()
    run(METHODS[name], model, images, labels, key)
    with torch.autocast("cpu", torch.bfloat16):
        run(METHODS[name], model, images, labels, key)
    for dtype in (torch.float64, torch.float16):
        run(METHODS[name], model, images.to(dtype), labels, key)
    plain, mixed, double, half = model.seen
    assert torch.equal(mixed, plain)
    assert (double.dtype, half.dtype) == (torch.float64, torch.float16)
    assert float((double - plain).abs().max()) < 1e-6


@pytest.mark.parametrize("name", METHODS)
def test_the_batch_is_left_as_it_was(name: str) -> None:
    images, labels, key = batch(16)
    before = images.clone(), labels.clone(), key.clone()
    run(METHODS[name], Centering(), images, labels, key)
    for now, then in zip((images, labels, key), before, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize("name", METHODS)
def test_an_images_augmentation_depends_on_its_key_alone(name: str) -> None:
    images, labels, key = batch(24)
    whole = run(METHODS[name], Pixels(), images, labels, key)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(3))
    # The state of torch's own generator, the order and the batch's size do not matter.
    torch.rand(5)
    mixed = run(METHODS[name], Pixels(), images[order], labels[order], key[order])
    assert_close(mixed.logits, whole.logits[order], rtol=0, atol=1e-5)
    assert_close(mixed.loss, whole.loss)
    few = run(METHODS[name], Pixels(), images[:5], labels[:5], key[:5])
    assert_close(few.logits, whole.logits[:5], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_all_views_of_an_image_belong_to_its_key(name: str) -> None:
    def seen(part: slice) -> Tensor:
        model = Watching()
        images, labels, key = batch(24)
        run(METHODS[name], model, images[part], labels[part], key[part])
        return torch.stack(model.seen[0].chunk(METHODS[name].views))

    assert_close(seen(slice(3, 9)), seen(slice(24))[:, 3:9], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_views_and_partners_are_as_many_as_said(name: str) -> None:
    method, model = METHODS[name], Watching()
    images, labels, key = batch(16)
    partners = torch.rand(method.partners, *images.shape)
    method(model, images, labels, key=key, partners=partners)
    assert [len(batch) for batch in model.seen] == [16 * method.views]
    # Without partners, the images that follow in the batch are taken.
    assert bool(method(model, images, labels, key=key).loss.isfinite())
    if method.partners:
        with pytest.raises(ValueError, match="a method needs partners of shape"):
            method(model, images, labels, key=key, partners=partners[: method.partners - 1])


def test_kinds_that_a_method_resembles_are_kinds() -> None:
    for method in METHODS.values():
        assert set(method.resembles) <= set(CORRUPTIONS)


@pytest.mark.parametrize("name", METHODS)
def test_no_method_draws_from_the_global_generator(name: str) -> None:
    before = torch.get_rng_state()
    run(METHODS[name], Pixels(), *batch(16))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", METHODS)
def test_images_stay_within_their_range(name: str) -> None:
    images, labels, key = batch(64)
    model = Watching()
    run(METHODS[name], model, (images > 0.5).float(), labels, key)
    views = model.seen[0]
    if METHODS[name].leaves_range:
        assert bool((views[64:] < 0).any() or (views[64:] > 1).any())
        views = views[:64]
    assert float(views.min()) >= 0
    assert float(views.max()) <= 1


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_noise_in_front_of_the_network_or_is_refused_by_name(name: str) -> None:
    images, labels, key = batch(16)
    for setting in ("white_noise=0.1", "spectral.gain=0.5"):
        settings = [f"method={name}", "arch=cifar_resnet20", setting]
        if METHODS[name].leaves_range:
            with pytest.raises(ValueError, match=rf"{name} leaves \[0, 1\].*; take method \w+(?<!_code)$"):
                with_settings(TrainConfig(), settings)
        else:
            network = in_training(with_settings(TrainConfig(), settings), classes=CLASSES)[1].train()
            assert bool(run(METHODS[name], network, images, labels, key).loss.isfinite())


class Heads(NamedTuple):
    """What a network with an auxiliary head gives in training."""

    logits: Tensor
    aux: Tensor


class Headed(Pixels):
    """Has such a head."""

    def forward(self, images: Tensor) -> Heads:  # type: ignore[override]
        logits = super().forward(images)
        return Heads(logits, -logits)


@pytest.mark.parametrize("name", METHODS)
def test_a_network_with_an_auxiliary_head_is_trained_by_its_logits(name: str) -> None:
    plain, headed = (run(METHODS[name], model, *batch(16)) for model in (Pixels(), Headed()))
    assert torch.equal(plain.loss, headed.loss)
    assert torch.equal(plain.logits, headed.logits)


def test_the_standard_loss_is_the_smoothed_cross_entropy() -> None:
    images, labels, key = batch(16)
    step = run(METHODS["standard"], Pixels(), images, labels, key)
    log = F.log_softmax(images.flatten(1)[:, :CLASSES], dim=1)
    expected = -(0.95 * log[torch.arange(16), labels] + 0.05 * log.mean(dim=1)).mean()
    assert_close(step.loss.detach(), expected)
    assert torch.equal(step.logits.detach(), images.flatten(1)[:, :CLASSES])


def test_gaussian_noise_is_on_about_half_of_the_images_at_its_strength() -> None:
    _, labels, key = batch(2000)
    grey = torch.full((2000, 3, 8, 8), 0.5)
    logits = run(METHODS["gaussian"], Pixels(192), grey, labels, key).logits.detach()
    noisy = (logits != 0.5).any(dim=1)
    # Four standard deviations of a fair coin, thrown 2,000 times.
    assert float(noisy.float().mean()) == pytest.approx(0.5, abs=4 * 0.5 / 2000**0.5)
    noise = logits[noisy] - 0.5
    assert float(noise.std()) == pytest.approx(0.1, abs=0.001)
    assert float(noise.mean()) == pytest.approx(0, abs=0.001)
    # Each pixel and channel has a number of its own.
    assert abs(float(torch.corrcoef(noise[:, :2].T)[0, 1])) < 0.15


def test_gaussian_noise_differs_between_keys() -> None:
    images, labels, key = batch(64)
    first = run(METHODS["gaussian"], Pixels(), images, labels, key).logits
    second = run(METHODS["gaussian"], Pixels(), images, labels, key ^ 1).logits
    assert not torch.equal(first, second)
