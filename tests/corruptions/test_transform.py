"""`Corrupting`, the transform."""

import copy
import pickle
import sys
from collections import OrderedDict, UserDict
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from filterbands.corruptions import Corrupting, corrupt


def images(count: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 16, 20), dtype=torch.uint8, generator=generator)


def test_a_deterministic_kind_gives_what_corrupt_gives() -> None:
    batch = images()
    assert torch.equal(
        Corrupting("contrast", severity=4)(batch), corrupt(batch, "contrast", severity=4, seed=0)
    )


def test_every_image_and_every_call_has_its_own_draws() -> None:
    same = images(1).expand(4, -1, -1, -1)
    transform = Corrupting("gaussian_noise", severity=3)
    first, second = transform(same), transform(same)
    assert len({bytes(image.flatten().tolist()) for image in torch.cat([first, second])}) == 8


def test_torchs_seed_repeats_it() -> None:
    transform = Corrupting("fog")
    torch.manual_seed(5)
    first = transform(images())
    torch.manual_seed(5)
    assert torch.equal(transform(images()), first)


def test_severities_are_drawn_image_by_image() -> None:
    flat = torch.full((200, 3, 8, 8), 100, dtype=torch.uint8)
    values = Corrupting("brightness", severity=(1, 3))(flat)[:, 0, 0, 0]
    assert sorted(values.unique().tolist()) == sorted(
        int(corrupt(flat[:1], "brightness", severity=severity, seed=0)[0, 0, 0, 0]) for severity in (1, 3)
    )
    assert 60 < int((values == values.min()).sum()) < 140


def test_kinds_are_drawn_image_by_image_as_severities_are() -> None:
    flat = torch.full((300, 3, 8, 8), 100, dtype=torch.uint8)
    values = Corrupting(("brightness", "contrast"), severity=(2, 4))(flat)[:, 0, 0, 0]
    expected = {
        int(corrupt(flat[:1], kind, severity=severity, seed=0)[0, 0, 0, 0])
        for kind in ("brightness", "contrast")
        for severity in (2, 4)
    }
    assert set(values.unique().tolist()) == expected
    assert Corrupting("all-but-frost").kinds == Corrupting(["all-but-frost", "fog"]).kinds


def test_one_kind_draws_what_it_drew_before_there_were_several() -> None:
    """The draws of a training with it are part of its result."""
    batch, transform = images(), Corrupting("gaussian_noise", severity=(1, 5))
    torch.manual_seed(3)
    made = transform(batch)
    torch.manual_seed(3)
    seed, choice = int(torch.randint(2**62, ())), torch.randint(2, (len(batch),))
    for number, severity in enumerate((1, 5)):
        chosen = (choice == number).nonzero()[:, 0]
        again = corrupt(batch[chosen], "gaussian_noise", severity=severity, seed=seed, index=chosen)
        assert torch.equal(made[chosen], again)


def test_pictures_and_arrays_come_back_as_such() -> None:
    tensor = images(1)[0]
    array = tensor.permute(1, 2, 0).numpy()
    expected = Corrupting("contrast", severity=3)(tensor).permute(1, 2, 0).numpy()
    transform = Corrupting("contrast", severity=3)
    picture = transform(Image.fromarray(array))
    assert (type(picture), picture.mode) == (Image.Image, "RGB")
    for made in (np.asarray(picture), transform(array), transform(np.stack([array, array]))[1]):
        assert made.dtype == np.uint8
        assert np.array_equal(made, expected)
    made, label = transform((Image.fromarray(array), 3))
    assert (np.asarray(made).tolist(), label) == (expected.tolist(), 3)


def test_gray_images_stay_gray() -> None:
    gray = images(2)[:, :1]
    transform = Corrupting("contrast", severity=3)
    expected = transform(gray)
    assert expected.shape == gray.shape
    assert torch.equal(expected, transform(gray.expand(-1, 3, -1, -1))[:, 1:2])
    picture = transform(Image.fromarray(gray[0, 0].numpy()))
    assert (picture.mode, np.asarray(picture).tolist()) == ("L", expected[0, 0].tolist())
    made = transform(gray.permute(0, 2, 3, 1).numpy())
    assert np.array_equal(made, expected.permute(0, 2, 3, 1).numpy())
    assert torch.equal(transform(gray[0]), expected[0])


class Sample(NamedTuple):
    label: int
    image: torch.Tensor


@pytest.mark.parametrize(
    "sample",
    [
        Sample(3, images(1)[0]),
        OrderedDict(mask=torch.zeros(1, 16, 20), image=images(1)[0]),
        UserDict(label=3, image=images(1)[0]),
    ],
    ids=lambda sample: type(sample).__name__,
)
def test_a_sample_keeps_its_type_and_only_its_image_changes(sample: Any) -> None:
    made = Corrupting("contrast", severity=1)(sample)
    assert type(made) is type(sample)
    if isinstance(sample, Sample):
        made, sample = made._asdict(), sample._asdict()
    assert list(made) == list(sample)
    for key, part in sample.items():
        assert (made[key] is part) == (key != "image")


class TVTensor(torch.Tensor):
    """What torchvision's types are to this package."""


class TVImage(TVTensor):
    def __getitem__(self, place: Any) -> torch.Tensor:
        return self.as_subclass(torch.Tensor)[place]


class Boxes(TVTensor):
    pass


def test_masks_and_boxes_of_torchvision_are_no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = SimpleNamespace(TVTensor=TVTensor, Image=TVImage, Video=TVImage)
    monkeypatch.setitem(sys.modules, "torchvision.tv_tensors", typed)
    image, transform = images(1)[0].as_subclass(TVImage), Corrupting("contrast", severity=1)
    boxes = torch.zeros(2, 3, 16, 16, dtype=torch.uint8).as_subclass(Boxes)
    first, made, last = transform((boxes, image, images()))
    assert first is boxes
    assert type(made) is TVImage
    assert not torch.equal(made.as_subclass(torch.Tensor), image.as_subclass(torch.Tensor))
    assert torch.equal(last, images())
    with pytest.raises(ValueError, match=r"found no image in the sample, expected .* got Boxes, int"):
        transform((boxes, 3))


@pytest.mark.parametrize("wrap", [tuple, list])
def test_only_the_image_of_a_sample_is_corrupted(wrap: type) -> None:
    image = images(1)[0]
    made = Corrupting("contrast", severity=1)(wrap([image, 3]))
    assert type(made) is wrap
    assert made[1] == 3
    assert made[0].shape == image.shape
    assert not torch.equal(made[0], image)


def test_only_the_image_of_a_mapping_is_corrupted() -> None:
    made = Corrupting("contrast", severity=1)({"label": 3, "image": images(1)[0]})
    assert list(made) == ["label", "image"]
    assert made["label"] == 3


def test_the_type_of_an_image_is_kept() -> None:
    class Picture(torch.Tensor):
        pass

    made = Corrupting("contrast", severity=1)(images(1)[0].as_subclass(Picture))
    assert isinstance(made, Picture)


def test_it_works_in_a_chain_and_survives_pickling_and_copying() -> None:
    transform = Corrupting("contrast", severity=2)
    chain = nn.Sequential(transform, nn.Identity())
    assert torch.equal(chain(images()), transform(images()))
    assert torch.equal(pickle.loads(pickle.dumps(transform))(images()), transform(images()))
    assert "contrast" in repr(copy.deepcopy(transform))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "fogg"}, "did you mean fog"),
        ({"kind": "fog", "severity": 6}, "severity of 1, 2, 3, 4 or 5, got 6"),
        ({"kind": "fog", "severity": ()}, "at least one severity"),
        ({"kind": ()}, "at least one kind"),
        ({"kind": ("fog", "fogg")}, "did you mean fog"),
        ({"kind": "fog", "parameters": "cifer"}, "parameters 'cifar' or 'imagenet'"),
    ],
)
def test_mistakes_are_found_at_construction(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Corrupting(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (object(), r"got object; convert"),
        (torch.rand(3, 16, 16), r"got torch.float32; convert"),
        (images(1)[0].permute(1, 2, 0), r"channels last; convert"),
        (torch.zeros(16, 16, dtype=torch.uint8), r"got \(16, 16\)"),
        (Image.new("P", (16, 16)), r"mode RGB or L, got mode P; convert them with image\.convert"),
        (np.zeros((16, 16, 3), dtype=np.float32), r"got torch.float32; convert"),
        ({"label": 3}, r"found no image in the sample"),
    ],
)
def test_inputs_that_are_not_bytes_are_refused_with_the_line_that_converts_them(
    image: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Corrupting("fog")(image)


def test_severities_may_be_an_array() -> None:
    for severity in (np.array([1, 3]), torch.tensor([1, 3]), np.array(3), torch.tensor(3)):
        assert Corrupting("fog", severity=severity).severities[-1] == 3
