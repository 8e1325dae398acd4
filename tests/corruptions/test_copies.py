"""Copies on disk have the same bytes on any machine, are whole or absent, and can be resumed."""

import io
import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from filterbands.corruptions import (
    CopyConfig,
    Machine,
    copies,
    copy_arrays,
    copy_folders,
    corrupt,
    plan,
)
from filterbands.datasets import ImageSet, Reading, list_images

CONFIG = CopyConfig(kinds=("gaussian_noise", "fog", "contrast"), severities=(2, 5), seed=3)


@pytest.fixture
def data() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    return ImageSet(
        name="made",
        split="test",
        images=torch.randint(0, 256, (10, 3, 16, 24), dtype=torch.uint8, generator=generator),
        labels=torch.arange(10) % 3,
        classes=("a", "b", "c"),
        index=torch.arange(100, 110),
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes, three sizes."""
    generator = np.random.default_rng(0)
    root = tmp_path / "pictures"
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for number, shape in enumerate([(16, 24), (16, 24), (20, 12)]):
            pixels = generator.integers(0, 256, (*shape, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number}.png")
    return root


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every visible file's content."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_arrays_hold_severity_after_severity_in_the_published_layout(data: ImageSet, tmp_path: Path) -> None:
    assert copy_arrays(data, tmp_path, CONFIG) == list(CONFIG.kinds)

    rows = np.load(tmp_path / "fog.npy", mmap_mode="r")
    assert rows.shape == (20, 16, 24, 3)
    expected = corrupt(data.images, "fog", severity=5, seed=3, index=data.index)
    assert np.array_equal(rows[10:], expected.permute(0, 2, 3, 1).numpy())
    labels = np.load(tmp_path / "labels.npy")
    assert labels.dtype == np.uint8
    assert labels.tolist() == data.labels.tolist() * 2
    assert json.loads((tmp_path / "corrupt.json").read_text())["severities"] == [2, 5]
    assert not list(tmp_path.glob(".unfinished-*"))


def test_the_bytes_do_not_depend_on_workers_or_batches(data: ImageSet, tmp_path: Path) -> None:
    machines = {"one": Machine(), "small": Machine(batch_size=3), "two": Machine(workers=2, batch_size=4)}
    made = {}
    for name, machine in machines.items():
        (tmp_path / name).mkdir()
        copy_arrays(data, tmp_path / name, CONFIG, machine=machine)
        made[name] = bytes_of(tmp_path / name)
    assert made["one"] == made["small"] == made["two"]


def test_a_copy_is_resumed_and_keeps_existing_files(data: ImageSet, tmp_path: Path) -> None:
    first = CopyConfig(kinds=("fog",), severities=(2, 5), seed=3)
    copy_arrays(data, tmp_path, first)
    before = (tmp_path / "fog.npy").stat().st_mtime_ns
    assert copy_arrays(data, tmp_path, CONFIG) == ["gaussian_noise", "contrast"]
    assert (tmp_path / "fog.npy").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"another corrupted copy .seed was 3, now 4."):
        copy_arrays(data, tmp_path, CopyConfig(kinds=("fog",), severities=(2, 5), seed=4))


def test_a_full_disk_leaves_what_was_finished_and_no_half_file(
    data: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = copies._make_rows

    def fill_up(job: plan.Job) -> None:
        if job.kind == "fog" and job.severity == 5:
            raise OSError(28, "No space left on device", job.target)
        real(job)

    with monkeypatch.context() as patch:
        patch.setattr(copies, "_make_rows", fill_up)
        with pytest.raises(OSError, match="No space left"):
            copy_arrays(data, tmp_path, CONFIG)
    assert sorted(bytes_of(tmp_path)) == ["corrupt.json", "gaussian_noise.npy", "labels.npy"]
    assert not list(tmp_path.glob(".unfinished-*"))
    assert copy_arrays(data, tmp_path, CONFIG) == ["fog", "contrast"]


def test_a_copy_that_fails_before_its_first_kind_leaves_nothing_and_refuses_no_other(
    data: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: plan.Job) -> None:
        raise ValueError("a bad file")

    with monkeypatch.context() as patch:
        patch.setattr(copies, "_make_rows", fail)
        with pytest.raises(ValueError, match="a bad file"):
            copy_arrays(data, tmp_path, CONFIG)
    assert not bytes_of(tmp_path)
    # What an older version or a kill at the wrong moment left is no copy either.
    (tmp_path / "corrupt.json").write_text('{"seed": 99}')
    (tmp_path / "labels.npy").write_bytes(b"")
    assert copy_arrays(data, tmp_path, CONFIG) == list(CONFIG.kinds)


def test_labels_of_another_origin_are_not_overwritten(data: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "labels.npy").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"holds labels.npy of another origin"):
        copy_arrays(data, tmp_path, CONFIG)
    assert (tmp_path / "labels.npy").read_bytes() == b"mine"


def test_a_disk_that_is_too_small_is_found_before_work(
    data: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = copies.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(copies.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match=r"the copy needs 78.8 KiB, .* has 1000 bytes left"):
        copy_arrays(data, tmp_path, CONFIG)


def test_leftovers_of_a_killed_process_are_removed(data: ImageSet, tmp_path: Path) -> None:
    (tmp_path / ".unfinished-x").mkdir()
    (tmp_path / ".unfinished-x" / "fog.npy").write_bytes(b"half")
    copy_arrays(data, tmp_path, CONFIG)
    assert not (tmp_path / ".unfinished-x").exists()


def test_a_folder_of_other_files_is_unchanged(data: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds thesis.txt of another origin"):
        copy_arrays(data, tmp_path, CONFIG)


def test_two_processes_do_not_write_one_folder(data: ImageSet, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(tmp_path, ready, done))
    holder.start()
    assert ready.wait(60)
    try:
        with pytest.raises(ValueError, match="another process is writing"):
            copy_arrays(data, tmp_path, CONFIG)
    finally:
        done.set()
        holder.join()
    copy_arrays(data, tmp_path, CONFIG)


def hold(folder: Path, ready: object, done: object) -> None:
    with copies._owned(folder, {}):
        ready.set()  # type: ignore[attr-defined]
        done.wait(60)  # type: ignore[attr-defined]


def test_image_folders_become_image_folders_of_any_sizes(pictures: Path, tmp_path: Path) -> None:
    files = list_images(pictures)
    made = {}
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        out.mkdir()
        machine = Machine(workers=workers, batch_size=2)
        kinds = copy_folders(files, out, CONFIG, name="folder:x", split="test", machine=machine)
        assert kinds == list(CONFIG.kinds)
        made[workers] = bytes_of(out)
    assert made[1] == made[2]
    assert len(made[1]) == 1 + 3 * 2 * 6
    # The key of an image is its number in the listing, whatever runs beside it.
    pixels = np.asarray(Image.open(pictures / "dog" / "2.png"))
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    expected = corrupt(image, "fog", severity=5, seed=3, index=torch.tensor([5]))
    written = np.asarray(Image.open(io.BytesIO(made[1]["fog/5/dog/2.png"])))
    assert np.array_equal(written, expected[0].permute(1, 2, 0).numpy())
    # And it is read back as a data set.
    assert len(list_images(tmp_path / "out1" / "fog" / "5").paths) == 6


def test_transparent_pictures_are_counted_once_whatever_the_processes_and_cells(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGBA", (16, 24)).save(pictures / "cat" / "clear.png")
    files, out = list_images(pictures), tmp_path / "out"
    out.mkdir()
    machine, reading = Machine(workers=2, batch_size=2), Reading(background="white")
    given: dict[str, Any] = {"name": "folder:x", "split": "test", "machine": machine}
    copy_folders(files, out, CONFIG, reading=reading, **given)
    assert caplog.messages == ["folder:x: 1 of 7 images are transparent: put on white (clear.png)"]
    assert json.loads((out / "corrupt.json").read_text())["reading"] == {"background": [255, 255, 255]}
    with pytest.raises(ValueError, match="holds another corrupted copy"):
        copy_folders(files, out, CONFIG, **given)


def test_a_small_file_before_large_ones_does_not_gather_them(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "PIXELS_TOGETHER", 500)
    files = list_images(pictures)
    parts = [[tuple(one.shape[2:]) for one in part] for part in copies._together(files.paths, Reading(), {})]
    assert parts == [[(16, 24)] * 2, [(20, 12)]] * 2
    monkeypatch.setattr(copies, "PIXELS_TOGETHER", 300)
    assert len(list(copies._together(files.paths, Reading(), {}))) == 6
    Image.new("RGB", (30, 4)).save(pictures / "cat" / "3.png")
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=r"3\.png is 4x30, and corrupt needs sides of at least 8 pixels"):
        copy_folders(list_images(pictures), tmp_path / "out", CONFIG, name="folder:x", split="test")


def test_folder_cells_that_are_there_are_kept(pictures: Path, tmp_path: Path) -> None:
    files = list_images(pictures)
    out = tmp_path / "out"
    out.mkdir()
    first = CopyConfig(kinds=("fog",), severities=(2, 5), seed=3)
    copy_folders(files, out, first, name="folder:x", split="test")
    assert copy_folders(files, out, CONFIG, name="folder:x", split="test") == ["gaussian_noise", "contrast"]


def test_a_copy_is_not_resumed_with_other_pictures_of_the_same_names_and_sizes(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        Image.new("RGB", (16, 24), "red").save(tmp_path / "pictures" / label / "0.bmp")
    files, out = list_images(tmp_path / "pictures"), tmp_path / "out"
    out.mkdir()
    first = CopyConfig(kinds=("fog",), severities=(2, 5), seed=3)
    copy_folders(files, out, first, name="folder:x", split="test")
    before, content = bytes_of(out), files.paths[1].read_bytes()
    Image.new("RGB", (16, 24), "blue").save(files.paths[1])
    with pytest.raises(ValueError, match=r"holds another corrupted copy \(of other images\); name another"):
        copy_folders(files, out, CONFIG, name="folder:x", split="test")
    assert bytes_of(out) == before
    files.paths[1].write_bytes(content)
    # Earlier versions recorded names and sizes alone.
    record = json.loads((out / "corrupt.json").read_text())
    (out / "corrupt.json").write_text(json.dumps({k: v for k, v in record.items() if k != "contents"}))
    assert copy_folders(files, out, CONFIG, name="folder:x", split="test") == ["gaussian_noise", "contrast"]
    assert json.loads((out / "corrupt.json").read_text()) == record


def test_two_pictures_that_would_become_one_are_refused(pictures: Path, tmp_path: Path) -> None:
    Image.new("RGB", (16, 24)).save(pictures / "cat" / "0.jpg")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ValueError, match=r"would both become cat/0.png; rename one"):
        copy_folders(list_images(pictures), out, CONFIG, name="folder:x", split="test")


def test_jpeg85_is_a_jpeg_of_quality_85(data: ImageSet, pictures: Path, tmp_path: Path) -> None:
    config = CopyConfig(kinds=("contrast",), severities=(1,), parameters="imagenet", jpeg85=True)
    plain = corrupt(data.images, "contrast", severity=1, seed=0, parameters="imagenet")
    (tmp_path / "arrays").mkdir()
    (tmp_path / "folders").mkdir()
    copy_arrays(data, tmp_path / "arrays", config)
    stream = io.BytesIO()
    Image.fromarray(plain[0].permute(1, 2, 0).numpy()).save(stream, "JPEG", quality=85)
    expected = np.asarray(Image.open(stream))
    assert np.array_equal(np.load(tmp_path / "arrays" / "contrast.npy")[0], expected)

    gray = replace(data, images=data.images[:, :1].contiguous())
    (tmp_path / "gray").mkdir()
    copy_arrays(gray, tmp_path / "gray", config)
    assert np.load(tmp_path / "gray" / "contrast.npy").shape == (len(data), 16, 24, 1)

    copy_folders(list_images(pictures), tmp_path / "folders", config, name="folder:x", split="test")
    with Image.open(tmp_path / "folders" / "contrast" / "1" / "cat" / "0.jpg") as written:
        assert written.format == "JPEG"
