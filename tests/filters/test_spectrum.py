"""What `analyze` says of layers, networks and files."""

import json
import math
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from filterbands.filters import EQUAL_AREA, analyze, eigenfilters, filters_low_energy
from filterbands.models import load_model

reference = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "reference.py")))

KEYS = {
    "name",
    "shape",
    "filters",
    "dead",
    "low_share",
    "low_share_chance",
    "low_energy",
    "mean_low_energy",
    "centroid",
    "filters_low_energy",
    "response_low_energy",
}
SPECTRAL = (
    "low_share",
    "low_share_chance",
    "low_energy",
    "mean_low_energy",
    "centroid",
    "filters_low_energy",
)


def white(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def convolution(*arguments: int, seed: int = 0, **options: object) -> nn.Conv2d:
    layer = nn.Conv2d(*arguments, **options)
    layer.weight.data = white(*layer.weight.shape, seed=seed)
    return layer


LAYERS = {
    "plain": convolution(3, 8, 3),
    "strided 7x7": convolution(3, 6, 7, stride=2),
    "grouped": convolution(6, 8, 3, groups=2),
    "depthwise, dilated": convolution(5, 5, 3, groups=5, dilation=2),
    "even and not square": convolution(2, 4, (2, 5), stride=(2, 1)),
    "row": convolution(2, 4, (1, 3)),
    "patch embedding": convolution(3, 4, 8, stride=8),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_every_two_dimensional_convolution_is_measured_as_its_spectrum_says(kind):
    layer = LAYERS[kind]
    spectrum = analyze(layer)["weight"]
    kernels = layer.weight.detach().double().numpy()
    shares = [reference.low_energy(kernel, EQUAL_AREA, layer.dilation) for kernel in kernels]
    expected = torch.tensor(shares, dtype=torch.float64)
    assert_close(spectrum.filters_low_energy, expected, atol=1e-3, rtol=0)
    assert spectrum.low_share == sum(share >= 0.5 for share in shares) / len(shares)
    assert spectrum.mean_low_energy == pytest.approx(float(expected.mean()), abs=1e-3)
    energies = (layer.weight.detach() ** 2).sum(dim=(1, 2, 3)).double()
    assert spectrum.low_energy == pytest.approx(float((expected * energies).sum() / energies.sum()), abs=1e-3)
    centroids = [reference.centroid(kernel, layer.dilation) for kernel in kernels]
    assert spectrum.centroid == pytest.approx(sum(centroids) / len(centroids), abs=1e-4)
    aliased = [reference.aliased_energy(kernel, layer.stride, layer.dilation) for kernel in kernels]
    assert spectrum.aliased_energy == pytest.approx(sum(aliased) / len(aliased), abs=1e-3)
    low, high = spectrum.low_share_chance
    assert 0 <= low <= high <= 1


sides = st.integers(1, 5)
steps = st.integers(1, 3)
pairs = st.tuples(steps, steps)


@given(sides, sides, pairs, pairs, st.integers(1, 3), st.integers(0, 2**31))
@settings(max_examples=12)
def test_random_kernels_of_any_geometry_agree_with_the_dtft_on_a_fine_grid(
    kh, kw, stride, dilation, groups, seed
):
    if kh * kw == 1:
        return
    options = {"stride": stride, "dilation": dilation}
    layer = convolution(2 * groups, groups, (kh, kw), groups=groups, seed=seed, **options)
    spectrum = analyze(layer)["weight"]
    kernels = layer.weight.detach().double().numpy()[0]
    energy = reference.low_energy(kernels, EQUAL_AREA, dilation)
    assert float(spectrum.filters_low_energy[0]) == pytest.approx(energy, abs=1e-3)
    centroid = reference.centroid(kernels, dilation)
    assert float(spectrum.filters_centroid[0]) == pytest.approx(centroid, abs=1e-4)
    # Parseval: the mean of the spectrum is the energy of the taps.
    assert reference.power(kernels, dilation, 64)[2].mean() == pytest.approx((kernels**2).sum())
    one = analyze(_with(layer.weight[:1].detach(), **options))["weight"]
    # The square of an odd stride does not end on a cell of the grid.
    tolerance = 1e-3 if 3 not in stride else 5e-3
    expected = reference.aliased_energy(kernels, stride, dilation)
    assert one.aliased_energy == pytest.approx(expected, abs=tolerance)


def test_the_curves_are_those_of_the_spectrum():
    layer = LAYERS["depthwise, dilated"]
    spectrum = analyze(layer)["weight"]
    kernels = layer.weight.detach().double().numpy()
    for position in (9, 24, 49):
        radius = float(spectrum.radii[position])
        shares = [reference.low_energy(kernel, radius, layer.dilation) for kernel in kernels]
        powers = [reference.ring_power(kernel, radius, layer.dilation) for kernel in kernels]
        assert float(spectrum.curve[position]) == pytest.approx(sum(shares) / len(shares), abs=1e-3)
        assert float(spectrum.profile[position]) == pytest.approx(sum(powers) / len(powers), abs=1e-6)


def test_radii_run_up_to_nyquist_and_the_curve_rises():
    spectrum = analyze(LAYERS["plain"])["weight"]
    assert float(spectrum.radii[0]) > 0
    assert float(spectrum.radii[-1]) == 0.5
    assert bool((spectrum.radii.diff() > 0).all())
    assert bool((spectrum.curve.diff() >= 0).all())


@pytest.mark.parametrize(("channels", "spread"), [(3, 0.09), (64, 0.02)])
def test_white_layers_are_half_low_with_the_published_spread(channels, spread):
    layer = analyze({"conv.weight": white(4000, channels, 3, 3)})["conv"]
    assert layer.mean_low_energy == pytest.approx(0.5, abs=0.005)
    assert float(layer.filters_low_energy.std()) == pytest.approx(spread, abs=0.005)
    assert layer.centroid == pytest.approx(0.3826, abs=0.002)
    assert layer.low_share_chance[0] <= layer.low_share <= layer.low_share_chance[1]


def test_figures_do_not_depend_on_the_scale_of_the_layer():
    weight = white(6, 3, 3, 3).double()
    plain, tiny = (analyze({"a.weight": weight * scale})["a"].to_json() for scale in (1.0, 1e-200))
    for key in SPECTRAL:
        assert tiny[key] == pytest.approx(plain[key])


def test_dead_filters_are_counted_and_left_out_of_shares_and_means():
    weight = white(6, 3, 3, 3)
    weight[4] = 1.0
    weight[4:] *= 1e-3
    weight[5] = 0.0
    layer = analyze({"conv1.weight": weight})["conv1"]
    alive = analyze({"conv1.weight": weight[:4]})["conv1"]
    assert layer.dead == 2
    assert layer.live.tolist() == [True] * 4 + [False] * 2
    for key in ("low_share", "low_share_chance", "mean_low_energy", "centroid"):
        assert getattr(layer, key) == pytest.approx(getattr(alive, key))
    assert_close(layer.curve, alive.curve)
    assert float(layer.filters_low_energy[4]) == pytest.approx(0.895, abs=6e-4)
    assert float(layer.filters_low_energy[5]) == 0.5


def test_a_layer_of_zeros_is_dead_and_has_no_figures():
    layer = analyze({"conv1.weight": torch.zeros(4, 3, 3, 3)})["conv1"]
    assert layer.dead == 4
    assert "dead" in layer.note
    document = layer.to_json()
    assert all(document[key] is None for key in SPECTRAL if key != "filters_low_energy")
    assert document["filters_low_energy"] == [0.5] * 4
    json.dumps(document, allow_nan=False)


def test_a_delta_lies_on_the_line_and_counts_as_low():
    weight = torch.zeros(3, 2, 3, 3)
    weight[:, 0, 1, 1] = torch.tensor([1.0, 0.3, 0.7])
    for cutoff in (EQUAL_AREA, 0.25, 0.37):
        assert analyze({"a.weight": weight}, cutoff=cutoff)["a"].low_share == 1.0


def test_layers_without_a_spectrum_are_listed_by_name_without_figures():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 1, 3, 3))

    network = nn.ModuleDict(
        {
            "pointwise": nn.Conv2d(4, 8, 1),
            "own": Own(),
            "norm": nn.LayerNorm((3, 4, 4)),
            "head": nn.Linear(3, 3),
            "moment": nn.Conv1d(4, 2, 1),
        }
    )
    spectrum = analyze(network)
    assert [layer.name for layer in spectrum] == ["pointwise", "own", "moment"]
    for layer, kind in zip(spectrum, ("1x1", "Own", "1x1"), strict=True):
        assert kind in layer.note
        assert all(layer.to_json()[key] is None for key in SPECTRAL)
        assert layer.dead == 0
        assert layer.curve is None
    assert all(layer.name in str(spectrum) for layer in spectrum)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("kind", "sides"),
    [("ConvTranspose1d", (4,)), ("ConvTranspose2d", (3, 4)), ("ConvTranspose3d", (2, 3, 3))],
)
def test_a_transposed_convolution_is_measured_output_by_output(kind, sides, groups):
    layer = getattr(nn, kind)(4, 6, sides, stride=2, groups=groups)
    spectrum = analyze(layer)["weight"]
    assert spectrum.filters == 6
    assert spectrum.shape == tuple(layer.weight.shape)
    assert "frequencies of its output" in spectrum.note
    # What comes out of one impulse in one input channel is that channel's kernel of every output.
    outputs = []
    with torch.no_grad():
        for channel in range(4):
            impulse = torch.zeros(1, 4, *[1] * len(sides))
            impulse[0, channel] = 1
            outputs.append(layer(impulse)[0] - layer(torch.zeros_like(impulse))[0])
    seen = torch.stack(outputs, dim=1).double()
    assert_close(spectrum.filters_low_energy, filters_low_energy(seen), atol=1e-6, rtol=0)
    assert 0 < spectrum.aliased_energy < 1


def test_lines_and_volumes_are_measured_at_their_own_half():
    network = nn.ModuleDict({"line": nn.Conv1d(3, 5, 3, stride=2), "volume": nn.Conv3d(3, 2, 3, dilation=2)})
    line_, volume = analyze(network)
    assert (line_.cutoff, round(volume.cutoff, 5)) == (0.25, 0.49237)
    for layer, module in ((line_, network["line"]), (volume, network["volume"])):
        expected = filters_low_energy(module.weight.detach().double(), dilation=module.dilation)
        assert_close(layer.filters_low_energy, expected)
        assert 0 <= layer.low_share_chance[0] <= layer.low_share_chance[1] <= 1
        assert layer.horizontal_energy is None
    assert analyze(network, cutoff=0.3)["line"].cutoff == 0.3
    by_tensors = analyze({"line.weight": network["line"].weight})["line"]
    assert by_tensors.low_energy == pytest.approx(line_.low_energy)
    assert "one-dimensional" in by_tensors.note


def test_foreign_names_and_layouts_are_read():
    weight = white(8, 3, 5, 3)
    depthwise = white(4, 1, 3, 3, seed=1)
    spectrum = analyze(
        {
            "conv1.weight": weight,
            "conv1_w": weight,
            "stem/kernel:0": weight.permute(2, 3, 1, 0),
            "mixer.depthwise_kernel": depthwise.reshape(2, 2, 3, 3).permute(2, 3, 0, 1),
            "module.last.weight": weight,
            "_orig_mod.fast.weight": weight,
            "position": white(1, 3, 5, 3),
        }
    )
    assert [layer.name for layer in spectrum] == ["conv1", "stem", "mixer", "last", "fast"]
    assert all(layer.low_energy == spectrum["conv1"].low_energy for layer in spectrum if layer.filters == 8)
    assert_close(spectrum["mixer"].filters_low_energy, filters_low_energy(depthwise.double()))
    assert "Keras" in spectrum["stem"].note


def test_a_forward_of_its_own_is_said():
    class Standardised(nn.Conv2d):
        def forward(self, images):
            return super().forward(images)

    assert "Standardised" in analyze(Standardised(3, 4, 3))["weight"].note


def test_a_parametrised_convolution_is_measured_by_the_weight_it_uses():
    layer = nn.utils.parametrizations.weight_norm(convolution(3, 4, 3))
    spectrum = analyze(layer)["weight"]
    assert_close(spectrum.filters_low_energy, filters_low_energy(layer.weight.detach().double()))
    assert spectrum.note == ""
    listed = analyze(layer.state_dict())["weight"]
    assert listed.shape == (4, 3, 3, 3)
    assert "bake" in listed.note
    assert listed.low_energy is None


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int8, torch.int64, torch.bool])
def test_other_modules_whose_weights_are_no_real_numbers_are_listed_and_not_measured(dtype):
    other = nn.Module()
    weight = torch.ones(4, 4, 3, 3).to(dtype)
    weight[1] = 0
    other.weight = nn.Parameter(weight, requires_grad=False)
    spectrum = analyze(nn.Sequential(convolution(3, 4, 3), other))
    assert spectrum["0"].low_energy is not None
    assert spectrum["1"].low_energy is None
    assert spectrum["1"].note == "Module: not measured"
    assert (spectrum["1"].filters, spectrum["1"].dead) == (4, 1)


def test_a_network_and_its_tensors_agree_but_for_what_tensors_do_not_know():
    network = nn.Sequential(convolution(3, 4, 5, stride=2), nn.ReLU(), convolution(4, 4, 3))
    by_network, by_tensors = analyze(network), analyze(network.state_dict())
    for known, unknown in zip(by_network, by_tensors, strict=True):
        assert known.name == unknown.name
        assert known.low_energy == unknown.low_energy
        assert unknown.stride is None
        assert unknown.aliased_energy is None
        assert "stride unknown" in unknown.note
    assert by_network["0"].aliased_energy > 0.5
    assert by_network["2"].aliased_energy == 0.0


def test_the_network_is_left_as_it_is():
    network = load_model(arch="fastnet")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    analyze(network, fold_batch_norm=True)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    for name, tensor in network.state_dict().items():
        assert_close(tensor, before[name], rtol=0, atol=0)


def test_folding_multiplies_filters_by_the_scale_of_the_batch_norm():
    network = nn.Sequential(convolution(3, 4, 3, bias=False), nn.BatchNorm2d(4), convolution(4, 4, 3))
    network[1].running_var.copy_(torch.tensor([0.5, 1.0, 2.0, 4.0]))
    network[1].weight.data = torch.tensor([1.0, -2.0, 0.5, 1e-4])
    network.eval()
    images = white(2, 3, 9, 9)
    origin = network[:2](torch.zeros_like(images))
    with torch.no_grad():
        folded = convolution(3, 4, 3, bias=False)
        scale = network[1].weight / (network[1].running_var + network[1].eps).sqrt()
        folded.weight.data = network[0].weight * scale[:, None, None, None]
        assert_close(folded(images), network[:2](images) - origin, atol=1e-5, rtol=1e-5)
    layer, plain = analyze(network, fold_batch_norm=True)["0"], analyze(network)["0"]
    assert layer.batch_norm == "1"
    assert plain.batch_norm is None
    assert layer.low_energy == pytest.approx(analyze(folded)["weight"].low_energy)
    assert layer.dead == 1
    assert_close(layer.filters_low_energy, plain.filters_low_energy)
    assert "no batch norm" in analyze(network, fold_batch_norm=True)["2"].note


def test_a_batch_norm_without_statistics_is_not_folded_and_this_is_said():
    network = nn.Sequential(convolution(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    layer = analyze(network, fold_batch_norm=True)["0"]
    assert layer.batch_norm is None
    assert "running variance" in layer.note


def test_json_holds_the_keys_that_others_rely_on():
    document = analyze(nn.Sequential(LAYERS["plain"], nn.Conv2d(8, 2, 1)), cutoff=0.3).to_json()
    assert document["cutoff"] == 0.3
    assert all(set(layer) >= KEYS for layer in document["layers"])
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    layer = document["layers"][0]
    assert layer["shape"] == [8, 3, 3, 3]
    assert len(layer["filters_low_energy"]) == layer["filters"] == 8
    assert len(layer["low_share_chance"]) == 2
    assert layer["response_low_energy"] is None


def test_the_table_has_a_line_a_layer_and_aligned_columns():
    network = nn.ModuleDict({"conv1": LAYERS["plain"], "a_longer_name": LAYERS["strided 7x7"]})
    heading, columns, *rows = str(analyze(network)).splitlines()[:4]
    assert "0.3989" in heading
    assert [row.split()[0] for row in rows] == ["conv1", "a_longer_name"]
    for figure in ("low share", "low energy", "centroid", "leak at 0"):
        end = columns.index(figure) + len(figure)
        assert all(row[end - 5 : end].strip().replace(".", "").isdigit() for row in rows)
    assert "within 0.5" in str(analyze(network)["conv1"])


def test_html_and_frames_say_the_same_and_names_are_text():
    spectrum = analyze(nn.ModuleDict({"<script>": LAYERS["plain"], "b": nn.Conv2d(2, 2, 1)}))
    page = spectrum._repr_html_()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "<table>" in spectrum["b"]._repr_html_()
    pytest.importorskip("pandas")
    frame = spectrum.to_frame()
    assert list(frame["layer"]) == ["<script>", "b"]
    assert frame["low_energy"][0] == spectrum["<script>"].low_energy
    assert len(spectrum["<script>"].to_frame()) == 8
    assert len(spectrum["b"].to_frame()) == 0


def test_the_leak_at_zero_is_the_power_of_the_sums():
    weight = torch.stack([torch.ones(2, 3, 3), torch.ones(2, 3, 3) - 9 * torch.eye(9)[4].reshape(3, 3)])
    weight = torch.cat([weight, white(1, 2, 3, 3)])
    layer = analyze({"a.weight": weight})["a"]
    expected = weight.sum(dim=(2, 3)).square().sum(dim=1) / (9 * weight.square().sum(dim=(1, 2, 3)))
    assert_close(layer.filters_zero_leak, expected.double(), atol=1e-6, rtol=0)
    assert float(layer.filters_zero_leak[0]) == pytest.approx(1.0)
    assert float(layer.filters_zero_leak[1]) == pytest.approx(0.0, abs=1e-12)


def test_brightness_and_colour_are_told_apart():
    smooth, fine = torch.ones(3, 3), torch.tensor([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]])
    grey, red_green = torch.tensor([1.0, 1, 1]), torch.tensor([1.0, -1, 0])
    weight = torch.stack([grey[:, None, None] * smooth, red_green[:, None, None] * fine])
    colour = analyze(nn.ModuleDict({"a": _with(weight)}))["a"].colour
    assert colour.achromatic_energy == pytest.approx(0.5)
    assert colour.achromatic_low_energy == pytest.approx(0.895, abs=6e-4)
    assert colour.opponent_low_energy == pytest.approx(0.052, abs=6e-4)
    assert analyze(_with(weight[:1]))["weight"].colour.opponent_low_energy is None
    assert analyze(nn.Conv2d(4, 2, 3))["weight"].colour is None
    white_colour = analyze({"a.weight": white(4000, 3, 3, 3)})["a"].colour
    assert white_colour.achromatic_energy == pytest.approx(1 / 3, abs=5e-3)


def _with(weight, **options):
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], tuple(weight.shape[2:]), **options)
    layer.weight.data = weight
    return layer


def test_readings_by_three_cutoffs_stand_side_by_side_and_disagreement_is_said():
    layer = analyze({"a.weight": white(64, 3, 3, 3)})["a"]
    sensitivity = layer.sensitivity
    assert [round(reading.cutoff, 4) for reading in sensitivity.readings] == [0.2821, 0.3989, 0.4886]
    assert [reading.line for reading in sensitivity.readings] == pytest.approx([0.25, 0.5, 0.75])
    middle = sensitivity.readings[1]
    assert (middle.low_share, middle.low_energy) == pytest.approx((layer.low_share, layer.low_energy))
    for reading in sensitivity.readings:
        again = analyze({"a.weight": white(64, 3, 3, 3)}, cutoff=reading.cutoff)["a"]
        assert again.mean_low_energy == pytest.approx(reading.mean_low_energy)
        assert again.low_share == reading.low_share
    # Half of the filters smooth, half of them just beyond the default cutoff: low by the mean at one cutoff,
    # high by it at another.
    _, vectors = eigenfilters(3, 3, cutoff=0.2)
    mixed = torch.cat([vectors[:1].expand(10, 9), vectors[3:4].expand(10, 9)]).reshape(20, 1, 3, 3)
    split = analyze({"a.weight": mixed})["a"].sensitivity
    assert split.depends
    assert "depends on the definition" in split.sentence
    box = analyze({"a.weight": torch.ones(40, 3, 3, 3)})["a"].sensitivity
    assert (box.depends, box.sentence) == (False, "low by every definition")
    assert "low by every definition" in str(analyze({"a.weight": torch.ones(40, 3, 3, 3)})["a"])


def test_the_rank_correlation_is_spearmans():
    from scipy.stats import spearmanr

    weight = white(30, 2, 3, 3).double()
    layer = analyze({"a.weight": weight})["a"]
    columns = [filters_low_energy(weight, reading.cutoff) for reading in layer.sensitivity.readings]
    columns.append(-layer.filters_centroid)
    expected = spearmanr(torch.stack(columns, dim=1).numpy()).statistic
    assert_close(torch.tensor(layer.sensitivity.rank_correlation), torch.tensor(expected).float())
    assert analyze({"a.weight": weight[:2]})["a"].sensitivity.rank_correlation is None


def test_the_network_counts_every_live_filter_of_a_layer_with_a_spectrum_once():
    spectrum = analyze(nn.Sequential(convolution(3, 8, 3), convolution(8, 24, 5), nn.Conv2d(24, 9, 1)))
    first, second, _ = spectrum
    assert spectrum.mean_low_energy == pytest.approx((first.mean_low_energy + 3 * second.mean_low_energy) / 4)
    assert spectrum.low_share == pytest.approx((first.low_share + 3 * second.low_share) / 4)
    assert analyze(nn.Conv2d(3, 2, 1)).mean_low_energy is None


def test_layers_are_found_by_name_and_in_order():
    spectrum = analyze(nn.Sequential(LAYERS["plain"], nn.ReLU(), LAYERS["row"]))
    assert [layer.name for layer in spectrum] == ["0", "2"]
    assert len(spectrum) == 2
    assert "2" in spectrum
    assert "1" not in spectrum
    with pytest.raises(ValueError, match=r"no convolution 'nope'; there are 0, 2"):
        spectrum["nope"]


def test_a_file_is_read_as_tensors_or_as_the_network_that_it_names(tmp_path):
    network = load_model(arch="cifar_resnet20")
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, tmp_path / "plain.safetensors")
    save_file(weights, tmp_path / "named.safetensors", metadata={"arch": "cifar_resnet20"})
    plain = analyze(tmp_path / "plain.safetensors")
    named = analyze(str(tmp_path / "named.safetensors"), fold_batch_norm=True)
    assert plain["conv1"].stride is None
    assert named["conv1"].stride == (1, 1)
    assert named["layer2.0.conv1"].aliased_energy > 0
    assert named["conv1"].batch_norm == "bn1"
    assert plain["conv1"].mean_low_energy == pytest.approx(named["conv1"].mean_low_energy, rel=1e-12)
    with pytest.raises(ValueError, match="needs the network"):
        analyze(tmp_path / "plain.safetensors", fold_batch_norm=True)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.full((2, 2, 3, 3), math.nan), r"layer conv1 .* 36 .* NaN"),
        (torch.full((2, 2, 3, 3), math.inf), r"layer conv1 .* infinite"),
        (torch.zeros(2, 2, 3, 3, dtype=torch.int8), r"layer conv1 .* torch\.int8"),
        (torch.zeros(2, 2, 3, 3, dtype=torch.complex64), r"layer conv1 .*complex64"),
        (torch.zeros(0, 2, 3, 3), r"layer conv1 .* no weights"),
        (torch.zeros(2, 2, 3, 3, device="meta"), r"layer conv1 .* meta"),
    ],
)
def test_weights_that_cannot_be_measured_are_refused_by_name(weight, message):
    with pytest.raises(ValueError, match=message) as caught:
        analyze({"conv1.weight": weight})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(2, 2), "no convolution"),
        ({}, "no convolution"),
        ({"linear.weight": torch.ones(3, 4)}, "no convolution"),
        (nn.LazyConv2d(3, 3), "not initialized"),
    ],
)
def test_models_without_convolutions_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        analyze(model)


@pytest.mark.parametrize("cutoff", [0.0, -0.1, 0.51, math.nan])
def test_cutoffs_out_of_range_are_refused(cutoff):
    with pytest.raises(ValueError, match="cutoff"):
        analyze(LAYERS["plain"], cutoff=cutoff)


def test_a_missing_file_is_said():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt"):
        analyze("nowhere.pt")


@pytest.mark.slow
def test_a_network_of_the_size_of_resnet50_takes_little_more_memory_than_its_weights():
    script = Path(__file__).parents[2] / "benchmarks" / "analyze.py"
    command = [sys.executable, str(script), "speed", "--here"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["convolutions"] == 53
    assert round(found["weights"] / 1e6, 1) == 23.5
    # Weights of 94 MB; `benchmarks/analyze.py` has the time.
    assert found["megabytes"] - found["megabytes_before"] < 300


def test_standard_and_robust_networks_do_not_separate_by_their_first_layer(shared):
    energies = {}
    for name in (
        "marabou_cifar10_cifar_marabou_medium.pth",
        "sdp_cifar_cnn_a_mix.model",
        "eran_cifar_conv_small_pgd.pth",
    ):
        layer = analyze(shared / "checkpoints" / "verified" / name).spatial[0]
        assert layer.low_share > layer.low_share_chance[1]
        energies[name[:4]] = layer.low_energy
    standard = analyze(shared / "checkpoints/akamaster/resnet20.safetensors")["conv1"].low_energy
    assert [round(value, 2) for value in energies.values()] == [0.68, 0.75, 0.96]
    # One of the robust ones lies between the two standard ones but for 0.02.
    assert energies["mara"] < standard < energies["sdp_"] < standard + 0.03


def test_the_public_resnet20_has_its_known_first_layer(shared):
    layer = analyze(shared / "checkpoints/akamaster/resnet20.safetensors")["conv1"]
    assert layer.low_energy == pytest.approx(0.733, abs=6e-4)
    assert layer.dead == 2
    assert layer.low_share == pytest.approx(12 / 14)


def test_low_energy_falls_along_the_training_of_cifar10_full(shared):
    snapshots = [
        analyze(shared / f"checkpoints/caffe/cifar10_full_iter_{step}.safetensors")["conv1"].low_energy
        for step in (10000, 20000, 30000, 40000, 50000, 60000)
    ]
    last = analyze(shared / "checkpoints/caffe/cifar10_full_iter_70000.safetensors")["conv1"].low_energy
    assert snapshots == sorted(snapshots, reverse=True)
    assert snapshots[0] == pytest.approx(0.824, abs=6e-4)
    assert last == pytest.approx(0.725, abs=6e-4)
