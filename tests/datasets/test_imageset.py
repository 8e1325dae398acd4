"""The fingerprint of images tells apart whatever differs, and stays what it was."""

import hashlib
import subprocess
import sys
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
    data = replace(DATA, labels=torch.zeros(2, dtype=torch.int64))
    listed = [
        ("a\x1fb", "c"),
        ("a", "b\x1fc"),
        ("a", "b", "c"),
        ("\x1f", "a"),
        ("", "", "a"),
        ('["a\x1fb"]',),
    ]
    assert len({replace(data, classes=names).fingerprint() for names in listed}) == len(listed)


@pytest.mark.parametrize("classes", [("cat", "dog"), ("", ""), ("ä",)])
def test_the_fingerprint_of_other_names_is_that_of_version_0_1(classes: tuple[str, ...]) -> None:
    data = replace(DATA, labels=torch.zeros(2, dtype=torch.int64))
    digest = hashlib.sha256()
    for array in (data.images, data.labels, data.index):
        digest.update(f"{array.dtype} {tuple(array.shape)}".encode() + array.numpy().tobytes())
    digest.update("\x1f".join(classes).encode())
    assert replace(data, classes=classes).fingerprint() == digest.hexdigest()


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


TRIED = """
import torch
from dataclasses import replace
from filterbands.datasets import ImageSet
two = torch.arange(2)
good = ImageSet(
    name="set",
    split="test",
    images=torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
    labels=two,
    classes=("cat", "dog"),
    index=two,
)
for change in (
    {"images": torch.rand(2, 3, 8, 8)},
    {"images": good.images[0]},
    {"labels": two[:1]},
    {"labels": two + 1},
    {"labels": two - 1},
    {"index": two.float()},
):
    try:
        replace(good, **change)
    except ValueError as error:
        print(error)
    else:
        print("taken")
"""


def test_what_would_be_scored_wrongly_is_refused() -> None:
    # In a process of its own: the tests' own checks of types would refuse it first.
    done = subprocess.run([sys.executable, "-c", TRIED], capture_output=True, text=True, check=True)
    assert [line.partition(";")[0] for line in done.stdout.splitlines()] == [
        "ImageSet needs uint8 images of shape (b, c, h, w), got torch.float32 of shape (2, 3, 8, 8)",
        "ImageSet needs uint8 images of shape (b, c, h, w), got torch.uint8 of shape (3, 8, 8)",
        "ImageSet needs int64 labels, one per image, got torch.int64 of shape (1,) for 2 images",
        "ImageSet needs labels from 0 to 1, since it has 2 class names, got 1 to 2",
        "ImageSet needs labels from 0 to 1, since it has 2 class names, got -1 to 0",
        "ImageSet needs int64 index, one per image, got torch.float32 of shape (2,) for 2 images",
    ]
