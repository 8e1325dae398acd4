"""Files are written whole or not at all; tables have the same rows in all formats."""

import csv
import json
import os
from pathlib import Path

import pytest

from filterbands.disk import check_table, put_in_place, write_table, write_text

ROWS = [{"name": 'é, "quoted"', "value": 0.25}, {"name": "b", "value": None, "more": 3}]


def test_text_replaces_a_file_in_one_step_with_the_usual_permissions(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("before")
    reader = file.open()
    write_text(file, "after é\n")
    assert file.read_bytes() == "after é\n".encode()
    # The old content stays whole for whoever has opened it.
    assert reader.read() == "before"
    reader.close()
    mask = os.umask(0)
    os.umask(mask)
    assert file.stat().st_mode & 0o777 == 0o666 & ~mask
    assert list(tmp_path.iterdir()) == [file]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("before")

    def interrupt(self: Path, text: str, **_: object) -> None:
        with self.open("w") as stream:
            stream.write(text[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(file, "after")
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_files_and_folders_are_put_in_their_place(tmp_path: Path) -> None:
    (tmp_path / "work" / "1").mkdir(parents=True)
    (tmp_path / "work" / "1" / "a.png").write_bytes(b"picture")
    (tmp_path / "work" / "b.npy").write_bytes(b"array")
    put_in_place(tmp_path / "work" / "1", tmp_path / "1")
    put_in_place(tmp_path / "work" / "b.npy", tmp_path / "b.npy")
    assert (tmp_path / "1" / "a.png").read_bytes() == b"picture"
    assert (tmp_path / "b.npy").read_bytes() == b"array"
    assert not list((tmp_path / "work").iterdir())


def test_a_table_has_the_columns_of_all_rows_in_csv_and_json(tmp_path: Path) -> None:
    write_table(ROWS, tmp_path / "t.csv")
    write_table(ROWS, tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text()) == ROWS
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    assert found == [
        {"name": ROWS[0]["name"], "value": "0.25", "more": ""},
        {"name": "b", "value": "", "more": "3"},
    ]


def test_a_table_of_another_suffix_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.csv, \.json, \.parquet, got t\.xlsx"):
        check_table(tmp_path / "t.xlsx")
    assert check_table(str(tmp_path / "t.CSV")) == tmp_path / "t.CSV"
