"""Weights of networks of timm and torchvision, from a file through every verb; nothing is downloaded."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from filterbands.cli import main
from filterbands.control import modulate
from filterbands.datasets import load_data
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.models import architecture_of, load_model

timm = pytest.importorskip("timm", reason="timm is not installed (extra vision)")
zoo = pytest.importorskip("torchvision.models", reason="torchvision is not installed (extra vision)")

pytestmark = pytest.mark.vision
CLASSES = 4
MEAN, STD = (torch.tensor(row).reshape(1, 3, 1, 1) for row in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
ARCHS = ("timm:resnet18", "torchvision:resnet18", "theirs_of_vision:net(classes=4)")
CODE = "import timm\ndef net(*, classes):\n    return timm.create_model('resnet18', num_classes=classes)\n"


def network(arch: str, classes: int = CLASSES) -> nn.Module:
    torch.manual_seed(0)
    kind, _, name = arch.partition(":")
    if kind == "torchvision":
        made: nn.Module = zoo.get_model(name, weights=None, num_classes=classes)
    else:
        made = timm.create_model(name if kind == "timm" else "resnet18", num_classes=classes)
    return made.eval()


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Images of 4 classes in the working directory, with a module that makes a network."""
    monkeypatch.chdir(tmp_path)
    Path("theirs_of_vision.py").write_text(CODE)
    images = np.random.default_rng(0).integers(0, 256, (24, 3, 32, 32), dtype=np.uint8)
    np.savez("set.npz", images=images, labels=np.arange(24) % CLASSES)
    return "npz:set.npz"


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    code = main([*words, "--json"])
    caught = capsys.readouterr()
    assert code == 0, caught.err
    document: dict[str, Any] = json.loads(caught.out)
    return document


@pytest.mark.parametrize("arch", ARCHS)
def test_ones_own_weights_go_through_every_verb(
    arch: str, spec: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    own = network(arch)
    torch.save({"state_dict": {f"model.{name}": one for name, one in own.state_dict().items()}}, "own.ckpt")
    words, data = ["own.ckpt", "--arch", arch], ["--data", spec]
    images = torch.from_numpy(np.load("set.npz")["images"])
    is_zoo = not arch.startswith("theirs")
    shown = (images / 255 - MEAN) / STD if is_zoo else images / 255
    with torch.no_grad():
        torch.testing.assert_close(load_model("own.ckpt", arch=arch)(images / 255), own(shown))
    assert caplog.text.count(f"as usual for {arch}") == is_zoo
    labels = torch.arange(24) % CLASSES
    accuracy = float((own(shown).argmax(dim=1) == labels).float().mean())
    analyzed = _json(capsys, "analyze", *words, *data)
    assert [layer["name"] for layer in analyzed["layers"]][:2] == ["conv1", "layer1.0.conv1"]
    assert [layer["name"] for layer in _json(capsys, "analyze", "own.ckpt")["layers"]][:1] == ["conv1"]
    told = _json(
        capsys, "evaluate", *words, *data, "--kinds", "contrast", "--severities", "3", "--device", "cpu"
    )
    assert told["clean"]["accuracy"] == pytest.approx(accuracy)
    probed = _json(
        capsys, "probe", *words, *data, "--only", "passes,gradient,vulnerability", "--device", "cpu"
    )
    assert probed["vulnerability"] is not None
    _json(capsys, "report", "results.db", "--out", "page.html")
    baked = _json(capsys, "bake", *words, "--out", "baked.safetensors")
    assert (baked["arch"], baked["first_layer"]["name"]) == (arch, "conv1")
    # Without a training split, the images of an archive stand for each.
    shrunk = _json(capsys, "shrink", *words, *data, "--images", "8", "--out", "shrunk.safetensors")
    assert shrunk["mean_low_energy"][0] != shrunk["mean_low_energy"][1]
    for file in ("baked.safetensors", "shrunk.safetensors"):
        assert architecture_of(file) == (arch if is_zoo else None)
        again = load_model(file) if is_zoo else load_model(file, arch=arch)
        with torch.no_grad():
            same = torch.allclose(again(images / 255), own(shown), atol=1e-4)
        assert same == (file == "baked.safetensors")


@pytest.mark.parametrize(
    "arch",
    [
        "timm:vit_tiny_patch16_224",
        "timm:mobilenetv3_small_100",
        "timm:deit_tiny_distilled_patch16_224",
        "torchvision:squeezenet1_1",
        "torchvision:googlenet",
        "torchvision:shufflenet_v2_x0_5",
    ],
)
@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
def test_heads_of_every_make_have_the_outputs_of_the_file(arch: str, tmp_path: Path) -> None:
    for classes in (7, 1000):
        own = network(arch, classes)
        torch.save(own.state_dict(), tmp_path / "own.pt")
        loaded = load_model(tmp_path / "own.pt", arch=arch)
        torch.testing.assert_close(loaded.state_dict(), own.state_dict())
    with pytest.raises(ValueError, match="has 1000 outputs, not 7"):
        load_model(tmp_path / "own.pt", arch=arch, classes=7)


def test_a_modulated_layer_of_a_known_network_is_baked_on_the_way_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = network("timm:resnet18")
    modulate(own.conv1)  # type: ignore[arg-type]
    torch.save(nn.DataParallel(own).state_dict(), tmp_path / "held.pt")
    with caplog.at_level(logging.WARNING):
        loaded = load_model(tmp_path / "held.pt", arch="timm:resnet18", mean=(0, 0, 0), std=(1, 1, 1))
    assert "baked on the way in" in caplog.text
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), own(images), atol=1e-4, rtol=1e-4)


def test_a_detector_is_built_without_a_download() -> None:
    assert load_model(arch="torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", classes=3) is not None


def test_names_are_those_of_the_packages() -> None:
    for name, message in (
        ("timm:resnet81", "did you mean resnet"),
        ("timm:hf-hub:timm/resnet18", "knows no network"),
        ("timm:resnet18.no_such_tag", "Invalid pretrained tag"),
        ("torchvision:resnet81", "did you mean resnet"),
        ("efficientnet_b0", "did you mean (timm|torchvision):"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            load_model(arch=name)
        assert "\n" not in str(caught.value)


def test_a_network_of_timm_trains_into_a_run_that_every_verb_opens(
    spec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("arch=timm:resnet18", "epochs=1", "precision=float32", "share.low=0.5")
    flags = [word for setting in settings for word in ("--set", setting)]
    done = _json(capsys, "train", "standard", "--data", spec, "--batch-size", "8", "--device", "cpu", *flags)
    run = Path(done["run"])
    assert run.name == "standard-timm-resnet18-0"
    assert _json(capsys, "analyze", str(run))["layers"][0]["low_share"] == 0.5
    told = _json(capsys, "evaluate", str(run), "--data", spec, "--kinds", "none", "--device", "cpu")
    scores = evaluate(load_model(run), load_data(spec), config=EvaluateConfig(kinds=(), device="cpu"))
    assert told["clean"] == scores.to_json()["clean"]
    _json(capsys, "report", str(run), "--out", "page.html")
