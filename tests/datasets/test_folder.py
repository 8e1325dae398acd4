"""Folders of image files and archives of arrays, good and bad."""

import numpy as np
import pytest
import torch
from PIL import Image

from filterbands.datasets import folder as folder_module
from filterbands.datasets import load_data
from filterbands.datasets.folder import list_images, load_folder, load_npz, read_images


def write(path, *, height=8, width=8, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_a_folder_gives_its_images_by_class_and_name(tmp_path):
    second = write(tmp_path / "cat" / "b.png", seed=1)
    first = write(tmp_path / "cat" / "a.bmp", seed=2)
    third = write(tmp_path / "ant" / "z.PNG", seed=3)
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "cat" / ".hidden.png").write_text("not an image")
    (tmp_path / ".git").mkdir()
    data = load_data(f"folder:{tmp_path}")
    assert data.classes == ("ant", "cat")
    assert data.labels.tolist() == [0, 1, 1]
    expected = np.stack([third, first, second]).transpose(0, 3, 1, 2)
    assert np.array_equal(data.images.numpy(), expected)
    assert data.images.is_contiguous()
    assert data.name == f"folder:{tmp_path.name}"


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "webp"])
def test_lossy_formats_are_read(tmp_path, suffix):
    Image.new("RGB", (8, 8), (200, 100, 50)).save(tmp_path / f"a.{suffix}")
    images = read_images((tmp_path / f"a.{suffix}",))
    color = images.double().mean(dim=(0, 2, 3))
    torch.testing.assert_close(color, torch.tensor([200.0, 100, 50], dtype=torch.float64), rtol=0, atol=4)


def test_gray_and_transparent_images_become_rgb(tmp_path):
    Image.new("L", (4, 4), 7).save(tmp_path / "a.png")
    Image.new("RGBA", (4, 4), (7, 7, 7, 9)).save(tmp_path / "b.png")
    assert torch.equal(
        read_images((tmp_path / "a.png", tmp_path / "b.png")), torch.full((2, 3, 4, 4), 7).byte()
    )


def test_split_folders_are_used_and_number_the_classes_alike(tmp_path):
    for part, names in (("train", "abc"), ("val", "ab"), ("test", "bc")):
        for name in names:
            write(tmp_path / part / name / "1.png")
    assert load_folder(tmp_path, split="train").labels.tolist() == [0, 1, 2]
    assert load_folder(tmp_path, split="validation").labels.tolist() == [0, 1]
    assert load_folder(tmp_path, split="test").labels.tolist() == [1, 2]
    assert load_folder(tmp_path, split="full_train").labels.tolist() == [0, 1, 2, 0, 1]
    assert load_folder(tmp_path, split="test").classes == ("a", "b", "c")


def test_a_class_named_train_is_a_class(tmp_path):
    write(tmp_path / "train" / "1.png")
    write(tmp_path / "plane" / "1.png")
    assert list_images(tmp_path).classes == ("plane", "train")


def test_a_missing_split_is_named_with_those_that_are_there(tmp_path):
    for name in "ab":
        write(tmp_path / "train" / name / "1.png")
        write(tmp_path / "validation" / name / "1.png")
    with pytest.raises(FileNotFoundError, match="has no test folder; its splits are train, validation"):
        load_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="has no validation part"):
        load_folder(tmp_path / "train", split="validation")
    with pytest.raises(ValueError, match="no split 'dev'"):
        load_folder(tmp_path, split="dev")


def test_mixed_sizes_name_two_files_and_what_to_do(tmp_path):
    write(tmp_path / "a" / "1.png", height=8, width=6)
    write(tmp_path / "b" / "2.png", height=9, width=6)
    with pytest.raises(ValueError, match=r"1\.png is 8x6 and .*2\.png is 9x6 .* give --size N"):
        load_folder(tmp_path)


def test_size_resizes_the_short_side_and_crops_the_center(tmp_path):
    # Red, green and blue thirds: the center square of the green one stays.
    pixels = np.zeros((20, 60, 3), dtype=np.uint8)
    for third in range(3):
        pixels[:, 20 * third : 20 * (third + 1), third] = 255
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "1.png")
    write(tmp_path / "a" / "2.png", height=31, width=17)
    images = load_data(f"folder:{tmp_path}", size=10).images
    assert tuple(images.shape) == (3, 3, 10, 10)
    green = torch.zeros(3, 10, 8, dtype=torch.uint8)
    green[1] = 255
    # Bilinear filtering mixes the outermost columns with the neighboring third.
    assert torch.equal(images[0][:, :, 1:-1], green)


def test_size_of_the_images_own_side_changes_nothing(tmp_path):
    pixels = write(tmp_path / "1.png")
    assert np.array_equal(read_images((tmp_path / "1.png",), size=8)[0].numpy(), pixels.transpose(2, 0, 1))


def test_more_images_than_fit_into_memory_are_refused_before_reading(tmp_path, monkeypatch):
    write(tmp_path / "1.png")
    monkeypatch.setattr(folder_module, "_LARGEST", 8 * 8 * 3 * 2)
    assert len(read_images((tmp_path / "1.png",) * 2)) == 2
    with pytest.raises(ValueError, match=r"3 images of 8x8 take .* GiB decoded"):
        read_images((tmp_path / "1.png", tmp_path / "missing.png", tmp_path / "missing.png"))


def test_damaged_files_are_named(tmp_path):
    write(tmp_path / "whole.png", height=64, width=64)
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"half\.png cannot be read: .*truncated"):
        read_images((tmp_path / "half.png",))
    with pytest.raises(ValueError, match=r"text\.png cannot be read: not an image"):
        read_images((tmp_path / "text.png",))


def test_sixteen_bit_images_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 5_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png has samples wider than a byte"):
        read_images((tmp_path / "deep.png",))


def test_folders_without_classes_or_images_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_folder(tmp_path / "nothing")
    with pytest.raises(ValueError, match="at least 2 class folders of images, found 0"):
        load_folder(tmp_path)
    write(tmp_path / "a" / "1.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match=r"b holds no images \(\.png"):
        load_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="is a file; npz:FILE reads arrays"):
        load_folder(tmp_path / "a" / "1.png")


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
        ({"images": IMAGES}, "arrays named images and labels .* found images"),
        ({"images": IMAGES / 255, "labels": LABELS}, "must be uint8 from 0 to 255, got float64"),
        ({"images": IMAGES[..., 0], "labels": LABELS}, "must have 4 axes"),
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
