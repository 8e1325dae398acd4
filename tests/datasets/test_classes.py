"""Class folders are numbered as the network's outputs are, or the reader is asked how."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from filterbands.datasets import Reading, list_images, load_data


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / name / "1.png")
    return root


def test_folders_named_by_numbers_are_refused_until_their_order_is_given(tmp_path: Path) -> None:
    root = make(tmp_path / "d", *map(str, range(11)))
    with pytest.raises(ValueError, match=r"10 comes before 2 by name.*--class-order name .* or number"):
        list_images(root)
    by_name = list_images(root, reading=Reading(class_order="name"))
    by_number = list_images(root, reading=Reading(class_order="number"))
    assert by_name.classes == ("0", "1", "10", *map(str, range(2, 10)))
    assert by_number.classes == tuple(map(str, range(11)))
    assert [path.parent.name for path in by_number.paths] == list(by_number.classes)
    assert by_number.labels == tuple(range(11))


@pytest.mark.parametrize("names", [("0", "1", "2"), ("00", "02", "10"), ("1", "2", "10th"), ("a", "10", "9")])
def test_names_whose_orders_agree_or_that_are_no_numbers_need_no_option(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    root = make(tmp_path / "d", *names)
    assert list_images(root).classes == tuple(sorted(names))


def test_an_order_by_number_needs_numbers(tmp_path: Path) -> None:
    root = make(tmp_path / "d", "1", "2", "ten")
    with pytest.raises(ValueError, match=r"class folders that are all numbers, but .* has ten"):
        list_images(root, reading=Reading(class_order="number"))


@pytest.mark.parametrize(
    "content",
    [
        "eel\nant\nfly\nbee\n\n",
        "\ufeffeel\r\nant\r\nfly\r\nbee",
        json.dumps(["eel", "ant", "fly", "bee"]),
        json.dumps({"0": "eel", "1": "ant", "2": "fly", "3": "bee"}),
        json.dumps({"3": ["n4", "bee"], "0": ["n1", "eel"], "1": ["ant", "ants"], "2": ["n3", "fly"]}),
    ],
)
def test_a_file_of_names_maps_folders_to_the_outputs_of_a_larger_network(
    content: str, tmp_path: Path
) -> None:
    root = make(tmp_path / "d", "ant", "bee")
    (tmp_path / "names").write_bytes(content.encode())
    files = list_images(root, reading=Reading(classes=str(tmp_path / "names")))
    assert files.labels == (1, 3)
    assert files.present == (1, 3)
    assert len(files.classes) == 4
    assert files.limited(1).present == (1, 3)
    assert load_data(f"folder:{root}", reading=Reading(classes=str(tmp_path / "names"))).classes[1] == "ant"


def test_with_a_file_of_names_an_empty_or_single_class_folder_keeps_its_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make(tmp_path / "d", "bee")
    (root / "names.txt").write_text("ant\nbee\ncow")
    with pytest.raises(ValueError, match=r"at least 2 class folders .*found 1 \(bee\); --classes FILE"):
        list_images(root)
    reading = Reading(classes=str(root / "names.txt"))
    assert list_images(root, reading=reading).labels == (1,)
    # The file of names itself is no stranger.
    assert not caplog.messages
    (root / "ant").mkdir()
    assert list_images(root, reading=reading).labels == (1,)
    assert "1 class folders hold no images: ant" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ant\ncow", r"class folder bee of .* is not in .*names"),
        ("ant\nbees", r"did you mean bees\?"),
        ("ant\nbee\nbee", r"class folder bee .* for outputs 1 and 2"),
        ("ant\n\nbee", "no name for output 1"),
        ("", "no name for output 0|holds no names"),
        ('{"0": "ant", "2": "bee"}', 'lacks "1"'),
        ('{"ant": 0, "bee": 2}', 'lacks "0"'),
        ('["ant", 3]', "no name for output 1"),
        ('["ant", "bee"', "begins as JSON does, but is none"),
        (b"\xff\xfe\x00", "needs text or JSON"),
    ],
)
def test_a_file_that_does_not_name_every_folder_once_gives_one_line(
    content: str | bytes, message: str, tmp_path: Path
) -> None:
    root = make(tmp_path / "d", "ant", "bee")
    (tmp_path / "names").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        list_images(root, reading=Reading(classes=str(tmp_path / "names")))
    assert "\n" not in str(caught.value)


def test_a_missing_file_of_names_is_named(tmp_path: Path) -> None:
    root = make(tmp_path / "d", "ant", "bee")
    with pytest.raises(FileNotFoundError, match="there is no file nothing"):
        list_images(root, reading=Reading(classes="nothing"))


@pytest.mark.parametrize("options", [{"classes": "x"}, {"exif": True}, {"resize": 8}, {"crop": 8}])
def test_options_of_files_are_refused_for_other_data(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"--\S+ says how files of folder:DIR alone are read, got 'planted'"):
        load_data("planted", reading=Reading(**options))


@pytest.mark.parametrize(
    "text",
    [
        "n01440764 tench, Tinca tinca\nn01443537 goldfish",
        "n01440764\ttench\nn01443537\tgoldfish",
        '{"n01443537": 1, "n01440764": 0}',
        '{"model_type": "resnet", "id2label": {"1": "n01443537", "0": "n01440764"}}',
    ],
)
def test_files_of_names_that_people_have_are_read(text: str, tmp_path: Path) -> None:
    root = make(tmp_path / "d", "n01443537")
    (tmp_path / "names").write_text(text)
    found = list_images(root, reading=Reading(classes=str(tmp_path / "names")))
    assert (found.labels, len(found.classes)) == ((1,), 2)
