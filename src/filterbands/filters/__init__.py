"""Filters: how low or high they are, measured exactly."""

from .bands import EQUAL_AREA, eigenfilters, energy_matrix, filters_low_energy, line, spans
from .depth import GradientSpectrum, effective_first_layer, gradient_power, input_gradient_spectrum
from .figures import Colour, LayerSpectrum, ModelSpectrum, Reading, Sensitivity
from .layers import live_filters
from .moments import PatchStatistics, PatchSums, image_batches, padded, patch_statistics, unfold
from .response import patch_covariances, response_low_energy
from .spectrum import analyze
from .trajectory import SpectrumLogger, Trajectory, rows_of, steps_of, trajectory

__all__ = [
    "EQUAL_AREA",
    "Colour",
    "GradientSpectrum",
    "LayerSpectrum",
    "ModelSpectrum",
    "PatchStatistics",
    "PatchSums",
    "Reading",
    "Sensitivity",
    "SpectrumLogger",
    "Trajectory",
    "analyze",
    "effective_first_layer",
    "eigenfilters",
    "energy_matrix",
    "filters_low_energy",
    "gradient_power",
    "image_batches",
    "input_gradient_spectrum",
    "line",
    "live_filters",
    "padded",
    "patch_covariances",
    "patch_statistics",
    "response_low_energy",
    "rows_of",
    "spans",
    "steps_of",
    "trajectory",
    "unfold",
]
