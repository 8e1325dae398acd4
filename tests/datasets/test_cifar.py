"""CIFAR is read from small files of the standard formats; damaged files are refused."""

import pickle
import struct
from functools import partial

import numpy as np
import pytest
import torch

from filterbands.datasets import CIFARS, cifar, load_data
from filterbands.datasets.cifar import load_cifar

load_cifar10 = partial(load_cifar, CIFARS["cifar10"])
load_cifar100 = partial(load_cifar, CIFARS["cifar100"])
BATCH, VALIDATION = 20, 10
NAMES = {10: [f"name_{number}" for number in range(10)], 100: [f"name_{number:02}" for number in range(100)]}


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr(cifar, "_BATCH", BATCH)
    monkeypatch.setattr(cifar, "_VALIDATION", VALIDATION)


def content(batch: int, *, classes: int = 10, count: int = BATCH):
    """Return made-up pixels and labels of a batch; the test batch is number 6."""
    random = np.random.default_rng(batch)
    return random.integers(0, 256, (count, 3072), dtype=np.uint8), random.integers(0, classes, count)


def write_binary(folder):
    folder.mkdir(parents=True)
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    for number, name in enumerate(names, start=1):
        pixels, labels = content(number)
        np.concatenate([labels.astype(np.uint8)[:, None], pixels], axis=1).tofile(folder / name)
    (folder / "batches.meta.txt").write_text("\n".join(NAMES[10]) + "\n\n")
    return folder


def write_pickled(folder, write):
    folder.mkdir(parents=True)
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    for number, name in enumerate(names, start=1):
        pixels, labels = content(number)
        (folder / name).write_bytes(write({"data": pixels, "labels": labels.tolist()}))
    (folder / "batches.meta").write_bytes(write({"label_names": NAMES[10]}))
    return folder


def python2(value) -> bytes:
    """Return what Python 2 and the numpy of 2009 wrote under protocol 2, opcode by opcode."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value) -> bytes:
    if isinstance(value, dict):
        return b"}(" + b"".join(_python2(key) + _python2(item) for key, item in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"T" + struct.pack("<i", len(value)) + value
    shape = b"".join(map(_python2, value.shape))
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return start + b"(K\x01" + shape + b"\x86" + dtype + b"\x89" + _python2(value.tobytes()) + b"tb"


WRITERS = {
    "python2": python2,
    **{
        f"protocol{number}": lambda value, number=number: pickle.dumps(value, protocol=number)
        for number in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


def check_content(data, batches):
    pixels, labels = (np.concatenate([content(number)[part] for number in batches]) for part in (0, 1))
    assert np.array_equal(data.images.numpy(), pixels.reshape(-1, 3, 32, 32))
    assert np.array_equal(data.labels.numpy(), labels)
    assert data.classes == tuple(NAMES[10])
    assert data.name == "cifar10"


def test_binary_files_give_every_image_in_order(tmp_path):
    write_binary(tmp_path / "cifar-10-batches-bin")
    check_content(load_cifar10(tmp_path / "cifar-10-batches-bin", split="full_train"), range(1, 6))
    check_content(load_cifar10(tmp_path), [6])
    check_content(load_data(f"cifar10:{tmp_path}"), [6])


@pytest.mark.parametrize("writer", WRITERS)
def test_pickled_files_of_either_python_give_every_image_in_order(tmp_path, writer):
    write_pickled(tmp_path / "cifar-10-batches-py", WRITERS[writer])
    check_content(load_cifar10(tmp_path, split="full_train"), range(1, 6))
    check_content(load_cifar10(tmp_path / "cifar-10-batches-py"), [6])


def test_python2_pickles_are_read_as_by_pickle_itself():
    pixels, labels = content(1)
    read = pickle.loads(python2({"data": pixels, "labels": labels.tolist()}), encoding="bytes")
    assert np.array_equal(read[b"data"], pixels)
    assert read[b"labels"] == labels.tolist()


def test_both_formats_have_one_fingerprint(tmp_path):
    write_binary(tmp_path / "a" / "cifar-10-batches-bin")
    write_pickled(tmp_path / "b" / "cifar-10-batches-py", python2)
    assert load_cifar10(tmp_path / "a").fingerprint() == load_cifar10(tmp_path / "b").fingerprint()


def test_train_and_validation_are_the_first_and_last_of_full_train(tmp_path):
    write_binary(tmp_path / "x")
    full = load_cifar10(tmp_path / "x", split="full_train")
    train = load_cifar10(tmp_path / "x", split="train")
    validation = load_cifar10(tmp_path / "x", split="validation")
    assert (len(train), len(validation)) == (5 * BATCH - VALIDATION, VALIDATION)
    assert torch.equal(torch.cat([train.images, validation.images]), full.images)
    assert torch.equal(torch.cat([train.labels, validation.labels]), full.labels)
    assert torch.equal(validation.index, torch.arange(VALIDATION))


def test_the_real_sizes_are_45000_5000_and_10000(monkeypatch):
    monkeypatch.undo()
    assert (5 * cifar._BATCH - cifar._VALIDATION, cifar._VALIDATION, cifar._BATCH) == (45_000, 5_000, 10_000)


@pytest.mark.parametrize("pickled", [False, True])
def test_cifar100_has_fine_labels_and_their_names(tmp_path, pickled):
    folder = tmp_path / ("cifar-100-python" if pickled else "cifar-100-binary")
    folder.mkdir()
    for number, (name, count) in enumerate((("train", 5 * BATCH), ("test", BATCH)), start=1):
        pixels, labels = content(number, classes=100, count=count)
        coarse = labels // 5
        if pickled:
            batch = {"data": pixels, "fine_labels": labels.tolist(), "coarse_labels": coarse.tolist()}
            (folder / name).write_bytes(python2(batch))
        else:
            front = np.stack([coarse, labels], axis=1).astype(np.uint8)
            np.concatenate([front, pixels], axis=1).tofile(folder / f"{name}.bin")
    if pickled:
        (folder / "meta").write_bytes(python2({"fine_label_names": NAMES[100]}))
    else:
        (folder / "fine_label_names.txt").write_text("\n".join(NAMES[100]))
    data = load_cifar100(tmp_path)
    pixels, labels = content(2, classes=100)
    assert np.array_equal(data.images.numpy(), pixels.reshape(-1, 3, 32, 32))
    assert np.array_equal(data.labels.numpy(), labels)
    assert data.classes == tuple(NAMES[100])
    assert len(load_data(f"cifar100:{folder}", split="train")) == 5 * BATCH - VALIDATION


def test_a_folder_that_is_not_the_data_set_says_what_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not cifar10: looked .* for cifar-10-batches-bin .* or "):
        load_cifar10(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_cifar10(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match="is a file"):
        load_cifar10(tmp_path / "file")


def test_an_incomplete_folder_names_what_it_lacks(tmp_path):
    folder = write_binary(tmp_path / "cifar-10-batches-bin")
    (folder / "data_batch_3.bin").unlink()
    (folder / "batches.meta.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks data_batch_3\.bin, batches\.meta\.txt"):
        load_cifar10(tmp_path)


def test_a_whole_format_is_taken_before_an_incomplete_one(tmp_path):
    folder = write_binary(tmp_path / "cifar-10-batches-bin")
    (folder / "test_batch.bin").unlink()
    write_pickled(tmp_path / "cifar-10-batches-py", python2)
    check_content(load_cifar10(tmp_path), [6])


def test_a_truncated_binary_file_says_expected_and_found_bytes(tmp_path):
    file = write_binary(tmp_path / "x") / "test_batch.bin"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(
        ValueError, match=r"test_batch\.bin is truncated: expected 61,460 bytes .* found 60,460"
    ):
        load_cifar10(tmp_path / "x")
    file.write_bytes(bytes(61_461))
    with pytest.raises(ValueError, match=r"too long: expected 61,460 bytes"):
        load_cifar10(tmp_path / "x")


def test_a_truncated_pickle_says_so(tmp_path):
    file = write_pickled(tmp_path / "x", python2) / "test_batch"
    whole = file.read_bytes()
    file.write_bytes(whole[:50_000])
    with pytest.raises(
        ValueError, match=r"test_batch is truncated: expected at least 61,440 bytes .* found 50,000"
    ):
        load_cifar10(tmp_path / "x")
    for length in (61_450, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="test_batch is not a whole CIFAR pickle"):
            load_cifar10(tmp_path / "x")


def test_a_label_out_of_range_is_named(tmp_path):
    file = write_binary(tmp_path / "x") / "test_batch.bin"
    whole = bytearray(file.read_bytes())
    whole[3073] = 10
    file.write_bytes(whole)
    with pytest.raises(ValueError, match="expected labels 0 to 9, got 10"):
        load_cifar10(tmp_path / "x")


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"data": np.zeros((BATCH, 3072)), "labels": [0] * BATCH}, "an array of 'f8'"),
        (
            {"data": np.zeros((BATCH, 3000), np.uint8), "labels": [0] * BATCH},
            r"shape \(20, 3072\), got uint8",
        ),
        ({"data": np.zeros((BATCH, 3072), np.uint8), "labels": [0] * 19}, "20 whole numbers, got 19"),
        ({"data": np.zeros((BATCH, 3072), np.uint8), "labels": ["a"] * BATCH}, "20 whole numbers, got 20"),
        ({"data": np.zeros((BATCH, 3072), np.uint8)}, "labels as 20 whole numbers, got NoneType"),
        ({"labels": [0] * BATCH, "x": b" " * 70_000}, "got NoneType"),
        ([b" " * 70_000], "expected a dict, got list"),
    ],
)
def test_a_pickle_of_something_else_gives_one_clear_line(tmp_path, batch, message):
    file = write_pickled(tmp_path / "x", python2) / "test_batch"
    file.write_bytes(pickle.dumps(batch).ljust(61_440, b" "))
    with pytest.raises(ValueError, match=message) as caught:
        load_cifar10(tmp_path / "x")
    assert "\n" not in str(caught.value)


def test_labels_pickled_as_an_array_are_read(tmp_path):
    folder = write_pickled(tmp_path / "x", python2)
    pixels, labels = content(6)
    (folder / "test_batch").write_bytes(pickle.dumps({"data": np.asfortranarray(pixels), "labels": labels}))
    check_content(load_cifar10(tmp_path / "x"), [6])


class Attack:
    """Makes the file whose name it holds when it is unpickled carelessly."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path, protocol):
    file = write_pickled(tmp_path / "x", python2) / "test_batch"
    attack = {"data": Attack(tmp_path / "harm"), "x": "a" * 70_000}
    file.write_bytes(pickle.dumps(attack, protocol=protocol))
    with pytest.raises(ValueError, match=r"test_batch is refused, .* it holds .*open"):
        load_cifar10(tmp_path / "x")
    assert not (tmp_path / "harm").exists()


def test_an_unknown_split_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="no split 'dev'; splits are train, validation, full_train, test"):
        load_cifar10(tmp_path, split="dev")
