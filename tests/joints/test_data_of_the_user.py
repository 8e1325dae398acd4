"""The user's own data and names of networks, through all that takes them: loaders, items, pictures, texts."""

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

import filterbands as fb
from filterbands.control import choose_noise
from filterbands.datasets import ImageSet
from filterbands.disk import write_weights
from filterbands.evaluation import as_source
from filterbands.models import describe
from filterbands.probes import corruption_spectra, gradient_spectrum, patch_moments, vulnerability

CONFIG = fb.EvaluateConfig(kinds=("fog",), severities=(3,))


@pytest.fixture(scope="module")
def data() -> ImageSet:
    return fb.load_data("planted").subset(torch.arange(24))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return fb.load_model(arch="fastnet").eval()


class Columns:
    """What a `datasets.Dataset` of Hugging Face shows: items as dicts of columns, PIL images, class names."""

    def __init__(
        self, data: ImageSet, image: str = "img", label: str = "fine_label", mode: str = "RGB"
    ) -> None:
        self.rows = [
            {"coarse_label": 0, image: Image.fromarray(pixels).convert(mode), label: number}
            for pixels, number in zip(
                data.images.permute(0, 2, 3, 1).numpy(), data.labels.tolist(), strict=True
            )
        ]
        self.features = {label: SimpleNamespace(names=list(data.classes)), image: object()}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.rows[number]


class Pairs(Dataset[Any]):
    def __init__(self, data: ImageSet, change: Callable[[Tensor], Any] = lambda image: image) -> None:
        self.data, self.change = data, change

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        return self.change(self.data.images[number]), int(self.data.labels[number])


def collated(items: list[Any]) -> dict[str, Tensor]:
    images, labels = zip(*items, strict=True)
    return {"pixel_values": torch.stack(images).float() / 255, "labels": torch.tensor(labels)}


FORMS: dict[str, Callable[[ImageSet], Any]] = {
    "loader of bytes": lambda data: DataLoader(Pairs(data), batch_size=5),
    "loader of floats": lambda data: DataLoader(Pairs(data, lambda image: image.float() / 255), batch_size=5),
    "loader of mappings": lambda data: DataLoader(Pairs(data), batch_size=5, collate_fn=collated),
    "loader of a subset": lambda data: DataLoader(Subset(Pairs(data), list(range(len(data)))), batch_size=5),
    "pictures": lambda data: Pairs(data, lambda image: Image.fromarray(image.permute(1, 2, 0).numpy())),
    "list of mappings": lambda data: [
        {"image": image, "label": label} for image, label in zip(data.images, data.labels, strict=True)
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_images_in_any_form_have_the_fingerprint_of_their_arrays(form: str, data: ImageSet) -> None:
    source = as_source(FORMS[form](data))
    assert source.fingerprint == as_source((data.images, data.labels)).fingerprint
    assert torch.equal(source.read(torch.tensor([7, 0])), data.images[[7, 0]])
    assert as_source(FORMS[form](data), limit=5).labels.tolist() == data.labels[:5].tolist()


def test_a_part_of_a_data_set_shows_the_same_corrupted_images(data: ImageSet) -> None:
    part = Subset(Subset(Pairs(data), range(4, len(data))), [3, 0, 9])
    assert as_source(part).index.tolist() == [7, 4, 13]
    assert torch.equal(as_source(part).read(torch.arange(3)), data.images[[7, 4, 13]])


@pytest.mark.parametrize("names", [("img", "fine_label"), ("image", "label"), ("image", "labels")])
def test_columns_of_hugging_face_are_the_images_and_bring_the_names_of_the_classes(
    names: tuple[str, str], data: ImageSet, model: nn.Module
) -> None:
    columns = Columns(data, *names)
    assert as_source(columns).fingerprint == data.fingerprint()
    assert as_source(columns).classes == data.classes
    expected = fb.evaluate(model, data, config=CONFIG)
    assert fb.evaluate(model, columns, config=CONFIG).average_at_hand() == expected.average_at_hand()
    gray = as_source(Columns(data, *names, mode="L")).read(torch.arange(2))
    assert torch.equal(gray[:, 0], gray[:, 2])


def test_a_shuffling_loader_is_read_in_the_order_of_its_data_and_it_is_said(
    data: ImageSet, caplog: pytest.LogCaptureFixture
) -> None:
    for options in ({"shuffle": True}, {"drop_last": True}):
        with caplog.at_level(logging.WARNING):
            source = as_source(DataLoader(Pairs(data), batch_size=5, **options))
        assert source.fingerprint == as_source(Pairs(data)).fingerprint
        assert [record.getMessage() for record in caplog.records] == [
            "evaluate reads all 24 images of the DataLoader's data set in its own order: shuffle and "
            "drop_last do not apply"
        ]
        caplog.clear()


def test_random_transforms_are_told(data: ImageSet, caplog: pytest.LogCaptureFixture) -> None:
    def noisy(image: Tensor) -> Tensor:
        return image // 2 + torch.randint(0, 9, image.shape, dtype=torch.uint8)

    with caplog.at_level(logging.WARNING):
        as_source(Pairs(data, noisy))
    assert "gives other pixels at each reading" in caplog.text


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda data: DataLoader(Pairs(data), sampler=WeightedRandomSampler([1.0] * 24, 24)),
            "every image of a data set once, got one with a WeightedRandomSampler",
        ),
        (
            lambda data: DataLoader(Pairs(data), sampler=SequentialSampler(range(10))),
            "every image of a data set once, got one with a SequentialSampler",
        ),
        (lambda _: DataLoader(Stream()), "every image of a data set once, got one with a Stream"),
        (
            lambda data: {"train": data, "test": data},
            "one data set, got a dict of train, test; take one split",
        ),
        (
            lambda data: [{"png": data.images[0], "label": 1}] * 3,
            "image under image or img .* got png, label",
        ),
        (lambda data: [{"image": data.images[0]}] * 3, "one label per image, .* got None"),
        (lambda data: [(data.images[0], "cat")] * 3, "one label per image, .* got 'cat'"),
        (
            lambda data: TensorDataset(data.images, torch.rand(24, 10)),
            r"one label per image, .* got shape \(10,\)",
        ),
        (lambda _: [(Image.new("I", (16, 16)), 1)] * 3, "wider than a byte"),
        (lambda _: "cifar:x", "unknown data 'cifar:x'.*cifar10"),
    ],
)
def test_data_that_cannot_be_labeled_images_in_one_order_are_refused_in_one_line(
    make: Callable[[ImageSet], Any], message: str, data: ImageSet
) -> None:
    with pytest.raises(ValueError, match=message) as told:
        as_source(make(data))
    assert "\n" not in str(told.value)


@pytest.fixture(scope="module")
def named(data: ImageSet, model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A network and images, as texts."""
    folder = tmp_path_factory.mktemp("named")
    weights = folder / "net.pt"
    torch.save(model.state_dict(), weights)
    np.savez(folder / "set.npz", images=data.images.numpy(), labels=data.labels.numpy())
    return str(weights), f"npz:{folder / 'set.npz'}"


@pytest.mark.slow
def test_texts_name_networks_and_images_wherever_both_are_taken(
    named: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mynets.py").write_text(
        f"import filterbands as fb\ndef net():\n    return fb.load_model({named[0]!r}, arch='fastnet')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    spec, images = "mynets:net", named[1]
    network, held = fb.load_model(spec), fb.load_data(images)
    scores = fb.evaluate(spec, images, config=CONFIG)
    assert scores.name == "mynets:net"
    assert scores.to_json()["kinds"] == fb.evaluate(network, held, config=CONFIG).to_json()["kinds"]
    few = {"limit": 6}
    pairs: list[tuple[Any, Any]] = [
        (
            fb.fourier_heatmap(one, some, norm=2.0, limit=2, config=fb.ProbeConfig(radius=0.1)).to_json(),
            fb.pass_curves(one, some, **few).to_json(),
        )
        for one, some in ((spec, images), (network, held))
    ]
    assert str(pairs[0]) == str(pairs[1])
    for door in (
        lambda one, some: gradient_spectrum(one, some, **few).to_json(),
        lambda _, some: corruption_spectra(some, kinds=["fog"], **few).to_json(),
        lambda _, some: patch_moments(some, kinds=["fog"], severities=[1], **few).clean.tolist(),
        lambda one, _: vulnerability(one).to_json(),
        lambda _, some: fb.analyze(network, data=some).to_json(),
        lambda one, some: fb.shrink(one, some).conv1.weight.tolist(),
        lambda _, some: choose_noise(fb.load_model(spec), some, held, budget=0.9)[0],
        lambda _, some: recalibrated(some, fb.load_model(spec)),
    ):
        assert str(door(spec, images)) == str(door(fb.load_model(spec), held))


def recalibrated(loader: Any, network: Any) -> Any:
    fb.recalibrate(loader, network)
    return [one.running_mean.tolist() for one in network.modules() if isinstance(one, nn.BatchNorm2d)]


def test_a_file_gives_its_name_to_the_results(named: tuple[str, str], tmp_path: Path) -> None:
    weights = tmp_path / "mine.safetensors"
    network = fb.load_model(named[0], arch="fastnet")
    write_weights(weights, network.state_dict(), describe(network, arch="fastnet"))
    assert fb.evaluate(weights, named[1], config=CONFIG).name == "mine.safetensors"
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        fb.evaluate(str(tmp_path / "none.pt"), named[1], config=CONFIG)


@pytest.mark.parametrize("form", ["loader of floats", "loader of mappings", "pictures", "list of mappings"])
def test_images_without_labels_are_taken_from_the_same_forms(
    form: str, data: ImageSet, model: nn.Module
) -> None:
    few = data.subset(torch.arange(20))
    expected = str(fb.analyze(model, data=few).to_json())
    assert str(fb.analyze(model, data=FORMS[form](few)).to_json()) == expected
    shrunk = [fb.shrink(copy.deepcopy(model), some).conv1.weight for some in (few, FORMS[form](few))]
    torch.testing.assert_close(*shrunk)
    if form.startswith("loader"):
        batches = [few.images[start : start + 5].float() / 255 for start in range(0, 20, 5)]
        found = [recalibrated(some, copy.deepcopy(model)) for some in (batches, FORMS[form](few))]
        assert found[0] == found[1]
