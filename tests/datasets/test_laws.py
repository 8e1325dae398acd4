"""What the docs state of readers and sets of images as a law: what was written is read, whatever its form."""

import pickle
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from filterbands.datasets import (
    CIFARS,
    ImageSet,
    Reading,
    cifar,
    limited_positions,
    load_data,
    sorted_by_class,
)
from filterbands.datasets.decoding import read_images
from filterbands.datasets.planted import PlantedConfig, planted, read_knobs

seeds = st.integers(0, 2**31)
sides = st.integers(4, 20)
label_lists = st.lists(st.integers(0, 5), min_size=1, max_size=40)


def pixels(count: int, height: int, width: int, channels: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


@given(
    label_lists,
    *(sides, sides, st.sampled_from([1, 3]), st.booleans(), st.booleans(), st.booleans()),
    *(st.sampled_from(["u1", "i2", "i8", ">i4"]), st.none() | st.integers(0, 3), seeds),
)
@settings(max_examples=25)
def test_an_npz_is_read_as_it_was_written(
    labels, height, width, channels, first, packed, short, dtype, more, seed
):
    images = pixels(len(labels), height, width, channels, seed)
    names = ("x", "y") if short else ("images", "labels")
    written = {names[0]: images.transpose(0, 3, 1, 2) if first else images, names[1]: np.array(labels, dtype)}
    if more is not None:
        written["classes"] = np.array([f"class {number}" for number in range(max(labels) + 1 + more)])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "set.npz"
        (np.savez_compressed if packed else np.savez)(file, **written)
        data = load_data(f"npz:{file}", split="train")
        assert data.fingerprint() == load_data(f"npz:{file}", split="train").fingerprint()
    assert np.array_equal(data.images.numpy(), images.transpose(0, 3, 1, 2))
    assert data.labels.tolist() == labels
    assert len(data.classes) == max(labels) + 1 + (more or 0)
    assert data.index.tolist() == list(range(len(labels)))


@given(
    st.dictionaries(st.integers(0, 9), st.integers(1, 3), min_size=2, max_size=4),
    *(sides, sides, st.sampled_from([".png", ".bmp", ".ppm", ".tiff", ".PNG"]), seeds),
)
@settings(max_examples=15)
def test_a_folder_is_read_as_it_was_written_by_class_and_name(counts, height, width, suffix, seed):
    images = pixels(sum(counts.values()), height, width, 3, seed)
    with tempfile.TemporaryDirectory() as folder:
        number = 0
        for label in sorted(counts):
            place = Path(folder) / f"class {label}"
            place.mkdir()
            for one in range(counts[label]):
                Image.fromarray(images[number]).save(place / f"{one}{suffix}")
                number += 1
        data = load_data(f"folder:{folder}")
    assert np.array_equal(data.images.numpy(), images.transpose(0, 3, 1, 2))
    assert data.classes == tuple(f"class {label}" for label in sorted(counts))
    assert Counter(data.labels.tolist()) == Counter(
        dict(enumerate(counts[label] for label in sorted(counts)))
    )


@given(
    *(st.integers(1, 40), st.integers(1, 40), st.integers(4, 24), st.integers(4, 24)),
    *(st.sampled_from(["bilinear", "bicubic"]), seeds),
)
@settings(max_examples=20)
def test_a_resized_short_side_is_the_side_and_a_crop_is_the_square_and_equal_sides_change_nothing(
    height, width, resize, crop, interpolation, seed
):
    image = pixels(1, height, width, 3, seed)[0]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.png"
        Image.fromarray(image).save(file)
        resized = read_images([file], reading=Reading(resize=resize, interpolation=interpolation))
        short, long = min(height, width), max(height, width)
        assert min(resized.shape[2:]) == resize
        assert max(resized.shape[2:]) == int(resize * long / short)
        cropped = read_images([file], reading=Reading(resize=resize, crop=crop, interpolation=interpolation))
        assert tuple(cropped.shape) == (1, 3, crop, crop)
        same = read_images([file], reading=Reading(resize=short))
        assert np.array_equal(same[0].permute(1, 2, 0).numpy(), image)
        square = read_images([file], reading=Reading(size=resize))
        assert torch.equal(square, read_images([file], reading=Reading(resize=resize, crop=resize)))


@pytest.mark.parametrize("name", sorted(CIFARS))
@given(st.data(), st.integers(2, 4), seeds)
@settings(max_examples=8)
def test_cifar_is_read_as_it_was_written_in_either_version_and_split(name, data, each, seed):
    kind = CIFARS[name]
    batches = len(kind.binary.training)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(cifar, "_BATCH", 5 * each)
        patch.setattr(cifar, "_VALIDATION", 3)
        count = dict.fromkeys(kind.binary.training, 25 * each // batches) | {kind.binary.test: 5 * each}
        written = {
            file: pixels(number, 32, 32, 3, seed + n) for n, (file, number) in enumerate(count.items())
        }
        draw = np.random.default_rng(seed)
        labels = {file: draw.integers(0, kind.classes, number) for file, number in count.items()}
        names = [f"name{number}" for number in range(kind.classes)]
        binary, pickled = Path(folder) / "binary", Path(folder) / "pickled"
        binary.mkdir()
        pickled.mkdir()
        (binary / kind.binary.meta).write_text("\n".join(names))
        (pickled / kind.pickled.meta).write_bytes(pickle.dumps({kind.pickled.names: names}, protocol=2))
        for file, other in zip(count, (*kind.pickled.training, kind.pickled.test), strict=True):
            flat = written[file].transpose(0, 3, 1, 2).reshape(count[file], -1)
            head = np.zeros((count[file], kind.binary.label_bytes), dtype=np.uint8)
            head[:, -1] = labels[file]
            np.concatenate([head, flat], axis=1).tofile(binary / file)
            content = {"data": flat, kind.pickled.label: labels[file].tolist()}
            (pickled / other).write_bytes(pickle.dumps(content, protocol=2))
        sets = {
            split: [load_data(f"{name}:{place}", split=split) for place in (binary, pickled)]
            for split in ("train", "validation", "full_train", "test")
        }
    for one, other in sets.values():
        assert one.fingerprint() == other.fingerprint()
    train, validation, whole, test = (pair[0] for pair in sets.values())
    assert torch.equal(torch.cat([train.images, validation.images]), whole.images)
    assert torch.equal(torch.cat([train.labels, validation.labels]), whole.labels)
    everything = np.concatenate([written[file] for file in kind.binary.training])
    assert np.array_equal(whole.images.numpy(), everything.transpose(0, 3, 1, 2))
    assert np.array_equal(test.labels.numpy(), labels[kind.binary.test])


@given(label_lists, seeds, st.data())
@settings(max_examples=20)
def test_a_subset_keeps_the_numbers_of_its_images_and_the_fingerprint_tells_sets_apart(labels, seed, data):
    whole = ImageSet(
        name="made",
        split="test",
        images=torch.from_numpy(pixels(len(labels), 4, 5, 3, seed)).permute(0, 3, 1, 2),
        labels=torch.tensor(labels),
        classes=tuple("abcdef"),
        index=torch.arange(len(labels)) + 7,
    )
    positions = st.lists(st.integers(0, len(labels) - 1), min_size=1, max_size=9)
    first = torch.tensor(data.draw(positions))
    second = torch.tensor(data.draw(st.lists(st.integers(0, len(first) - 1), min_size=1, max_size=9)))
    twice, once = whole.subset(first).subset(second), whole.subset(first[second])
    assert twice.fingerprint() == once.fingerprint()
    assert torch.equal(once.index, first[second] + 7)
    assert torch.equal(once.images, whole.images[first[second]])
    if not torch.equal(first, torch.arange(len(labels))):
        assert whole.subset(first).fingerprint() != whole.fingerprint()
    changed = whole.images.clone()
    changed[-1, -1, -1, -1] ^= 1
    for other in (
        {"images": changed},
        {"labels": (whole.labels + 1) % 6},
        {"index": whole.index + 1},
        {"classes": tuple("abcdeg")},
    ):
        made = ImageSet(
            **{name: other.get(name, getattr(whole, name)) for name in whole.__dataclass_fields__}
        )
        assert made.fingerprint() != whole.fingerprint()


@given(label_lists, st.booleans(), st.integers(1, 45), st.integers(0, 9))
@settings(max_examples=30)
def test_a_limit_takes_evenly_of_sorted_classes_and_a_larger_one_holds_the_images_of_a_smaller(
    labels, in_order, limit, more
):
    labels = sorted(labels) if in_order else labels
    taken, larger = (set(limited_positions(labels, number).tolist()) for number in (limit, limit + more))
    assert len(taken) == min(limit, len(labels))
    assert taken <= larger
    found = limited_positions(torch.tensor(labels), limit)
    assert bool((found.diff() > 0).all())
    if not sorted_by_class(torch.tensor(labels)):
        assert found.tolist() == list(range(len(taken)))
        return
    counts, every = Counter(labels[place] for place in taken), Counter(labels)
    most = max(counts.values())
    # A class has one image less than another, or all that it has.
    assert all(counts[label] >= min(most - 1, every[label]) for label in every)
    for label in every:
        of_class = [place for place, one in enumerate(labels) if one == label]
        assert sorted(place for place in taken if labels[place] == label) == of_class[: counts[label]]


@given(
    *(st.integers(2, 12), st.integers(1, 11), st.sampled_from(["train", "validation", "test"])),
    *(st.integers(0, 2**40), st.floats(0, 1), st.floats(0, 1)),
)
@settings(max_examples=10)
def test_a_planted_image_is_a_function_of_seed_split_and_number_and_its_name_is_its_spec(
    images, fewer, split, seed, low, high
):
    config = PlantedConfig(seed=seed, low=low, high=high)
    whole, part = (
        planted(config, split=split, images=images),
        planted(config, split=split, images=min(fewer, images)),
    )
    assert torch.equal(whole.images[: len(part)], part.images)
    assert torch.equal(whole.labels[: len(part)], part.labels)
    assert read_knobs(whole.name.partition(":")[2]) == config
    other = planted(PlantedConfig(seed=seed + 1, low=low, high=high), split=split, images=images)
    assert not torch.equal(other.images, whole.images)
