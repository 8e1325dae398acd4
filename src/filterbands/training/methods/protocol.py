"""What a training method is: a function from a batch to a loss, and what it declares of itself."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from ...types import FloatImages, Keys, Labels

Partners = Float[Tensor, "p b c h w"]
"""Other images that each image of a batch is mixed with: p of them an image."""


class Step(NamedTuple):
    """What a method returns: the loss to descend, and the logits of each image for the live accuracy."""

    loss: Float[Tensor, ""]
    logits: Float[Tensor, "b classes"]


@runtime_checkable
class Loss(Protocol):
    """The loss of a method."""

    def __call__(
        self,
        model: nn.Module,
        images: FloatImages,
        labels: Labels,
        *,
        key: Keys,
        smoothing: float,
        partners: Partners,
    ) -> Step:
        """Return the loss of one batch of cropped and flipped images in [0, 1]."""
        ...


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

    loss: Loss
    """What it descends."""
    views: int = 1
    """Forward passes an image and step; plain training has one."""
    partners: int = 0
    """How many other images an image is mixed with."""
    resembles: tuple[str, ...] = ()
    """Benchmark kinds that it shows images of, or nearly: its scores there say little about the others."""

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
            key: One random key an image, fresh every epoch. With its partners it decides all that is drawn.
            smoothing: Label smoothing, in [0, 1).
            partners: The images to mix with, as many as `partners` says or more; None takes those that
                follow in the batch, so that an image's view then depends on the batch.
        """
        if partners is None:
            partners = images.new_empty(0, *images.shape)
            if self.partners:
                partners = _neighbours(images, self.partners)
        return self.loss(model, images, labels, key=key, smoothing=smoothing, partners=partners)


def _neighbours(images: FloatImages, count: int) -> Partners:
    rolled = [images.roll(-1 - number, dims=0) for number in range(count)]
    partners: Tensor = images.new_empty(count, *images.shape)
    for number, batch in enumerate(rolled):
        partners[number] = batch
    return partners
