"""Image files of every mode, format and size as Pillow reads them, and what is said about them."""

import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from filterbands.datasets import Reading, image_size, load_data, read_images
from filterbands.datasets.decoding import SUFFIXES

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (9, 12, 4), dtype=np.uint8)


def read(path: Path, **options: Any) -> np.ndarray:
    return read_images([path], reading=Reading(**options))[0].permute(1, 2, 0).numpy()


def folder_of(tmp_path: Path, *images: Image.Image, suffix: str = "png", **options: Any) -> str:
    for label in "ab":
        (tmp_path / label).mkdir()
        for number, image in enumerate(images):
            image.save(tmp_path / label / f"{number}.{suffix}", **options)
    return f"folder:{tmp_path}"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("suffix", ["png", "JPEG", "tif", "tiff", "webp", "gif", "bmp", "ppm", "pgm"])
def test_every_mode_of_eight_bits_is_read_as_pillow_converts_it(
    mode: str, suffix: str, tmp_path: Path
) -> None:
    file = tmp_path / f"a.{suffix}"
    try:
        Image.fromarray(PIXELS if "A" in mode else PIXELS[..., :3]).convert(mode).save(file)
        # Before version 13 Pillow cannot read the YCbCr that it writes as TIFF.
        with Image.open(file) as image:
            expected = np.asarray(image.convert("RGB"))
    except (OSError, ValueError):
        pytest.skip(f"{suffix} has no {mode}")
    assert file.suffix.lower() in SUFFIXES
    assert np.array_equal(read(file), expected)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_color_of_a_palette_or_header_is_read_as_pillow_drops_it(
    mode: str, tmp_path: Path
) -> None:
    image = Image.fromarray(PIXELS[..., :3]).convert(mode)
    hidden = image.getpixel((0, 0))
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255]) if mode == "P" else hidden)
    assert np.array_equal(read(tmp_path / "a.png"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    ("background", "color"), [("white", 255), ("black", 0), ("9,9,9", 9), (None, 7), (" 9, 9,9", 9)]
)
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_transparent_image_is_put_on_the_background_or_loses_its_alpha_and_this_is_said(
    mode: str, background: str | None, color: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Black drawings on transparent black would otherwise become black images in silence."""
    clear, opaque = (Image.new("RGBA", (4, 4), (7, 7, 7, alpha)).convert(mode) for alpha in (0, 255))
    spec = folder_of(tmp_path, clear, opaque, **({"transparency": bytes([0] * 256)} if mode == "P" else {}))
    if mode == "P":
        for label in "ab":
            opaque.save(tmp_path / label / "1.png")
    images = load_data(spec, reading=Reading(background=background)).images
    assert images[0::2].unique().tolist() == [color]
    assert images[1::2].unique().tolist() == [7]
    (said,) = caplog.messages
    assert said.startswith(f"folder:{tmp_path.name}: 2 of 4 images are transparent: ")
    assert (f"put on {background}" if background else "--background white") in said


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("exif", [False, True])
def test_an_exif_orientation_is_applied_on_request_and_counted(
    exif: bool, suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image, orientation = Image.fromarray(PIXELS[:8, :8, :3]), Image.Exif()
    orientation[274] = 6
    spec = folder_of(tmp_path, image, suffix=suffix, exif=orientation)
    image.save(tmp_path / "a" / "1.png")
    with Image.open(tmp_path / "a" / f"0.{suffix}") as stored:
        expected = np.asarray(stored.convert("RGB"))
    found = load_data(spec, reading=Reading(exif=exif)).images[0].permute(1, 2, 0).numpy()
    # Orientation 6: the picture is to be turned clockwise.
    assert np.array_equal(found, np.rot90(expected, -1) if exif else expected)
    (said,) = caplog.messages
    assert "2 of 3 images have an EXIF orientation: " in said
    assert ("turned as it says" if exif else "--exif turns them") in said


def test_looking_for_an_orientation_costs_little(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    Image.fromarray(RANDOM.integers(0, 256, (224, 224, 3), dtype=np.uint8)).save(file)

    def seconds(work: Any) -> float:
        took = []
        for _ in range(30):
            began = time.perf_counter()
            work()
            took.append(time.perf_counter() - began)
        return min(took)

    def plain() -> None:
        with Image.open(file) as image:
            np.asarray(image.convert("RGB"))

    assert seconds(lambda: read(file)) < 3 * seconds(plain)


@pytest.mark.parametrize("suffix", ["gif", "webp", "tif", "png"])
def test_of_several_frames_or_pages_the_first_is_read_and_this_is_said(
    suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ((250, 0, 0), (0, 250, 0))]
    spec = folder_of(tmp_path, frames[0], suffix=suffix, save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a" / "one.png")
    red = load_data(spec).images.double().mean(dim=(0, 2, 3))
    torch.testing.assert_close(red, torch.tensor([250.0, 0, 0], dtype=torch.float64), rtol=0, atol=5)
    assert [said for said in caplog.messages if "2 of 3 images have several frames or pages" in said]


def _png(color: int, depth: int) -> bytes:
    """Return a PNG of 2x2 black pixels, of color type 0 (grey), 2 (RGB), 4 (grey, alpha) or 6 (RGBA)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = bytes(1 + 2 * {0: 1, 2: 3, 4: 2, 6: 4}[color] * depth // 8)
    head = struct.pack(">IIBBBBB", 2, 2, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(row * 2)), chunk(b"IEND", b""))
    )


def _tiff(depth: int) -> bytes:
    """Return a TIFF of 2x2 black RGB pixels."""
    size = 2 * 2 * 3 * depth // 8
    tags = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, 140), (277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, size), (284, 3, 1, 1)]
    assert 8 + 2 + 12 * len(tags) + 4 == 134
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head + struct.pack("<HHH", depth, depth, depth) + bytes(size)


@pytest.mark.parametrize(
    ("name", "wide", "narrow"),
    [
        *((f"{color}.png", _png(color, 16), _png(color, 8)) for color in (0, 2, 4, 6)),
        ("color.tif", _tiff(16), _tiff(8)),
        (
            "color.ppm",
            b"P6\n# made\n2 2\n# 7\n65535\n" + bytes(24),
            b"P6\n# made\n2 2\n# 7\n255\n" + bytes(12),
        ),
        ("grey.pgm", b"P5 2 2 256\n" + bytes(8), b"P5 2 2 255\n" + bytes(4)),
        ("text.ppm", b"P3 1 1 1000\n0 0 0\n", b"P3 1 1 100\n0 0 0\n"),
    ],
)
def test_samples_wider_than_a_byte_are_refused_also_where_pillow_would_cut_them(
    name: str, wide: bytes, narrow: bytes, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(wide)
    with pytest.raises(ValueError, match=f"{name} has samples wider than a byte; convert it to 8 bits"):
        read(file)
    file.write_bytes(narrow)
    assert not read(file).any()


def test_the_content_of_a_file_says_its_format_and_no_unusual_decoder_is_tried(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS[..., :3])
    image.save(tmp_path / "really.bmp")
    (tmp_path / "really.bmp").rename(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png"), PIXELS[..., :3])
    assert image_size(tmp_path / "a.png") == (9, 12)
    image.save(tmp_path / "b.tga")
    (tmp_path / "b.tga").rename(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b\.png cannot be read: not an image"):
        read(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b\.png cannot be read: not an image"):
        image_size(tmp_path / "b.png")


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"resize": 6}, (6, 8)),
        ({"resize": 5}, (5, 6)),  # 12 * 5 / 9 = 6.67, rounded down
        ({"crop": 4}, (4, 4)),
        ({"resize": 6, "crop": 4}, (4, 4)),
        ({"crop": 11}, (11, 11)),
        ({"size": 5}, (5, 5)),
    ],
)
def test_resizing_sets_the_short_side_and_cropping_cuts_the_center(
    options: dict[str, int], shape: tuple[int, int], tmp_path: Path
) -> None:
    Image.fromarray(PIXELS[..., :3]).save(tmp_path / "a.png")
    found = read(tmp_path / "a.png", **options)
    assert found.shape == (*shape, 3)
    if options == {"crop": 4}:
        # (9 - 4) / 2 = 2.5 is rounded to the even 2.
        assert np.array_equal(found, PIXELS[2:6, 4:8, :3])
    if options == {"crop": 11}:
        # One row of black above, one below; half a column too many left and right.
        assert np.array_equal(found[1:10], PIXELS[:, 0:11, :3])
        assert not found[[0, 10]].any()


def test_the_filter_is_pillows(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS[..., :3])
    image.save(tmp_path / "a.png")
    for name, resample in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
        expected = np.asarray(image.resize((6, 5), resample))
        assert np.array_equal(read(tmp_path / "a.png", resize=5, interpolation=name), expected)
    assert np.array_equal(
        read(tmp_path / "a.png", resize=5), read(tmp_path / "a.png", resize=5, interpolation="bilinear")
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 5000}, "size needs a side from 1 to 4096 pixels, or 0, got 5000"),
        ({"crop": -1}, "crop needs a side"),
        ({"size": 8, "crop": 8}, "size is short for --resize and --crop"),
        ({"crop": 8, "interpolation": "bicubic"}, "interpolation needs a side to resize to"),
        ({"size": 8, "interpolation": "nearest"}, "interpolation needs bilinear or bicubic, got 'nearest'"),
        ({"background": "red"}, "background needs white, black or R,G,B from 0 to 255, got 'red'"),
        ({"background": "1,2,256"}, "background needs white"),
        ({"class_order": "size"}, "class_order needs name or number"),
        ({"class_order": "name", "classes": "x"}, "class_order is for folders without --classes"),
    ],
)
def test_options_that_are_wrong_or_contradict_give_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reading(**options)


def test_a_size_is_the_same_reading_as_resize_and_crop() -> None:
    assert Reading(size=8) == Reading(resize=8, crop=8)
    assert Reading(size=8, interpolation="bilinear").pixels() == {"resize": 8, "crop": 8}
    assert Reading(background="white", classes="x").pixels() == {"background": [255, 255, 255]}
