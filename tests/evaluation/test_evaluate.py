"""Evaluation: what it computes, what it keeps, what it refuses."""

import json
import multiprocessing
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from filterbands import corruptions, load_data, load_model
from filterbands.cli import main
from filterbands.corruptions import CORRUPTIONS, corrupt
from filterbands.datasets import ImageSet
from filterbands.evaluation import EvaluateConfig, Store, evaluate, load_scores, model_fingerprint
from filterbands.probes import ProbeConfig, fourier_heatmap
from filterbands.scores import Scores

FOG = EvaluateConfig(kinds=("fog",), severities=(1, 4))


def _images(count: int = 43) -> ImageSet:
    generator = torch.Generator().manual_seed(1)
    return ImageSet(
        name="noise",
        split="test",
        images=torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8),
        labels=torch.arange(count) % 4,
        classes=("a", "b", "c", "d"),
        index=torch.arange(count),
    )


# Batches before the first cell: one for the outputs, three of fixed images for the fingerprint.
ASKED = 4


class _Tally:
    """What happens to a network; no setting of it."""

    batches = 0
    die_at: int | None = None

    def die(self) -> None:
        raise KeyboardInterrupt


_TALLIES: WeakKeyDictionary[nn.Module, _Tally] = WeakKeyDictionary()


class _Net(nn.Module):
    """A linear network that counts its batches, and dies in batch `die_at`."""

    def __init__(self, *, outputs: int = 4, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.linear = nn.Linear(3 * 16 * 16, outputs)
        self.register_buffer("hidden", torch.zeros(1), persistent=False)

    @property
    def tally(self) -> _Tally:
        return _TALLIES.setdefault(self, _Tally())

    @property
    def batches(self) -> int:
        return self.tally.batches

    def forward(self, images: Tensor) -> Tensor:
        if self.batches == self.tally.die_at:
            self.tally.die()
        self.tally.batches += 1
        assert not self.training
        assert 0 <= float(images.min()) <= float(images.max()) <= 1 or isinstance(self, _Normalized)
        return self.linear(images.flatten(1) + self.hidden)


class _Normalized(_Net):
    """Takes what somebody normalized."""


def _bits(scores: Scores) -> dict[tuple[str, int], list[bool]]:
    return {place: answers.bits.tolist() for place, answers in scores.cells.items()}


def _rows(db: Path) -> int:
    with Store(db, readonly=True) as store:
        return sum(1 for _ in store.cells())


def test_a_cell_is_the_share_of_corrupted_images_that_are_named() -> None:
    data, net = _images(), _Net().eval()
    scores = evaluate(net, data, config=FOG)
    for severity in (1, 4):
        pixels = corrupt(data.images, "fog", severity=severity, seed=0)
        named = [int(net(one[None].float() / 255).argmax()) for one in pixels]
        assert scores.cells["fog", severity].bits.tolist() == (torch.tensor(named) == data.labels).tolist()
    assert scores.kinds["fog"][1] is None
    assert scores.cells["clean", 0].bits.sum() == (net(data.images / 255).argmax(1) == data.labels).sum()


def test_batches_do_not_matter_and_the_network_is_left_as_it_was() -> None:
    net = _Net().train()
    net.linear.eval()
    before = model_fingerprint(net, shape=(3, 16, 16))
    first = evaluate(net, _images(), config=replace(FOG, batch_size=7))
    assert _bits(first) == _bits(evaluate(net, _images(), config=FOG))
    assert net.training
    assert not net.linear.training
    assert model_fingerprint(net, shape=(3, 16, 16)) == before


def test_mean_and_std_stand_in_front_of_the_network() -> None:
    data, net = _images(), _Normalized().eval()
    found = evaluate(net, data, config=FOG, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3))
    shift, scale = (torch.tensor(v).reshape(3, 1, 1) for v in ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3)))
    expected = net((data.images / 255 - shift) / scale).argmax(1) == data.labels
    assert found.cells["clean", 0].bits.tolist() == expected.tolist()


class _Items(Dataset[Any]):
    """Images with their labels, such as a folder's pictures."""

    def __init__(self, items: list[tuple[Any, int]]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        return self.items[number]


def _pictures(data: ImageSet) -> _Items:
    arrays = data.images.permute(0, 2, 3, 1).numpy()
    return _Items([(Image.fromarray(array), int(data.labels[i])) for i, array in enumerate(arrays)])


def _mapped(data: ImageSet, folder: Path) -> tuple[Any, Any]:
    np.save(folder / "images.npy", data.images.permute(0, 2, 3, 1).numpy())
    np.save(folder / "labels.npy", data.labels.numpy().astype(np.uint8))
    images, labels = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "labels"))
    return images, labels


@pytest.mark.parametrize("form", ["nchw", "nhwc", "float", "dataset", "pictures", "mapped"])
def test_arrays_and_datasets_score_as_the_image_set_does(form: str, tmp_path: Path) -> None:
    data = _images()
    forms: dict[str, Callable[[], Any]] = {
        "nchw": lambda: (data.images.numpy(), data.labels.numpy()),
        "nhwc": lambda: (data.images.permute(0, 2, 3, 1), data.labels.tolist()),
        "float": lambda: (data.images.float() / 255, data.labels),
        "dataset": lambda: TensorDataset(data.images.float() / 255, data.labels),
        "pictures": lambda: _pictures(data),
        "mapped": lambda: _mapped(data, tmp_path),
    }
    assert _bits(evaluate(_Net(), forms[form](), config=FOG)) == _bits(evaluate(_Net(), data, config=FOG))


def test_limit_takes_the_first_and_spread_a_fifth_a_severity() -> None:
    data, net = _images(), _Net()
    whole = evaluate(net, data, config=EvaluateConfig(kinds=("fog",)))
    few = evaluate(net, data.subset(torch.arange(11)), config=EvaluateConfig(kinds=("fog",)))
    spread = evaluate(net, data, config=EvaluateConfig(kinds=("fog",), spread=True))
    seen = []
    for severity in range(1, 6):
        full = whole.cells["fog", severity].bits
        assert few.cells["fog", severity].bits.tolist() == full[:11].tolist()
        assert spread.cells["fog", severity].bits.tolist() == full[severity - 1 :: 5].tolist()
        seen += spread.cells["fog", severity].positions.tolist()
    assert sorted(seen) == list(range(43))
    assert spread.cells["clean", 0].bits.tolist() == whole.cells["clean", 0].bits.tolist()


def test_a_subset_keeps_the_noise_of_its_images() -> None:
    data, config = _images(), EvaluateConfig(kinds=("gaussian_noise",), severities=(5,))
    whole = evaluate(_Net(), data, config=config).cells["gaussian_noise", 5].bits
    part = evaluate(_Net(), data.subset(torch.arange(3, 43, 4)), config=config)
    assert part.cells["gaussian_noise", 5].bits.tolist() == whole[3::4].tolist()


def test_a_second_run_computes_nothing_and_other_batches_share_the_rows(tmp_path: Path) -> None:
    net, db = _Net(), tmp_path / "r.db"
    seen: list[tuple[int, int, str]] = []
    first = evaluate(net, _images(), config=FOG, db=db, progress=lambda *report: seen.append(report))
    assert seen == [(1, 3, "clean"), (2, 3, "fog 1"), (3, 3, "fog 4")]
    # One batch asks for the number of outputs, in each run.
    count = net.batches
    second = evaluate(net, _images(), config=replace(FOG, batch_size=5), db=db)
    assert net.batches == count + ASKED
    assert _bits(first) == _bits(second)
    (loaded,) = load_scores(db)
    assert _bits(loaded) == _bits(first)
    assert loaded.to_json() == first.to_json()


def _changes(patch: pytest.MonkeyPatch) -> dict[str, tuple[int, Callable[[], tuple[Any, ...]]]]:
    """What may differ from the first evaluation, and how many new rows of its two that makes."""
    data, fog = _images(), EvaluateConfig(kinds=("fog",), severities=(4,))

    def hidden() -> tuple[Any, ...]:
        net = _Net()
        net.hidden += 1e-6
        return net, data, fog

    def version() -> tuple[Any, ...]:
        newer = replace(CORRUPTIONS["fog"], version=CORRUPTIONS["fog"].version + 1)
        patch.setitem(corruptions.table.CORRUPTIONS, "fog", newer)  # type: ignore[arg-type]
        return _Net(), data, fog

    def pixel() -> tuple[Any, ...]:
        images = data.images.clone()
        images[0, 0, 0, 0] ^= 1
        return _Net(), replace(data, images=images), fog

    return {
        "nothing": (0, lambda: (_Net(), data, fog)),
        "name": (0, lambda: (_Net(), data, replace(fog, name="other"))),
        "weights": (2, lambda: (_Net(seed=1), data, fog)),
        "architecture": (2, lambda: (nn.Sequential(_Net()), data, fog)),
        "hidden buffer": (2, hidden),
        "mean": (2, lambda: (_Net(), data, fog, (0.0, 0.0, 0.0))),
        "pixels": (2, pixel),
        "labels": (2, lambda: (_Net(), replace(data, labels=data.labels.flip(0)), fog)),
        "index": (2, lambda: (_Net(), replace(data, index=data.index + 1), fog)),
        "limit": (2, lambda: (_Net(), data.subset(torch.arange(42)), fog)),
        "precision": (2, lambda: (_Net(), data, replace(fog, precision="bfloat16"))),
        "kind": (1, lambda: (_Net(), data, replace(fog, kinds=("snow",)))),
        "severity": (1, lambda: (_Net(), data, replace(fog, severities=(5,)))),
        "seed": (1, lambda: (_Net(), data, replace(fog, seed=1))),
        "parameters": (1, lambda: (_Net(), data, replace(fog, parameters="imagenet"))),
        "spread": (1, lambda: (_Net(), data, replace(fog, spread=True))),
        "version": (1, version),
    }


@pytest.mark.parametrize("change", list(_changes(pytest.MonkeyPatch())))
def test_whatever_can_change_an_answer_makes_new_rows(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, (rows, make) = tmp_path / "r.db", _changes(monkeypatch)[change]
    evaluate(_Net(), _images(), config=EvaluateConfig(kinds=("fog",), severities=(4,)), db=db)
    assert _rows(db) == 2
    net, data, config, *mean = make()
    evaluate(net, data, config=config, db=db, mean=mean[0] if mean else None)
    assert _rows(db) == 2 + rows


@pytest.mark.parametrize("moment", [1, 2, 4, 7, 9])
def test_a_stopped_run_loses_the_cell_in_flight_and_goes_on_from_there(moment: int, tmp_path: Path) -> None:
    db, config = (
        tmp_path / "r.db",
        EvaluateConfig(kinds=("fog", "contrast"), severities=(1, 3), batch_size=22),
    )
    whole = evaluate(_Net(), _images(), config=config)
    stopped = _Net()
    stopped.tally.die_at = ASKED - 1 + moment
    with pytest.raises(KeyboardInterrupt):
        evaluate(stopped, _images(), config=config, db=db)
    # Two batches a cell.
    kept = (moment - 1) // 2
    assert _rows(db) == kept
    resumed = _Net()
    assert _bits(evaluate(resumed, _images(), config=config, db=db)) == _bits(whole)
    assert resumed.batches == ASKED + 2 * (5 - kept)


def _evaluate_from(path: str, start: Barrier, batches: Any) -> None:
    net = _Net()
    start.wait()
    evaluate(net, _images(), config=EvaluateConfig(kinds=("fog", "contrast", "snow")), db=path)
    batches.put(net.batches)


def _stay_in_fog(path: str, ready: Event) -> None:
    def stay() -> None:
        ready.set()
        multiprocessing.Event().wait()

    net = _Net()
    # After the clean cell.
    net.tally.die_at, net.tally.die = ASKED + 1, stay
    evaluate(net, _images(), config=FOG, db=path)


def test_the_cell_a_killed_process_was_at_is_left_to_the_next(tmp_path: Path) -> None:
    context, db = multiprocessing.get_context("spawn"), tmp_path / "r.db"
    ready = context.Event()
    first = context.Process(target=_stay_in_fog, args=(str(db), ready))
    first.start()
    assert ready.wait(300)
    assert _rows(db) == 1
    first.kill()
    first.join()
    net, whole = _Net(), evaluate(_Net(), _images(), config=FOG)
    assert _bits(evaluate(net, _images(), config=FOG, db=db)) == _bits(whole)
    assert net.batches == ASKED + 2
    assert _rows(db) == 3


@pytest.mark.slow
def test_two_processes_on_one_database_share_the_work_and_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, db = context.Barrier(2, timeout=300), tmp_path / "r.db"
    batches = context.Queue()
    other = context.Process(target=_evaluate_from, args=(str(db), start, batches))
    other.start()
    _evaluate_from(str(db), start, batches)
    # Each asks for the outputs; no cell is computed by both.
    assert batches.get(timeout=300) + batches.get(timeout=300) == 2 * ASKED + 16
    other.join(300)
    assert other.exitcode == 0
    assert _rows(db) == 16
    (loaded,) = load_scores(db)
    alone = evaluate(_Net(), _images(), config=EvaluateConfig(kinds=("fog", "contrast", "snow")))
    assert _bits(loaded) == _bits(alone)


def _published(
    folder: Path, data: ImageSet, kinds: tuple[str, ...] = ("fog", "gaussian_noise"), severities: Any = None
) -> EvaluateConfig:
    """Write the published layout, and return what evaluates it."""
    folder.mkdir()
    levels = (1, 2, 3, 4, 5) if severities is None else severities
    np.save(folder / "labels.npy", np.tile(data.labels.numpy().astype(np.uint8), len(levels)))
    for kind in kinds:
        rows = [corrupt(data.images, kind, severity=s, seed=0).permute(0, 2, 3, 1) for s in levels]
        np.save(folder / f"{kind}.npy", torch.cat(rows).numpy())
    if severities is not None:
        (folder / "corrupt.json").write_text(json.dumps({"severities": list(severities)}))
    return EvaluateConfig(corrupted=str(folder))


def test_published_arrays_score_as_what_is_corrupted_here(tmp_path: Path) -> None:
    data = _images()
    config = _published(tmp_path / "c", data)
    read = evaluate(_Net(), data, config=config)
    made = evaluate(_Net(), data, config=EvaluateConfig(kinds=("fog", "gaussian_noise")))
    assert _bits(read) == _bits(made)
    assert read.parameters == ""
    fog = replace(config, kinds=("fog",), severities=(2, 5))
    few = evaluate(_Net(), data.subset(torch.arange(9)), config=fog)
    assert few.cells["fog", 5].bits.tolist() == made.cells["fog", 5].bits[:9].tolist()
    spread = evaluate(_Net(), data, config=replace(config, spread=True))
    assert spread.cells["fog", 3].bits.tolist() == made.cells["fog", 3].bits[2::5].tolist()


def test_arrays_of_fewer_severities_are_all_read_and_no_other(tmp_path: Path) -> None:
    data = _images()
    config = _published(tmp_path / "c", data, severities=(1, 4))
    made = evaluate(_Net(), data, config=replace(FOG, kinds=("fog", "gaussian_noise")))
    assert _bits(evaluate(_Net(), data, config=config)) == _bits(made)
    with pytest.raises(ValueError, match="has severities 1, 4, not 2"):
        evaluate(_Net(), data, config=replace(config, severities=(1, 2)))


def test_another_list_of_severities_makes_new_rows(tmp_path: Path) -> None:
    """The same file means other images when corrupt.json names other severities."""
    data, db = _images(), tmp_path / "r.db"
    config = _published(tmp_path / "c", data, kinds=("fog",), severities=(1, 4))
    first = evaluate(_Net(), data, config=config, db=db)
    (tmp_path / "c" / "corrupt.json").write_text('{"severities": [4, 1]}')
    second = evaluate(_Net(), data, config=config, db=db)
    assert _rows(db) == 1 + 2 + 2
    assert _bits(first)["fog", 1] == _bits(second)["fog", 4] != _bits(second)["fog", 1]


def test_what_filterbands_corrupt_writes_scores_as_what_is_corrupted_here(tmp_path: Path) -> None:
    words = "corrupt planted --kinds fog,shot_noise --severities 2,5 --limit 30 --split validation --seed 3"
    assert main([*words.split(), "--out", str(tmp_path / "c")]) == 0
    data = load_data("planted", split="validation").subset(torch.arange(30))
    net = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, 10))
    read = evaluate(net, data, config=EvaluateConfig(corrupted=str(tmp_path / "c")))
    config = EvaluateConfig(kinds=("shot_noise", "fog"), severities=(2, 5), seed=3)
    assert _bits(read) == _bits(evaluate(net, data, config=config))


def test_another_array_makes_new_rows_and_is_never_averaged_with_the_first(tmp_path: Path) -> None:
    data, db = _images(), tmp_path / "r.db"
    first, second = _published(tmp_path / "c", data), _published(tmp_path / "d", data)
    file = tmp_path / "d" / "fog.npy"
    np.save(file, 255 - np.load(file))
    evaluate(_Net(), data, config=replace(first, kinds=("fog",)), db=db)
    evaluate(_Net(), data, config=replace(second, kinds=("fog",)), db=db)
    assert _rows(db) == 1 + 5 + 5
    assert len(load_scores(db)) == 2
    # The same bytes in another place are the same rows.
    copy = _published(tmp_path / "e", data)
    evaluate(_Net(), data, config=replace(copy, kinds=("fog",)), db=db)
    assert _rows(db) == 11


def test_scores_of_a_database_never_mix_seeds_precisions_versions_or_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, db = _images(), tmp_path / "r.db"
    configs = [FOG, replace(FOG, seed=1), replace(FOG, precision="bfloat16"), replace(FOG, spread=True)]
    made = [evaluate(_Net(), data, config=config, db=db) for config in configs]
    assert [_bits(scores) for scores in load_scores(db)] == [_bits(scores) for scores in made]
    newer = replace(CORRUPTIONS["fog"], version=CORRUPTIONS["fog"].version + 1)
    monkeypatch.setitem(corruptions.table.CORRUPTIONS, "fog", newer)  # type: ignore[arg-type]
    assert all(scores.kinds == {} for scores in load_scores(db))


def _array_fault(name: str, folder: Path) -> EvaluateConfig:
    config = _published(folder, _images())
    labels, fog = folder / "labels.npy", folder / "fog.npy"
    if name == "no folder":
        return replace(config, corrupted=str(folder) + "x")
    if name == "no labels":
        labels.unlink()
    if name == "other labels":
        np.save(labels, 3 - np.load(labels))
    if name == "labels short":
        np.save(labels, np.load(labels)[:100])
    if name == "no kind":
        return replace(config, kinds=("snow",))
    if name == "size":
        np.save(fog, np.load(fog)[:, :8])
    if name == "type":
        np.save(fog, np.load(fog).astype(np.float32))
    if name == "cut":
        fog.write_bytes(fog.read_bytes()[:1000])
    if name == "header":
        fog.write_bytes(b"\x93NUMPY" + b"\xff" * 200)
    if name == "archive":
        with fog.open("wb") as stream:
            np.savez(stream, fog=np.load(folder / "gaussian_noise.npy"))
    if name == "empty":
        for file in (fog, folder / "gaussian_noise.npy"):
            file.unlink()
    if name == "pickled":
        np.save(fog, np.array([{}], dtype=object), allow_pickle=True)
    if name == "json":
        (folder / "corrupt.json").write_text("{")
    if name == "json without":
        (folder / "corrupt.json").write_text("[]")
    if name == "json severity":
        (folder / "corrupt.json").write_text('{"severities": [1, 6]}')
    return config


@pytest.mark.parametrize(
    ("name", "error", "line"),
    [
        ("no folder", FileNotFoundError, "no such folder"),
        ("no labels", FileNotFoundError, r"has no labels\.npy"),
        ("other labels", ValueError, "does not hold the labels of noise"),
        ("labels short", ValueError, "has 100 labels"),
        ("no kind", FileNotFoundError, r"has no snow\.npy"),
        ("size", ValueError, r"expected uint8 \(215, 16, 16, 3\)"),
        ("type", ValueError, "is float32"),
        ("cut", ValueError, r"fog\.npy is not a whole array"),
        ("header", ValueError, r"fog\.npy is not a whole array"),
        ("archive", ValueError, r"fog\.npy is not a whole array: it is an archive"),
        ("empty", FileNotFoundError, "has no corrupted arrays"),
        ("pickled", ValueError, r"fog\.npy is not a whole array"),
        ("json", ValueError, "is not JSON"),
        ("json without", ValueError, 'needs "severities"'),
        ("json severity", ValueError, 'needs "severities"'),
    ],
)
def test_arrays_that_do_not_fit_are_refused_before_the_first_batch(
    name: str, error: type[Exception], line: str, tmp_path: Path
) -> None:
    net = _Net()
    with pytest.raises(error, match=line) as caught:
        evaluate(net, _images(), config=_array_fault(name, tmp_path / "c"), db=tmp_path / "r.db")
    assert "\n" not in str(caught.value)
    assert net.batches == 0


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"kinds": ("fogg",)}, r"unknown kind 'fogg' \(did you mean fog\?\)"),
        ({"kinds": ("clean",)}, "leave clean out of kinds"),
        ({"severities": (6,)}, r"from 1 to 5, got \(6,\)"),
        ({"severities": ()}, "from 1 to 5"),
        ({"parameters": "mnist"}, "cifar or imagenet, got 'mnist'"),
        ({"precision": "float16"}, "float32 or bfloat16, got 'float16'"),
        ({"workers": 1025}, "workers needs a number from 1 to 1024, got 1025"),
        ({"batch_size": 0}, "batch_size needs a number of at least 1, got 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        EvaluateConfig(**options)


class _Gives(nn.Module):
    def __init__(self, value: Callable[[int], Any]) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: Tensor) -> Any:
        return self.value(len(images))


@pytest.mark.parametrize(
    ("net", "line"),
    [
        (_Net(outputs=3), r"gives \(2, 3\) for \(2, 3, 16, 16\), expected \(2, 4\): noise has 4 classes"),
        (_Net(outputs=9), r"gives \(2, 9\)"),
        (_Gives(lambda count: torch.zeros(count)), r"gives \(2,\)"),
        (_Gives(lambda count: torch.zeros(count - 1, 4)), r"gives \(1, 4\)"),
        (
            _Gives(lambda count: {"scores": torch.zeros(count, 4)}),
            r"gives a dict of scores: .* Logits\(model\)",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(3, 4)), r"cannot take images of shape \(2, 3, 16, 16\): mat1"),
        (
            _Gives(lambda count: torch.full((count, 4), torch.nan)),
            "on clean images .* NaN for 43",
        ),
    ],
)
def test_outputs_that_cannot_be_scored_are_refused(net: nn.Module, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        evaluate(net, _images(), config=FOG)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ((torch.zeros(2, 3, 16, 16), [0, 1, 2]), "one label per image, got 2 images, labels"),
        ((torch.zeros(0, 3, 16, 16), []), "at least one image"),
        ((torch.zeros(2, 3, 16, 16), [0, -1]), "labels from 0"),
        ((torch.zeros(2, 2, 16, 16), [0, 1]), r"got \(2, 2, 16, 16\)"),
        ((torch.rand(2, 3, 16, 16), [0, 1]), "whole 255ths"),
        ((torch.zeros(2, 3, 16, 16) - 1, [0, 1]), "whole 255ths"),
        ((torch.zeros(2, 3, 16, 16), [0, 0.5]), "labels that are whole numbers"),
        (_Items([(np.zeros((8, 8, 3)), 0), (np.zeros((8, 9, 3)), 1)]), "images of one size"),
        (_Items([]), "at least one image"),
    ],
)
def test_data_that_cannot_be_corrupted_is_refused(data: Any, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        evaluate(_Net(), data, config=FOG)


def test_the_rest_is_refused_before_the_first_batch(tmp_path: Path) -> None:
    net = _Net()
    with pytest.raises(ValueError, match="there is no folder"):
        evaluate(net, _images(), config=FOG, db=tmp_path / "none" / "r.db")
    with pytest.raises(ValueError, match="spread needs at least 5 images, got 4"):
        evaluate(net, _images(4), config=replace(FOG, spread=True))
    for mean, std, line in (((1, 2), None, "mean needs 3 numbers"), (None, (0, 0, 0), "above 0")):
        with pytest.raises(ValueError, match=line):
            evaluate(net, _images(), config=FOG, mean=mean, std=std)
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_scores(tmp_path / "r.db")
    assert net.batches == 0


@pytest.mark.slow
def test_the_published_resnet20_is_right_on_9173_of_10000_test_images(shared: Path, tmp_path: Path) -> None:
    # Its own repository gives an error of 8.27 %.
    subprocess.run([sys.executable, shared / "cifar10" / "unpack.py", tmp_path], check=True)
    model = load_model(
        shared / "checkpoints" / "akamaster" / "resnet20.safetensors",
        arch="cifar_resnet20",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    config = EvaluateConfig(kinds=())
    scores = evaluate(model, load_data(f"cifar10:{tmp_path}"), config=config)
    assert int(scores.cells["clean", 0].bits.sum()) == 9173


@pytest.mark.slow
def test_the_published_resnet20_scores_beside_the_original_corruptions(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cell's accuracy on the original generator's images, and ours, both on the first 1,000 images."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    corruptions.install_textures(shared / "frost")
    subprocess.run([sys.executable, shared / "cifar10" / "unpack.py", tmp_path], check=True)
    benchmark = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "resnet20.py"))
    checkpoint = shared / "checkpoints" / "akamaster" / "resnet20.safetensors"
    scores = benchmark["run"](checkpoint, f"cifar10:{tmp_path}", images=1000)
    statistics = json.loads((shared / "reference_c" / "statistics.json").read_text())
    found = benchmark["beside"](scores, statistics)
    for average in found["averages"].values():
        assert abs(average["accuracy"] - average["reference"]) <= 0.006
    assert len(found["cells"]) == 95
    assert found["outside_95"] <= 10
    assert found["outside_4_sigma"] == 0


# Torch's own, while it compiles.
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_compiled_network_scores_alike_under_a_precision_of_its_own(workers: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    model = nn.Sequential(*layers, nn.Linear(24, 4)).eval()
    data, db = _images(), tmp_path / "results.db"
    # 43 images are no whole number of batches.
    settings = replace(FOG, batch_size=20)
    plain = evaluate(model, data, config=settings, db=db)
    config = replace(settings, compile=True, workers=workers)
    compiled = evaluate(model, data, config=config, db=db)
    assert (plain.precision, compiled.precision) == ("float32", "float32, compiled")
    assert compiled.average_at_hand() == plain.average_at_hand()
    assert len(load_scores(db)) == 2
    assert evaluate(model, data, config=config, db=db).average_at_hand() == compiled.average_at_hand()


def test_an_onnx_file_is_not_compiled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(b"\x08\x07\x12\x07pytorch")
    assert (
        main(["evaluate", str(file), "--data", "planted", "--compile", "--db", str(tmp_path / "r.db")]) == 2
    )
    assert "--compile is for networks of torch" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_network_runs_in_the_precision_that_is_said(precision: str) -> None:
    seen: list[torch.dtype] = []
    net = _Net()
    net.linear.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    evaluate(net, _images(), config=replace(FOG, precision=precision))
    assert seen[0] == seen[-1] == getattr(torch, precision)
    seen.clear()
    probe = ProbeConfig(precision=precision, radius=0.1)
    fourier_heatmap(net.eval(), _images(4), norm=1.0, config=probe)
    assert set(seen) == {getattr(torch, precision)}
