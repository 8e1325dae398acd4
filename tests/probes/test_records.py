"""What a finished probe leaves in a database is what it found, and whose it is."""

import dataclasses

import pytest
import torch

from filterbands.datasets import load_data
from filterbands.evaluation import Store, model_fingerprint
from filterbands.models import load_model
from filterbands.probes import (
    HeatMap,
    PassCurves,
    ProbeConfig,
    corruption_spectra,
    fourier_heatmap,
    pass_curves,
    read_added,
    read_probed,
)


def same(one, other):
    for field in dataclasses.fields(one):
        first, second = getattr(one, field.name), getattr(other, field.name)
        if isinstance(first, torch.Tensor):
            torch.testing.assert_close(first, second, equal_nan=True, rtol=0, atol=1e-7)
        elif field.name != "curves":
            assert first == second
    return type(one) is type(other)


def test_a_finished_heat_map_and_pass_curves_come_back_by_their_network(tmp_path):
    db, data = tmp_path / "r.db", load_data("planted").subset(torch.arange(6))
    model = load_model(arch="fastnet").eval()
    config = ProbeConfig(radius=0.1)
    heat = fourier_heatmap(model, data, norm=2.0, config=config, db=db)
    passes = pass_curves(model, data, db=db)
    for _ in range(2):
        one, other = read_probed(db)
        assert same(one.found, heat)
        assert same(other.found, passes)
        assert isinstance(one.found, HeatMap)
        assert isinstance(other.found, PassCurves)
        assert {one.model, other.model} == {model_fingerprint(model)}
        assert (one.name, one.data, one.split, one.precision) == ("", "planted", "test", "float32")
        torch.testing.assert_close(other.found.curves["band_ideal"], passes.curves["band_ideal"])
        # The same probe again leaves what is there.
        fourier_heatmap(model, data, norm=2.0, config=config, db=db)
    fourier_heatmap(model, data, norm=1.0, config=config, db=db)
    assert [one.found.norm for one in read_probed(db) if isinstance(one.found, HeatMap)] == [2.0, 1.0]
    with Store(db) as store:
        store.add_model(model_fingerprint(model), "mine")
    assert {one.name for one in read_probed(db)} == {"mine"}
    with Store(db) as store:
        store.delete("mine")
    assert read_probed(db) == []


def test_spectra_of_corruptions_come_back_with_their_images(tmp_path):
    db, data = tmp_path / "r.db", load_data("planted").subset(torch.arange(6))
    given = {"severities": [1, 3], "db": db}
    few = corruption_spectra(data, kinds=["fog"], **given)
    for _ in range(2):
        made = corruption_spectra(data, kinds=["fog", "contrast"], **given)
    one, other = read_added(db)
    assert (one.data, one.split, one.parameters) == ("planted", "test", "cifar")
    assert one.found.images == 6
    for found, kept in ((made, one.found), (few, other.found)):
        assert found.spectra.keys() == kept.spectra.keys()
        assert all(torch.equal(found.spectra[cell].power, kept.spectra[cell].power) for cell in found.spectra)
    assert read_probed(db) == []


def test_a_database_without_probes_has_none(tmp_path):
    with Store(tmp_path / "r.db"):
        pass
    assert read_probed(tmp_path / "r.db") == []
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_probed(tmp_path / "other.db")
