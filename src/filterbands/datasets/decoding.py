"""Image files as pixels: decoded to RGB, resized and cropped, with what is to be said about them."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from ..disk import check_input
from ..types import Images
from .reading import INTERPOLATIONS, Reading

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
"""The endings of names of image files, in small letters."""

Remarks = dict[str, set[Path]]
"""Files by what was remarked about them: transparent, turned or several."""

_LOG = logging.getLogger(__name__)
# Decoders that a file may meet; its content decides which one, not its name.
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
_LARGEST = 4 * 2**30
# Of a long image whose short side is brought to a size.
_PIXELS = 1 << 27
_ORIENTATION, _BITS_PER_SAMPLE = 274, 258
_FILTERS = dict(zip(INTERPOLATIONS, (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC), strict=True))
_DAMAGE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def read_images(
    paths: Sequence[Path], *, reading: Reading | None = None, remarks: Remarks | None = None
) -> Images:
    """Return image files decoded to RGB, in order.

    Every mode of at most 8 bits per sample is converted as Pillow converts it. Of several frames or pages the
    first one is read. Resizing and cropping give the bytes of torchvision's `Resize` and `CenterCrop` on
    Pillow's images: the short side becomes `resize`, the long side is rounded down, and where an image is
    smaller than `crop`, black is put around it.

    Args:
        paths: At least one file.
        reading: How to read them; None leaves images as they are, and all must have one size.
        remarks: Filled with the files that are transparent, turned by EXIF, or of several frames.

    Raises:
        ValueError: Sizes differ, a file is not a complete image or has samples wider than a byte, or the
            images need more than 4 GiB.
    """
    reading = Reading() if reading is None else reading
    remarks = {} if remarks is None else remarks
    first = _decode(paths[0], reading, remarks)
    height, width = first.shape[:2]
    if (total := len(paths) * 3 * height * width) > _LARGEST:
        raise ValueError(
            f"{len(paths):,} images of {height}x{width} take {total / 2**30:.1f} GiB decoded, more than the "
            f"limit of {_LARGEST / 2**30:g} GiB; use fewer images or a smaller --size (size=)"
        )
    images = np.empty((len(paths), height, width, 3), dtype=np.uint8)
    images[0] = first
    for number, path in enumerate(paths[1:], start=1):
        image = _decode(path, reading, remarks)
        if image.shape != first.shape:
            raise ValueError(
                f"images of one size are needed, but {paths[0]} is {height}x{width} and {path} is "
                f"{image.shape[0]}x{image.shape[1]} (height x width); give --size N (size=N), or --resize "
                "and --crop"
            )
        images[number] = image
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def say_remarks(remarks: Remarks, reading: Reading, *, images: int, name: str) -> None:
    """Say once for a data set how many files were remarked about, and how they were read."""
    turned = "turned as it says" if reading.exif else "read without it, as Pillow does; --exif turns them"
    how = {
        "transparent": f"are transparent: put on {reading.background}"
        if reading.color
        else "are transparent: alpha is dropped as Pillow drops it, which shows the colors that it hid; "
        "--background white puts them on white",
        "turned": f"have an EXIF orientation: {turned}",
        "several": "have several frames or pages: the first one is read",
    }
    for remark, text in how.items():
        if files := remarks.get(remark):
            _LOG.warning("%s: %d of %d images %s (%s)", name, len(files), images, text, min(files).name)


def image_size(path: Path) -> tuple[int, int]:
    """Return height and width of an image file as it is stored, from its first bytes.

    Raises:
        ValueError: The file is not an image.
    """
    try:
        with Image.open(check_input(path), formats=_FORMATS) as image:
            return image.height, image.width
    except _DAMAGE as error:
        raise _unreadable(path, error) from None


def _decode(path: Path, reading: Reading, remarks: Remarks) -> Any:
    try:
        with check_input(path).open("rb") as stream:
            head = stream.read(1024)
            stream.seek(0)
            with Image.open(stream, formats=_FORMATS) as image:
                # Before the pixels are there: the loader of some formats forgets it.
                several = image.format != "MPO" and bool(getattr(image, "is_animated", False))
                wide = _is_wide(image, head)
                rgb = None if wide else _as_rgb(image, path, reading, remarks)
    except _DAMAGE as error:
        raise _unreadable(path, error) from None
    if rgb is None:
        raise ValueError(f"{path} has samples wider than a byte; convert it to 8 bits")
    if several:
        remarks.setdefault("several", set()).add(path)
    try:
        return np.asarray(_fitted(rgb, reading))
    except ValueError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ValueError:
    reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
    return ValueError(f"{path} cannot be read: {reason}; copy it again or remove it")


def _is_wide(image: Image.Image, head: bytes) -> bool:
    """Return whether samples are wider than a byte; Pillow cuts those of colors to 8 bits in silence."""
    if image.mode.startswith(("I", "F")):
        return True
    if image.format == "PNG":
        return head[24] > 8
    if image.format == "TIFF":
        return bool(max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))) > 8)  # type: ignore[attr-defined]
    if image.format == "PPM" and head[:2] in (b"P2", b"P3", b"P5", b"P6"):
        # Magic number, width, height, largest value.
        words = re.sub(rb"#[^\r\n]*", b"", head).split(maxsplit=4)
        return len(words) > 3 and words[3].isdigit() and int(words[3]) > 255
    return False


def _as_rgb(image: Image.Image, path: Path, reading: Reading, remarks: Remarks) -> Image.Image:
    image.load()
    # Pillow turns a TIFF itself.
    if image.format != "TIFF" and image.getexif().get(_ORIENTATION, 1) in range(2, 9):
        remarks.setdefault("turned", set()).add(path)
        if reading.exif:
            image = ImageOps.exif_transpose(image)
    if not ("A" in image.getbands() or "transparency" in image.info):
        return image.convert("RGB")
    # Through RGBA, since Pillow warns of palettes with alpha that become RGB; the bytes are the same.
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema()[0] == 255:
        return rgba.convert("RGB")
    remarks.setdefault("transparent", set()).add(path)
    if reading.color is not None:
        rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, (*reading.color, 255)), rgba)
    return rgba.convert("RGB")


def _fitted(image: Image.Image, reading: Reading) -> Image.Image:
    if side := reading.resize:
        short, long = sorted(image.size)
        other = int(side * long / short)
        if side * other > _PIXELS:
            raise ValueError(
                f"{image.width}x{image.height} pixels would become {side * other:,}, more than the limit of "
                f"{_PIXELS:,}"
            )
        size = (side, other) if image.width <= image.height else (other, side)
        image = image.resize(size, _FILTERS[reading.interpolation or INTERPOLATIONS[0]])
    if side := reading.crop:
        left, top = (_offset(length, side) for length in image.size)
        # Pillow fills with black what is outside of the image.
        image = image.crop((left, top, left + side, top + side))
    return image


def _offset(length: int, side: int) -> int:
    return round((length - side) / 2) if length >= side else -((side - length) // 2)
