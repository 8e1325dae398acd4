"""Training: the same bits again, whole or killed and resumed; nothing lost, nothing overwritten."""

import importlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.testing import assert_close

from filterbands import rng
from filterbands.datasets import ImageSet
from filterbands.filters import EQUAL_AREA, filters_low_energy, line
from filterbands.models import load_model, read_weights
from filterbands.run import Run
from filterbands.training import ShareConfig, TrainConfig, build, from_plain, to_plain, train
from filterbands.training.batches import Batches
from filterbands.training.optimizing import parameter_groups, triangle

# The package's attribute of this name is the function.
module = importlib.import_module("filterbands.training.train")
resuming = importlib.import_module("filterbands.training.resuming")
Configs = Callable[[str], TrainConfig]
Runs = Callable[[str], Run]
STEPS, EPOCHS = 3, 3
GUARD = ShareConfig().guard


class StoppedError(Exception):
    """Raised in the middle of a training."""


def stop_at(step: int) -> Callable[[int, int, str], None]:
    """Return a progress callback that ends the training after this many steps."""

    def progress(done: int, total: int, what: str) -> None:
        if done == step:
            raise StoppedError

    return progress


def assert_same_weights(first: Run, second: Run) -> None:
    ours, theirs = read_weights(first.weights), read_weights(second.weights)
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    with safe_open(first.weights, "pt") as one, safe_open(second.weights, "pt") as other:
        # Images may lie at another place.
        texts = [{**archive.metadata(), "trainings": None} for archive in (one, other)]
        assert texts[0] == texts[1]


def without_times(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


@pytest.mark.parametrize("recipe", ["standard", "spectral", "modulated"])
def test_a_run_stopped_in_an_epoch_and_resumed_gives_the_same_bits(
    recipe: str, config_of: Configs, whole: Runs, tmp_path: Path
) -> None:
    config = config_of(recipe)
    with pytest.raises(StoppedError):
        train(config, tmp_path, progress=stop_at(STEPS + 2))
    assert Run(tmp_path).checkpoint.exists()
    assert not Run(tmp_path).finished
    seen: list[tuple[int, int, str]] = []
    run = train(config, tmp_path, resume=True, progress=lambda *step: seen.append(step))
    assert [done for done, _, _ in seen] == list(range(STEPS + 1, EPOCHS * STEPS + 1))
    assert run.finished
    assert not run.checkpoint.exists()
    assert_same_weights(run, whole(recipe))
    assert without_times(run.read_log()) == without_times(whole(recipe).read_log())


def test_on_epoch_gets_every_record_once(config_of: Configs, whole: Runs, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    with pytest.raises(StoppedError):
        train(config_of("standard"), tmp_path, progress=stop_at(STEPS + 2), on_epoch=seen.append)
    assert [record["epoch"] for record in seen] == [0, 1]
    train(config_of("standard"), tmp_path, resume=True, on_epoch=seen.append)
    assert seen == Run(tmp_path).read_log()
    assert without_times(seen) == without_times(whole("standard").read_log())


KILLED = """
import json, os, signal, sys
from filterbands.training import from_plain, train
def progress(done, total, what):
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
train(from_plain(json.loads(sys.argv[1])), sys.argv[2], threads=1, progress=progress)
"""


@pytest.mark.slow
def test_a_killed_process_resumed_in_another_gives_the_same_bits(
    config_of: Configs, whole: Runs, tmp_path: Path
) -> None:
    config = config_of("modulated")
    arguments = [json.dumps(to_plain(config)), str(tmp_path), str(2 * STEPS - 1)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert [record["epoch"] for record in Run(tmp_path).read_log()] == [0, 1]
    assert_same_weights(train(config, tmp_path, resume=True), whole("modulated"))


def test_a_run_stopped_before_its_first_checkpoint_starts_over(
    config_of: Configs, whole: Runs, tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        train(config_of("standard"), tmp_path, progress=stop_at(1))
    assert_same_weights(train(config_of("standard"), tmp_path, resume=True), whole("standard"))


def test_a_run_stopped_after_its_last_step_needs_no_other(
    config_of: Configs, whole: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(Run, "write_weights", stop)
        with pytest.raises(StoppedError):
            train(config_of("spectral"), tmp_path)
    run = train(config_of("spectral"), tmp_path, resume=True, progress=stop)
    assert_same_weights(run, whole("spectral"))


def test_a_seed_gives_the_same_network_again_and_another_seed_another(
    config_of: Configs, whole: Runs, tmp_path: Path
) -> None:
    config = config_of("modulated")
    # What was drawn before the training does not matter to it.
    torch.rand(7)
    assert_same_weights(train(config, tmp_path / "again"), whole("modulated"))
    other = read_weights(train(replace(config, seed=6, epochs=1), tmp_path / "other").weights)
    ours = read_weights(whole("modulated").weights)
    assert all(
        not torch.equal(other[name], ours[name]) for name in ours if name.endswith(("weight", "running_mean"))
    )


def test_the_global_random_state_is_left_as_it_was(config_of: Configs, tmp_path: Path) -> None:
    config = replace(config_of("modulated"), epochs=2)
    before = torch.get_rng_state(), str(np.random.get_state())
    train(config, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(config, tmp_path / "stopped", progress=stop_at(STEPS + 1))
    train(config, tmp_path / "stopped", resume=True)
    assert torch.equal(torch.get_rng_state(), before[0])
    # Python's own generator is left alone too, but not by the type checks of this test run.
    assert str(np.random.get_state()) == before[1]


def no_data(*_: object, **__: object) -> ImageSet:
    raise AssertionError("data were loaded")


def test_a_finished_run_is_returned_as_it_is(
    config_of: Configs, whole: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = whole("standard").folder
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()}
    monkeypatch.setattr(module, "load_data", no_data)
    monkeypatch.setattr(resuming, "load_data", no_data)
    run = train(config_of("standard"), folder, resume=True)
    assert run == Run(folder)
    assert {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()} == before


def test_a_finished_run_is_not_overwritten(
    config_of: Configs, whole: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_data", no_data)
    monkeypatch.setattr(resuming, "load_data", no_data)
    with pytest.raises(ValueError, match=r"already holds a run; continue it with --resume, or name another"):
        train(config_of("standard"), whole("standard").folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learning_rate": 0.1}, "learning_rate was 0.4, now 0.1"),
        ({"seed": 6}, "seed was 5, now 6"),
        ({"share": ShareConfig(low=0.5)}, "share was .*None.*, now .*0.5"),
    ],
)
def test_a_run_is_not_resumed_with_another_config(
    change: dict[str, Any], said: str, config_of: Configs, whole: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_data", no_data)
    monkeypatch.setattr(resuming, "load_data", no_data)
    with pytest.raises(ValueError, match=f"cannot be resumed with another configuration: {said}") as error:
        train(replace(config_of("standard"), **change), whole("standard").folder, resume=True)
    assert "\n" not in str(error.value)


def test_a_run_of_a_version_with_other_fields_is_refused_by_name(config_of: Configs, tmp_path: Path) -> None:
    config = config_of("standard")
    Run(tmp_path).write({"config": {**to_plain(config), "colour": 1}})
    with pytest.raises(ValueError, match="colour"):
        train(config, tmp_path, resume=True)


def test_a_run_is_not_resumed_on_other_images(config_of: Configs, images: ImageSet, tmp_path: Path) -> None:
    file = tmp_path / "own.npz"
    np.savez(file, images=images.images.numpy(), labels=images.labels.numpy())
    config = replace(config_of("standard"), data=f"npz:{file}")
    with pytest.raises(StoppedError):
        train(config, tmp_path / "run", progress=stop_at(STEPS + 1))
    np.savez(file, images=255 - images.images.numpy(), labels=images.labels.numpy())
    with pytest.raises(ValueError, match="other images"):
        train(config, tmp_path / "run", resume=True)


def test_a_run_goes_on_where_its_images_lie_at_another_place(
    config_of: Configs, whole: Runs, images: ImageSet, tmp_path: Path
) -> None:
    file, moved = tmp_path / "own.npz", tmp_path / "moved.npz"
    np.savez(file, images=images.images.numpy(), labels=images.labels.numpy())
    config = replace(config_of("standard"), data=f"npz:{file}")
    with pytest.raises(StoppedError):
        train(config, tmp_path / "run", progress=stop_at(STEPS + 1))
    file.rename(moved)
    elsewhere = replace(config, data=f"npz:{moved}")
    # Before and after it is finished.
    for _ in range(2):
        run = train(elsewhere, tmp_path / "run", resume=True)
        assert_same_weights(run, whole("standard"))
    with pytest.raises(ValueError, match=r"another configuration: data was .*own\.npz', learning_rate"):
        train(replace(elsewhere, data=f"npz:{file}", learning_rate=0.1), tmp_path / "run", resume=True)
    np.savez(file, images=255 - images.images.numpy(), labels=images.labels.numpy())
    with pytest.raises(
        ValueError, match=r"with another configuration: data was .*moved\.npz.*now .*own\.npz"
    ):
        train(config, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    "name", ["checkpoint.pt", "weights.safetensors", "log.jsonl", "weights-0001.safetensors"]
)
def test_a_file_of_somebody_elses_is_not_overwritten(name: str, config_of: Configs, tmp_path: Path) -> None:
    (tmp_path / name).write_text("theirs")
    with pytest.raises(ValueError, match=f"holds {name}, but no run"):
        train(config_of("standard"), tmp_path)
    assert (tmp_path / name).read_text() == "theirs"


def test_a_folder_that_cannot_be_created_fails_before_data_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_data", no_data)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write into the folder"):
        train(TrainConfig(), tmp_path / "file" / "run")


def test_fewer_images_than_a_batch_are_refused(config_of: Configs, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"97 exceeds the 96 images of npz:tiny; lower it with --set batch_"):
        train(replace(config_of("standard"), batch_size=97), tmp_path)
    assert not (tmp_path / "run.json").exists()


def test_a_loss_that_is_no_number_ends_the_run_in_one_line(config_of: Configs, tmp_path: Path) -> None:
    config = replace(config_of("standard"), learning_rate=1e6)
    with pytest.raises(
        ValueError, match=r"the loss became (nan|inf) in epoch \d .*lower learning_rate"
    ) as error:
        train(config, tmp_path)
    assert "\n" not in str(error.value)
    assert not Run(tmp_path).finished


def test_run_json_says_what_made_the_run(
    config_of: Configs, whole: Runs, images: ImageSet, spec: str
) -> None:
    content = whole("standard").read()
    assert from_plain(content["config"]) == config_of("standard")
    assert content["data"] == {
        "name": "npz:tiny",
        "split": "train",
        "images": 96,
        "fingerprint": replace(images, classes=tuple(str(n) for n in range(10))).fingerprint(),
        "place": spec,
    }
    assert content["threads"] == torch.get_num_threads()
    assert content["torch"] == torch.__version__
    assert content["started"] <= content["finished"]
    assert content["cpu_seconds"] > 0
    assert 0 < content["seconds"] < 600
    assert {"version", "git", "device"} < set(content)
    assert "recalibrated" not in content


@pytest.mark.parametrize(
    ("recipe", "when", "expected"),
    [
        ("standard", "perturbed", False),
        ("standard", "always", True),
        ("spectral", "never", False),
        ("spectral", "perturbed", True),
        ("modulate_only", "perturbed", True),
    ],
)
def test_when_batch_norms_are_recalibrated(
    recipe: str, when: str, expected: bool, config_of: Configs
) -> None:
    assert replace(config_of(recipe), recalibrate=when).recalibrates == expected


def test_a_training_that_recalibrates_always_changes_the_statistics_alone(
    whole: Runs, config_of: Configs, tmp_path: Path
) -> None:
    plain = read_weights(whole("standard").weights)
    run = train(replace(config_of("standard"), recalibrate="always"), tmp_path / "run")
    assert run.read()["recalibrated"]["images"] == 96
    found = read_weights(run.weights)
    differing = {name for name in found if not torch.equal(found[name], plain[name])}
    assert differing
    assert all("running" in name or "num_batches" in name for name in differing)


def test_a_run_that_another_revision_goes_on_with_names_both(
    config_of: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    config = config_of("standard")
    monkeypatch.setattr(module, "git_revision", lambda: "before")
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", on_epoch=stop)
    assert "revisions" not in Run(tmp_path / "run").read()
    monkeypatch.setattr(module, "git_revision", lambda: "after")
    run = train(config, tmp_path / "run", resume=True)
    assert run.read()["revisions"] == ["before", "after"]


def test_a_run_that_goes_on_in_another_way_says_so_and_records_both(
    config_of: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config, threads = config_of("standard"), torch.get_num_threads()
    ways = [{"device": "ours", "threads": number, "torch": torch.__version__} for number in (threads, 77)]
    monkeypatch.setattr(module, "device_name", lambda _: "ours")
    with pytest.raises(StoppedError):
        train(config, tmp_path, progress=stop_at(STEPS + 1))
    with pytest.raises(StoppedError):
        train(config, tmp_path, resume=True, progress=stop_at(STEPS + 1))
    assert "goes on" not in caplog.text
    assert "computed_with" not in Run(tmp_path).read()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    with pytest.raises(StoppedError):
        train(config, tmp_path, resume=True, progress=stop_at(2 * STEPS + 1))
    assert f"goes on in another way (threads was {threads}, now 77), so that its" in caplog.text
    assert Run(tmp_path).read()["computed_with"] == ways
    monkeypatch.setattr(module, "device_name", lambda _: "theirs")
    caplog.clear()
    record = train(config, tmp_path, resume=True).read()
    assert "(device was ours, now theirs)" in caplog.text
    assert record["computed_with"] == [*ways, {**ways[1], "device": "theirs"}]
    assert (record["device"], record["threads"]) == ("theirs", 77)


class FirstClass(torch.nn.Module):
    """Takes every image for one of the first class."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.eye(2)[torch.zeros(len(images), dtype=torch.int64)]


def test_the_accuracy_beside_recalibrated_norms_is_over_all_classes_of_sorted_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_WITNESSES", 10)
    for labels, expected in (([0] * 20 + [1] * 20, 0.5), ([0, 1] * 5 + [1] * 30, 0.5)):
        data = ImageSet(
            name="sorted",
            split="train",
            images=torch.zeros(40, 3, 8, 8, dtype=torch.uint8),
            labels=torch.tensor(labels),
            classes=("a", "b"),
            index=torch.arange(40),
        )
        batches = Batches.of(data, TrainConfig(batch_size=4, crop=0), torch.device("cpu"))
        fabric = module.launch(device="cpu", precision="float32", threads=None)
        assert module._clean_accuracy(FirstClass(), batches, fabric) == expected


def test_a_start_that_was_trained_behind_a_blur_is_blurred_no_second_time(
    config_of: Configs, tmp_path: Path
) -> None:
    config = replace(config_of("standard"), epochs=1, blur=0.2)
    run = train(config, tmp_path / "run")
    with pytest.raises(ValueError, match="was trained behind a blur, which is in its kernels; set blur=0"):
        build(replace(config, init=str(run.folder)), classes=10)
    build(replace(config, init=str(run.folder), blur=0.0), classes=10)


def test_batch_norms_recalibrated_after_noise_are_said_so(whole: Runs) -> None:
    figures = whole("spectral").read()["recalibrated"]
    assert figures["images"] == 96
    assert 0 <= figures["accuracy_before"] <= 1
    assert 0 <= figures["accuracy_after"] <= 1


@pytest.mark.parametrize("recipe", ["standard", "modulated"])
def test_the_log_has_a_line_an_epoch_with_the_first_layers_curve(recipe: str, whole: Runs) -> None:
    records = whole(recipe).read_log()
    assert [record["epoch"] for record in records] == list(range(EPOCHS + 1))
    assert "loss" not in records[0]
    for record in records[1:]:
        assert record["loss"] > 0
        assert 0 <= record["accuracy"] <= 1
    seconds = [record["seconds"] for record in records[1:]]
    assert seconds == sorted(seconds)
    for record in records:
        layer = record["first_layer"]
        assert layer["name"] == "conv1"
        assert len(layer["curve"]) == len(layer["radii"]) > 10
        assert layer["curve"] == sorted(layer["curve"])
        assert layer["radii"][-1] == 0.5
        assert 0 < layer["mean_low_energy"] < 1
    assert records[0]["first_layer"] != records[-1]["first_layer"]


@pytest.mark.parametrize("recipe", ["standard", "modulated", "share_low"])
def test_the_weights_are_a_plain_network_that_needs_no_name(recipe: str, whole: Runs) -> None:
    run = whole(recipe)
    assert set(read_weights(run.weights)) == set(load_model(arch="fastnet").state_dict())
    model, again = load_model(run.weights), load_model(run.folder)
    batch = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model(batch), again(batch))
    last = run.read_log()[-1]["first_layer"]
    energy = filters_low_energy(cast(Tensor, model.get_submodule("conv1").weight).detach()).mean()
    assert float(energy) == pytest.approx(last["mean_low_energy"], abs=1e-6)


@pytest.mark.parametrize("recipe", ["share_low", "share_high"])
def test_a_share_holds_for_every_filter_to_the_end(recipe: str, whole: Runs) -> None:
    weight = read_weights(whole(recipe).weights)["conv1.weight"].double()
    energy = filters_low_energy(weight)
    border = line(EQUAL_AREA)
    if recipe == "share_low":
        assert float(energy.min()) >= border + GUARD - 1e-6
    else:
        assert float(energy.max()) <= border - GUARD + 1e-6
        assert_close(weight.sum(dim=(2, 3)), torch.zeros(24, 3, dtype=torch.float64), rtol=0, atol=1e-6)
    start = whole(recipe).read_log()[0]["first_layer"]["low_share"]
    assert start == (1.0 if recipe == "share_low" else 0.0)


def test_training_moves_the_filters_within_their_span(config_of: Configs, whole: Runs) -> None:
    torch.manual_seed(config_of("share_low").seed)
    start = cast(Tensor, build(config_of("share_low"), classes=10).get_submodule("conv1").weight).detach()
    end = read_weights(whole("share_low").weights)["conv1.weight"]
    assert float((end - start).norm() / start.norm()) > 0.01


def numbered(count: int, *, height: int = 6, width: int = 9) -> ImageSet:
    """Return random images whose labels are their positions, numbered from 100."""
    pixels = torch.randint(
        0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )
    return ImageSet(
        name="numbered",
        split="train",
        images=pixels,
        labels=torch.arange(count),
        classes=tuple(str(number) for number in range(count)),
        index=100 + torch.arange(count),
    )


def batches_of(data: ImageSet, **change: Any) -> Any:
    config = TrainConfig(**{"batch_size": 7, "crop": 3, "seed": 2, **change})
    return Batches.of(data, config, torch.device("cpu"))


def slow_window(image: np.ndarray[Any, Any], crop: int, down: int, right: int, flip: bool) -> Any:
    """Return one image after numpy's reflecting border, a cut and a flip."""
    height, width = image.shape[1:]
    padded = np.pad(image, ((0, 0), (crop, crop), (crop, crop)), mode="reflect")
    cut = padded[:, down : down + height, right : right + width]
    return cut[:, :, ::-1] if flip else cut


@pytest.mark.parametrize("crop", [0, 1, 5])
@pytest.mark.parametrize("flip", [False, True])
def test_crops_and_flips_are_those_of_an_image_at_a_time(crop: int, flip: bool) -> None:
    data = numbered(30)
    batches = batches_of(data, crop=crop, flip=flip)
    keys = rng.keys(2, "train", 4, index=data.index)
    shifts = rng.integers(keys, 0, 2 * crop + 1, (2,), stream=1).tolist()
    flips = rng.integers(keys, 0, 2, (), stream=2).tolist()
    seen = 0
    for images, labels, _, _ in batches.epoch(4):
        assert images.dtype == torch.float32
        for image, label in zip(images.numpy(), labels.tolist(), strict=True):
            down, right = shifts[label]
            original = data.images[label].numpy()
            expected = slow_window(original, crop, down, right, flip and bool(flips[label]))
            assert np.array_equal(image, expected.astype(np.float32) / np.float32(255))
            seen += 1
    assert seen == 28


def test_an_epoch_shows_every_image_at_most_once_and_epochs_differ() -> None:
    batches = batches_of(numbered(30))
    assert batches.count == 4
    orders = [torch.cat([batch.labels for batch in batches.epoch(epoch)]).tolist() for epoch in (1, 2)]
    for order in orders:
        assert len(order) == len(set(order)) == 28
        assert order != sorted(order)
    assert orders[0] != orders[1]
    again = torch.cat([batch.labels for batch in batches.epoch(1)]).tolist()
    assert again == orders[0]


def test_keys_are_an_images_own_and_fresh_every_epoch() -> None:
    batches = batches_of(numbered(28))
    keys = [torch.cat([batch.key for batch in batches.epoch(epoch)]).tolist() for epoch in (1, 2)]
    assert len({*keys[0], *keys[1]}) == 56
    # The order, the crop and the flip have used other keys than the method gets.
    own = rng.keys(2, "train", 1, index=100 + torch.arange(28)).tolist()
    assert not set(own) & set(keys[0])


def test_an_images_crop_and_flip_do_not_depend_on_the_images_beside_it() -> None:
    data = numbered(30)
    few = data.subset(torch.arange(0, 30, 2))
    shown: dict[int, list[tuple[int, Tensor]]] = {}
    for part in (data, few):
        for images, labels, keys, _ in batches_of(part, batch_size=5).epoch(3):
            for image, label, key in zip(images, labels.tolist(), keys.tolist(), strict=True):
                shown.setdefault(label, []).append((key, image))
    for label in range(0, 30, 2):
        (first_key, first), (second_key, second) = shown[label]
        assert first_key == second_key
        assert torch.equal(first, second)


def test_every_shift_and_flip_is_as_likely_as_any_other() -> None:
    same = torch.arange(25, dtype=torch.uint8).reshape(1, 1, 5, 5).expand(4500, 1, 5, 5)
    many = replace(numbered(4500, height=1, width=1), images=same)
    (images, *_), *_ = batches_of(many, batch_size=4500, crop=1).epoch(1)
    counts = images.flatten(1).unique(dim=0, return_counts=True)[1]
    assert len(counts) == 3 * 3 * 2
    # Five standard deviations of a count that is 250 on average.
    assert float((counts - 250).abs().max()) < 5 * 250**0.5


def test_a_crop_as_wide_as_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="crop needs less than the images' side of 6 pixels, got 6"):
        batches_of(numbered(7), crop=6)


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    factors = [triangle(step / 100, 0.2) for step in range(101)]
    assert max(factors) == factors[20] == 1
    assert factors[0] == 0
    assert factors[100] == pytest.approx(0)
    assert np.allclose(np.diff(factors[:21]), 0.05)
    assert np.allclose(np.diff(factors[20:]), -1 / 80)


def test_proportions_learn_at_their_own_rate_and_nothing_small_decays(config_of: Configs) -> None:
    config = config_of("modulated")
    model = build(config, classes=10)
    decayed, small, proportions = parameter_groups(model, config)
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert all(parameter.ndim == 1 for parameter in small["params"])
    assert [parameter.shape for parameter in proportions["params"]] == [torch.Size([24])]
    assert (decayed["weight_decay"], small["weight_decay"], proportions["weight_decay"]) == (5e-4, 0, 0)
    assert (decayed["peak"], small["peak"], proportions["peak"]) == (0.4, 0.4, 0.1)
    count = sum(len(group["params"]) for group in (decayed, small, proportions))
    assert count == len(list(model.parameters()))
