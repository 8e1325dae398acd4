"""Batch norm statistics, recomputed for what a network will see."""

import copy
import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..datasets import ImageSet, image_and_label, load_data
from ..engine import batch as at_once
from ..filters import image_batches
from ..models import batch_norms, evaluating, run_on


@torch.no_grad()
def recalibrate(loader: Iterable[Any] | ImageSet, model: nn.Module) -> None:
    """Replace the running mean and variance of every batch norm by their averages over all batches.

    Works in place, as `torch.optim.swa_utils.update_bn` does, with its arguments in its order. Other than
    there, nothing but the batch norms runs in training mode, so that neither dropout nor the perturbations of
    `SpectralNoise` and `modulate` disturb what is measured. Every batch counts the same; modes and momenta
    are restored afterwards. A network without running statistics is left alone.

    Use many images, with the training's own crops and flips: statistics of 1,000 plain images can cost
    points of accuracy by themselves.

    Args:
        loader: Batches of images, or of tuples or lists that begin with images or mappings that hold them
            under `image` or `img`, as `model` takes them. An `ImageSet`, or a text that names the `train`
            split of a data set as `load_data` does, is given in [0, 1], in an order of a fixed seed.
        model: On any device, to which the images are moved.

    Raises:
        ValueError: The network is none, there is no batch, or images are not floating point. Statistics are
            as before then.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    >>> recalibrate([torch.rand(16, 3, 8, 8), torch.rand(16, 3, 8, 8)], model)
    >>> int(model[1].num_batches_tracked)
    2
    """
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"recalibrate takes the images first and then the network, as torch's update_bn, got "
            f"{type(model).__name__} for the network"
        )
    norms = batch_norms(model)
    if not norms:
        return
    before = [(norm, norm.momentum, copy.deepcopy(norm.state_dict())) for norm in norms]
    finished = False
    with evaluating(model):
        try:
            for norm in norms:
                norm.train()
                norm.reset_running_stats()
                # None makes torch average all batches alike.
                norm.momentum = None
            for batch in _batches(loader):
                run_on(model, batch)
                finished = True
            if not finished:
                raise ValueError("recalibrate needs at least one batch of images, the loader gave none")
        except BaseException:
            for norm, _, state in before:
                norm.load_state_dict(state)
            raise
        finally:
            for norm, momentum, _ in before:
                norm.momentum = momentum


def _batches(loader: Any) -> Iterator[Tensor]:
    if isinstance(loader, str | os.PathLike):
        loader = load_data(str(loader), split="train")
    if isinstance(loader, ImageSet):
        # Files are often sorted by class, and images of one class vary less than all of them.
        order = torch.randperm(len(loader), generator=torch.Generator().manual_seed(0))
        # Of one size, up to one image, since every batch counts the same.
        parts = torch.tensor_split(order, -(-len(order) // at_once()))
        yield from image_batches("recalibrate", (loader.images[part] for part in parts))
        return
    for batch in loader:
        images, _ = image_and_label(batch)
        if not isinstance(images, Tensor) or not images.is_floating_point():
            what = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(
                f"recalibrate needs batches of floating-point images (bytes divided by 255), got {what}"
            )
        yield images
