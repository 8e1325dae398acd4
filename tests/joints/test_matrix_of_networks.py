"""Every way to bring one network gives the same bits, on the command line and in Python."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from filterbands.cli import main
from filterbands.datasets import load_data
from filterbands.disk import write_weights
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.models import load_model, read_weights

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NUMBERS = {"mean": MEAN, "std": STD}
FLAGS = [word for name in NUMBERS for word in (f"--{name}", ",".join(map(str, NUMBERS[name])))]
# ResNet-20 as its public code has it: it takes normalized images and knows nothing of this package.
CODE = """
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.pad = stride, (outputs - inputs) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad)))


class ResNet20(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        inputs = width
        for number in (1, 2, 3):
            outputs = width * 2 ** (number - 1)
            blocks = [Block(inputs, outputs, 1 if number == 1 else 2)]
            blocks += [Block(outputs, outputs, 1) for _ in range(2)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            inputs = outputs
        self.linear = nn.Linear(inputs, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3):
            x = stage(x)
        return self.linear(x.mean(dim=(2, 3)))
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of ResNet-20, made here."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "net.safetensors"
    model = load_model(arch="cifar_resnet20")
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = 0.1 * torch.randn_like(layer.weight)
    write_weights(file, model.state_dict(), {})
    return file


@pytest.fixture
def spec(tmp_path: Path) -> str:
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(40) * 7 % 10)
    return f"npz:{tmp_path / 'set.npz'}"


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "resnet_of_others.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import resnet_of_others  # type: ignore[import-not-found]

    return resnet_of_others


def _told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    kinds = ["--kinds", "contrast,gaussian_noise", "--severities", "2"]
    assert main(["evaluate", *words, *kinds, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return {name: document[name] for name in ("clean", "kinds", "images")}


def _found(model: nn.Module, spec: str, **given: Any) -> dict[str, Any]:
    config = EvaluateConfig(kinds=("contrast", "gaussian_noise"), severities=(2,))
    document = evaluate(model, load_data(spec), config=config, **given).to_json()
    return {name: document[name] for name in ("clean", "kinds", "images")}


def _onnx(model: nn.Module, file: Path) -> None:
    pytest.importorskip("onnxruntime")
    axes = {"x": {0: "b"}}
    try:
        with warnings.catch_warnings():
            # torch warns of its older exporter, which needs no further package.
            warnings.simplefilter("ignore", DeprecationWarning)
            images = (torch.zeros(1, 3, 32, 32),)
            torch.onnx.export(model, images, str(file), dynamo=False, dynamic_axes=axes, input_names=["x"])
    except (ImportError, ModuleNotFoundError, torch.onnx.errors.OnnxExporterError) as error:
        pytest.skip(f"torch cannot export here: {error}")


@pytest.mark.parametrize(
    "normalized",
    [pytest.param(False, marks=pytest.mark.slow), True],
    ids=["images as they are", "mean and std given"],
)
@pytest.mark.parametrize(
    "kind", ["function", "file and function", "file and arch", "timm", "torchvision", "onnx"]
)
def test_the_command_line_and_python_give_the_same_bits(
    kind: str,
    normalized: bool,
    weights: Path,
    spec: str,
    theirs: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def filled(*_: Any, **__: Any) -> nn.Module:
        model: nn.Module = theirs.ResNet20()
        model.load_state_dict(read_weights(weights), strict=False)
        return model.eval()

    theirs.filled = filled  # type: ignore[attr-defined]
    model, options = "", {}
    if kind == "function":
        model = "resnet_of_others:filled"
    elif kind == "file and function":
        model, options = str(weights), {"arch": "resnet_of_others:ResNet20(width=16)"}
    elif kind == "file and arch":
        model, options = str(weights), {"arch": "cifar_resnet20"}
    elif kind == "onnx":
        model = str(tmp_path / "net.onnx")
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AvgPool2d(30), nn.Flatten(), nn.Linear(8, 10))
        _onnx(nn.Sequential(*layers).eval(), Path(model))
    else:
        model = f"{kind}:known"
        _stand_in(kind, filled, monkeypatch)
    given = NUMBERS if normalized else {}
    words = [model, *(word for name, value in options.items() for word in (f"--{name}", value))]
    words += [*(FLAGS if normalized else []), "--data", spec, "--db", str(tmp_path / "r.db")]
    told = _told(capsys, *words)
    assert _found(load_model(model, **options, **given), spec) == told
    if kind == "onnx":
        return
    if normalized:
        # The plain network, with mean and std given to evaluate.
        assert _found(filled(), spec, **given) == told
    elif kind != "file and arch":
        assert _found(filled(), spec) == told


def _stand_in(kind: str, filled: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "timm":
        timm: Any = ModuleType("timm")
        timm.is_model, timm.list_models, timm.create_model = (lambda _: True), (lambda: ["known"]), filled
        monkeypatch.setitem(sys.modules, "timm", timm)
        return
    vision, models = ModuleType("torchvision"), ModuleType("torchvision.models")
    shown: Any = models
    shown.list_models = lambda: ["known"]
    shown.get_model = filled
    shown.get_model_builder = lambda _: filled
    default = SimpleNamespace(transforms=lambda: SimpleNamespace())
    shown.get_model_weights = lambda _: SimpleNamespace(DEFAULT=default)
    monkeypatch.setitem(sys.modules, "torchvision", vision)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)


def test_a_public_resnet20_scores_the_same_each_way(
    shared: Path, theirs: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cifar"
    _few_test_images(shared, folder)
    spec, file = f"npz:{folder}.npz", str(shared / "checkpoints" / "akamaster" / "resnet20-12fca82f.th")
    common = [*FLAGS, "--data", spec, "--db", str(tmp_path / "r.db")]
    told = _told(capsys, file, "--arch", "cifar_resnet20", *common)
    assert told["clean"]["accuracy"] > 0.85
    assert _told(capsys, file, "--arch", "resnet_of_others:ResNet20", *common) == told
    plain: nn.Module = theirs.ResNet20()
    plain.load_state_dict(read_weights(file))
    assert _found(plain.eval(), spec, mean=MEAN, std=STD) == told
    assert _found(nn.Sequential(_Given(), plain).eval(), spec) == told
    for arch in ("cifar_resnet20", "resnet_of_others:ResNet20"):
        assert _found(load_model(file, arch=arch, mean=MEAN, std=STD), spec) == told


class _Given(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
        return (images - mean) / std


def _few_test_images(shared: Path, place: Path) -> None:
    """Write the first 64 test images of CIFAR-10 as arrays."""
    with np.load(shared / "reference_c" / "open.npz") as file:
        images = file["clean"]
    labels = np.load(shared / "cifar10" / "y_test_u8.npy")[: len(images)]
    np.savez(f"{place}.npz", images=images, labels=labels.astype(np.int64))
