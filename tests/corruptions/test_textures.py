"""The textures of frost are found, checked, and put into the cache."""

import shutil
from pathlib import Path

import pytest
import torch

from filterbands.corruptions import corrupt, textures


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user without textures."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(textures, "_installed_folder", lambda: None)
    return tmp_path


@pytest.mark.usefixtures("empty")
def test_frost_without_textures_names_the_four_ways_to_them() -> None:
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(FileNotFoundError) as refusal:
        corrupt(images, "frost", severity=1, seed=0)
    message = str(refusal.value)
    assert "\n" not in message
    for way in (
        "data frost DIR",
        "`filterbands data frost`",
        "pip install imagecorruptions",
        "all-but-frost",
    ):
        assert way in message


def test_textures_are_taken_from_a_folder_once_checked(empty: Path, shared: Path) -> None:
    folder = textures.install_textures(shared / "frost")
    assert folder == textures.find_textures() == textures.texture_folder()
    assert sorted(path.name for path in folder.iterdir()) == sorted(textures.SHA256)
    assert [path.name for path in folder.parent.iterdir()] == ["frost"]


def test_textures_are_downloaded_by_name(empty: Path, shared: Path) -> None:
    def fetch(url: str, target: Path) -> None:
        shutil.copyfile(shared / "frost" / url.rsplit("/", 1)[1], target)

    assert textures.install_textures(fetch=fetch) == textures.find_textures()


def test_a_failed_download_is_an_error_and_leaves_the_cache_unchanged(empty: Path) -> None:
    def fetch(url: str, target: Path) -> None:
        raise OSError("no route to host")

    with pytest.raises(FileNotFoundError, match=r"cannot be downloaded .*no route to host.*imagecorruptions"):
        textures.install_textures(fetch=fetch)
    assert not textures.texture_folder().exists()


def test_what_a_killed_download_left_is_removed_by_the_next(empty: Path, shared: Path) -> None:
    cache = textures.texture_folder().parent
    for name in (".unfinished-killed", ".frost-of-an-earlier-version"):
        (cache / name).mkdir(parents=True)
    textures.install_textures(shared / "frost")
    assert sorted(path.name for path in cache.iterdir()) == [".frost-of-an-earlier-version", "frost"]


def test_another_file_is_refused_and_the_cache_is_unchanged(empty: Path) -> None:
    source = empty / "source"
    source.mkdir()
    for name in textures.SHA256:
        (source / name).write_bytes(b"not a picture of frost")
    with pytest.raises(ValueError, match=r"frost1.png is another file"):
        textures.install_textures(source)
    (source / "frost1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no frost1.png"):
        textures.install_textures(source)
    assert not textures.texture_folder().exists()


def test_an_installed_package_s_files_are_read(
    empty: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textures, "_installed_folder", lambda: shared / "frost")
    assert textures.find_textures() == shared / "frost"


def test_an_installed_package_s_files_are_read_without_a_home_folder(
    monkeypatch: pytest.MonkeyPatch, shared: Path
) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.setattr(textures, "_installed_folder", lambda: None)
    with pytest.raises(ValueError, match="no home folder for fetched data; set HOME or XDG_CACHE_HOME"):
        textures.find_textures()
    monkeypatch.setattr(textures, "_installed_folder", lambda: shared / "frost")
    assert textures.find_textures() == shared / "frost"


@pytest.mark.parametrize("scale", [0.2, 1])
@pytest.mark.parametrize("size", [(8, 8), (100, 40), (512, 700)])
def test_textures_cover_any_size(frost_textures: Path, scale: float, size: tuple[int, int]) -> None:
    pixels, shapes = textures.load_textures(frost_textures, scale, *size)
    assert (shapes[:, 1] > size[0]).all()
    assert (shapes[:, 2] > size[1]).all()
    assert int(shapes[-1, 0] + shapes[-1, 1] * shapes[-1, 2]) == pixels.shape[1]


def test_textures_that_are_there_are_not_fetched_again(
    frost_textures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def offline(url: str, _: Path) -> None:
        raise OSError(f"no network for {url}")

    with pytest.raises(FileNotFoundError, match="cannot be downloaded"):
        textures.install_textures(fetch=offline)
    folder = textures.install_textures(frost_textures)
    assert textures.install_textures(fetch=offline) == folder
    (folder / textures.USED[0]).write_bytes(b"damaged")
    textures._check.cache_clear()
    with pytest.raises(FileNotFoundError, match="cannot be downloaded"):
        textures.install_textures(fetch=offline)
