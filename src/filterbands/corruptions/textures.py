"""The textures of `frost`: where they are searched for, and how they are put into the user's cache.

They cannot be redistributed with this package. Five of six files are used, as in the original, which never
draws the sixth. All files are checked by their sha256.
"""

import hashlib
import shutil
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor

from ..disk import cache_folder, working_folder

SHA256 = {
    "frost1.png": "ff9f907860bd7a835d459e32f9d588062b7f61ee267343cc7222b56753a14755",
    "frost2.png": "fe211a89b336999c207a852ce05818d4545d0b57c5beadd824b4cc9d9a9b6137",
    "frost3.png": "2d0d50b4a9bb213f38b024ef7768731bb83cc08d2f26b5766bbc167cdfa0e504",
    "frost4.jpg": "3f8b91ca1a9fa7167b09e773da53f5ae60d0a1fd88f02a783f6e328a72887f6e",
    "frost5.jpg": "5fc6a19df4a429ba68abdcc8f8a4278d4c9f81c9ccafd2c92ab0c8cf8992ebd2",
    "frost6.jpg": "1f92b2f48408748085b68dd81d816ef239f42cef3029c25d041fcb6760fb4f25",
}
USED = tuple(SHA256)[:5]
_SOURCE = "https://raw.githubusercontent.com/hendrycks/robustness/master/ImageNet-C/create_c/"


def texture_folder() -> Path:
    """Return the folder of the textures in the user's cache; it need not exist."""
    return cache_folder() / "frost"


def find_textures() -> Path:
    """Return a folder that contains the textures: the user's cache, else an installed imagecorruptions.

    Raises:
        FileNotFoundError: Neither contains them; the message says how to get them.
        ValueError: A file differs from the original.
    """
    for place in (texture_folder, _installed_folder):
        folder = None
        # There may be no home folder, and yet the package.
        with suppress(ValueError):
            folder = place()
        if folder is not None and all((folder / name).is_file() for name in USED):
            _check(folder, USED)
            return folder
    raise FileNotFoundError(
        f"frost needs six texture files, found neither in {texture_folder()} nor in an installed "
        "imagecorruptions; run `filterbands data frost DIR` (DIR contains them), or `filterbands data frost` "
        "(downloads them), or `pip install imagecorruptions`, or omit frost (`--kinds all-but-frost`)"
    )


def install_textures(
    source: Path | None = None, *, fetch: Callable[[str, Path], object] = urllib.request.urlretrieve
) -> Path:
    """Put the six textures into the user's cache, from a folder or by download, and return their folder.

    Args:
        source: A folder that contains them; None downloads them from the repository of the original, unless
            they are there already.
        fetch: The function that downloads a URL to a file.

    Raises:
        FileNotFoundError: The folder lacks a file, or a file cannot be downloaded.
        ValueError: A file differs from the original; the cache is then unchanged.
    """
    target = texture_folder()
    if source is None and all((target / name).is_file() for name in SHA256):
        with suppress(ValueError):
            _check(target, tuple(SHA256))
            return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with working_folder(target.parent) as fresh:
        for name in SHA256:
            if source is None:
                try:
                    fetch(_SOURCE + name, fresh / name)
                except OSError as error:
                    raise FileNotFoundError(
                        f"the textures of frost cannot be downloaded ({_SOURCE + name}: {error}); name a "
                        f"folder that contains {', '.join(SHA256)}, or `pip install imagecorruptions`"
                    ) from error
            elif (source / name).is_file():
                shutil.copyfile(source / name, fresh / name)
            else:
                raise FileNotFoundError(f"frost needs {', '.join(SHA256)}; {source} has no {name}")
        _check(fresh, tuple(SHA256))
        target.mkdir(exist_ok=True)
        for name in SHA256:
            (fresh / name).replace(target / name)
    return target


def load_textures(
    folder: Path, scale: float, h: int, w: int
) -> tuple[UInt8[Tensor, "3 n"], Int64[Tensor, "5 3"]]:
    """Return the pixels of the used textures, concatenated, and (start, height, width) of each.

    Args:
        folder: What `find_textures` returns.
        scale: 1 or 0.2; 0.2 takes each fifth pixel, which equals the bilinear reduction of the original.
        h: Height of the images to cover. A texture that is not larger is enlarged, which has no counterpart
            in the original.
        w: Width of the images to cover.
    """
    sizes = []
    for image in _decoded(folder, scale):
        enlarge = max(1.0, (h + 1) / image.height, (w + 1) / image.width)
        enlarged = max(w + 1, round(image.width * enlarge)), max(h + 1, round(image.height * enlarge))
        sizes.append(enlarged if enlarge > 1 else image.size)
    return _joined(folder, scale, tuple(sizes))


# Images of most sizes are covered by the textures as they are, so that these are decoded and joined once.
@lru_cache(maxsize=4)
def _decoded(folder: Path, scale: float) -> list[Image.Image]:
    images = []
    for name in USED:
        with Image.open(folder / name) as picture:
            image = picture.convert("RGB")
        step = round(1 / scale)
        if step > 1:
            rows, columns = round(image.height * scale), round(image.width * scale)
            pixels = np.asarray(image)[step // 2 :: step, step // 2 :: step][:rows, :columns]
            image = Image.fromarray(np.ascontiguousarray(pixels))
        images.append(image)
    return images


@lru_cache(maxsize=4)
def _joined(
    folder: Path, scale: float, sizes: tuple[tuple[int, int], ...]
) -> tuple[UInt8[Tensor, "3 n"], Int64[Tensor, "5 3"]]:
    lines, shapes, start = [], [], 0
    for plain, size in zip(_decoded(folder, scale), sizes, strict=True):
        image = plain if plain.size == size else plain.resize(size, Image.Resampling.BILINEAR)
        lines.append(np.asarray(image).reshape(-1, 3).T)
        shapes.append((start, image.height, image.width))
        start += image.height * image.width
    return torch.from_numpy(np.concatenate(lines, axis=1)), torch.tensor(shapes)


def _installed_folder() -> Path | None:
    """Return the folder of textures of an installed imagecorruptions, without importing it."""
    try:
        return Path(str(metadata.distribution("imagecorruptions").locate_file("imagecorruptions/frost")))
    except metadata.PackageNotFoundError:
        return None


@lru_cache(maxsize=8)
def _check(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != SHA256[name]:
            raise ValueError(
                f"frost needs the original textures, but {folder / name} is another file; replace it"
            )
