"""What data of the user hold: image and label of an item or a batch, in any of the common forms."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..engine import batch

IMAGE_NAMES = ("image", "img", "images", "pixel_values")
"""Names under which mappings hold images, the first that is there."""
LABEL_NAMES = ("label", "labels", "fine_label", "target", "targets")
"""Those of labels."""


def names_in(item: Mapping[Any, Any]) -> tuple[str, str | None]:
    """Return the names under which a mapping holds image and label, None without a label.

    Raises:
        ValueError: There is no image.
    """
    image, label = (
        next((name for name in names if name in item), None) for names in (IMAGE_NAMES, LABEL_NAMES)
    )
    if image is None:
        raise ValueError(
            f"items need their image under {' or '.join(IMAGE_NAMES)}, got "
            f"{', '.join(map(str, item)) or 'nothing'}; rename the column"
        )
    return image, label


def image_and_label(item: Any) -> tuple[Any, Any]:
    """Return image and label of an item, or those of a batch; None without a label.

    Args:
        item: A tuple or list that begins with them, a mapping as `names_in` reads it, or an image.

    >>> image_and_label({"img": "pixels", "fine_label": 3})
    ('pixels', 3)
    """
    if isinstance(item, Mapping):
        image, label = names_in(item)
        return item[image], None if label is None else item[label]
    if isinstance(item, tuple | list) and item:
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def pixels_of(image: Any) -> Any:
    """Return an image as a tensor or array; PIL images as RGB bytes, height x width x 3.

    Raises:
        ValueError: A PIL image with samples wider than a byte.
    """
    if not isinstance(image, Image.Image):
        return image if isinstance(image, Tensor) else np.asarray(image)
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"images have samples wider than a byte (mode {image.mode}); convert them to 8 bits")
    return np.asarray(image.convert("RGB"))


def tensors_in(verb: str, data: Any) -> Iterator[Tensor]:
    """Yield batches of images, NCHW, as they are, from batches or single items, labels left out.

    Raises:
        ValueError: Something that holds no images, or single images of several sizes.
    """
    if not isinstance(data, Iterable) and hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        data = map(data.__getitem__, range(len(data)))
    if not isinstance(data, Iterable):
        kind = type(data).__name__
        raise ValueError(f"{verb} needs an ImageSet, a tensor of images or batches of images, got {kind}")
    waiting: list[Tensor] = []
    for item in data:
        found = image_and_label(item)[0]
        if isinstance(found, Image.Image):
            found = torch.from_numpy(np.array(pixels_of(found))).movedim(2, 0)
        if not isinstance(found, Tensor) or found.ndim not in (3, 4):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"{verb} needs batches of images NCHW, got {shape}")
        if found.ndim == 4:
            yield found
            continue
        if waiting and found.shape != waiting[0].shape:
            raise ValueError(
                f"{verb} needs images of one size, got {tuple(waiting[0].shape)} and {tuple(found.shape)}; "
                "resize and crop them"
            )
        waiting.append(found)
        if len(waiting) == batch():
            yield torch.stack(waiting)
            waiting = []
    if waiting:
        yield torch.stack(waiting)
