"""What `--mean` and `--std` do to a network of the user's own: it sees (x - mean) / std, exactly once."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from filterbands.cli import main
from filterbands.control import bake, shrink
from filterbands.datasets import ImageSet, load_data
from filterbands.evaluation import EvaluateConfig, evaluate, load_scores, model_fingerprint
from filterbands.filters import analyze, input_gradient_spectrum
from filterbands.models import Scale, load_model, loading, scaled
from filterbands.probes import (
    ProbeConfig,
    cifar10_moments,
    fourier_heatmap,
    gradient_spectrum,
    pass_curves,
    vulnerability,
)

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.5)
FLAGS = ["--mean", "0.5,0.4,0.3", "--std", "0.25,0.2,0.5"]
# A network that neither this package nor a room of it has made; it notes what it is given.
CODE = """
import torch

SEEN = []

class Recording(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv1 = torch.nn.Conv2d(3, 8, 3)
        self.bn1 = torch.nn.BatchNorm2d(8)
        self.linear = torch.nn.Linear(8, 3)

    def forward(self, images):
        SEEN.append(images.detach().clone())
        return self.linear(self.bn1(self.conv1(images)).relu().mean(dim=(2, 3)))

def net():
    return Recording()

ONE = Recording()

def the_same():
    return ONE
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "recording_of_theirs.py").write_text(CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield import_module("recording_of_theirs")


@pytest.fixture
def seen(theirs: ModuleType) -> list[Tensor]:
    theirs.SEEN.clear()
    found: list[Tensor] = theirs.SEEN
    return found


@pytest.fixture
def spec(tmp_path: Path) -> str:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 16, 16), dtype=np.uint8)
    images[:, :, 0, 0], images[:, :, 0, 1] = 0, 255
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(6) % 3)
    return f"npz:{tmp_path / 'set.npz'}"


def once(data: ImageSet) -> Tensor:
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    return (data.images.float() / 255 - mean) / std


def assert_once(seen: list[Tensor], data: ImageSet) -> None:
    """Everything seen is within what images in [0, 1] become, and the images themselves are exact."""
    assert seen
    low, high = (once(data).amin(dim=(0, 2, 3)), once(data).amax(dim=(0, 2, 3)))
    for images in seen:
        assert bool((images.amin(dim=(0, 2, 3)) >= low).all())
        assert bool((images.amax(dim=(0, 2, 3)) <= high).all())
    assert any(torch.equal(images, once(data)[: len(images)]) for images in seen)


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    code = main([*words, "--json"])
    caught = capsys.readouterr()
    assert code == 0, caught.err
    document: dict[str, Any] = json.loads(caught.out)
    return document


def test_evaluate_normalizes_once_and_alike_on_the_command_line_and_in_python(
    seen: list[Tensor], spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "recording_of_theirs:net", "--data", spec, *FLAGS, "--kinds", "contrast"]
    told = _json(capsys, *words, "--db", str(tmp_path / "r.db"))
    data, config = load_data(spec), EvaluateConfig(kinds=("contrast",))
    assert_once(seen, data)
    seen.clear()
    loaded = evaluate(load_model("recording_of_theirs:net", mean=MEAN, std=STD), data, config=config)
    assert_once(seen, data)
    seen.clear()
    given = evaluate(load_model("recording_of_theirs:net"), data, config=config, mean=MEAN, std=STD)
    assert_once(seen, data)
    for scores in (loaded, given):
        assert scores.to_json()["clean"] == told["clean"]
        assert scores.to_json()["kinds"] == told["kinds"]
    (row,) = load_scores(tmp_path / "r.db")
    assert row.model == loaded.model
    plain = nn.Sequential(Scale(MEAN, STD), load_model("recording_of_theirs:net"))
    assert given.model == model_fingerprint(plain, shape=data.images[0].shape)


@pytest.mark.slow
def test_probe_normalizes_once_and_alike_on_the_command_line_and_in_python(
    seen: list[Tensor], spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["probe", "recording_of_theirs:net", "--data", spec, *FLAGS, "--norm", "0.5"]
    parts = ["--only", "heatmap,passes,gradient,vulnerability", "--db", str(tmp_path / "r.db")]
    told = _json(capsys, *words, *parts)
    data = load_data(spec)
    assert_once(seen, data)
    model = load_model("recording_of_theirs:net", mean=MEAN, std=STD)
    in_front = scaled(load_model("recording_of_theirs:net"), MEAN, STD)
    for network in (model, in_front):
        seen.clear()
        config = ProbeConfig(batch_size=100)
        heat = fourier_heatmap(network, data, norm=0.5, config=config)
        passes, gradient = pass_curves(network, data), gradient_spectrum(network, data)
        assert_once(seen, data)
        assert heat.to_json() == told["heatmap"]
        assert passes.to_json() == told["passes"]
        assert gradient.to_json() == told["gradient"]
    moments = cifar10_moments()
    plain = load_model("recording_of_theirs:net")
    expected = pytest.approx(vulnerability(plain, moments, std=STD).mean, rel=1e-6)
    assert told["vulnerability"]["data"] != moments.name
    assert vulnerability(model, moments).mean == vulnerability(in_front, moments).mean == expected
    assert vulnerability(plain, moments).mean != expected


def test_analyze_normalizes_once_and_alike_on_the_command_line_and_in_python(
    seen: list[Tensor], spec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = _json(capsys, "analyze", "recording_of_theirs:net", "--data", spec, *FLAGS)
    data = load_data(spec)
    assert_once(seen, data)
    seen.clear()
    model = load_model("recording_of_theirs:net", mean=MEAN, std=STD)
    assert analyze(model, data=data).to_json()["layers"] == told["layers"]
    assert input_gradient_spectrum(model, data).to_json() == told["input_gradient"]
    assert_once(seen, data)


def test_shrink_and_bake_see_one_normalization(seen: list[Tensor], spec: str) -> None:
    data = load_data(spec)
    model = load_model("recording_of_theirs:net", mean=MEAN, std=STD)
    before = model(data.images / 255)
    seen.clear()
    torch.testing.assert_close(bake(model)(data.images / 255), before)
    shrink(model, data, noise=0.05)
    assert any(torch.equal(images, once(data)[: len(images)]) for images in seen)
    # The noise of the probing leaves [0, 1]; a second normalization would reach far beyond.
    assert max(float(images.abs().max()) for images in seen) < float(once(data).abs().max()) + 0.5
    twin = scaled(load_model("recording_of_theirs:net"), MEAN, STD)
    shrink(twin, data, noise=0.05)
    torch.testing.assert_close(twin[1].conv1.weight, model.conv1.weight)  # type: ignore[index, union-attr]


def test_an_onnx_file_is_normalized_once_under_the_key_of_its_parts(
    seen: list[Tensor],
    theirs: ModuleType,
    spec: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "is_onnx", lambda _: True)
    monkeypatch.setattr(loading, "OnnxNetwork", lambda _: theirs.net())
    words = ["evaluate", "net.onnx", "--data", spec, *FLAGS, "--kinds", "none"]
    _json(capsys, *words, "--db", str(tmp_path / "r.db"))
    assert_once(seen, load_data(spec))
    (row,) = load_scores(tmp_path / "r.db")
    shape = load_data(spec).images[0].shape
    assert row.model == model_fingerprint(nn.Sequential(Scale(MEAN, STD), theirs.net()), shape=shape)


def test_a_network_that_is_loaded_again_is_still_normalized_once(seen: list[Tensor], spec: str) -> None:
    data = load_data(spec)
    for _ in range(2):
        model = load_model("recording_of_theirs:the_same", mean=MEAN, std=STD)
    model(data.images / 255)
    assert_once(seen, data)


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "itself": lambda model: model,
    "sequence": lambda model: nn.Sequential(nn.Identity(), model),
    "parallel": nn.DataParallel,
    "compiled": lambda model: torch.compile(model, backend="eager"),  # type: ignore[return-value]
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_second_normalization_is_refused_in_one_line(
    wrapper: str, theirs: ModuleType, spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_data(spec)
    foreign = load_model("recording_of_theirs:net", mean=MEAN, std=STD)
    own = load_model(arch="fastnet", classes=3)
    for model in (foreign, own, scaled(theirs.net(), MEAN, STD)):
        wrapped = WRAPPERS[wrapper](model)
        for call in (
            lambda network: evaluate(network, data, mean=MEAN, std=STD),
            lambda network: evaluate(network, data, std=STD),
            lambda network: scaled(network, MEAN, None),
        ):
            with pytest.raises(ValueError, match="normalizes its images already") as caught:
                call(wrapped)
            assert "\n" not in str(caught.value)
        if wrapper == "sequence":
            monkeypatch.setattr(theirs, "net", lambda wrapped=wrapped: wrapped)
            with pytest.raises(ValueError, match="normalizes its images already"):
                load_model("recording_of_theirs:net", mean=MEAN)
            monkeypatch.undo()
