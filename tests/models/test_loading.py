"""Networks from names and files."""

import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from filterbands.models import ARCHITECTURES, load_model, read_weights


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_maps_images_to_logits_and_starts_with_conv1_and_bn1(arch: str) -> None:
    model = load_model(arch=arch, classes=7)
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


def test_normalisation_is_what_the_caller_says() -> None:
    torch.manual_seed(0)
    model = load_model(arch="fastnet", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    images = torch.rand(1, 3, 32, 32)
    plain = model(images)
    model.mean.fill_(0.5)
    model.std.fill_(0.25)
    torch.testing.assert_close(model(images * 0.25 + 0.5), plain, atol=1e-4, rtol=1e-4)


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
    for name, arch, message in [
        ("nowhere", "fastnet", "no such file"),
        ("text", "fastnet", "is not a checkpoint"),
        ("empty", "fastnet", "is not a checkpoint"),
        ("cut", "fastnet", "not a whole safetensors file"),
        ("cut_torch", "fastnet", "cut_torch"),
        ("small", None, "--arch"),
        ("small", "resnet20", "did you mean cifar_resnet20"),
        ("small", "fastnet", "does not fit fastnet: it lacks bn1.weight.* of another shape: conv1.weight is"),
        (".", "fastnet", "not a finished run"),
    ]:
        with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
            load_model(tmp_path / name, arch=arch)
        assert "\n" not in str(caught.value)


def test_numbers_that_cannot_normalise_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        load_model(arch="fastnet", std=(0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="3 numbers"):
        load_model(arch="fastnet", mean=(1.0, 2.0))


def test_a_function_of_the_users_own_gives_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\ndef net():\n    return torch.nn.Conv2d(3, 4, 3)\nx = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_model("mine:net").weight.shape == (4, 3, 3, 3)
    with pytest.raises(FileNotFoundError, match="mine:nothing"):
        load_model("mine:nothing")


def test_public_checkpoints_load_as_they_are(shared: Path) -> None:
    folder = shared / "checkpoints" / "akamaster"
    first = load_model(folder / "resnet20-12fca82f.th", arch="cifar_resnet20").state_dict()
    second = load_model(folder / "resnet20.safetensors", arch="cifar_resnet20").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name in ("eran_cifar_conv_small_pgd.pth", "marabou_cifar10_cifar_marabou_medium.pth"):
        assert read_weights(shared / "checkpoints" / "verified" / name)["0.weight"].shape == (16, 3, 4, 4)
