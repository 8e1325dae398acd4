"""What a cell gives: one piece ahead, smaller batches where memory runs out, failed cells, logits."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from filterbands.datasets import ImageSet, Reading, list_images, load_data
from filterbands.evaluation import EvaluateConfig, Files, Store, evaluate, load_scores
from filterbands.evaluation import sources as sources_module
from filterbands.evaluation.inference import ahead
from filterbands.evaluation.sources import as_source


def _images(count: int = 40) -> ImageSet:
    generator = torch.Generator().manual_seed(1)
    return ImageSet(
        name="noise",
        split="test",
        images=torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8),
        labels=torch.arange(count) % 4,
        classes=("a", "b", "c", "d"),
        index=torch.arange(count),
    )


class _Net(nn.Module):
    def __init__(self, *, fits: int = 1000, bad_above: float = 2.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3 * 16 * 16, 4)
        self.fits, self.bad_above = fits, bad_above

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        logits: Tensor = self.linear(images.flatten(1))
        return torch.where(images.mean(dim=(1, 2, 3))[:, None] > self.bad_above, torch.nan, logits)


FOG = EvaluateConfig(kinds=("fog", "brightness"), severities=(1, 5))


def test_a_thread_makes_the_next_piece_while_one_is_used() -> None:
    made: list[int] = []
    second = threading.Event()

    def pieces() -> Iterator[int]:
        for number in range(3):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    found = ahead(pieces())
    assert next(found) == 0
    assert second.wait(5)
    assert list(found) == [1, 2]


def test_what_goes_wrong_in_the_thread_comes_out_and_leaving_ends_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    found = ahead(broken())
    assert next(found) == 1
    with pytest.raises(ValueError, match="no more"):
        next(found)
    before = threading.active_count()
    endless = ahead(iter(int, 1))
    next(endless)
    endless.close()  # type: ignore[attr-defined]
    for _ in range(100):
        if threading.active_count() == before:
            break
        time.sleep(0.01)
    assert threading.active_count() == before


def test_a_batch_that_does_not_fit_is_halved_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    whole = evaluate(_Net(), _images(), config=FOG)
    with caplog.at_level("WARNING"):
        halved = evaluate(_Net(fits=9), _images(), config=replace(FOG, batch_size=40))
    assert {cell: a.bits.tolist() for cell, a in halved.cells.items()} == {
        cell: a.bits.tolist() for cell, a in whole.cells.items()
    }
    assert [record.getMessage() for record in caplog.records] == [
        f"evaluate: out of memory at {size} images a batch; going on with {size // 2}"
        for size in (40, 20, 10)
    ]


def test_an_image_that_does_not_fit_is_told() -> None:
    with pytest.raises(ValueError, match="out of memory"):
        evaluate(_Net(fits=0), _images(), config=FOG)


def test_a_cell_with_nan_is_failed_and_named_and_in_no_average(tmp_path: Path) -> None:
    net, db = _Net(bad_above=0.6), tmp_path / "r.db"
    config = replace(FOG, kinds=("contrast", "brightness"))
    scores = evaluate(net, _images(), config=config, db=db)
    assert set(scores.failed) == {("brightness", 5)}
    assert "NaN for 40 of 40 images" in scores.failed["brightness", 5]
    assert scores.kinds["brightness"] == [scores.kinds["brightness"][0], None, None, None, None]
    assert scores.average_at_hand() is None
    assert "failed: brightness 5: the network gives NaN" in str(scores)
    document = scores.to_json()
    assert [entry["kind"] for entry in document["failed"]] == ["brightness"]
    (loaded,) = load_scores(db)
    assert loaded.to_json() == document
    # A failed cell is tried anew, the others are not.
    seen: list[str] = []
    evaluate(net, _images(), config=config, db=db, progress=lambda *report: seen.append(report[2]))
    assert seen == ["brightness 5"]


def test_logits_are_kept_where_asked_for_with_their_calibration(tmp_path: Path) -> None:
    db, data = tmp_path / "r.db", _images()
    before = evaluate(_Net(), data, config=FOG, db=db)
    assert before.to_json()["calibration_error"] is None
    after = evaluate(_Net(), data, config=replace(FOG, logits=True), db=db)
    assert {c: a.bits.tolist() for c, a in before.cells.items()} == {
        c: a.bits.tolist() for c, a in after.cells.items()
    }
    assert set(after.calibration_errors()) == {"clean", "fog", "brightness"}
    with Store(db, readonly=True) as store:
        ((cell, _),) = store.cells(kind="clean")
        logits = store.logits(cell.key)
        assert len(list(store.cells())) == 5
    assert logits is not None
    expected = _Net()(data.images.float() / 255).detach()
    expected = expected - expected.max(dim=1, keepdim=True).values
    assert np.abs(logits.astype(np.float32) - expected.numpy()).max() < 2e-3
    (loaded,) = load_scores(db)
    assert loaded.to_json() == after.to_json()


def test_flips_are_images_that_get_another_class_than_their_clean_copy() -> None:
    data = _images()
    scores = evaluate(_Net(), data, config=replace(FOG, spread=False))
    flips = scores.flips()
    clean, foggy = (scores.cells[cell].predictions for cell in (("clean", 0), ("fog", 5)))
    assert flips is not None
    assert clean is not None
    assert foggy is not None
    assert flips["fog"][4] == float((clean != foggy).mean())
    assert flips["fog"][1:4] == [None, None, None]
    assert float((clean == data.labels.numpy()).mean()) == scores.clean


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels = _images().images
    for number, image in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
        place = tmp_path / "f" / "abcd"[number % 4]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:02}.png")
    return tmp_path / "f"


@pytest.mark.parametrize("held", [True, False])
def test_a_folder_that_is_read_in_turn_scores_as_one_in_memory(
    held: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources_module, "_HELD", 1 << 30 if held else 0)
    monkeypatch.setattr(sources_module, "_CHUNK_IMAGES", 7)
    whole = load_data(f"folder:{folder}")
    source = as_source(Files(files=list_images(folder)))
    assert source.fingerprint == whole.fingerprint()
    assert source.classes == whole.classes
    assert torch.equal(source.read(torch.tensor([39, 0, 3])), whole.images[[39, 0, 3]])
    first = evaluate(_Net(), whole, config=FOG)
    second = evaluate(_Net(), Files(files=list_images(folder)), config=FOG)
    assert second.pixels == first.pixels
    assert {c: a.bits.tolist() for c, a in first.cells.items()} == {
        c: a.bits.tolist() for c, a in second.cells.items()
    }


@pytest.mark.parametrize("kind", ["folder", "npz", "planted"])
def test_a_limit_of_the_data_gives_the_images_and_keys_of_a_limit_of_before(
    kind: str, folder: Path, tmp_path: Path
) -> None:
    """Results of a limited evaluation are found again: the fingerprint is part of every key."""
    data = _images()
    np.savez(tmp_path / "s.npz", images=data.images.numpy(), labels=data.labels.numpy())
    spec = {"folder": f"folder:{folder}", "npz": f"npz:{tmp_path / 's.npz'}", "planted": "planted"}[kind]
    limited = load_data(spec, limit=11)
    assert len(limited) == 11
    assert limited.fingerprint() == as_source(load_data(spec), limit=11).fingerprint
    assert load_data(spec, limit=10**6).fingerprint() == load_data(spec).fingerprint()
    if kind == "folder":
        files = Files(files=list_images(folder).limited(11))
        assert as_source(files).fingerprint == limited.fingerprint()
        # Other files are not read.
        sorted(folder.rglob("*.png"))[-1].write_text("no image")
        assert load_data(spec, limit=11).fingerprint() == limited.fingerprint()
    with pytest.raises(ValueError, match="limit needs a number of at least 1, got 0"):
        load_data(spec, limit=0)


def test_a_folder_of_two_sizes_names_two_files(folder: Path) -> None:
    Image.new("RGB", (20, 16)).save(folder / "d" / "99.png")
    with pytest.raises(ValueError, match=r"00\.png is 16x16 and .*99\.png is 16x20"):
        as_source(Files(files=list_images(folder)))
    assert as_source(Files(files=list_images(folder), reading=Reading(size=8))).shape == (3, 8, 8)


def test_a_data_set_that_is_read_in_turn_has_the_fingerprint_of_one_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = _images()
    pairs = [(image, int(label)) for image, label in zip(data.images, data.labels, strict=True)]
    in_memory = as_source((data.images, data.labels))
    monkeypatch.setattr(sources_module, "_HELD", 0)
    in_turn = as_source(_Pairs(pairs), limit=None)
    assert in_turn.fingerprint == in_memory.fingerprint
    assert torch.equal(in_turn.read(torch.arange(5)), data.images[:5])


class _Pairs(torch.utils.data.Dataset[tuple[Tensor, int]]):
    def __init__(self, pairs: list[tuple[Tensor, int]]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.pairs[number]


def test_infinite_logits_cost_the_calibration_error_and_no_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Infinite(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits = images.flatten(1)[:, :10].clone()
            logits[0, 3] = torch.inf
            return logits

    data = load_data("planted", limit=20)
    config = {"name": "mine", "kinds": ("fog",), "severities": (1,)}
    plain = evaluate(Infinite(), data, config=EvaluateConfig(**config))
    scores = evaluate(Infinite(), data, config=EvaluateConfig(**config, logits=True), db=tmp_path / "r.db")
    assert scores.to_json()["kinds"] == plain.to_json()["kinds"]
    assert scores.calibration_errors() == {}
    assert "the network gives infinity for 1 of 20 images" in caplog.text


@pytest.mark.parametrize("kind", ["uint16", "uint32", "uint64", ">i8", "float32"])
def test_labels_of_any_type_of_number_are_taken(kind: str) -> None:
    images, labels = np.zeros((4, 3, 8, 8), np.uint8), np.arange(4)
    assert as_source((images, labels.astype(kind))).labels.tolist() == labels.tolist()


@pytest.mark.parametrize("labels", [["0", "1"], None])
def test_labels_that_are_no_numbers_get_one_line(labels: object) -> None:
    with pytest.raises(ValueError, match="evaluate needs images and labels that are numbers, got"):
        as_source((np.zeros((2, 3, 8, 8), np.uint8), labels))


def test_a_network_on_a_device_of_another_kind_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).to("meta")
    with pytest.raises(ValueError, match=r"a network on meta needs another device: set device \(--device\)"):
        evaluate(network, load_data("planted", limit=4))
