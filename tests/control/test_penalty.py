"""attract_share draws a layer's mean low energy to its target."""

import pytest
import torch
from torch import nn

from filterbands.control.penalty import attract_share
from filterbands.filters.bands import filters_low_energy


def test_the_penalty_is_the_squared_distance_of_the_unweighted_mean_over_live_filters() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 6, 5)
    with torch.no_grad():
        layer.weight[0] *= 100
        layer.weight[1] = 0
    with_dead = filters_low_energy(layer.weight.detach())
    assert float(attract_share(layer, target=0.9, strength=2.0).detach()) == pytest.approx(
        2 * (float(with_dead[:1].mean()) - 0.9) ** 2, rel=1e-5
    )
    with torch.no_grad():
        layer.weight[0] /= 100
    mean = float(with_dead[[0, 2, 3, 4, 5]].mean())
    assert float(attract_share(layer, target=0.9).detach()) == pytest.approx((mean - 0.9) ** 2, rel=1e-5)


@pytest.mark.parametrize("target", [0.2, 0.8])
def test_descending_it_reaches_the_target(target: float) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 16, 3)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        attract_share(layer, target=target).backward()
        optimizer.step()
    assert float(filters_low_energy(layer.weight.detach()).mean()) == pytest.approx(target, abs=0.02)


def test_of_a_network_every_spatial_convolution_counts_once() -> None:
    first, second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, dilation=2)
    network = nn.Sequential(first, nn.Conv2d(4, 4, 1), second)
    separate = attract_share(first, target=0.7) + attract_share(second, target=0.7)
    torch.testing.assert_close(attract_share(network, first, target=0.7), separate)


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (nn.Linear(3, 3), {"target": 0.5}, "needs a torch.nn.Conv2d larger than 1x1"),
        (nn.LazyConv2d(3, 3), {"target": 0.5}, "attract_share needs a layer that is initialized; run"),
        (nn.Conv2d(3, 3, 3, dtype=torch.complex64), {"target": 0.5}, "attract_share needs .* real floating-"),
        (nn.Conv2d(3, 3, 3, device="meta"), {"target": 0.5}, "attract_share needs a layer with numbers"),
        (nn.Conv2d(3, 3, 3), {"target": 1.5}, r"target needs a share in \[0, 1\], got 1.5"),
        (nn.Conv2d(3, 3, 3), {"target": 0.5, "strength": -1.0}, "strength needs a number of at least 0"),
    ],
)
def test_mistakes_are_refused(module: nn.Module, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attract_share(module, **options)


def test_the_penalty_takes_the_cutoff_that_it_is_given() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 8, 3)
    expected = (filters_low_energy(layer.weight, 0.2).mean() - 0.9) ** 2
    torch.testing.assert_close(attract_share(layer, target=0.9, cutoff=0.2), expected)
