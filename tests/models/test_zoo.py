"""Networks by name: of timm and torchvision (stand-ins here), and of functions of the user's own."""

import logging
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from filterbands.control import set_share
from filterbands.filters import analyze
from filterbands.models import (
    architecture_of,
    check_architecture,
    describe,
    is_onnx,
    known_overlap,
    known_trainings,
    load_model,
    name_of,
)

PUBLISHED = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
IMAGES = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    pretrained_cfg = PUBLISHED

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        # As in vision transformers, the head is not the last matrix of the file.
        self.head = nn.Linear(4, classes)
        self.last = nn.Linear(5, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.stem(images).mean(dim=(2, 3)))
        return out


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stand-ins for timm and torchvision, and what they were asked for."""
    calls: list[dict[str, Any]] = []

    def network(name: str, *, num_classes: int = 1000, **given: Any) -> nn.Module:
        calls.append({"name": name, **given})
        if name == "offline" and (given.get("pretrained") or given.get("weights")):
            raise FileNotFoundError("cannot find the requested files\nplease check")
        torch.manual_seed(0)
        return Net(num_classes)

    def detector(*, weights_backbone: str = "published") -> None: ...

    known = ["known", "offline"]
    weights = types.SimpleNamespace(
        DEFAULT=types.SimpleNamespace(transforms=lambda: types.SimpleNamespace(**PUBLISHED))
    )
    monkeypatch.setitem(
        sys.modules,
        "timm",
        types.SimpleNamespace(
            is_model=lambda name: name != "knwon", list_models=lambda: known, create_model=network
        ),
    )
    monkeypatch.setitem(
        sys.modules,
        "torchvision.models",
        types.SimpleNamespace(
            list_models=lambda: known,
            get_model_weights=lambda _: weights,
            get_model_builder=lambda _: detector,
            get_model=network,
        ),
    )
    return calls


KINDS = pytest.mark.parametrize("kind", ["timm", "torchvision"])


@KINDS
def test_zoos_that_are_not_installed_are_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("timm", "torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, name, None)
    for given in ({"path": f"{kind}:resnet18"}, {"arch": f"{kind}:resnet18"}):
        with pytest.raises(ValueError, match=f"needs the package {kind}"):
            load_model(**given)
    with pytest.raises(ValueError, match="did you mean cifar_resnet20"):
        check_architecture("resnet20")


@KINDS
def test_zoos_give_their_weights_and_their_normalization(kind: str, asked: list[dict[str, Any]]) -> None:
    model = load_model(f"{kind}:known")
    torch.manual_seed(0)
    torch.testing.assert_close(model(IMAGES), Net(1000)((IMAGES - 0.5) / 0.25))
    assert asked[0].get("pretrained") or asked[0].get("weights")
    with pytest.raises(
        ValueError, match=r"could not be loaded \(cannot find the requested files\)"
    ) as caught:
        load_model(f"{kind}:offline")
    assert f"--arch {kind}:offline" in str(caught.value)
    assert "\n" not in str(caught.value)


@KINDS
def test_a_fresh_network_of_a_zoo_downloads_nothing(kind: str, asked: list[dict[str, Any]]) -> None:
    model = load_model(arch=f"{kind}:offline", classes=7)
    assert model(IMAGES).shape == (2, 7)
    assert model.training
    assert not any(call.get("pretrained") or call.get("weights") for call in asked)
    assert all(call.get("weights_backbone") is None for call in asked)


@KINDS
def test_a_file_of_ones_own_weights_tells_the_number_of_outputs(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, asked: list[dict[str, Any]]
) -> None:
    for classes in (3, 10, 1000):
        own, file = Net(classes), tmp_path / f"{classes}.safetensors"
        save_file(own.state_dict(), file)
        caplog.clear()
        model = load_model(file, arch=f"{kind}:known")
        torch.testing.assert_close(model(IMAGES), own((IMAGES - 0.5) / 0.25))
        (record,) = caplog.records
        assert f"mean 0.5,0.5,0.5 and std 0.25,0.25,0.25 as usual for {kind}:known" in record.message
        with pytest.raises(ValueError, match=f"has {classes} outputs, not 8"):
            load_model(file, arch=f"{kind}:known", classes=8)
        load_model(file, arch=f"{kind}:known", classes=classes)
        # What the user says, and what the file says, is assumed of nobody.
        caplog.clear()
        plain = load_model(file, arch=f"{kind}:known", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        torch.testing.assert_close(plain(IMAGES), own(IMAGES))
        told = tmp_path / "told.safetensors"
        save_file(plain.state_dict(), told, metadata=describe(plain, arch=f"{kind}:known"))
        torch.testing.assert_close(load_model(told)(IMAGES), own(IMAGES))
        assert not caplog.records
    assert not any(call.get("pretrained") or call.get("weights") for call in asked)


@pytest.mark.parametrize("name", ["timm:hf-hub:user/net", "timm:user/net", "timm:", "torchvision:nothing"])
def test_an_address_in_a_file_reaches_no_network(
    name: str, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    save_file(Net(3).state_dict(), tmp_path / "file", metadata={"arch": name})
    with pytest.raises(ValueError, match="knows no network"):
        load_model(tmp_path / "file")
    assert not asked


def test_names_that_are_nearly_right_are_hinted_at() -> None:
    for wrong, hinted in (
        ("timm:knwon", "did you mean known"),
        ("offlin", "did you mean timm:offline"),
        ("resnet", "did you mean cifar_resnet"),
    ):
        with pytest.raises(ValueError, match=hinted):
            check_architecture(wrong)
    with pytest.raises(FileNotFoundError, match="did you mean timm:offline"):
        load_model("tim:offline")


CODE = """
import torch
from pathlib import Path
def net(width=4, *, bias=True, name="x:y"):
    Path("ran").touch()
    return torch.nn.Sequential(torch.nn.Conv2d(3, width, 3, bias=bias))
def nothing():
    return 3
x = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the working directory, which the path of Python does not name."""
    name = f"mine_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    yield name
    sys.modules.pop(name, None)


def test_a_function_in_the_working_directory_gives_the_network(here: str) -> None:
    assert load_model(f"{here}:net")[0].weight.shape == (4, 3, 3, 3)
    model = load_model(arch=f'{here}:net(5, bias=False, name="a:(b")')
    assert model[0].weight.shape == (5, 3, 3, 3)
    assert model[0].bias is None
    # Longer than the name of a file may be.
    long = f"{here}:net(5, name='{'a' * 300}')"
    assert load_model(long)[0].weight.shape == (5, 3, 3, 3)
    assert (name_of(long), is_onnx(long), known_overlap(long), known_trainings(long)) == (
        long,
        False,
        None,
        (),
    )
    for spec, message in (
        (f"{here}:nowhere", "no such file or function"),
        ("no_such_module_at_all:net", "no such file or function"),
        ("../x:net", "not the names of a Python module"),
        (f"{here}:net(depth=20)", "unexpected keyword argument 'depth'"),
        (f"{here}:net(width=open('ran'))", "is no call with plain values"),
        (f"{here}:net(**{{'width': 3}})", "is no call with plain values"),
        (f"{here}:net(*[3])", "is no call with plain values"),
        (f"{here}:net(3", "is no call with plain values"),
        (f"{here}:nothing()", "returned a int"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
            load_model(spec)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="leave classes out"):
        load_model(f"{here}:net", classes=3)


def test_a_file_of_weights_fills_a_network_of_ones_own_and_never_names_its_code(
    here: str, tmp_path: Path
) -> None:
    own, spec = nn.Sequential(nn.Conv2d(3, 6, 3)), f"{here}:net(width=6)"
    save_file(own.state_dict(), "file", metadata={**describe(own, arch=spec), "mean": "[0.5, 0.5, 0.5]"})
    with pytest.raises(ValueError, match="names code as its network") as caught:
        load_model("file")
    assert "\n" not in str(caught.value)
    assert architecture_of("file") is None
    # Read as a heap of tensors.
    assert analyze("file")["0"].stride is None
    assert here not in sys.modules
    assert not Path("ran").exists()
    torch.testing.assert_close(load_model("file", arch=spec)(IMAGES), own(IMAGES - 0.5))
    with pytest.raises(ValueError, match=r"does not fit .*width=5.*0.weight is \(6, 3, 3, 3\), not \(5"):
        load_model("file", arch=f"{here}:net(width=5)")


def test_a_layer_that_was_held_is_baked_on_the_way_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = Net(10)
    set_share(own.stem, low=0.5)
    torch.save({f"module.1.{name}": tensor for name, tensor in own.state_dict().items()}, tmp_path / "held")
    with caplog.at_level(logging.WARNING):
        model = load_model(tmp_path / "held", arch="timm:known")
    torch.testing.assert_close(model.stem.weight, own.stem.weight)
    assert "baked on the way in, since they were held when it was saved: 1.stem.weight" in caplog.text
    nn.utils.parametrizations.spectral_norm(foreign := Net(10).stem)
    torch.save(
        {f"stem.{name}": tensor for name, tensor in foreign.state_dict().items()}, tmp_path / "foreign"
    )
    with pytest.raises(ValueError, match="foreign: bake cannot fold stem"):
        load_model(tmp_path / "foreign", arch="timm:known")
