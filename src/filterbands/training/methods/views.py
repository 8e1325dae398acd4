"""Losses over several views of the same images, each with one pass through the network."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...types import FloatImages, Labels
from .protocol import Step

JSD_WEIGHT = 12.0


def mean_of_views(
    model: nn.Module, first: FloatImages, second: FloatImages, labels: Labels, *, smoothing: float
) -> Step:
    """Return the mean cross entropy of two views, and the first one's logits."""
    both: Tensor = model(torch.cat([first, second]))
    loss = F.cross_entropy(both, labels.repeat(2), label_smoothing=smoothing)
    return Step(loss, both[: len(first)])


def consistent_views(
    model: nn.Module,
    clean: FloatImages,
    first: FloatImages,
    second: FloatImages,
    labels: Labels,
    *,
    smoothing: float,
) -> Step:
    """Return the clean images' cross entropy plus 12 times the Jensen-Shannon divergence of three views.

    The divergence is the mean over the three of the Kullback-Leibler divergence from their mean, averaged
    over images.

    Source: Hendrycks et al. 2020, arXiv:1912.02781, section 3, "Jensen-Shannon divergence consistency loss";
    the factor is that of its CIFAR experiments.
    """
    logits: Tensor = model(torch.cat([clean, first, second]))
    loss = F.cross_entropy(logits[: len(clean)], labels, label_smoothing=smoothing)
    logs = F.log_softmax(logits.float(), dim=1).reshape(3, len(clean), -1)
    probabilities = logs.exp()
    # Not below 1e-7, so that a class that no view believes in has a finite logarithm.
    mean = probabilities.mean(dim=0).clamp(min=1e-7).log()
    divergence = (probabilities * (logs - mean)).sum(dim=2).mean()
    return Step(loss + JSD_WEIGHT * divergence, logits[: len(clean)])
