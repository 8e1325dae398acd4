"""`Corrupting`: corruption as a training transform."""

import copy
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, SupportsIndex

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..datasets import IMAGE_NAMES
from .table import check_files, check_images, check_severity, corrupt, expand_kinds


class Corrupting(nn.Module):
    """A transform that corrupts each uint8 image with new draws and leaves everything else unchanged.

    It works in `torchvision.transforms.v2.Compose`, in `nn.Sequential` and alone. Images come back as what
    they were: tensors, also of torchvision's types, PIL images or NumPy arrays. Of a sample such as (image,
    label) only the image is corrupted. Draws come from torch's default generator, as in dropout. It also
    draws in evaluation mode, because it is a transform and not a layer.

    Args:
        kind: A key of `CORRUPTIONS`, or several keys or sets of them (`c`, `cbar`), from which one is drawn
            per image.
        severity: 1 to 5, or several values from which one is drawn per image.
        parameters: `cifar` or `imagenet`.

    Raises:
        ValueError: The kind, severity or table is unknown, or, at the call, there is no image or `corrupt`
            refuses it.
        FileNotFoundError: Files that a kind reads, such as the textures of `frost`, are missing.

    >>> image = torch.full((3, 32, 32), 128, dtype=torch.uint8)
    >>> image, label = Corrupting("brightness", severity=3)((image, 7))
    >>> image.shape, image.unique().tolist(), label
    (torch.Size([3, 32, 32]), [166], 7)
    """

    def __init__(
        self,
        kind: str | Iterable[str],
        *,
        severity: SupportsIndex | Iterable[SupportsIndex] = (1, 2, 3, 4, 5),
        parameters: str = "cifar",
    ) -> None:
        super().__init__()
        self.kinds = expand_kinds([kind] if isinstance(kind, str) else kind, parameters=parameters)
        if isinstance(severity, np.ndarray | Tensor):
            severity = severity.tolist()
        listed = isinstance(severity, Iterable) and not isinstance(severity, SupportsIndex)
        several: Any = severity if listed else (severity,)
        self.severities = tuple(check_severity("Corrupting", one) for one in several)
        self.table = parameters
        for what, given in (("kind", self.kinds), ("severity", self.severities)):
            if not given:
                raise ValueError(f"Corrupting needs at least one {what}, got none")
        check_files(self.kinds)

    def forward(self, sample: object) -> Any:
        """Return the sample with its image corrupted.

        Args:
            sample: An image (c, h, w) or a batch (b, c, h, w) of bytes, c being 3 or, gray, 1; a PIL image of
                mode RGB or L; an array (h, w, c) or (b, h, w, c) of bytes; or a tuple, list or mapping of
                one. Its image is the first
                `tv_tensors.Image` there, else what a mapping holds under `image` or `img`, else the first PIL
                image or the first tensor or array of three or more axes; masks and boxes of torchvision's are
                none.
        """
        if not isinstance(sample, Mapping | tuple | list):
            return self._one(sample)
        place = _place(sample)
        if isinstance(sample, tuple):
            parts = list(sample)
            parts[place] = self._one(parts[place])
            return sample._make(parts) if hasattr(sample, "_make") else type(sample)(parts)
        made: Any = copy.copy(sample) if isinstance(sample, MutableMapping | list) else dict(sample)
        made[place] = self._one(made[place])
        return made

    def extra_repr(self) -> str:
        """Return the kinds, the severities and the table, for `print`."""
        kinds = self.kinds[0] if len(self.kinds) == 1 else self.kinds
        return f"{kinds!r}, severity={self.severities}, parameters={self.table!r}"

    def _one(self, image: object) -> Any:
        """Return an image or a batch corrupted, as what it was."""
        if isinstance(image, Image.Image):
            if image.mode not in ("RGB", "L"):
                raise ValueError(
                    f"Corrupting needs images of mode RGB or L, got mode {image.mode}; convert them with "
                    'image.convert("RGB")'
                )
            pixels = self._one(np.asarray(image).reshape(image.height, image.width, -1))
            return Image.fromarray(pixels.squeeze(2) if image.mode == "L" else pixels)
        if isinstance(image, np.ndarray) and image.ndim >= 3 and image.shape[-1] in (1, 3):
            tensor = torch.from_numpy(np.array(image)).movedim(-1, -3)
            return self._one(tensor).movedim(-3, -1).contiguous().numpy()
        if isinstance(image, Tensor) and image.is_floating_point():
            raise ValueError(
                f"Corrupting needs bytes, as in the published sets, got {image.dtype}; convert floats in "
                "[0, 1] with (images * 255).round().to(torch.uint8), or place it before ToTensor or ToDtype"
            )
        # Torchvision's types lose their type when they are indexed.
        plain: Any = image.as_subclass(Tensor) if isinstance(image, Tensor) else image
        is_single = isinstance(plain, Tensor) and plain.dim() == 3
        made: Any = self._batch(check_images(plain[None] if is_single else plain))
        return (made[0] if is_single else made).as_subclass(type(image))

    def _batch(self, images: Tensor) -> Tensor:
        # One seed per call and one number per image, so that no two images share a draw.
        seed = int(torch.randint(2**62, ()))
        cells = [(kind, severity) for kind in self.kinds for severity in self.severities]
        choice = torch.randint(len(cells), (len(images),))
        made = images.clone()
        for number, (kind, severity) in enumerate(cells):
            chosen = (choice == number).nonzero()[:, 0].to(images.device)
            if len(chosen):
                given: dict[str, Any] = {"severity": severity, "seed": seed, "parameters": self.table}
                made[chosen] = corrupt(images[chosen], kind, index=chosen, **given)
        return made


def _place(sample: Mapping[Any, Any] | tuple[Any, ...] | list[Any]) -> Any:
    """Return the key or number of a sample's image."""
    parts = dict(sample) if isinstance(sample, Mapping) else dict(enumerate(sample))
    # Without torchvision's module no tensor is one of its types.
    typed = sys.modules.get("torchvision.tv_tensors")
    found = {key: part for key, part in parts.items() if _is_image(part, typed)}
    if typed is not None:
        for key, part in found.items():
            if isinstance(part, typed.Image):
                return key
    for key in (*(name for name in IMAGE_NAMES if name in found), *found):
        return key
    kinds = ", ".join(type(part).__name__ for part in parts.values())
    raise ValueError(
        "Corrupting found no image in the sample, expected a tensor or array of three or four axes or a PIL "
        f"image, got {kinds or 'nothing'}"
    )


def _is_image(part: object, typed: Any) -> bool:
    if typed is not None and isinstance(part, typed.TVTensor):
        return isinstance(part, typed.Image | typed.Video)
    return isinstance(part, Image.Image) or (isinstance(part, Tensor | np.ndarray) and part.ndim >= 3)
