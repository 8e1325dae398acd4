"""`Corrupting`, the transform."""

import copy
import pickle

import pytest
import torch
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
        (torch.zeros(1, 16, 16, dtype=torch.uint8), r"repeat gray images"),
    ],
)
def test_inputs_that_are_not_bytes_are_refused_with_the_line_that_converts_them(
    image: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Corrupting("fog")(image)
