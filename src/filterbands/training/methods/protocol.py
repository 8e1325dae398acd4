"""What a training method is: a function from a batch to a loss."""

from typing import NamedTuple, Protocol

from jaxtyping import Float
from torch import Tensor, nn

from ...types import FloatImages, Keys, Labels


class Step(NamedTuple):
    """What a method returns: the loss to descend, and the logits of each image for the live accuracy."""

    loss: Float[Tensor, ""]
    logits: Float[Tensor, "b classes"]


class Method(Protocol):
    """A training method."""

    def __call__(
        self, model: nn.Module, images: FloatImages, labels: Labels, *, key: Keys, smoothing: float
    ) -> Step:
        """Return the loss of one batch of cropped and flipped images in [0, 1].

        Args:
            model: Takes NCHW in [0, 1], returns logits.
            images: The batch.
            labels: Its class numbers.
            key: One random key an image, fresh every epoch.
            smoothing: Label smoothing, in [0, 1).
        """
        ...
