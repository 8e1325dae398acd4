"""SpectralNoise that learns its strengths, that follows a schedule, and that spares a clean view."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from filterbands.control import LEARNED, SpectralNoise, division_parameters
from filterbands.control.division import Division
from filterbands.control.noise import PROFILE
from filterbands.filters import EQUAL_AREA

KINDS = [learn for learn in LEARNED if learn]


def images(count: int = 32) -> Tensor:
    return 0.25 + 0.5 * torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def perturbed(module: SpectralNoise, *, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    out: Tensor = module(images())
    return out


@pytest.mark.parametrize("learn", KINDS)
def test_learned_strengths_begin_as_the_fixed_ones_to_the_bit(learn: str) -> None:
    assert torch.equal(perturbed(SpectralNoise(learn=learn, clean=0)), perturbed(SpectralNoise(clean=0)))
    assert SpectralNoise(learn=learn).strengths() == SpectralNoise().strengths()


@pytest.mark.parametrize("learn", KINDS)
def test_a_step_down_the_loss_makes_the_perturbation_worse(learn: str) -> None:
    module = SpectralNoise(learn=learn, clean=0, clamp=False, strength=1)
    optimizer = torch.optim.SGD(division_parameters(module), lr=0.1)

    def change() -> Tensor:
        return (perturbed(module) - images()).square().mean()

    before = change()
    # What a network would minimize: here, that images are as they were.
    before.backward()
    optimizer.step()
    assert float(change().detach()) > float(before.detach())


@given(theta=st.lists(st.floats(-50, 50), min_size=2, max_size=10), floor=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_the_mean_square_of_factors_is_one_and_none_is_under_the_floor(
    theta: list[float], floor: float
) -> None:
    division = Division(len(theta), floor=floor)
    division.theta.data = torch.tensor(theta)
    squares = division.factors().detach().double().square()
    assert float(squares.mean()) == pytest.approx(1, abs=1e-5)
    assert float(squares.min()) >= floor - 1e-5


def test_the_proportion_divides_the_bands_at_the_equal_area_cutoff() -> None:
    module = SpectralNoise(learn="proportion")
    assert module.gains is not None
    module.gains.theta.data = torch.tensor([0.0, math.log(3)])
    factors = torch.tensor(module.strengths()["bands"]) / torch.tensor(SpectralNoise().strengths()["bands"])
    low, high = math.sqrt(0.25 + 0.75 * 0.5), math.sqrt(0.25 + 0.75 * 1.5)
    # Six centers of bands lie below 0.399 cycles per pixel.
    assert pytest.approx(0.3989, abs=1e-4) == EQUAL_AREA
    assert factors.tolist() == pytest.approx([low] * 6 + [high] * 2)


def test_separate_budgets_leave_the_level_of_the_noise() -> None:
    module = SpectralNoise(strength=1e-9, gain=0, learn="separate", clean=0, clamp=False)
    assert module.colors is not None
    before = perturbed(module) - images()
    module.colors.theta.data = torch.tensor([3.0, 0, 0, 0, 0, 0, 0, 0])
    after = perturbed(module) - images()
    assert not torch.allclose(before, after, atol=1e-3)
    torch.testing.assert_close(
        before.square().mean(dim=(1, 2, 3)), after.square().mean(dim=(1, 2, 3)), rtol=1e-3, atol=1e-9
    )
    assert module.strengths()["noise"] == [0.03]


def test_strengths_are_the_standard_deviations_and_the_mean_that_images_see() -> None:
    found = SpectralNoise(strength=2, gain=1, noise=0.05).strengths()
    assert found["bands"] == pytest.approx([2 * each for each in PROFILE])
    torch.manual_seed(0)
    drawn = torch.empty(200_000).exponential_(1 / 0.5)
    assert found["gain"][0] == pytest.approx(float(drawn[drawn < 2].mean()), abs=0.005)
    assert found["noise"] == [0.05]


def test_parts_that_are_off_take_nothing_of_the_budget() -> None:
    module = SpectralNoise(learn="joint", gain=0, noise=0)
    assert [theta.shape for theta in division_parameters(module)] == [torch.Size([8])]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learn": "all"}, "learn needs 'joint'"),
        ({"learn": "joint", "strength": 0}, "make strength positive"),
        ({"learn": "separate", "noise": 0}, "make strength and noise positive"),
        ({"floor": 1.5}, "floor"),
        ({"clean_first": -1}, "clean_first"),
    ],
)
def test_what_cannot_be_learned_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SpectralNoise(**options)


def test_the_first_part_of_a_batch_stays_clean() -> None:
    module = SpectralNoise(clean=0, clean_first=0.5)
    both = torch.cat([images(), images()])
    out = module(both)
    count = len(images())
    assert torch.equal(out[:count], images())
    assert bool((out[count:] != images()).flatten(1).any(dim=1).all())


def test_scale_and_chance_go_to_nothing() -> None:
    module = SpectralNoise(clean=0.2)
    module.chance = 0.0
    assert torch.equal(perturbed(module), images())
    module.chance, module.scale = 1.0, 0.0
    torch.testing.assert_close(perturbed(module), images(), rtol=0, atol=1e-5)
    module.chance, module.scale = 0.5, 1.0
    many = torch.cat([perturbed(module, seed=seed) != images() for seed in range(20)])
    assert float(many.flatten(1).any(dim=1).float().mean()) == pytest.approx(0.4, abs=0.08)


def test_nothing_is_learned_or_seen_in_evaluation() -> None:
    network = nn.Sequential(SpectralNoise(learn="joint", clean=0), nn.Flatten(), nn.Linear(768, 2)).eval()
    network(images()).sum().backward()
    assert torch.equal(network[0](images()), images())
    assert [theta.grad for theta in division_parameters(network)] == [None]


def test_the_strengths_are_printed_as_they_are_now() -> None:
    assert "learn='joint'; now bands=(0.025, 0.05" in repr(SpectralNoise(learn="joint"))
    assert "now" not in repr(SpectralNoise())


@pytest.mark.parametrize("learn", LEARNED[1:])
def test_every_process_of_a_training_takes_part_in_the_gradient(
    learn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = SpectralNoise(learn=learn)
    noise.chance = 0.0
    for together in (False, True):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda there=together: there)
        noise.zero_grad()
        images = torch.rand(4, 3, 16, 16)
        out = noise(images)
        assert torch.equal(out, images)
        # Outside of several processes nothing is learned from images that stay as they are.
        assert out.requires_grad == together
        if together:
            out.sum().backward()
            assert all(not parameter.grad.any() for parameter in noise.parameters())


def test_learned_noise_and_gain_are_those_in_force() -> None:
    module = SpectralNoise(learn="joint", strength=1e-9, gain=0, clean=0, clamp=False)
    before = perturbed(module) - images()
    assert module.gains is not None
    module.gains.theta.data[-1] = 2.0
    ratio = module.strengths()["noise"][0] / module.noise
    torch.testing.assert_close(perturbed(module) - images(), ratio * before, rtol=1e-3, atol=1e-5)
    module = SpectralNoise(learn="joint", strength=1e-9, noise=0, clean=0, clamp=False)

    def log_contrast() -> Tensor:
        return (perturbed(module).std(dim=(2, 3)) / images().std(dim=(2, 3))).log()

    start, before = module.strengths()["gain"][0], log_contrast()
    assert module.gains is not None
    module.gains.theta.data[-1] = 2.0
    after = log_contrast()
    expected = module.strengths()["gain"][0] / start * before
    torch.testing.assert_close(after, expected, rtol=1e-3, atol=1e-4)
