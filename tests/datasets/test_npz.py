"""Archives of arrays, good and bad."""

import numpy as np
import pytest

from filterbands.datasets import load_data
from filterbands.datasets.npz import load_npz

IMAGES = np.arange(5 * 8 * 9 * 3, dtype=np.uint8).reshape(5, 8, 9, 3)
LABELS = np.array([0, 2, 1, 2, 0])


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y")])
@pytest.mark.parametrize("first", [False, True])
def test_an_npz_gives_its_arrays_whatever_their_names_and_order(tmp_path, names, first):
    images = IMAGES.transpose(0, 3, 1, 2) if first else IMAGES
    np.savez(tmp_path / "set.npz", **{names[0]: images, names[1]: LABELS.astype(np.uint8)[:, None]})
    data = load_data(f"npz:{tmp_path / 'set.npz'}", split="train")
    assert np.array_equal(data.images.numpy(), IMAGES.transpose(0, 3, 1, 2))
    assert data.labels.tolist() == LABELS.tolist()
    assert (data.classes, data.split, data.name) == (("0", "1", "2"), "train", "npz:set")


def test_an_npz_may_name_its_classes(tmp_path):
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=LABELS, classes=np.array(["a", "b", "c", "d"]))
    assert load_npz(tmp_path / "set.npz").classes == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "arrays named images and labels, .* found images"),
        ({"images": IMAGES / 255, "labels": LABELS}, "must be uint8 from 0 to 255, got float64"),
        ({"images": IMAGES[0, 0], "labels": LABELS}, "must have 4 axes, .* or 3 for gray"),
        ({"images": IMAGES[0], "labels": LABELS[:1]}, "must be 8 whole numbers, one per image"),
        ({"Train_images": IMAGES, "train_labels": LABELS}, "no test part; its splits are train; name one"),
        ({"test_images": IMAGES, "val_labels": LABELS}, "train_images .* found test_images, val_labels"),
        ({"x_test": IMAGES, "y_test": np.ones((5, 3), int)}, "y_test .* images have several labels"),
        ({"x_test": IMAGES, "y_test": LABELS, "x_train": IMAGES, "y_train": -LABELS}, "y_train .* got -2"),
        ({"images": IMAGES[:, :, :, :2], "labels": LABELS}, "neither the 2nd nor the last"),
        ({"images": IMAGES[:, :3], "labels": LABELS}, "either could be the channels"),
        ({"images": IMAGES, "labels": LABELS[:4]}, "must be 5 whole numbers, one per image"),
        ({"images": IMAGES, "labels": LABELS / 2}, "must be 5 whole numbers.* got float64"),
        ({"images": IMAGES, "labels": LABELS - 1}, "class numbers from 0, got -1"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "holds no images"),
        ({"images": IMAGES, "labels": LABELS, "classes": np.array(["a"])}, "at least 3 names"),
        ({"images": IMAGES, "labels": LABELS.astype(object)}, "not an .npz of plain arrays"),
    ],
)
def test_a_wrong_npz_gives_one_clear_line(tmp_path, arrays, message):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        load_npz(tmp_path / "set.npz")
    assert "\n" not in str(caught.value)


def test_files_that_are_not_npz_are_refused(tmp_path):
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=LABELS)
    whole = (tmp_path / "set.npz").read_bytes()
    np.save(tmp_path / "one.npy", IMAGES)
    for name, content in (("half.npz", whole[:300]), ("text.npz", b"no arrays"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(content)
    for name in ("half.npz", "text.npz", "empty.npz", "one.npy"):
        with pytest.raises(ValueError, match=f"{name} is not an .npz of plain arrays"):
            load_npz(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_npz(tmp_path / "missing.npz")
    with pytest.raises(FileNotFoundError, match="is a folder; folder:DIR reads images"):
        load_npz(tmp_path)


def test_an_npz_has_no_validation_part(tmp_path):
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=LABELS)
    with pytest.raises(ValueError, match="has no validation part"):
        load_npz(tmp_path / "set.npz", split="validation")


def test_labels_that_may_count_from_one_are_said(tmp_path, caplog):
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=LABELS + 1)
    load_npz(tmp_path / "set.npz")
    assert "no image has label 0; if labels count from 1, subtract 1" in caplog.text


@pytest.mark.parametrize("names", ["{}_images {}_labels", "x_{} y_{}", "X_{} Y_{}"])
@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_a_split_takes_its_part_of_a_file(tmp_path, names, validation):
    parts = {"train": slice(0, 3), validation: slice(3, 4), "test": slice(4, 5)}
    gray = IMAGES[..., 0]
    arrays = {}
    for part, taken in parts.items():
        pixels, targets = names.format(part, part).split()
        arrays |= {pixels: gray[taken], targets: LABELS.astype(np.uint8)[taken, None]}
    np.savez_compressed(tmp_path / "set.npz", **arrays)
    for split, taken in (
        ("train", slice(0, 3)),
        ("validation", slice(3, 4)),
        ("full_train", slice(0, 4)),
        ("test", slice(4, 5)),
    ):
        data = load_data(f"npz:{tmp_path / 'set.npz'}", split=split)
        # Gray images become three equal channels.
        assert np.array_equal(data.images.numpy(), np.repeat(gray[taken, None], 3, axis=1))
        assert data.labels.tolist() == LABELS[taken].tolist()
        # The number of classes is that of the file, though a part may lack some of them.
        assert (data.classes, data.split) == (("0", "1", "2"), split)
        assert data.index.tolist() == list(range(len(data)))


def test_a_file_without_validation_images_has_them_in_no_split(tmp_path):
    np.savez(tmp_path / "set.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:2], y_test=LABELS[:2])
    assert len(load_npz(tmp_path / "set.npz", split="full_train")) == 5
    with pytest.raises(ValueError, match="has no validation part; its splits are train, test"):
        load_npz(tmp_path / "set.npz", split="validation")


def test_parts_of_one_file_have_one_size(tmp_path):
    arrays = {"x_train": IMAGES, "y_train": LABELS, "x_val": IMAGES[:, :4], "y_val": LABELS}
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(ValueError, match=r"differ in shape, \(3, 4, 9\) and \(3, 8, 9\); take one part"):
        load_npz(tmp_path / "set.npz", split="full_train")


def test_the_arrays_that_are_there_are_named(tmp_path):
    np.savez(tmp_path / "set.npz", pictures=IMAGES, numbers=LABELS)
    with pytest.raises(ValueError, match="found pictures, numbers"):
        load_npz(tmp_path / "set.npz")
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=np.eye(3)[LABELS])
    with pytest.raises(ValueError, match=r"of one column per class take labels\.argmax\(1\)"):
        load_npz(tmp_path / "set.npz")
