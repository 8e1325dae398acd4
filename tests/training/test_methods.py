"""Every method: a finite loss that teaches, and draws that belong to one image."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from filterbands import rng
from filterbands.training import METHODS
from filterbands.training.methods import Method, Step

CLASSES = 10


class Pixels(nn.Module):
    """Takes an image's first pixels, times a weight, as its logits: each image by itself, to the bit."""

    def __init__(self, count: int = CLASSES) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(count))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = images.flatten(1)[:, : len(self.weight)] * self.weight
        return logits


def batch(count: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 8, 8, generator=generator)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    return images, labels, rng.keys(seed, "test", index=torch.arange(count))


def run(method: Method, model: nn.Module, images: Tensor, labels: Tensor, key: Tensor) -> Step:
    return method(model, images, labels, key=key, smoothing=0.05)


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


@pytest.mark.parametrize("name", METHODS)
def test_the_batch_is_left_as_it_was(name: str) -> None:
    images, labels, key = batch(16)
    before = images.clone(), labels.clone(), key.clone()
    run(METHODS[name], Pixels(), images, labels, key)
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
    assert torch.equal(mixed.logits, whole.logits[order])
    assert_close(mixed.loss, whole.loss)
    few = run(METHODS[name], Pixels(), images[:5], labels[:5], key[:5])
    assert torch.equal(few.logits, whole.logits[:5])


@pytest.mark.parametrize("name", METHODS)
def test_no_method_draws_from_the_global_generator(name: str) -> None:
    before = torch.get_rng_state()
    run(METHODS[name], Pixels(), *batch(16))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", METHODS)
def test_images_stay_within_their_range(name: str) -> None:
    images, labels, key = batch(64)
    step = run(METHODS[name], Pixels(), (images > 0.5).float(), labels, key)
    assert float(step.logits.detach().min()) >= 0
    assert float(step.logits.detach().max()) <= 1


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
