"""Networks from names and files."""

import copy
import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from filterbands.models import ARCHITECTURES, find_checkpoints, load_model, read_weights
from filterbands.training import RECIPES, train, with_settings


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_maps_images_to_logits_and_starts_with_conv1_and_bn1(arch: str) -> None:
    model = load_model(arch=arch, classes=7).eval()
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 7)
    assert model.conv1.weight.shape[1:] == (3, 3, 3)
    assert model.bn1.num_features == len(model.conv1.weight)
    assert not any(name in ("mean", "std") for name in model.state_dict())


@pytest.mark.parametrize(
    ("arch", "count"),
    [
        # He et al. 2016, table 6: 0.27M, 0.46M, 0.66M, 0.85M, 1.7M.
        ("cifar_resnet20", 269_722),
        ("cifar_resnet32", 464_154),
        ("cifar_resnet44", 658_586),
        ("cifar_resnet56", 853_018),
        ("cifar_resnet110", 1_727_962),
        # 11,173,962 is what kuangliu/pytorch-cifar's ResNet-18 has.
        ("cifar_resnet18", 11_173_962),
        ("cifar_resnet18_narrow", 701_466),
        ("fastnet", 136_738),
        ("fastnet_wide", 1_973_186),
    ],
)
def test_parameter_counts_are_the_published_ones(arch: str, count: int) -> None:
    assert sum(parameter.numel() for parameter in load_model(arch=arch).parameters()) == count


def test_normalization_is_what_the_caller_says() -> None:
    torch.manual_seed(0)
    model = load_model(arch="fastnet", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)).eval()
    images = torch.rand(1, 3, 32, 32)
    plain = model(images)
    model.mean.fill_(0.5)
    model.std.fill_(0.25)
    torch.testing.assert_close(model(images * 0.25 + 0.5), plain, atol=1e-4, rtol=1e-4)


def test_a_fresh_network_is_in_training_mode_and_one_from_a_file_in_evaluation_mode(tmp_path: Path) -> None:
    fresh = load_model(arch="fastnet")
    torch.save(fresh.state_dict(), tmp_path / "net.pt")
    assert all(module.training for module in fresh.modules())
    assert not any(module.training for module in load_model(tmp_path / "net.pt", arch="fastnet").modules())


def test_every_format_gives_the_same_weights(tmp_path: Path) -> None:
    model = load_model(arch="cifar_resnet20")
    state = model.state_dict()
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pth")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "best": 0.9}, tmp_path / "c.th")
    torch.save({"net": state, "acc": 91.0, "epoch": 3}, tmp_path / "d")
    torch.save(state, tmp_path / "e.pt", _use_new_zipfile_serialization=False)
    np.savez(tmp_path / "f.npz", **{name: tensor.numpy() for name, tensor in state.items()})
    # Content decides, not the name.
    (tmp_path / "a.safetensors").rename(tmp_path / "a.pt")
    for name in ("a.pt", "b.pth", "c.th", "d", "e.pt", "f.npz"):
        loaded = load_model(tmp_path / name, arch="cifar_resnet20").state_dict()
        assert all(torch.equal(loaded[key], state[key]) for key in state), name


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("exploded"),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": torch.zeros(1), "bomb": _Bomb()}, "new.pt")
    torch.save(OrderedDict(bomb=_Bomb()), "old.pt", _use_new_zipfile_serialization=False)
    Path("plain.pkl").write_bytes(pickle.dumps({"bomb": _Bomb()}, protocol=2))
    for name in ("new.pt", "old.pt", "plain.pkl"):
        with pytest.raises(ValueError, match=name):
            read_weights(name)
    assert not Path("exploded").exists()


def test_mistakes_get_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello, this is not a checkpoint")
    (tmp_path / "empty").write_bytes(b"")
    save_file({"conv1.weight": torch.zeros(2, 3, 3, 3)}, tmp_path / "small")
    whole = (tmp_path / "small").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-40])
    torch.save({"conv1.weight": torch.zeros(2, 3, 3, 3)}, tmp_path / "torch")
    (tmp_path / "cut_torch").write_bytes((tmp_path / "torch").read_bytes()[:600])
    (tmp_path / "nothing").mkdir()
    for name, arch, message in [
        ("nowhere", "fastnet", "no such file"),
        ("text", "fastnet", "is not a checkpoint"),
        ("empty", "fastnet", "is not a checkpoint"),
        ("cut", "fastnet", "not a whole safetensors file"),
        ("cut_torch", "fastnet", "cut_torch"),
        ("small", None, "--arch"),
        ("small", "resnet20", "did you mean cifar_resnet20"),
        ("small", "fastnet", "does not fit fastnet: it lacks bn1.weight.* of another shape: conv1.weight is"),
        (".", "fastnet", "holds 4 checkpoints"),
        ("nothing", "fastnet", "not a finished run"),
    ]:
        with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
            load_model(tmp_path / name, arch=arch)
        assert "\n" not in str(caught.value)


def test_a_folder_from_a_hub_is_read_whole_or_in_parts(tmp_path: Path) -> None:
    state = load_model(arch="fastnet").state_dict()
    names = list(state)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    save_file(state, whole / "model.safetensors")
    places = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(names)}
    for place in set(places.values()):
        save_file({name: state[name] for name in names if places[name] == place}, parts / place)
    (parts / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    for folder in (whole, parts):
        assert find_checkpoints(folder) == (folder,)
        loaded = load_model(folder, arch="fastnet").state_dict()
        assert all(torch.equal(loaded[name], state[name]) for name in names)
    (parts / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="lacks model-00001"):
        read_weights(parts)
    (parts / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="does not say which file"):
        read_weights(parts)


def test_checkpoints_are_found_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for step in (10, 9, 100):
        save_file({"conv1.weight": torch.zeros(1, 1, 3, 3)}, tmp_path / f"iter_{step}.safetensors")
    torch.save({"conv1.weight": torch.zeros(1, 1, 3, 3)}, tmp_path / "iter_11.pt")
    (tmp_path / "notes.txt").write_text("no checkpoint")
    (tmp_path / "run").mkdir()
    save_file({"conv1.weight": torch.zeros(1, 1, 3, 3)}, tmp_path / "run" / "weights.safetensors")
    names = [file.name for file in find_checkpoints(tmp_path)]
    assert names == [
        "iter_9.safetensors", "iter_10.safetensors", "iter_11.pt", "iter_100.safetensors", "run"
    ]  # fmt: skip
    matched = find_checkpoints(str(tmp_path / "iter_*.safetensors"))
    assert [file.name for file in matched] == [name for name in names if name.endswith(".safetensors")]
    assert find_checkpoints(tmp_path / "iter_11.pt") == (tmp_path / "iter_11.pt",)
    for place, message in (("iter_2*", "no checkpoint fits"), ("iter_2", "no such file")):
        with pytest.raises(FileNotFoundError, match=message):
            find_checkpoints(tmp_path / place)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="without checkpoints"):
        find_checkpoints(tmp_path / "empty")


def test_wrappers_and_prefixes_of_trainers_are_opened(tmp_path: Path) -> None:
    state = load_model(arch="fastnet").state_dict()
    forms = {
        "lightning": {"state_dict": {f"net.{name}": value for name, value in state.items()}, "epoch": 3},
        "compiled": {"model": {f"_orig_mod.{name}": value for name, value in state.items()}},
        "unknown": {"my_weights": state, "optimizer": {"lr": 0.1}},
    }
    for name, content in forms.items():
        torch.save(content, tmp_path / name)
        loaded = load_model(tmp_path / name, arch="fastnet").state_dict()
        assert all(torch.equal(loaded[key], state[key]) for key in state), name


def test_arrays_of_any_order_and_shape_are_mapped(tmp_path: Path) -> None:
    arrays = {
        "a.weight": np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4)),
        "b.weight": np.float64(3.5),
        "c": np.zeros((0, 3), np.float16),
    }
    np.savez(tmp_path / "plain.npz", **arrays)
    np.savez_compressed(tmp_path / "packed.npz", **arrays)
    for name in ("plain.npz", "packed.npz"):
        read = read_weights(tmp_path / name)
        assert set(read) == set(arrays)
        assert all(np.array_equal(read[key].numpy(), arrays[key]) for key in arrays)
    np.savez(tmp_path / "code.npz", a=np.array([_Bomb()], dtype=object))
    with pytest.raises(ValueError, match=r"code\.npz holds arrays that are not plain numbers"):
        read_weights(tmp_path / "code.npz")


# Kilobytes: the most that a process had. What `getrusage` gives is at least that of the process it came from.
_PEAK = "lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
on_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a process's peak")


def _sparse_safetensors(file: Path, size: int) -> None:
    """Write a file of `size` bytes of which all but a small convolution is a hole."""
    kernel = torch.ones(4, 3, 3, 3).numpy().tobytes()
    rows = (size - len(kernel)) // 4096
    header = {
        "conv1.weight": {"dtype": "F32", "shape": [4, 3, 3, 3], "data_offsets": [0, len(kernel)]},
        "fc.weight": {
            "dtype": "F32", "shape": [rows, 1024], "data_offsets": [len(kernel), len(kernel) + 4096 * rows]
        },
    }  # fmt: skip
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text + kernel)
        stream.truncate(8 + len(text) + len(kernel) + 4096 * rows)


@on_linux
def test_a_file_of_6_gb_is_mapped_and_not_read_whole(tmp_path: Path) -> None:
    _sparse_safetensors(tmp_path / "large.safetensors", 6_000_000_000)
    code = (
        "import sys; from filterbands.filters import analyze; "
        f"peak = {_PEAK}; before = peak(); "
        "layer = analyze(sys.argv[1])['conv1']; "
        "print(layer.low_energy, peak() - before)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "large.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    energy, kilobytes = done.stdout.split()
    assert float(energy) == pytest.approx(0.895, abs=6e-4)
    assert int(kilobytes) < 100_000


@on_linux
def test_a_pickled_state_dict_is_mapped_too(tmp_path: Path) -> None:
    with torch.serialization.skip_data():
        torch.save({"fc.weight": torch.zeros(2**18, 1024)}, tmp_path / "large.pt")
    code = (
        "import sys; from filterbands.models import read_weights; "
        f"peak = {_PEAK}; before = peak(); "
        "shape = read_weights(sys.argv[1])['fc.weight'].shape; "
        "print(shape[0], peak() - before)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "large.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    rows, kilobytes = map(int, done.stdout.split())
    assert rows == 2**18
    assert kilobytes < 100_000


def test_anyones_network_takes_images_in_0_1_and_keeps_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs.py").write_text(
        "import torch\ndef net():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    plain = load_model("theirs:net")
    scaled = load_model("theirs:net", mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    images = torch.rand(2, 3, 8, 8)
    mean, std = (torch.tensor(row).reshape(1, 3, 1, 1) for row in ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1)))
    torch.testing.assert_close(scaled(images), plain((images - mean) / std))
    torch.testing.assert_close(copy.deepcopy(scaled)(images), scaled(images))
    assert list(scaled.state_dict()) == list(plain.state_dict())
    with pytest.raises(ValueError, match="std needs 3 numbers above 0"):
        load_model("theirs:net", std=(0.0, 1.0, 1.0))


def test_numbers_that_cannot_normalize_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        load_model(arch="fastnet", std=(0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="3 numbers"):
        load_model(arch="fastnet", mean=(1.0, 2.0))


def test_public_checkpoints_load_as_they_are(shared: Path) -> None:
    folder = shared / "checkpoints" / "akamaster"
    first = load_model(folder / "resnet20-12fca82f.th", arch="cifar_resnet20").state_dict()
    second = load_model(folder / "resnet20.safetensors", arch="cifar_resnet20").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name in ("eran_cifar_conv_small_pgd.pth", "marabou_cifar10_cifar_marabou_medium.pth"):
        assert read_weights(shared / "checkpoints" / "verified" / name)["0.weight"].shape == (16, 3, 4, 4)


def test_a_run_whose_first_layer_was_blurred_is_read_with_its_wider_kernel(tmp_path):
    np.savez(tmp_path / "few.npz", images=np.zeros((32, 3, 32, 32), np.uint8), labels=np.arange(32) % 10)
    data = [f"data=npz:{tmp_path / 'few.npz'}", "batch_size=16", "precision=float32"]
    settings = ["arch=fastnet", "epochs=1", "blur=0.2", *data]
    run = train(with_settings(RECIPES["standard"](), settings), tmp_path / "run")
    model = load_model(run.folder)
    assert model.conv1.kernel_size == (5, 5)
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_a_wider_first_layer_is_said_unless_a_blur_made_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    state = dict(load_model(arch="fastnet").state_dict())
    blur = torch.tensor([0.2, 0.6, 0.2])
    free = state["conv1.weight"].reshape(-1, 1, 3, 3)
    blurred = torch.nn.functional.conv2d(free, torch.outer(blur, blur)[None, None], padding=2)
    wide = {"blurred": blurred.reshape(-1, 3, 5, 5), "free": torch.randn(24, 3, 5, 5)}
    wide |= {"half": wide["blurred"].bfloat16(), "nan": wide["blurred"] * float("nan")}
    for name, kernels in wide.items():
        save_file(state | {"conv1.weight": kernels}, tmp_path / name, metadata={"arch": "fastnet"})
        caplog.clear()
        assert load_model(tmp_path / name).conv1.kernel_size == (5, 5)
        said = any("conv1.weight has kernels of 5x5, not of 3x3" in line for line in caplog.messages)
        assert said == (name in ("free", "nan")), name


@pytest.mark.parametrize("kind", [torch.int8, torch.complex64])
def test_weights_that_are_no_real_numbers_are_refused(kind: torch.dtype, tmp_path: Path) -> None:
    state = dict(load_model(arch="fastnet").state_dict())
    state["conv1.weight"] = (100 * state["conv1.weight"]).to(kind)
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match=f"conv1.weight needs real floating-point values, got {kind}"):
        load_model(tmp_path / "odd.pt", arch="fastnet", mean=(0.5,) * 3, std=(0.5,) * 3)


def test_tied_weights_that_safetensors_wrote_once_are_there(tmp_path: Path) -> None:
    state = dict(load_model(arch="fastnet").state_dict())
    left = state.pop("conv1.weight")
    save_file(state | {"twin": left}, tmp_path / "tied.safetensors", metadata={"conv1.weight": "twin"})
    assert torch.equal(read_weights(tmp_path / "tied.safetensors")["conv1.weight"], left)


def test_names_without_a_place_are_said_beside_those_that_are_missing(tmp_path: Path) -> None:
    state = dict(load_model(arch="cifar_resnet20").state_dict())
    renamed = {name.replace("linear.", "fc."): tensor for name, tensor in state.items()}
    save_file(renamed, tmp_path / "fc.safetensors")
    with pytest.raises(
        ValueError, match=r"lacks linear.weight, linear.bias; without a place: fc.bias, fc.weight"
    ):
        load_model(tmp_path / "fc.safetensors", arch="cifar_resnet20")


def test_a_mean_in_the_file_that_has_no_place_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = {f"1.{name}": tensor for name, tensor in load_model(arch="cifar_resnet20").state_dict().items()}
    norm = {"normalize.mean": torch.full((3,), 0.5), "normalize.std": torch.full((3,), 0.25)}
    save_file(state | norm, tmp_path / "norm.safetensors")
    load_model(tmp_path / "norm.safetensors", arch="cifar_resnet20")
    assert (
        "the file holds normalize.mean 0.5,0.5,0.5 and normalize.std 0.25,0.25,0.25; give them" in caplog.text
    )


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("is_first", [True, False])
def test_two_names_that_become_one_are_refused(prefix: str, is_first: bool, tmp_path: Path) -> None:
    other = prefix.replace("_orig_mod.", "")
    names = [f"{prefix}conv1.weight", f"{other}conv1.weight"][:: 1 if is_first else -1]
    save_file(
        {name: torch.full((2, 3, 3, 3), float(place)) for place, name in enumerate(names)}, tmp_path / "w"
    )
    torch.save(
        {name: torch.full((2, 3, 3, 3), float(place)) for place, name in enumerate(names)}, tmp_path / "p"
    )
    for name in ("w", "p"):
        with pytest.raises(ValueError, match=r"holds both .* and .*, which are one name") as caught:
            read_weights(tmp_path / name)
        # safetensors sorts the names.
        assert all(f" {name}" in str(caught.value) for name in names)
        assert "\n" not in str(caught.value)


def test_a_name_that_an_archive_or_a_folder_holds_twice_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.ones((2, 3, 3, 3), np.float32))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("conv1.weight.npy", stream.getvalue())
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("conv1.weight.npy", stream.getvalue())
    with pytest.raises(ValueError, match=r"it holds conv1\.weight\.npy twice"):
        read_weights(tmp_path / "a.npz")
    parts = tmp_path / "parts"
    parts.mkdir()
    for part in ("1", "2"):
        save_file({"conv1.weight": torch.ones(1), f"other{part}": torch.ones(1)}, parts / part)
    (parts / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"conv1.weight": "1", "other2": "2"}})
    )
    with pytest.raises(ValueError, match=r"parts holds conv1\.weight in two of its 2 parts"):
        read_weights(parts)


def test_a_name_of_200_000_parts_is_refused(tmp_path: Path) -> None:
    name = "." * 200_000 + "conv1.weight"
    save_file({name: torch.ones(24, 3, 3, 3)}, tmp_path / "w.safetensors")
    torch.save({name: torch.ones(24, 3, 3, 3)}, tmp_path / "w.pt")
    for file in ("w.safetensors", "w.pt"):
        with pytest.raises(ValueError, match="has a name of 200,012 letters") as caught:
            load_model(tmp_path / file, arch="fastnet")
        assert len(str(caught.value)) < 400
