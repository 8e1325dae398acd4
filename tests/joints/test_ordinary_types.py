"""Numbers and containers of types that no annotation names: taken if they mean the same, else one line."""

import subprocess
import sys

# In a process of its own: the tests' own checks of types would refuse these first.
TRIED = """
import tempfile
import numpy as np
import torch
from torch import nn
from filterbands import SpectralNoise, load_data, load_model, recalibrate
from filterbands.evaluation import EvaluateConfig
from filterbands.filters import filters_low_energy
from filterbands.probes import ProbeConfig, corruption_spectra, pass_curves

data = load_data("planted", limit=4)
model = load_model(arch="fastnet")
few = data.subset(torch.arange(2))
spectra = lambda severities: corruption_spectra(few, kinds=["fog"], severities=severities, seed=np.int64(1))
calls = [
    lambda: type(ProbeConfig(seed=np.int64(3)).seed).__name__,
    lambda: ProbeConfig(batch_size=2.5),
    lambda: len(spectra([np.int64(3)]).spectra),
    lambda: len(spectra(np.array([3, 4])).spectra),
    lambda: len(spectra({3}).spectra),
    lambda: spectra(3),
    lambda: spectra("3"),
    lambda: EvaluateConfig(severities=3),
    lambda: EvaluateConfig(batch_size=2.5),
    lambda: EvaluateConfig(workers=2000),
    lambda: EvaluateConfig(kinds=["none"]).kinds,
    lambda: load_model(arch="fastnet", mean=0.5),
    lambda: tuple(filters_low_energy(torch.rand(2, 3, 3, 3), dilation=[2, 2]).shape),
    lambda: filters_low_energy(torch.rand(2, 3, 3, 3), dilation=2),
    lambda: recalibrate(model, data),
]
for call in calls:
    try:
        print(call())
    except ValueError as error:
        print("refused:", error)
"""


def test_numbers_of_numpy_and_containers_of_any_kind() -> None:
    done = subprocess.run([sys.executable, "-c", TRIED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "int",
        "refused: batch_size needs a whole number, got 2.5",
        "1",
        "2",
        "1",
        "refused: severities needs numbers from 1 to 5, got 3",
        "refused: severities needs numbers from 1 to 5, got '3'",
        "refused: severities needs numbers from 1 to 5, got 3",
        "refused: batch_size needs a whole number, got 2.5",
        "refused: workers needs a number from 1 to 1024, got 2000",
        "()",
        "refused: mean needs 3 numbers that are finite (red, green, blue), or 1 for all channels, got 0.5",
        "(2,)",
        "refused: a kernel needs a dilation per axis, as (2, 2), got 2",
        "refused: recalibrate takes the images first and then the network, as torch's update_bn, got "
        "ImageSet for the network",
    ]
