"""ImageSet: images with labels and class names, and their fingerprint; the names of splits."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from ..checks import hint
from ..types import Images, Labels
from .limits import limited_positions

SPLITS = ("train", "validation", "full_train", "test")
"""All splits; choices are made on `validation`, and `test` is used last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Labeled images of one size, with the number of each image in its split.

    Raises:
        ValueError: The images are no bytes of shape (b, c, h, w), there is not one label and one number per
            image, or a label is that of no class.
    """

    name: str
    """Name of the data set, such as `cifar10`."""
    split: str
    """Split of the data set, such as `test`."""
    images: Images
    """NCHW bytes."""
    labels: Labels
    """Class numbers, from 0."""
    classes: tuple[str, ...]
    """Names of all classes."""
    index: Int64[Tensor, " b"]
    """Number of each image in its split; it is the key of corruptions, so that a subset keeps its noise."""

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(
                f"ImageSet needs uint8 images of shape (b, c, h, w), got {self.images.dtype} of shape "
                f"{tuple(self.images.shape)}; convert floats in [0, 1] with "
                "(images * 255).round().to(torch.uint8)"
            )
        for what, given in (("labels", self.labels), ("index", self.index)):
            if given.dtype != torch.int64 or given.shape != self.images.shape[:1]:
                raise ValueError(
                    f"ImageSet needs int64 {what}, one per image, got {given.dtype} of shape "
                    f"{tuple(given.shape)} for {len(self.images):,} images"
                )
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(
                f"ImageSet needs labels from 0 to {len(self.classes) - 1}, since it has {len(self.classes)} "
                f"class names, got {int(self.labels.min())} to {int(self.labels.max())}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Int64[Tensor, " n"]) -> "ImageSet":
        """Return the images at these positions, with their numbers in the split."""
        return replace(self, images=self.images[index], labels=self.labels[index], index=self.index[index])

    def limited(self, limit: int | None) -> "ImageSet":
        """Return the images that a limit takes, with their numbers in the split; see `limited_positions`."""
        return self if limit is None else self.subset(limited_positions(self.labels, limit))

    def fingerprint(self) -> str:
        """Return the sha256 of pixels, labels, numbers and class names."""
        digest = hashlib.sha256()
        for array in (self.images, self.labels, self.index):
            digest.update(f"{array.dtype} {tuple(array.shape)}".encode())
            digest.update(array.contiguous().cpu().numpy().tobytes())
        digest.update(names_as_bytes(self.classes))
        return digest.hexdigest()


def names_as_bytes(names: Sequence[str]) -> bytes:
    """Return bytes for a fingerprint, other ones for any other names."""
    joined = "\x1f".join(names).encode()
    # Names that hold the separator could be those of others. No text holds the byte 255.
    return joined if joined.count(b"\x1f") < max(1, len(names)) else b"\xff" + json.dumps(names).encode()


def check_split(data: str, split: str) -> None:
    """Raise ValueError, with the name of the data, unless a split is one of `SPLITS`."""
    if split not in SPLITS:
        near = hint(split, SPLITS, closeness=0.7)
        raise ValueError(f"{data} has no split {split!r}{near}; splits are {', '.join(SPLITS)}")
