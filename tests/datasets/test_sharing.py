"""Which parts of data sets have images in common."""

from pathlib import Path

import numpy as np
import pytest

from filterbands.datasets import is_one_part, shares_images


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (("cifar10:some/where", "train"), ("cifar10", "train"), True),
        (("cifar10:some/where", "train"), ("cifar10:else/where", "full_train"), True),
        (("cifar10", "full_train"), ("cifar10:where", "validation"), True),
        (("cifar10", "train"), ("cifar10", "validation"), False),
        (("cifar10", "test"), ("cifar10", "full_train"), False),
        (("cifar10", "train"), ("cifar100", "train"), False),
        (("planted:high=0,seed=3", "train"), ("planted:seed=3, high=0.0", "train"), True),
        (("planted:high=0", "train"), ("planted", "train"), False),
        (("planted:knob=1", "train"), ("planted:knob=1", "train"), True),
        (("digits", "test"), ("digits", "test"), True),
        (("npz:a.npz", "train"), ("npz:./b/../a.npz", "test"), True),
        (("npz:a.npz", "test"), ("npz:b.npz", "test"), False),
        (("folder:no", "test"), ("folder:no", "test"), False),
        (("", "test"), ("folder:no", "no split"), False),
    ],
)
def test_parts_go_by_what_their_names_mean(
    one: tuple[str, str], other: tuple[str, str], shared: bool
) -> None:
    assert shares_images(one, other) is shares_images(other, one) is shared


def test_folders_go_by_the_folders_that_a_split_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("split/train", "split/val", "split/test", "flat"):
        for label in ("ant", "bee"):
            (tmp_path / part / label).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "split")
    monkeypatch.chdir(tmp_path)
    for one, other, shared in (
        (("folder:split", "train"), ("folder:link", "train"), True),
        (("folder:split", "train"), ("folder:flat/../split", "full_train"), True),
        (("folder:split", "full_train"), ("folder:split", "validation"), True),
        (("folder:split", "train"), ("folder:split", "test"), False),
        # One of the parts, named as a folder of its own.
        (("folder:split", "train"), ("folder:split/train", "test"), True),
        (("folder:split", "test"), ("folder:split/train", "test"), False),
        (("folder:flat", "train"), ("folder:flat", "test"), True),
        (("folder:flat", "validation"), ("folder:flat", "test"), False),
        (("folder:flat", "test"), ("folder:split", "test"), False),
    ):
        assert shares_images(one, other) is shares_images(other, one) is shared, (one, other)
    assert is_one_part("folder:flat", ("train", "test"))
    assert not is_one_part("folder:split", ("train", "test"))
    assert not is_one_part("folder:gone", ("train", "test"))
    assert is_one_part("npz:a.npz", ("train", "test"))
    assert not is_one_part("cifar10", ("full_train", "train"))


def test_files_of_arrays_go_by_the_parts_in_them(tmp_path: Path) -> None:
    images, labels = np.zeros((2, 4, 4), np.uint8), np.array([0, 1])
    np.savez(tmp_path / "keras.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    np.savez(tmp_path / "one.npz", images=images, labels=labels)
    keras, one = f"npz:{tmp_path / 'keras.npz'}", f"npz:{tmp_path / 'one.npz'}"
    assert not shares_images((keras, "train"), (keras, "test"))
    assert shares_images((keras, "train"), (keras, "full_train"))
    assert not shares_images((keras, "validation"), (keras, "train"))
    assert shares_images((one, "train"), (one, "test"))
    assert is_one_part(one, ("train", "test"))
    assert is_one_part(keras, ("train", "full_train"))
    assert not is_one_part(keras, ("train", "test"))
