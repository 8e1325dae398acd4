"""Gains by frequency: of the same severities, data and constants as the spectra."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from filterbands.datasets import load_data
from filterbands.probes import (
    CorruptionSpectra,
    Spectrum,
    Vulnerability,
    corruption_spectra,
    gain_by_frequency,
)
from filterbands.scores import Scores

LABELS = np.arange(10) % 2
KINDS = ("gaussian_noise", "fog", "contrast", "brightness", "pixelate")


def network(name: str, right: dict[tuple[str, int], int]) -> Scores:
    """Return a network that has so many correct answers in each cell."""
    given = {cell: np.where(np.arange(10) < count, LABELS, 1 - LABELS) for cell, count in right.items()}
    return Scores.from_predictions(LABELS, {("clean", 0): LABELS, **given}, name=name, data="d")


def spectra(share: dict[tuple[str, int], float], **about: str) -> CorruptionSpectra:
    """Return spectra that have such a share of their power at frequency zero, and the rest at the corner."""
    powers = {}
    for cell, part in share.items():
        powers[cell] = torch.zeros(8, 8)
        powers[cell][4, 4], powers[cell][0, 0] = part, 1 - part
    return CorruptionSpectra(
        spectra={cell: Spectrum(power=power) for cell, power in powers.items()}, images=1, **about
    )


def test_gain_and_low_energy_are_means_over_the_same_severities() -> None:
    one = network("one", {("fog", 3): 9, ("fog", 4): 10, ("contrast", 3): 5})
    other = network("other", {("fog", 3): 6, ("fog", 4): 2, ("contrast", 3): 5})
    # Over all five severities fog would be the lower one.
    found = gain_by_frequency(
        one, other, spectra({("fog", 1): 1.0, ("fog", 3): 0.1, ("contrast", 3): 0.3, ("contrast", 5): 0.0})
    )
    assert found.kinds == ("fog", "contrast")
    assert found.low_energy == pytest.approx((0.1, 0.3))
    assert found.gain == pytest.approx((0.3, 0.0))


def test_spectra_of_other_data_or_constants_are_refused() -> None:
    one = replace(network("one", {("fog", 3): 9}), split="test", pixels="a")
    known = spectra({("fog", 3): 0.5}, data="d", split="test", pixels="b", parameters="cifar")
    assert gain_by_frequency(one, one, known).kinds == ("fog",)
    # The same pixels may have another name in a database.
    assert gain_by_frequency(one, one, replace(known, data="e", pixels="a")).kinds == ("fog",)
    # Only another program has seen the images of these.
    given = network("given", {("fog", 3): 9})
    assert gain_by_frequency(given, given, replace(known, data="e")).kinds == ("fog",)
    with pytest.raises(ValueError, match=r"than the spectra: d \(test\) instead of e \(test\)"):
        gain_by_frequency(one, one, replace(known, data="e"))
    with pytest.raises(ValueError, match="than the spectra: the constants cifar instead of imagenet"):
        gain_by_frequency(one, one, replace(known, parameters="imagenet"))


def test_spectra_say_what_they_are_of() -> None:
    data = load_data("planted", limit=2)
    found = corruption_spectra(data, kinds=["contrast"], severities=[3, 5])
    assert (found.data, found.split, found.parameters) == (data.name, data.split, "cifar")
    assert found.pixels == data.fingerprint()
    both = [found.spectra["contrast", severity].low_energy() for severity in (3, 5)]
    assert found.low_energy("contrast") == pytest.approx(np.mean(both))
    assert found.low_energy("contrast", severities=[5]) == pytest.approx(both[1])
    with pytest.raises(ValueError, match="contrast is not here at these severities; there are 3, 5"):
        found.low_energy("contrast", severities=[1])


def test_a_corruption_that_adds_nothing_lies_at_no_frequency(caplog: pytest.LogCaptureFixture) -> None:
    # Its first three severities leave gray images as they are.
    found = corruption_spectra(load_data("digits", limit=10), kinds=["saturate", "gaussian_noise"])
    both = [found.spectra["saturate", severity].low_energy() for severity in (4, 5)]
    assert found.low_energy("saturate") == pytest.approx(np.mean(both))
    assert np.isnan(found.low_energy("saturate", severities=[1, 2]))
    assert found.low_energy("saturate") > found.low_energy("gaussian_noise")
    assert "saturate leaves" not in caplog.text
    cells = {("saturate", 1): 5, ("gaussian_noise", 1): 5}
    one, other = (network(name, cells) for name in ("one", "other"))
    free = replace(found, data="", split="", pixels="", parameters="")
    assert gain_by_frequency(one, other, free).kinds == ("gaussian_noise",)
    few = corruption_spectra(load_data("digits", limit=10), kinds=["saturate"], severities=[1, 2])
    assert few.kinds == ()
    assert few.to_json()["low_energy"] == {}
    assert "saturate leaves all of these images as they are" in caplog.text


def test_a_vulnerability_is_a_mean_over_the_severities_that_are_asked_for() -> None:
    whole = {("fog", 1): 0.2, ("fog", 5): 0.6}
    made = {"layer": "conv1", "batch_norm": None, "found_by": "registration", "filters": {}, "data": "d"}
    found = Vulnerability(whole=whole, **made)
    assert found.of_kind("fog") == pytest.approx(0.4)
    assert found.of_kind("fog", [5]) == pytest.approx(0.6)
