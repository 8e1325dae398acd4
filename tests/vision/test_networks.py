"""Networks of timm, torchvision and transformers, freshly initialized, through every verb."""

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import filterbands as fb
from filterbands import EvaluateConfig
from filterbands.control import clean_cost
from filterbands.datasets import ImageSet
from filterbands.evaluation import OnnxNetwork, evaluate
from filterbands.filters import EQUAL_AREA, FIGURES, effective_first_layer, input_gradient_spectrum, line
from filterbands.models import batch_norms, first_layer
from filterbands.probes import fourier_heatmap, pass_curves, patch_moments, vulnerability

pytestmark = [
    pytest.mark.vision,
    # Of these packages, at import and in their own code.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
CLASSES = 10
SIDE = 64
KINDS = ("gaussian_noise", "defocus_blur", "contrast")
SHARE, GUARD = 0.75, 0.1


class Known(NamedTuple):
    """What the network's own code says of its first layer."""

    stem: str
    """Name of the first layer that reads the image."""
    shape: tuple[int, ...]
    """Shape of its weight."""
    norm: str | None
    """Batch norm that reads its output."""
    own: str | None = None
    """Class of the layer, where that has a forward of its own."""
    computes_weight: bool = False
    """Whether that forward applies another weight than the layer stores."""


NETWORKS: Mapping[str, Known] = {
    "timm:resnet18": Known("conv1", (64, 3, 7, 7), "bn1"),
    "timm:convnext_tiny": Known("stem.0", (96, 3, 4, 4), None),
    "timm:vit_small_patch16_224": Known("patch_embed.proj", (384, 3, 16, 16), None),
    "timm:efficientnet_b0": Known("conv_stem", (32, 3, 3, 3), "bn1"),
    "timm:mobilenetv3_small_100": Known("conv_stem", (16, 3, 3, 3), "bn1"),
    "timm:densenet121": Known("features.conv0", (64, 3, 7, 7), "features.norm0"),
    "timm:regnety_002": Known("stem.conv", (32, 3, 3, 3), "stem.bn"),
    "timm:tf_efficientnet_b0": Known("conv_stem", (32, 3, 3, 3), "bn1", own="Conv2dSame"),
    "timm:nf_regnet_b0": Known("stem.conv", (40, 3, 3, 3), None, own="ScaledStdConv2d", computes_weight=True),
    "torchvision:resnet18": Known("conv1", (64, 3, 7, 7), "bn1"),
    "torchvision:mobilenet_v3_small": Known("features.0.0", (16, 3, 3, 3), "features.0.1"),
    "torchvision:swin_t": Known("features.0.0", (96, 3, 4, 4), None),
    "torchvision:densenet121": Known("features.conv0", (64, 3, 7, 7), "features.norm0"),
    "torchvision:efficientnet_b0": Known("features.0.0", (32, 3, 3, 3), "features.0.1"),
    "torchvision:squeezenet1_1": Known("features.0", (64, 3, 3, 3), None),
    "transformers:resnet": Known(
        "resnet.embedder.embedder.convolution", (16, 3, 7, 7), "resnet.embedder.embedder.normalization"
    ),
    "transformers:vit": Known("vit.embeddings.patch_embeddings.projection", (64, 3, 8, 8), None),
}
# The column of each test in the table at the end.
VERBS = {
    "test_analyze_finds_the_stem_and_gives_figures_in_range": "analyze",
    "test_the_file_of_its_weights_gives_the_same_figures": "analyze FILE",
    "test_a_share_holds_through_a_step_of_training_and_is_baked": "set_share, bake",
    "test_a_modulated_layer_is_the_plain_one_but_for_each_image_in_training": "modulate, bake",
    "test_spectral_noise_changes_images_in_training_alone": "SpectralNoise",
    "test_the_shrunk_layer_is_closer_to_its_clean_answer_on_noisy_images": "shrink",
    "test_recalibrated_statistics_are_those_of_torch": "recalibrate",
    "test_evaluation_is_kept_and_its_accuracy_is_that_of_torchmetrics": "evaluate",
    "test_every_probe_gives_finite_figures": "probe",
    "test_an_exported_network_answers_and_is_evaluated_the_same": "ONNX",
}


@pytest.fixture(params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def told(request: pytest.FixtureRequest, name: str, record_property: Callable[[str, object], None]) -> None:
    record_property("network", name)
    record_property("verb", VERBS[request.function.__name__])


@pytest.fixture
def known(name: str) -> Known:
    return NETWORKS[name]


@pytest.fixture
def images() -> Tensor:
    return pictures(12).float() / 255


@pytest.fixture
def data() -> ImageSet:
    return image_set(12)


@pytest.fixture
def network(name: str, images: Tensor) -> nn.Module:
    """A network in evaluation mode, its batch norms fitted: else the answers of many are all alike."""
    package, _, model = name.partition(":")
    torch.manual_seed(0)
    made = MAKERS[package](model)
    fb.recalibrate([images], made)
    return made.eval()


def of_timm(model: str) -> nn.Module:
    import timm

    # A transformer has a position for each patch.
    size = {"img_size": SIDE} if model.startswith("vit") else {}
    return timm.create_model(model, pretrained=False, num_classes=CLASSES, **size)


def of_torchvision(model: str) -> nn.Module:
    from torchvision.models import get_model

    return get_model(model, weights=None, num_classes=CLASSES)


def of_transformers(model: str) -> nn.Module:
    import transformers

    if model == "resnet":
        config = transformers.ResNetConfig(
            embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], num_labels=CLASSES
        )
        return transformers.ResNetForImageClassification(config)
    config = transformers.ViTConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=SIDE,
        patch_size=8,
        num_labels=CLASSES,
    )
    return transformers.ViTForImageClassification(config)


MAKERS = {"timm": of_timm, "torchvision": of_torchvision, "transformers": of_transformers}


def pictures(count: int, side: int = SIDE, seed: int = 0) -> Tensor:
    """Return smooth images with a little noise, bytes."""
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 8, 8, generator=draws)
    smooth = F.interpolate(coarse, size=(side, side), mode="bilinear")
    return (220 * smooth + 30 * torch.rand(count, 3, side, side, generator=draws)).to(torch.uint8)


def image_set(count: int, side: int = SIDE) -> ImageSet:
    return ImageSet(
        name="pictures",
        split="test",
        images=pictures(count, side),
        labels=torch.arange(count) % CLASSES,
        classes=tuple("abcdefghij"),
        index=torch.arange(count),
    )


def logits(network: nn.Module, images: Tensor) -> Tensor:
    """Return a network's logits by its package's own convention."""
    answer: Any = network(images)
    return getattr(answer, "logits", answer)


@torch.no_grad()
def assert_same_answers(one: nn.Module, other: nn.Module, images: Tensor) -> None:
    expected = logits(other, images)
    assert bool(expected.isfinite().all())
    assert float(expected.std(dim=0).max()) > 1e-6
    assert_close(logits(one, images), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def step(network: nn.Module, parameters: list[nn.Parameter], images: Tensor, labels: Tensor) -> None:
    """Train for one step, by an optimizer that was made from these parameters."""
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    network.train()
    F.cross_entropy(logits(network, images), labels).backward()
    optimizer.step()
    network.eval()


def refused(known: Known) -> str:
    return f"needs a layer that applies the weight it stores, {known.own} computes another one"


def test_analyze_finds_the_stem_and_gives_figures_in_range(
    known: Known, network: nn.Module, images: Tensor
) -> None:
    spectrum = fb.analyze(network, fold_batch_norm=True, data=images)
    assert len(spectrum) == sum(isinstance(module, nn.Conv2d) for module in network.modules())
    first = spectrum.spatial[0]
    assert (first.name, tuple(first.shape), first.batch_norm) == (known.stem, known.shape, known.norm)
    assert (known.own or "None") in first.note or known.own is None
    for found in (first_layer("test", network, images), first_layer("test", network)):
        assert (found.name, [*found.norms]) == (known.stem, [known.norm] if known.norm else [])
    for layer in spectrum.spatial:
        for figure in FIGURES:
            ends = getattr(layer, figure)
            for value in ends if isinstance(ends, tuple) else [ends]:
                # A kernel that is larger than what it sees has no response.
                assert value is not None or figure == "response_low_energy", (layer.name, figure)
                assert value is None or 0 <= value <= (math.sqrt(0.5) if figure == "centroid" else 1)
    assert first.response_low_energy is not None
    assert first.response_low_energy > 0.8
    if any(layer.shape[1] == known.shape[0] for layer in spectrum.spatial[1:]):
        assert effective_first_layer(network).name.startswith(f"{known.stem} -> ")


def test_the_file_of_its_weights_gives_the_same_figures(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    expected, found = fb.analyze(network), fb.analyze(tmp_path / "weights.pt")
    rows = [
        [(layer.name, layer.shape, layer.low_share, layer.low_energy, layer.centroid) for layer in spectrum]
        for spectrum in (expected, found)
    ]
    assert sorted(rows[0], key=str) == sorted(rows[1], key=str)


def test_a_share_holds_through_a_step_of_training_and_is_baked(
    known: Known, network: nn.Module, images: Tensor, data: ImageSet, record_property: Any
) -> None:
    layer = network.get_submodule(known.stem)
    if known.computes_weight:
        record_property("result", "refused")
        with pytest.raises(ValueError, match=refused(known)):
            fb.set_share(layer, low=SHARE)
        return
    names, kind, before = [*network.state_dict()], type(layer), layer.weight
    parameters = [*network.parameters()]
    fb.set_share(layer, low=SHARE)
    held = layer.weight.detach().clone()
    step(network, parameters, images, data.labels)
    assert not torch.equal(layer.weight, held)
    energies, low = fb.filters_low_energy(layer.weight.detach()), round(SHARE * len(held))
    assert int((energies >= line(EQUAL_AREA) + GUARD - 1e-4).sum()) == low
    assert int((energies <= line(EQUAL_AREA) - GUARD + 1e-4).sum()) == len(held) - low
    assert fb.analyze(network)[known.stem].low_share == low / len(held)
    baked = fb.bake(copy.deepcopy(network))
    assert type(baked.get_submodule(known.stem)) is kind
    assert [*baked.state_dict()] == names
    assert_same_answers(baked, network, images)
    assert fb.bake(network).get_submodule(known.stem).weight is before


@pytest.mark.parametrize("bands", ["two", "eigen"])
def test_a_modulated_layer_is_the_plain_one_but_for_each_image_in_training(
    known: Known, network: nn.Module, images: Tensor, data: ImageSet, bands: str, record_property: Any
) -> None:
    layer = network.get_submodule(known.stem)
    if known.own is not None:
        record_property("result", "refused")
        with pytest.raises(ValueError, match=refused(known) if known.computes_weight else "own forward"):
            fb.modulate(layer, bands=bands)
        return
    names, plain = [*network.state_dict()], copy.deepcopy(network)
    fb.modulate(layer, bands=bands, clean=0.0)
    assert_same_answers(network, plain, images)
    with torch.no_grad():
        same = images[:1].repeat(3, 1, 1, 1)
        answers = layer.train()(same)
    assert not torch.allclose(answers[0], answers[1], atol=1e-3)
    step(network, [*network.parameters()], images, data.labels)
    assert_same_answers(fb.bake(copy.deepcopy(network)), network, images)
    assert [*fb.bake(network).state_dict()] == names


def test_spectral_noise_changes_images_in_training_alone(network: nn.Module, images: Tensor) -> None:
    noisy = nn.Sequential(fb.SpectralNoise(clean=0.0), network)
    with torch.no_grad():
        assert torch.equal(logits(noisy.eval(), images), logits(network, images))
        seen = noisy.train()[0](images)
        assert bool(logits(noisy, images).isfinite().all())
    assert bool(((seen - images).abs().amax(dim=(1, 2, 3)) > 1e-3).all())
    assert 0 <= float(seen.min()) <= float(seen.max()) <= 1


def test_the_shrunk_layer_is_closer_to_its_clean_answer_on_noisy_images(
    known: Known, network: nn.Module, data: ImageSet, record_property: Any
) -> None:
    # Ten patches and more per input of a filter; those of a transformer do not overlap.
    many = pictures(512 if known.shape[2] == 16 else 64, seed=1)
    if known.computes_weight:
        record_property("result", "refused")
        with pytest.raises(ValueError, match=refused(known)):
            fb.shrink(network, many)
        return
    shrunk = fb.shrink(copy.deepcopy(network), many, noise=0.1)
    cost = clean_cost(network, shrunk, data, noise=0.1)
    assert (cost.images, 0 <= cost.after <= 1) == (len(data), True)
    clean = many[:16].float() / 255
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    before, after = (one.get_submodule(known.stem) for one in (network, shrunk))
    with torch.no_grad():
        assert bool(logits(shrunk, noisy).isfinite().all())
        # A batch norm takes up the mean of each filter's answer.
        wanted = before(clean)
        far, near = (
            float((answer - wanted).sub((answer - wanted).mean(dim=(0, 2, 3), keepdim=True)).square().mean())
            for answer in (before(noisy), after(noisy))
        )
    assert near < 0.75 * far


def test_recalibrated_statistics_are_those_of_torch(name: str, network: nn.Module, images: Tensor) -> None:
    batches, torchs = [images[:6], images[6:]], copy.deepcopy(network)
    before = copy.deepcopy(network.state_dict())
    fb.recalibrate(batches, network)
    if not batch_norms(network):
        assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
        return
    if name == "torchvision:efficientnet_b0":
        # torch's own function runs the whole network in training mode, where blocks are left out at random.
        for module in torchs.modules():
            module.p = 0.0
    torch.optim.swa_utils.update_bn(batches, torchs)
    for key, tensor in torchs.state_dict().items():
        assert_close(network.state_dict()[key], tensor, rtol=1e-4, atol=1e-5)


def test_evaluation_is_kept_and_its_accuracy_is_that_of_torchmetrics(
    network: nn.Module, data: ImageSet, images: Tensor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from torchmetrics.classification import MulticlassAccuracy

    seen: list[int] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module is network:
            seen.append(len(inputs[0]))

    # A hook of the network itself would be a part of its key.
    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    config = EvaluateConfig(kinds=KINDS, severities=(1, 5))
    first = evaluate(network, data, config=config, db=tmp_path / "results.db")
    # Two images at a time tell whether the network takes them, and are in its key.
    assert sum(images for images in seen if images > 2) == len(data) * (1 + 2 * len(KINDS))
    seen.clear()
    second = evaluate(network, data, config=config, db=tmp_path / "results.db")
    # A network that refers to what has no fixed content is evaluated anew, and that is said.
    assert max(seen) == 2 or "evaluated anew each time" in caplog.text
    hook.remove()
    assert (second.clean, second.kinds) == (first.clean, first.kinds)
    assert all(0 <= row[place] <= 1 for row in first.kinds.values() for place in (0, 4))
    with torch.no_grad():
        answers = logits(network, images)
    assert first.cells["clean", 0].predictions.tolist() == answers.argmax(dim=1).tolist()
    metric = MulticlassAccuracy(num_classes=CLASSES, average="micro")
    assert first.clean == pytest.approx(float(metric(answers, data.labels)), abs=1e-6)


def test_every_probe_gives_finite_figures(known: Known, network: nn.Module, data: ImageSet) -> None:
    # Images of 8x8 have 41 waves.
    small = nn.Sequential(nn.Upsample(size=SIDE), network).eval()
    heat = fourier_heatmap(small, image_set(2, 8), norm=1.0)
    assert heat.error.shape == (9, 9)
    assert bool(((heat.error >= 0) & (heat.error <= 1)).all())
    assert torch.equal(heat.error, heat.error.flip(0, 1))
    curves = pass_curves(network, data, limit=1)
    assert float(curves.curves["low_ideal"][-1]) == curves.clean
    gradient = input_gradient_spectrum(network, data)
    assert 0 < gradient.low_energy < 1
    assert bool(gradient.power.isfinite().all())
    kernel = known.shape[2:]
    moments = patch_moments(data, kernel=kernel, kinds=KINDS[::2], severities=(3,), limit=2)
    images = data.images.float() / 255
    if known.computes_weight:
        with pytest.raises(ValueError, match=refused(known)):
            vulnerability(network, moments, images=images)
        return
    moved = vulnerability(network, moments, images=images)
    assert (moved.layer, moved.batch_norm) == (known.stem, known.norm)
    assert 0 < moved.of_kind("gaussian_noise") < math.inf
    if kernel != (3, 3):
        with pytest.raises(ValueError, match=r"make some with patch_moments\(data, kernel="):
            vulnerability(network)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("exporter", ["torch.export", "TorchScript"])
def test_an_exported_network_answers_and_is_evaluated_the_same(
    exporter: str, network: nn.Module, data: ImageSet, images: Tensor, tmp_path: Path
) -> None:
    file = tmp_path / "network.onnx"
    if exporter == "torch.export":
        batch = torch.export.Dim("batch", min=2, max=1000)
        options = {"dynamic_shapes": ({0: batch},), "external_data": True, "dynamo": True}
    else:
        options = {"dynamic_axes": {"images": {0: "batch"}}, "input_names": ["images"], "dynamo": False}
    torch.onnx.export(network, (images[:2],), str(file), verbose=False, **options)
    assert (tmp_path / "network.onnx.data").exists() == (exporter == "torch.export")
    exported = OnnxNetwork(file)
    assert_same_answers(exported, network, images)
    config = EvaluateConfig(kinds=("contrast",), severities=(3,))
    theirs, own = (evaluate(one, data, config=config) for one in (exported, network))
    for cell in own.cells:
        assert theirs.cells[cell].predictions.tolist() == own.cells[cell].predictions.tolist()
