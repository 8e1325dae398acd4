"""Added plane waves: their definition, their distribution, and the two forms of the method."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from filterbands import rng
from filterbands.training import METHODS
from filterbands.training.methods import afa, afa_view
from filterbands.training.methods.afa import plane_waves


def keys(count: int, seed: int = 0) -> Tensor:
    return rng.keys(seed, "afa", index=torch.arange(count))


def random(count: int, *shape: int) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def test_waves_are_the_papers_definition_pixel_by_pixel() -> None:
    frequency, direction = random(4, 3), 3 * random(4, 3)
    waves = plane_waves(frequency, direction, 9, 16)
    slow = torch.zeros(4, 3, 9, 16, dtype=torch.float64)
    for place in range(4):
        for channel in range(3):
            f, omega = float(frequency[place, channel]), float(direction[place, channel])
            for v in range(9):
                for u in range(16):
                    along = (u - 7.5) * math.cos(omega) + (v - 4) * math.sin(omega)
                    slow[place, channel, v, u] = math.sin(2 * math.pi * f * along - math.pi / 4)
    slow /= slow.square().mean(dim=(2, 3), keepdim=True).sqrt()
    assert_close(waves.double(), slow, rtol=0, atol=1e-4)


def test_waves_are_those_of_the_public_code_on_the_same_grid() -> None:
    # `gen_planar_waves` of nis-research/afa-augment at 7dcf705, times 32, with its grid set to pixels'
    # middles; its first axis is that of rows.
    waves = plane_waves(torch.tensor([[3 / 32, 20 / 32]]), torch.tensor([[0.5, 2.0]]), 32, 32)[0]
    found = torch.stack([waves[:, 0, 0], waves[:, 17, 5], waves[:, 2, 31]])
    assert_close(
        found,
        torch.tensor([[-0.808831, 0.813935], [0.669975, 0.365197], [-0.38143, 1.245146]]),
        rtol=0,
        atol=1e-5,
    )


def test_frequencies_are_whole_cycles_and_directions_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []

    def watch(frequency: Tensor, direction: Tensor, height: int, width: int) -> Tensor:
        drawn.extend((frequency, direction))
        return torch.zeros(*frequency.shape, height, width)

    monkeypatch.setattr(afa, "plane_waves", watch)
    afa_view(torch.zeros(3200, 3, 4, 32), key=keys(3200))
    cycles, direction = drawn[0] * 32, drawn[1]
    assert torch.equal(cycles, cycles.round())
    counts = cycles.long().flatten().bincount(minlength=33)
    # 300 of each on average; five standard deviations.
    assert int(counts[0]) == 0
    assert float((counts[1:] - 300).abs().max()) < 5 * 300**0.5
    assert float(direction.min()) >= 0
    assert float(direction.max()) < math.pi
    assert float(direction.mean()) == pytest.approx(math.pi / 2, abs=0.05)
    # Each channel of an image has its own.
    assert abs(float(torch.corrcoef(cycles.T)[0, 1])) < 0.1


def test_strengths_are_exponential_with_the_mean_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    # So weak that nothing is clamped.
    monkeypatch.setattr(afa, "STRENGTH", 1e-3)
    gray = torch.full((4000, 3, 8, 8), 0.5)
    strength = (afa_view(gray, key=keys(4000)) - gray).square().mean(dim=(2, 3)).sqrt() / 1e-3
    assert float(strength.mean()) == pytest.approx(1, abs=0.05)
    assert float(strength.std()) == pytest.approx(1, abs=0.07)
    assert float((strength > math.log(2)).float().mean()) == pytest.approx(0.5, abs=0.025)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 9), (3, 8, 5), (4, 32, 32)])
def test_an_image_of_any_shape_has_one_view_in_any_batch(shape: tuple[int, ...]) -> None:
    images, key = random(60, *shape), keys(60)
    view = afa_view(images, key=key)
    assert view.dtype == images.dtype
    assert view.shape == images.shape
    assert bool(((view >= 0) & (view <= 1)).all())
    assert_close(afa_view(images[7:9], key=key[7:9]), view[7:9], rtol=0, atol=1e-6)
    assert not torch.equal(afa_view(images, key=keys(60, seed=1)), view)


def test_the_form_of_two_passes_averages_both_cross_entropies() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    images, labels = random(12, 3, 8, 8), torch.arange(12) % 10
    step = METHODS["afa_two"](network, images, labels, key=keys(12))
    clean = F.cross_entropy(network(images), labels)
    waved = F.cross_entropy(network(afa_view(images, key=keys(12))), labels)
    assert_close(step.loss, (clean + waved) / 2)
    # What is shown while it trains is the accuracy on clean images.
    assert_close(step.logits, network(images))
