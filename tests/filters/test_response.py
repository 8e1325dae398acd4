"""What filters let through of images, against running them on low-passed and on full images."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from filterbands import load_data, load_model
from filterbands.filters import EQUAL_AREA, analyze, patch_covariances, response_low_energy


def white(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def measured(images, weight, cutoff, **options):
    """Return the share of the filters' output energy on low-passed against full images, by definition."""
    centred = (images - images.mean(dim=(0, 2, 3), keepdim=True)).double().numpy()
    height, width = centred.shape[2:]
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    low = np.fft.ifft2(np.fft.fft2(centred) * (radius <= cutoff)).real
    energy = [
        F.conv2d(torch.from_numpy(seen), weight.double(), **options).square().sum(dim=(0, 2, 3))
        for seen in (low, centred)
    ]
    return energy[0] / energy[1]


@pytest.mark.parametrize("cutoff", [EQUAL_AREA, 0.2])
@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"groups": 3}], ids=lambda row: str(row)
)
def test_the_response_is_that_of_the_layer_run_on_low_passed_images(cutoff, options):
    images = load_data("planted").subset(torch.arange(150)).images
    layer = nn.Conv2d(3, 9, 3, **options)
    shares = analyze(layer, cutoff=cutoff, data=images)["weight"].filters_response_low_energy
    unpadded = {name: value for name, value in options.items() if name != "padding"}
    expected = measured(images.float() / 255, layer.weight.detach(), cutoff, **unpadded)
    assert_close(shares, expected, atol=1e-5, rtol=0)


def test_the_covariances_give_the_same_in_closed_form_with_a_gradient():
    images = load_data("planted").subset(torch.arange(60)).images.float() / 255
    weight = white(5, 3, 3, 5)
    forms = patch_covariances(images, size=(3, 5), cutoff=0.3, stride=(2, 1), dilation=(1, 2))
    options = {"stride": (2, 1), "dilation": (1, 2)}
    leaf = weight.double().requires_grad_()
    share = response_low_energy(leaf, *forms)
    assert_close(share.detach(), measured(images, weight, 0.3, **options), atol=1e-6, rtol=0)
    share.sum().backward()
    assert float((leaf.grad * leaf.detach()).sum().abs()) < 1e-9
    assert bool(leaf.grad.abs().sum() > 0)
    assert torch.linalg.eigvalsh(forms[0]).min() > -1e-9


def test_deep_layers_are_measured_on_what_they_see():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Dropout(), nn.Conv2d(8, 4, 3)
    network = nn.Sequential(*layers).train()
    images = load_data("planted").subset(torch.arange(130)).images
    spectrum = analyze(network, data=images)
    assert network.training
    network.eval()
    with torch.no_grad():
        seen = network[:3](images.float() / 255)
    expected = measured(seen, network[3].weight.detach(), EQUAL_AREA)
    assert_close(spectrum["3"].filters_response_low_energy, expected, atol=1e-5, rtol=0)
    assert spectrum["3"].response_low_energy == pytest.approx(float(expected.mean()), abs=1e-5)
    assert not network[0]._forward_pre_hooks


def test_tensors_without_a_network_see_the_images_where_they_read_as_many_channels():
    images = load_data("planted").subset(torch.arange(50)).images
    weight = white(4, 3, 3, 3)
    spectrum = analyze({"conv1.weight": weight, "conv2.weight": white(4, 4, 3, 3)}, data=images)
    expected = measured(images.float() / 255, weight, EQUAL_AREA)
    assert_close(spectrum["conv1"].filters_response_low_energy, expected, atol=1e-5, rtol=0)
    assert spectrum["conv2"].response_low_energy is None
    document = spectrum.to_json()["layers"][0]
    assert document["response_low_energy"] == pytest.approx(float(expected.mean()), abs=1e-5)


def test_an_image_of_one_frequency_is_all_that_a_filter_answers_to():
    column = torch.arange(32)
    high = torch.cos(2 * torch.pi * column * 15 / 32).expand(1, 1, 32, 32)
    low = torch.cos(2 * torch.pi * column * 3 / 32).expand(1, 1, 32, 32)
    for images, share in ((high, 0.0), (low, 1.0)):
        layer = analyze({"a.weight": white(3, 1, 3, 3)}, data=images / 2 + 0.5)["a"]
        assert layer.response_low_energy == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (nn.Conv2d(4, 2, 3), torch.rand(2, 3, 8, 8), "cannot take images"),
        (nn.Conv2d(3, 2, 3), torch.rand(3, 8, 8), "at least one image, NCHW"),
        (nn.Conv2d(3, 2, 3), torch.zeros(2, 3, 8, 8, dtype=torch.int64), "bytes or floats"),
        (nn.Conv2d(3, 2, 3), torch.rand(0, 3, 8, 8), "at least one image"),
    ],
)
def test_images_that_cannot_be_taken_are_refused(model, data, message):
    with pytest.raises(ValueError, match=message) as caught:
        analyze(model, data=data)
    assert "\n" not in str(caught.value)


def test_forms_of_another_size_are_refused():
    form = torch.eye(9, dtype=torch.float64)
    with pytest.raises(ValueError, match="side 27"):
        response_low_energy(white(1, 3, 3, 3), form, form)
    with pytest.raises(ValueError, match="no patch"):
        patch_covariances(torch.rand(1, 1, 3, 3), size=(5, 5))


@pytest.mark.slow
def test_the_response_of_the_public_resnet20_is_measured_on_2000_images(shared, tmp_path):
    unpack = [sys.executable, str(shared / "cifar10" / "unpack.py"), str(tmp_path)]
    subprocess.run(unpack, check=True, capture_output=True)
    images = load_data(f"cifar10:{tmp_path}").subset(torch.arange(2000)).images
    network = load_model(
        shared / "checkpoints/akamaster/resnet20.safetensors",
        arch="cifar_resnet20",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    first = nn.Sequential(network.conv1)
    inputs = network.normalize(images.float() / 255)
    layer = analyze(first, data=inputs)["0"]
    expected = measured(inputs, network.conv1.weight.detach(), EQUAL_AREA)
    # Two filters are zero but for rounding, and let nothing through.
    assert_close(layer.filters_response_low_energy[layer.live], expected[layer.live], atol=1e-3, rtol=0)
    assert layer.response_low_energy == pytest.approx(0.986, abs=2e-3)


def test_a_layer_that_is_called_by_keyword_is_measured():
    class Named(torch.nn.Sequential):
        def forward(self, images):
            return self[0](input=images)

    images = torch.rand(4, 3, 8, 8)
    layer = torch.nn.Conv2d(3, 4, 3)
    expected = analyze(layer, data=images)["weight"].response_low_energy
    assert analyze(Named(layer), data=images)["0"].response_low_energy == expected


@pytest.mark.parametrize("side", [2, 3, 5, 6, 8])
def test_a_map_of_less_than_twice_the_kernel_has_no_share(side):
    network = nn.Sequential(nn.AdaptiveAvgPool2d(side), nn.Conv2d(3, 64, 3, padding=1))
    layer = analyze(network, data=white(50, 3, 32, 32).sigmoid())["1"]
    assert (layer.response_low_energy is None) == (side < 6)
    assert side < 6 or 0 < layer.response_low_energy < 1


def test_a_layer_that_is_called_on_one_image_at_a_time_is_measured():
    class Single(torch.nn.Sequential):
        def forward(self, images):
            return torch.stack([self[0](image) for image in images])

    images = torch.rand(4, 3, 8, 8)
    layer = torch.nn.Conv2d(3, 4, 3)
    expected = analyze(layer, data=images)["weight"].response_low_energy
    assert analyze(Single(layer), data=images)["0"].response_low_energy == pytest.approx(expected, abs=1e-6)
