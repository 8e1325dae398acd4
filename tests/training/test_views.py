"""Views of images, beside slow transcriptions of the papers and beside PIL."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.testing import assert_close

from filterbands import rng
from filterbands.fourier import swap_amplitude
from filterbands.training.methods import METHODS, apr, operations
from filterbands.training.methods.apr import paired_view, single_view
from filterbands.training.methods.augmix import augmix_view, mixture
from filterbands.training.methods.hybrid import paired_hybrid, single_hybrid
from filterbands.training.methods.prime import displaced, filtered, prime_view, recolored
from filterbands.training.methods.randconv import randconv_view

Array = np.ndarray[Any, Any]
SIDE = 32


def keys(count: int, seed: int = 0) -> Tensor:
    return rng.keys(seed, "views", index=torch.arange(count))


def smooth(count: int, *, side: int = SIDE) -> Tensor:
    """Return images with contrast, gradients and edges, as floats that are whole 255ths."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    images = F.interpolate(coarse, size=side, mode="bicubic").clamp(0, 1) * 0.8 + 0.1
    return (images * 255).round() / 255


def as_pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def pil_operation(name: str, image: Image.Image, level: float, sign: float) -> Image.Image:
    """Return AugMix's operation of this strength in tenths and direction, done by PIL."""

    def affine(*numbers: float) -> Image.Image:
        return image.transform(image.size, Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR)

    shear, shift = sign * level * 0.3 / 10, sign * int(level * (SIDE / 3) / 10)
    done: dict[str, Callable[[], Image.Image]] = {
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "posterize": lambda: ImageOps.posterize(image, 4 - int(level * 4 / 10)),
        "solarize": lambda: ImageOps.solarize(image, 256 - int(level * 256 / 10)),
        "rotate": lambda: image.rotate(sign * int(level * 30 / 10), Image.Resampling.BILINEAR),
        "shear_x": lambda: affine(1, shear, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, shear, 1, 0),
        "translate_x": lambda: affine(1, 0, shift, 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, shift),
    }
    return done[name]()


@pytest.mark.parametrize("name", operations.OPERATIONS)
def test_operations_are_those_of_pil(name: str) -> None:
    images = operations.to_bytes(smooth(12))
    images[0] = 77
    images[1] = torch.randint(0, 256, (3, SIDE, SIDE), generator=torch.Generator().manual_seed(2))
    number = torch.full((12,), operations.OPERATIONS.index(name))
    level = torch.linspace(0.1, 3, 12)
    sign = torch.tensor([1.0, -1.0]).repeat(6)
    if int(number[0]) < 4:
        ours = operations.change_values(images, number, level)
    else:
        ours = operations.move_pixels(images, number, level, sign)
    for place in range(12):
        done = pil_operation(name, as_pil(images[place]), float(level[place]), float(sign[place]))
        theirs = torch.from_numpy(np.array(done)).permute(2, 0, 1)
        off = (ours[place].int() - theirs.int()).abs()
        # Values are cut to integers, so that a last bit may take one with it.
        assert int(off.max()) <= (0 if int(number[0]) < 4 else 1)
        assert float((off > 0).float().mean()) < 0.01


def test_operations_are_equally_frequent_and_leave_inactive_images() -> None:
    images = operations.to_bytes(smooth(8))
    active = torch.arange(8) % 2 == 0
    out = operations.operate(images, key=keys(8), active=active)
    assert torch.equal(out[~active], images[~active])
    drawn = rng.integers(keys(9000), 0, 9, (), stream=0).bincount()
    # Five standard deviations of a count that is 1,000 on average.
    assert float((drawn - 1000).abs().max()) < 5 * (9000 * 8 / 81) ** 0.5


def test_the_mixture_is_uniform_on_the_simplex() -> None:
    weights, share = mixture(keys(20000))
    flat = weights[..., 0, 0, 0]
    assert_close(flat.sum(dim=0), torch.ones(20000))
    # Dirichlet(1, 1, 1): mean 1/3, variance 1/18; the share is uniform.
    assert_close(flat.mean(dim=1), torch.full((3,), 1 / 3), rtol=0, atol=0.008)
    assert_close(flat.var(dim=1), torch.full((3,), 1 / 18), rtol=0, atol=0.002)
    assert float(share.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(share.var()) == pytest.approx(1 / 12, abs=0.003)


def test_augmix_is_its_algorithm_an_image_at_a_time() -> None:
    images, key = smooth(6), keys(6)
    mixed = augmix_view(images, key=key)
    weights, share = mixture(key)
    chain_keys = rng.bits(key, 9, stream=2)
    depths = rng.integers(key, 1, 4, (3,), stream=3)
    for place in range(6):
        total = torch.zeros(3, SIDE, SIDE)
        for chain in range(3):
            image = operations.to_bytes(images[place : place + 1])
            for step in range(int(depths[place, chain])):
                image = operations.operate(image, key=chain_keys[place : place + 1, 3 * chain + step])
            total += weights[chain, place] * image[0] / 255
        expected = (1 - share[place]) * images[place] + share[place] * total
        assert_close(mixed[place], expected, rtol=0, atol=1e-6)


def test_the_divergence_is_that_of_the_paper() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    images = smooth(8, side=8)
    labels = torch.arange(8)
    step = METHODS["augmix_jsd"](model, images, labels, key=keys(8))
    halves = rng.bits(keys(8), 2, stream=7)
    views = [images, *(augmix_view(images, key=halves[:, number]) for number in (0, 1))]
    chances = [model(view).softmax(dim=1) for view in views]
    mean = ((chances[0] + chances[1] + chances[2]) / 3).clamp(1e-7, 1).log()
    parts = [F.kl_div(mean, chance, reduction="batchmean") for chance in chances]
    expected = F.cross_entropy(model(images), labels) + 12 * (parts[0] + parts[1] + parts[2]) / 3
    assert_close(step.loss, expected)


def slow_swap(phases: Array, amplitudes: Array, axes: tuple[int, ...]) -> Array:
    kept, other = (np.fft.fftn(image, axes=axes) for image in (phases, amplitudes))
    return np.real(np.fft.ifftn(np.abs(other) * np.exp(1j * np.angle(kept)), axes=axes))


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("side", [8, 9])
def test_swapped_amplitudes_are_those_of_numpy(across: bool, side: int) -> None:
    images = torch.rand(2, 4, 3, side, side, generator=torch.Generator().manual_seed(3))
    ours = swap_amplitude(images[0], images[1], across_channels=across)
    for place in range(4):
        axes = (0, 1, 2) if across else (1, 2)
        theirs = slow_swap(images[0, place].double().numpy(), images[1, place].double().numpy(), axes)
        assert_close(ours[place].double(), torch.from_numpy(theirs), rtol=0, atol=1e-5)


def test_the_paired_form_takes_six_images_in_ten() -> None:
    images, others = torch.rand(2, 4000, 1, 4, 4, generator=torch.Generator().manual_seed(4))
    view = paired_view(images, others, key=keys(4000))
    taken = (view != images).flatten(1).any(dim=1)
    assert float(taken.float().mean()) == pytest.approx(0.6, abs=5 * 0.49 / 4000**0.5)


@pytest.mark.parametrize("across", [False, True])
def test_the_paired_form_may_transform_over_channels_and_need_not_clip(across: bool) -> None:
    images, others = torch.rand(2, 40, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    view = paired_view(images, others, key=keys(40), across_channels=across, clip=False)
    taken = (view != images).flatten(1).any(dim=1)
    assert torch.equal(view[taken], swap_amplitude(images, others, across_channels=across)[taken])
    assert view.min() < 0
    assert view.max() > 1
    clipped = paired_view(images, others, key=keys(40), across_channels=across)
    assert torch.equal(clipped, view.clamp(0, 1))


@pytest.mark.parametrize("as_code", [False, True])
def test_the_single_form_is_its_algorithm_an_image_at_a_time(as_code: bool) -> None:
    images, key = smooth(40), keys(40)
    view = single_view(images, key=key, as_code=as_code)
    first, second, coins = apr.two_views(operations.to_bytes(images), key=key)
    mixed = 0
    for place in range(40):
        if float(coins[place, 0]) >= 0.5:
            assert_close(view[place], first[place].float() / 255)
            continue
        mixed += 1
        pair = [image[place].double().numpy() for image in (first, second)]
        below, above = pair if float(coins[place, 1]) < 0.5 else pair[::-1]
        values = torch.from_numpy(slow_swap(below, above, (0, 1, 2) if as_code else (1, 2)))
        if not as_code:
            assert_close(view[place].double(), (values / 255).clamp(0, 1), rtol=0, atol=1e-5)
            continue
        # A cast to bytes: cut, then modulo 256. Whole numbers may fall to either side.
        safe = (values - values.round()).abs() > 1e-3
        bytes_ = torch.from_numpy(values.numpy().astype(np.int64).astype(np.uint8))
        assert torch.equal((view[place] * 255).round().to(torch.uint8)[safe], bytes_[safe])
    assert 8 < mixed < 32


def test_bytes_that_are_not_clipped_wrap_around() -> None:
    given = torch.tensor([-3.2, 260.5, 17.9, -0.5, 255.9])
    assert_close(apr.wrapped_bytes(given) * 255, torch.tensor([253.0, 4.0, 17.0, 0.0, 255.0]))


def test_low_and_high_frequencies_of_one_image_are_the_image() -> None:
    images = smooth(30)
    taken = paired_hybrid(images, images, key=keys(30))
    assert_close(taken, images, rtol=0, atol=1e-6)
    low = apr.blurred(images)
    gauss = np.exp(-(np.array([-1.0, 0, 1]) ** 2) / (2 * 0.5**2))
    gauss /= gauss.sum()
    padded = np.pad(images[0].double().numpy(), ((0, 0), (1, 1), (1, 1)), mode="reflect")
    slow = sum(
        gauss[i] * gauss[j] * padded[:, i : i + SIDE, j : j + SIDE] for i in range(3) for j in range(3)
    )
    assert_close(low[0].double(), torch.as_tensor(slow), rtol=0, atol=1e-6)


@pytest.mark.parametrize("as_code", [False, True])
def test_a_hybrid_has_the_low_frequencies_of_one_and_the_high_of_the_other(as_code: bool) -> None:
    images, others = smooth(40), smooth(40).flip(0)
    key = keys(40)
    view = paired_hybrid(images, others, key=key, as_code=as_code)
    chosen = rng.uniform(key, (), stream=24) < 0.6
    expected = apr.blurred(images) + others - apr.blurred(others)
    if not as_code:
        expected = expected.clamp(0, 1)
    assert_close(view[chosen], expected[chosen], rtol=0, atol=1e-6)
    assert torch.equal(view[~chosen], images[~chosen])
    assert single_hybrid(images, key=key, recombine=True, as_code=as_code).shape == images.shape


def test_a_random_filter_is_the_identity_plus_noise() -> None:
    images, key = smooth(5), keys(5)
    out = filtered(images, key=key)
    sigma = 4 * rng.uniform(key, (), stream=1)
    for place in range(5):
        kernel = sigma[place] * rng.normal(key, (3, 3), stream=2)[place]
        kernel[1, 1] += 1
        for channel in range(3):
            alone = F.conv2d(images[place, channel][None, None], kernel[None, None], padding=1)
            assert_close(out[place, channel], alone[0, 0].clamp(0, 1), rtol=0, atol=1e-5)


def test_random_colors_are_a_sum_of_sines_of_the_value() -> None:
    images, key = smooth(5), keys(5)
    out = recolored(images, key=key)
    cut = 1 + rng.integers(key, 0, 100, (), stream=1)
    variance = 0.01 * rng.uniform(key, (), stream=2)
    factors = rng.normal(key, (3, 100), stream=3)
    for place in range(5):
        value = images[place].double()
        total = value.clone()
        for order in range(1, int(cut[place]) + 1):
            factor = factors[place, :, order - 1, None, None].double() * variance[place].double().sqrt()
            total += factor * torch.sin(order * math.pi * value)
        # Images of whole 255ths lie on the curves' nodes.
        assert_close(out[place].double(), total.clamp(0, 1), rtol=0, atol=1e-4)


def test_displacements_are_small_smooth_and_keep_the_border() -> None:
    images = smooth(200)
    out = displaced(images, key=keys(200))
    assert float(out.min()) >= float(images.min())
    assert float(out.max()) <= float(images.max())
    # sin(k pi x) is 0 on the first and last row and column.
    for edge in (0, SIDE - 1):
        assert_close(out[:, :, edge], images[:, :, edge], rtol=0, atol=1e-4)
        assert_close(out[..., edge], images[..., edge], rtol=0, atol=1e-4)
    ramp = torch.linspace(0, 1, SIDE).expand(200, 1, SIDE, SIDE)
    moved = (displaced(ramp, key=keys(200)) - ramp).abs() * (SIDE - 1)
    assert 0.1 < float(moved.mean()) < 2


@pytest.mark.parametrize("view", [augmix_view, prime_view, randconv_view, single_view, single_hybrid])
def test_views_of_other_keys_differ(view: Callable[..., Tensor]) -> None:
    images = smooth(16)
    assert not torch.equal(view(images, key=keys(16)), view(images, key=keys(16, seed=1)))


def test_half_of_the_images_pass_a_random_convolution_as_they_are() -> None:
    images = torch.rand(2000, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    same = (randconv_view(images, key=keys(2000)) == images).flatten(1).all(dim=1)
    assert float(same.float().mean()) == pytest.approx(0.5, abs=5 * 0.5 / 2000**0.5)


@pytest.mark.parametrize("view", [augmix_view, prime_view])
def test_an_outer_autocast_changes_no_chain(view: Callable[..., Tensor]) -> None:
    images = smooth(24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = view(images, key=keys(24))
    assert torch.equal(inside, view(images, key=keys(24)))


@pytest.mark.parametrize("name", ["apr_p", "apr_sp", "hybridaugment_pp"])
def test_faithful_variants_sum_what_ours_average(name: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    with torch.no_grad():
        model[1].weight.mul_(1e-3)
    images = smooth(32, side=8)
    labels = torch.arange(32) % 10
    ours = METHODS[name](model, images, labels, key=keys(32)).loss.detach()
    theirs = METHODS[f"{name}_code"](model, images, labels, key=keys(32)).loss.detach()
    assert float(theirs / ours) == pytest.approx(2, abs=0.02)
