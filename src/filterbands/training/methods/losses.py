"""Losses over the logits of several views of the same images."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ...types import Labels

JSD_WEIGHT = 12.0


def cross_entropy(
    logits: Float[Tensor, "n classes"], labels: Labels, *, smoothing: float
) -> Float[Tensor, ""]:
    """Return the mean cross entropy over all images and views."""
    return F.cross_entropy(logits, labels.repeat(len(logits) // len(labels)), label_smoothing=smoothing)


def summed(logits: Float[Tensor, "n classes"], labels: Labels, *, smoothing: float) -> Float[Tensor, ""]:
    """Return the sum over the views of their mean cross entropies."""
    views = len(logits) // len(labels)
    total: Tensor = cross_entropy(logits, labels, smoothing=smoothing) * views
    return total


def consistent(
    logits: Float[Tensor, "n classes"], labels: Labels, *, smoothing: float, weight: float = JSD_WEIGHT
) -> Float[Tensor, ""]:
    """Return the first view's cross entropy plus a weighted Jensen-Shannon divergence of all views.

    The divergence is the mean over the views of the Kullback-Leibler divergence from their mean, averaged
    over images.

    Source: Hendrycks et al. 2020, arXiv:1912.02781, section 3, "Jensen-Shannon divergence consistency loss";
    the weight of 12 is that of its CIFAR experiments, which have three views.
    """
    count = len(labels)
    loss = F.cross_entropy(logits[:count], labels, label_smoothing=smoothing)
    logs = F.log_softmax(logits.float(), dim=1).reshape(-1, count, logits.shape[1])
    probabilities = logs.exp()
    # Not below 1e-7, so that a class that no view believes in has a finite logarithm.
    mean = probabilities.mean(dim=0).clamp(min=1e-7).log()
    divergence = (probabilities * (logs - mean)).sum(dim=2).mean()
    total: Tensor = loss + weight * divergence
    return total


def following(
    logits: Float[Tensor, "n classes"], labels: Labels, *, smoothing: float, weight: float = 1.0
) -> Float[Tensor, ""]:
    """Return the cross entropy of all views plus a weighted divergence of the others from the first.

    The divergence is Kullback and Leibler's, of the first view's answer, through which no gradient passes, to
    each other view's.

    Deviation: the paper has labels for plain images alone. Here all images have one, so that perturbed views
    enter the cross entropy as well.

    Source: Xie et al. 2020, arXiv:1904.12848, equation 1.
    """
    count = len(labels)
    logs = F.log_softmax(logits.float(), dim=1)
    first = logs[:count].detach().repeat(len(logs) // count - 1, 1)
    divergence = F.kl_div(logs[count:], first, log_target=True, reduction="batchmean")
    total: Tensor = cross_entropy(logits, labels, smoothing=smoothing) + weight * divergence
    return total
