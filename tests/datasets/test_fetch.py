"""Downloads, from a folder in place of the authors' site, and the cache."""

import dataclasses
import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest

from filterbands.datasets import CIFARS, cached, cifar, fetch, fetch_cifar, load_data
from filterbands.disk import cache_folder

BATCH = 20
NAMES = tuple(f"name_{number}" for number in range(10))


def write_batches(folder):
    folder.mkdir()
    for number, name in enumerate(CIFARS["cifar10"].pickled.files):
        content = {"data": np.full((BATCH, 3072), number, np.uint8), "labels": [number] * BATCH}
        (folder / name).write_bytes(pickle.dumps({"label_names": list(NAMES)} if "meta" in name else content))
    return folder


def check_test_images(data):
    assert (len(data), data.classes) == (BATCH, NAMES)
    assert data.images.unique().tolist() == data.labels.unique().tolist() == [5]


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that stands for the authors' site, with an archive whose md5 is the known one."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(cifar, "_BATCH", BATCH)
    monkeypatch.setattr(cifar, "_VALIDATION", BATCH // 2)
    monkeypatch.setattr(fetch, "_SITE", site.as_uri() + "/")
    folder = write_batches(tmp_path / "made")
    (folder / "readme.html").write_text("not needed")
    archive = site / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as members:
        members.add(folder, "cifar-10-batches-py")
        outside = tarfile.TarInfo("cifar-10-batches-py/../../outside")
        outside.size = 3
        members.addfile(outside, io.BytesIO(b"bad"))
    _expect(monkeypatch, archive)
    return site


def _expect(monkeypatch, archive):
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setitem(CIFARS, "cifar10", dataclasses.replace(CIFARS["cifar10"], md5=md5))


def test_fetching_puts_the_data_set_into_a_folder_and_nothing_else(tmp_path, site):
    heard = []
    done = fetch_cifar("cifar10", tmp_path / "new" / "data", progress=lambda *news: heard.append(news))
    assert done == tmp_path / "new" / "data" / "cifar-10-batches-py"
    check_test_images(load_data(f"cifar10:{done}"))
    assert [path.name for path in done.parent.iterdir()] == ["cifar-10-batches-py"]
    assert not (done / "readme.html").exists()
    assert not list(tmp_path.rglob("outside"))
    size = (site / "cifar-10-python.tar.gz").stat().st_size
    assert heard[-1] == (size, size, "bytes")


def test_fetching_again_downloads_nothing_but_checks(tmp_path, site):
    done = fetch_cifar("cifar10", tmp_path / "data")
    (site / "cifar-10-python.tar.gz").unlink()
    assert fetch_cifar("cifar10", tmp_path / "data") == done
    (done / "data_batch_2").write_bytes(b"x")
    with pytest.raises(ValueError, match="data_batch_2 is truncated"):
        fetch_cifar("cifar10", tmp_path / "data")


def test_an_archive_already_in_the_folder_is_unpacked(tmp_path, site):
    (tmp_path / "data").mkdir()
    (site / "cifar-10-python.tar.gz").rename(tmp_path / "data" / "cifar-10-python.tar.gz")
    done = fetch_cifar("cifar10", tmp_path / "data")
    check_test_images(load_data(f"cifar10:{done}"))


def test_an_archive_of_another_md5_leaves_nothing(tmp_path, site):
    with (site / "cifar-10-python.tar.gz").open("ab") as archive:
        archive.write(b"more")
    with pytest.raises(ValueError, match="is not the known archive: expected md5"):
        fetch_cifar("cifar10", tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def test_an_archive_that_lacks_a_file_leaves_nothing(tmp_path, site, monkeypatch):
    archive = site / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as members:
        members.add(tmp_path / "made" / "test_batch", "cifar-10-batches-py/test_batch")
    _expect(monkeypatch, archive)
    with pytest.raises(ValueError, match="lacks cifar-10-batches-py/data_batch_1, "):
        fetch_cifar("cifar10", tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def test_an_unreachable_site_gives_an_error_that_says_what_to_do(tmp_path, site):
    with pytest.raises(
        ConnectionError, match=r"cifar-100-python\.tar\.gz cannot be downloaded .* download it elsewhere"
    ):
        fetch_cifar("cifar100", tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def test_the_cache_lists_its_entries_and_serves_cifar10_without_a_folder(tmp_path, site, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cached() == []
    with pytest.raises(
        FileNotFoundError, match="write cifar10:DIR, or fetch it once with filterbands data cifar10"
    ):
        load_data("cifar10")
    done = fetch_cifar("cifar10", tmp_path / "cache" / "filterbands")
    (entry,) = cached()
    assert (entry.name, entry.path) == ("cifar10", done)
    assert entry.bytes == sum(file.stat().st_size for file in done.iterdir())
    check_test_images(load_data("cifar10"))


def test_the_cache_is_under_home_unless_an_absolute_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == tmp_path / ".cache" / "filterbands"


@pytest.mark.parametrize("below", [True, False])
def test_a_folder_in_the_binary_layout_is_checked_and_not_downloaded_again(
    tmp_path, site, monkeypatch, below
):
    monkeypatch.setattr(fetch, "_download", None)
    place = tmp_path / "mine" / ("cifar-10-batches-bin" if below else "")
    place.mkdir(parents=True)
    for number, name in enumerate(CIFARS["cifar10"].binary.files):
        (place / name).write_bytes(bytes([number, *[number] * 3072]) * BATCH)
    (place / "batches.meta.txt").write_text("\n".join(NAMES))
    assert fetch_cifar("cifar10", tmp_path / "mine") == place
    check_test_images(load_data(f"cifar10:{tmp_path / 'mine'}"))


def test_a_folder_of_pickled_batches_itself_is_checked_and_not_downloaded_again(tmp_path, site, monkeypatch):
    monkeypatch.setattr(fetch, "_download", None)
    folder = write_batches(tmp_path / "mine")
    assert fetch_cifar("cifar10", folder) == folder


def test_the_cache_is_found_in_the_binary_layout_too(tmp_path, site, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = cache_folder() / "cifar-10-batches-bin"
    place.mkdir(parents=True)
    for number, name in enumerate(CIFARS["cifar10"].binary.files):
        (place / name).write_bytes(bytes([number, *[number] * 3072]) * BATCH)
    (place / "batches.meta.txt").write_text("\n".join(NAMES))
    check_test_images(load_data("cifar10"))
