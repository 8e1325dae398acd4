"""Recalibrating batch norms."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from filterbands.control.noise import SpectralNoise
from filterbands.control.recalibrate import recalibrate
from filterbands.datasets import ImageSet


def network(*front: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5))
    return nn.Sequential(*front, *layers)


def batches(count: int = 3) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.rand(8, 3, 10, 10) * (1 + number) / count for number in range(count)]


def test_statistics_equal_a_direct_computation() -> None:
    model = network()
    recalibrate(batches(), model)
    responses = [model[0](batch).detach() for batch in batches()]
    mean = torch.stack([response.mean(dim=(0, 2, 3)) for response in responses]).mean(dim=0)
    variance = torch.stack([response.var(dim=(0, 2, 3)) for response in responses]).mean(dim=0)
    torch.testing.assert_close(model[1].running_mean, mean)
    torch.testing.assert_close(model[1].running_var, variance)


def test_statistics_equal_those_of_torch_where_nothing_is_random() -> None:
    ours, theirs = network(), network()
    recalibrate(((batch, 0) for batch in batches()), ours)
    update_bn(batches(), theirs)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_an_image_set_is_taken_in_mixed_order() -> None:
    images = torch.arange(256, dtype=torch.uint8).repeat(8).sort().values[:, None, None, None]
    pixels, labels = images.expand(-1, 3, 2, 2).contiguous(), torch.arange(2048) // 1024
    data = ImageSet(
        name="sorted",
        split="train",
        images=pixels,
        labels=labels,
        classes=("dark", "light"),
        index=torch.arange(2048),
    )
    norm = nn.BatchNorm2d(3)
    recalibrate(data, norm)
    # Batches of neighbors would have a thousandth of the variance.
    torch.testing.assert_close(norm.running_var, torch.full((3,), 1 / 12), rtol=0.02, atol=0)


def test_random_layers_are_still_meanwhile() -> None:
    plain, noisy = network(), network(SpectralNoise(), nn.Dropout(0.5))
    noisy.train()
    recalibrate(batches(), plain)
    state = torch.get_rng_state()
    recalibrate(batches(), noisy)
    batches()
    torch.set_rng_state(state)
    for one, other in zip(plain.buffers(), noisy.buffers(), strict=True):
        torch.testing.assert_close(one, other)


def test_modes_and_momenta_are_restored() -> None:
    model = network().train()
    model[1].eval()
    model[4].momentum = 0.3
    recalibrate(batches(), model)
    assert [module.training for module in model] == [True, False, True, True, True]
    assert model[1].momentum == 0.1
    assert model[4].momentum == 0.3
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ([], "at least one batch"),
        ([torch.zeros(2, 3, 10, 10, dtype=torch.uint8)], "bytes divided by 255.*got torch.uint8"),
        ([torch.rand(2, 1, 10, 10)], r"cannot take images of \(1, 10, 10\)"),
    ],
)
def test_a_failure_leaves_the_statistics_as_they_were(loader: list[Tensor], message: str) -> None:
    model = network()
    model[1].running_mean.fill_(7)
    with pytest.raises(ValueError, match=message):
        recalibrate(loader, model)
    assert float(model[1].running_mean[0]) == 7
    assert model.training


def test_a_network_without_statistics_is_left_alone() -> None:
    recalibrate([], nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)))


def test_the_last_images_of_a_set_count_as_much_as_the_others() -> None:
    pixels = torch.randint(
        0, 256, (101, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    data = ImageSet(
        name="odd",
        split="train",
        images=pixels,
        labels=torch.arange(101) % 2,
        classes=("a", "b"),
        index=torch.arange(101),
    )
    norm = nn.BatchNorm2d(3)
    recalibrate(data, norm)
    torch.testing.assert_close(
        norm.running_mean, pixels.float().div(255).mean(dim=(0, 2, 3)), atol=2e-3, rtol=0
    )
    # A batch of one image has no variance after pooling.
    recalibrate(data, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3)))
