"""Two layers composed against running both, and input gradients against their definition."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from filterbands import load_data, load_model
from filterbands.datasets import ImageSet
from filterbands.filters import effective_first_layer, filters_low_energy, input_gradient_spectrum


def composed_by_impulses(one: nn.Module, two: nn.Module, channels: int, side: int) -> torch.Tensor:
    """Return the kernel that the two stand for, from the answer in the middle to an impulse everywhere."""
    kernels = []
    with torch.no_grad():
        images = torch.eye(channels * side * side).reshape(-1, channels, side, side)
        answers = two(one(images)) - two(one(torch.zeros(1, channels, side, side)))
        middle = answers[:, :, answers.shape[2] // 2, answers.shape[3] // 2]
        kernels = middle.T.reshape(-1, channels, side, side)
    return kernels.double()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"kernel_size": 3}, {"kernel_size": 3}),
        ({"kernel_size": 3, "stride": 2}, {"kernel_size": 3}),
        ({"kernel_size": 3, "dilation": 2}, {"kernel_size": (2, 3), "dilation": (1, 2)}),
        ({"kernel_size": 4, "stride": 2}, {"kernel_size": 1, "stride": 2}),
        ({"kernel_size": 3}, {"kernel_size": 3, "groups": 4}),
    ],
)
def test_the_composition_is_what_both_do_one_after_the_other(first, second):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 8, **first), nn.Conv2d(8, 4, **second))
    layer = effective_first_layer(network)
    kernels = composed_by_impulses(network[0], network[1], 2, 15)
    assert layer.name == "0 -> 1"
    assert_close(layer.filters_low_energy, filters_low_energy(kernels), atol=1e-6, rtol=0)
    assert layer.stride == tuple(a * b for a, b in zip(network[0].stride, network[1].stride, strict=True))
    assert layer.low_share_chance is None
    assert "linearly" in layer.note


def test_the_batch_norm_between_scales_the_first_filters():
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3)).eval()
    network[1].weight.data = torch.rand(6) * 3
    network[1].running_var.copy_(torch.rand(6) + 0.1)
    layer = effective_first_layer(network)
    assert layer.batch_norm == "1"
    kernels = composed_by_impulses(network[:2], network[3], 3, 9)
    assert_close(layer.filters_low_energy, filters_low_energy(kernels), atol=1e-6, rtol=0)


def test_the_layers_of_a_residual_network_are_found():
    layer = effective_first_layer(load_model(arch="cifar_resnet20"))
    assert layer.name == "conv1 -> layer1.0.conv1"
    assert layer.shape == (16, 3, 5, 5)
    named = effective_first_layer(load_model(arch="cifar_resnet20"), second="layer2.0.conv1")
    assert named.stride == (2, 2)


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (nn.Linear(2, 2), {}, "found none"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), {}, "no convolution behind 0"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)), {"second": "7"}, "there are 0, 1"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(2, 2, 3)), {"second": "1"}, "do not follow"),
    ],
)
def test_layers_that_do_not_follow_each_other_are_refused(network, options, message):
    with pytest.raises(ValueError, match=message):
        effective_first_layer(network, **options)


def few(count: int = 130, side: int = 12) -> ImageSet:
    generator = torch.Generator().manual_seed(2)
    return ImageSet(
        name="noise",
        split="test",
        images=torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8),
        labels=torch.randint(0, 4, (count,), generator=generator),
        classes=("a", "b", "c", "d"),
        index=torch.arange(count),
    )


def test_the_input_gradient_has_the_spectrum_of_its_definition():
    torch.manual_seed(3)
    features = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.AdaptiveAvgPool2d(1)
    network = nn.Sequential(*features, nn.Flatten(), nn.Linear(6, 4)).train()
    data = few()
    found = input_gradient_spectrum(network, data, cutoff=0.3)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    network.eval()
    total, shares = np.zeros((12, 12)), []
    radius = np.hypot(np.fft.fftfreq(12)[:, None], np.fft.fftfreq(12)[None])
    for image, label in zip(data.images, data.labels, strict=True):
        leaf = (image.float() / 255)[None].requires_grad_()
        F.cross_entropy(network(leaf), label[None]).backward()
        power = (np.abs(np.fft.fft2(leaf.grad[0].double().numpy())) ** 2).sum(axis=0)
        total += power
        shares.append(power[radius <= 0.3].sum() / power.sum())
    assert found.low_energy == pytest.approx(total[radius <= 0.3].sum() / total.sum(), abs=1e-5)
    assert found.mean_low_energy == pytest.approx(np.mean(shares), abs=1e-5)
    assert found.centroid == pytest.approx((radius * total).sum() / total.sum(), abs=1e-5)
    expected = torch.from_numpy(np.fft.fftshift(total / total.mean()))
    assert_close(found.power, expected, atol=1e-3, rtol=1e-3)
    assert found.white_low_energy == pytest.approx((radius <= 0.3).mean())
    assert float(found.curve[29]) == pytest.approx(found.low_energy)
    assert "low" in str(found)


def test_what_has_no_gradient_is_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 4))
    nn.init.zeros_(network[1].weight)
    with pytest.raises(ValueError, match="every gradient is zero"):
        input_gradient_spectrum(network, few(20))
    with pytest.raises(ValueError, match="has no class 3"):
        input_gradient_spectrum(nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 2)), few(60))
    with pytest.raises(ValueError, match="cannot take images"):
        input_gradient_spectrum(load_model(arch="fastnet"), few(4, side=2))
    with pytest.raises(ValueError, match="cannot take"):
        input_gradient_spectrum(nn.Conv2d(1, 2, 3), load_data("planted").subset(torch.arange(2)))


def test_a_network_without_gradients_gets_one_line():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))

        @torch.no_grad()
        def forward(self, images):
            return self.inner(images)

    with pytest.raises(ValueError, match="answer has no gradient with respect to the image"):
        input_gradient_spectrum(Frozen(), load_data("planted", limit=4))


def test_the_first_of_two_composed_layers_may_be_named():
    found = effective_first_layer(load_model(arch="cifar_resnet20"), first="layer1.0.conv1")
    assert found.name == "layer1.0.conv1 -> layer1.0.conv2"
