"""Controls: each takes one thing away from the idea, and nothing else."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from filterbands.control import bake, set_share
from filterbands.control.controls import WhiteNoise, equal_gain_blur, set_blur, set_random_share
from filterbands.filters import analyze, spans
from filterbands.fourier import filter_images, radius_grid


def natural(count: int = 100, seed: int = 0) -> Tensor:
    """Return images in [0, 1] with the 1/f^2 power of natural ones."""
    generator = torch.Generator().manual_seed(seed)
    radius = radius_grid(32, 32, half=True)
    radius[0, 0] = radius[radius > 0].min()
    smooth = filter_images(torch.randn(count, 3, 32, 32, generator=generator), (1 / radius)[None, None])
    return (0.5 + 0.15 * smooth / smooth.std()).clamp(0, 1)


def conv(seed: int = 0, **options: object) -> nn.Conv2d:
    torch.manual_seed(seed)
    return nn.Conv2d(**{"in_channels": 3, "out_channels": 16, "kernel_size": 3, "padding": 1, **options})


@pytest.mark.parametrize("kernel_size", [3, 5, (3, 5)])
def test_a_random_split_has_the_dimensions_of_the_frequency_split_and_two_orthogonal_parts(
    kernel_size: int | tuple[int, int],
) -> None:
    layer = set_random_share(conv(kernel_size=kernel_size), low=0.5, seed=4)
    low, high = layer.parametrizations.weight[0].projectors.double()
    for projector, span in zip((low, high), spans(*layer.kernel_size), strict=True):
        torch.testing.assert_close(projector @ projector, projector, rtol=0, atol=1e-6)
        assert float(projector.trace()) == pytest.approx(len(span), abs=1e-5)
    assert float((low @ high).abs().max()) < 1e-6


def test_a_random_split_is_another_for_every_seed_and_holds_through_training() -> None:
    def trained(seed: int) -> nn.Conv2d:
        layer = set_random_share(conv(), low=0.25, seed=seed)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
        images = natural(8)
        for _ in range(20):
            optimizer.zero_grad()
            layer(images).square().mean().backward()
            optimizer.step()
        return layer

    one, other = trained(0), trained(1)
    first, second = (layer.parametrizations.weight[0].projectors[0] for layer in (one, other))
    assert float((first - second).abs().max()) > 0.1
    low, high = one.parametrizations.weight[0].projectors
    kernels = one.weight.detach().flatten(2)
    outside = torch.stack([(kernels @ part - kernels).flatten(1).norm(dim=1) for part in (low, high)])
    assert bool((outside.amin(dim=0) < 1e-6).all())
    assert int((outside[0] < 1e-6).sum()) == 4
    assert type(bake(one.eval())) is nn.Conv2d


def test_a_random_split_says_nothing_of_frequency() -> None:
    energies = []
    for seed in range(20):
        layer = set_random_share(conv(out_channels=64, seed=seed), low=1.0, seed=seed)
        energies.append(analyze(layer)["weight"].mean_low_energy)
    assert sum(energies) / 20 == pytest.approx(0.5, abs=0.06)
    assert analyze(set_share(conv(), low=1.0))["weight"].mean_low_energy > 0.8


def test_behind_the_blur_white_filters_see_as_little_noise_as_low_ones_do() -> None:
    images = natural(100)
    side = equal_gain_blur(images)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    # As many white filters as low ones, on one channel each, and variances away from the border.
    low = set_share(nn.Conv2d(1, 150, 3, bias=False), low=1.0)
    white = nn.Conv2d(1, 150, 3, bias=False)
    with torch.no_grad():
        white.weight.normal_(generator=torch.Generator().manual_seed(2))
        mixed = torch.randn(150, 4, generator=torch.Generator().manual_seed(3)).double() @ spans(3, 3)[0]
        low.weight = mixed.reshape(150, 1, 3, 3).float()
    blurred = set_blur(white, side=side)
    ratios = []
    for layer in (low, blurred):
        with torch.no_grad():
            weight = layer.weight
            signal, added = (F.conv2d(part[:, :1], weight)[:, :, 2:-2, 2:-2] for part in (images, noise))
        ratios.append(float(added.var(dim=(0, 2, 3)).sum() / signal.var(dim=(0, 2, 3)).sum()))
    assert ratios[1] == pytest.approx(ratios[0], rel=0.2)


def test_images_of_high_frequencies_alone_have_no_such_blur() -> None:
    checks = (-1.0) ** (torch.arange(32)[:, None] + torch.arange(32))
    with pytest.raises(ValueError, match=r"equal_gain_blur: low filters see .* blurs of 3x3 reach from"):
        equal_gain_blur(0.5 + 0.25 * (natural() - 0.5) * checks)
    with pytest.raises(ValueError, match="needs images, got none"):
        equal_gain_blur([])


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"groups": 3, "out_channels": 6}, {"kernel_size": 5}])
def test_a_blurred_layer_is_the_layer_on_blurred_images(options: dict[str, int]) -> None:
    free, layer = conv(**options), conv(**options)
    weight = layer.weight
    set_blur(layer, side=0.2)
    assert layer.parametrizations.weight.original is weight
    images = torch.rand(2, 3, 16, 16)
    line = torch.tensor([0.2, 0.6, 0.2])
    kernel = torch.outer(line, line).expand(3, 1, 3, 3)
    wide = F.conv2d(images, kernel, padding=1 + free.padding[0], groups=3)
    expected = F.conv2d(wide, free.weight, free.bias, free.stride, 0, 1, free.groups)
    torch.testing.assert_close(layer(images), expected, rtol=0, atol=1e-5)
    before = layer.eval()(images)
    bake(layer)
    assert (type(layer), layer.weight) == (nn.Conv2d, weight)
    torch.testing.assert_close(layer(images), before, rtol=0, atol=1e-6)
    assert layer.weight.shape[2] == free.weight.shape[2] + 2


def test_a_blur_stays_while_the_layer_learns_and_its_states_load(tmp_path) -> None:
    layer = set_blur(conv(), side=0.1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(natural(4)).square().mean().backward()
    before = layer.weight.detach().clone()
    optimizer.step()
    assert float((layer.weight - before).detach().abs().max()) > 1e-4
    other = set_blur(conv(seed=1), side=0.1)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.weight, layer.weight)
    free = conv(seed=2)
    other.load_state_dict(free.state_dict())
    assert torch.equal(other.parametrizations.weight.original, free.weight)
    save_file(bake(layer.eval()).state_dict(), tmp_path / "wide.safetensors")
    with pytest.raises(ValueError, match=r"baked weights cannot be taken apart.*5x5"):
        other.load_state_dict(load_file(tmp_path / "wide.safetensors"))


def test_white_noise_is_gaussian_on_its_part_of_the_images_and_absent_in_evaluation() -> None:
    torch.manual_seed(0)
    images = torch.full((1000, 3, 8, 8), 0.5)
    module = WhiteNoise(0.1, clean=0.25)
    change = module(images) - images
    is_clean = (change == 0).flatten(1).all(dim=1)
    assert float(is_clean.double().mean()) == pytest.approx(0.25, abs=0.04)
    assert float(change[~is_clean].std()) == pytest.approx(0.1, rel=0.02)
    assert torch.equal(module.eval()(images), images)
    half = WhiteNoise(0.1, clean=0.0, clean_first=0.5)(images)
    assert torch.equal(half[:500], images[:500])
    assert bool((half[500:] != images[500:]).flatten(1).any(dim=1).all())
    edges = WhiteNoise(1.0, clean=0.0)(images)
    assert (float(edges.min()), float(edges.max())) == (0, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: set_random_share(nn.Linear(3, 3), low=1.0), "set_random_share needs a torch.nn.Conv2d"),
        (lambda: set_random_share(conv(), low=2.0), r"set_random_share: low needs a share in \[0, 1\]"),
        (lambda: set_random_share(conv(), low=1.0, guard=0.6), "set_random_share: a 3x3 kernel has no low"),
        (lambda: set_random_share(set_share(conv(), low=1.0), low=1.0), "parametrized already"),
        (lambda: set_blur(conv(), side=0.5), "side needs a weight above 0 and up to 1/3, got 0.5"),
        (lambda: set_blur(conv(padding="same"), side=0.1), "padding in numbers, got 'same'"),
        (lambda: set_blur(conv(kernel_size=1), side=0.1), "set_blur needs a kernel larger than 1x1"),
        (lambda: WhiteNoise(0.0), "sigma needs a number above 0"),
        (lambda: WhiteNoise(0.1, clean=2.0), r"clean needs a fraction in \[0, 1\]"),
    ],
)
def test_mistakes_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_white_noise_takes_one_image_and_cuts_none() -> None:
    assert WhiteNoise(0.1, clean=0.0)(torch.rand(3, 8, 8)).shape == (3, 8, 8)
    with pytest.raises(ValueError, match=r"WhiteNoise needs images in \[0, 1\], got values from"):
        WhiteNoise(0.1)(torch.randn(4, 3, 8, 8))


def test_a_random_share_takes_the_spans_of_its_options() -> None:
    given = {"cutoff": 0.3, "guard": 0.0, "zero_mean": False}
    held = set_random_share(nn.Conv2d(3, 8, 5), low=0.5, **given)
    traces = [round(float(part.trace())) for part in held.parametrizations.weight[0].projectors]
    assert traces == [len(span) for span in spans(5, 5, **given)]
