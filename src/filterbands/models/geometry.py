"""The size and the cut of images with which the accuracy of a public network was published."""

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How images are resized and cropped for a network."""

    resize: int
    """Short side in pixels."""
    crop: int
    """Side of the square that is cut from the center."""
    interpolation: str
    """Filter of the resizing, such as bilinear."""


def published_geometry(spec: str) -> Geometry | None:
    """Return how timm or torchvision prepare images for a network of theirs, without loading its weights.

    Args:
        spec: `timm:NAME` or `torchvision:NAME`.

    Returns:
        None for any other text, an unknown name, a missing package, or a network of whole scenes.

    Raises:
        ValueError: They do it in another way than by the short side and a centered square.
    """
    package, _, name = spec.partition(":")
    if package not in _PACKAGES or not name:
        return None
    module, read = _PACKAGES[package]
    try:
        return read(importlib.import_module(module), name, spec)
    except ImportError:
        return None


def _of_timm(models: Any, name: str, spec: str) -> Geometry | None:
    config = models.get_pretrained_cfg(name)
    if config is None:
        return None
    _, height, width = config.input_size
    # Others squeeze images, or put a border around them.
    if height != width or config.crop_mode not in ("", None, "center"):
        raise _other(spec, f"{height}x{width}, crop mode {config.crop_mode}")
    resize = math.floor(height / (config.crop_pct or 0.875))
    return _checked(spec, resize, height, config.interpolation or "bicubic")


def _of_torchvision(models: Any, name: str, spec: str) -> Geometry | None:
    if name not in models.list_models():
        return None
    prepared = models.get_model_weights(name).DEFAULT.transforms()
    crop, resize = (getattr(prepared, side, None) for side in ("crop_size", "resize_size"))
    if not crop or not resize:
        return None
    if len(crop) > 1 or len(resize) > 1:
        raise _other(spec, f"resize to {resize}, crop to {crop}")
    return _checked(spec, resize[0], crop[0], prepared.interpolation.value)


def _checked(spec: str, resize: int, crop: int, interpolation: str) -> Geometry:
    if interpolation not in ("bilinear", "bicubic"):
        raise _other(spec, f"interpolation {interpolation}")
    return Geometry(resize=resize, crop=crop, interpolation=interpolation)


def _other(spec: str, how: str) -> ValueError:
    return ValueError(
        f"{spec} was published with images prepared in another way ({how}) than by resizing the short side "
        "and cropping the center; give --resize and --crop (reading=), and expect another accuracy"
    )


_PACKAGES: Mapping[str, tuple[str, Callable[[Any, str, str], Geometry | None]]] = {
    "timm": ("timm.models", _of_timm),
    "torchvision": ("torchvision.models", _of_torchvision),
}
