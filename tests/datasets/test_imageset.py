"""The fingerprint of images tells apart whatever differs, and stays what it was."""

import hashlib
from dataclasses import replace

import pytest
import torch

from filterbands.datasets import ImageSet
from filterbands.evaluation import as_source

DATA = ImageSet(
    name="set",
    split="test",
    images=torch.arange(2 * 3 * 8 * 8).reshape(2, 3, 8, 8).to(torch.uint8),
    labels=torch.tensor([0, 1]),
    classes=("cat", "dog"),
    index=torch.arange(2),
)


def test_names_that_hold_the_separator_are_not_those_of_others() -> None:
    listed = [
        ("a\x1fb", "c"),
        ("a", "b\x1fc"),
        ("a", "b", "c"),
        ("\x1f", "a"),
        ("", "", "a"),
        ('["a\x1fb"]',),
    ]
    assert len({replace(DATA, classes=names).fingerprint() for names in listed}) == len(listed)


@pytest.mark.parametrize("classes", [("cat", "dog"), ("", ""), ("ä",), ()])
def test_the_fingerprint_of_other_names_is_that_of_version_0_1(classes: tuple[str, ...]) -> None:
    digest = hashlib.sha256()
    for array in (DATA.images, DATA.labels, DATA.index):
        digest.update(f"{array.dtype} {tuple(array.shape)}".encode() + array.numpy().tobytes())
    digest.update("\x1f".join(classes).encode())
    assert replace(DATA, classes=classes).fingerprint() == digest.hexdigest()


def test_a_data_set_with_such_names_is_the_image_set_of_the_same_images() -> None:
    class Named(torch.utils.data.Dataset[dict[str, object]]):
        def __init__(self) -> None:
            names = type("Label", (), {"names": ["a\x1fb", "c"]})()
            self.features = {"label": names}

        def __len__(self) -> int:
            return 2

        def __getitem__(self, number: int) -> dict[str, object]:
            return {"image": DATA.images[number].permute(1, 2, 0).numpy(), "label": number}

    same = replace(DATA, classes=("a\x1fb", "c"))
    assert as_source(Named()).fingerprint == same.fingerprint()
