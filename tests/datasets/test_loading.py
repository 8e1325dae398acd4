"""The specs of `load_data`, and the errors of wrong ones."""

import pytest

from filterbands.datasets import SPLITS, load_data


@pytest.mark.parametrize(
    "split", [pytest.param(one, marks=pytest.mark.slow if "train" in one else ()) for one in SPLITS]
)
def test_planted_has_every_split(split):
    data = load_data("planted:low=0.5", split=split)
    assert (data.name, data.split) == ("planted:low=0.5", split)
    assert len(data.classes) == 10


def test_an_empty_list_of_knobs_is_the_default():
    assert load_data("planted:").name == "planted"


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (
            "plantd",
            {},
            r"unknown data 'plantd' \(did you mean planted\?\); known are planted, digits,",
        ),
        ("/some/folder", {}, "unknown data '/some/folder'; known are"),
        ("", {}, "unknown data ''"),
        ("planted", {"split": "trian"}, r"no split 'trian' \(did you mean train\?\); splits are train,"),
        ("planted", {"size": 32}, r"--size .* files of folder:DIR alone are read, got 'planted'"),
        ("folder:x", {"size": 0}, "a side from 1 to 4096 pixels, got 0"),
        ("folder:", {}, "write folder:DIR"),
        ("npz", {}, "write npz:FILE"),
        ("planted:hihg=1", {}, r"did you mean high\?"),
    ],
)
def test_a_wrong_spec_gives_one_clear_line(spec, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_data(spec, **options)
    assert "\n" not in str(caught.value)


def test_a_bare_path_is_refused_with_the_known_kinds(tmp_path):
    with pytest.raises(ValueError, match="needs its kind in front of the place: one of planted, digits,"):
        load_data(str(tmp_path))


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "nothing")):
        load_data("cifar10:~/nothing")
