"""Cross entropy on the images as they are."""

import torch.nn.functional as F
from torch import nn

from ...types import FloatImages, Keys, Labels
from .protocol import Partners, Step


def standard(
    model: nn.Module,
    images: FloatImages,
    labels: Labels,
    *,
    key: Keys,
    smoothing: float,
    partners: Partners,
) -> Step:
    """Return the mean cross entropy of the batch."""
    del key, partners
    logits = model(images)
    return Step(F.cross_entropy(logits, labels, label_smoothing=smoothing), logits)
