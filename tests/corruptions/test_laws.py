"""What the docs state of corruptions as a law, for images of any size, number, order, seed and severity."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from filterbands.corruptions import CORRUPTIONS, PARAMETERS, Corrupting, corrupt, expand_kinds, kinds_of

seeds = st.integers(-(2**63), 2**63 - 1)
severities = st.integers(1, 5)
cells = [(kind, table) for kind, entry in CORRUPTIONS.items() for table in entry.tables]


@st.composite
def pictures(draw: st.DrawFn, least: int = 1, most: int = 6) -> Tensor:
    """Draw bytes of any size, of few levels or many, in any layout."""
    shape = (draw(st.integers(least, most)), 3, draw(st.integers(8, 24)), draw(st.integers(8, 24)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    levels = draw(st.sampled_from([2, 5, 256]))
    images = torch.randint(0, levels, shape, generator=generator) * (255 // (levels - 1))
    layout = draw(st.sampled_from([torch.contiguous_format, torch.channels_last]))
    return images.to(torch.uint8).contiguous(memory_format=layout)


# The pictures of `frost` are not at hand everywhere.
@pytest.mark.parametrize("kind", ["frost", "any other"])
@given(pictures(), severities, seeds, st.data())
@settings(max_examples=40)
def test_an_image_depends_on_its_pixels_seed_kind_severity_and_number_alone(
    kind, images, severity, seed, data
):
    drawn = [cell for cell in cells if (cell[0] == "frost") == (kind == "frost")]
    kind, parameters = data.draw(st.sampled_from(drawn))
    given_: dict[str, Any] = {"severity": severity, "seed": seed, "parameters": parameters}
    index = torch.tensor(
        data.draw(st.lists(st.integers(0, 2**62), min_size=len(images), max_size=len(images)))
    )
    before = images.clone(), index.clone()
    whole = corrupt(images, kind, index=index, **given_)
    assert (whole.shape, whole.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before[0])
    assert torch.equal(index, before[1])
    chosen = torch.tensor(data.draw(st.lists(st.integers(0, len(images) - 1), min_size=1, max_size=9)))
    # Any choice in any order, with repetitions: neither the batch nor the neighbors matter.
    assert torch.equal(corrupt(images[chosen], kind, index=index[chosen], **given_), whole[chosen])
    # Nor does the layout in memory, or the type of seed and severity.
    same = {**given_, "severity": np.int64(severity), "seed": np.int64(seed)}
    assert torch.equal(corrupt(images.contiguous(), kind, index=index, **same), whole)


@given(pictures(), severities, seeds, st.sampled_from(sorted(PARAMETERS)))
@settings(max_examples=15)
def test_impulses_are_black_or_white_and_every_other_value_stays(images, severity, seed, parameters):
    seen = corrupt(images, "impulse_noise", severity=severity, seed=seed, parameters=parameters)
    assert set(seen[seen != images].tolist()) <= {0, 255}


@given(pictures(), severities, st.sampled_from(sorted(PARAMETERS)))
@settings(max_examples=20)
def test_brightness_darkens_nothing_and_contrast_moves_values_towards_the_mean(images, severity, parameters):
    given_: dict[str, Any] = {"severity": severity, "seed": 0, "parameters": parameters}
    value = images.amax(dim=1).int()
    brighter = corrupt(images, "brightness", **given_).amax(dim=1).int()
    # Fractions are dropped, so that a value may lose a level to rounding.
    assert bool((brighter >= torch.where(value == 255, 254, value)).all())
    flat = corrupt(images, "contrast", **given_).double()
    mean = images.double().mean(dim=(2, 3), keepdim=True)
    assert bool(((flat - mean).abs() <= (images - mean).abs() + 1).all())
    assert bool((((flat - mean) * (images - mean)) >= -(images - mean).abs()).all())


@given(
    st.integers(0, 255),
    st.tuples(st.integers(8, 24), st.integers(8, 24)),
    severities,
    st.sampled_from(["gaussian_blur", "glass_blur", "motion_blur", "zoom_blur", "pixelate", "contrast"]),
    seeds,
)
@settings(max_examples=30)
def test_averages_of_a_flat_image_are_flat_within_a_level(level, size, severity, kind, seed):
    images = torch.full((1, 3, *size), level, dtype=torch.uint8)
    seen = corrupt(images, kind, severity=severity, seed=seed).int()
    assert int((seen - level).abs().max()) <= 1


@given(pictures(), severities, st.sampled_from(["gaussian_blur", "glass_blur", "pixelate"]), seeds)
@settings(max_examples=20)
def test_averages_stay_between_the_least_and_the_largest_value_of_a_channel(images, severity, kind, seed):
    seen = corrupt(images, kind, severity=severity, seed=seed).int()
    assert bool((seen.amax(dim=(2, 3)) <= images.amax(dim=(2, 3)).int()).all())
    assert bool((seen.amin(dim=(2, 3)) >= images.amin(dim=(2, 3)).int() - 1).all())


@given(st.lists(st.sampled_from(["c", "cbar", "all-but-frost", *kinds_of("c"), *kinds_of("cbar")])))
@settings(max_examples=30)
def test_names_of_sets_stand_for_their_kinds_each_once_in_the_order_given(names):
    kinds = expand_kinds(names)
    assert len(set(kinds)) == len(kinds)
    assert set(kinds) <= set(CORRUPTIONS)
    assert expand_kinds(kinds) == kinds
    assert expand_kinds([*names, *names]) == kinds
    plain = [name for name in names if name in CORRUPTIONS]
    if len(plain) == len(names):
        assert kinds == tuple(dict.fromkeys(plain))


@given(
    pictures(most=2),
    st.lists(st.sampled_from(["fog", "contrast", "gaussian_noise", "pixelate"]), min_size=1, max_size=3),
    st.lists(severities, min_size=1, max_size=3),
    st.sampled_from(["tensor", "batch", "array", "picture"]),
    st.sampled_from([tuple, list, dict]),
    st.integers(0, 2**31),
)
@settings(max_examples=30)
def test_a_transform_gives_one_of_its_kinds_in_the_form_that_came_and_leaves_the_rest(
    images, kinds, strengths, form, holder, seed
):
    array = images[0].permute(1, 2, 0).numpy()
    forms = {"tensor": images[0], "batch": images, "array": array, "picture": Image.fromarray(array)}
    image = forms[form]
    sample = {"image": image, "label": 7} if holder is dict else holder([image, 7])
    torch.manual_seed(seed)
    seen = Corrupting(kinds, severity=strengths)(sample)
    assert type(seen) is type(sample)
    made, label = seen.values() if holder is dict else seen
    assert label == 7
    assert type(made) is type(image)
    assert np.asarray(made).shape == np.asarray(image).shape
    torch.manual_seed(seed)
    again = Corrupting(kinds, severity=strengths)(image)
    assert np.array_equal(np.asarray(again), np.asarray(made))
