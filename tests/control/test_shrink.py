"""shrink: the best linear denoiser of a patch, folded; what it does to responses, norms and accuracy."""

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import prune

from filterbands.control import modulate, set_share
from filterbands.control.shrink import CleanCost, _observe, choose_noise, clean_cost, shrink
from filterbands.corruptions import corrupt
from filterbands.datasets import ImageSet, load_data
from filterbands.filters.moments import padded, patch_statistics, unfold
from filterbands.models import describe, first_layer, load_model


class Normalised(nn.Module):
    """A normalisation of its own in front of a network."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        scale = torch.tensor([0.2, 0.25, 0.3], dtype=images.dtype)[:, None, None]
        return self.inner((images - 0.45) / scale)


def smooth(count: int = 60, side: int = 16, seed: int = 0) -> Tensor:
    """Return images in [0, 1] with most of their power at low frequencies, colours alike."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 1, side // 4, side // 4, generator=generator)
    coarse = coarse + 0.3 * torch.randn(count, 3, side // 4, side // 4, generator=generator)
    images = F.interpolate(coarse, size=(side, side), mode="bicubic")
    images = images + 0.1 * torch.randn(count, 3, side, side, generator=generator)
    return (0.5 + 0.15 * images).clamp(0, 1)


def conv(seed: int = 0, **options: object) -> nn.Conv2d:
    torch.manual_seed(seed)
    return nn.Conv2d(**{"in_channels": 3, "out_channels": 8, "kernel_size": 3, **options})


LAYERS = {
    "3x3": {"padding": 1},
    "7x7 strided": {"kernel_size": 7, "stride": 2, "padding": 3},
    "dilated": {"dilation": 2},
    "reflect": {"padding": 1, "padding_mode": "reflect"},
    "same": {"padding": "same", "kernel_size": (5, 3)},
}


@pytest.mark.parametrize("name", LAYERS)
def test_no_linear_map_of_noisy_patches_is_closer_to_the_clean_response(name: str) -> None:
    layer, images = conv(**LAYERS[name]), smooth()
    plain = copy.deepcopy(layer)
    noise = 0.1
    noisy = images + noise * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    shrink(layer, images, noise=noise)
    with torch.no_grad():
        clean = plain(images)

        def error(each: nn.Conv2d) -> float:
            return float((each(noisy) - clean).var(dim=(0, 2, 3)).mean())

        best, weight = error(layer), layer.weight.clone()
        assert best < error(plain)
        for _ in range(5):
            layer.weight.copy_(weight + 0.02 * torch.randn(weight.shape))
            assert error(layer) > best


def test_the_weight_is_the_formula() -> None:
    layer, images = conv(), smooth()
    patches = F.unfold(images, 3).double().movedim(1, 2).flatten(0, 1)
    covariance = torch.cov(patches.T, correction=0)
    weight = layer.weight.detach().double().flatten(1)
    expected = weight @ covariance @ torch.linalg.inv(covariance + 0.05**2 * torch.eye(27))
    bias = layer.bias.detach().double() + (weight - expected) @ patches.mean(dim=0)
    shrink(layer, images, noise=0.05)
    torch.testing.assert_close(layer.weight.flatten(1).double(), expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(layer.bias.double(), bias, rtol=0, atol=2e-5)


def test_noise_is_seen_through_the_normalisation_and_padding_has_none() -> None:
    model = Normalised(nn.Sequential(conv(padding=1), nn.ReLU()))
    images = smooth()
    first = first_layer("shrink", model, images)
    assert first.name == "inner.0"
    found = patch_statistics("shrink", model, first, [images]).noise[0]
    expected = []
    for scale in (0.2, 0.25, 0.3):
        for row in range(3):
            for column in range(3):
                inside = (16 - (row != 1)) * (16 - (column != 1)) / 256
                expected.append(inside / scale**2)
    torch.testing.assert_close(found, torch.tensor(expected).double().diag(), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    "shape", [{"kernel_size": 5, "padding": 2}, {"kernel_size": (3, 5), "padding": (1, 4)}]
)
def test_the_noise_of_pixels_that_padding_repeats_is_that_of_noise_sent_through(
    mode: str, shape: dict[str, object]
) -> None:
    model = conv(**shape, padding_mode=mode, stride=2)
    first = first_layer("shrink", model, torch.rand(2, 3, 8, 6))
    found = patch_statistics("shrink", model, first, [torch.rand(80, 3, 8, 6)]).noise[0]
    # Of a unit at every pixel in turn: what all patches see of it adds up to the covariance of white noise.
    units = torch.eye(3 * 8 * 6).reshape(-1, 3, 8, 6)
    patches = unfold(model, padded(model, units)).double()
    expected = torch.einsum("ukp,ulp->kl", patches, patches) / patches.shape[2]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_behind_more_than_a_normalisation_the_noise_is_measured() -> None:
    blur = nn.Conv2d(3, 3, 1)
    model = nn.Sequential(blur, nn.AvgPool2d(2), conv(seed=3))
    images = smooth()
    first = first_layer("shrink", model, images)
    found = patch_statistics("shrink", model, first, [images]).noise[0]
    colour = blur.weight.detach().double().flatten(1)
    expected = torch.kron(colour @ colour.T, torch.eye(9).double()) / 4
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.02)


@pytest.mark.parametrize("bias", [True, False])
def test_a_batch_norm_gives_the_moments_that_it_gave(bias: bool) -> None:
    model = nn.Sequential(conv(bias=bias, padding=1), nn.BatchNorm2d(8)).eval()
    images = smooth()
    with torch.no_grad():
        # Statistics of other images than those that shrink is given.
        response = model[0](smooth(seed=5) * 0.9)
        model[1].running_mean.copy_(response.mean(dim=(0, 2, 3)))
        model[1].running_var.copy_(response.var(dim=(0, 2, 3)))
        before = model(images)
        after = shrink(model, images, noise=0.05)(images)
    for moment in (torch.mean, torch.std):
        torch.testing.assert_close(
            moment(after, dim=(0, 2, 3)), moment(before, dim=(0, 2, 3)), atol=2e-3, rtol=0
        )
    assert float((after - before).abs().max()) > 1e-2


def test_a_layer_with_neither_bias_nor_batch_norm_uses_the_uncentred_moment() -> None:
    layer, images = conv(bias=False), smooth()
    patches = F.unfold(images, 3).double().movedim(1, 2).flatten(0, 1)
    moment = patches.T @ patches / len(patches)
    weight = layer.weight.detach().double().flatten(1)
    shrink(layer, images, noise=0.1)
    expected = weight @ moment @ torch.linalg.inv(moment + 0.01 * torch.eye(27))
    torch.testing.assert_close(layer.weight.flatten(1).double(), expected, rtol=0, atol=5e-5)
    assert layer.bias is None


class PreActivation(nn.Module):
    """A stem whose output goes through a batch norm and past it."""

    def __init__(self, *, bias: bool, skip: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=bias), nn.BatchNorm2d(8)
        self.skip = skip

    def forward(self, images: Tensor) -> Tensor:
        out = self.stem(images)
        normed = self.norm(out).relu()
        return out + normed if self.skip else normed


def test_a_mean_that_no_batch_norm_takes_up_hardly_moves_on_the_skip_path() -> None:
    images, shifts = smooth(), {}
    for bias, skip in ((True, True), (False, True), (False, False)):
        model = PreActivation(bias=bias, skip=skip).eval()
        with torch.no_grad():
            before = model.stem(images)
            after = shrink(model, images, noise=0.1).stem(images)
        shift = (after - before).mean(dim=(0, 2, 3)) / before.std(dim=(0, 2, 3))
        shifts[bias, skip] = float(shift.abs().max())
    assert shifts[True, True] < 1e-4
    assert shifts[False, True] < 0.02 < 0.1 < shifts[False, False]
    alone, skipped = conv(bias=False, padding=1), PreActivation(bias=False, skip=True).eval()
    alone.load_state_dict(skipped.stem.state_dict())
    shrink(skipped, images, noise=0.1)
    assert torch.equal(skipped.stem.weight, shrink(alone, images, noise=0.1).weight)


def test_groups_are_shrunk_each_by_its_own_channels() -> None:
    layer, images = conv(in_channels=4, groups=2), torch.cat([smooth(), smooth(seed=2)[:, :1]], dim=1)
    apart = [conv(in_channels=2, out_channels=4) for _ in range(2)]
    for half, single in enumerate(apart):
        with torch.no_grad():
            single.weight.copy_(layer.weight[4 * half : 4 * half + 4])
            single.bias.copy_(layer.bias[4 * half : 4 * half + 4])
        shrink(single, images[:, 2 * half : 2 * half + 2], noise=0.05)
    shrink(layer, images, noise=0.05)
    torch.testing.assert_close(layer.weight, torch.cat([single.weight for single in apart]))
    torch.testing.assert_close(layer.bias, torch.cat([single.bias for single in apart]))


@pytest.mark.parametrize("side", [14, 16])
def test_patch_embeddings_are_shrunk(side: int) -> None:
    embedding = conv(kernel_size=side, stride=side, out_channels=6)
    images = smooth(count=40, side=8 * side)
    plain = copy.deepcopy(embedding)
    with pytest.raises(ValueError, match=r"whose filters have \d+ inputs, got 256; give more images"):
        shrink(embedding, images[:4], noise=0.1)
    more = torch.cat([images, images.flip(3), images.flip(2), images.transpose(2, 3)])
    shrink(embedding, more, noise=0.1)
    noisy = images + 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        clean = plain(images)
        before, after = (layer(noisy).sub(clean).square().mean() for layer in (plain, embedding))
    assert after < 0.5 * before


def test_more_noise_shrinks_more_and_almost_none_changes_nothing() -> None:
    images, norms = smooth(), []
    for noise in (1e-5, 0.02, 0.05, 0.1):
        norms.append(float(shrink(conv(), images, noise=noise).weight.norm().detach()))
    assert norms[0] == pytest.approx(float(conv().weight.norm().detach()), rel=1e-4)
    assert norms == sorted(norms, reverse=True)


def test_images_come_as_a_set_as_bytes_as_floats_or_in_batches() -> None:
    pixels = (smooth() * 255).round().to(torch.uint8)
    labels = torch.arange(len(pixels)) % 2
    data = ImageSet(name="x", split="y", images=pixels, labels=labels, classes=("a", "b"), index=labels)
    loader = [(part.float() / 255, part) for part in torch.split(pixels, 100)]
    weights = [shrink(conv(), source).weight for source in (data, pixels, pixels.float() / 255, loader)]
    for weight in weights[1:]:
        torch.testing.assert_close(weight, weights[0])


def test_modes_stay_and_only_the_first_layer_and_its_norm_change() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), conv(), nn.BatchNorm2d(8), nn.Dropout(), conv(in_channels=8))
    model.train()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    assert shrink(model, smooth()) is model
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"1.weight", "1.bias", "2.running_var"} | changed & {"2.running_mean"}


def normed(bias: bool = True) -> nn.Sequential:
    model = nn.Sequential(conv(bias=bias, padding=1), nn.BatchNorm2d(8)).eval()
    with torch.no_grad():
        model[1].running_mean.normal_()
        model[1].running_var.uniform_(0.5, 2)
    return model


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_precision_is_shrunk_alike_and_levels_do_not_add_up(dtype: torch.dtype, bias: bool) -> None:
    single, model = shrink(normed(bias), smooth(), noise=0.1), normed(bias).to(dtype)
    original = _observe("shrink", model, smooth())
    original.fold(0.1)
    once = copy.deepcopy(model.state_dict())
    original.fold(0.2)
    original.fold(0.1)
    rough = {torch.float16: 1e-2, torch.bfloat16: 5e-2}.get(dtype, 1e-4)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, once[name]), name
        torch.testing.assert_close(
            tensor, single.state_dict()[name], rtol=rough, atol=rough, check_dtype=False
        )


def answering(count: int = 400) -> tuple[nn.Module, ImageSet]:
    """Return a network that answers by the strength of a fine texture, and images that have more or less."""
    torch.manual_seed(0)
    labels = torch.arange(count) % 2
    checks = (-1.0) ** (torch.arange(16)[:, None] + torch.arange(16))
    images = smooth(count) * 0.6 + 0.2 + 0.03 * labels[:, None, None, None] * checks
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    layer = nn.Conv2d(3, 1, 3)
    with torch.no_grad():
        layer.weight.copy_(checks[:3, :3].expand(1, 3, 3, 3) / 9)
        layer.bias.zero_()
        size = layer(pixels.float() / 255).std(dim=(1, 2, 3))
    middle = float((size[labels == 0].mean() + size[labels == 1].mean()) / 2)

    class Strength(nn.Module):
        def forward(self, response: Tensor) -> Tensor:
            strength = response.std(dim=(1, 2, 3))
            return torch.stack([torch.full_like(strength, middle), strength], dim=1)

    index = torch.arange(count)
    data = ImageSet(name="x", split="y", images=pixels, labels=labels, classes=("a", "b"), index=index)
    return nn.Sequential(layer, Strength()), data


def test_the_noise_chosen_is_the_largest_level_within_the_budget() -> None:
    model, data = answering()
    half = data.subset(torch.arange(200)), data.subset(torch.arange(200, 400))
    before = copy.deepcopy(model.state_dict())
    noise, trials = choose_noise(model, half[0], half[1], budget=0.1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert noise == trials[-2].noise
    assert trials[-2].drop <= 0.1 < trials[-1].drop
    shrunk = shrink(copy.deepcopy(model), half[0], noise=noise)
    assert clean_cost(model, shrunk, half[1], noise=noise) == trials[-2]


def test_a_cost_says_its_drop_and_margin() -> None:
    cost = CleanCost(noise=0.03, images=10_000, before=0.915, after=0.911, changed=200)
    assert cost.drop == pytest.approx(0.004)
    assert cost.margin == pytest.approx(1.96 * (0.02 - 0.004**2) ** 0.5 / 100)
    assert str(cost) == "noise 0.03: clean 91.50 -> 91.10 % (-0.40 ± 0.28 points on 10,000 images)"


@pytest.mark.parametrize(
    ("model", "data", "options", "message"),
    [
        (
            nn.Sequential(nn.Linear(16, 2)),
            smooth(),
            {},
            "needs a network with a torch.nn.Conv2d larger than 1x1",
        ),
        (nn.Conv2d(3, 2, 1), smooth(), {}, "larger than 1x1, found none"),
        (set_share(conv(), low=1.0), smooth(), {}, "is parametrized; bake the network first"),
        (modulate(conv()), smooth(), {}, "is parametrized; bake the network first"),
        (conv(), smooth() * 2, {}, r"needs images in \[0, 1\], got values from"),
        (conv(), smooth() * float("nan"), {}, r"needs images in \[0, 1\]"),
        (conv(), torch.zeros(0, 3, 8, 8), {}, "needs images, got none"),
        (conv(), [], {}, "needs images, got none"),
        (conv(), [torch.zeros(8, 8)], {}, r"batches of images NCHW, got \(8, 8\)"),
        (conv(), torch.zeros(4, 3, 8, 8, dtype=torch.int64), {}, "needs bytes or floats"),
        (conv(), torch.rand(1, 3, 8, 8), {}, "needs at least 270 patches of the layer itself"),
        (conv(), smooth(), {"noise": 0.0}, "noise needs a standard deviation above 0"),
        (conv(), smooth(), {"noise": float("nan")}, "noise needs a standard deviation above 0"),
    ],
)
def test_mistakes_are_refused(
    model: nn.Module, data: object, options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=f"shrink.*{message}"):
        shrink(model, data, **options)


@pytest.mark.parametrize("budget", [0.0, 1.0, -0.1])
def test_a_budget_out_of_range_is_refused(budget: float) -> None:
    model, data = answering(20)
    with pytest.raises(ValueError, match=r"budget needs a share of accuracy in \(0, 1\)"):
        choose_noise(model, data, data, budget=budget)


@pytest.fixture(scope="module")
def cifar10(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The spec of the real CIFAR-10, unpacked."""
    folder = tmp_path_factory.mktemp("cifar10")
    subprocess.run(
        [sys.executable, shared / "cifar10" / "unpack.py", folder], check=True, capture_output=True
    )
    return f"cifar10:{folder}"


def accuracy_under(model: nn.Module, data: ImageSet, kind: str) -> float:
    """Return the accuracy over five severities, each image at one of them."""
    right = 0
    for severity in range(1, 6):
        part = data.subset(torch.arange(severity - 1, len(data), 5))
        images = corrupt(part.images, kind, severity=severity, seed=0, index=part.index)
        same = replace(part, images=images)
        cost = clean_cost(model, model, same)
        right += round(cost.before * cost.images)
    return right / len(data)


@pytest.mark.slow
def test_a_published_network_gains_10_points_under_noise_for_little(shared: Path, cifar10: str) -> None:
    model = load_model(
        shared / "checkpoints/akamaster/resnet20.safetensors",
        arch="cifar_resnet20",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    shrunk = shrink(
        copy.deepcopy(model), load_data(cifar10, split="train").subset(torch.arange(1000)), noise=0.03
    )
    test = load_data(cifar10, split="test")
    assert clean_cost(model, shrunk, test).drop <= 0.006
    before, after = (accuracy_under(each, test, "gaussian_noise") for each in (model, shrunk))
    assert after - before >= 0.10


@pytest.mark.slow
def test_a_published_network_without_batch_norm_gains_under_noise(shared: Path, cifar10: str) -> None:
    # conv 16x3x4x4 s2, conv 32x16x4x4 s2, fc 128, 64, 10; takes [0, 1] as it is.
    first, second = nn.Conv2d(3, 16, 4, 2), nn.Conv2d(16, 32, 4, 2)
    dense = (nn.Linear(1152, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), *dense).eval()
    file = shared / "checkpoints/verified/marabou_cifar10_cifar_marabou_medium.pth"
    model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    data = load_data(cifar10, split="train").subset(torch.arange(1000))
    shrunk = shrink(copy.deepcopy(model), data, noise=0.03)
    test = load_data(cifar10, split="test").subset(torch.arange(5000))
    assert clean_cost(model, shrunk, test).drop <= 0.01
    before, after = (accuracy_under(each, test, "gaussian_noise") for each in (model, shrunk))
    assert after - before >= 0.01


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (5, 3), "stride": (2, 3), "dilation": (1, 2), "padding": 2},
        {"kernel_size": 4, "stride": 4, "padding": "valid"},
        {"kernel_size": 3, "padding": "same", "padding_mode": "reflect"},
    ],
)
def test_patches_are_those_that_torch_unfolds(options: dict[str, object]) -> None:
    layer = nn.Conv2d(3, 4, **options)
    seen = padded(layer, torch.rand(2, 3, 17, 19))
    shape = {"dilation": layer.dilation, "stride": layer.stride}
    assert torch.equal(unfold(layer, seen), F.unfold(seen, layer.kernel_size, **shape))


def test_weights_that_a_hook_sets_anew_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    prune.random_unstructured(model[0], "weight", 0.3)
    with pytest.raises(ValueError, match="shrink needs plain weights, that of 0 is set anew by a hook"):
        shrink(model, torch.rand(8, 3, 16, 16), noise=0.1)


def test_a_first_layer_that_runs_twice_is_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.conv(images).mean(dim=(2, 3)) + self.conv(F.avg_pool2d(images, 2)).mean(dim=(2, 3))

    with pytest.raises(ValueError, match="needs a first layer that runs once, conv runs 2 times"):
        shrink(Twice(), torch.rand(8, 3, 16, 16), noise=0.1)


def test_a_network_that_is_named_gets_the_noise_of_the_network(tmp_path: Path) -> None:
    data = load_data("planted", split="validation", limit=40)
    parts = data.subset(torch.arange(20)), data.subset(torch.arange(20, 40))
    model = load_model(arch="fastnet").eval()
    save_file(model.state_dict(), tmp_path / "net.safetensors", metadata=describe(model, arch="fastnet"))
    named = choose_noise(tmp_path / "net.safetensors", *parts, budget=0.9)
    assert named == choose_noise(model, *parts, budget=0.9)
