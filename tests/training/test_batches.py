"""Batches: what processes, parts and partners see belongs to the images."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from filterbands.datasets import ImageSet
from filterbands.training import TrainConfig, measure_step
from filterbands.training.batches import Batch, Batches

CONFIG = TrainConfig(batch_size=8, crop=2, method="hybridaugment_pp", seed=3)


def passes(data: ImageSet, config: TrainConfig = CONFIG, *, rank: int = 0, processes: int = 1) -> list[Batch]:
    device = torch.device("cpu")
    return list(Batches.of(data, config, device, rank=rank, processes=processes).epoch(2))


def test_processes_and_parts_divide_a_batch_without_changing_it(images: ImageSet) -> None:
    whole = passes(images)
    parts = passes(images, replace(CONFIG, accumulate=2))
    shared = [passes(images, rank=rank, processes=2) for rank in (0, 1)]
    assert (len(whole), len(parts), len(shared[0])) == (12, 24, 12)
    for number, batch in enumerate(whole):
        halves = parts[2 * number : 2 * number + 2]
        ranks = [own[number] for own in shared]
        for name in ("images", "labels", "key"):
            for pair in (halves, ranks):
                assert torch.equal(torch.cat([getattr(half, name) for half in pair]), getattr(batch, name))
        for pair in (halves, ranks):
            assert torch.equal(torch.cat([half.partners for half in pair], dim=1), batch.partners)


def test_partners_are_cropped_images_of_the_set_that_belong_to_the_image(images: ImageSet) -> None:
    seen: dict[int, Tensor] = {}
    shown = {}
    for size in (8, 16):
        for batch in passes(images, replace(CONFIG, batch_size=size)):
            assert batch.partners.shape == (2, size, *images.images.shape[1:])
            for place, key in enumerate(batch.key.tolist()):
                shown[key] = batch.images[place]
                partners = batch.partners[:, place]
                assert torch.equal(seen.setdefault(key, partners), partners)
    bytes_of = {image.numpy().tobytes() for image in shown.values()}
    assert all(
        partner.contiguous().numpy().tobytes() in bytes_of for pair in seen.values() for partner in pair
    )


def test_methods_without_partners_are_given_none(images: ImageSet) -> None:
    assert passes(images, replace(CONFIG, method="standard"))[0].partners.shape[0] == 0


def test_a_steps_parts_are_timed(images: ImageSet) -> None:
    config = replace(CONFIG, method="augmix", arch="fastnet", precision="float32")
    before = torch.get_rng_state()
    parts = measure_step(config, images, steps=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert min(parts.data, parts.augmentation, parts.forward, parts.backward, parts.update) > 0
    assert parts.total < 60
    with pytest.raises(ValueError, match="steps needs a number of at least 1"):
        measure_step(config, images, steps=0)
    with pytest.raises(ValueError, match="batch_size 97 exceeds the 96 images"):
        measure_step(replace(config, batch_size=97), images)
