"""A training set on the device, handed out in cropped and flipped batches that belong to their images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from .. import rng
from ..datasets import ImageSet
from ..types import FloatImages, Images, Keys, Labels
from .config import TrainConfig
from .methods import METHODS
from .methods.protocol import Partners, Step


class Batch(NamedTuple):
    """What a method gets for one pass."""

    images: FloatImages
    labels: Labels
    key: Keys
    """One per image, fresh every epoch."""
    partners: Partners
    """As many other images for each as the method wants, cropped and flipped as their own are."""

    def step(self, model: nn.Module, config: TrainConfig) -> Step:
        """Return what the config's method makes of it."""
        return METHODS[config.method].step(
            model,
            self.images,
            self.labels,
            key=self.key,
            smoothing=config.label_smoothing,
            partners=self.partners,
        )


@dataclass(frozen=True, slots=True)
class Batches:
    """A training set on the device as one tensor.

    Order, crops, flips, keys and partners are an image's own, whatever the batch, the number of parts a batch
    is computed in, and the number of processes that share it.
    """

    padded: UInt8[Tensor, "n c hp wp"]
    labels: Labels
    index: Int64[Tensor, " n"]
    size: tuple[int, int]
    config: TrainConfig
    rank: int = 0
    processes: int = 1
    """Number of processes that share a batch."""

    @staticmethod
    def of(
        data: ImageSet, config: TrainConfig, device: torch.device, *, rank: int = 0, processes: int = 1
    ) -> "Batches":
        """Return the images on a device, their borders reflected as far as crops reach.

        Raises:
            ValueError: Images smaller than crops, or fewer than a batch.
        """
        check_count(data, config)
        height, width = data.images.shape[2:]
        rows, columns = (_reflected(side, config.crop).to(device) for side in (height, width))
        padded = data.images.to(device)[:, :, rows][:, :, :, columns]
        labels, index = data.labels.to(device), data.index.to(device)
        return Batches(padded, labels, index, (height, width), config, rank, processes)

    @property
    def count(self) -> int:
        """Steps of an epoch."""
        return len(self.labels) // self.config.batch_size

    @property
    def part(self) -> int:
        """Images of one pass in this process."""
        return self.config.batch_size // (self.config.accumulate * self.processes)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield this process's passes of an epoch: `accumulate` for every step."""
        config = self.config
        keys = rng.keys(config.seed, "train", epoch, index=self.index)
        order = rng.bits(keys, 1, stream=0)[:, 0].argsort()
        shifts = rng.integers(keys, 0, 2 * config.crop + 1, (2,), stream=1)
        flips = rng.integers(keys, 0, 2 if config.flip else 1, (), stream=2)
        wanted = METHODS[config.method].partners
        for number in range(self.count * config.accumulate):
            first = (number * self.processes + self.rank) * self.part
            chosen = order[first : first + self.part]

            def images_at(places: Int64[Tensor, " b"]) -> FloatImages:
                cut = window(self.padded, places, shifts[places], flips[places], self.size)
                return cut.float().div_(255)

            images = images_at(chosen)
            partners = images.new_empty(wanted, *images.shape)
            if wanted:
                others = rng.integers(keys[chosen], 0, len(keys), (wanted,), stream=3)
                for place in range(wanted):
                    partners[place] = images_at(others[:, place])
            yield Batch(images, self.labels[chosen], keys[chosen] ^ 1, partners)

    def plain(self, places: Int64[Tensor, " b"]) -> FloatImages:
        """Return images as they are, uncropped."""
        side = self.config.crop
        height, width = self.size
        return self.padded[places, :, side : side + height, side : side + width].float().div_(255)


def check_count(data: ImageSet, config: TrainConfig) -> None:
    """Raise a `ValueError` where there are fewer images than a batch, or they are smaller than crops."""
    if len(data) < config.batch_size:
        raise ValueError(
            f"batch_size {config.batch_size} exceeds the {len(data)} images of {data.name}; lower it with "
            "--set batch_size=N (batch_size=)"
        )
    check_crop(min(data.images.shape[2:]), config.crop)


def check_crop(side: int, by: int) -> None:
    """Raise ValueError where a side's reflected border would be as long as the side."""
    if by >= side:
        raise ValueError(f"crop needs less than the images' side of {side} pixels, got {by}")


def _reflected(side: int, by: int) -> Int64[Tensor, " s"]:
    """Return the positions of a line of pixels with `by` more on both ends, the border reflected."""
    check_crop(side, by)
    return torch.from_numpy(np.pad(np.arange(side), by, mode="reflect"))


def window(
    padded: UInt8[Tensor, "n c hp wp"],
    chosen: Int64[Tensor, " b"],
    shifts: Int64[Tensor, "b 2"],
    flips: Int64[Tensor, " b"],
    size: tuple[int, int],
) -> Images:
    """Return the chosen images, cut at their shifts and mirrored where flipped."""
    height, width = size
    device = padded.device
    rows = shifts[:, 0, None] + torch.arange(height, device=device)
    columns = torch.arange(width, device=device)[None]
    columns = shifts[:, 1, None] + torch.where(flips[:, None] == 1, width - 1 - columns, columns)
    channels = torch.arange(padded.shape[1], device=device)[:, None, None]
    return padded[chosen[:, None, None, None], channels, rows[:, None, :, None], columns[:, None, None]]
