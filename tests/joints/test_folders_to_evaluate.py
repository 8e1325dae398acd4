"""Folders of image files, clean and corrupted, give the scores that they should."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from filterbands.cli import main
from filterbands.corruptions import CopyConfig, copy_arrays
from filterbands.datasets import Reading, list_images, load_data, read_images
from filterbands.evaluation import EvaluateConfig, Files, Store, evaluate, load_scores
from filterbands.scores import Scores

CLASSES = ("ant", "bee", "cow")
KINDS = ("gaussian_noise", "fog", "pixelate")
MADE = EvaluateConfig(kinds=KINDS, severities=(2, 5), seed=7)
COPY = CopyConfig(kinds=KINDS, severities=(2, 5), seed=7)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three classes of eight pictures of many sizes, one of them in a folder of its class."""
    generator = np.random.default_rng(3)
    for label in CLASSES:
        (tmp_path / "clean" / label / "more").mkdir(parents=True)
        for number in range(8):
            pixels = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            picture = Image.fromarray(pixels).resize((30 + number, 24), Image.Resampling.BILINEAR)
            picture.save(tmp_path / "clean" / label / ("more" if number == 7 else "") / f"{number}.JPEG")
    return tmp_path / "clean"


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3)
    )


def _files(folder: Path, **options: Any) -> Files:
    reading = Reading(**options)
    return Files(files=list_images(folder, reading=reading), reading=reading, name="folder:clean")


def _answers(scores: Scores) -> dict[tuple[str, int], list[bool]]:
    return {place: cell.bits.tolist() for place, cell in scores.cells.items()}


@pytest.mark.parametrize(
    ("options", "more"),
    [
        pytest.param({"size": 16}, ["--size", "16"], marks=pytest.mark.slow),
        ({"resize": 20, "crop": 16, "interpolation": "bicubic"}, ["--resize", "20", "--crop", "16"]),
    ],
)
def test_a_copy_written_by_corrupt_scores_as_images_corrupted_here(
    options: dict[str, Any],
    more: list[str],
    pictures: Path,
    network: nn.Module,
    tmp_path: Path,
) -> None:
    more = [*more, *(["--interpolation", "bicubic"] if "interpolation" in options else [])]
    out = str(tmp_path / "copy")
    words = ["corrupt", f"folder:{pictures}", "--out", out, "--kinds", ",".join(KINDS), "--severities", "2,5"]
    assert main([*words, "--seed", "7", "--workers", "2" if "size" in options else "1", *more]) == 0
    files = _files(pictures, **options)
    made = evaluate(network, files, config=MADE)
    read = evaluate(network, files, config=EvaluateConfig(corrupted=out))
    assert _answers(read) == _answers(made)
    assert len({str(bits) for bits in _answers(made).values()}) > 2
    # A copy that was resized otherwise than the clean images is refused, not compared.
    with pytest.raises(ValueError, match=r"is of images read with resize .*, the clean ones are read with"):
        evaluate(network, _files(pictures, resize=20, crop=18), config=EvaluateConfig(corrupted=out))
    if "size" in options:
        # Workers read the same.
        again = evaluate(network, files, config=EvaluateConfig(corrupted=out, workers=2))
        assert _answers(again) == _answers(made)


def test_a_copy_of_whole_images_is_resized_as_the_clean_ones_are(
    pictures: Path, network: nn.Module, tmp_path: Path
) -> None:
    out = str(tmp_path / "copy")
    words = ["corrupt", f"folder:{pictures}", "--out", out, "--kinds", "contrast", "--severities", "5"]
    assert main(words) == 0
    files = _files(pictures, size=16)
    read = evaluate(network, files, config=EvaluateConfig(corrupted=out))
    paths = sorted((tmp_path / "copy" / "contrast" / "5").rglob("*.png"))
    assert len(paths) == 24
    expected = network(read_images(paths, reading=Reading(size=16)).float() / 255).argmax(1)
    named = read.cells["contrast", 5].predictions
    assert named is not None
    assert named.tolist() == expected.tolist()


def _publish(clean: Path, folder: Path, *, side: int) -> None:
    """Write copies as those of ImageNet-C: JPEG files, resized and cropped before they were corrupted."""
    for family, kind in (("noise", "gaussian_noise"), ("weather", "fog"), ("other", "mine")):
        for severity in range(1, 6):
            for path in clean.rglob("*.JPEG"):
                label = path.relative_to(clean).parts[0]
                place = folder / family / kind / str(severity) / label
                place.mkdir(parents=True, exist_ok=True)
                pixels = read_images([path], reading=Reading(resize=side + 4, crop=side))[0]
                darker = (pixels.float() * (1 - 0.15 * severity)).byte()
                image = Image.fromarray(darker.permute(1, 2, 0).numpy())
                image.save(place / f"{path.stem}.JPEG", quality=85)


@pytest.fixture
def published(pictures: Path, tmp_path: Path) -> Path:
    for label in CLASSES:
        (pictures / label / "more" / "7.JPEG").rename(pictures / label / "7.JPEG")
        (pictures / label / "more").rmdir()
    _publish(pictures, tmp_path / "c", side=16)
    return tmp_path / "c"


def test_the_published_layout_is_read_as_it_is_and_paired_with_the_clean_folder(
    pictures: Path, published: Path, network: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = _files(pictures, resize=20, crop=16)
    scores = evaluate(network, files, config=EvaluateConfig(corrupted=str(published)), db=tmp_path / "r.db")
    assert set(scores.cells) == {("clean", 0)} | {
        (kind, severity) for kind in ("gaussian_noise", "fog", "mine") for severity in range(1, 6)
    }
    for severity in (1, 5):
        folder = published / "weather" / "fog" / str(severity)
        paths = [folder / name for name in files.files.names]
        expected = network(read_images(paths).float() / 255).argmax(1)
        named = scores.cells["fog", severity].predictions
        assert named is not None
        assert named.tolist() == expected.tolist()
    assert sum("they are taken as they are" in said for said in caplog.messages) == 1
    # They come back from the database as one set.
    (stored,) = load_scores(tmp_path / "r.db")
    assert stored.to_json() == scores.to_json()
    assert stored.folder == str(published)


def test_fewer_images_and_another_severity_leave_the_scores_of_all_in_the_database(
    pictures: Path, published: Path, network: nn.Module, tmp_path: Path
) -> None:
    db, whole = tmp_path / "r.db", _files(pictures, resize=20, crop=16)
    first = evaluate(network, whole, config=EvaluateConfig(corrupted=str(published)), db=db)
    few = Files(files=whole.files.limited(10), reading=whole.reading, name="folder:clean")
    evaluate(network, few, config=EvaluateConfig(corrupted=str(published), severities=(3,)), db=db)
    loaded = {len(scores.labels): scores for scores in load_scores(db)}
    assert set(loaded) == {10, 24}
    assert loaded[24].to_json() == first.to_json()
    assert {scores.folder for scores in loaded.values()} == {str(published)}


def test_the_bytes_of_the_files_are_in_the_key(
    pictures: Path, published: Path, network: nn.Module, tmp_path: Path
) -> None:
    config, db = EvaluateConfig(corrupted=str(published), kinds=("fog",)), tmp_path / "r.db"
    files = _files(pictures, resize=20, crop=16)
    evaluate(network, files, config=config, db=db)
    Image.new("RGB", (16, 16)).save(published / "weather" / "fog" / "3" / "bee" / "5.JPEG")
    evaluate(network, files, config=config, db=db)
    with Store(db, readonly=True) as store:
        sources = [(cell.severity, cell.source) for cell, _ in store.cells() if cell.source]
    assert sorted(severity for severity, _ in sources) == [1, 2, 3, 3, 4, 5]
    assert len(set(sources)) == 6
    # The cell of the former file stays, without a folder, as that of a former array does.
    loaded = {scores.folder: set(scores.cells) for scores in load_scores(db)}
    [former] = loaded.keys() - {str(published)}
    assert former.startswith("files of sha256 ")
    assert loaded == {
        former: {("clean", 0), ("fog", 3)},
        str(published): {("clean", 0), *(("fog", severity) for severity in range(1, 6))},
    }


def test_copies_that_do_not_belong_to_the_clean_images_give_one_line(
    pictures: Path, published: Path, network: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    files, config = _files(pictures, resize=20, crop=16), EvaluateConfig(corrupted=str(published))

    def refused(kind: type[Exception], match: str, data: Any = files) -> None:
        with pytest.raises(kind, match=match) as caught:
            evaluate(network, data, config=config)
        assert "\n" not in str(caught.value)

    refused(ValueError, "give those as folder:DIR", load_data(f"folder:{pictures}", size=16))
    fog = published / "weather" / "fog" / "2"
    (fog / "cow" / "9.JPEG").write_bytes((fog / "cow" / "0.JPEG").read_bytes())
    evaluate(network, files, config=config)
    assert "has 1 images more in each cell than the clean ones, which are not read" in caplog.text
    (fog / "cow" / "3.png").write_bytes((fog / "cow" / "0.JPEG").read_bytes())
    refused(ValueError, r"are copies of one image; remove one")
    (fog / "cow" / "3.png").unlink()
    (fog / "cow" / "4.JPEG").unlink()
    refused(FileNotFoundError, r"fog/2 lacks copies of 1 of 24 clean images, first of cow/4\.JPEG")
    Image.new("RGB", (17, 16)).save(published / "weather" / "fog" / "1" / "ant" / "0.JPEG")
    Image.new("RGB", (16, 16)).save(fog / "cow" / "4.JPEG")
    # One file of another size does not change how the others are read.
    refused(ValueError, r"fog/1/ant/0\.JPEG is 16x17, but the clean images are 16x16|one size are needed")


def test_severities_that_a_kind_lacks_are_named(pictures: Path, published: Path, network: nn.Module) -> None:
    (published / "weather" / "fog" / "4").rename(published / "weather" / "fog" / "old")
    with pytest.raises(FileNotFoundError, match=r"fog has severities 1, 2, 3, 5, not 4"):
        evaluate(
            network,
            _files(pictures, resize=20, crop=16),
            config=EvaluateConfig(corrupted=str(published)),
        )
    with pytest.raises(FileNotFoundError, match=r"has no labels\.npy .* and no folders KIND/SEVERITY/CLASS"):
        evaluate(network, _files(pictures, size=16), config=EvaluateConfig(corrupted=str(pictures)))


@pytest.mark.parametrize("severity", [2, 5])
def test_labels_of_every_severity_are_compared_with_those_of_the_images(
    severity: int, pictures: Path, network: nn.Module, tmp_path: Path
) -> None:
    data = load_data(f"folder:{pictures}", size=16)
    (tmp_path / "copy").mkdir()
    copy_arrays(data, tmp_path / "copy", COPY)
    labels = np.load(tmp_path / "copy" / "labels.npy")
    labels[24 * (severity == 5)] = 1
    np.save(tmp_path / "copy" / "labels.npy", labels)
    with pytest.raises(ValueError, match=f"does not hold the labels of .* for severity {severity}"):
        evaluate(network, data, config=EvaluateConfig(corrupted=str(tmp_path / "copy")))


class _Wide(nn.Module):
    """A network of six outputs, of which those of ant, bee and cow are 1, 3 and 5, that likes the others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(32, 6)
        with torch.no_grad():
            self.head.bias[0::2] += 100

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.body(images))
        return found


def test_answers_are_chosen_among_all_outputs_or_the_classes_of_the_folder_under_keys_of_their_own(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"0": ["n0", "x"], "1": "ant", "2": "y", "3": "bee", "4": "z", "5": "cow"}))
    with pytest.raises(ValueError, match=r"expected \(2, 3\): .* --classes FILE \(classes=\)"):
        evaluate(_Wide(), _files(pictures, size=16), config=EvaluateConfig(kinds=()))
    files, db = _files(pictures, size=16, classes=str(names)), tmp_path / "r.db"
    among_all = evaluate(_Wide(), files, config=EvaluateConfig(kinds=("fog",), logits=True), db=db)
    assert "has images of 3 of 6 classes, and the network chooses among all; --present-only" in caplog.text
    assert among_all.clean == 0
    config = EvaluateConfig(kinds=("fog",), logits=True, present_only=True)
    # The first images are all ants, but the folder has three classes.
    few = Files(files=files.files.limited(8), reading=files.reading)
    for data in (files, few):
        scores = evaluate(_Wide(), data, config=config, db=db)
        assert caplog.messages[-1] == "evaluate: the network chooses among 3 of 6 classes"
        logits = _Wide()(read_images(data.files.paths, reading=files.reading).float() / 255)
        expected = logits[:, [1, 3, 5]].argmax(1) * 2 + 1
        named = scores.cells["clean", 0].predictions
        assert named is not None
        assert named.tolist() == expected.tolist()
        assert scores.precision == "float32, present only"
    assert [scores.precision for scores in load_scores(db) if len(scores.labels) == 24] == [
        "float32",
        "float32, present only",
    ]
    with Store(db, readonly=True) as store:
        assert store.data(among_all.pixels).classes == ("n0", "ant", "y", "bee", "z", "cow")


def _stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put networks of torchvision and timm in their packages' places, which need not be installed."""
    tv, timm, models = ModuleType("torchvision.models"), ModuleType("timm"), ModuleType("timm.models")

    def transforms() -> Any:
        mode = SimpleNamespace(value="bicubic")
        return SimpleNamespace(
            crop_size=[16], resize_size=[20], interpolation=mode, mean=[0.5] * 3, std=[0.5] * 3
        )

    weights = SimpleNamespace(DEFAULT=SimpleNamespace(transforms=transforms))
    tv.list_models = lambda: ["tiny"]  # type: ignore[attr-defined]
    tv.get_model_weights = lambda _: weights  # type: ignore[attr-defined]

    def network(*_: Any, **__: Any) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 5), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3))

    tv.get_model = network  # type: ignore[attr-defined]
    config = {"input_size": (3, 18, 18), "crop_pct": 0.8, "interpolation": "bilinear", "crop_mode": "center"}
    known = {"tiny": config, "squeezed": {**config, "crop_mode": "squash"}}
    models.get_pretrained_cfg = lambda name: SimpleNamespace(**known[name])  # type: ignore[attr-defined]
    timm.is_model, timm.create_model = known.__contains__, network  # type: ignore[attr-defined]
    for name, module in (("torchvision.models", tv), ("timm", timm), ("timm.models", models)):
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (
            "torchvision:tiny",
            {"resize": 20, "crop": 16, "interpolation": "bicubic"},
            "images are resized to 20 and cropped to 16 pixels, bicubic, as torchvision:tiny expects them",
        ),
        (
            "timm:tiny",
            {"resize": 22, "crop": 18},
            "resized to 22 and cropped to 18 pixels, bilinear, as timm",
        ),
    ],
)
def test_a_network_of_timm_or_torchvision_gets_images_as_it_expects_them_unless_a_size_is_given(
    model: str,
    options: dict[str, Any],
    said: str,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _stub(monkeypatch)
    words = [
        "evaluate",
        model,
        "--data",
        f"folder:{pictures}",
        "--kinds",
        "none",
        "--db",
        str(tmp_path / "r.db"),
    ]
    assert main(words) == 0
    assert said in caplog.text
    assert main([*words, "--size", "17"]) == 0
    assert len([one for one in caplog.messages if "expects them" in one]) == 1
    readings = (Reading(**options), Reading(size=17))
    expected = {load_data(f"folder:{pictures}", reading=one).fingerprint() for one in readings}
    assert {scores.pixels for scores in load_scores(tmp_path / "r.db")} == expected


def test_networks_that_expect_other_images_than_this_can_make_are_refused(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _stub(monkeypatch)
    rest = ["--data", f"folder:{pictures}", "--db", str(tmp_path / "r.db")]
    assert main(["evaluate", "timm:squeezed", *rest, "--kinds", "none"]) == 2
    assert "crop mode squash" in capsys.readouterr().err
    assert main(["probe", "timm:tiny", "torchvision:tiny", *rest, "--only", "passes"]) == 2
    assert "expect images of other sizes; give --resize and --crop" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate timm:tiny --data folder:{numbers}", "--class-order name (class_order=; as torchvision's"),
        ("corrupt folder:{numbers} --out {out}", "--class-order name"),
        ("evaluate timm:tiny --data folder:{clean} --size 8 --crop 8", "--size is short for --resize and"),
        ("evaluate timm:tiny --data folder:{clean} --interpolation bicubic", "--interpolation needs a side"),
        ("evaluate timm:tiny --data folder:{clean} --classes {names}", "class folder bee of"),
        ("evaluate timm:tiny --data folder:{clean} --background red", "--background needs white, black"),
        ("evaluate timm:tiny --data folder:{clean} --crop 9999", "--crop needs a side from 1 to 4096 pixels"),
        ("evaluate timm:tiny --data planted --size 8", "--size (size=) says how files of folder:DIR alone"),
        ("evaluate timm:tiny --data planted --exif", "--exif says how files of folder:DIR alone are read"),
        ("evaluate timm:tiny --data planted --corrupted {published}", "give those as folder:DIR"),
    ],
)
def test_a_mistake_about_files_gets_one_line(
    words: str,
    message: str,
    pictures: Path,
    published: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _stub(monkeypatch)
    for number in range(11):
        (tmp_path / "n" / str(number)).mkdir(parents=True)
    (tmp_path / "names").write_text("ant\ncow")
    places = {"numbers": "n", "clean": "clean", "names": "names", "published": "c", "out": "out"}
    filled = words.format(**{name: tmp_path / place for name, place in places.items()}).split()
    database = ["--db", str(tmp_path / "r.db")] if filled[0] == "evaluate" else []
    assert main([*filled, *database]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
