"""Options of the loop: optimizers, schedules, averages, parts of batches, starts, several processes."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from filterbands.control import SpectralNoise, bake
from filterbands.disk import write_weights
from filterbands.filters import filters_low_energy
from filterbands.models import first_layer, load_model, read_weights
from filterbands.run import Run
from filterbands.training import RECIPES, ShareConfig, TrainConfig, build, to_plain, train, with_settings
from filterbands.training.networks import _check_plain_norms
from filterbands.training.optimizing import FACTORS, Averages, cosine, make_optimizer

Configs = Callable[[str], TrainConfig]
Runs = Callable[[str], Run]
Finished = subprocess.CompletedProcess[str]
STEPS = 3

train_module = importlib.import_module("filterbands.training.train")


class StoppedError(Exception):
    """Raised in the middle of a training."""


def losses(run: Run) -> list[float]:
    return [record["loss"] for record in run.read_log()[1:]]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_a_config_of_its_name(recipe: str) -> None:
    assert RECIPES[recipe]().recipe == recipe


@pytest.mark.parametrize(
    "change",
    [
        {"ema": 0.9},
        pytest.param({"learning_rate": 0.1, "schedule": "cosine", "clip": 0.5}, marks=pytest.mark.slow),
        {"optimizer": "adamw", "learning_rate": 1e-3, "schedule": "cosine"},
        {"accumulate": 2, "method": "apr_p"},
        pytest.param({"checkpoint_every": 2}, marks=pytest.mark.slow),
    ],
    ids=lambda change: "-".join(change),
)
def test_a_run_with_options_stopped_and_resumed_gives_the_same_bits(
    change: dict[str, Any], config_of: Configs, tmp_path: Path
) -> None:
    config = replace(config_of("spectral"), **change)
    whole = train(config, tmp_path / "whole")

    def progress(done: int, total: int, what: str) -> None:
        if done == 2 * STEPS + 1:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(config, tmp_path / "stopped", progress=progress)
    run = train(config, tmp_path / "stopped", resume=True)
    ours, theirs = read_weights(run.weights), read_weights(whole.weights)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert losses(run) == losses(whole)


def test_checkpoints_come_at_intervals(config_of: Configs, tmp_path: Path) -> None:
    seen = []

    def progress(done: int, total: int, what: str) -> None:
        if done % STEPS == 1:
            seen.append(Run(tmp_path).checkpoint.exists())

    train(replace(config_of("standard"), checkpoint_every=2), tmp_path, progress=progress)
    assert seen == [False, False, True]


def test_parts_of_a_batch_teach_what_the_batch_does(
    config_of: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without batch norm, gradients of parts add up to the gradient of the whole."""

    def plain(config: TrainConfig, *, classes: int) -> tuple[nn.Module, nn.Module]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(784, classes))
        return model, model

    monkeypatch.setattr(train_module, "in_training", plain)
    config = replace(config_of("standard"), epochs=1, learning_rate=0.05)
    one, four = (train(replace(config, accumulate=n), tmp_path / str(n)) for n in (1, 4))
    ours, theirs = read_weights(four.weights), read_weights(one.weights)
    for name, expected in theirs.items():
        assert_close(ours[name], expected, rtol=1e-4, atol=1e-5)


def test_the_loop_follows_its_config(
    config_of: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[nn.Module, torch.optim.Optimizer]] = []

    def made(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
        kept.append((network, make_optimizer(network, config)))
        return kept[-1][1]

    monkeypatch.setattr(train_module, "make_optimizer", made)
    config = replace(config_of("standard"), schedule="cosine", peak=0.5, epochs=1, momentum=0.5)
    rates: list[float] = []
    train(config, tmp_path / "a", progress=lambda *_: rates.append(kept[-1][1].param_groups[0]["lr"]))
    assert rates == pytest.approx([config.learning_rate * cosine(step / 3, 0.5) for step in range(3)])
    assert kept[-1][1].param_groups[0]["momentum"] == 0.5

    def noise() -> SpectralNoise:
        return next(module for module in kept[-1][0].modules() if isinstance(module, SpectralNoise))

    scales: list[float] = []
    rising = with_settings(config_of("spectral"), ["spectral.schedule=rise"])
    train(rising, tmp_path / "b", progress=lambda *_: scales.append(noise().scale))
    assert scales == pytest.approx([min(1, 2 * step / 9) for step in range(9)])


def test_parts_see_the_images_of_the_batch(config_of: Configs, whole: Runs, tmp_path: Path) -> None:
    run = train(replace(config_of("standard"), accumulate=4, epochs=1), tmp_path)
    # The batch norms see other batches, so that losses are near, not equal.
    assert losses(run)[0] == pytest.approx(losses(whole("standard"))[0], rel=0.2)


def test_the_cosine_rises_straight_and_falls_to_nothing() -> None:
    factors = [cosine(step / 100, 0.2) for step in range(101)]
    assert max(factors) == factors[20] == 1
    assert factors[10] == 0.5
    assert factors[60] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0)


def test_the_steps_are_fifths() -> None:
    factors = [FACTORS["steps"](epoch / 200, 0.2) for epoch in (0, 59, 60, 119, 120, 160, 190, 199)]
    assert np.allclose(factors, [1, 1, 0.2, 0.2, 0.04, 0.008, 0.0016, 0.0016])


def test_thirds_are_tenths() -> None:
    factors = [FACTORS["thirds"](epoch / 150, 0.2) for epoch in (0, 50, 51, 100, 101, 149)]
    assert np.allclose(factors, [1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_gradient_that_is_longer_is_clipped(config_of: Configs, whole: Runs, tmp_path: Path) -> None:
    config = config_of("standard")
    loose = train(replace(config, clip=1e6), tmp_path / "loose")
    assert losses(loose) == losses(whole("standard"))
    tight = train(replace(config, clip=1e-9, weight_decay=0.0), tmp_path / "tight")
    torch.manual_seed(config.seed)
    start = build(config, classes=10).state_dict()
    for name, weight in read_weights(tight.weights).items():
        if name.endswith("weight"):
            assert_close(weight, start[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_weight_decay_is_of_weights_alone(name: str, kind: type, config_of: Configs) -> None:
    config = replace(config_of("modulated"), optimizer=name)
    optimizer = make_optimizer(build(config, classes=10), config)
    assert isinstance(optimizer, kind)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [5e-4, 0, 0]


def test_an_average_forgets_its_start_and_gives_back_what_it_borrowed() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    averages = Averages(network, 0.5)
    first = network[0].weight.detach().clone()
    with torch.no_grad():
        network[0].weight.add_(1)
    averages.update(network)
    # The decay of the first step is (1 + 1) / (10 + 1).
    expected = first + (1 - 2 / 11)
    with averages.applied(network):
        assert_close(network[0].weight.detach(), expected)
    assert_close(network[0].weight.detach(), first + 1)
    averages.apply(network)
    assert_close(network[0].weight.detach(), expected)


def test_the_average_is_what_a_run_ends_with(config_of: Configs, whole: Runs, tmp_path: Path) -> None:
    run = train(replace(config_of("standard"), ema=0.9), tmp_path)
    ours, theirs = read_weights(run.weights), read_weights(whole("standard").weights)
    assert losses(run) == losses(whole("standard"))
    assert not torch.equal(ours["conv1.weight"], theirs["conv1.weight"])


def test_weights_in_the_middle_are_kept_as_plain_networks(config_of: Configs, tmp_path: Path) -> None:
    run = train(replace(config_of("modulated"), keep_every=2), tmp_path)
    kept = sorted(file.name for file in run.folder.glob("weights-*"))
    assert kept == ["weights-0002.safetensors"]
    load_model(run.folder / kept[0])


def test_training_goes_on_from_a_file(config_of: Configs, whole: Runs, tmp_path: Path) -> None:
    start = whole("standard")
    config = replace(RECIPES["finetune"](), data=config_of("standard").data, batch_size=32, epochs=1)
    with pytest.raises(ValueError, match="finetune starts from a trained network; name it with --set init"):
        train(config, tmp_path / "none")
    config = replace(config, init=str(start.folder), learning_rate=1e-6)
    run = train(config, tmp_path / "run")
    assert len(run.read()["init"]) == 64
    ours, theirs = read_weights(run.weights), read_weights(start.weights)
    assert_close(ours["conv1.weight"], theirs["conv1.weight"], rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="does not fit cifar_resnet20"):
        train(replace(config, arch="cifar_resnet20"), tmp_path / "other")


def test_a_run_is_not_resumed_from_another_start(config_of: Configs, whole: Runs, tmp_path: Path) -> None:
    file = tmp_path / "start.safetensors"
    shutil.copy(whole("standard").weights, file)
    config = replace(config_of("standard"), init=str(file))

    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", on_epoch=stop)
    shutil.copy(whole("spectral").weights, file)
    with pytest.raises(ValueError, match=r"was begun from other weights than .*start\.safetensors holds now"):
        train(config, tmp_path / "run", resume=True)
    shutil.copy(whole("standard").weights, file)
    assert train(config, tmp_path / "run", resume=True).finished


def test_a_start_of_other_classes_is_refused(whole: Runs) -> None:
    config = TrainConfig(init=str(whole("standard").folder))
    with pytest.raises(ValueError, match="has 10 outputs, not 7"):
        build(config, classes=7)


def test_a_loss_that_is_no_number_leaves_something_to_look_at(config_of: Configs, tmp_path: Path) -> None:
    config = replace(config_of("standard"), learning_rate=1e6)
    with pytest.raises(ValueError, match=r"at step \d of 3 or before \(seed 5, first key of the batch"):
        train(config, tmp_path)
    state = torch.load(tmp_path / "failed.pt", weights_only=True)
    assert state["images"].shape == (32, 3, 16, 16)
    assert {"epoch", "step", "seed", "key", "labels", "network", "optimizer"} < set(state)
    # The weights are those that the batch met, so that the failure can be had again; running statistics have
    # met it already.
    weights = {name: one for name, one in state["network"].items() if "running" not in name}
    assert not any(tensor.isnan().any() for tensor in weights.values())
    model = build(config, classes=10)
    model.load_state_dict(state["network"])
    assert not F.cross_entropy(model.train()(state["images"]), state["labels"]).isfinite()


def test_a_start_may_move_and_a_training_goes_on(whole: Runs, config_of: Configs, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    shutil.copy(whole("standard").weights, start)
    config = replace(config_of("standard"), init=str(start))

    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", on_epoch=stop)
    moved = start.rename(tmp_path / "moved.safetensors")
    assert train(replace(config, init=str(moved)), tmp_path / "run", resume=True).finished


def test_a_training_starts_from_a_folder_of_weights_too(
    whole: Runs, config_of: Configs, tmp_path: Path
) -> None:
    folder = tmp_path / "downloaded"
    folder.mkdir()
    shutil.copy(whole("standard").weights, folder / "model.safetensors")
    config = replace(config_of("standard"), init=str(folder), epochs=1)
    assert train(config, tmp_path / "run").finished


def test_filters_of_a_trained_network_are_held_where_they_are(whole: Runs) -> None:
    trained = whole("standard").folder
    config = TrainConfig(init=str(trained), share=ShareConfig(low=0.5), seed=3)
    held = first_layer("test", build(config, classes=10)).layer
    plain = first_layer("test", load_model(trained)).layer
    energies = filters_low_energy(plain.weight)
    lowest = energies.argsort(descending=True)[: len(energies) // 2]
    is_low = filters_low_energy(held.weight) > 0.5
    assert sorted(is_low.nonzero().flatten().tolist()) == sorted(lowest.tolist())


def test_a_baked_network_is_held_at_the_share_that_it_has(tmp_path: Path) -> None:
    # Which filters are low was drawn by another seed; each stays what it is.
    first = build(TrainConfig(share=ShareConfig(low=0.5), seed=3), classes=10)
    file = tmp_path / "start.safetensors"
    weights = {name: tensor.clone() for name, tensor in bake(first.eval()).state_dict().items()}
    write_weights(file, weights, {"arch": "fastnet"})
    held = build(TrainConfig(init=str(file), share=ShareConfig(low=0.5), seed=3), classes=10)
    assert torch.allclose(first_layer("test", held).layer.weight, weights["conv1.weight"], atol=1e-6)


def test_a_training_of_one_step_says_that_it_trains_nothing(
    config_of: Configs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(config_of("standard"), epochs=1, batch_size=96, accumulate=1)
    train(config, tmp_path)
    assert "one step alone, and the learning rate of schedule triangle begins at 0" in caplog.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"accumulate": 5}, "batch_size 32 cannot be computed in 5 equal parts"),
        ({"ema": 1.0}, r"ema needs a number in \[0, 1\)"),
        ({"optimizer": "adam"}, r"unknown optimizer 'adam' \(did you mean adamw\?\); known are sgd, adamw"),
        (
            {"schedule": "step"},
            r"unknown schedule 'step' \(did you mean steps\?\); known are triangle",
        ),
    ],
)
def test_options_that_cannot_be_are_refused(change: dict[str, Any], said: str, config_of: Configs) -> None:
    with pytest.raises(ValueError, match=said):
        replace(config_of("standard"), **change)


PROCESS = """
import json, sys
from filterbands.training import from_plain, train
train(from_plain(json.loads(sys.argv[1])), sys.argv[2], threads=1, device="cpu")
"""


def in_processes(count: int, config: TrainConfig, out: Path, folder: Path) -> Finished:
    script = folder / "script.py"
    script.write_text(PROCESS)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), str(script)]
    return subprocess.run(
        [sys.executable, *words, json.dumps(to_plain(config)), str(out)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["standard", "apr_sp"])
def test_two_processes_train_as_one_does_in_two_parts(
    method: str, config_of: Configs, tmp_path: Path
) -> None:
    """Every process sees half of each batch: so does one, whose batch norms see halves too."""
    config = replace(config_of("standard"), method=method)
    done = in_processes(2, config, tmp_path / "two", tmp_path)
    assert done.returncode == 0, done.stderr
    one = train(replace(config, accumulate=2), tmp_path / "one", threads=1, device="cpu")
    two = Run(tmp_path / "two")
    assert two.read()["processes"] == 2
    assert_close(Tensor(losses(two)), Tensor(losses(one)), rtol=1e-4, atol=1e-4)
    ours, theirs = read_weights(two.weights), read_weights(one.weights)
    assert_close(ours["conv1.weight"], theirs["conv1.weight"], rtol=0, atol=1e-3)


@pytest.mark.slow
def test_two_processes_draw_different_noise(config_of: Configs, tmp_path: Path) -> None:
    script = tmp_path / "draw.py"
    script.write_text(
        "import sys, torch\n"
        "from filterbands.training import train, from_plain\n"
        "import json, os\n"
        "seen = []\n"
        "import filterbands.control.noise as noise\n"
        "forward = noise.SpectralNoise.forward\n"
        "def watch(self, images):\n"
        "    seen.append(torch.random.initial_seed())\n"
        "    return forward(self, images)\n"
        "noise.SpectralNoise.forward = watch\n"
        "train(from_plain(json.loads(sys.argv[1])), sys.argv[2], threads=1, device='cpu')\n"
        "open(sys.argv[3] + os.environ['RANK'], 'w').write(str(seen[0]))\n"
    )
    config = replace(config_of("spectral"), epochs=1)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    arguments = [json.dumps(to_plain(config)), str(tmp_path / "run"), str(tmp_path / "seed")]
    done = subprocess.run(
        [sys.executable, *words, *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "seed0").read_text() != (tmp_path / "seed1").read_text()


@pytest.mark.slow
def test_a_batch_that_two_processes_cannot_share_is_refused(config_of: Configs, tmp_path: Path) -> None:
    done = in_processes(2, replace(config_of("standard"), batch_size=31), tmp_path / "odd", tmp_path)
    assert done.returncode != 0
    assert "batch_size 31 cannot be shared equally by 2 processes" in done.stderr


@pytest.mark.slow
def test_a_compiled_network_learns_the_same_in_mixed_precision(
    config_of: Configs, whole: Runs, tmp_path: Path
) -> None:
    # In a process of its own, since the checks of array types that tests switch on are not to be compiled.
    config = to_plain(replace(config_of("standard"), precision="bfloat16", compile=True))
    subprocess.run(
        [sys.executable, "-c", COMPILED_TWICE, json.dumps(config), str(tmp_path / "run")], check=True
    )
    # Three steps an epoch at a high rate: rounding alone moves a loss by some tenths.
    assert losses(Run(tmp_path / "run")) == pytest.approx(losses(whole("standard")), rel=0.3)


# Torch counts what it has compiled, and runs what comes after the first few as it is: each starts anew.
COMPILED_TWICE = """
import json, sys
from torch._dynamo.utils import counters
from filterbands.datasets import load_data
from filterbands.training import from_plain, measure_step, train
config = from_plain(json.loads(sys.argv[1]))
seconds = measure_step(config, load_data(config.data, split=config.split), steps=1)
assert 0 < seconds.forward < 1, seconds
assert counters["stats"]["unique_graphs"] == 1, counters
train(config, sys.argv[2])
assert counters["stats"]["unique_graphs"] == 2, counters
"""


@pytest.mark.slow
def test_where_torch_cannot_compile_one_line_says_so(config_of: Configs, tmp_path: Path) -> None:
    config = to_plain(replace(config_of("standard"), compile=True))
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, json.dumps(config), str(tmp_path / "run")],
        env=os.environ | {"CXX": "/nonexistent", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "torch cannot compile the network here: InvalidCxxCompiler" in done.stdout, done.stderr


REFUSED = """
import json, sys
from filterbands.training import from_plain, train
try:
    train(from_plain(json.loads(sys.argv[1])), sys.argv[2])
except ValueError as error:
    print(error)
"""


def test_shared_statistics_need_devices_that_have_them(config_of: Configs, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sync_batch_norm needs CUDA"):
        train(replace(config_of("standard"), sync_batch_norm=True), tmp_path, device="cpu")


def test_batch_norms_that_synchronizing_would_cut_are_refused(config_of: Configs) -> None:
    class NormAndActivation(nn.BatchNorm2d):
        """As of timm."""

        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).relu()

    with pytest.raises(ValueError, match="sync_batch_norm needs plain batch norms, 1 is a NormAndActivation"):
        _check_plain_norms(nn.Sequential(nn.Conv2d(3, 4, 3), NormAndActivation(4)))
    _check_plain_norms(build(config_of("standard"), classes=10))
