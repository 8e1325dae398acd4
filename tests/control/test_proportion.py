"""set_share, modulate and bake: what they promise holds at every step, and is undone without a trace."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from filterbands.control.bake import bake
from filterbands.control.modulation import modulate
from filterbands.control.noise import SpectralNoise
from filterbands.control.penalty import attract_share
from filterbands.control.proportion import set_share
from filterbands.filters.bands import filters_low_energy, line, spans

LAYERS = {
    "3x3": {"in_channels": 3, "out_channels": 16, "kernel_size": 3, "padding": 1},
    "no bias": {"in_channels": 3, "out_channels": 10, "kernel_size": 3, "bias": False},
    "5x5": {"in_channels": 3, "out_channels": 8, "kernel_size": 5, "padding": 2},
    "strided 7x7": {"in_channels": 3, "out_channels": 12, "kernel_size": 7, "stride": 2, "padding": 3},
    "grouped 5x3": {"in_channels": 4, "out_channels": 8, "kernel_size": (5, 3), "groups": 2},
    "depthwise circular": {
        "in_channels": 6,
        "out_channels": 6,
        "kernel_size": 3,
        "groups": 6,
        "padding": 1,
        "padding_mode": "circular",
    },
}


def conv(name: str = "3x3", seed: int = 0) -> nn.Conv2d:
    torch.manual_seed(seed)
    return nn.Conv2d(**LAYERS[name])


def small_network(layer: nn.Conv2d) -> nn.Sequential:
    width = layer.out_channels
    head = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))
    return nn.Sequential(layer, nn.BatchNorm2d(width), *head)


def optimise(
    model: nn.Module, optimizer: torch.optim.Optimizer, channels: int, *, steps: int = 50, images: int = 16
) -> None:
    torch.manual_seed(1)
    batch, labels = torch.rand(images, channels, 12, 12), torch.randint(0, 5, (images,))
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(batch), labels).backward()
        optimizer.step()


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.1)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, weight_decay=0.01)


def outside(weight: Tensor, span: Tensor) -> Tensor:
    """Return the share of each filter's norm that lies outside of a span."""
    kernels = weight.detach().double().flatten(2)
    left = kernels - kernels @ span.T @ span
    return left.flatten(1).norm(dim=1) / kernels.flatten(1).norm(dim=1)


def held(layer: nn.Conv2d, count: int, **options: object) -> None:
    """Assert that `count` filters are in the low span and all others in the high one."""
    low, high = spans(*layer.kernel_size, **options)
    in_low, in_high = outside(layer.weight, low) < 1e-6, outside(layer.weight, high) < 1e-6
    assert int(in_low.sum()) == count
    assert bool((in_low ^ in_high).all())


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("early", [True, False])
def test_spans_hold_through_training_whenever_the_optimizer_was_made(name: str, early: bool) -> None:
    layer = conv(name)
    model = small_network(layer)
    weight = layer.weight
    before = sgd(model)
    assert set_share(layer, low=0.75) is layer
    assert layer.parametrizations.weight.original is weight
    start = layer.weight.detach().clone()
    optimise(model, before if early else sgd(model), layer.in_channels)
    assert float((layer.weight.detach() - start).abs().max()) > 1e-3
    held(layer, round(0.75 * layer.out_channels))


class Branches(nn.Module):
    """Layers of every share side by side, so that one training holds them all."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(set_share(conv(name), low=low, seed=3) for low in SHARES)
        self.norm = nn.BatchNorm2d(len(SHARES) * self.layers[0].out_channels)
        self.head = nn.Linear(self.norm.num_features, 5)

    def forward(self, images: Tensor) -> Tensor:
        responses = self.norm(torch.cat([layer(images) for layer in self.layers], dim=1))
        return self.head(responses.relu().mean(dim=(2, 3)))


SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


STEPPED = [
    ("3x3", "sgd"),
    ("5x5", "adamw"),
    ("strided 7x7", "sgd"),
    ("depthwise circular", "mixed precision"),
    *(
        pytest.param(name, optimizer, marks=pytest.mark.slow)
        for name, optimizer in (
            *(("3x3", "adamw"), ("3x3", "mixed precision"), ("5x5", "sgd"), ("5x5", "mixed precision")),
            *(("strided 7x7", "adamw"), ("strided 7x7", "mixed precision")),
            *(("depthwise circular", "sgd"), ("depthwise circular", "adamw")),
        )
    ),
]


@pytest.mark.parametrize(("name", "optimizer"), STEPPED)
def test_every_share_is_exact_after_200_steps(name: str, optimizer: str) -> None:
    model = Branches(name)
    start = [layer.weight.detach().clone() for layer in model.layers]
    with torch.autocast("cpu", torch.bfloat16, enabled=optimizer == "mixed precision"):
        stepper = (adamw if optimizer == "adamw" else sgd)(model)
        optimise(model, stepper, model.layers[0].in_channels, steps=200, images=4)
    for low, layer, before in zip(SHARES, model.layers, start, strict=True):
        held(layer, round(low * layer.out_channels))
        assert float((layer.weight.detach() - before).abs().max()) > 1e-3


@pytest.mark.parametrize("low", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("zero_mean", [True, False])
def test_low_energies_are_on_their_sides_of_the_guard(low: float, zero_mean: bool) -> None:
    layer = set_share(conv("strided 7x7"), low=low, zero_mean=zero_mean, cutoff=0.3, guard=0.05)
    energy = filters_low_energy(layer.weight.detach().double(), 0.3)
    is_low = energy > line(0.3)
    assert int(is_low.sum()) == round(low * 12)
    assert bool((energy[is_low] >= line(0.3) + 0.05 - 1e-6).all())
    assert bool((energy[~is_low] <= line(0.3) - 0.05 + 1e-6).all())
    sums = layer.weight.detach().sum(dim=(2, 3)).abs()[~is_low]
    assert bool((sums < 1e-6).all()) == (zero_mean or low == 1)


def test_norms_are_those_of_the_free_layer_and_directions_those_of_its_projection() -> None:
    layer = conv()
    free = layer.weight.detach().clone()
    set_share(layer, low=0.5)
    low, high = spans(3, 3)
    for before, after in zip(free.double(), layer.weight.detach().double(), strict=True):
        span = low if float(outside(after[None], low)) < 1e-6 else high
        shadow = before.flatten(1) @ span.T @ span
        torch.testing.assert_close(
            after.flatten(1), shadow * before.norm() / shadow.norm(), rtol=0, atol=1e-6
        )


def test_filters_are_chosen_by_the_seed_or_by_what_they_are() -> None:
    def low_ones(seed: int | None) -> list[int]:
        layer = set_share(conv(), low=0.5, seed=seed)
        return (filters_low_energy(layer.weight.detach()) > 0.5).nonzero()[:, 0].tolist()

    assert low_ones(0) == low_ones(0) != low_ones(1)
    lowest = filters_low_energy(conv().weight.detach()).argsort(descending=True)[:8]
    assert low_ones(None) == sorted(lowest.tolist())


def test_without_zero_mean_high_filters_of_3x3_keep_some_gain_at_frequency_zero() -> None:
    constant = torch.full((9,), 1 / 3, dtype=torch.float64)
    # 15.5 % is the figure of docs/mathematics.md; with zero_mean it is 0.
    for zero_mean, kept in ((False, 0.1555), (True, 0.0)):
        _, high = spans(3, 3, zero_mean=zero_mean)
        assert float((high @ constant).square().sum()) == pytest.approx(kept, abs=1e-4)


@pytest.mark.parametrize("verb", ["set_share", "modulate"])
def test_autocast_does_not_touch_the_weights(verb: str) -> None:
    layer = set_share(conv(), low=0.5) if verb == "set_share" else modulate(conv())
    plain = layer.weight.detach()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.weight.detach(), plain)
        assert layer.train()(torch.rand(4, 3, 8, 8)).dtype == torch.bfloat16


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("verb", ["set_share", "modulate"])
def test_baking_leaves_the_plain_layer_with_equal_outputs(name: str, verb: str) -> None:
    layer = conv(name)
    weight, names = layer.weight, list(layer.state_dict())
    model = small_network(layer)
    set_share(layer, low=0.5) if verb == "set_share" else modulate(layer)
    optimise(model, sgd(model), layer.in_channels, steps=3)
    images = torch.rand(4, layer.in_channels, 12, 12)
    before = model.eval()(images)
    assert bake(model) is model
    assert type(layer) is nn.Conv2d
    assert layer.weight is weight
    assert list(layer.state_dict()) == names
    assert not layer._forward_hooks
    torch.testing.assert_close(model(images), before, rtol=0, atol=1e-6)
    set_share(layer, low=0.5)
    assert bake(layer) is layer
    assert type(layer) is nn.Conv2d


def test_baking_a_model_without_such_layers_changes_nothing() -> None:
    model = nn.Sequential(
        SpectralNoise(), parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.Conv2d(4, 4, 3)
    ).eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert bake(model) is model
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
    assert isinstance(model[0], SpectralNoise)


@pytest.mark.parametrize("verb", ["set_share", "modulate"])
def test_the_baked_network_is_within_rounding_also_exported_and_saved(verb: str, tmp_path: Path) -> None:
    layer = conv("5x5")
    model = small_network(set_share(layer, low=0.5) if verb == "set_share" else modulate(layer))
    optimise(model, sgd(model), 3, steps=20)
    images = torch.rand(8, 3, 12, 12)
    before = model.eval()(images).detach()
    after = bake(model)(images).detach()
    assert float((after - before).abs().max() / before.abs().max()) < 1e-5
    exported = torch.export.export(model, (images,))
    torch.export.save(exported, tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    torch.testing.assert_close(loaded(images), after, rtol=0, atol=1e-6)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    twin = small_network(conv("5x5", seed=9)).eval()
    twin.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(twin(images), after)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_baked_network_goes_through_onnx(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    model = bake(small_network(modulate(conv("5x5"))).eval())
    images, file = torch.rand(8, 3, 12, 12), str(tmp_path / "model.onnx")
    # The exporter that needs no further package.
    torch.onnx.export(model, (images,), file, dynamo=False, input_names=["images"])
    (answer,) = runtime.InferenceSession(file).run(None, {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(answer), model(images).detach(), rtol=0, atol=1e-6)


def test_a_network_in_training_mode_is_not_baked() -> None:
    model = small_network(set_share(conv(), low=0.5))
    with pytest.raises(ValueError, match=r"bake needs a network in evaluation mode.*model\.eval\(\)"):
        bake(model)
    assert parametrize.is_parametrized(model[0])


def test_printing_a_layer_shows_how_many_filters_are_low() -> None:
    assert "2 of 5 filters low" in str(set_share(nn.Conv2d(3, 5, 3), low=0.5))


def test_a_layer_with_further_parametrizations_is_not_folded() -> None:
    model = nn.Sequential(set_share(conv(), low=0.5), set_share(nn.Conv2d(16, 4, 3), low=0.5))
    parametrizations.spectral_norm(model.eval()[1])
    with pytest.raises(ValueError, match=r"bake cannot fold 1: .*_SpectralNorm"):
        bake(model)
    assert parametrize.is_parametrized(model[0])


@pytest.mark.parametrize("verb", ["set_share", "modulate"])
def test_copies_are_independent_of_each_other(verb: str) -> None:
    layer = set_share(conv(), low=0.5) if verb == "set_share" else modulate(conv(), clean=0.0)
    twin = copy.deepcopy(layer)
    images = torch.rand(4, 3, 8, 8)
    outputs = []
    for each in (layer, twin):
        torch.manual_seed(0)
        outputs.append(each.train()(images))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0)
    weight = layer.weight.detach().clone()
    bake(twin.eval())
    assert type(twin) is nn.Conv2d
    assert not twin._forward_hooks
    assert torch.equal(layer.weight, weight)
    torch.manual_seed(0)
    torch.testing.assert_close(layer(images), outputs[0], rtol=0, atol=0)


@pytest.mark.parametrize("verb", ["set_share", "modulate"])
def test_a_state_dict_goes_into_a_fresh_layer_whatever_its_seed(verb: str) -> None:
    def made(seed: int) -> nn.Conv2d:
        layer = conv(seed=seed)
        return set_share(layer, low=0.5, seed=seed) if verb == "set_share" else modulate(layer)

    one, other = made(0), made(1)
    assert not torch.equal(one.weight, other.weight)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.weight, other.weight)


def test_both_plain_and_parametrized_checkpoints_load(tmp_path: Path) -> None:
    trained = small_network(set_share(conv(), low=0.5))
    optimise(trained, sgd(trained), 3, steps=5)
    parametrized = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    plain = bake(trained.eval()).state_dict()
    save_file(plain, tmp_path / "plain.safetensors")
    for state in (plain, load_file(tmp_path / "plain.safetensors"), parametrized):
        # Another seed: which filters are low comes from the file.
        other = small_network(set_share(conv(seed=1), low=0.5, seed=1))
        other.load_state_dict(state)
        torch.testing.assert_close(other[0].weight, trained[0].weight, rtol=0, atol=1e-6)
        held(other[0], 8)
    modulated = small_network(modulate(conv(seed=2)))
    modulated.load_state_dict(plain | {"0.weight": conv(seed=4).weight.detach()})
    torch.testing.assert_close(modulated[0].weight, conv(seed=4).weight, rtol=0, atol=1e-6)
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.load_state_dict(plain | {"0.weight": torch.zeros(16, 3, 5, 5)})


def test_averages_of_weights_keep_their_spans() -> None:
    for options in ({}, {"multi_avg_fn": get_ema_multi_avg_fn(0.9)}):
        model = small_network(set_share(conv(), low=0.25))
        average = AveragedModel(model, use_buffers=True, **options)
        for _ in range(3):
            optimise(model, sgd(model), 3, steps=2)
            average.update_parameters(model)
        held(average.module[0], 4)
        assert type(bake(average.eval()).module[0]) is nn.Conv2d


@pytest.mark.parametrize("verb", ["set_share", "modulate"])
def test_accumulated_gradients_equal_those_of_the_whole_batch(verb: str) -> None:
    layer = set_share(conv(), low=0.5) if verb == "set_share" else modulate(conv(), clean=1.0)
    images = torch.rand(8, 3, 8, 8)
    layer(images).square().sum().backward()
    whole = [parameter.grad.clone() for parameter in layer.parameters()]
    layer.zero_grad()
    for part in (images[:5], images[5:]):
        layer(part).square().sum().backward()
    for parameter, grad in zip(layer.parameters(), whole, strict=True):
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-4, atol=1e-3)


# In a process of its own, since the checks of array types that tests switch on are not to be compiled.
COMPILED = """
import sys, torch
from torch import nn
from filterbands.control import modulate, set_share
verb, backend = sys.argv[1:]
torch.manual_seed(0)
layer = nn.Conv2d(3, 16, 3, padding=1)
if verb == "set_share":
    set_share(layer, low=0.5)
else:
    modulate(layer, clean=0.0, bands=verb)
model = nn.Sequential(layer, nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 64, 5))
compiled = torch.compile(model, backend=backend, fullgraph=True)
images = torch.rand(4, 3, 8, 8)
torch.testing.assert_close(compiled.eval()(images), model.eval()(images), rtol=1e-4, atol=1e-5)
compiled.train()(images).square().sum().backward()
assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "inductor"])
@pytest.mark.parametrize("verb", ["set_share", "two", "eigen"])
def test_compiled_networks_equal_those_that_are_not(verb: str, backend: str) -> None:
    subprocess.run([sys.executable, "-c", COMPILED, verb, backend], check=True)


def distributed(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = small_network(set_share(conv(), low=0.5))
    network = nn.parallel.DistributedDataParallel(nn.Sequential(SpectralNoise(clean=0.0), model))
    torch.manual_seed(7 + rank)
    images, labels = torch.rand(8, 3, 12, 12), torch.randint(0, 5, (8,))
    noise = SpectralNoise(clean=0.0)(torch.full((2, 3, 12, 12), 0.5))
    optimizer = sgd(network)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    torch.save({"noise": noise, "weight": model[0].weight.detach()}, f"{folder}/{rank}.pt")
    held(model[0], 8)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_hold_one_share_and_draw_their_own_noise(tmp_path: Path) -> None:
    # No copies: after other tests in this process, threads of libraries leave locks behind in them.
    context = torch.multiprocessing.get_context("spawn")
    processes = [context.Process(target=distributed, args=(rank, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert torch.equal(one["weight"], other["weight"])
    assert not torch.equal(one["noise"], other["noise"])


def test_an_assigned_weight_is_kept_to_its_spans_or_proportions() -> None:
    new = torch.randn(16, 3, 3, 3)
    layer = set_share(conv(), low=0.5)
    layer.weight = new
    held(layer, 8)
    modulated = modulate(conv())
    modulated.weight = new
    torch.testing.assert_close(modulated.weight.detach(), new, rtol=0, atol=1e-6)


def test_half_of_five_filters_is_rounded_as_python_rounds() -> None:
    layer = set_share(nn.Conv2d(3, 5, 3), low=0.5)
    held(layer, 2)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Linear(3, 3), "needs a torch.nn.Conv2d, got Linear; pass the layer itself"),
        (nn.ConvTranspose2d(3, 3, 3), "got ConvTranspose2d"),
        (nn.Conv2d(3, 3, 1), "needs a kernel larger than 1x1"),
        (nn.Conv2d(3, 3, 3, dilation=2), r"needs a layer without dilation, got \(2, 2\)"),
        (nn.LazyConv2d(3, 3), "needs a layer that is initialized; run the network once"),
        (nn.Conv2d(3, 3, 3, dtype=torch.complex64), "needs a layer with real floating-point weights, got"),
        (nn.Conv2d(3, 3, 3, device="meta"), "needs a layer with numbers, got one on the meta device"),
        (modulate(nn.Conv2d(3, 3, 3)), "parametrized already; bake it first"),
        (parametrizations.weight_norm(nn.Conv2d(3, 3, 3)), "parametrized already"),
    ],
)
def test_layers_that_cannot_be_held_are_refused(layer: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=f"set_share.*{message}"):
        set_share(layer, low=0.5)
    with pytest.raises(ValueError, match=f"modulate.*{message}"):
        modulate(layer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 1.5}, r"low needs a share in \[0, 1\], got 1.5"),
        ({"low": float("nan")}, "low needs a share"),
        ({"low": 0.5, "cutoff": 0.7}, "cutoff needs a radius"),
        ({"low": 0.5, "guard": -0.1}, "guard needs a number"),
        ({"low": 0.5, "guard": 0.6}, "a 3x3 kernel has no low filters at cutoff 0.3989 with guard 0.6"),
        ({"low": 0.5, "cutoff": 0.1}, "a 3x3 kernel has no high filters at cutoff 0.1 with guard 0.1"),
    ],
)
def test_shares_that_do_not_exist_are_refused_and_leave_the_layer_plain(
    options: dict[str, float], message: str
) -> None:
    layer = conv()
    with pytest.raises(ValueError, match=message):
        set_share(layer, **options)
    assert type(layer) is nn.Conv2d


def test_a_filter_with_nothing_in_its_part_is_refused_and_leaves_the_layer_plain() -> None:
    layer = conv()
    with torch.no_grad():
        layer.weight[:] = 1
    with pytest.raises(ValueError, match="filter 0 has nothing in the high span"):
        set_share(layer, low=0.0)
    bake(set_share(layer.eval(), low=1.0))
    with pytest.raises(ValueError, match="filter 0 has nothing in the high part"):
        modulate(layer)
    assert type(layer) is nn.Conv2d


def test_a_pruned_filter_in_half_precision_stays_zero() -> None:
    plain = nn.Conv2d(3, 8, 3)
    plain.weight.data[2] = 0
    assert not set_share(copy.deepcopy(plain).half(), low=0.5).weight.isnan().any()
    held = set_share(nn.Conv2d(3, 8, 3), low=0.5)
    held.load_state_dict(plain.half().state_dict())
    assert held.weight.dtype == torch.float32
    assert not held.weight[2].any()
    assert held.weight.isfinite().all()


def test_a_layer_that_torch_made_plain_again_loads_and_runs() -> None:
    for make in (lambda layer: set_share(layer, low=0.5), modulate):
        layer = make(nn.Conv2d(3, 8, 3))
        parametrize.remove_parametrizations(layer, "weight")
        layer.load_state_dict(nn.Conv2d(3, 8, 3).state_dict())
        assert layer.train()(torch.rand(2, 3, 8, 8)).shape == (2, 8, 6, 6)


def test_no_images_go_through_a_modulated_layer() -> None:
    assert modulate(nn.Conv2d(3, 8, 3)).train()(torch.rand(0, 3, 8, 8)).shape == (0, 8, 6, 6)


def test_layers_without_numbers_are_refused() -> None:
    layer = nn.Conv2d(3, 8, 3, device="meta")
    for call in (lambda: set_share(layer, low=0.5), lambda: attract_share(layer, target=0.5)):
        with pytest.raises(ValueError, match="needs a layer with numbers, got one on the meta device"):
            call()


def test_a_bias_that_a_hook_sets_is_refused_before_anything_is_baked() -> None:
    layer = set_share(nn.Conv2d(3, 8, 3), low=0.5)
    prune.random_unstructured(layer, "bias", 0.3)
    with pytest.raises(ValueError, match="its bias is set by a hook"):
        bake(layer.eval())
    assert parametrize.is_parametrized(layer)
