"""What a training method is: views of a batch, a loss over their logits, and what it declares of itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...engine import logits_in
from ...types import FloatImages, Keys, Labels, check_range_of_images

Partners = Float[Tensor, "p b c h w"]
"""Other images that each image of a batch is mixed with: p of them per image."""
Views = Float[Tensor, "n c h w"]
"""Views of a batch, one whole batch after the other."""


class Step(NamedTuple):
    """What a method returns: the loss to descend, and the logits of each image for the live accuracy."""

    loss: Float[Tensor, ""]
    logits: Float[Tensor, "b classes"]


View = Callable[..., Views]
"""What the network sees of a batch: called with cropped and flipped images in [0, 1], as many other batches
as the method has partners, and `key`."""


Loss = Callable[..., Float[Tensor, ""]]
"""A loss: called with the logits of all views, which follow each other as the views do, the labels of one
view, and `smoothing`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A training method: call it with a batch to get its loss.

    >>> import torch
    >>> from filterbands import rng
    >>> from filterbands.training import METHODS
    >>> network, images = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), torch.rand(4, 3, 8, 8)
    >>> key = rng.keys(0, "epoch", 1, index=torch.arange(4))
    >>> METHODS["apr_p"](network, images, torch.arange(4), key=key).loss.shape
    torch.Size([])
    """

    view: View
    """What the network sees of a batch."""
    loss: Loss
    """What is descended."""
    views: int = 1
    """Forward passes per image and step; plain training has one."""
    partners: int = 0
    """How many other images each image is mixed with."""
    keeps_first: bool = False
    """Whether the first view stays clean where the network's input is perturbed. Other methods that have a
    clean view of their own, such as `augmix_jsd`, have it perturbed like the others."""
    leaves_range: bool = False
    """Whether views leave [0, 1], so that nothing in front of the network may need that range."""
    resembles: tuple[str, ...] = ()
    """Kinds of corruption that the views resemble: accuracy on them shows no robustness to unseen kinds."""

    def __call__(
        self,
        model: nn.Module,
        images: FloatImages,
        labels: Labels,
        *,
        key: Keys,
        smoothing: float = 0.0,
        partners: Partners | None = None,
    ) -> Step:
        """Return the loss of one batch of cropped and flipped images in [0, 1].

        Args:
            model: Takes NCHW in [0, 1], returns logits. It is called once.
            images: The batch; left as it is.
            labels: Its class numbers.
            key: One random key per image, fresh every epoch. With its partners it decides all that is drawn.
            smoothing: Label smoothing, in [0, 1).
            partners: The images to mix with, as many as `partners` says or more; None takes those that
                follow in the batch, so that an image's view then depends on the batch.

        Raises:
            ValueError: The images are no floats of shape (b, c, h, w) in [0, 1], or labels, keys or partners
                are not one per image.
        """
        _check(images, labels, key, partners, self.partners)
        # Where a view is the batch itself, a network that normalizes in place would change it.
        return self.step(model, images.clone(), labels, key=key, smoothing=smoothing, partners=partners)

    def step(
        self,
        model: nn.Module,
        images: FloatImages,
        labels: Labels,
        *,
        key: Keys,
        smoothing: float = 0.0,
        partners: Partners | None = None,
    ) -> Step:
        """Return what a call returns, for images that are known to be in [0, 1]: to see it takes time."""
        if partners is None:
            partners = images.new_empty(self.partners, *images.shape)
            for number in range(self.partners):
                partners[number] = images.roll(-1 - number, dims=0)
        others = [partners[number] for number in range(self.partners)]
        # Images are mixed in float32, whatever the network computes in.
        with torch.autocast(images.device.type, enabled=False):
            views = self.view(*(held.float() for held in (images, *others)), key=key).to(images.dtype)
        logits = logits_in(model(views))
        return Step(self.loss(logits, labels, smoothing=smoothing), logits[: len(images)])


def _check(images: Tensor, labels: Tensor, key: Tensor, partners: Tensor | None, wanted: int) -> None:
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            f"a method needs float images of shape (b, c, h, w) in [0, 1], got {images.dtype} of shape "
            f"{tuple(images.shape)}; convert bytes with images.float() / 255"
        )
    for what, given in (("label", labels), ("key", key)):
        if given.shape != images.shape[:1]:
            raise ValueError(
                f"a method needs one {what} per image, {len(images)}, got shape {tuple(given.shape)}"
            )
    if partners is not None and (partners.shape[1:] != images.shape or len(partners) < wanted):
        raise ValueError(
            f"a method needs partners of shape ({wanted}, {', '.join(map(str, images.shape))}), got "
            f"{tuple(partners.shape)}"
        )
    check_range_of_images("a method", images, "give it images that are not normalized")
