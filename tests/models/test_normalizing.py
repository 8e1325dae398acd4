"""Mean and standard deviation: checked, applied once, known afterwards."""

import pytest
import torch
from torch import nn

from filterbands.models import check_mean_std, input_std, load_model, scaled
from filterbands.models.normalizing import normalizing

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.5)


def test_a_scaled_network_is_given_what_it_expects_and_a_plain_one_is_left() -> None:
    images, net = torch.rand(2, 3, 4, 4), nn.Identity()
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    assert torch.equal(scaled(net, MEAN, STD)(images), (images - mean) / std)
    assert torch.equal(scaled(net, MEAN, None)(images), images - mean)
    assert torch.equal(scaled(net, None, STD)(images), images / std)
    assert scaled(net, None, None) is net


def test_what_a_network_divides_by_is_known_where_it_normalizes() -> None:
    assert input_std(nn.Conv2d(3, 2, 3)) is None
    for model in (load_model(arch="fastnet", std=STD), scaled(nn.Identity(), None, STD)):
        assert input_std(model) == input_std(nn.Sequential(model)) == pytest.approx(STD)


@pytest.mark.parametrize(
    ("mean", "std", "line"),
    [
        ((1.0, 2.0), None, "mean needs 3 numbers that are finite"),
        ((0.0, 0.0, float("nan")), None, "mean needs 3 numbers that are finite"),
        (None, (1.0, 1.0, 0.0), "std needs 3 numbers above 0"),
        (None, (1.0, 1.0, float("inf")), "std needs 3 numbers above 0"),
        ((0.5,), (1.0, 1.0, 1.0), "mean and std need equally many numbers, got 1 and 3"),
    ],
)
def test_numbers_that_cannot_normalize_are_refused(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None, line: str
) -> None:
    with pytest.raises(ValueError, match=line):
        check_mean_std(mean, std)
    with pytest.raises(ValueError, match=line):
        scaled(nn.Identity(), mean, std)


def test_one_number_is_for_all_channels_and_for_gray_images() -> None:
    gray = torch.rand(2, 1, 8, 8)
    for network in (scaled(nn.Identity(), (0.5,), None), normalizing(nn.Identity(), (0.5,), None)):
        assert torch.equal(network(gray), gray - 0.5)
        assert torch.equal(network(gray.expand(-1, 3, -1, -1)), (gray - 0.5).expand(-1, 3, -1, -1))
    color = scaled(nn.Identity(), MEAN, STD)
    with pytest.raises(ValueError, match=r"images of 3 channels, got gray ones of shape \(2, 1, 8, 8\)"):
        color(gray)


def test_numbers_replace_those_that_a_network_has() -> None:
    network = normalizing(normalizing(nn.Identity(), MEAN, STD), (0.5,), (0.25,))
    assert network(torch.full((1, 1, 8, 8), 0.75)).unique().tolist() == [1]
    assert input_std(normalizing(load_model(arch="fastnet"), None, STD)) == pytest.approx(STD)


def test_numbers_go_where_the_network_is() -> None:
    network = scaled(nn.Conv2d(3, 4, 3).half(), (0.5,) * 3, (0.25,) * 3)
    assert network(torch.rand(1, 3, 8, 8).half()).dtype == torch.float16
