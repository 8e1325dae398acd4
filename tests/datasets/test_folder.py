"""Folders of image files, good and bad."""

import numpy as np
import pytest
import torch
from PIL import Image

from filterbands.datasets import Reading, decoding, load_data
from filterbands.datasets.decoding import read_images
from filterbands.datasets.folder import list_images, load_folder


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
    assert np.array_equal(
        read_images((tmp_path / "1.png",), reading=Reading(size=8))[0].numpy(), pixels.transpose(2, 0, 1)
    )


def test_more_images_than_fit_into_memory_are_refused_before_reading(tmp_path, monkeypatch):
    write(tmp_path / "1.png")
    monkeypatch.setattr(decoding, "_LARGEST", 8 * 8 * 3 * 2)
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


def test_images_in_folders_of_a_class_folder_belong_to_the_class(tmp_path):
    for name in ("a/1.png", "a/images/2.JPEG", "a/images/deep/3.tif", "b/1.pgm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / name)
    files = list_images(tmp_path)
    assert files.names == ("a/1.png", "a/images/2.JPEG", "a/images/deep/3.tif", "b/1.pgm")
    assert files.labels == (0, 0, 0, 1)


def test_what_is_not_read_is_counted_and_named_except_hidden_files_and_rubbish(tmp_path, caplog):
    for name in "ab":
        write(tmp_path / name / "1.png")
        for rubbish in ("Thumbs.db", ".DS_Store", "desktop.ini"):
            (tmp_path / name / rubbish).write_text("")
    write(tmp_path / "__MACOSX" / "a" / "._1.png")
    assert list_images(tmp_path).classes == ("a", "b")
    assert not caplog.messages
    (tmp_path / "a" / "2.tga").write_text("")
    (tmp_path / "a" / "sub").mkdir()
    (tmp_path / "a" / "sub" / "3.jp2").write_text("")
    write(tmp_path / "loose.png")
    list_images(tmp_path)
    (said,) = caplog.messages
    assert "3 files or folders are not read: " in said
    assert all(name in said for name in ("loose.png", "a/2.tga", "a/sub/3.jp2"))


def test_folders_beside_those_of_the_splits_are_named(tmp_path, caplog):
    for part in ("train", "test", "val", "validation", "extra"):
        for name in "ab":
            write(tmp_path / part / name / "1.png")
    list_images(tmp_path)
    assert "2 files or folders are not read" in caplog.text
    assert "extra" in caplog.text


def test_a_split_folder_without_class_folders_of_train_numbers_no_class(tmp_path):
    for name in ("n1", "n2"):
        write(tmp_path / "train" / name / "images" / "a.png")
    write(tmp_path / "val" / "images" / "a.png")
    assert list_images(tmp_path, split="train").labels == (0, 1)
    with pytest.raises(
        ValueError, match=r"val has no class folder that train has \(images\); sort its files"
    ):
        list_images(tmp_path, split="validation")


def test_a_class_that_train_lacks_is_said(tmp_path, caplog):
    for place in ("train/ant", "train/bee", "test/ant", "test/cow"):
        write(tmp_path / place / "a.png")
    assert list_images(tmp_path, split="test").labels == (0, 2)
    assert "test has class folders that train lacks, numbered with the others: cow" in caplog.text


@pytest.mark.parametrize(
    ("train", "test"), [("Train", "Test"), ("training", "testing"), ("TRAIN", "Testing")]
)
def test_split_folders_of_other_names_are_split_folders(tmp_path, train, test):
    for place in (train, test):
        write(tmp_path / place / "ant" / "a.png")
        write(tmp_path / place / "bee" / "b.png")
    for split in ("train", "test"):
        assert list_images(tmp_path, split=split).classes == ("ant", "bee")
    write(tmp_path / "valid" / "bee" / "c.png")
    assert list_images(tmp_path, split="validation").labels == (1,)


def test_a_flat_split_folder_and_a_folder_too_many_are_named(tmp_path):
    write(tmp_path / "d" / "train" / "ant" / "a.png")
    write(tmp_path / "d" / "train" / "bee" / "a.png")
    write(tmp_path / "d" / "test" / "a.png")
    with pytest.raises(FileNotFoundError, match="test has no class folders in it; sort its files"):
        list_images(tmp_path / "d", split="test")
    write(tmp_path / "e" / "inner" / "ant" / "a.png")
    write(tmp_path / "e" / "inner" / "bee" / "a.png")
    with pytest.raises(
        ValueError, match=r"found 1 \(inner\); if its class folders lie in there, name folder:"
    ):
        list_images(tmp_path / "e")


def test_a_class_has_one_number_however_its_letters_are_composed(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    for place in (f"train/{composed}", "train/zoo", f"test/{decomposed}", "test/zoo"):
        write(tmp_path / place / "a.png")
    for split in ("train", "test"):
        found = list_images(tmp_path, split=split)
        assert (found.labels, found.classes) == ((0, 1), (composed, "zoo"))
    write(tmp_path / "train" / decomposed / "b.png")
    if len(list((tmp_path / "train").iterdir())) == 3:
        with pytest.raises(ValueError, match="two class folders of one name"):
            list_images(tmp_path, split="train")
