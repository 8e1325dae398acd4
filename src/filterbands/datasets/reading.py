"""Reading: how the files of a folder become labeled images."""

import re
from dataclasses import dataclass, fields
from typing import Any

INTERPOLATIONS = ("bilinear", "bicubic")
"""The filters of Pillow that resizing may use."""

_COLORS = {"white": (255, 255, 255), "black": (0, 0, 0)}
_LARGEST = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the files of a folder are read.

    `size` is turned into `resize` and `crop`, so that it is 0 afterwards.
    """

    size: int = 0
    """Short for --resize N --crop N."""
    resize: int = 0
    """Short side in pixels to which images of folder:DIR are resized; 0 takes them as they are."""
    crop: int = 0
    """Side in pixels of the square that is cut from the center; 0 takes all."""
    interpolation: str | None = None
    """How images are resized: bilinear (the default) or bicubic, antialiased."""
    background: str | None = None
    """Color behind transparent images: white, black or R,G,B; by default their alpha is dropped."""
    exif: bool = False
    """Turn images as their EXIF orientation says."""
    classes: str | None = None
    """Names of the network's outputs, one per line or JSON, by which class folders are numbered."""
    class_order: str | None = None
    """Order of class folders that are all numbers: name (1, 10, 2) or number (1, 2, 10)."""

    def __post_init__(self) -> None:
        for name in ("size", "resize", "crop"):
            if not 0 <= getattr(self, name) <= _LARGEST:
                raise ValueError(
                    f"{name} needs a side from 1 to {_LARGEST} pixels, or 0, got {getattr(self, name)}"
                )
        if self.size and (self.resize or self.crop):
            raise ValueError("size is short for --resize and --crop (resize=, crop=); give it or these")
        if self.size:
            for name, value in (("resize", self.size), ("crop", self.size), ("size", 0)):
                object.__setattr__(self, name, value)
        if self.interpolation is not None and self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation needs {' or '.join(INTERPOLATIONS)}, got {self.interpolation!r}")
        if self.interpolation is not None and not self.resize:
            raise ValueError("interpolation needs a side to resize to: give --resize or --size too")
        if self.class_order not in (None, "name", "number"):
            raise ValueError(f"class_order needs name or number, got {self.class_order!r}")
        if self.class_order and self.classes:
            raise ValueError("class_order is for folders without --classes (classes=), which orders them")
        _ = self.color

    @property
    def color(self) -> tuple[int, ...] | None:
        """The background as red, green and blue from 0 to 255; None where alpha is dropped."""
        if self.background is None or self.background in _COLORS:
            return _COLORS.get(self.background or "")
        parts = self.background.split(",")
        if len(parts) != 3 or not all(re.fullmatch(r"\s*\d{1,3}\s*", part) for part in parts):
            parts = ["256"]
        if max(found := tuple(map(int, parts))) > 255:
            raise ValueError(f"background needs white, black or R,G,B from 0 to 255, got {self.background!r}")
        return found

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        return {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        }

    def pixels(self) -> dict[str, Any]:
        """Return those of them that change pixels; a background by its color, whatever its name was."""
        kept = {name: value for name, value in self.given().items() if name not in ("classes", "class_order")}
        if kept.get("interpolation") == INTERPOLATIONS[0]:
            del kept["interpolation"]
        return {**kept, "background": list(self.color)} if self.color else kept
